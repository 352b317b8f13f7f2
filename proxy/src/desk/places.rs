//! Room for work in the background: [`Places`], counted, bounded, shown by a gauge, and waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use metrics::Gauge;
use tokio::sync::Notify;

/// So many pieces of work of one kind at once.
///
/// One counter is the bound, the count and what a drain waits for: a caller who starts work takes it
/// once.
pub(crate) struct Places {
    most: usize,
    taken: AtomicUsize,
    closed: AtomicBool,
    emptied: Notify,
    gauge: Gauge,
}

/// A place that is taken, until dropped.
pub(crate) struct Held {
    places: Arc<Places>,
}

impl Places {
    /// At most `most`, as `gauge` shows them.
    pub(crate) fn new(most: usize, gauge: Gauge) -> Arc<Places> {
        Arc::new(Places {
            most,
            taken: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            emptied: Notify::new(),
            gauge,
        })
    }

    /// A place, if one is free.
    #[inline]
    pub(crate) fn take(self: &Arc<Self>) -> Option<Held> {
        self.reserve().then(|| self.reserved())
    }

    /// Takes a place, if one is free, that whoever asks has to [give back](Places::give_back), or to have
    /// [held](Places::reserved).
    #[inline]
    pub(crate) fn reserve(&self) -> bool {
        let more = |taken| (taken < self.most).then_some(taken + 1);
        let taken = self
            .taken
            .fetch_update(Ordering::SeqCst, Ordering::Relaxed, more);
        if taken.is_ok() {
            self.gauge.increment(1.0);
        }
        taken.is_ok()
    }

    /// The place that was reserved.
    pub(crate) fn reserved(self: &Arc<Self>) -> Held {
        Held {
            places: Arc::clone(self),
        }
    }

    /// Gives a place back.
    pub(crate) fn give_back(&self) {
        self.gauge.decrement(1.0);
        // The last one asks after it has left whether somebody waits, who has said so before counting.
        if self.taken.fetch_sub(1, Ordering::SeqCst) == 1 && self.closed.load(Ordering::SeqCst) {
            self.emptied.notify_waiters();
        }
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    /// Says that [`emptied`](Places::emptied) will be asked. Places are given as before; whoever wants
    /// to give none asks [`is_closed`](Places::is_closed).
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Waits until none is taken, for a moment at least; beside callers that go on it may miss such moments.
    /// To be called after [`close`](Places::close).
    ///
    /// Cancellation safe.
    pub(crate) async fn emptied(&self) {
        loop {
            // Whoever leaves after the look below tells it.
            let told = self.emptied.notified();
            if self.taken() == 0 {
                return;
            }
            told.await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.places.give_back();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn so_many_are_given_and_the_last_one_back_is_told() {
        let places = Places::new(2, Gauge::noop());
        let (first, second) = (places.take(), places.take());
        assert!(first.is_some() && second.is_some() && places.take().is_none());
        assert_eq!(places.taken(), 2);
        places.close();
        let mut emptied = Box::pin(places.emptied());
        assert!(emptied.as_mut().now_or_never().is_none());
        drop(first);
        assert!(emptied.as_mut().now_or_never().is_none());
        drop(second);
        assert!(emptied.as_mut().now_or_never().is_some());
        assert!(places.take().is_some(), "closed, it gives places");
    }

    #[test]
    fn none_is_none() {
        assert!(Places::new(0, Gauge::noop()).take().is_none());
    }

    /// Many threads: never more than there are, and whoever waits is told in the end.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn the_bound_holds_for_threads_that_come_and_go() {
        let places = Places::new(3, Gauge::noop());
        let workers: Vec<_> = (0..8)
            .map(|_| {
                let places = Arc::clone(&places);
                tokio::spawn(async move {
                    let mut most = 0;
                    for _ in 0..2_000 {
                        let place = places.take();
                        most = most.max(places.taken());
                        tokio::task::yield_now().await;
                        drop(place);
                    }
                    most
                })
            })
            .collect();
        places.close();
        for worker in workers {
            assert!(worker.await.expect("no panic") <= 3);
        }
        let emptied = tokio::time::timeout(std::time::Duration::from_secs(10), places.emptied());
        emptied.await.expect("all have left");
    }
}
