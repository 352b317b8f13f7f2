//! [`Backoff`]: the pause before a store is asked again.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

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
