//! The authority, asked beside a follower that is slow to answer.
//!
//! 1. Off by default: [`Builder::hedge_after`](super::Builder::hedge_after).
//! 2. While the follower has not answered after that time, the authority is asked as well, once. The
//!    first good answer is the caller's; the other call is dropped where it stands.
//! 3. What is good is said as without a hedge: the follower's *not found*, error and panic are not, and
//!    the authority's answer is waited for. The authority's error or panic is not, while the follower may
//!    still answer.
//! 4. The follower's time limit stays what it is.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, Sleep, sleep};

use crate::metrics::{HedgeEnd, Metrics, Once};

/// A call of the authority that may come to be made.
pub(super) struct Hedge<Res, E> {
    after: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    asked: Option<Asked<Res, E>>,
}

/// A call of the authority beside the follower's.
pub(super) struct Asked<Res, E> {
    pub(super) since: Instant,
    /// What it is, or was, to answer.
    pub(super) answer: BoxFuture<'static, Result<Res, E>>,
    /// It has failed, and is not polled again but for its failure.
    failed: bool,
    /// How the hedge ends, unless it is told otherwise: with its caller gone.
    pub(super) count: Once,
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
            failed: false,
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
        if self.failed {
            return Poll::Pending;
        }
        let polled = catch_unwind(AssertUnwindSafe(|| self.answer.as_mut().poll(cx)));
        self.answer = match polled {
            Ok(Poll::Ready(Err(error))) => Box::pin(async { Err(error) }),
            Err(panic) => Box::pin(async { resume_unwind(panic) }),
            Ok(good_or_pending) => return good_or_pending,
        };
        self.failed = true;
        Poll::Pending
    }

    /// The caller has its answer.
    pub(super) fn end(self, metrics: &Metrics, end: HedgeEnd) {
        self.count.end(metrics.hedge_counter(end));
    }
}
