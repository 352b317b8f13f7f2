use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use changeover_flags::{Flags, Place};
use futures_util::future::Either;
use tokio::runtime::Handle as Runtime;
use tower_service::Service;

use super::follower::{answer, is_asked};
use super::following::{Else, Following, Reading};
use super::hedge::Hedge;
use super::{Builder, ChangeoverFuture};
use crate::call::{Kind, Operation};
use crate::desk::{Call, Handle};
use crate::dual_write::{DualWriteFuture, unit};
use crate::metrics::End;
use crate::plan::{Decided, Plan, Routed};
use crate::ready::Taken;
use crate::refused::Refused;
use crate::route::{Route, route};
use crate::served::Because;
use crate::shadow_read::{LazyGround, ReadFuture, Shadow};

/// The legacy service and the new one behind one `Service<Call>`; see the [module page](super).
///
/// `Clone + Send + Sync` where the two services are; clones share the pins, the limits and the
/// counters.
pub struct Changeover<L, N, Req, Res, E> {
    legacy: L,
    legacy_ready: bool,
    new: N,
    new_ready: bool,
    plan: Arc<Plan<Req, Res, E>>,
    ground: LazyGround<Req, Res, E>,
}

impl<Req, Res, E> Changeover<(), (), Req, Res, E> {
    /// Begins a layer that is routed by `flags`; a request is copied by cloning it.
    #[must_use]
    pub fn builder(flags: Flags) -> Builder<(), Req, Res, E>
    where
        Req: Clone + Send + 'static,
        Res: Send + 'static,
        E: Send + 'static,
    {
        Builder::new(flags, |request: &Req| Some(request.clone()))
    }
}

impl<L, N, Req, Res, E> Changeover<L, N, Req, Res, E> {
    pub(super) fn new(legacy: L, new: N, plan: Arc<Plan<Req, Res, E>>) -> Self {
        Changeover {
            legacy,
            legacy_ready: false,
            new,
            new_ready: false,
            plan,
            ground: LazyGround::default(),
        }
    }

    /// The handle that all clones share.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle {
            desk: Arc::clone(&self.plan.desk),
        }
    }
}

