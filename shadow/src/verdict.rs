//! [`Verdict`]: what one shadow read found, and its [`Class`] for counters and labels.

use std::fmt;

use crate::{FieldDiff, SetDiff};

/// What one shadow read found. It speaks of places, not of roles: after the write cutover it is
/// legacy that is read in the shadow, and a row that legacy lacks is still `ExtraInNew`.
///
/// `Debug` prints field paths and kinds, no contents.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Both sides answered the same, and there was something to compare.
    Match,
    /// Both sides answered that there is nothing: no row, or a list (or record) without anything in it. They agree, but
    /// two empty stores would too: no data was compared, so it is no match.
    Neither,
    /// The sides differ, and so do their versions, or these moved while looking: a copy is on its way.
    Lagging,
    /// The sides differed at the first look and agreed at the second.
    Healed,
    /// Both sides have the row and differ in these fields, twice.
    Mismatch(Vec<FieldDiff>),
    /// Legacy has the row and new does not, twice.
    MissingInNew,
    /// New has the row and legacy does not, twice.
    ExtraInNew,
    /// These elements of a list differ, twice: see [`judge_lists`](crate::judge_lists). Its class is
    /// that of the first kind found: mismatch, missing in new, extra in new.
    Elements(SetDiff<String>),
    /// The same in all fields but these, in which the authority differs from itself: see
    /// [`NoiseFloor`](crate::NoiseFloor). Neither a match nor confirmed.
    Noise(Vec<FieldDiff>),
    /// Both sides answered with an error of this class, by the application's name for it. The
    /// data may be right, but no data was compared.
    ErrorsAlike(&'static str),
    /// An error that the application names on one side, and on the other a different one, or an answer
    /// (`None`), twice.
    ErrorsDiffer {
        /// The class of legacy's error.
        legacy: Option<&'static str>,
        /// The class of new's error.
        new: Option<&'static str>,
    },
    /// Legacy failed, new answered.
    ErrorInLegacy,
    /// New failed, legacy answered.
    ErrorInNew,
    /// Both sides failed: nothing was compared, so it is no match.
    ErrorInBoth,
    /// At least one side did not answer in time.
    Timeout,
    /// The shadow read was not made, or not finished: its budget was used up.
    Shed,
}

impl Verdict {
    /// The class of the verdict.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Verdict::Match => Class::Match,
            Verdict::Neither => Class::Neither,
            Verdict::Lagging => Class::Lagging,
            Verdict::Healed => Class::Healed,
            Verdict::Mismatch(_) => Class::Mismatch,
            Verdict::MissingInNew => Class::MissingInNew,
            Verdict::ExtraInNew => Class::ExtraInNew,
            Verdict::Elements(found) => {
                if !found.different.is_empty() {
                    Class::Mismatch
                } else if !found.missing_in_new.is_empty() {
                    Class::MissingInNew
                } else {
                    Class::ExtraInNew
                }
            }
            Verdict::Noise(_) => Class::Noise,
            Verdict::ErrorsAlike(_) => Class::ErrorsAlike,
            Verdict::ErrorsDiffer { .. } => Class::ErrorsDiffer,
            Verdict::ErrorInLegacy => Class::ErrorInLegacy,
            Verdict::ErrorInNew => Class::ErrorInNew,
            Verdict::ErrorInBoth => Class::ErrorInBoth,
            Verdict::Timeout => Class::Timeout,
            Verdict::Shed => Class::Shed,
        }
    }

    /// Whether this is a difference that two looks agree on: these alone count against a gate.
    #[must_use]
    pub const fn confirmed(&self) -> bool {
        self.class().confirmed()
    }

    /// The fields that differ; empty for every verdict but [`Verdict::Mismatch`].
    #[must_use]
    pub fn fields(&self) -> &[FieldDiff] {
        match self {
            Verdict::Mismatch(fields) => fields,
            _ => &[],
        }
    }
}

