//! [`Rules`]: what counts as equal although it is not the same.

use thiserror::Error;

use crate::path::{Pattern, Segment};

/// The rules of one comparison. Without any, every field must be the same on both sides.
///
/// A field is named by a path: names joined by `.`, `*` for any one name or list item, as in
/// `lines.*.price`; a name's own `.`, `*` or `\` is written with a `\` before it, the empty name `\e`.
///
/// 1. [`rename`](Rules::rename) moves legacy fields to where the new side has them, before anything is
///    compared. From then on there are only new names: in other rules, in diffs, in evidence.
/// 2. [`ignore`](Rules::ignore) leaves a field out, with all that it holds.
/// 3. A rule that cannot be used does nothing, so that its differences show, and
///    [`check`](Rules::check) says what is wrong with it. Check where rules are made.
///
/// ```
/// use changeover_shadow::{Rules, Value, diff};
/// let rules = Rules::new().rename("tenant_id", "provider_id").ignore("updated_at");
/// rules.check()?;
/// let legacy = Value::record([("tenant_id", 7), ("updated_at", 1)]);
/// let new = Value::record([("provider_id", 7), ("updated_at", 2)]);
/// assert!(diff(&legacy, &new, &rules).is_empty());
/// # Ok::<(), changeover_shadow::BadRule>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Deepest legacy path first: what moves out of a field that moves too has to leave before it.
    renames: Vec<Rename>,
    fields: Vec<(Pattern, Treatment)>,
    bad: Option<BadRule>,
}

/// Moves what is at `from` to `to`; the n-th `*` means the same on both sides.
#[derive(Debug, Clone)]
pub(crate) struct Rename {
    pub(crate) from: Pattern,
    pub(crate) to: Pattern,
}

/// What is done with a field instead of asking for the same value on both sides. The next kinds of
/// rule (tolerance, unordered lists, normalising) are variants here, each with a method of [`Rules`]
/// and an arm in `Walk::at` of `diff.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treatment {
    Ignore,
}

impl Rules {
    /// No rules: everything is compared as it is.
    #[must_use]
    pub fn new() -> Rules {
        Rules::default()
    }

    /// Leaves out the field at `path`, with all that it holds.
    #[must_use]
    pub fn ignore(mut self, path: &str) -> Rules {
        match Pattern::parse(path) {
            Ok(pattern) => self.fields.push((pattern, Treatment::Ignore)),
            Err(bad) => self.reject(bad),
        }
        self
    }

    /// Compares the legacy field at `legacy_path` with the new field at `new_path`.
    ///
    /// Both paths end in a field's name, and have equally many `*`. Records that the new path needs
    /// are made, and a record whose last field moved away is gone with it. Where there is something
    /// else at the new path already, nothing is overwritten: the field is reported as missing on the
    /// new side, under its legacy path.
    #[must_use]
    pub fn rename(mut self, legacy_path: &str, new_path: &str) -> Rules {
        match self.checked_rename(legacy_path, new_path) {
            Ok(rename) => {
                let depth = rename.from.steps().len();
                let at = self
                    .renames
                    .partition_point(|other| other.from.steps().len() >= depth);
                self.renames.insert(at, rename);
            }
            Err(bad) => self.reject(bad),
        }
        self
    }

    /// Says what is wrong with the first rule that cannot be used.
    ///
    /// # Errors
    ///
    /// [`BadRule`], naming the path and the remedy.
    pub fn check(&self) -> Result<(), BadRule> {
        self.bad.clone().map_or(Ok(()), Err)
    }

    pub(crate) fn renames(&self) -> &[Rename] {
        &self.renames
    }

