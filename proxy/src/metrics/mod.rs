//! What is counted. Every handle is registered once, when the layer is built, so every series is
//! present at 0 from the start; labels carry no key, no value and no error text.
//!
//! All calls are counted. All are timed, too, but for reads that are answered at once: a read that has
//! not waited when its answer is there is timed if it has a deadline, or is the one in
//! [`Limits::time_one_in`](crate::Limits::time_one_in) that is drawn, which then stands for as many in
//! the durations. A read that waits is timed from its call if it was one of these, else from where it
//! began to wait; so no slow answer is missing, unless it held its thread.
//!
//! | metric | labels | |
//! | --- | --- | --- |
//! | `changeover_calls_total` | `entity`, `op`, `route`, `outcome` | every call ends in exactly one; `route` is `authority`, `follower` or `none`, `outcome` is `ok`, `error`, `unknown`, `rejected`, `fallback` (answered by the authority after the follower failed) or `cancelled` |
//! | `changeover_call_duration_seconds` | `entity`, `op` | what the caller waited for, or the whole write if the caller left; of reads at once, a share for all |
//! | `changeover_reads_total` | `entity`, `cohort`, `outcome` | reads by the side that they were sent to, `legacy` or `new`, in the stages that copy; `ok`, `fallback` (sent to the follower, answered by the authority), `error`, `cancelled` |
//! | `changeover_read_duration_seconds` | `entity`, `cohort` | what their callers waited, but for the cancelled |
//! | `changeover_store_call_duration_seconds` | `entity`, `store`, `kind`, `outcome` | calls of a store: `read`, `write`, `shadow`; `ok`, `error`, or `timeout`: not waited for any longer, the follower that a hedge overtook among them |
//! | `changeover_fallbacks_total` | `entity`, `reason` | `not_found`, `error`, `timeout`, `panic`, `hedge` |
//! | `changeover_hedges_total` | `entity`, `outcome` | reads for which the authority was asked beside a slow follower, by who answered: `follower`, `authority`, `neither`; or `cancelled`: the caller left, or both sides panicked |
//! | `changeover_follows_total` | `entity`, `outcome` | what the follower saw of a write at once: every write of a copying stage ends in exactly one of `applied`, `replayed` (best effort: sent once more, and answered), `left`, `timeout`, `panic`, `skipped`, `abandoned`. The worker's `changeover_copies_total` counts keys instead, those of these writes among them |
//! | `changeover_compares_total` | `entity`, `class` | every sampled read that was answered ends in exactly one |
//! | `changeover_canary_total` | `entity`, `outcome` | differences put before the comparison: `seen`, `missed` |
//! | `changeover_controls_total` | `entity`, `outcome` | the authority asked twice: `still` (it agrees with itself), `noise`, `moved` (a write may explain it, or nobody keeps versions), `unanswered` (or not asked: it is slow, callers wait for connections, or the kill switch is thrown) |
//! | `changeover_shed_total` | `entity`, `reason` | `copies`: no room for a copy; `no_runtime`. Of shadow reads, which end in class `shed`: `shadows`: no room; `slow`: the answering side was, or the authority that was to be asked; `pool`: callers wait for connections, or nearly; `long`: a list of too many elements; `plain`: the request cannot be copied, or not often enough; `unanswered`: the caller left, or its call panicked; `closing`; `killed`: the kill switch was thrown before it was over. And `rate`: left out for the target rate, and in no class |
//! | `changeover_sample_share` | `entity` | of the reads that the percentage draws, the share that is compared, 0 to 1 |
//! | `changeover_writes_abandoned_total` | `entity` | writes whose caller left while they ran |
//! | `changeover_tasks_in_flight` | `entity`, `kind` | `write`, `copy`, `shadow` |
//! | `changeover_pins` | `entity`, `kind` | `key`, `scope` |
//! | `changeover_read_percent`, `changeover_kill_switch` | `entity` | what this instance believes; the percentage is the entity's alone: where lists of keys or single operations have their own (`changeover_read_excepted` is 1), reads may go to new at 0 |
//! | `changeover_read_excepted` | `entity` | 1 while lists of keys, or percentages of single operations, differ from the entity's |

mod call;
mod cohort;
mod guard;
mod lots;

use std::sync::atomic::{AtomicU32, Ordering};

use changeover_flags::{Entity, Place, Snapshot};
use changeover_shadow::{Class, LatencyCounts};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

pub(crate) use call::End;
use call::Operations;
use cohort::Sent;
pub use cohort::{Cohort, Cohorts};
pub(crate) use guard::{InFlight, Once};
use lots::Lots;
pub(crate) use lots::Took;

use crate::pins::PinCount;
use crate::served::Fallback;

/// The name under which operations run that were not declared in the builder.
pub const OTHER: &str = "other";

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($variant:ident => $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($variant),+ }

        impl $name {
            const ALL: &'static [$name] = &[$($name::$variant),+];

            const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }
        }
    };
}

