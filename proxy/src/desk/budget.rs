//! Which of the drawn reads are compared: at most so many a second, and none while a pool waits.
//!
//! **The rate.** Of the reads that the flags' percentage draws, each is compared with a chance that is
//! the same for all reads of an interval, the *share*:
//!
//! ```text
//! share of an interval = min(1, target / (reads drawn per second in the interval before))
//! ```
//!
//! An interval is a second; it ends early when twice the target was compared in it (or ten reads,
//! where that is more), so that a sudden rise is followed at once. A token bucket would keep the
//! rate more strictly and compare the beginning of every burst alone: the reads that come first, of the
//! callers that come first, while caches and pools are still at rest. Here a read's chance does not
//! depend on where in the burst it stands. It does differ from interval to interval: a read of a
//! quiet second counts as much in the tally as one of many in a busy second.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Duration;

use changeover_flags::Percent;
use changeover_shadow::Class;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

use super::{Desk, Handle};
use crate::metrics::Shed;
use crate::pins::lock;

/// How long a share stands.
const INTERVAL: Duration = Duration::from_secs(1);

/// The fewest compared reads that end an interval early: of fewer, chance says too much.
const TELLING: u32 = 10;

/// Whether a connection pool of the application has no connection left.
pub(crate) type PoolWaiting = Box<dyn Fn() -> bool + Send + Sync>;

/// What shadow reads may ask of the databases.
pub(crate) struct Budget {
    /// Compared reads a second.
    target: Option<u32>,
    interval: Mutex<Interval>,
    pool_waiting: Option<PoolWaiting>,
}

#[derive(Debug, Clone, Copy)]
struct Interval {
    /// `None` before the first read.
    began: Option<Instant>,
    drawn: u32,
    compared: u32,
    share: f64,
}

impl Budget {
    pub(crate) fn new(target: Option<u32>, pool_waiting: Option<PoolWaiting>) -> Budget {
        let interval = Interval {
            began: None,
            drawn: 0,
            compared: 0,
            share: if target == Some(0) { 0.0 } else { 1.0 },
        };
        Budget {
            target,
            interval: Mutex::new(interval),
            pool_waiting,
        }
    }

    pub(super) fn share(&self) -> f64 {
        lock(&self.interval).share
    }
}

impl Interval {
    /// One more read, which came at `now` and drew `lot`, from 0 to 1: whether it is compared.
    fn takes(&mut self, target: u32, now: Instant, lot: f64) -> bool {
        let early = self.compared >= target.saturating_mul(2).max(TELLING);
        let since = now.saturating_duration_since(*self.began.get_or_insert(now));
        if early || since >= INTERVAL {
            let per_second = f64::from(self.drawn) / since.as_secs_f64().max(f64::MIN_POSITIVE);
            *self = Interval {
                began: Some(now),
                drawn: 0,
                compared: 0,
                share: (f64::from(target) / per_second).min(1.0),
            };
        }
        self.drawn = self.drawn.saturating_add(1);
        let taken = lot < self.share;
        self.compared += u32::from(taken);
        taken
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").finish_non_exhaustive()
    }
}

impl Desk {
    /// Whether a read is compared: one that `percent` draws and the target rate has room for.
    #[inline]
    pub(crate) fn samples(&self, percent: Percent) -> bool {
        self.draw(percent) && self.budget.target.is_none_or(|target| self.takes(target))
    }

    fn takes(&self, target: u32) -> bool {
        let lot = SmallRng::seed_from_u64(self.number()).random();
        let mut interval = lock(&self.budget.interval);
        let before = interval.share;
        let taken = interval.takes(target, Instant::now(), lot);
        if interval.share != before {
            self.metrics.sample_share(interval.share);
        }
        drop(interval);
        if !taken {
            self.metrics.shed(Shed::Rate);
        }
        taken
    }

    /// Whether a shadow read would make callers wait for a connection. A closure that panics leaves
    /// that open, and callers come first.
    pub(crate) fn pool_waits(&self) -> bool {
        let waiting = self.budget.pool_waiting.as_ref();
        waiting.is_some_and(|waiting| catch_unwind(AssertUnwindSafe(waiting)).unwrap_or(true))
    }

