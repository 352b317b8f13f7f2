//! [`Call`]: one call, from its beginning to the one counter in which it ends.

use std::sync::Arc;
use std::time::Duration;

use changeover_flags::Place;
use tokio::time::Instant;

use super::Desk;
use crate::call::Operation;
use crate::metrics::{End, Took};
use crate::route::Route;

/// One call. Dropped, it ends as it stands: not begun, or cancelled on its way.
pub(crate) struct Call {
    desk: Arc<Desk>,
    operation: usize,
    /// When it began; `None` while nobody needs to know.
    began: Option<Instant>,
    /// For how many calls its time stands; for none, it is told only if its caller waits.
    stands_for: u32,
    end: End,
    /// The side that a read was sent to, while both could answer.
    sent: Option<Place>,
    counted: bool,
}

impl Desk {
    /// Begins a call.
    #[inline]
    pub(crate) fn call(self: &Arc<Self>, operation: &Operation) -> Call {
        Call::begin(Arc::clone(self), operation)
    }
}

impl Call {
    fn begin(desk: Arc<Desk>, operation: &Operation) -> Call {
        // A deadline is counted from here.
        let timed = !operation.kind.is_read() || operation.timeout.is_some();
        let drawn = if timed { None } else { desk.metrics.drawn() };
        Call {
            operation: desk.metrics.operation(operation.name),
            began: (timed || drawn.is_some()).then(Instant::now),
            stands_for: drawn.unwrap_or(1),
            desk,
            end: End::NotBegun,
            sent: None,
            counted: false,
        }
    }

    /// Where the call is counted.
    #[inline]
    pub(crate) fn desk(&self) -> &Desk {
        &self.desk
    }

    /// Notes when the call began: if its caller waits, that is timed from here.
    #[inline]
    pub(crate) fn noted(&mut self) {
        if self.began.is_none() {
            (self.began, self.stands_for) = (Some(Instant::now()), 0);
        }
    }

    /// Times the call, from here on if it has not been so far. Its caller waits, or somebody has to
    /// know how long it takes.
    #[inline]
    pub(crate) fn timed(&mut self) {
        self.stands_for = 1;
        self.began.get_or_insert_with(Instant::now);
    }

    /// How long it has taken so far, if it is timed.
    #[inline]
    pub(crate) fn took(&self) -> Option<Took> {
        let began = self.began.filter(|_| self.stands_for > 0);
        began.map(|began| Took {
            time: began.elapsed(),
            stands_for: self.stands_for,
        })
    }

    /// How long a call with a deadline has taken.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.map_or(Duration::ZERO, |began| began.elapsed())
    }

    /// Where the routing table sent a read.
    #[inline]
    pub(crate) fn sent(&mut self, route: &Route) {
        self.sent = route.copies.map(|_| route.answered_by);
    }

    /// How the call ends if it is dropped from here on.
    pub(crate) fn on_drop(&mut self, end: End) {
        self.end = end;
    }

    /// Ends the call.
    pub(crate) fn end(&mut self, end: End) {
        self.end_after(end, self.took());
    }

    /// Ends a call that took `took`: the clock is not asked once more.
    #[inline]
    pub(crate) fn end_after(&mut self, end: End, took: Option<Took>) {
        if !std::mem::replace(&mut self.counted, true) {
            let metrics = &self.desk.metrics;
            metrics.ended(self.operation, self.sent, end, took);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.counted {
            return;
        }
        // A panic of the store passes through to the caller: that is an error, not a caller gone.
        let end = match self.end {
            End::Cancelled if std::thread::panicking() => End::Error,
            end => end,
        };
        self.end_after(end, self.took());
    }
}