/// The class of a [`Verdict`]: what is counted. Every shadow read that starts ends in exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// See [`Verdict::Match`].
    Match,
    /// See [`Verdict::Neither`].
    Neither,
    /// See [`Verdict::Lagging`].
    Lagging,
    /// See [`Verdict::Healed`].
    Healed,
    /// See [`Verdict::Mismatch`].
    Mismatch,
    /// See [`Verdict::MissingInNew`].
    MissingInNew,
    /// See [`Verdict::ExtraInNew`].
    ExtraInNew,
    /// See [`Verdict::Noise`].
    Noise,
    /// See [`Verdict::ErrorsAlike`].
    ErrorsAlike,
    /// See [`Verdict::ErrorsDiffer`].
    ErrorsDiffer,
    /// See [`Verdict::ErrorInLegacy`].
    ErrorInLegacy,
    /// See [`Verdict::ErrorInNew`].
    ErrorInNew,
    /// See [`Verdict::ErrorInBoth`].
    ErrorInBoth,
    /// See [`Verdict::Timeout`].
    Timeout,
    /// See [`Verdict::Shed`].
    Shed,
    /// Started and ended without a verdict: its task was dropped, panicked or outlived the process's
    /// patience at shutdown.
    Abandoned,
}

impl Class {
    /// Every class, in the order of declaration.
    pub const ALL: [Class; 16] = [
        Class::Match,
        Class::Neither,
        Class::Lagging,
        Class::Healed,
        Class::Mismatch,
        Class::MissingInNew,
        Class::ExtraInNew,
        Class::Noise,
        Class::ErrorsAlike,
        Class::ErrorsDiffer,
        Class::ErrorInLegacy,
        Class::ErrorInNew,
        Class::ErrorInBoth,
        Class::Timeout,
        Class::Shed,
        Class::Abandoned,
    ];

    /// The value of a metric label: snake case, never changes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Class::Match => "match",
            Class::Neither => "neither",
            Class::Lagging => "lagging",
            Class::Healed => "healed",
            Class::Mismatch => "mismatch",
            Class::MissingInNew => "missing_in_new",
            Class::ExtraInNew => "extra_in_new",
            Class::Noise => "noise",
            Class::ErrorsAlike => "errors_alike",
            Class::ErrorsDiffer => "errors_differ",
            Class::ErrorInLegacy => "error_in_legacy",
            Class::ErrorInNew => "error_in_new",
            Class::ErrorInBoth => "error_in_both",
            Class::Timeout => "timeout",
            Class::Shed => "shed",
            Class::Abandoned => "abandoned",
        }
    }

    /// Whether this is a difference that two looks agree on: these alone count against a gate.
    #[must_use]
    pub const fn confirmed(self) -> bool {
        matches!(
            self,
            Class::Mismatch | Class::MissingInNew | Class::ExtraInNew | Class::ErrorsDiffer
        )
    }

    /// Whether both sides answered what the data call for, be it that there is nothing or an error with
    /// a name: neither is in trouble, as far as this read tells.
    #[must_use]
    pub const fn both_answered(self) -> bool {
        match self {
            Class::Match
            | Class::Neither
            | Class::Lagging
            | Class::Healed
            | Class::Mismatch
            | Class::MissingInNew
            | Class::ExtraInNew
            | Class::Noise
            | Class::ErrorsAlike
            | Class::ErrorsDiffer => true,
            Class::ErrorInLegacy
            | Class::ErrorInNew
            | Class::ErrorInBoth
            | Class::Timeout
            | Class::Shed
            | Class::Abandoned => false,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_holds_each_class_once_in_order() {
        for (index, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, index, "{class}");
        }
        let labels: BTreeSet<_> = Class::ALL.map(Class::as_str).into();
        assert_eq!(labels.len(), Class::ALL.len());
        // One past the last variant would make `ALL` incomplete.
        assert_eq!(Class::Abandoned as usize + 1, Class::ALL.len());
    }

    #[test]
    fn four_classes_count_against_a_gate() {
        let confirmed: Vec<_> = Class::ALL
            .into_iter()
            .filter(|class| class.confirmed())
            .collect();
        assert_eq!(
            confirmed,
            [
                Class::Mismatch,
                Class::MissingInNew,
                Class::ExtraInNew,
                Class::ErrorsDiffer
            ]
        );
    }
}
