use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use changeover_flags::Place;
use tower_service::Service;

use super::{LazyGround, ReadFuture, Shadow};
use crate::desk::Handle;
use crate::dual_write::DualWriteFuture;
use crate::plan::Plan;
use crate::refused::Refused;
use crate::served::Because;

/// Compares a share of the reads with the new side; see the [module page](super).
pub struct ShadowRead<L, N, Req, Res, E> {
    legacy: L,
    new: N,
    plan: Arc<Plan<Req, Res, E>>,
    ground: LazyGround<Req, Res, E>,
}

impl<L, N, Req, Res, E> ShadowRead<L, N, Req, Res, E> {
    pub(super) fn new(legacy: L, new: N, plan: Arc<Plan<Req, Res, E>>) -> Self {
        ShadowRead {
            legacy,
            new,
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
        self.legacy.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let flags = self.plan.desk.in_force();
        let mut operation = self.plan.classify.operation(&request);
        self.plan.spell(&flags.snapshot, &mut operation);
        let mut call = self.plan.desk.call(&operation);
        let decided = match self.plan.decide(&flags, &operation, &mut call) {
            Ok(decided) => decided,
            Err(refused) => return DualWriteFuture::refused(refused.into()),
        };
        let sampled = decided.route.shadowed.is_some();
        if sampled {
            call.noted();
        }
        let runtime = decided.runtime.filter(|_| sampled);
        let shadow = runtime.and_then(|runtime| {
            let services = (&self.legacy, &self.new);
            let (plan, ground) = (&self.plan, &self.ground);
            Shadow::of(plan, ground, services, operation, &request, runtime)
        });
        let marking = self.plan.marking(Place::Legacy, Because::Alone);
        let inner = self.legacy.call(request);
        DualWriteFuture::read(ReadFuture::new(inner, call, Place::Legacy, shadow, marking))
    }
}

impl<L: Clone, N: Clone, Req, Res, E> Clone for ShadowRead<L, N, Req, Res, E> {
    fn clone(&self) -> Self {
        ShadowRead {
            legacy: self.legacy.clone(),
            new: self.new.clone(),
            plan: Arc::clone(&self.plan),
            ground: Arc::clone(&self.ground),
        }
    }
}

impl<L: fmt::Debug, N, Req, Res, E> fmt::Debug for ShadowRead<L, N, Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShadowRead")
            .field("legacy", &self.legacy)
            .finish_non_exhaustive()
    }
}
