//! [`NoiseFloor`]: fields in which one side differs from itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::path::field_of;
use crate::{FieldDiff, Verdict};

/// What control reads found: the authority, asked twice for a row that was not written meanwhile.
///
/// 1. A field is *noisy* while it differed in at least one of a hundred control reads
///    ([`NoiseFloor::ONE_IN`]). The items of a list are one field.
/// 2. [`settled`](NoiseFloor::settled) takes the noisy fields out of a confirmed difference. If no other
///    field is left it is [`Verdict::Noise`], which confirms nothing and matches nothing.
/// 3. A difference as a whole, without a field, is never noise; nor is a row that one side lacks.
/// 4. At most [`NoiseFloor::FIELDS`] fields are kept; what has no room is counted, and is not noisy.
///
/// The price: what else is wrong with a noisy field goes unseen. The report names them, for a rule to
/// say what is meant.
pub struct NoiseFloor(Mutex<State>);

#[derive(Default)]
struct State {
    controls: u64,
    differed: BTreeMap<String, u64>,
    overflow: u64,
}

/// What a [`NoiseFloor`] held at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Noise {
    /// Control reads that told something.
    pub controls: u64,
    /// Fields that ever differed, by path.
    pub fields: Vec<NoisyField>,
    /// Fields that had no room.
    pub overflow: u64,
}

/// One field of a [`Noise`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NoisyField {
    /// The path, with `*` for the number of a list's item.
    pub path: String,
    /// In how many control reads it differed.
    pub differed: u64,
    /// Whether it is noisy now.
    pub noisy: bool,
}

impl NoiseFloor {
    /// A field that differs in one of so many control reads is noisy.
    pub const ONE_IN: u64 = 100;
    /// Fields kept.
    pub const FIELDS: usize = 256;

    /// No control read yet: nothing is noisy.
    #[must_use]
    pub fn new() -> NoiseFloor {
        NoiseFloor(Mutex::default())
    }

    /// Counts one control read, and the fields in which it differed.
    pub fn observe(&self, differed: &[FieldDiff]) {
        let fields: BTreeSet<String> = differed.iter().map(|field| field_of(&field.path)).collect();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.controls += 1;
        for path in fields {
            if state.differed.len() >= Self::FIELDS && !state.differed.contains_key(&path) {
                state.overflow += 1;
            } else {
                *state.differed.entry(path).or_default() += 1;
            }
        }
    }

    /// The verdict without what is noise.
    #[must_use]
    pub fn settled(&self, verdict: Verdict) -> Verdict {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = |field: &FieldDiff| !state.is_noisy(&field_of(&field.path));
        match verdict {
            Verdict::Mismatch(fields) => {
                let (fields, noise): (Vec<_>, Vec<_>) = fields.into_iter().partition(told);
                match fields.is_empty() {
                    true => Verdict::Noise(noise),
                    false => Verdict::Mismatch(fields),
                }
            }
            Verdict::Elements(mut found) => {
                let mut noise = Vec::new();
                for (_, fields) in &mut found.different {
                    noise.extend(fields.extract_if(.., |field| !told(field)));
                }
                found.different.retain(|(_, fields)| !fields.is_empty());
                match found.is_empty() {
                    true => Verdict::Noise(noise),
                    false => Verdict::Elements(found),
                }
            }
            verdict => verdict,
        }
    }

    /// What is known so far.
    #[must_use]
    pub fn snapshot(&self) -> Noise {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fields = state.differed.iter().map(|(path, differed)| NoisyField {
            path: path.clone(),
            differed: *differed,
            noisy: state.is_noisy(path),
        });
        Noise {
            controls: state.controls,
            fields: fields.collect(),
            overflow: state.overflow,
        }
    }
}

impl State {
    fn is_noisy(&self, path: &str) -> bool {
        let differed = self.differed.get(path).copied().unwrap_or(0);
        !path.is_empty() && differed > 0 && differed * NoiseFloor::ONE_IN >= self.controls
    }
}

impl Default for NoiseFloor {
    fn default() -> NoiseFloor {
        NoiseFloor::new()
    }
}

impl fmt::Debug for NoiseFloor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NoiseFloor").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Class, SetDiff};

    fn fields(paths: &[&str]) -> Vec<FieldDiff> {
        let field = |path: &&str| FieldDiff {
            path: (*path).to_owned(),
            legacy: Some(1.into()),
            new: None,
        };
        paths.iter().map(field).collect()
    }

    #[test]
    fn only_what_is_noisy_is_taken_out() {
        let floor = NoiseFloor::new();
        let mismatch = |paths| Verdict::Mismatch(fields(paths));
        assert_eq!(
            floor.settled(mismatch(&["a"])).class(),
            Class::Mismatch,
            "no control yet"
        );
        floor.observe(&fields(&["a", "l.3.at", "l.4.at", ""]));
        assert_eq!(
            floor.settled(mismatch(&["a", "l.0.at"])).class(),
            Class::Noise
        );
        assert_eq!(floor.settled(mismatch(&["a", "b"])), mismatch(&["b"]));
        assert_eq!(
            floor.settled(mismatch(&[""])).class(),
            Class::Mismatch,
            "never as a whole"
        );
        assert_eq!(floor.settled(Verdict::MissingInNew), Verdict::MissingInNew);
        let elements = |missing: &[&str]| {
            Verdict::Elements(SetDiff {
                missing_in_new: missing.iter().map(|key| (*key).to_owned()).collect(),
                extra_in_new: vec![],
                different: vec![("7".to_owned(), fields(&["a"]))],
            })
        };
        assert_eq!(floor.settled(elements(&[])).class(), Class::Noise);
        assert_eq!(floor.settled(elements(&["8"])).class(), Class::MissingInNew);
        // It was once, and is no more.
        (0..99).for_each(|_| floor.observe(&[]));
        assert_eq!(
            floor.settled(mismatch(&["a"])).class(),
            Class::Noise,
            "1 of 100"
        );
        floor.observe(&[]);
        assert_eq!(
            floor.settled(mismatch(&["a"])).class(),
            Class::Mismatch,
            "1 of 101"
        );
    }

    #[test]
    fn fields_are_bounded_and_the_rest_is_counted() {
        let floor = NoiseFloor::new();
        for number in 0..NoiseFloor::FIELDS + 5 {
            floor.observe(&fields(&[&format!("f{number}")]));
        }
        let noise = floor.snapshot();
        assert_eq!(
            (noise.fields.len(), noise.overflow),
            (NoiseFloor::FIELDS, 5)
        );
        assert_eq!(noise.controls, 261);
    }
}
