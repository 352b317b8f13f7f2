use thiserror::Error;

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
    #[error("renamed path {path:?} has a '**': name the levels, with '*' for the items of a list")]
    AnyDepthInRename { path: String },
    #[error("ignored path {path:?} names no field, so nothing would be compared: name one")]
    IgnoresEverything { path: String },
    #[error("tolerance of {path:?} {problem}")]
    Tolerance { path: String, problem: &'static str },
    #[error("allowed pair of {path:?} holds a {kind}: name the fields inside it one by one")]
    NotAScalar { path: String, kind: &'static str },
    #[error("reading compare rules: {problem}; a path with '.' or '*' in it stands in quotes")]
    Toml { problem: String },
}
