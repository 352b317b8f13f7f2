//! The one counter in which a call ends.

use std::collections::BTreeSet;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use changeover_flags::Place;
use metrics::{Counter, Histogram, counter, histogram};
use tokio::time::Instant;

use super::{Metrics, OTHER, Took};
use crate::call::Operation;
use crate::route::Route;

/// Every way in which a call can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Ok,
    Error,
    Unknown,
    Fallback,
    Cancelled,
    FollowerOk,
    FollowerCancelled,
    Rejected,
    NotBegun,
}

impl End {
    /// `route` and `outcome`, in the order of declaration.
    const LABELS: [(&'static str, &'static str); 9] = [
        ("authority", "ok"),
        ("authority", "error"),
        ("authority", "unknown"),
        ("authority", "fallback"),
        ("authority", "cancelled"),
        ("follower", "ok"),
        ("follower", "cancelled"),
        ("none", "rejected"),
        ("none", "cancelled"),
    ];
}

/// The counters of one operation.
struct OperationCounters {
    ends: Vec<Counter>,
    duration: Histogram,
}

/// The counters of all operations that were declared, and of the rest.
pub(super) struct Operations {
    /// By name, in the order of names.
    named: Vec<(&'static str, OperationCounters)>,
    other: OperationCounters,
}

impl Operations {
    pub(super) fn new(entity: &str, names: &[&'static str]) -> Operations {
        let register = |name: &'static str| {
            let ends = End::LABELS.iter().map(|(route, outcome)| {
                let counter = counter!("changeover_calls_total", "entity" => entity.to_owned(),
                    "op" => name, "route" => *route, "outcome" => *outcome);
                counter.absolute(0);
                counter
            });
            let duration = histogram!("changeover_call_duration_seconds", "entity" => entity.to_owned(), "op" => name);
            OperationCounters {
                ends: ends.collect(),
                duration,
            }
        };
        let names: BTreeSet<&'static str> = names.iter().copied().collect();
        Operations {
            named: names.iter().map(|name| (*name, register(name))).collect(),
            other: register(OTHER),
        }
    }

    /// Where `name` is counted: past the end if it was not declared.
    fn find(&self, name: &str) -> usize {
        // The name that was declared is mostly the very text that a call carries.
        let same = self.named.iter().position(|(own, _)| ptr::eq(*own, name));
        let found = || self.named.binary_search_by_key(&name, |(own, _)| own).ok();
        same.or_else(found).unwrap_or(usize::MAX)
    }

    fn get(&self, found: usize) -> &OperationCounters {
        let named = self.named.get(found);
        named.map_or(&self.other, |(_, counters)| counters)
    }
}

/// One call. Dropped, it ends as it stands: not begun, or cancelled on its way.
pub(crate) struct Call {
    metrics: Arc<Metrics>,
    operation: usize,
    /// When it began; `None` while nobody needs to know.
    began: Option<Instant>,
    /// For how many calls its time stands.
    stands_for: u32,
    end: End,
    /// The side that a read was sent to, while both could answer.
    sent: Option<Place>,
    counted: bool,
}

impl Call {
    pub(super) fn begin(metrics: Arc<Metrics>, operation: &Operation) -> Call {
        // A deadline is counted from here.
        let timed = !operation.kind.is_read() || operation.timeout.is_some();
        let drawn = !timed && metrics.lots.draws();
        Call {
            operation: metrics.operations.find(operation.name),
            began: (timed || drawn).then(Instant::now),
            stands_for: if drawn { metrics.lots.one_in() } else { 1 },
            metrics,
            end: End::NotBegun,
            sent: None,
            counted: false,
        }
    }

    /// Where the call is counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
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
        self.began.map(|began| Took {
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
        if std::mem::replace(&mut self.counted, true) {
            return;
        }
        let counters = self.metrics.operations.get(self.operation);
        if let Some(counter) = counters.ends.get(end as usize) {
            counter.increment(1);
        }
        if let Some(took) = took {
            took.record(&counters.duration);
        }
        if let Some(place) = self.sent {
            self.metrics.sent.count(place, end, took);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_its_labels() {
        assert_eq!(End::NotBegun as usize + 1, End::LABELS.len());
        assert_eq!(End::LABELS[End::Rejected as usize], ("none", "rejected"));
        assert_eq!(
            End::LABELS[End::FollowerCancelled as usize],
            ("follower", "cancelled")
        );
    }
}
