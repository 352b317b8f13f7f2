use std::fmt;
use std::sync::Arc;

use tower_layer::Layer;

use super::ShadowRead;
use crate::desk::Handle;
use crate::plan::Plan;

/// Makes [`ShadowRead`] services; built by [`Builder::build_shadow_read`](crate::Builder::build_shadow_read).
pub struct ShadowReadLayer<N, Req, Res, E> {
    new: N,
    plan: Arc<Plan<Req, Res, E>>,
}

impl<N, Req, Res, E> ShadowReadLayer<N, Req, Res, E> {
    pub(crate) fn new(new: N, plan: Arc<Plan<Req, Res, E>>) -> Self {
        ShadowReadLayer { new, plan }
    }

    /// The handle that its services share.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle {
            desk: Arc::clone(&self.plan.desk),
        }
    }
}

impl<L, N: Clone, Req, Res, E> Layer<L> for ShadowReadLayer<N, Req, Res, E> {
    type Service = ShadowRead<L, N, Req, Res, E>;

    fn layer(&self, legacy: L) -> Self::Service {
        ShadowRead::new(legacy, self.new.clone(), Arc::clone(&self.plan))
    }
}

impl<N: Clone, Req, Res, E> Clone for ShadowReadLayer<N, Req, Res, E> {
    fn clone(&self) -> Self {
        ShadowReadLayer::new(self.new.clone(), Arc::clone(&self.plan))
    }
}

impl<N, Req, Res, E> fmt::Debug for ShadowReadLayer<N, Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShadowReadLayer")
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}
