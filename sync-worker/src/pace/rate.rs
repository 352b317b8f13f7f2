//! [`Bucket`]: so many units per second, exact over the long run, however unevenly they come.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

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

impl fmt::Display for RowsPerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows per second", self.0)
    }
}

/// Bytes of values per second, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BytesPerSecond(NonZeroU64);

impl BytesPerSecond {
    /// A budget; `None` for 0.
    #[must_use]
    pub const fn new(bytes: u64) -> Option<BytesPerSecond> {
        match NonZeroU64::new(bytes) {
            Some(bytes) => Some(BytesPerSecond(bytes)),
            None => None,
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for BytesPerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes per second", self.0)
    }
}

/// Says when the next unit may pass.
///
/// Units are counted from an anchor in time, never from the last wait, so rounding and late timers
/// do not add up. One who comes late by more than a second does not catch up with a burst: the
/// lost time stays lost.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: Option<NonZeroU64>,
    anchor: Instant,
    /// Units passed since the anchor.
    passed: u64,
}

impl Bucket {
    /// How far behind its rate a caller may be and still catch up.
    const CATCH_UP: Duration = Duration::from_secs(1);

    pub(super) fn rows(rate: Option<RowsPerSecond>, now: Instant) -> Bucket {
        Bucket::new(rate.map(|rate| rate.0.into()), now)
    }

    pub(super) fn bytes(rate: Option<BytesPerSecond>, now: Instant) -> Bucket {
        Bucket::new(rate.map(|rate| rate.0), now)
    }

    fn new(per_second: Option<NonZeroU64>, now: Instant) -> Bucket {
        Bucket {
            per_second,
            anchor: now,
            passed: 0,
        }
    }

    /// At the rate of a new bucket from now on. What passed ahead of its time stays owed, in units.
    pub(super) fn go_on_at(&mut self, new: Bucket) {
        let earned = self
            .per_second
            .map_or(u64::MAX, |old| units_in(old, new.anchor - self.anchor));
        *self = Bucket {
            passed: self.passed.saturating_sub(earned),
            ..new
        };
    }

    /// When the next unit may pass: at `now` or before it means at once.
    pub(super) fn due(&self) -> Option<Instant> {
        Some(self.anchor + time_of(self.per_second?, self.passed))
    }

    /// Counts units that pass now: whoever comes next waits for them.
    pub(super) fn spend(&mut self, units: u64, now: Instant) {
        let Some(due) = self.due() else { return };
        if now.saturating_duration_since(due) > Self::CATCH_UP {
            self.anchor = now;
            self.passed = 0;
        }
        self.passed = self.passed.saturating_add(units);
    }
}

/// How long so many units take, rounded up.
fn time_of(per_second: NonZeroU64, units: u64) -> Duration {
    let nanos = (u128::from(units) * 1_000_000_000).div_ceil(u128::from(per_second.get()));
    // A wait of more than a century is one: the clock cannot count every number of nanoseconds.
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX).min(LONGEST_NANOS))
}

const LONGEST_NANOS: u64 = 100 * 365 * 86_400 * 1_000_000_000;

/// How many whole units fit into `time`.
fn units_in(per_second: NonZeroU64, time: Duration) -> u64 {
    u64::try_from(time.as_nanos() * u128::from(per_second.get()) / 1_000_000_000)
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(rows: u32) -> Option<RowsPerSecond> {
        RowsPerSecond::new(rows)
    }

    /// Passes `units` as soon as they may, and answers when that was.
    fn pass(bucket: &mut Bucket, units: u64, now: Instant) -> Instant {
        let at = bucket.due().map_or(now, |due| due.max(now));
        bucket.spend(units, at);
        at
    }

    #[test]
    fn a_rate_holds_exactly_over_the_long_run() {
        // 7 does not divide a second: rounding per page would drift by milliseconds.
        let begun = Instant::now();
        let mut bucket = Bucket::rows(rate(7), begun);
        let mut now = begun;
        for page in 0..10_000 {
            // A page that takes its own time, less than its share.
            now += Duration::from_millis(page % 3 * 40);
            now = pass(&mut bucket, 3, now);
        }
        let ideal = Duration::from_secs_f64(29_997.0 / 7.0);
        let error = (now - begun).abs_diff(ideal);
        assert!(error < Duration::from_millis(90), "off by {error:?}");
    }

    #[test]
    fn a_sleeper_does_not_catch_up_with_a_burst() {
        let begun = Instant::now();
        let mut bucket = Bucket::bytes(BytesPerSecond::new(10), begun);
        pass(&mut bucket, 10, begun);
        let late = begun + Duration::from_secs(3_600);
        let mut now = late;
        for _ in 0..11 {
            now = pass(&mut bucket, 10, now);
        }
        assert!(now - late >= Duration::from_secs(10), "{:?}", now - late);
    }

    #[test]
    fn what_is_owed_stays_owed_at_another_rate() {
        let begun = Instant::now();
        let mut bucket = Bucket::rows(rate(10), begun);
        bucket.spend(100, begun);
        let now = begun + Duration::from_secs(4);
        bucket.go_on_at(Bucket::rows(rate(20), now));
        assert_eq!(bucket.due(), Some(now + Duration::from_secs(3)));
        bucket.go_on_at(Bucket::rows(None, now));
        assert_eq!(bucket.due(), None);
    }
}
