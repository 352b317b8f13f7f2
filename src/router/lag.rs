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
        if let Some(copier) = &self.copier {
            self.refresh(copier.authority().lag()).await;
        }
        self.known().map(|(at, lag)| Lag {
            dirty: lag.dirty,
            waiting: lag.waiting,
            blocked: lag.blocked,
            seconds_old: at.elapsed().as_secs_f64(),
        })
    }

    /// Asks this question, unless the last answer is good.
    async fn refresh<E: fmt::Display>(
        &self,
        question: impl Future<Output = Result<store::Lag, E>>,
    ) {
        let fresh = self.known().is_some_and(|(at, _)| at.elapsed() < FRESH);
        if !fresh
            // Whoever finds somebody asking is content with what was said last.
            && let Ok(_asking) = self.asking.try_acquire()
        {
            match tokio::time::timeout(FRESH, question).await {
                Ok(Ok(lag)) => self.know(lag),
                Ok(Err(error)) => tracing::warn!(%error, "asking for the lag"),
                Err(_elapsed) => tracing::warn!("the authority did not tell its lag in time"),
            }
        }
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;

    use futures_util::future::join;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_question_a_second_and_one_at_a_time() {
        let (last, asked) = (LastLag::new(None), Cell::new(0));
        let refresh = || {
            last.refresh(async {
                asked.set(asked.get() + 1);
                tokio::time::sleep(FRESH / 4).await;
                Ok::<_, Infallible>(store::Lag::default())
            })
        };
        // Whoever comes meanwhile does not wait.
        join(refresh(), refresh()).await;
        for _ in 0..10 {
            refresh().await;
        }
        assert_eq!(asked.get(), 1);
        tokio::time::sleep(FRESH).await;
        for _ in 0..10 {
            refresh().await;
        }
        assert_eq!(asked.get(), 2);
    }
}
