use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use changeover_flags::{Flags, Place};
use futures_util::future::Either;
use tower_service::Service;

use super::follower::Asked;
use super::{Builder, ChangeoverFuture};
use crate::desk::Handle;
use crate::dual_write::{DualWriteFuture, unit};
use crate::plan::{Plan, Routed};
use crate::ready::Taken;
use crate::refused::Refused;
use crate::route::{Circumstances, route};
use crate::shadow_read::{ReadFuture, Shadow};

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
    fn read(
        &mut self,
        mut routed: Routed,
        request: Req,
    ) -> ChangeoverFuture<L::Future, N::Future, Req, Res, E> {
        let shadow = routed.route.shadowed.and_then(|_| {
            let operation = routed.operation.clone();
            Shadow::of(&self.plan, &self.legacy, &self.new, operation, &request)
        });
        let mut copy = None;
        if routed.route.by_follower() {
            copy = self.plan.second(&request);
            if copy.is_none() {
                routed.circumstances = Circumstances {
                    plain: true,
                    ..routed.circumstances
                };
                let again = route(
                    &routed.snapshot,
                    routed.operation.kind,
                    routed.circumstances,
                );
                routed.route = again.expect("a snapshot that was known stays known");
            }
        }
        let plan = Arc::clone(&self.plan);
        match routed.route.authority {
            Place::Legacy => {
                let legacy = Taken::out_of(&mut self.legacy, &mut self.legacy_ready);
                if copy.is_none() && legacy.is_ready() {
                    let inner = Either::Left(legacy.call_as_polled(request));
                    let read = ReadFuture::new(inner, plan, routed.call, Place::Legacy, shadow);
                    return ChangeoverFuture::authority(DualWriteFuture::read(read));
                }
                let follower = Taken::clone_of(&self.new);
                let asked = Asked {
                    routed,
                    request,
                    copy,
                    shadow,
                };
                ChangeoverFuture::boxed(Box::pin(asked.answer(plan, legacy, follower)))
            }
            Place::New => {
                let new = Taken::out_of(&mut self.new, &mut self.new_ready);
                if copy.is_none() && new.is_ready() {
                    let inner = Either::Right(new.call_as_polled(request));
                    let read = ReadFuture::new(inner, plan, routed.call, Place::New, shadow);
                    return ChangeoverFuture::authority(DualWriteFuture::read(read));
                }
                let follower = Taken::clone_of(&self.legacy);
                let asked = Asked {
                    routed,
                    request,
                    copy,
                    shadow,
                };
                ChangeoverFuture::boxed(Box::pin(asked.answer(plan, new, follower)))
            }
        }
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
        let routed = match self.plan.route(&request) {
            Ok(routed) => routed,
            Err(refused) => {
                return ChangeoverFuture::authority(DualWriteFuture::refused(refused.into()));
            }
        };
        if routed.operation.kind.is_read() {
            return self.read(routed, request);
        }
        let unit = match routed.route.authority {
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
}

impl<L: Clone, N: Clone, Req, Res, E> Clone for Changeover<L, N, Req, Res, E> {
    fn clone(&self) -> Self {
        Changeover::new(
            self.legacy.clone(),
            self.new.clone(),
            Arc::clone(&self.plan),
        )
    }
}

impl<L, N, Req, Res, E> fmt::Debug for Changeover<L, N, Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changeover")
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}
