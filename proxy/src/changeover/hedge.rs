//! The authority, asked beside a follower that is slow to answer.
//!
//! 1. Off by default: [`Builder::hedge_after`](super::Builder::hedge_after).
//! 2. While the follower has not answered after that time, the authority is asked as well, once. The
//!    first good answer is the caller's. A follower that lost is dropped, as at the end of its time. The
//!    authority's call goes on behind the answer: cut off where it stands, it could leave a connection
//!    of the application's pool inside a transaction. It is given the room and the time of a shadow
//!    read; where there is none, it is dropped after all.
//! 3. What is good is said as without a hedge: the follower's *not found*, error and panic are not, and
//!    the authority's answer is waited for. The authority's error or panic is not, while the follower may
//!    still answer.
//! 4. The follower's time limit stays what it is.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use changeover_flags::Place;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle as Runtime;
use tokio::time::{Instant, Sleep, sleep, timeout_at};

use crate::desk::Desk;
use crate::metrics::{HedgeEnd, Metrics, Once, StoreEnd, StoreKind};

/// A call of the authority that may come to be made.
pub(super) struct Hedge<Res, E> {
    after: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    asked: Option<Asked<Res, E>>,
}

/// A call of the authority beside the follower's.
pub(super) struct Asked<Res, E> {
    since: Instant,
    /// What it is, or was, to answer.
    answer: BoxFuture<'static, Result<Res, E>>,
    /// How long it took to fail. It is not polled again but for its failure.
    failed: Option<Duration>,
    /// How the hedge ends, unless it is told otherwise: with its caller gone.
    count: Once,
}

impl<Res: Send + 'static, E: Send + 'static> Hedge<Res, E> {
    pub(super) fn new(after: Duration) -> Hedge<Res, E> {
        Hedge {
            after,
            timer: None,
            asked: None,
        }
    }

    /// A good answer of the authority, once the time has come; `ask` begins its call. The time is
    /// counted from the first poll.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        metrics: &Metrics,
        ask: impl FnOnce() -> BoxFuture<'static, Result<Res, E>>,
    ) -> Poll<Result<Res, E>> {
        if self.asked.is_none() {
            let timer = &mut self.timer;
            let timer = timer.get_or_insert_with(|| Box::pin(sleep(self.after)));
            ready!(timer.as_mut().poll(cx));
        }
        let asked = self.asked.get_or_insert_with(|| Asked {
            since: Instant::now(),
            answer: ask(),
            failed: None,
            count: metrics.hedge(),
        });
        asked.poll_good(cx)
    }

    /// The authority's call, if it was made.
    pub(super) fn into_asked(self) -> Option<Asked<Res, E>> {
        self.asked
    }
}

impl<Res: Send + 'static, E: Send + 'static> Asked<Res, E> {
    fn poll_good(&mut self, cx: &mut Context<'_>) -> Poll<Result<Res, E>> {
        if self.failed.is_some() {
            return Poll::Pending;
        }
        let polled = catch_unwind(AssertUnwindSafe(|| self.answer.as_mut().poll(cx)));
        self.answer = match polled {
            Ok(Poll::Ready(Err(error))) => Box::pin(async { Err(error) }),
            Err(panic) => Box::pin(async { resume_unwind(panic) }),
            Ok(good_or_pending) => return good_or_pending,
        };
        self.failed = Some(self.since.elapsed());
        Poll::Pending
    }

    /// The caller has its answer; how long it took.
    pub(super) fn end(self, metrics: &Metrics, end: HedgeEnd) -> Duration {
        self.count.end(metrics.hedge_counter(end));
        self.failed.unwrap_or_else(|| self.since.elapsed())
    }

    /// The authority's answer or failure, and how long it took: the follower has failed.
    pub(super) async fn answer(mut self, metrics: &Metrics) -> (Result<Res, E>, Duration) {
        let answer = self.answer.as_mut().await;
        let end = match answer {
            Ok(_) => HedgeEnd::Authority,
            Err(_) => HedgeEnd::Neither,
        };
        (answer, self.end(metrics, end))
    }

    /// The follower was first: the call of the authority at `place` goes on behind the answer.
    pub(super) fn lost(self, desk: &Arc<Desk>, place: Place) {
        let (since, limit) = (self.since, desk.limits.shadow_time);
        let counted = move |desk: &Desk, end, took| {
            desk.metrics.store(place, StoreKind::Read, end, took);
        };
        self.count
            .end(desk.metrics.hedge_counter(HedgeEnd::Follower));
        if let Some(took) = self.failed {
            return counted(desk, StoreEnd::Error, took);
        }
        let (Some(held), Ok(runtime)) = (desk.shadows.take(), Runtime::try_current()) else {
            return counted(desk, StoreEnd::Timeout, since.elapsed());
        };
        let desk = Arc::clone(desk);
        let rest = async move {
            let answer = AssertUnwindSafe(timeout_at(since + limit, self.answer)).catch_unwind();
            let end = match answer.await {
                Ok(Ok(answer)) => StoreEnd::of(&answer),
                Ok(Err(_late)) => StoreEnd::Timeout,
                Err(_panic) => StoreEnd::Error,
            };
            counted(&desk, end, since.elapsed());
            drop(held);
        };
        drop(runtime.spawn(rest));
    }
}
