//! The home row: who is the authority, and which moves are allowed from there.
//!
//! The row lives in the legacy database until the end. Its [`Epoch::number`] rises by one at every
//! decision, so that a late answer can be told from a new one.

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
    /// back. Going back to `legacy` drops [`Epoch::verified`] and keeps [`Epoch::backfilled`]: no
    /// copies run from there on, so what was verified ages, while stamping goes on, so that
    /// returning takes a drain and a verify but no new backfill.
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
        let number = self.number.saturating_add(1);
        match (from, to) {
            (Stage::Legacy, Stage::DualWrite) => Ok(Epoch {
                number,
                copying: true,
                ..*self
            }),
            (Stage::DualWrite, Stage::Legacy) => Ok(Epoch {
                number,
                copying: false,
                verified: false,
                ..*self
            }),
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
