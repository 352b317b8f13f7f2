use std::fmt;
use std::sync::Arc;

use tower_layer::Layer;

use super::DualWrite;
use crate::desk::Handle;
use crate::plan::Plan;

/// Makes [`DualWrite`] services; built by [`Builder::build_dual_write`](crate::Builder::build_dual_write).
pub struct DualWriteLayer<Req, Res, E> {
    plan: Arc<Plan<Req, Res, E>>,
}

impl<Req, Res, E> DualWriteLayer<Req, Res, E> {
    pub(crate) fn new(plan: Arc<Plan<Req, Res, E>>) -> Self {
        DualWriteLayer { plan }
    }

    /// The handle that its services share.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle {
            desk: Arc::clone(&self.plan.desk),
        }
    }
}

impl<S, Req, Res, E> Layer<S> for DualWriteLayer<Req, Res, E> {
    type Service = DualWrite<S, Req, Res, E>;

    fn layer(&self, authority: S) -> Self::Service {
        DualWrite::new(authority, Arc::clone(&self.plan))
    }
}

impl<Req, Res, E> Clone for DualWriteLayer<Req, Res, E> {
    fn clone(&self) -> Self {
        DualWriteLayer::new(Arc::clone(&self.plan))
    }
}

impl<Req, Res, E> fmt::Debug for DualWriteLayer<Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DualWriteLayer")
            .field("handle", &self.handle())
            .finish()
    }
}
