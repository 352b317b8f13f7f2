//! [`Reservoir`]: a fair sample of evidence per field, in bounded memory.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;

use crate::Evidence;
use crate::path::field_of;

/// A bounded sample of [`Evidence`], per field path.
///
/// 1. The items of a list are one field: `lines.0.price` and `lines.7.price` are both kept under
///    `lines.*.price`. The evidence itself keeps its own path.
/// 2. Of the evidence seen for a path, each piece is in the sample with the same probability, early or
///    late: Algorithm R, in J. S. Vitter, "Random Sampling with a Reservoir", ACM Transactions on
///    Mathematical Software 11(1), 1985 (there credited to A. Waterman). The first few alone would show
///    the first bad minute for ever.
/// 3. The number of paths is bounded too; evidence for a path that has no room is counted, not kept.
///
/// Calls take a lock for as long as it takes to place one piece.
///
/// ```
/// use changeover_shadow::{FieldDiff, Redaction, Reservoir};
/// let reservoir = Reservoir::seeded(2, 10, 42);
/// for item in 0..100 {
///     let path = format!("lines.{item}.price");
///     reservoir.offer(Redaction::new().field(&FieldDiff { path, legacy: None, new: Some(1.into()) }));
/// }
/// let samples = reservoir.samples();
/// assert_eq!(samples.fields.len(), 1);
/// assert_eq!(samples.fields[0].path, "lines.*.price");
/// assert_eq!((samples.fields[0].seen, samples.fields[0].kept.len()), (100, 2));
/// ```
pub struct Reservoir {
    per_path: usize,
    paths: usize,
    state: Mutex<State>,
}

struct State {
    rng: SmallRng,
    fields: BTreeMap<String, Field>,
    overflow: u64,
}

#[derive(Default)]
struct Field {
    seen: u64,
    kept: Vec<Evidence>,
}

/// What a [`Reservoir`] held at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Samples {
    /// Every field seen, by path.
    pub fields: Vec<FieldSample>,
    /// Evidence not kept because its path had no room.
    pub overflow: u64,
}

/// The sample of one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldSample {
    /// The path, with `*` for the number of a list's item.
    pub path: String,
    /// How many pieces of evidence were offered.
    pub seen: u64,
    /// The pieces kept, in no particular order.
    pub kept: Vec<Evidence>,
}

impl Reservoir {
    /// How many pieces are kept per path, unless somebody says otherwise.
    pub const PER_PATH: usize = 10;
    /// How many paths are kept.
    pub const PATHS: usize = 100;

    /// A reservoir of the usual size with a random seed.
    #[must_use]
    pub fn new() -> Reservoir {
        Reservoir::seeded(Self::PER_PATH, Self::PATHS, rand::random())
    }

    /// A reservoir of at most `per_path` pieces for each of at most `paths` paths. The same seed and
    /// the same evidence give the same sample.
    #[must_use]
    pub fn seeded(per_path: usize, paths: usize, seed: u64) -> Reservoir {
        let rng = SmallRng::seed_from_u64(seed);
        let state = State {
            rng,
            fields: BTreeMap::new(),
            overflow: 0,
        };
        Reservoir {
            per_path,
            paths,
            state: Mutex::new(state),
        }
    }

    /// Offers one piece of evidence, which is kept or not.
    pub fn offer(&self, evidence: Evidence) {
        let path = field_of(&evidence.path);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State {
            rng,
            fields,
            overflow,
        } = &mut *state;
        if fields.len() >= self.paths && !fields.contains_key(&path) {
            *overflow += 1;
            return;
        }
        let field = fields.entry(path).or_default();
        field.seen += 1;
        if field.kept.len() < self.per_path {
            field.kept.push(evidence);
            return;
        }
        // The n-th piece replaces one of the k kept with probability k/n.
        let place = usize::try_from(rng.random_range(0..field.seen)).ok();
        if let Some(place) = place.and_then(|place| field.kept.get_mut(place)) {
            *place = evidence;
        }
    }

