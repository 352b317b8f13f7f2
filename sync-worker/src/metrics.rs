//! What the worker counts: [`Meters`], one set of handles per entity, registered once.
//!
//! Every series stands at 0 from the moment its `Meters` is made, so that the first event is an
//! increase and not a birth. Labels never carry keys, values or messages.
//!
//! | series | labels | counts |
//! | --- | --- | --- |
//! | `changeover_copies_total` | `entity`, `source`, `outcome` | copies of one key; each ends in exactly one outcome |
//! | `changeover_copy_duration_seconds` | `entity`, `source` | one copy, all its keys; `inline`, of all writes that share it |
//! | `changeover_mark_failures_total` | `entity` | keys copied whose mark was not confirmed: copied once more later |
//! | `changeover_backfill_rows_total` | `entity`, `outcome` | keys of pages that the cursor passed: `copied`, `held` |
//! | `changeover_backfill_pages_total` | `entity`, `outcome` | pages tried: `copied`, `retried` |
//! | `changeover_backfill_cursor_ratio` | `entity` | keys passed by the estimate, 1 when done |
//! | `changeover_dirty_keys`, `changeover_blocked_keys`, `changeover_waiting_keys` | `entity` | what the authority counts |
//! | `changeover_drain_passes_total` | `entity`, `outcome` | `complete`, `failed` |
//! | `changeover_verify_keys_total` | `entity`, `class` | keys compared; each ends in exactly one class |
//! | `changeover_check_rows` | `entity`, `check` | rows that a consistency check found when it last ended |
//! | `changeover_check_failures_total` | `entity`, `check` | runs of a consistency check that could not be ended |
//! | `changeover_throttle_held` | `entity`, `work`, `reason` | 1 while this holds the work back, else 0 |
//! | `changeover_throttle_wait_seconds_total` | `entity`, `work`, `reason` | time that it held it back |
//!
//! The last one is a gauge that only grows, because a counter of the `metrics` crate counts whole
//! numbers and a wait is a fraction. The `work` is `backfill`, `drain` or `verify`; a `reason` is one of [`Reason::LABELS`], or a signal's name.

use std::time::Duration;

use changeover_flags::Entity;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use tokio::time::Instant;

use crate::copy::CopySource;
use crate::pace::Reason;
use crate::turns::Work;
use crate::verify::Class;

/// The handles of one entity. Cheap to use; made once per entity and shared.
///
/// A clone counts into the same series.
#[derive(Clone)]
pub struct Meters {
    copies: [[Counter; Outcome::ALL.len()]; CopySource::ALL.len()],
    copy_seconds: [Histogram; CopySource::ALL.len()],
    verified: [Counter; Class::ALL.len()],
    pub(crate) mark_failures: Counter,
    pub(crate) rows_copied: Counter,
    pub(crate) rows_held: Counter,
    pub(crate) pages_copied: Counter,
    pub(crate) pages_retried: Counter,
    pub(crate) cursor_ratio: Gauge,
    pub(crate) dirty: Gauge,
    pub(crate) blocked: Gauge,
    pub(crate) waiting: Gauge,
    pub(crate) passes_complete: Counter,
    pub(crate) passes_failed: Counter,
    entity: String,
}

/// Something holds some work back, until this is dropped.
pub(crate) struct HeldBack {
    held: Gauge,
    waited: Gauge,
    since: Instant,
}

impl Drop for HeldBack {
    fn drop(&mut self) {
        self.held.decrement(1.0);
        self.waited.increment(self.since.elapsed().as_secs_f64());
    }
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meters").finish_non_exhaustive()
    }
}

/// How the copy of one key ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The follower took the image.
    Applied,
    /// The follower had it, or a newer one.
    Stale,
    /// Held until something else arrives.
    Waiting,
    /// Held for good.
    Blocked,
    /// A unique value that changes hands was not settled within the bounds.
    Conflict,
    /// The version lies below the follower's base.
    BehindBase,
    Loading,
    /// A store did not answer, or the copy was dropped before it did.
    Error,
}

impl Outcome {
    pub(crate) const ALL: [Outcome; 8] = [
        Outcome::Applied,
        Outcome::Stale,
        Outcome::Waiting,
        Outcome::Blocked,
        Outcome::Conflict,
        Outcome::BehindBase,
        Outcome::Loading,
        Outcome::Error,
    ];

