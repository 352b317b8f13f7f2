//! Texts with their case or their space folded.

/// What two texts have in common when case, space or both do not matter.
///
/// Case: each character in upper, then in lower case, by Unicode's tables and in no language; so `ß`
/// is `ss`, `ς` is `σ`, and the dotless `ı` is `i`. Space: runs of Unicode white space are one space,
/// and none at either end. Nothing is normalised: `é` in one character and in two stay apart.
pub(super) fn folded(text: &str, case: bool, space: bool) -> String {
    let text = match case {
        true => {
            let upper = text.chars().flat_map(char::to_uppercase);
            upper.flat_map(char::to_lowercase).collect()
        }
        false => text.to_owned(),
    };
    match space {
        true => text.split_whitespace().collect::<Vec<_>>().join(" "),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_folded_beyond_ascii() {
        let same = |one, other| folded(one, true, false) == folded(other, true, false);
        for (one, other) in [
            ("ACTIVE", "active"),
            ("STRASSE", "straße"),
            ("ΟΔΟΣ", "οδος"),
            ("ΟΔΟΣ", "οδοσ"),
            ("\u{212a}", "k"),
            ("ﬁn", "FIN"),
            ("I", "ı"),
        ] {
            assert!(same(one, other), "{one} {other}");
        }
        for (one, other) in [("é", "e\u{301}"), ("é", "e"), ("a", "а"), ("a b", "ab")] {
            assert!(!same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn runs_of_space_are_one_and_none_at_the_ends() {
        assert_eq!(folded("\t a\u{a0}\r\n b ", false, true), "a b");
        assert_eq!(folded(" ", false, true), "");
        assert_eq!(folded("a\u{200b}b", false, true), "a\u{200b}b");
        assert_eq!(folded(" A  B", true, true), "a b");
    }
}
