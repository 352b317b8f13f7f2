//! What one call sees: all flags of an entity at one instant.

use std::sync::Arc;

use thiserror::Error;

use crate::{Exceptions, Percent, Stage};

/// All flags of an entity at one instant. A call takes one and decides everything by it.
///
/// It is a belief, not a decision: who takes writes is decided in the databases, which refuse a
/// write that comes with an old belief.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// The stage, meaningful only while [`Snapshot::known`]: ask [`Snapshot::serving`].
    pub stage: Stage,
    /// The number of the epoch that the stage was derived from; 0 while it is not known.
    pub epoch: i64,
    /// The kill switch is thrown: every read goes to the authority, and none is compared.
    pub kill: bool,
    /// The share of keys whose reads the new side answers in `dual-write`. A kill leaves it as it
    /// is. Above zero only while [`Snapshot::ready`].
    pub read_new: Percent,
    /// The share of reads that are also compared.
    pub sample: Percent,
    /// Some keys or operations differ from these percentages: [`Flags::in_force`](crate::Flags::in_force)
    /// has them.
    pub excepted: bool,
    /// A backfill and one clean verify are recorded.
    pub ready: bool,
    /// The stage was learnt from a database at least once, by this instance or, before a restart,
    /// by the one whose state it restored.
    pub known: bool,
}

/// A [`Snapshot`] with the exceptions that are in force at the same instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// The flags.
    pub snapshot: Snapshot,
    /// What differs from their percentages; `None` if nothing does.
    pub exceptions: Option<Arc<Exceptions>>,
}

/// The stage was never learnt, so no side may be chosen: either could be retired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the stage is not known: neither a database nor a saved state has told it yet; connect to the home database once, or restore the flags file"
)]
#[non_exhaustive]
pub struct UnknownStage;

impl Snapshot {
    /// What holds before anything is known.
    pub const UNKNOWN: Snapshot = Snapshot {
        stage: Stage::Legacy,
        epoch: 0,
        kill: false,
        read_new: Percent::ZERO,
        sample: Percent::ZERO,
        excepted: false,
        ready: false,
        known: false,
    };

    /// The stage to serve by.
    ///
    /// # Errors
    ///
    /// [`UnknownStage`] while it was never learnt. There is no default: after the end of a
    /// changeover the legacy tables are out of date, before its start the new ones are empty.
    #[inline]
    pub const fn serving(&self) -> Result<Stage, UnknownStage> {
        if self.known {
            Ok(self.stage)
        } else {
            Err(UnknownStage)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_stage_is_refused_and_has_no_default() {
        assert_eq!(Snapshot::UNKNOWN.serving(), Err(UnknownStage));
        let known = Snapshot {
            stage: Stage::Complete,
            known: true,
            ..Snapshot::UNKNOWN
        };
        assert_eq!(known.serving(), Ok(Stage::Complete));
    }
}