    const fn label(self) -> &'static str {
        match self {
            Outcome::Applied => "applied",
            Outcome::Stale => "stale",
            Outcome::Waiting => "waiting",
            Outcome::Blocked => "blocked",
            Outcome::Conflict => "conflict",
            Outcome::BehindBase => "behind_base",
            Outcome::Loading => "loading",
            Outcome::Error => "error",
        }
    }
}

impl Meters {
    /// Registers every series of `entity` with the recorder that is installed now, and sets the
    /// counters to 0. Install the recorder first.
    #[must_use]
    pub fn new(entity: &Entity) -> Meters {
        let one = |name: &'static str| zero(counter!(name, "entity" => entity.to_string()));
        let by = |name: &'static str, label: &'static str, value: &'static str| {
            zero(counter!(name, "entity" => entity.to_string(), label => value))
        };
        let level = |name: &'static str| {
            let level = gauge!(name, "entity" => entity.to_string());
            level.set(0.0);
            level
        };
        let meters = Meters {
            copies: CopySource::ALL.map(|source| {
                Outcome::ALL.map(|outcome| {
                    zero(counter!(
                        "changeover_copies_total",
                        "entity" => entity.to_string(),
                        "source" => source.as_str(),
                        "outcome" => outcome.label()
                    ))
                })
            }),
            copy_seconds: CopySource::ALL.map(|source| {
                histogram!(
                    "changeover_copy_duration_seconds",
                    "entity" => entity.to_string(),
                    "source" => source.as_str()
                )
            }),
            verified: Class::ALL
                .map(|class| by("changeover_verify_keys_total", "class", class.as_str())),
            mark_failures: one("changeover_mark_failures_total"),
            rows_copied: by("changeover_backfill_rows_total", "outcome", "copied"),
            rows_held: by("changeover_backfill_rows_total", "outcome", "held"),
            pages_copied: by("changeover_backfill_pages_total", "outcome", "copied"),
            pages_retried: by("changeover_backfill_pages_total", "outcome", "retried"),
            cursor_ratio: level("changeover_backfill_cursor_ratio"),
            dirty: level("changeover_dirty_keys"),
            blocked: level("changeover_blocked_keys"),
            waiting: level("changeover_waiting_keys"),
            passes_complete: by("changeover_drain_passes_total", "outcome", "complete"),
            passes_failed: by("changeover_drain_passes_total", "outcome", "failed"),
            entity: entity.to_string(),
        };
        for work in Work::ALL {
            for reason in Reason::LABELS {
                meters.may_hold_back(work, reason);
            }
        }
        meters
    }

    /// Registers the series of a reason; what they count already stays.
    pub(crate) fn may_hold_back(&self, work: Work, reason: &str) {
        for gauge in self.throttle(work, reason) {
            gauge.increment(0.0);
        }
    }

    pub(crate) fn copied(&self, source: CopySource, outcome: Outcome, keys: u64) {
        self.copies[source as usize][outcome as usize].increment(keys);
    }

    pub(crate) fn copy_took(&self, source: CopySource, time: Duration) {
        self.copy_seconds[source as usize].record(time.as_secs_f64());
    }

    pub(crate) fn verified(&self, class: Class, keys: u64) {
        self.verified[class as usize].increment(keys);
    }

    /// Counts that `reason` holds this work back from now on.
    pub(crate) fn held_back(&self, work: Work, reason: &str) -> HeldBack {
        let [held, waited] = self.throttle(work, reason);
        held.increment(1.0);
        HeldBack {
            held,
            waited,
            since: Instant::now(),
        }
    }

    fn throttle(&self, work: Work, reason: &str) -> [Gauge; 2] {
        let names = [
            "changeover_throttle_held",
            "changeover_throttle_wait_seconds_total",
        ];
        names.map(|name| {
            gauge!(
                name,
                "entity" => self.entity.clone(),
                "work" => work.label(),
                "reason" => reason.to_owned()
            )
        })
    }
}

fn zero(counter: Counter) -> Counter {
    counter.absolute(0);
    counter
}
