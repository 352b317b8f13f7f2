//! What cannot be layered is refused where it stands, with what to write instead.

#[test]
fn what_cannot_be_layered_says_what_to_write() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
