//! The follower's answer to a read, or the authority's after all.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use pin_project_lite::pin_project;
use tokio::runtime::Handle as Runtime;
use tokio::time::{Instant, Sleep, sleep};
use tower_service::Service;

use super::hedge::Hedge;
use crate::call::Kind;
use crate::metrics::{End, HedgeEnd, StoreEnd, StoreKind, Took};
use crate::plan::{Plan, Routed};
use crate::ready::Taken;
use crate::route::Reason;
use crate::served::{Because, Fallback};
use crate::shadow_read::Shadow;

pin_project! {
    /// Polls the follower in place, for a limited time. Its error, panic, slowness and *not found*
    /// are re-asked at the authority. Neither a timer nor the authority's call is made before it is
    /// needed.
    pub(super) struct Following<F, Res, E> {
        // `None` if the call itself panicked.
        #[pin]
        follower: Option<F>,
        limit: Option<Pin<Box<Sleep>>>,
        rest: Option<Box<dyn Else<Res, E>>>,
        authority: Option<BoxFuture<'static, Result<Res, E>>>,
    }
}

/// What is left to do when the follower has answered, or has not.
pub(super) trait Else<Res, E>: Send {
    /// Whether this process has begun to write what is read, since the call was routed.
    fn pinned(&self) -> bool;

    /// Whether the caller may have this answer of the follower.
    fn shows(&self, answer: &Result<Res, E>) -> bool;

    /// The caller begins to wait. For the follower alone it does so for this long: never more than
    /// half of what it has left.
    fn waits(&mut self) -> Duration;

    /// A good answer of the authority, which is asked beside a follower that is slow.
    fn poll_hedge(&mut self, cx: &mut Context<'_>) -> Poll<Result<Res, E>>;

    /// The caller gets that answer.
    fn overtaken(self: Box<Self>, answer: &mut Result<Res, E>);

    /// The caller gets the follower's answer.
    fn answered(self: Box<Self>, answer: &mut Result<Res, E>);

    /// The authority is asked: after the follower failed, or because it may not be waited for.
    fn instead(
        self: Box<Self>,
        why: Result<(StoreEnd, Fallback), Reason>,
    ) -> BoxFuture<'static, Result<Res, E>>;
}

/// Why there is an authority to be asked.
const UNASKED: &str = "the authority is asked once: instead of the follower, or beside it";

/// A read and the authority it may need.
pub(super) struct Reading<A, Req, Res, E> {
    pub(super) plan: Arc<Plan<Req, Res, E>>,
    pub(super) routed: Routed,
    /// Taken when the authority is asked.
    pub(super) authority: Option<(Taken<A>, Req)>,
    pub(super) hedge: Option<Box<Hedge<Res, E>>>,
    pub(super) shadow: Option<Box<Shadow<Req, Res, E>>>,
    /// When the follower was asked, if that was later than its call.
    pub(super) asked: Option<Instant>,
}

impl<F, Res, E> Following<F, Res, E> {
    /// `follower` is the follower's answer, or `None` if calling it panicked.
    pub(super) fn new(follower: Option<F>, rest: Box<dyn Else<Res, E>>) -> Self {
        Following {
            follower,
            limit: None,
            rest: Some(rest),
            authority: None,
        }
    }
}

impl<F, Res, E> Future for Following<F, Res, E>
where
    F: Future<Output = Result<Res, E>>,
{
    type Output = Result<Res, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(mut rest) = this.rest.take() {
            // A write may have begun since the call was routed.
            let why = if this.limit.is_none() && rest.pinned() {
                Err(Reason::Pinned)
            } else {
                // What the application's own hook says of the answer is contained like the answer.
                let answer = catch_unwind(AssertUnwindSafe(|| {
                    let Some(follower) = this.follower.as_mut().as_pin_mut() else {
                        return Err(Fallback::Panic);
                    };
                    let answer = follower.poll(cx);
                    let shown = matches!(&answer, Poll::Ready(answer) if rest.shows(answer));
                    Ok((answer, shown))
                }));
                match answer {
                    Ok(Ok((Poll::Ready(mut answer), true))) => {
                        rest.answered(&mut answer);
                        return Poll::Ready(answer);
                    }
                    Ok(Ok((Poll::Ready(Ok(_)), false))) => Ok((StoreEnd::Ok, Fallback::NotFound)),
                    Ok(Ok((Poll::Ready(Err(_)), false))) => Ok((StoreEnd::Error, Fallback::Error)),
                    Err(_) | Ok(Err(_)) => Ok((StoreEnd::Error, Fallback::Panic)),
                    // Called within a runtime and polled outside: there is no timer to limit it.
                    Ok(Ok((Poll::Pending, _)))
                        if this.limit.is_none() && Runtime::try_current().is_err() =>
                    {
                        Err(Reason::Plain)
                    }
                    Ok(Ok((Poll::Pending, _))) => {
                        let limit = this.limit;
                        let limit = limit.get_or_insert_with(|| Box::pin(sleep(rest.waits())));
                        if let Poll::Ready(mut answer) = rest.poll_hedge(cx) {
                            this.follower.set(None);
                            rest.overtaken(&mut answer);
                            return Poll::Ready(answer);
                        }
                        if limit.as_mut().poll(cx).is_pending() {
                            *this.rest = Some(rest);
                            return Poll::Pending;
                        }
                        Ok((StoreEnd::Timeout, Fallback::Timeout))
                    }
                }
            };
            this.follower.set(None);
            *this.authority = Some(rest.instead(why));
        }
        let authority = this.authority.as_mut();
        authority
            .expect("polled after it was ready")
            .as_mut()
            .poll(cx)
    }
}

