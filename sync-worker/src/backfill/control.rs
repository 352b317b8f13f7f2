//! [`BackfillControl`]: what is changed while a backfill runs.

use std::sync::Arc;

use changeover_flags::Key;
use tokio::sync::watch;

use super::range::Range;
use crate::pace::{Pacer, Pacing, Reason, RowsPerSecond};

/// Changes a backfill while it runs. A clone controls the same one.
#[derive(Debug, Clone)]
pub struct BackfillControl {
    pub(super) pacer: Arc<Pacer>,
    pub(super) workers: Arc<watch::Sender<u32>>,
    pub(super) range: Arc<Range>,
    pub(super) failed: Arc<watch::Sender<Option<Reason>>>,
}

impl BackfillControl {
    /// Stops before the next page.
    pub fn pause(&self) {
        self.pacer.pause();
    }

    /// Goes on.
    pub fn resume(&self) {
        self.pacer.resume();
    }

    /// Whether it is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.pacer.is_paused()
    }

    /// Changes the rate, also for a page that waits already. `None` is none: the
    /// [duty](crate::pace::Pacing::duty) alone is left.
    pub fn set_rate(&self, rate: Option<RowsPerSecond>) {
        self.pacer.set_rate(rate);
    }

    /// Changes every rule of the pace, as [`set_rate`](BackfillControl::set_rate) changes one.
    pub fn set_pacing(&self, pacing: Pacing) {
        self.pacer.set_pacing(pacing);
    }

    /// The rate at the moment.
    #[must_use]
    pub fn rate(&self) -> Option<RowsPerSecond> {
        self.pacer.rate()
    }

    /// Changes how many parts of a load are worked on at a time, from 1 to 64, and at most as many as there
    /// were when the run began. Who works on one too many ends its page first; another one goes on with the part.
    pub fn set_workers(&self, workers: u32) {
        self.workers.send_replace(workers.max(1));
    }

    /// How many parts are to be worked on at a time.
    #[must_use]
    pub fn workers(&self) -> u32 {
        *self.workers.borrow()
    }

    /// Ends the range of keys that are swept with this one, in the order of pages; `None`: it has no end, as in
    /// the beginning. What lies beyond is left, and when nothing else is, the sweep waits for another end, and
    /// says so; if nothing lies beyond, it is done. Pages that are under way are passed. What is no key, as
    /// [`Authority::names`](crate::store::Authority::names) knows, ends the sweep with an error. Like every
    /// change, it is this backfill's: another one, which goes on where this failed, knows nothing of it.
    pub fn set_upto(&self, upto: Option<Key>) {
        self.range.set_end(upto);
    }

    /// With which key the range ends.
    #[must_use]
    pub fn upto(&self) -> Option<Key> {
        self.range.end()
    }

    /// What would hold the next page back at this moment, or why the last one has failed.
    #[must_use]
    pub fn held_back_by(&self) -> Option<Reason> {
        let held = self.pacer.held().map(|held| held.reason);
        let held = held.or_else(|| self.range.holds_back());
        held.or_else(|| self.failed.borrow().clone())
    }
}