impl<L, N, Req, Res, E> Changeover<L, N, Req, Res, E>
where
    L: Service<Req, Response = Res, Error = E> + Clone + Send + 'static,
    L::Future: Send + 'static,
    N: Service<Req, Response = Res, Error = E> + Clone + Send + 'static,
    N::Future: Send + 'static,
    Req: Send + 'static,
    Res: Send + 'static,
    E: From<Refused> + Send + 'static,
{
    /// Whether the authority has said that it is ready, which it has to say again after this call.
    #[inline]
    fn takes_ready(&mut self, authority: Place) -> bool {
        match authority {
            Place::Legacy => std::mem::take(&mut self.legacy_ready),
            Place::New => std::mem::take(&mut self.new_ready),
        }
    }

    /// A read that the authority answers, at once.
    #[inline]
    fn by_authority(
        &mut self,
        route: &Route,
        call: Call,
        shadow: Option<Box<Shadow<Req, Res, E>>>,
        request: Req,
    ) -> ChangeoverFuture<L::Future, N::Future, Req, Res, E> {
        let authority = route.authority;
        let inner = match authority {
            Place::Legacy => Either::Left(self.legacy.call(request)),
            Place::New => Either::Right(self.new.call(request)),
        };
        let marking = self.plan.marking(authority, Because::Routed(route.because));
        let read = ReadFuture::new(inner, call, authority, shadow, marking);
        ChangeoverFuture::authority(DualWriteFuture::read(read))
    }

    /// A read that the follower may answer: at once, if nothing has to be asked and it is ready.
    #[inline]
    fn by_follower(
        &mut self,
        mut routed: Routed,
        request: Req,
        copy: Req,
    ) -> ChangeoverFuture<L::Future, N::Future, Req, Res, E> {
        let place = routed.decided.route.answered_by;
        let called = match place {
            _ if is_asked(self.plan.strict, &routed.operation) => Err(copy),
            Place::Legacy => {
                call_if_ready(&mut self.legacy, copy).map(|call| call.map(Either::Left))
            }
            Place::New => call_if_ready(&mut self.new, copy).map(|call| call.map(Either::Right)),
        };
        let follower = match called {
            Ok(follower) => follower,
            Err(copy) => return self.asked(routed, request, Some(copy)),
        };
        routed.call.on_drop(End::FollowerCancelled);
        let rest: Box<dyn Else<Res, E>> = match place.other() {
            Place::Legacy => {
                let legacy = Taken::out_of(&mut self.legacy, &mut self.legacy_ready);
                self.reading(routed, request, legacy)
            }
            Place::New => {
                let new = Taken::out_of(&mut self.new, &mut self.new_ready);
                self.reading(routed, request, new)
            }
        };
        ChangeoverFuture::following(Following::new(follower, rest))
    }

    /// A read that has to wait: for a question, or for a side that is not ready.
    fn asked(
        &mut self,
        mut routed: Routed,
        request: Req,
        copy: Option<Req>,
    ) -> ChangeoverFuture<L::Future, N::Future, Req, Res, E> {
        routed.call.timed();
        // Both are taken: each may have begun to become ready.
        let legacy = Taken::out_of(&mut self.legacy, &mut self.legacy_ready);
        let new = Taken::out_of(&mut self.new, &mut self.new_ready);
        ChangeoverFuture::boxed(match routed.decided.route.authority {
            Place::Legacy => Box::pin(answer(self.reading(routed, request, legacy), new, copy)),
            Place::New => Box::pin(answer(self.reading(routed, request, new), legacy, copy)),
        })
    }

    fn write(
        &mut self,
        routed: Routed,
        request: Req,
    ) -> ChangeoverFuture<L::Future, N::Future, Req, Res, E> {
        let unit = match routed.decided.route.authority {
            Place::Legacy => {
                let legacy = Taken::out_of(&mut self.legacy, &mut self.legacy_ready);
                unit(&self.plan, legacy, routed, request)
            }
            Place::New => {
                let new = Taken::out_of(&mut self.new, &mut self.new_ready);
                unit(&self.plan, new, routed, request)
            }
        };
        ChangeoverFuture::authority(DualWriteFuture::unit(unit))
    }

    /// In its box from the start: it is large, and nothing is moved out of it.
    #[inline]
    fn reading<A>(
        &self,
        routed: Routed,
        request: Req,
        authority: Taken<A>,
    ) -> Box<Reading<A, Req, Res, E>> {
        let shadow = match routed.decided.route.shadowed {
            Some(_) => {
                let runtime = routed.decided.runtime.clone();
                self.shadow(runtime, routed.operation.clone(), &request)
            }
            None => None,
        };
        Box::new(Reading {
            plan: Arc::clone(&self.plan),
            asked: None,
            routed,
            authority: Some((authority, request)),
            hedge: self.plan.hedge.map(|after| Box::new(Hedge::new(after))),
            shadow,
        })
    }

    /// The shadow read of a call that was sampled.
    fn shadow(
        &self,
        runtime: Option<Runtime>,
        operation: Operation,
        request: &Req,
    ) -> Option<Box<Shadow<Req, Res, E>>> {
        let services = (&self.legacy, &self.new);
        let (plan, ground) = (&self.plan, &self.ground);
        Shadow::of(plan, ground, services, operation, request, runtime?)
    }
}

