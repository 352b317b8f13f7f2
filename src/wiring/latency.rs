//! The application's own latency, for the worker's pace.

use std::sync::{Mutex, PoisonError};

use changeover_flags::Place;
use changeover_proxy::Handle;
use changeover_sync_worker::pace::Signal;

/// How long the reads behind `layer` took that were sent to `place`: 95 of 100 of those that ended since
/// it was read before, in milliseconds; 0 if there were none.
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
    let before = Mutex::new(layer.took(place));
    move || {
        let now = layer.took(place);
        let mut before = before.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.since(&before).quantiles();
        *before = now;
        async move { Ok(since.p95_ms.unwrap_or(0.0)) }
    }
}
