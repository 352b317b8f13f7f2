//! The home row: who is the authority, and which moves are allowed from there.
//!
//! The row lives in the legacy database until the end. Its [`Epoch::number`] rises by one at every
//! decision, and each incarnation begins above the one before, so that a late answer can be told from
//! a new one.

use thiserror::Error;

use crate::{Place, Stage, Version};

/// The home row of one entity, as read from the legacy database.
///
/// ```
/// use changeover_flags::{Epoch, IllegalMove, Place, Stage, Version};
/// let epoch = Epoch {
///     number: 1,
///     authority: Place::Legacy,
///     copying: false,
///     moving_to: None,
///     revision: 1,
///     base: Version::base(0),
///     backfilled: false,
///     verified: false,
/// };
/// let next = epoch.step(Stage::DualWrite)?;
/// assert_eq!((next.number, next.stage()), (2, Stage::DualWrite));
/// assert!(matches!(next.step(Stage::Cutover), Err(IllegalMove::NeedsFlip { .. })));
/// # Ok::<(), IllegalMove>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    /// One more at every decision.
    pub number: i64,
    /// Who takes writes.
    pub authority: Place,
    /// Whether the authority's writes are copied to the other place.
    pub copying: bool,
    /// Set while a flip is under way: the place that is to become the authority.
    pub moving_to: Option<Place>,
    /// The mapping revision, checked in every copy's transaction. It only rises.
    pub revision: i64,
    /// The lowest version of the present incarnation: what an unstamped row carries. It only rises.
    pub base: Version,
    /// Whether a backfill has been completed and recorded for this revision and base.
    pub backfilled: bool,
    /// Whether a clean verify has been recorded for this revision and base.
    pub verified: bool,
}

/// A move between stages that [`Epoch::step`] does not make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IllegalMove {
    /// The entity is in that stage.
    #[error("already in stage {stage}: nothing to move")]
    AlreadyThere {
        /// The present stage.
        stage: Stage,
    },
    /// A flip has begun and is not decided or aborted.
    #[error(
        "a flip that makes {moving_to} the authority is under way: let the flip finish or abort it, then move"
    )]
    FlipUnderWay {
        /// The place that is to become the authority.
        moving_to: Place,
    },
    /// Between `dual-write` and `cutover` the authority changes, which needs a freeze and a drain.
    #[error("moving from {from} to {to} changes the authority: use the flip verb")]
    NeedsFlip {
        /// The present stage.
        from: Stage,
        /// The stage that was asked for.
        to: Stage,
    },
    /// `cutover` to `complete` ends the way back, and so is a verb of its own.
    #[error(
        "moving from {} to {} is the point of no return: use the complete verb",
        Stage::Cutover,
        Stage::Complete
    )]
    NeedsComplete,
    /// The stages are not neighbours.
    #[error("moving from {from} to {to} skips a stage: move to {next} first")]
    SkipsStage {
        /// The present stage.
        from: Stage,
        /// The stage that was asked for.
        to: Stage,
        /// The neighbour of `from` on the way to `to`.
        next: Stage,
    },
    /// Nothing leaves `complete`: legacy no longer receives what is written.
    #[error(
        "stage {} is final: the legacy tables are out of date, so moving to {to} needs a new changeover in the other direction",
        Stage::Complete
    )]
    Final {
        /// The stage that was asked for.
        to: Stage,
    },
}

impl Epoch {
    /// Stage `dual-write` with a whole backfill and a clean verify on record, so that every
    /// percentage is allowed: for tests and examples that run no worker. It is the word of whoever
    /// writes it down; where there is a worker, take what it read.
    pub const READY: Epoch = Epoch {
        number: 1,
        authority: Place::Legacy,
        copying: true,
        moving_to: None,
        revision: 1,
        base: Version::base(0),
        backfilled: true,
        verified: true,
    };

    /// The number of a row that nobody has decided anything about, at this base.
    ///
    /// The thousands are the incarnation's. A side that came back from before, or a new installation,
    /// would count from 1 again, and what was learnt or proved then would pass for newer than what is
    /// so now.
    #[must_use]
    pub const fn first(base: Version) -> i64 {
        1 + Self::NUMBERS * (base.0 >> Version::COUNTER_BITS)
    }

    /// The least numbers that lie between the beginnings of two incarnations.
    pub const NUMBERS: i64 = 1_000;

    /// Whether nobody has decided anything since the entity was installed.
    #[must_use]
    pub const fn is_untouched(&self) -> bool {
        self.number == Self::first(self.base)
    }

