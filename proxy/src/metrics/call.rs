//! The one counter in which a call ends.

use std::collections::BTreeSet;
use std::ptr;

use changeover_flags::Place;
use metrics::{Counter, Histogram, counter, histogram};

use super::{Metrics, OTHER, Took};

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

impl Metrics {
    /// Where calls of this name are counted.
    #[inline]
    pub(crate) fn operation(&self, name: &str) -> usize {
        self.operations.find(name)
    }

    /// How many operations were declared: what [`operation`](Metrics::operation) finds is below that, or is not declared.
    pub(crate) fn operations(&self) -> usize {
        self.operations.named.len()
    }

    /// For how many reads that are answered at once this one is timed, if it is drawn.
    #[inline]
    pub(crate) fn drawn(&self) -> Option<u32> {
        self.lots.draws().then(|| self.lots.one_in())
    }

    /// A call has ended; `sent` is the side that a read was sent to, while both could answer.
    #[inline]
    pub(crate) fn ended(
        &self,
        operation: usize,
        sent: Option<Place>,
        end: End,
        took: Option<Took>,
    ) {
        let counters = self.operations.get(operation);
        if let Some(counter) = counters.ends.get(end as usize) {
            counter.increment(1);
        }
        if let Some(took) = took {
            took.record(&counters.duration);
        }
        if let Some(place) = sent {
            self.sent.count(place, end, took);
        }
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
