//! [`DrainOptions`].

use std::time::Duration;

use crate::pace::Pacing;

/// How a drain goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainOptions {
    /// Keys per copy, at least 1.
    pub batch: u32,
    /// Copies at a time, at least 1.
    pub concurrency: u32,
    /// The pause after a pass that copied less than a batch.
    pub idle_pause: Duration,
    /// How long keys that wait for others rest between retries.
    pub waiting_pause: Duration,
    /// How long blocked keys rest between retries.
    pub blocked_pause: Duration,
    /// The first pause after a failure; later ones double.
    pub first_pause: Duration,
    /// The longest pause after a failure.
    pub longest_pause: Duration,
    /// Seeds the jitter of pauses.
    pub seed: u64,
    /// How fast it goes. A page has [`batch`](DrainOptions::batch) times
    /// [`concurrency`](DrainOptions::concurrency) keys, or a second's of a fixed rate, whatever a statement
    /// takes. There is no budget of bytes.
    pub pacing: Pacing,
}

impl Default for DrainOptions {
    /// Batches of 100, 4 at a time, 200 ms idle, waiting keys each second, blocked ones each 30 s,
    /// pauses from 100 ms to 10 s, a random seed, and as fast as it goes: what is not copied yet is read
    /// from legacy.
    fn default() -> DrainOptions {
        DrainOptions {
            batch: 100,
            concurrency: 4,
            idle_pause: Duration::from_millis(200),
            waiting_pause: Duration::from_secs(1),
            blocked_pause: Duration::from_secs(30),
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(10),
            seed: rand::random(),
            pacing: Pacing::UNLIMITED,
        }
    }
}

impl DrainOptions {
    /// Keys per page.
    pub(super) fn page(&self) -> u32 {
        let concurrency = self.concurrency.max(1);
        self.batch.max(1).saturating_mul(concurrency)
    }
}
