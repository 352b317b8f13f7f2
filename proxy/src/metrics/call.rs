//! The one counter in which a call ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use metrics::{Counter, Histogram, counter, histogram};
use tokio::time::Instant;

use super::OTHER;

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
    named: BTreeMap<&'static str, Arc<OperationCounters>>,
    other: Arc<OperationCounters>,
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
            Arc::new(OperationCounters {
                ends: ends.collect(),
                duration,
            })
        };
        Operations {
            named: names.iter().map(|name| (*name, register(name))).collect(),
            other: register(OTHER),
        }
    }

    pub(super) fn begin(&self, name: &str) -> Call {
        let counters = self.named.get(name).unwrap_or(&self.other);
        Call {
            counters: Arc::clone(counters),
            began: Instant::now(),
            end: End::NotBegun,
        }
    }
}

/// One call. Dropped, it ends as it stands: not begun, or cancelled on its way.
pub(crate) struct Call {
    counters: Arc<OperationCounters>,
    began: Instant,
    end: End,
}

impl Call {
    /// How the call ends if it is dropped from here on.
    pub(crate) fn on_drop(&mut self, end: End) {
        self.end = end;
    }

    pub(crate) fn end(mut self, end: End) {
        self.end = end;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // A panic of the store passes through to the caller: that is an error, not a caller gone.
        let end = match self.end {
            End::Cancelled if std::thread::panicking() => End::Error,
            end => end,
        };
        if let Some(counter) = self.counters.ends.get(end as usize) {
            counter.increment(1);
        }
        self.counters
            .duration
            .record(self.began.elapsed().as_secs_f64());
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
