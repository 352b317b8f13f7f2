//! Which of the reads that are answered at once are timed.

use std::cell::Cell;
use std::time::Duration;

use metrics::Histogram;

thread_local! {
    /// The last lot of this thread. One for all threads would pass from core to core.
    static LOT: Cell<u64> = const { Cell::new(0) };
}

/// Draws one read of so many: neither each sixteenth, which a page of sixteen reads would hit at the
/// same place for ever, nor by chance, which costs more. Multiples of the golden ratio fall evenly
/// into any share of a circle, and in no rhythm.
pub(super) struct Lots {
    one_in: u32,
    below: u64,
}

impl Lots {
    pub(super) fn new(one_in: u32) -> Lots {
        let one_in = one_in.max(1);
        Lots {
            one_in,
            below: u64::MAX / u64::from(one_in),
        }
    }

    /// For how many reads a drawn one stands.
    pub(super) fn one_in(&self) -> u32 {
        self.one_in
    }

    #[inline]
    pub(super) fn draws(&self) -> bool {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        // A thread that is ending has no counter any more; its last reads are timed.
        let lot = LOT.try_with(|last| {
            last.set(last.get().wrapping_add(GOLDEN));
            last.get()
        });
        lot.unwrap_or_default() <= self.below
    }
}

/// How long something took, and for how many of its kind that stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    pub(crate) time: Duration,
    pub(crate) stands_for: u32,
}

impl From<Duration> for Took {
    fn from(time: Duration) -> Took {
        Took {
            time,
            stands_for: 1,
        }
    }
}

impl Took {
    #[inline]
    pub(super) fn record(self, histogram: &Histogram) {
        histogram.record_many(self.time, self.stands_for as usize);
    }
}