labels!(
    /// How a copy ended.
    CopyEnd {
        Applied => "applied",
        Replayed => "replayed",
        Left => "left",
        Timeout => "timeout",
        Panic => "panic",
        Skipped => "skipped",
        Abandoned => "abandoned",
    }
);

labels!(
    /// Who answered a read for which both sides were asked.
    HedgeEnd {
        Follower => "follower",
        Authority => "authority",
        Neither => "neither",
        Cancelled => "cancelled",
    }
);

labels!(
    /// Why background work was not done.
    Shed {
        Copies => "copies",
        NoRuntime => "no_runtime",
        Rate => "rate",
        Shadows => "shadows",
        Slow => "slow",
        Pool => "pool",
        Long => "long",
        Plain => "plain",
        Unanswered => "unanswered",
        Closing => "closing",
        Killed => "killed",
    }
);

labels!(
    /// Whether an injected difference was seen.
    CanaryEnd { Seen => "seen", Missed => "missed" }
);

labels!(
    /// What a control read told.
    ControlEnd { Still => "still", Noise => "noise", Moved => "moved", Unanswered => "unanswered" }
);

labels!(
    /// What a store was asked for.
    StoreKind { Read => "read", Write => "write", Shadow => "shadow" }
);

labels!(
    /// How a store's call ended.
    StoreEnd { Ok => "ok", Error => "error", Timeout => "timeout" }
);

impl StoreEnd {
    pub(crate) fn of<T, E>(answer: &Result<T, E>) -> StoreEnd {
        if answer.is_ok() {
            StoreEnd::Ok
        } else {
            StoreEnd::Error
        }
    }
}

/// All handles of one entity.
pub(crate) struct Metrics {
    operations: Operations,
    lots: Lots,
    sent: Sent,
    stores: Vec<Histogram>,
    fallbacks: Vec<Counter>,
    hedges: Vec<Counter>,
    copies: Vec<Counter>,
    compares: Vec<Counter>,
    canaries: Vec<Counter>,
    controls: Vec<Counter>,
    shed: Vec<Counter>,
    pub(crate) abandoned: Counter,
    pub(crate) writes_in_flight: Gauge,
    pub(crate) copies_in_flight: Gauge,
    pub(crate) shadows_in_flight: Gauge,
    pinned_keys: Gauge,
    pinned_scopes: Gauge,
    read_percent: Gauge,
    read_excepted: Gauge,
    kill_switch: Gauge,
    sample_share: Gauge,
    /// The percentage and the kill switch as last published, packed.
    believed: AtomicU32,
}

