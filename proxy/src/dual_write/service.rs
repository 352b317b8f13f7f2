use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_service::Service;

use super::{DualWriteFuture, unit};
use crate::desk::Handle;
use crate::plan::{Plan, Routed};
use crate::ready::Taken;
use crate::refused::Refused;
use crate::served::Because;
use crate::shadow_read::ReadFuture;

/// Brings the follower after every write of the service inside; see the [module page](super).
pub struct DualWrite<S, Req, Res, E> {
    authority: S,
    ready: bool,
    plan: Arc<Plan<Req, Res, E>>,
}

impl<S, Req, Res, E> DualWrite<S, Req, Res, E> {
    pub(super) fn new(authority: S, plan: Arc<Plan<Req, Res, E>>) -> Self {
        DualWrite {
            authority,
            ready: false,
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

impl<S, Req, Res, E> Service<Req> for DualWrite<S, Req, Res, E>
where
    S: Service<Req, Response = Res, Error = E> + Clone + Send + 'static,
    S::Future: Send + 'static,
    Req: Send + 'static,
    Res: Send + 'static,
    E: From<Refused> + Send + 'static,
{
    type Response = Res;
    type Error = E;
    type Future = DualWriteFuture<S::Future, Req, Res, E>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        let ready = self.authority.poll_ready(cx);
        self.ready = matches!(ready, Poll::Ready(Ok(())));
        ready
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
        if !operation.kind.is_read() {
            let routed = Routed {
                operation,
                decided,
                call,
            };
            let authority = Taken::out_of(&mut self.authority, &mut self.ready);
            return DualWriteFuture::unit(unit(&self.plan, authority, routed, request));
        }
        self.ready = false;
        let inner = self.authority.call(request);
        let store = decided.route.authority;
        let marking = self.plan.marking(store, Because::Alone);
        DualWriteFuture::read(ReadFuture::new(inner, call, store, None, marking))
    }
}

impl<S: Clone, Req, Res, E> Clone for DualWrite<S, Req, Res, E> {
    fn clone(&self) -> Self {
        DualWrite::new(self.authority.clone(), Arc::clone(&self.plan))
    }
}

impl<S: fmt::Debug, Req, Res, E> fmt::Debug for DualWrite<S, Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DualWrite")
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}
