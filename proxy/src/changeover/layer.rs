use std::fmt;
use std::sync::Arc;

use tower_layer::Layer;

use super::Changeover;
use crate::desk::Handle;
use crate::plan::Plan;

/// Makes [`Changeover`] services around a legacy service; built by [`Builder::build`](super::Builder::build).
pub struct ChangeoverLayer<N, Req, Res, E> {
    new: N,
    plan: Arc<Plan<Req, Res, E>>,
}

impl<N, Req, Res, E> ChangeoverLayer<N, Req, Res, E> {
    pub(super) fn new(new: N, plan: Arc<Plan<Req, Res, E>>) -> Self {
        ChangeoverLayer { new, plan }
    }

    /// The handle that its services share.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle {
            desk: Arc::clone(&self.plan.desk),
        }
    }
}

impl<L, N: Clone, Req, Res, E> Layer<L> for ChangeoverLayer<N, Req, Res, E> {
    type Service = Changeover<L, N, Req, Res, E>;

    fn layer(&self, legacy: L) -> Self::Service {
        Changeover::new(legacy, self.new.clone(), Arc::clone(&self.plan))
    }
}

impl<N: Clone, Req, Res, E> Clone for ChangeoverLayer<N, Req, Res, E> {
    fn clone(&self) -> Self {
        ChangeoverLayer::new(self.new.clone(), Arc::clone(&self.plan))
    }
}

impl<N, Req, Res, E> fmt::Debug for ChangeoverLayer<N, Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangeoverLayer")
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}
