//! A service taken out of a layer for one call.

use std::future::poll_fn;

use tower_service::Service;

/// A service and whether it has said that it is ready. The one that was polled ready is taken into
/// the call and its clone is left behind, never the other way round.
#[derive(Debug, Clone)]
pub(crate) struct Taken<S> {
    service: S,
    ready: bool,
}

impl<S: Clone> Taken<S> {
    /// Takes `service`, leaves a clone.
    pub(crate) fn out_of(service: &mut S, ready: &mut bool) -> Taken<S> {
        let clone = service.clone();
        Taken {
            service: std::mem::replace(service, clone),
            ready: std::mem::take(ready),
        }
    }

    /// A clone, which has to be driven to readiness first.
    pub(crate) fn clone_of(service: &S) -> Taken<S> {
        Taken {
            service: service.clone(),
            ready: false,
        }
    }
}

impl<S> Taken<S> {
    /// Calls the service, once it is ready.
    pub(crate) async fn call<Req>(mut self, request: Req) -> Result<S::Response, S::Error>
    where
        S: Service<Req>,
    {
        if !self.ready {
            poll_fn(|cx| self.service.poll_ready(cx)).await?;
        }
        self.service.call(request).await
    }
}