    /// A sampled read is not compared, for `reason`.
    pub(crate) fn not_compared(&self, reason: Shed) {
        self.metrics.shed(reason);
        self.tally.record(Class::Shed);
        self.metrics.compared(Class::Shed);
    }
}

impl Handle {
    /// Of the reads that the flags' percentage draws, the share that is compared at present, from 0 to
    /// 1: less than 1 while [`Limits::shadows_per_second`](crate::Limits::shadows_per_second) is
    /// reached.
    #[must_use]
    pub fn sample_share(&self) -> f64 {
        self.desk.budget.share()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads at these moments (seconds from the beginning): which of them are compared.
    fn compared(target: u32, moments: impl Iterator<Item = f64>, seed: u64) -> Vec<(f64, bool)> {
        let began = Instant::now();
        let mut lots = SmallRng::seed_from_u64(seed);
        let mut interval = Budget::new(Some(target), None).interval.into_inner();
        let interval = interval.as_mut().expect("nobody panicked");
        let takes = |at: f64| {
            let now = began + Duration::from_secs_f64(at);
            (at, interval.takes(target, now, lots.random()))
        };
        let mut moments: Vec<f64> = moments.collect();
        moments.sort_by(f64::total_cmp);
        moments.into_iter().map(takes).collect()
    }

    fn count(reads: &[(f64, bool)], from: f64, to: f64) -> usize {
        let within = reads.iter().filter(|(at, _)| (from..to).contains(at));
        within.filter(|(_, compared)| *compared).count()
    }

    fn seed() -> u64 {
        let seed = std::env::var("CHANGEOVER_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(rand::random);
        println!("CHANGEOVER_SEED={seed}");
        seed
    }

    #[test]
    fn the_rate_is_kept_at_any_load_and_nothing_is_left_out_below_it() {
        let seed = seed();
        for target in [1, 10, 100] {
            for load in [1, 10, 100, 1_000, 2_000_u32] {
                let reads = (0..100 * load).map(|read| f64::from(read) / f64::from(load));
                let compared = count(&compared(target, reads, seed), 10.0, 100.0);
                let expected = f64::from(90 * load.min(target));
                // Five standard deviations.
                let slack = if load > target {
                    5.0 * expected.sqrt()
                } else {
                    0.0
                };
                let off = (compared as f64 - expected).abs();
                assert!(
                    off <= slack,
                    "{target}/s of {load}/s: {compared} for {expected}"
                );
            }
        }
    }

    #[test]
    fn a_sudden_rise_is_followed_within_twice_the_target() {
        let seed = seed();
        for target in [1, 10, 100] {
            // A thousandfold, in the middle of an interval.
            let quiet = (0..55 * target).map(|read| f64::from(read) / f64::from(10 * target));
            let load = 1_000 * target;
            let rise = (0..5 * load).map(|read| 5.5 + f64::from(read) / f64::from(load));
            let reads = compared(target, quiet.chain(rise), seed);
            let rise = count(&reads, 5.5, 6.5);
            let most = (2 * target).max(TELLING) + 3 * target + 10;
            assert!(rise <= most as usize, "{rise} where {target} are asked for");
        }
    }

    /// What a token bucket fails: it compares the first reads of a burst and none of the last.
    #[test]
    fn a_read_s_chance_does_not_depend_on_its_place_in_a_burst() {
        let seed = seed();
        // A burst of 2,000 reads in the first tenth of each second.
        let burst = |second: u32| {
            (0..2_000).map(move |read| f64::from(second) + f64::from(read) / 20_000.0)
        };
        let reads = compared(50, (0..300).flat_map(burst), seed);
        let mut quarters = [0_usize; 4];
        for (at, compared) in reads {
            if at >= 5.0 && compared {
                quarters[(at.fract() / 0.025) as usize] += 1;
            }
        }
        let mean = quarters.iter().sum::<usize>() as f64 / 4.0;
        for found in quarters {
            let off = (found as f64 - mean).abs();
            assert!(off < 5.0 * mean.sqrt(), "{quarters:?}");
        }
    }

    #[test]
    fn none_is_none() {
        let reads = (0..1_000).map(|read| f64::from(read) / 100.0);
        assert_eq!(count(&compared(0, reads, seed()), 0.0, 100.0), 0);
    }
}
