//! Pacing: how fast the worker goes, so that the application does not notice.
//!
//! One [`Pacer`] holds a sweep back before each page, for as long as any of its rules says so:
//!
//! | rule | holds back | unless told otherwise |
//! | --- | --- | --- |
//! | [`Pacing::rows_per_second`] | what passes a fixed rate, exact over the long run | no limit |
//! | [`Pacing::bytes_per_second`] | the same in bytes of values | no limit |
//! | [`Pacing::statement_time`] | nothing: it makes pages smaller or larger, so that the rows of one take this long, what it waits for apart | 100 ms |
//! | [`Pacing::duty`] | so much of the time that the rest is the application's | a twelfth of the time at work; all of it where a rate is set |
//! | a [`Signal`] | everything, while what it reads is above its [`Limit`], or is too old to be believed | none |
//!
//! 1. The slowest rule wins; [`Reason`] says which one it is, in words and as a label.
//! 2. Stale counts as stop: a signal that fails or does not answer holds the worker back as soon as its
//!    last reading is older than its limit allows, and so does one that never answered.
//! 3. On the way to its limit, from seven tenths on, a signal makes the pauses longer; above the limit it
//!    stops the worker, until it is a tenth below: so it does not flap.
//! 4. Nothing waits behind a hold: whoever is held is dropped, resumed or given another rate at once.
//!
//! None of it takes part in correctness: with a clock that lies, copies come too early or too late
//! and are fenced as ever.
//!
//! ```
//! use std::time::Duration;
//! use changeover_sync_worker::pace::{Limit, Pacer, Pacing, RowsPerSecond, Signals};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! let queue = || async { Ok(3.0) };
//! let limit = Limit { most: 10.0, older_than: Duration::from_secs(5) };
//! let signals = Signals::default().watch("queue", queue, limit, Duration::from_secs(1));
//! let pacer = Pacer::new(Pacing::default(), 500, signals);
//! let (held, _) = (pacer.held().expect("nothing was read yet"), pacer.page());
//! assert_eq!(held.reason.to_string(), "signal queue has not answered yet");
//! // A sampler runs beside the work, and ends with it.
//! tokio::select! {
//!     waited = pacer.turn(|_| ()) => assert!(waited < Duration::from_secs(1)),
//!     _ = pacer.sample() => {}
//! }
//! pacer.set_rate(RowsPerSecond::new(5_000));
//! # });
//! # Ok::<(), std::io::Error>(())
//! ```

use std::time::Duration;

mod backoff;
mod duty;
mod pacer;
mod page;
mod rate;
mod reason;
mod signal;
mod signals;

pub use backoff::Backoff;
pub use duty::Duty;
pub use pacer::Pacer;
pub use rate::{BytesPerSecond, RowsPerSecond};
pub use reason::{Held, Reason, Why};
pub use signal::{Limit, Signal, SignalError};
pub use signals::{SignalState, Signals};

/// The rules of a [`Pacer`] that need nobody to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pacing {
    /// Rows (keys) per second; `None` is unlimited.
    pub rows_per_second: Option<RowsPerSecond>,
    /// Bytes of values per second; `None` is unlimited.
    pub bytes_per_second: Option<BytesPerSecond>,
    /// How long the rows of a page shall take; `None` leaves pages at the most rows that they may
    /// have.
    pub statement_time: Option<Duration>,
    /// Which share of the time the worker is at work; `None` is a twelfth, or all of it as long as there is a
    /// rate in rows or bytes.
    pub duty: Option<Duty>,
}

impl Pacing {
    /// As fast as it goes: no rate, pages of the most rows, no pauses.
    pub const UNLIMITED: Pacing = Pacing {
        rows_per_second: None,
        bytes_per_second: None,
        statement_time: None,
        duty: Some(Duty::ALL),
    };
}

impl Default for Pacing {
    /// Adaptive: pages of 100 ms, eleven twelfths of the time left to the application, no fixed rate.
    fn default() -> Pacing {
        Pacing {
            statement_time: Some(Duration::from_millis(100)),
            duty: None,
            ..Pacing::UNLIMITED
        }
    }
}
