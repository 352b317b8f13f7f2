//! Reads by the side that they were sent to, while both could answer.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};

use changeover_flags::{Entity, Place};
use changeover_shadow::{Latency, LatencyCounts, Quantiles};
use metrics::{Counter, Histogram, counter, histogram};

use super::{End, Took};

/// What became of the reads that were sent to each side, in the stages that copy; since the layer
/// was built. A read that new failed is one of new's: it was sent there, and its caller waited.
///
/// Not a random sample of the keys, but for a percentage of resting ones: pinned and dirty keys,
/// which are the busy ones, are with the authority.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cohorts {
    /// Sent to legacy.
    pub legacy: Cohort,
    /// Sent to new.
    pub new: Cohort,
}

/// What became of the reads that were sent to one side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cohort {
    /// Answered by it.
    pub ok: u64,
    /// Answered by the authority after all.
    pub fallback: u64,
    /// Answered by an error.
    pub error: u64,
    /// Given up by their callers.
    pub cancelled: u64,
    /// What the callers waited, but for those who gave up. Of the reads that were answered at once a share
    /// is timed, and stands for all of them: [`Limits::time_one_in`](crate::Limits::time_one_in).
    pub took: Quantiles,
}

/// How a read of a cohort ends.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    Ok,
    Fallback,
    Error,
    Cancelled,
}

impl Outcome {
    const LABELS: [&'static str; 4] = ["ok", "fallback", "error", "cancelled"];

    fn of(end: End) -> Option<Outcome> {
        match end {
            End::Ok | End::FollowerOk => Some(Outcome::Ok),
            End::Fallback => Some(Outcome::Fallback),
            End::Error | End::Unknown => Some(Outcome::Error),
            End::Cancelled | End::FollowerCancelled | End::NotBegun => Some(Outcome::Cancelled),
            End::Rejected => None,
        }
    }
}

/// One side's reads as they are counted.
struct Reads {
    ends: [(Counter, AtomicU64); 4],
    duration: Histogram,
    took: Latency,
}

/// Both sides' reads as they are counted.
pub(super) struct Sent([Reads; 2]);

impl Sent {
    pub(super) fn new(entity: &Entity) -> Sent {
        let reads = |place: Place| {
            let entity = entity.as_str().to_owned();
            let end = |outcome: &'static str| {
                let counter = counter!("changeover_reads_total", "entity" => entity.clone(),
                    "cohort" => place.as_str(), "outcome" => outcome);
                counter.absolute(0);
                (counter, AtomicU64::new(0))
            };
            Reads {
                ends: Outcome::LABELS.map(end),
                duration: histogram!("changeover_read_duration_seconds", "entity" => entity.clone(), "cohort" => place.as_str()),
                took: Latency::new(),
            }
        };
        Sent(Place::ALL.map(reads))
    }

    #[inline]
    pub(super) fn count(&self, place: Place, end: End, took: Option<Took>) {
        let (Some(reads), Some(outcome)) = (self.0.get(place as usize), Outcome::of(end)) else {
            return;
        };
        if let Some((counter, count)) = reads.ends.get(outcome as usize) {
            counter.increment(1);
            count.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(took) = took
            && !matches!(outcome, Outcome::Cancelled)
        {
            took.record(&reads.duration);
            reads.took.record_many(took.time, took.stands_for.into());
        }
    }

    pub(super) fn took(&self, place: Place) -> LatencyCounts {
        let [legacy, new] = &self.0;
        match place {
            Place::Legacy => legacy.took.counts(),
            Place::New => new.took.counts(),
        }
    }

    pub(super) fn cohorts(&self) -> Cohorts {
        let cohort = |reads: &Reads| {
            let mut counts = reads.ends.iter().map(|(_, count)| count);
            let [ok, fallback, error, cancelled] = array::from_fn(|_| {
                let count = counts.next();
                count.map_or(0, |count| count.load(Ordering::Relaxed))
            });
            Cohort {
                ok,
                fallback,
                error,
                cancelled,
                took: reads.took.quantiles(),
            }
        };
        let [legacy, new] = &self.0;
        Cohorts {
            legacy: cohort(legacy),
            new: cohort(new),
        }
    }
}
