//! How far the follower is behind, asked as seldom as will do.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use changeover_sync_worker::copy::Copier;
use changeover_sync_worker::store;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::status::Lag;
use crate::wiring::Wiring;

/// The last answer is good for so long, and a question may take so long.
const FRESH: Duration = Duration::from_secs(1);

/// What the authority said last. One question at a time, on a connection of its own.
pub(super) struct LastLag {
    copier: Option<Copier>,
    asking: Semaphore,
    last: Mutex<Option<(Instant, store::Lag)>>,
}

impl LastLag {
    pub(super) fn new(wiring: Option<&Wiring>) -> LastLag {
        LastLag {
            copier: wiring.map(|wiring| wiring.migration().copier_apart(1)),
            asking: Semaphore::new(1),
            last: Mutex::default(),
        }
    }

    /// The lag and its age; `None` if it was never told.
    pub(super) async fn get(&self) -> Option<Lag> {
        let fresh = self.known().is_some_and(|(at, _)| at.elapsed() < FRESH);
        if !fresh
            && let Some(copier) = &self.copier
            // Whoever finds somebody asking is content with what was said last.
            && let Ok(_asking) = self.asking.try_acquire()
        {
            match tokio::time::timeout(FRESH, copier.authority().lag()).await {
                Ok(Ok(lag)) => self.know(lag),
                Ok(Err(error)) => tracing::warn!(%error, "asking for the lag"),
                Err(_elapsed) => tracing::warn!("the authority did not tell its lag in time"),
            }
        }
        self.known().map(|(at, lag)| Lag {
            dirty: lag.dirty,
            waiting: lag.waiting,
            blocked: lag.blocked,
            seconds_old: at.elapsed().as_secs_f64(),
        })
    }

    fn known(&self) -> Option<(Instant, store::Lag)> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn know(&self, lag: store::Lag) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((Instant::now(), lag));
    }
}

impl fmt::Debug for LastLag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LastLag").field(&self.known()).finish()
    }
}
