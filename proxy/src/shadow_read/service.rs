use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use changeover_flags::Place;
use tower_service::Service;

use super::{ReadFuture, Shadow};
use crate::desk::Handle;
use crate::dual_write::DualWriteFuture;
use crate::plan::Plan;
use crate::ready::Taken;
use crate::refused::Refused;

/// Compares a share of the reads with the new side; see the [module page](super).
pub struct ShadowRead<L, N, Req, Res, E> {
    legacy: L,
    ready: bool,
    new: N,
    plan: Arc<Plan<Req, Res, E>>,
}

impl<L, N, Req, Res, E> ShadowRead<L, N, Req, Res, E> {
    pub(super) fn new(legacy: L, new: N, plan: Arc<Plan<Req, Res, E>>) -> Self {
        ShadowRead {
            legacy,
            ready: false,
            new,
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

impl<L, N, Req, Res, E> Service<Req> for ShadowRead<L, N, Req, Res, E>
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
    type Future = DualWriteFuture<L::Future, Req, Res, E>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        let ready = self.legacy.poll_ready(cx);
        self.ready = matches!(ready, Poll::Ready(Ok(())));
        ready
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let routed = match self.plan.route(&request) {
            Ok(routed) => routed,
            Err(refused) => return DualWriteFuture::refused(refused.into()),
        };
        let shadow = routed.route.shadowed.and_then(|_| {
            let operation = routed.operation.clone();
            Shadow::of(&self.plan, &self.legacy, &self.new, operation, &request)
        });
        let legacy = Taken::out_of(&mut self.legacy, &mut self.ready);
        let inner = legacy.call_as_polled(request);
        let (plan, call) = (Arc::clone(&self.plan), routed.call);
        DualWriteFuture::read(ReadFuture::new(inner, plan, call, Place::Legacy, shadow))
    }
}

impl<L: Clone, N: Clone, Req, Res, E> Clone for ShadowRead<L, N, Req, Res, E> {
    fn clone(&self) -> Self {
        ShadowRead::new(
            self.legacy.clone(),
            self.new.clone(),
            Arc::clone(&self.plan),
        )
    }
}

impl<L: fmt::Debug, N, Req, Res, E> fmt::Debug for ShadowRead<L, N, Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShadowRead")
            .field("legacy", &self.legacy)
            .finish_non_exhaustive()
    }
}