impl<L, N, Req, Res, E> Service<Req> for Changeover<L, N, Req, Res, E>
where
    L: Service<Req, Response = Res, Error = E> + Clone + Send + 'static,
    L::Future: Send + 'static,
    N: Service<Req, Response = Res, Error = E> + Clone + Send + 'static,
    N::Future: Send + 'static,
    Req: Send + 'static,
    Res: Send + 'static,
    E: From<Refused> + Send + 'static,
{
    type Response = Res;
    type Error = E;
    type Future = ChangeoverFuture<L::Future, N::Future, Req, Res, E>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        // The follower is not asked: a side that nobody waits for must not hold up a caller.
        match self
            .plan
            .desk
            .flags
            .load()
            .serving()
            .map(|stage| stage.authority())
        {
            Ok(Place::Legacy) => {
                let ready = self.legacy.poll_ready(cx);
                self.legacy_ready = matches!(ready, Poll::Ready(Ok(())));
                ready
            }
            Ok(Place::New) => {
                let ready = self.new.poll_ready(cx);
                self.new_ready = matches!(ready, Poll::Ready(Ok(())));
                ready
            }
            // The call is refused, which needs nobody to be ready.
            Err(_unknown) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let flags = self.plan.desk.in_force();
        let mut operation = self.plan.classify.operation(&request);
        self.plan.spell(&flags.snapshot, &mut operation);
        let mut call = self.plan.desk.call(&operation);
        let mut decided = match self.plan.decide(&flags, &operation, &mut call) {
            Ok(decided) => decided,
            Err(refused) => {
                return ChangeoverFuture::authority(DualWriteFuture::refused(refused.into()));
            }
        };
        if !operation.kind.is_read() {
            let routed = Routed {
                operation,
                decided,
                call,
            };
            return self.write(routed, request);
        }
        if decided.route.shadowed.is_some() {
            call.noted();
        }
        let mut copy = None;
        if decided.route.by_follower() {
            // A follower may need a runtime itself, and without a timer it might be waited for without a limit.
            if decided.runtime.is_some() || Runtime::try_current().is_ok() {
                copy = self.plan.second(&request);
            }
            if copy.is_none() {
                again_as_plain(&mut decided, operation.kind);
            }
        }
        call.sent(&decided.route);
        if copy.is_none() && self.takes_ready(decided.route.authority) {
            let shadow = match decided.route.shadowed {
                Some(_) => self.shadow(decided.runtime, operation, &request),
                None => None,
            };
            return self.by_authority(&decided.route, call, shadow, request);
        }
        let routed = Routed {
            operation,
            decided,
            call,
        };
        match copy {
            Some(copy) => self.by_follower(routed, request, copy),
            None => self.asked(routed, request, None),
        }
    }
}

/// The table again, for a request that cannot be asked twice, or not within a time.
fn again_as_plain(decided: &mut Decided, kind: Kind) {
    decided.circumstances.plain = true;
    let again = route(&decided.snapshot, kind, decided.circumstances);
    decided.route = again.expect("a snapshot that was known stays known");
}

/// Calls `service` if it is ready at this moment; `None` if the call panicked.
///
/// # Errors
///
/// The request, if it is not: whoever waits for the service takes it out and polls it again.
fn call_if_ready<S: Service<Req>, Req>(
    service: &mut S,
    request: Req,
) -> Result<Option<S::Future>, Req> {
    let mut nobody = Context::from_waker(Waker::noop());
    let ready = catch_unwind(AssertUnwindSafe(|| service.poll_ready(&mut nobody)));
    if !matches!(ready, Ok(Poll::Ready(Ok(())))) {
        return Err(request);
    }
    Ok(catch_unwind(AssertUnwindSafe(|| service.call(request))).ok())
}

impl<L: Clone, N: Clone, Req, Res, E> Clone for Changeover<L, N, Req, Res, E> {
    fn clone(&self) -> Self {
        Changeover {
            legacy: self.legacy.clone(),
            legacy_ready: false,
            new: self.new.clone(),
            new_ready: false,
            plan: Arc::clone(&self.plan),
            ground: Arc::clone(&self.ground),
        }
    }
}

impl<L, N, Req, Res, E> fmt::Debug for Changeover<L, N, Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changeover")
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}
