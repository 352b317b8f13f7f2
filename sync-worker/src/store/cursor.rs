//! [`Cursor`]: how far a backfill has come.

use changeover_flags::{Key, Version};

use crate::sum::Span;

/// How far a backfill has come, in all or in one of the parts that it was divided into. Kept on the
/// follower, committed with the data, or after it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cursor {
    /// Which part; 0 is the first one, and the only one of what was not divided.
    pub part: u32,
    /// The last key of the part; `None`: it has every key after its last page's, also future ones.
    pub upto: Option<Key>,
    /// The last key of the last page, before the first the last key of the part before, and `None`
    /// before the very first.
    pub last: Option<Key>,
    /// Rows (keys) passed so far.
    pub passed: u64,
    /// Whether the sweep reached the end.
    pub done: bool,
    /// The follower's base when the sweep began. A sweep that is older than the base has copied
    /// what has to be copied again.
    pub base: Version,
    /// Whether the sweep [loads](super::Follower::load). Until it is done, nothing else is copied.
    pub loading: bool,
}

impl Cursor {
    /// Whether this is one part of several.
    #[must_use]
    pub const fn is_part(&self) -> bool {
        self.part > 0 || self.upto.is_some()
    }

    /// The keys that are still to be passed.
    #[must_use]
    pub fn rest(&self) -> Span {
        Span {
            after: self.last.clone(),
            upto: self.upto.clone(),
        }
    }

    /// Parts in one: what all of them have passed, and done when each is. Its `last` is that of the only
    /// one, if there is only one.
    #[must_use]
    pub fn together(parts: &[Cursor]) -> Cursor {
        match parts {
            [] => Cursor::default(),
            [one] => one.clone(),
            [first, ..] => Cursor {
                part: 0,
                upto: None,
                last: None,
                passed: parts.iter().map(|part| part.passed).sum(),
                done: parts.iter().all(|part| part.done),
                base: first.base,
                loading: parts.iter().any(|part| part.loading),
            },
        }
    }
}