    /// What to do with exactly the field at `path`.
    pub(crate) fn treatment(&self, path: &[Segment<'_>]) -> Option<Treatment> {
        let rule = self
            .fields
            .iter()
            .find(|(pattern, _)| pattern.matches(path));
        rule.map(|(_, treatment)| *treatment)
    }

    /// Whether the field at `path`, or one that holds it, is left out.
    pub(crate) fn ignores(&self, path: &[Segment<'_>]) -> bool {
        let mut rules = self.fields.iter();
        rules.any(|(pattern, rule)| *rule == Treatment::Ignore && pattern.matches_start_of(path))
    }

    fn checked_rename(&self, legacy_path: &str, new_path: &str) -> Result<Rename, BadRule> {
        let (from, to) = (Pattern::parse(legacy_path)?, Pattern::parse(new_path)?);
        for (pattern, path) in [(&from, legacy_path), (&to, new_path)] {
            if pattern.ends_in_wildcard() {
                return Err(BadRule::WildcardAtEnd {
                    path: path.to_owned(),
                });
            }
        }
        if from.wildcards() != to.wildcards() {
            let (legacy_path, new_path) = (legacy_path.to_owned(), new_path.to_owned());
            return Err(BadRule::WildcardsDiffer {
                legacy_path,
                new_path,
            });
        }
        if from == to {
            return Err(BadRule::RenamedToItself {
                path: legacy_path.to_owned(),
            });
        }
        if self.renames.iter().any(|other| other.from == from) {
            return Err(BadRule::RenamedTwice {
                path: legacy_path.to_owned(),
            });
        }
        if self.renames.iter().any(|other| other.to == to) {
            return Err(BadRule::TargetTwice {
                path: new_path.to_owned(),
            });
        }
        Ok(Rename { from, to })
    }

    fn reject(&mut self, bad: BadRule) {
        self.bad.get_or_insert(bad);
    }
}

/// A rule that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the message says it, and `path` is the path as it was given"
)]
pub enum BadRule {
    #[error("field path is empty: name a field, such as `price` or `lines.*.price`")]
    EmptyPath,
    #[error(
        "field path {path:?} has an empty segment: remove the extra '.', or write '\\e' for an empty name"
    )]
    EmptySegment { path: String },
    #[error(
        "field path {path:?} has a '\\' before something else than '\\', '.' or '*': write '\\\\' for a backslash"
    )]
    BadEscape { path: String },
    #[error(
        "field path {path:?} has a '*' inside a name: use '*' alone as a segment, or write '\\*'"
    )]
    PartialWildcard { path: String },
    #[error(
        "field path {path:?} is too deep: values are compared to a depth of {}",
        crate::MAX_DEPTH
    )]
    TooDeep { path: String },
    #[error("renamed path {path:?} ends in '*': end it in the name of a field")]
    WildcardAtEnd { path: String },
    #[error(
        "renamed paths {legacy_path:?} and {new_path:?} have different numbers of '*': use equally many"
    )]
    WildcardsDiffer {
        legacy_path: String,
        new_path: String,
    },
    #[error("path {path:?} is renamed to itself: remove the rule")]
    RenamedToItself { path: String },
    #[error("legacy path {path:?} is renamed twice: keep one of the rules")]
    RenamedTwice { path: String },
    #[error("two legacy paths are renamed to {path:?}: keep one of the rules")]
    TargetTwice { path: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> String {
        path.to_owned()
    }

    #[test]
    fn each_bad_rule_is_named() {
        let new = Rules::new;
        let deep = vec!["a"; crate::MAX_DEPTH + 1].join(".");
        let cases = [
            (new().ignore(""), BadRule::EmptyPath),
            (new().rename("a", ""), BadRule::EmptyPath),
            (
                new().ignore("a..b"),
                BadRule::EmptySegment { path: path("a..b") },
            ),
            (
                new().ignore("a."),
                BadRule::EmptySegment { path: path("a.") },
            ),
            (
                new().ignore(r"a\b"),
                BadRule::BadEscape { path: path(r"a\b") },
            ),
            (
                new().ignore(r"a\"),
                BadRule::BadEscape { path: path(r"a\") },
            ),
            (
                new().ignore("pri*"),
                BadRule::PartialWildcard { path: path("pri*") },
            ),
            (new().ignore(&deep), BadRule::TooDeep { path: deep.clone() }),
            (
                new().rename("a.*", "b.*"),
                BadRule::WildcardAtEnd { path: path("a.*") },
            ),
            (
                new().rename("a", "a"),
                BadRule::RenamedToItself { path: path("a") },
            ),
            (
                new().rename("a.*.b", "c"),
                BadRule::WildcardsDiffer {
                    legacy_path: path("a.*.b"),
                    new_path: path("c"),
                },
            ),
            (
                new().rename("a", "b").rename("a", "c"),
                BadRule::RenamedTwice { path: path("a") },
            ),
            (
                new().rename("a", "c").rename("b", "c"),
                BadRule::TargetTwice { path: path("c") },
            ),
        ];
        for (rules, expected) in cases {
            assert_eq!(rules.check(), Err(expected.clone()), "{expected}");
        }
    }

    #[test]
    fn the_first_bad_rule_is_reported_and_the_good_ones_stay() {
        let rules = Rules::new()
            .ignore("a")
            .ignore("")
            .ignore("b..c")
            .ignore("d");
        assert_eq!(rules.check(), Err(BadRule::EmptyPath));
        assert!(rules.ignores(&[Segment::Field("d"), Segment::Index(0)]));
        assert!(!rules.ignores(&[Segment::Field("b")]));
    }
}
