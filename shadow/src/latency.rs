//! [`Latency`]: how long one side took, as a histogram in fixed memory.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

/// Eight buckets for each doubling, from a microsecond to four hours.
const BUCKETS: usize = 256;

/// A lock-free histogram of times. A quantile is at most an eighth too high.
#[derive(Debug)]
pub struct Latency([AtomicU64; BUCKETS]);

/// The quantiles of a [`Latency`], in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantiles {
    /// How many times were counted.
    pub count: u64,
    /// Half of them were no longer than this; `None` without any.
    pub p50_ms: Option<f64>,
    /// 95 of 100.
    pub p95_ms: Option<f64>,
    /// 99 of 100.
    pub p99_ms: Option<f64>,
}

impl Latency {
    /// Nothing measured.
    #[must_use]
    pub fn new() -> Latency {
        Latency(array::from_fn(|_| AtomicU64::new(0)))
    }

    /// Counts one time. What is longer than four hours counts as that.
    pub fn record(&self, took: Duration) {
        self.record_many(took, 1);
    }

    /// Counts one time as `times` of them: it was measured and stands for others that were not.
    pub fn record_many(&self, took: Duration, times: u64) {
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.0.get(bucket(microseconds)) {
            bucket.fetch_add(times, Ordering::Relaxed);
        }
    }

    /// The quantiles so far.
    #[must_use]
    pub fn quantiles(&self) -> Quantiles {
        self.counts().quantiles()
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> LatencyCounts {
        let buckets = self.0.each_ref();
        LatencyCounts(buckets.map(|bucket| bucket.load(Ordering::Relaxed)))
    }
}

/// What a [`Latency`] had counted at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatencyCounts([u64; BUCKETS]);

impl LatencyCounts {
    /// What was counted since an earlier moment of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &LatencyCounts) -> LatencyCounts {
        let mut counts = self.0;
        for (count, earlier) in counts.iter_mut().zip(earlier.0) {
            *count = count.saturating_sub(earlier);
        }
        LatencyCounts(counts)
    }

    /// Their quantiles.
    #[must_use]
    pub fn quantiles(&self) -> Quantiles {
        let counts = &self.0;
        let count: u64 = counts.iter().sum();
        let at = |share: u64| {
            let rank = (count * share).div_ceil(100).max(1);
            let mut seen = 0;
            let reached = |bucket: &u64| {
                seen += bucket;
                seen >= rank
            };
            counts
                .iter()
                .position(reached)
                .map(|index| end(index) as f64 / 1_000.0)
        };
        Quantiles {
            count,
            p50_ms: at(50),
            p95_ms: at(95),
            p99_ms: at(99),
        }
    }
}

impl Default for Latency {
    fn default() -> Latency {
        Latency::new()
    }
}

fn bucket(microseconds: u64) -> usize {
    let doublings = microseconds.checked_ilog2().unwrap_or(0);
    if doublings < 3 {
        return usize::try_from(microseconds).unwrap_or(0);
    }
    let eighth = usize::try_from((microseconds >> (doublings - 3)) & 7).unwrap_or(7);
    let doubling = usize::try_from(doublings - 2).unwrap_or(usize::MAX);
    doubling
        .saturating_mul(8)
        .saturating_add(eighth)
        .min(BUCKETS - 1)
}

/// The first microsecond after a bucket.
fn end(index: usize) -> u64 {
    let index = u64::try_from(index + 1).unwrap_or(u64::MAX);
    match index / 8 {
        0 => index,
        doubling => (8 + index % 8) << (doubling - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_at_most_an_eighth_too_high() {
        for microseconds in (0..70).chain([999, 1_000, 123_456, 86_400_000, 14_000_000_000]) {
            let (index, after) = (bucket(microseconds), end(bucket(microseconds)));
            assert!(
                after > microseconds && after <= microseconds + microseconds / 8 + 1,
                "{microseconds}"
            );
            assert!(
                index == 0 || end(index - 1) <= microseconds,
                "{microseconds}"
            );
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        let latency = Latency::new();
        assert_eq!(latency.quantiles().p50_ms, None);
        (1..=100).for_each(|ms| latency.record(Duration::from_millis(ms)));
        let quantiles = latency.quantiles();
        let near = |found: Option<f64>, ms: f64| {
            found.is_some_and(|found| found >= ms && found <= ms * 1.13)
        };
        assert!(
            near(quantiles.p50_ms, 50.0) && near(quantiles.p95_ms, 95.0),
            "{quantiles:?}"
        );
        assert!(near(quantiles.p99_ms, 99.0) && quantiles.count == 100);
        let earlier = latency.counts();
        assert_eq!(latency.counts().since(&earlier).quantiles().count, 0);
        latency.record(Duration::from_millis(7));
        let late = latency.counts().since(&earlier).quantiles();
        assert!(near(late.p99_ms, 7.0) && late.count == 1, "{late:?}");
        latency.record_many(Duration::from_millis(9), 16);
        let late = latency.counts().since(&earlier).quantiles();
        assert!(near(late.p50_ms, 9.0) && late.count == 17, "{late:?}");
    }
}
