//! The application's own latency, for the worker's pace.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use changeover_flags::Place;
use changeover_proxy::Handle;
use changeover_shadow::LatencyCounts;
use changeover_sync_worker::pace::{Signal, SignalError};
use tokio::time::Instant;

/// So many reads between two looks are no trickle: where none ends between the next two, that is no
/// chance (by Poisson's law, one in e²⁰).
const STEADY: u64 = 20;

/// For how long reads that ceased are taken for stuck ones; after that, for none.
const STUCK: Duration = Duration::from_secs(60);

/// How long the reads behind `layer` took that were sent to `place`: 95 of 100 of those that ended since
/// it was read before, in milliseconds; 0 if there were none.
///
/// # Errors
///
/// Where twenty reads or more ended between two looks and none since, they may all be stuck: for a minute,
/// or until one ends, that is no reading, and the limit's `older_than` says when it holds the worker back.
/// An application whose reads have all ended, and which has none any more, looks the same for that minute.
///
/// ```
/// # use std::time::Duration;
/// use changeover::flags::Place;
/// use changeover::wiring::{RunOptions, read_latency_ms};
/// use changeover::worker::pace::{Limit, Signals};
///
/// # fn options(handle: changeover::proxy::Handle) -> RunOptions {
/// let limit = Limit { most: 50.0, older_than: Duration::from_secs(10) };
/// let latency = read_latency_ms(handle, Place::Legacy);
/// let signals = Signals::default().watch("read_latency_ms", latency, limit, Duration::from_secs(2));
/// RunOptions { signals, ..RunOptions::default() }
/// # }
/// ```
pub fn read_latency_ms(layer: Handle, place: Place) -> impl Signal {
    let seen = Mutex::new(Seen {
        counts: layer.took(place),
        ceased: None,
        steady: false,
    });
    move || {
        let now = layer.took(place);
        let read = seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .look(now);
        async move { read }
    }
}

/// What was there at the last look.
struct Seen {
    counts: LatencyCounts,
    /// Whether many had ended at it.
    steady: bool,
    /// Since when none ends.
    ceased: Option<Instant>,
}

impl Seen {
    fn look(&mut self, now: LatencyCounts) -> Result<f64, SignalError> {
        let since = now.since(&self.counts).quantiles();
        self.counts = now;
        if since.count > 0 {
            (self.steady, self.ceased) = (since.count >= STEADY, None);
            return Ok(since.p95_ms.unwrap_or(0.0));
        }
        if !self.steady {
            return Ok(0.0);
        }
        let ceased = *self.ceased.get_or_insert_with(Instant::now);
        if ceased.elapsed() < STUCK {
            return Err("no read has ended since: they may be stuck".into());
        }
        self.steady = false;
        Ok(0.0)
    }
}

#[cfg(test)]
mod tests {
    use changeover_shadow::Latency;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn reads_that_cease_to_end_are_no_reading_for_a_minute() {
        let latency = Latency::default();
        let mut seen = Seen {
            counts: latency.counts(),
            ceased: None,
            steady: false,
        };
        let took = |reads: u64| (0..reads).for_each(|_| latency.record(Duration::from_millis(3)));
        took(STEADY - 1);
        assert!(seen.look(latency.counts()).is_ok_and(|ms| ms >= 3.0));
        // Now and then one: none is no news.
        assert_eq!(seen.look(latency.counts()).ok(), Some(0.0));
        took(STEADY);
        assert!(seen.look(latency.counts()).is_ok_and(|ms| ms >= 3.0));
        for _ in 0..2 {
            assert!(seen.look(latency.counts()).is_err());
            tokio::time::advance(STUCK - Duration::from_secs(1)).await;
            assert!(seen.look(latency.counts()).is_err());
            took(STEADY);
            assert!(seen.look(latency.counts()).is_ok_and(|ms| ms >= 3.0));
        }
        assert!(seen.look(latency.counts()).is_err());
        tokio::time::advance(STUCK).await;
        assert_eq!(seen.look(latency.counts()).ok(), Some(0.0), "idle");
        assert_eq!(seen.look(latency.counts()).ok(), Some(0.0), "and stays so");
    }
}
