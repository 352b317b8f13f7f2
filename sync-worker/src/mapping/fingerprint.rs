//! What a mapping answers, in short: two mappings of one revision must not differ.

use std::fmt;
use std::hash::Hasher as _;

use siphasher::sip::SipHasher24;

/// A number that is another one whenever a mapping answers something else. Both sides keep it
/// beside the revision, so that a mapping that was changed without raising its revision is refused
/// before it copies anything.
///
/// It is `SipHash-2-4` under a fixed key, of 64 bits, and never changes between releases: that two
/// different mappings share one by chance is about as likely as guessing such a number.
///
/// A mapping written in TOML takes what it was read as, without the revision, comments and order
/// of fields. One written in Rust can take its own source:
///
/// ```
/// # mod listings { pub const SOURCE: &str = ""; } // stands for the file
/// use changeover_sync_worker::mapping::{Fingerprint, Shape};
/// # let include_str = listings::SOURCE;
/// let shape = Shape {
///     revision: 1,
///     fingerprint: Some(Fingerprint::of(include_str)), // include_str!("listings.rs")
///     ..Shape::default()
/// };
/// assert_ne!(shape.fingerprint, Some(Fingerprint::of("another image")));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(i64);

impl Fingerprint {
    const KEY: [u8; 16] = *b"changeover.map.1";

    /// The fingerprint of this text.
    #[must_use]
    pub fn of(text: &str) -> Fingerprint {
        let mut hasher = SipHasher24::new_with_key(&Self::KEY);
        hasher.write(text.as_bytes());
        Fingerprint(hasher.finish().cast_signed())
    }

    /// As the databases keep it.
    #[must_use]
    pub const fn number(self) -> i64 {
        self.0
    }

    /// What [`number`](Fingerprint::number) was read from.
    #[must_use]
    pub const fn from_number(number: i64) -> Fingerprint {
        Fingerprint(number)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
