//! Which of the drawn reads are compared: at most so many a second, and none while a pool waits.
//!
//! **The rate.** Of the reads that the flags' percentage draws, each is compared with a chance that is
//! the same for all reads of one operation in an interval, its *share*:
//!
//! ```text
//! share of an operation = min(1, level / (its reads drawn a second, in the interval before, and one))
//! ```
//!
//! The *level* is such that all of them together come to the target: what operations of fewer reads
//! leave is divided among the others. So a busy operation starves no rare one: each has the target
//! divided by the number of operations that are read, as far as it is read so often. The one read more
//! than there were is for operations of few reads. Reckoned with what chance gave them in a second, they
//! would be compared more often than the level says; and one that was not read has a share, too. It is one a
//! second, and one in all where the interval was longer: of an interval that was shorter an operation that was not
//! read in it keeps its part, and is not silenced by another's burst.
//!
//! An interval is a second; it ends early when twice the target was compared in it (or ten reads,
//! where that is more), so that a sudden rise is followed at once. Where many operations rise at once it may end
//! early a few times in a row: until each of them was read, some look silent. A token bucket would keep the
//! rate more strictly and compare the beginning of every burst alone: the reads that come first, of the
//! callers that come first, while caches and pools are still at rest. Here a read's chance does not
//! depend on where in the burst it stands. It does differ from interval to interval and between
//! operations: a read of a quiet second, or of a rare operation, counts as much in the tally as one of
//! many in a busy second.

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

struct Interval {
    /// `None` before the first read.
    began: Option<Instant>,
    compared: u32,
    /// Of all reads that are drawn, where they come as in the interval before.
    share: f64,
    /// Never empty: the last one is that of all operations that were not declared.
    operations: Vec<Drawn>,
}

/// The reads of one operation.
#[derive(Clone)]
struct Drawn {
    reads: u32,
    share: f64,
}