    /// What is kept, as a copy.
    #[must_use]
    pub fn samples(&self) -> Samples {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let fields = state.fields.iter().map(|(path, field)| FieldSample {
            path: path.clone(),
            seen: field.seen,
            kept: field.kept.clone(),
        });
        Samples {
            fields: fields.collect(),
            overflow: state.overflow,
        }
    }
}

impl Default for Reservoir {
    fn default() -> Reservoir {
        Reservoir::new()
    }
}

impl fmt::Debug for Reservoir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservoir")
            .field("per_path", &self.per_path)
            .field("paths", &self.paths)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(path: &str, number: usize) -> Evidence {
        Evidence {
            key: None,
            path: path.to_owned(),
            legacy: number.to_string(),
            new: String::new(),
        }
    }

    #[test]
    fn early_and_late_evidence_is_kept_alike() {
        let (offered, kept, runs) = (40_usize, 4, 4_000_u64);
        let mut counts = vec![0_u32; offered];
        for seed in 0..runs {
            let reservoir = Reservoir::seeded(kept, 1, seed);
            for number in 0..offered {
                reservoir.offer(evidence("price", number));
            }
            for piece in &reservoir.samples().fields[0].kept {
                counts[piece.legacy.parse::<usize>().expect("a number")] += 1;
            }
        }
        // In each run a piece is kept with probability 4/40, whatever its place: a binomial count of
        // 4,000 draws, so 400 on average with a standard deviation of (4,000 · 0.1 · 0.9)^½ = 19. All 40
        // are within five of them but in 1 of 40,000 choices of seeds; these seeds are fixed.
        for (number, count) in counts.iter().enumerate() {
            assert!(
                (305..=495).contains(count),
                "piece {number} was kept {count} times: {counts:?}"
            );
        }
    }

    #[test]
    fn memory_is_bounded_and_losses_are_counted() {
        let reservoir = Reservoir::seeded(2, 3, 1);
        for number in 0..50 {
            for path in ["a", "b", "c", "d", "e.0", "e.1"] {
                reservoir.offer(evidence(path, number));
            }
        }
        let samples = reservoir.samples();
        assert_eq!((samples.fields.len(), samples.overflow), (3, 150));
        for field in &samples.fields {
            assert_eq!((field.seen, field.kept.len()), (50, 2));
        }
        let none = Reservoir::seeded(0, 1, 1);
        none.offer(evidence("a", 1));
        assert_eq!(
            (
                none.samples().fields[0].seen,
                none.samples().fields[0].kept.len()
            ),
            (1, 0)
        );
    }

    #[test]
    fn the_items_of_a_list_are_one_field() {
        let reservoir = Reservoir::seeded(9, 9, 1);
        for path in [
            "lines.0.price",
            "lines.17.price",
            "line1.price",
            r"a\.0",
            "",
            "broken\\",
        ] {
            reservoir.offer(evidence(path, 1));
        }
        let samples = reservoir.samples();
        let seen: Vec<_> = samples
            .fields
            .iter()
            .map(|field| (field.path.as_str(), field.seen))
            .collect();
        let expected = [
            ("", 1),
            (r"a\.0", 1),
            ("broken\\", 1),
            ("line1.price", 1),
            ("lines.*.price", 2),
        ];
        assert_eq!(seen, expected);
        assert_eq!(samples.fields[4].kept[1].path, "lines.17.price");
    }

    #[test]
    fn the_same_seed_gives_the_same_sample() {
        let sample = |seed| {
            let reservoir = Reservoir::seeded(3, 1, seed);
            (0..100).for_each(|number| reservoir.offer(evidence("", number)));
            reservoir.samples()
        };
        assert_eq!(sample(7), sample(7));
        assert_ne!(sample(7), sample(8));
    }
}