    /// The stage, derived. This is the one place that does it.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        match (self.authority, self.copying) {
            (Place::Legacy, false) => Stage::Legacy,
            (Place::Legacy, true) => Stage::DualWrite,
            (Place::New, true) => Stage::Cutover,
            (Place::New, false) => Stage::Complete,
        }
    }

    /// Whether reads may move to the new side: a backfill and a clean verify are recorded.
    #[must_use]
    pub const fn ready(&self) -> bool {
        self.backfilled && self.verified
    }

    /// The row after a step to a neighbouring stage, with the next number. Nothing is written.
    ///
    /// It makes the two moves that are a change of this row alone: `legacy` to `dual-write` and
    /// back. Both drop [`Epoch::verified`] and keep [`Epoch::backfilled`]: without copies, what was
    /// verified ages, while stamping goes on, so that returning takes a drain and a verify but no new
    /// backfill.
    ///
    /// # Errors
    ///
    /// [`IllegalMove`] for every other pair of stages, and for all of them while a flip is under way.
    pub fn step(&self, to: Stage) -> Result<Epoch, IllegalMove> {
        if let Some(moving_to) = self.moving_to {
            return Err(IllegalMove::FlipUnderWay { moving_to });
        }
        let from = self.stage();
        let skips = |next| Err(IllegalMove::SkipsStage { from, to, next });
        // Saturating: a number at the end of its range comes from a damaged row alone, and is no
        // reason to panic in whoever read it.
        let next = Epoch {
            number: self.number.saturating_add(1),
            copying: to.copies(),
            verified: false,
            ..*self
        };
        match (from, to) {
            (Stage::Legacy, Stage::DualWrite) | (Stage::DualWrite, Stage::Legacy) => Ok(next),
            (Stage::Legacy, Stage::Legacy)
            | (Stage::DualWrite, Stage::DualWrite)
            | (Stage::Cutover, Stage::Cutover)
            | (Stage::Complete, Stage::Complete) => Err(IllegalMove::AlreadyThere { stage: from }),
            (Stage::DualWrite, Stage::Cutover) | (Stage::Cutover, Stage::DualWrite) => {
                Err(IllegalMove::NeedsFlip { from, to })
            }
            (Stage::Cutover, Stage::Complete) => Err(IllegalMove::NeedsComplete),
            (Stage::Legacy, Stage::Cutover | Stage::Complete) => skips(Stage::DualWrite),
            (Stage::DualWrite, Stage::Complete) => skips(Stage::Cutover),
            (Stage::Cutover, Stage::Legacy) => skips(Stage::DualWrite),
            (Stage::Complete, Stage::Legacy | Stage::DualWrite | Stage::Cutover) => {
                Err(IllegalMove::Final { to })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(stage: Stage) -> Epoch {
        Epoch {
            number: 7,
            authority: stage.authority(),
            copying: stage.copies(),
            moving_to: None,
            revision: 3,
            base: Version::base(1),
            backfilled: true,
            verified: true,
        }
    }

    #[test]
    fn the_stage_is_derived_from_the_row() {
        for stage in Stage::ALL {
            assert_eq!(at(stage).stage(), stage);
        }
    }

    #[test]
    fn every_pair_of_stages_moves_or_says_why_not() {
        use IllegalMove::*;
        use Stage::*;
        let expected = |from: Stage, to: Stage| match (from, to) {
            (Legacy, Legacy) => Err(AlreadyThere { stage: Legacy }),
            (Legacy, DualWrite) => Ok(DualWrite),
            (Legacy, Cutover) => Err(SkipsStage {
                from,
                to,
                next: DualWrite,
            }),
            (Legacy, Complete) => Err(SkipsStage {
                from,
                to,
                next: DualWrite,
            }),
            (DualWrite, Legacy) => Ok(Legacy),
            (DualWrite, DualWrite) => Err(AlreadyThere { stage: DualWrite }),
            (DualWrite, Cutover) => Err(NeedsFlip { from, to }),
            (DualWrite, Complete) => Err(SkipsStage {
                from,
                to,
                next: Cutover,
            }),
            (Cutover, Legacy) => Err(SkipsStage {
                from,
                to,
                next: DualWrite,
            }),
            (Cutover, DualWrite) => Err(NeedsFlip { from, to }),
            (Cutover, Cutover) => Err(AlreadyThere { stage: Cutover }),
            (Cutover, Complete) => Err(NeedsComplete),
            (Complete, Legacy) => Err(Final { to }),
            (Complete, DualWrite) => Err(Final { to }),
            (Complete, Cutover) => Err(Final { to }),
            (Complete, Complete) => Err(AlreadyThere { stage: Complete }),
        };
        for from in Stage::ALL {
            for to in Stage::ALL {
                let moved = at(from).step(to);
                assert_eq!(
                    moved.map(|e| e.stage()),
                    expected(from, to),
                    "{from} to {to}"
                );
                if let Ok(next) = moved {
                    assert_eq!(next.number, 8);
                    assert_eq!(next.authority, at(from).authority);
                }
                for moving_to in Place::ALL {
                    let flipping = Epoch {
                        moving_to: Some(moving_to),
                        ..at(from)
                    };
                    assert_eq!(
                        flipping.step(to),
                        Err(FlipUnderWay { moving_to }),
                        "{from} to {to}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_step_keeps_the_backfill_and_drops_the_verify() {
        let neighbours = [Stage::DualWrite, Stage::Legacy];
        for (from, to) in neighbours
            .into_iter()
            .zip([Stage::Legacy, Stage::DualWrite])
        {
            let moved = at(from).step(to).expect("one step");
            assert!(
                moved.backfilled && !moved.verified && !moved.ready(),
                "{from}"
            );
        }
    }

    #[test]
    fn an_incarnation_begins_above_the_one_before() {
        let first = |incarnation| Epoch::first(Version::base(incarnation));
        assert_eq!((first(0), first(1)), (1, 1_001));
        let begun = Epoch {
            number: first(1),
            base: Version::base(1),
            ..Epoch::READY
        };
        assert!(begun.is_untouched());
        let stopped = begun.step(Stage::Legacy).expect("one step");
        assert!(!stopped.is_untouched());
    }

    #[test]
    fn refusals_name_the_verb_that_does_it() {
        let says = |from: Stage, to| at(from).step(to).expect_err("refused").to_string();
        assert!(says(Stage::DualWrite, Stage::Cutover).contains("use the flip verb"));
        assert!(says(Stage::Cutover, Stage::Complete).contains("use the complete verb"));
        assert!(says(Stage::Legacy, Stage::Complete).contains("move to dual-write first"));
        assert!(says(Stage::Complete, Stage::Legacy).contains("final"));
    }
}
