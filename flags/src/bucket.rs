//! Which share of the keys a key belongs to: pinned, so that it never moves by itself.
//!
//! 1. The bucket of a key depends on the entity's name and the routing key alone: not on the
//!    process, the machine, the release or the order of anything.
//! 2. There are [`Bucket::COUNT`] buckets, evenly filled.
//! 3. Entities are independent of each other: the same routing key falls elsewhere in another.
//! 4. The function is called `v1`. It never changes; another one would be another version, chosen
//!    by configuration, since changing it moves every key at once.
//!
//! Version `v1` is SipHash-2-4 with the key [`Bucket::V1_KEY`] over the bytes
//! `changeover/v1`, `0`, the entity's name, `0`, the routing key, reduced to the range by taking
//! the upper half of the product `hash × 10,000` (as a number of 128 bits). An entity's name holds
//! no zero byte, so two different pairs never give the same bytes.
//!
//! It is no secret and no defence: who can choose keys can choose buckets.

use std::fmt;
use std::hash::Hasher as _;

use siphasher::sip::SipHasher24;

use crate::Entity;

/// One of [`Bucket::COUNT`] equal shares of an entity's keys.
///
/// ```
/// use changeover_flags::{Bucket, Entity, Percent};
/// let bucket = Bucket::of(&Entity::new("listings")?, "42");
/// assert_eq!(bucket, Bucket::of(&Entity::new("listings")?, "42"));
/// assert!(Percent::HUNDRED.covers(bucket) && !Percent::ZERO.covers(bucket));
/// # Ok::<(), changeover_flags::BadEntity>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bucket(u16);

impl Bucket {
    /// How many buckets there are: one for each 1/10,000 of a [`Percent`](crate::Percent).
    pub const COUNT: u16 = 10_000;

    /// The SipHash key of version `v1`: fixed and public, so that anybody can compute a bucket.
    pub const V1_KEY: [u8; 16] = *b"changeover.v1.00";

    /// The bucket of a routing key: the text of a [`Key`](crate::Key), or what a list is routed
    /// by, such as the tenant.
    #[must_use]
    pub fn of(entity: &Entity, routing: &str) -> Bucket {
        let hash = hash([
            b"changeover/v1\0",
            entity.as_str().as_bytes(),
            b"\0",
            routing.as_bytes(),
        ]);
        // The product's upper half is below COUNT, and no bucket gets more than one hash in 2^50
        // more than another; `hash % COUNT` would do too, but slower.
        let reduced = (u128::from(hash) * u128::from(Self::COUNT)) >> 64;
        Bucket(reduced as u16)
    }

    /// The number of the bucket, `0..10_000`.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// The hash of `parts` in a row.
fn hash(parts: [&[u8]; 4]) -> u64 {
    let hasher = SipHasher24::new_with_key(&Bucket::V1_KEY);
    // Most are short, and hashed at once: piece by piece takes three times as long.
    let mut short = [0; 64];
    let (mut free, mut used) = (short.as_mut_slice(), 0);
    for part in parts {
        let Some((here, rest)) = free.split_at_mut_checked(part.len()) else {
            return hash_in_pieces(hasher, parts);
        };
        here.copy_from_slice(part);
        (free, used) = (rest, used + part.len());
    }
    hasher.hash(short.get(..used).unwrap_or_default())
}

fn hash_in_pieces(mut hasher: SipHasher24, parts: [&[u8]; 4]) -> u64 {
    for part in parts {
        hasher.write(part);
    }
    hasher.finish()
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::Percent;

    fn entity(name: &str) -> Entity {
        Entity::new(name).expect("valid")
    }

    #[test]
    fn at_once_and_in_pieces_a_text_has_one_hash() {
        for length in 0..100 {
            let text = "x".repeat(length);
            let parts = [b"a".as_slice(), b"bc", b"", text.as_bytes()];
            let hasher = SipHasher24::new_with_key(&Bucket::V1_KEY);
            assert_eq!(hash(parts), hash_in_pieces(hasher, parts), "{length}");
        }
    }

    /// Computed by another implementation of the function in the module's documentation. A
    /// change here moves the keys of every changeover under way: add a version instead.
    #[test]
    fn golden_vectors_of_v1() {
        let long = "x".repeat(1_000);
        let vectors = [
            ("listings", "", 9245),
            ("listings", "0", 1220),
            ("listings", "1", 389),
            ("listings", "42", 5369),
            ("listings", "-1", 2892),
            ("listings", "9223372036854775807", 4044),
            ("orders", "42", 1242),
            ("a", "42", 4162),
            ("listings", r"a\,b,7", 9170),
            ("listings", "tenant-7", 5157),
            ("listings", "550e8400-e29b-41d4-a716-446655440000", 3472),
            ("listings", "Z\u{fc}rich", 3197),
            ("listings", "Zu\u{308}rich", 6248),
            ("listings", "\u{6771}\u{4eac}", 73),
            ("listings", "\u{1f980}", 859),
            ("listings", " 42", 3610),
            ("listings", "a\0b", 6510),
            ("listings", long.as_str(), 5066),
        ];
        for (name, routing, bucket) in vectors {
            assert_eq!(
                Bucket::of(&entity(name), routing),
                Bucket(bucket),
                "{name} {routing:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn growing_a_percentage_only_adds_keys(routing in ".{0,40}", a in 0u16..=10_000, b in 0u16..=10_000) {
            let bucket = Bucket::of(&entity("listings"), &routing);
            let small = Percent::from_ten_thousandths(a.min(b)).expect("in range");
            let large = Percent::from_ten_thousandths(a.max(b)).expect("in range");
            prop_assert!(!small.covers(bucket) || large.covers(bucket));
            prop_assert!(Percent::HUNDRED.covers(bucket) && !Percent::ZERO.covers(bucket));
        }
    }

    #[test]
    fn a_percentage_covers_exactly_its_share_of_the_buckets() {
        for steps in [0, 1, 1_250, 9_999, 10_000] {
            let percent = Percent::from_ten_thousandths(steps).expect("in range");
            let covered = (0..Bucket::COUNT).filter(|n| percent.covers(Bucket(*n)));
            assert_eq!(covered.count(), usize::from(steps));
        }
    }

    /// Sequential keys, the least random that there are. The bounds are six standard deviations.
    #[test]
    fn keys_are_spread_evenly() {
        const KEYS: usize = 100_000;
        let mut tenths = BTreeMap::<u16, usize>::new();
        for key in 0..KEYS {
            let bucket = Bucket::of(&entity("listings"), &key.to_string());
            *tenths.entry(bucket.number() / 1_000).or_default() += 1;
        }
        assert_eq!(
            tenths.keys().copied().collect::<Vec<_>>(),
            (0..10).collect::<Vec<_>>()
        );
        for (tenth, count) in tenths {
            assert!(
                count.abs_diff(KEYS / 10) < 570,
                "{count} keys in tenth {tenth}"
            );
        }
    }

    #[test]
    fn entities_are_independent() {
        let ten = Percent::new(10.0).expect("valid");
        let covered = |name, key: &str| ten.covers(Bucket::of(&entity(name), key));
        let both = (0..10_000)
            .map(|key| key.to_string())
            .filter(|key| covered("listings", key) && covered("orders", key))
            .count();
        assert!(
            (40..160).contains(&both),
            "{both} of 10,000 keys in both, 100 expected"
        );
    }
}