impl<A, Req, Res, E> Else<Res, E> for Reading<A, Req, Res, E>
where
    A: Service<Req, Response = Res, Error = E> + Send + 'static,
    A::Future: Send,
    Req: Send + 'static,
    Res: Send + 'static,
    E: Send + 'static,
{
    fn pinned(&self) -> bool {
        self.plan.desk.pinned(&self.routed.operation)
    }

    fn shows(&self, answer: &Result<Res, E>) -> bool {
        let one_row = self.routed.operation.kind == Kind::Read;
        answer
            .as_ref()
            .is_ok_and(|answer| !one_row || (self.plan.found)(answer))
    }

    fn waits(&mut self) -> Duration {
        self.routed.call.timed();
        let own = self.plan.desk.limits.follower_time;
        match self.routed.operation.timeout {
            Some(deadline) => own.min(deadline.saturating_sub(self.routed.call.elapsed()) / 2),
            None => own,
        }
    }

    fn poll_hedge(&mut self, cx: &mut Context<'_>) -> Poll<Result<Res, E>> {
        let Some(hedge) = &mut self.hedge else {
            return Poll::Pending;
        };
        let authority = &mut self.authority;
        hedge.poll(cx, &self.plan.desk.metrics, || {
            let (authority, request) = authority.take().expect(UNASKED);
            Box::pin(authority.call(request))
        })
    }

    fn overtaken(mut self: Box<Self>, answer: &mut Result<Res, E>) {
        self.plan.desk.metrics.fallback(Fallback::Hedge);
        if let Some(asked) = self.hedge.take().and_then(|hedge| hedge.into_asked()) {
            let took = asked.end(&self.plan.desk.metrics, HedgeEnd::Authority);
            // It has not ended, and nobody will know how long it would have taken: at least so long.
            self.followed(StoreEnd::Timeout);
            self.answered_by_authority(answer, took, Because::Fallback(Fallback::Hedge));
        }
    }

    // Nothing is moved out of the box, which is large.
    fn answered(mut self: Box<Self>, answer: &mut Result<Res, E>) {
        let took = self.followed(StoreEnd::Ok);
        let hedge = self.hedge.take();
        let plan = &self.plan;
        let Routed { decided, call, .. } = &mut self.routed;
        let follower = decided.route.answered_by;
        if let Some(asked) = hedge.and_then(|hedge| hedge.into_asked()) {
            asked.lost(&plan.desk, decided.route.authority);
        }
        // Asked at the beginning of the call, the clock need not be asked again.
        let waited = match self.asked {
            None => took,
            Some(_later) => call.took(),
        };
        call.end_after(End::FollowerOk, waited);
        if let Some(shadow) = self.shadow.take() {
            shadow.start(&plan.desk, follower, answer, took);
        }
        let because = Because::Routed(decided.route.because);
        if let Some(marking) = plan.marking(follower, because) {
            marking.put(answer);
        }
    }

    fn instead(
        mut self: Box<Self>,
        why: Result<(StoreEnd, Fallback), Reason>,
    ) -> BoxFuture<'static, Result<Res, E>> {
        let because = match why {
            Ok((failure, reason)) => {
                self.followed(failure);
                self.plan.desk.metrics.fallback(reason);
                Because::Fallback(reason)
            }
            Err(reason) => {
                self.sent_home(reason);
                Because::Routed(reason)
            }
        };
        self.routed.call.timed();
        Box::pin(self.by_authority(because))
    }
}

impl<A, Req, Res, E> Reading<A, Req, Res, E>
where
    A: Service<Req, Response = Res, Error = E>,
    Req: Send + 'static,
    Res: Send + 'static,
    E: Send + 'static,
{
    /// The follower is not waited for any longer. How long it was, if its read is timed.
    fn followed(&self, end: StoreEnd) -> Option<Took> {
        let took = match self.asked {
            None => self.routed.call.took(),
            Some(asked) => Some(asked.elapsed().into()),
        }?;
        let follower = self.routed.decided.route.answered_by;
        let metrics = &self.plan.desk.metrics;
        metrics.store(follower, StoreKind::Read, end, took);
        Some(took)
    }

    /// The table would send it to the authority now.
    fn sent_home(&mut self, because: Reason) {
        let Routed { decided, call, .. } = &mut self.routed;
        let route = &mut decided.route;
        (route.answered_by, route.because) = (route.authority, because);
        call.sent(route);
    }

    /// The authority's answer, and why it is the authority's.
    pub(super) async fn by_authority(mut self: Box<Self>, because: Because) -> Result<Res, E> {
        self.routed.call.on_drop(End::Cancelled);
        let asked = self.hedge.take().and_then(|hedge| hedge.into_asked());
        let (mut answer, took) = match asked {
            Some(asked) => asked.answer(&self.plan.desk.metrics).await,
            None => {
                let (authority, request) = self.authority.take().expect(UNASKED);
                let began = Instant::now();
                (authority.call(request).await, began.elapsed())
            }
        };
        self.answered_by_authority(&mut answer, took, because);
        answer
    }

    /// The caller gets the authority's answer, which took so long.
    fn answered_by_authority(
        &mut self,
        answer: &mut Result<Res, E>,
        took: Duration,
        because: Because,
    ) {
        let place = self.routed.decided.route.authority;
        let metrics = &self.plan.desk.metrics;
        metrics.store(place, StoreKind::Read, StoreEnd::of(answer), took);
        self.routed.call.end(match because {
            _ if answer.is_err() => End::Error,
            Because::Fallback(_) => End::Fallback,
            _ => End::Ok,
        });
        if let Some(shadow) = self.shadow.take() {
            shadow.start(&self.plan.desk, place, answer, Some(took.into()));
        }
        if let Some(marking) = self.plan.marking(place, because) {
            marking.put(answer);
        }
    }
}
