//! [`Signals`]: what is watched while the worker is at work.

use std::convert::Infallible;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::reason::{Held, Reason, Why};
use super::signal::{Gauge, Limit, Signal};

/// Signals with their limits. A clone knows the same readings.
#[derive(Clone, Default)]
pub struct Signals(Vec<Arc<Watched>>);

struct Watched {
    name: Arc<str>,
    every: Duration,
    signal: Box<dyn Signal>,
    gauge: Mutex<Gauge>,
}

/// What is known of one signal.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalState {
    /// Its name.
    pub name: Arc<str>,
    /// What it may read.
    pub limit: Limit,
    /// What was read last, however long ago; `None` before.
    pub value: Option<f64>,
    /// Why it holds the worker back; `None` while it does not.
    pub holds: Option<Why>,
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|watched| &watched.name);
        f.debug_tuple("Signals")
            .field(&names.collect::<Vec<_>>())
            .finish()
    }
}

impl Signals {
    /// No signal is read more often than this.
    pub const MOST_OFTEN: Duration = Duration::from_millis(10);

    /// Watches one more: reads `signal` each time that `every` has passed, one read at a time. `name`
    /// is shown and is a metric's label: short, and none of [`Reason::LABELS`].
    #[must_use]
    pub fn watch(
        mut self,
        name: &str,
        signal: impl Signal,
        limit: Limit,
        every: Duration,
    ) -> Signals {
        self.0.push(Arc::new(Watched {
            name: name.into(),
            every: every.max(Self::MOST_OFTEN),
            signal: Box::new(signal),
            gauge: Mutex::new(Gauge::new(limit)),
        }));
        self
    }

    /// Watches those of `others` as well.
    #[must_use]
    pub fn and(mut self, others: Signals) -> Signals {
        self.0.extend(others.0);
        self
    }

    /// What is known of each, in the order in which they were added.
    #[must_use]
    pub fn states(&self) -> Vec<SignalState> {
        let now = Instant::now();
        let state = |watched: &Arc<Watched>| {
            let gauge = watched.gauge();
            SignalState {
                name: Arc::clone(&watched.name),
                limit: gauge.limit(),
                value: gauge.last(),
                holds: gauge.holds(now).map(|(why, _)| why),
            }
        };
        self.0.iter().map(state).collect()
    }

    /// Reads each once, all at the same time, within its limit's age.
    pub async fn read_once(&self) {
        join_all(self.0.iter().map(|watched| watched.read())).await;
    }

    /// Reads each again and again, and says so through `heard`. Never ends.
    pub(super) async fn sample(&self, heard: &Notify) -> Infallible {
        let samplers = self.0.iter().map(|watched| async {
            loop {
                let next = Instant::now() + watched.every;
                watched.read().await;
                heard.notify_waiters();
                tokio::time::sleep_until(next).await;
            }
        });
        join_all(samplers).await;
        std::future::pending().await
    }

    /// The first that holds the worker back.
    pub(super) fn held(&self, now: Instant) -> Option<Held> {
        self.0.iter().find_map(|watched| {
            let (why, until) = watched.gauge().holds(now)?;
            let name = Arc::clone(&watched.name);
            Some(Held {
                reason: Reason::Signal { name, why },
                until,
            })
        })
    }

    /// How near the nearest one is to its limit, as a share of it.
    pub(super) fn load(&self) -> f64 {
        let loads = self.0.iter().map(|watched| watched.gauge().load());
        loads.fold(0.0, f64::max)
    }
}

impl Watched {
    async fn read(&self) {
        let (asked, within) = (Instant::now(), self.gauge().limit().older_than);
        // A signal is somebody else's code, or query: its panic is its own, and so is its patience.
        let read = AssertUnwindSafe(async { self.signal.read().await }).catch_unwind();
        let answer = match tokio::time::timeout(within, read).await {
            Ok(Ok(answer)) => answer.map_err(|error| error.to_string()),
            Ok(Err(_)) => Err("it panicked".to_owned()),
            Err(_) => Err(format!("no answer within {:.0} s", within.as_secs_f64())),
        };
        self.gauge().heard(asked, answer);
    }

    fn gauge(&self) -> MutexGuard<'_, Gauge> {
        self.gauge.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