impl Budget {
    /// For so many declared operations.
    pub(crate) fn new(
        target: Option<u32>,
        operations: usize,
        pool_waiting: Option<PoolWaiting>,
    ) -> Budget {
        let share = if target == Some(0) { 0.0 } else { 1.0 };
        let interval = Interval {
            began: None,
            compared: 0,
            share,
            operations: vec![Drawn { reads: 0, share }; operations.saturating_add(1)],
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
    /// One more read of an operation, which came at `now` and drew `lot`, from 0 to 1: whether it is compared.
    fn takes(&mut self, operation: usize, target: u32, now: Instant, lot: f64) -> bool {
        let early = self.compared >= target.saturating_mul(2).max(TELLING);
        let since = now.saturating_duration_since(*self.began.get_or_insert(now));
        if early || since >= INTERVAL {
            self.divide(
                f64::from(target),
                since.as_secs_f64().max(f64::MIN_POSITIVE),
            );
            (self.began, self.compared) = (Some(now), 0);
        }
        let other = self.operations.len().saturating_sub(1);
        let Some(drawn) = self.operations.get_mut(operation.min(other)) else {
            return false;
        };
        drawn.reads = drawn.reads.saturating_add(1);
        let taken = lot < drawn.share;
        self.compared += u32::from(taken);
        taken
    }

    /// Divides the target among the operations, by what was read of them in so many seconds.
    fn divide(&mut self, target: f64, seconds: f64) {
        let rates = || {
            let reads = self.operations.iter().map(|drawn| f64::from(drawn.reads));
            reads.map(|reads| reads / seconds)
        };
        let level = level(target, rates);
        self.share = (target / rates().sum::<f64>()).min(1.0);
        for drawn in &mut self.operations {
            // One a second: a burst ends an interval that is too short to say more of the silent ones.
            let reads = f64::from(std::mem::take(&mut drawn.reads)) + seconds.min(1.0);
            drawn.share = (level * seconds / reads).min(1.0);
        }
    }
}

/// The most that each of these rates may have, so that together they have `target`; infinite where it is enough
/// for all. It rises until nobody leaves anything any more: as often as there are rates at most.
fn level<R: Iterator<Item = f64>>(target: f64, rates: impl Fn() -> R) -> f64 {
    let mut level = 0.0;
    loop {
        let (mut left, mut above) = (target, 0_u32);
        for rate in rates() {
            if rate > level {
                above += 1;
            } else {
                left -= rate;
            }
        }
        let next = if above == 0 {
            f64::INFINITY
        } else {
            left / f64::from(above)
        };
        if next <= level || above == 0 {
            return next.max(level);
        }
        level = next;
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
    pub(crate) fn samples(&self, percent: Percent, operation: &str) -> bool {
        let within = |target| self.takes(target, operation);
        self.draw(percent) && self.budget.target.is_none_or(within)
    }

    fn takes(&self, target: u32, operation: &str) -> bool {
        let operation = self.metrics.operation(operation);
        let lot = SmallRng::seed_from_u64(self.number()).random();
        let mut interval = lock(&self.budget.interval);
        let before = interval.share;
        let taken = interval.takes(operation, target, Instant::now(), lot);
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
    /// reached. It is that of all operations together; a rare one's is greater.
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
        let mut interval = Budget::new(Some(target), 0, None).interval.into_inner();
        let interval = interval.as_mut().expect("nobody panicked");
        let takes = |at: f64| {
            let now = began + Duration::from_secs_f64(at);
            (at, interval.takes(0, target, now, lots.random()))
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
    /// Operations of these rates for a hundred seconds: how many a second are compared of each, from the tenth on.
    fn compared_of<const N: usize>(target: u32, rates: [f64; N], seed: u64) -> [f64; N] {
        let mut lots = SmallRng::seed_from_u64(seed);
        let mut reads: Vec<(f64, usize)> = Vec::new();
        for (operation, rate) in rates.into_iter().enumerate() {
            let count = (100.0 * rate) as u32;
            reads.extend((0..count).map(|_| (lots.random_range(0.0..100.0), operation)));
        }
        reads.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let began = Instant::now();
        let mut interval = Budget::new(Some(target), N - 1, None).interval.into_inner();
        let interval = interval.as_mut().expect("nobody panicked");
        let mut compared = [0_u32; N];
        for (at, operation) in reads {
            let now = began + Duration::from_secs_f64(at);
            let taken = interval.takes(operation, target, now, lots.random());
            compared[operation] += u32::from(taken && at >= 10.0);
        }
        compared.map(|count| f64::from(count) / 90.0)
    }

    #[test]
    fn a_busy_operation_starves_no_rare_one() {
        let seed = seed();
        let near = |found: f64, expected: f64| (found - expected).abs() < 0.25 * expected;
        // All that is rare, and the rest for the busy one.
        let [busy, rare, seldom] = compared_of(20, [1_000.0, 2.0, 0.2], seed);
        assert!(near(busy, 17.8) && near(rare, 2.0), "{busy} {rare}");
        assert!(seldom > 0.1, "{seldom}");
        // Two that are busy have as much, whatever their rates.
        let [one, other, rare] = compared_of(20, [1_000.0, 100.0, 4.0], seed);
        assert!(
            near(one, 8.0) && near(other, 8.0) && near(rare, 4.0),
            "{one} {other} {rare}"
        );
        // Many of few reads do not add up to more than the target.
        for rate in [0.1, 0.5, 2.0, 5.0] {
            let sum: f64 = compared_of(10, [rate; 100], seed).iter().sum();
            let off = (sum - 10.0).abs();
            assert!(off < 2.0, "{sum} of a hundred operations of {rate}");
        }
    }

    /// An interval that a burst ends early is too short to say anything of the others.
    #[test]
    fn a_burst_of_one_operation_leaves_another_its_part() {
        for target in [1, 10, 40] {
            let began = Instant::now();
            let mut interval = Budget::new(Some(target), 1, None).interval.into_inner();
            let interval = interval.as_mut().expect("nobody panicked");
            let mut busy = |seconds: f64| {
                let now = began + Duration::from_secs_f64(seconds);
                interval.takes(0, target, now, 0.5)
            };
            busy(0.0);
            let taken = (0..100).filter(|read| busy(1.0 + f64::from(*read) / 50_000.0));
            assert!(taken.count() < 100, "its own share has fallen");
            // Were it read once a second, it would have its equal part.
            let (part, other) = (f64::from(target) / 2.0, interval.operations[1].share);
            assert!(other >= part.min(1.0), "{other} at {target} a second");
        }
    }

    #[test]
    fn the_level_gives_away_the_target_and_no_more() {
        let given = |target: f64, rates: &[f64]| {
            let level = level(target, || rates.iter().copied());
            let given: f64 = rates.iter().map(|rate| rate.min(level)).sum();
            (level, given)
        };
        assert_eq!(given(10.0, &[100.0, 1.0, 2.0]), (7.0, 10.0));
        assert_eq!(given(10.0, &[3.0, 0.0, 7.0]), (f64::INFINITY, 10.0));
        assert_eq!(given(0.0, &[3.0, 0.0]), (0.0, 0.0));
        assert_eq!(given(9.0, &[5.0, 5.0, 5.0]), (3.0, 9.0));
        assert_eq!(given(1.0, &[]), (f64::INFINITY, 0.0));
    }
}
