//! Whether the comparison can be trusted, and who is told: noise floor, canary, latencies, sink.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use changeover_flags::{Percent, Place};
use changeover_shadow::{
    CanaryReport, Compared, Findings, Latency, NoiseFloor, Report, ShadowReport,
};
use tokio::time::Instant;

use super::{Desk, Handle};
use crate::metrics::{CanaryEnd, Took};
use crate::pins::lock;

/// What is known about the comparison itself.
pub(crate) struct Instrument {
    /// Of the shadow reads by key, the share that is followed by a control read.
    pub(crate) control: Percent,
    pub(crate) floor: NoiseFloor,
    pub(crate) sink: Option<Box<dyn Report>>,
    canaries: Mutex<Canaries>,
    legacy: Latency,
    new: Latency,
}

#[derive(Default)]
struct Canaries {
    seen: u64,
    missed: u64,
    last_seen: Option<Instant>,
    last: Option<Instant>,
    blind: bool,
}

impl Instrument {
    pub(crate) fn new(control: Percent, sink: Option<Box<dyn Report>>) -> Instrument {
        Instrument {
            control,
            floor: NoiseFloor::new(),
            sink,
            canaries: Mutex::default(),
            legacy: Latency::new(),
            new: Latency::new(),
        }
    }

    /// `place` gave its first answer of a shadow read after `took`.
    pub(crate) fn took(&self, place: Place, took: Took) {
        let taken = match place {
            Place::Legacy => &self.legacy,
            Place::New => &self.new,
        };
        taken.record_many(took.time, took.stands_for.into());
    }

    /// Tells the application's sink. Its panic is its own.
    pub(crate) fn tell(&self, compared: &Compared<'_>) {
        if let Some(sink) = &self.sink {
            let _ = catch_unwind(AssertUnwindSafe(|| sink.compared(compared)));
        }
    }

    fn canary(&self) -> CanaryReport {
        let canaries = lock(&self.canaries);
        CanaryReport {
            seen: canaries.seen,
            missed: canaries.missed,
            last_seen_seconds: canaries.last_seen.map(|seen| seen.elapsed().as_secs_f64()),
            blind: canaries.blind,
        }
    }
}

impl fmt::Debug for Instrument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instrument").finish_non_exhaustive()
    }
}

impl Desk {
    /// Whether the next equal answers shall be compared once more, with a difference put in.
    pub(crate) fn canary_is_due(&self) -> bool {
        let last = lock(&self.instrument.canaries).last;
        last.is_none_or(|last| last.elapsed() >= self.limits.canary_every)
    }

    /// A canary was put before the comparison, which saw it or not.
    pub(crate) fn canary(&self, seen: bool) {
        let mut canaries = lock(&self.instrument.canaries);
        let now = Instant::now();
        canaries.last = Some(now);
        canaries.blind = !seen;
        if seen {
            canaries.seen += 1;
            canaries.last_seen = Some(now);
            return self.metrics.canary(CanaryEnd::Seen);
        }
        canaries.missed += 1;
        drop(canaries);
        self.metrics.canary(CanaryEnd::Missed);
        tracing::warn!(entity = %self.flags.entity(), "shadow reads are blind: the rules leave nothing to compare");
    }
}

impl Handle {
    /// Whether the comparison sees the differences that are put before it, and when it last did.
    #[must_use]
    pub fn canary(&self) -> CanaryReport {
        self.desk.instrument.canary()
    }

    /// Everything that shadow reads found so far, redacted; as JSON and as Markdown by its methods.
    #[must_use]
    pub fn report(&self) -> ShadowReport {
        let desk = &self.desk;
        let instrument = &desk.instrument;
        ShadowReport::from(Findings {
            entity: self.entity().to_string(),
            totals: self.compared(),
            canary: self.canary(),
            noise: instrument.floor.snapshot(),
            ignored: desk.rules.ignored(),
            legacy: instrument.legacy.quantiles(),
            new: instrument.new.quantiles(),
            differences: self.samples(),
        })
    }
}