impl Metrics {
    /// Registers every series with the recorder in force; of the reads that are answered at once, one in
    /// `time_one_in` is timed.
    pub(crate) fn new(entity: &Entity, operations: &[&'static str], time_one_in: u32) -> Metrics {
        let sent = Sent::new(entity);
        let entity = entity.as_str().to_owned();
        let stores = Place::ALL.into_iter().flat_map(|store| {
            StoreKind::ALL
                .iter()
                .flat_map(move |kind| StoreEnd::ALL.iter().map(move |end| (store, kind, end)))
        });
        let store = |(store, kind, end): (Place, &StoreKind, &StoreEnd)| {
            histogram!("changeover_store_call_duration_seconds", "entity" => entity.clone(),
                "store" => store.as_str(), "kind" => kind.as_str(), "outcome" => end.as_str())
        };
        let in_flight = |kind: &'static str| gauge!("changeover_tasks_in_flight", "entity" => entity.clone(), "kind" => kind);
        let metrics = Metrics {
            operations: Operations::new(&entity, operations),
            lots: Lots::new(time_one_in),
            sent,
            stores: stores.map(store).collect(),
            fallbacks: zeroes(
                Fallback::ALL,
                |reason| counter!("changeover_fallbacks_total", "entity" => entity.clone(), "reason" => reason.as_str()),
            ),
            hedges: zeroes(
                HedgeEnd::ALL,
                |end| counter!("changeover_hedges_total", "entity" => entity.clone(), "outcome" => end.as_str()),
            ),
            copies: zeroes(
                CopyEnd::ALL,
                |end| counter!("changeover_follows_total", "entity" => entity.clone(), "outcome" => end.as_str()),
            ),
            compares: zeroes(
                &Class::ALL,
                |class| counter!("changeover_compares_total", "entity" => entity.clone(), "class" => class.as_str()),
            ),
            canaries: zeroes(
                CanaryEnd::ALL,
                |end| counter!("changeover_canary_total", "entity" => entity.clone(), "outcome" => end.as_str()),
            ),
            controls: zeroes(
                ControlEnd::ALL,
                |end| counter!("changeover_controls_total", "entity" => entity.clone(), "outcome" => end.as_str()),
            ),
            shed: zeroes(
                Shed::ALL,
                |reason| counter!("changeover_shed_total", "entity" => entity.clone(), "reason" => reason.as_str()),
            ),
            abandoned: counter!("changeover_writes_abandoned_total", "entity" => entity.clone()),
            writes_in_flight: in_flight("write"),
            copies_in_flight: in_flight("copy"),
            shadows_in_flight: in_flight("shadow"),
            pinned_keys: gauge!("changeover_pins", "entity" => entity.clone(), "kind" => "key"),
            pinned_scopes: gauge!("changeover_pins", "entity" => entity.clone(), "kind" => "scope"),
            read_percent: gauge!("changeover_read_percent", "entity" => entity.clone()),
            read_excepted: gauge!("changeover_read_excepted", "entity" => entity.clone()),
            kill_switch: gauge!("changeover_kill_switch", "entity" => entity.clone()),
            sample_share: gauge!("changeover_sample_share", "entity" => entity.clone()),
            believed: AtomicU32::new(u32::MAX),
        };
        metrics.abandoned.absolute(0);
        for gauge in [
            &metrics.writes_in_flight,
            &metrics.copies_in_flight,
            &metrics.shadows_in_flight,
        ] {
            gauge.set(0.0);
        }
        metrics.pins(PinCount::default());
        metrics
    }

    /// What became of reads, by the side that they were sent to.
    pub(crate) fn took(&self, place: Place) -> LatencyCounts {
        self.sent.took(place)
    }

    pub(crate) fn cohorts(&self) -> Cohorts {
        self.sent.cohorts()
    }

    /// A store answered after `took`.
    #[inline]
    pub(crate) fn store(
        &self,
        store: Place,
        kind: StoreKind,
        end: StoreEnd,
        took: impl Into<Took>,
    ) {
        let index = (store as usize * StoreKind::ALL.len() + kind as usize) * StoreEnd::ALL.len();
        if let Some(histogram) = self.stores.get(index + end as usize) {
            took.into().record(histogram);
        }
    }

    pub(crate) fn fallback(&self, reason: Fallback) {
        count(&self.fallbacks, reason as usize);
    }

    pub(crate) fn shed(&self, reason: Shed) {
        count(&self.shed, reason as usize);
    }

    pub(crate) fn canary(&self, end: CanaryEnd) {
        count(&self.canaries, end as usize);
    }

    pub(crate) fn control(&self, end: ControlEnd) {
        count(&self.controls, end as usize);
    }

    pub(crate) fn compared(&self, class: Class) {
        count(&self.compares, class as usize);
    }

    /// Begins a copy, which counts as abandoned unless it ends otherwise.
    pub(crate) fn copy(&self) -> Once {
        Once::new(self.copy_counter(CopyEnd::Abandoned))
    }

    /// Begins a hedge, which counts as cancelled unless it ends otherwise.
    pub(crate) fn hedge(&self) -> Once {
        Once::new(self.hedge_counter(HedgeEnd::Cancelled))
    }

    pub(crate) fn hedge_counter(&self, end: HedgeEnd) -> Counter {
        self.hedges
            .get(end as usize)
            .cloned()
            .unwrap_or_else(Counter::noop)
    }

    pub(crate) fn copy_counter(&self, end: CopyEnd) -> Counter {
        self.copies
            .get(end as usize)
            .cloned()
            .unwrap_or_else(Counter::noop)
    }

    pub(crate) fn pins(&self, pins: PinCount) {
        self.pinned_keys.set(pins.keys as f64);
        self.pinned_scopes.set(pins.scopes as f64);
    }

    pub(crate) fn sample_share(&self, share: f64) {
        self.sample_share.set(share);
    }

    /// Publishes what this instance believes, when it changed.
    #[inline]
    pub(crate) fn believe(&self, flags: &Snapshot) {
        let packed = u32::from(flags.read_new.ten_thousandths()) << 2
            | u32::from(flags.excepted) << 1
            | u32::from(flags.kill);
        // Looked at first: a swap by every call would pass the line from core to core.
        if self.believed.load(Ordering::Relaxed) != packed
            && self.believed.swap(packed, Ordering::Relaxed) != packed
        {
            self.read_percent.set(flags.read_new.as_f64());
            self.read_excepted.set(f64::from(u8::from(flags.excepted)));
            self.kill_switch.set(f64::from(u8::from(flags.kill)));
        }
    }
}

fn zeroes<T>(labels: &[T], register: impl Fn(&T) -> Counter) -> Vec<Counter> {
    let counters = labels.iter().map(register);
    counters.inspect(|counter| counter.absolute(0)).collect()
}

fn count(counters: &[Counter], index: usize) {
    if let Some(counter) = counters.get(index) {
        counter.increment(1);
    }
}
