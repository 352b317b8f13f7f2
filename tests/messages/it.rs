//! What the compiler says of repositories that cannot be layered, in words of the product.
#![allow(
    dead_code,
    missing_docs,
    reason = "what is layered is compiled, and not called"
)]

/// What can be layered.
#[path = "pass/layered.rs"]
mod layered;
#[path = "pass/repository.rs"]
mod repository;

#[test]
fn what_cannot_be_layered_says_what_to_write() {
    trybuild::TestCases::new().compile_fail("tests/messages/fail/*.rs");
}
