//! Pacing: [`Pace`], a fixed rate that holds exactly over the long run, and [`Backoff`], the pause
//! before a store is asked again.
//!
//! Neither takes part in correctness: with a clock that lies, copies come too early or too late
//! and are fenced as ever.
//!
//! ```
//! use changeover_sync_worker::pace::{Pace, RowsPerSecond};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! let pace = Pace::new(RowsPerSecond::new(1_000));
//! pace.take(1).await;
//! assert_eq!(pace.rate(), RowsPerSecond::new(1_000));
//! pace.set(None);
//! assert!(pace.take(1_000_000).await.is_zero(), "without a limit nothing waits");
//! # });
//! # Ok::<(), std::io::Error>(())
//! ```

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Rows (keys) per second, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowsPerSecond(NonZeroU32);

impl RowsPerSecond {
    /// A rate; `None` for 0, which is not a rate: pause instead.
    #[must_use]
    pub const fn new(rows: u32) -> Option<RowsPerSecond> {
        match NonZeroU32::new(rows) {
            Some(rows) => Some(RowsPerSecond(rows)),
            None => None,
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

/// Lets rows pass at a fixed rate, however unevenly they come.
///
/// Rows are counted from an anchor in time, never from the last wait, so rounding and late timers
/// do not add up. One who comes late by more than a second does not catch up with a burst: the
/// lost time stays lost. Shared by reference; the rate may change while someone waits.
#[derive(Debug)]
pub struct Pace {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    rate: Option<RowsPerSecond>,
    anchor: Instant,
    /// Rows passed since the anchor.
    passed: u64,
}

impl Pace {
    /// How far behind its rate a caller may be and still catch up.
    const CATCH_UP: Duration = Duration::from_secs(1);

    /// A pace; `None` is unlimited.
    #[must_use]
    pub fn new(rate: Option<RowsPerSecond>) -> Pace {
        let state = State {
            rate,
            anchor: Instant::now(),
            passed: 0,
        };
        Pace {
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    /// The rate at the moment.
    #[must_use]
    pub fn rate(&self) -> Option<RowsPerSecond> {
        self.lock().rate
    }

    /// Changes the rate. Whoever waits, waits by the new one.
    pub fn set(&self, rate: Option<RowsPerSecond>) {
        let mut state = self.lock();
        let now = Instant::now();
        // Rows that passed ahead of their time stay owed, in rows, at the new rate.
        let earned = state
            .rate
            .map_or(u64::MAX, |old| rows_in(old, now - state.anchor));
        *state = State {
            rate,
            anchor: now,
            passed: state.passed.saturating_sub(earned),
        };
        drop(state);
        self.changed.notify_waiters();
    }

    /// Waits until `rows` more may pass and says how long it waited: zero when it did not. They are
    /// counted when this returns: dropped before, it has taken nothing.
    pub async fn take(&self, rows: u32) -> Duration {
        let begun = Instant::now();
        let mut waited = Duration::ZERO;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Listening begins before looking, or a change in between would be missed.
            changed.as_mut().enable();
            let Some(due) = self.try_take(rows) else {
                return waited;
            };
            tokio::select! {
                biased;
                () = changed => {}
                () = tokio::time::sleep_until(due) => {}
            }
            waited = begun.elapsed();
        }
    }

    /// Counts `rows` that pass now without waiting: whoever takes next waits for them.
    pub fn spend(&self, rows: u32) {
        let mut state = self.lock();
        if state.rate.is_some() {
            state.passed += u64::from(rows);
        }
    }

    /// Takes `rows`, or says when to come back.
    fn try_take(&self, rows: u32) -> Option<Instant> {
        let mut state = self.lock();
        let rate = state.rate?;
        let now = Instant::now();
        let due = state.anchor + time_of(rate, state.passed);
        if due > now {
            return Some(due);
        }
        if now - due > Self::CATCH_UP {
            state.anchor = now;
            state.passed = 0;
        }
        state.passed += u64::from(rows);
        None
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long `rows` take at `rate`, rounded up.
fn time_of(rate: RowsPerSecond, rows: u64) -> Duration {
    let nanos = (u128::from(rows) * 1_000_000_000).div_ceil(u128::from(rate.get()));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// How many whole rows fit into `time` at `rate`.
fn rows_in(rate: RowsPerSecond, time: Duration) -> u64 {
    u64::try_from(time.as_nanos() * u128::from(rate.get()) / 1_000_000_000).unwrap_or(u64::MAX)
}

/// Pauses that double up to a limit, each drawn from its upper half so that many who failed
/// together do not come back together.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    random: SmallRng,
}

impl Backoff {
    /// Pauses from about `first` to about `longest`. Equal seeds give equal pauses.
    #[must_use]
    pub fn new(first: Duration, longest: Duration, seed: u64) -> Backoff {
        Backoff {
            first,
            longest,
            failures: 0,
            random: SmallRng::seed_from_u64(seed),
        }
    }

    /// The next pause after one more failure.
    pub fn next_pause(&mut self) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        self.jitter(doubled.min(self.longest))
    }

    /// Failures since the last success.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Something succeeded: start again from the shortest pause.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Between half of `pause` and all of it.
    pub fn jitter(&mut self, pause: Duration) -> Duration {
        pause.mul_f64(self.random.random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(rows: u32) -> Option<RowsPerSecond> {
        RowsPerSecond::new(rows)
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_holds_exactly_over_the_long_run() {
        // 7 does not divide a second: rounding per page would drift by milliseconds.
        let pace = Pace::new(rate(7));
        let begun = Instant::now();
        for page in 0..10_000_u32 {
            // A page that takes its own time, less than its share.
            tokio::time::sleep(Duration::from_millis(u64::from(page % 3) * 40)).await;
            pace.take(3).await;
        }
        let ideal = Duration::from_secs_f64(29_997.0 / 7.0);
        let error = begun.elapsed().abs_diff(ideal);
        assert!(error < Duration::from_millis(90), "off by {error:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleeper_does_not_catch_up_with_a_burst() {
        let pace = Pace::new(rate(10));
        pace.take(10).await;
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        let begun = Instant::now();
        for _ in 0..11 {
            pace.take(10).await;
        }
        assert!(
            begun.elapsed() >= Duration::from_secs(10),
            "{:?}",
            begun.elapsed()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_wakes_whoever_waits() {
        let pace = Pace::new(rate(1));
        pace.take(86_400).await;
        let begun = Instant::now();
        let wait = pace.take(1);
        let change = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            pace.set(None);
        };
        tokio::join!(wait, change);
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn rows_owed_stay_owed_at_another_rate() {
        let pace = Pace::new(rate(10));
        pace.take(100).await;
        pace.set(rate(20));
        let waited = pace.take(1).await;
        assert!(
            waited.abs_diff(Duration::from_secs(5)) < Duration::from_millis(5),
            "{waited:?}"
        );
    }

    #[test]
    fn pauses_double_up_to_the_limit_and_repeat_with_the_seed() {
        let pauses = |seed| {
            let mut backoff =
                Backoff::new(Duration::from_millis(100), Duration::from_secs(5), seed);
            (0..40).map(|_| backoff.next_pause()).collect::<Vec<_>>()
        };
        assert_eq!(pauses(1), pauses(1));
        assert_ne!(pauses(1), pauses(2));
        for (index, pause) in pauses(3).into_iter().enumerate() {
            let full = Duration::from_millis(100 << index.min(10)).min(Duration::from_secs(5));
            assert!(pause <= full && pause >= full / 2, "{index}: {pause:?}");
        }
    }
}
