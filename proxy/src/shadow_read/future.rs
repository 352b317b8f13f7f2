use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use changeover_flags::Place;
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::Shadow;
use crate::metrics::{Call, End, StoreEnd, StoreKind};
use crate::plan::Plan;

pin_project! {
    /// A service's own answer, measured, counted and perhaps compared when it is there.
    ///
    /// Dropping it cancels the read.
    pub struct ReadFuture<F, Req, Res, E> {
        #[pin]
        inner: F,
        after: Option<After<Req, Res, E>>,
    }
}

struct After<Req, Res, E> {
    plan: Arc<Plan<Req, Res, E>>,
    call: Call,
    store: Place,
    began: Instant,
    shadow: Option<Shadow<Req>>,
}

impl<F, Req, Res, E> ReadFuture<F, Req, Res, E> {
    pub(crate) fn new(
        inner: F,
        plan: Arc<Plan<Req, Res, E>>,
        mut call: Call,
        store: Place,
        shadow: Option<Shadow<Req>>,
    ) -> Self {
        call.on_drop(End::Cancelled);
        let after = Some(After {
            plan,
            call,
            store,
            began: Instant::now(),
            shadow,
        });
        ReadFuture { inner, after }
    }
}

impl<F, Req, Res, E> Future for ReadFuture<F, Req, Res, E>
where
    F: Future<Output = Result<Res, E>>,
    Req: Send + 'static,
    Res: 'static,
    E: 'static,
{
    type Output = Result<Res, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.inner.poll(cx));
        if let Some(After {
            plan,
            call,
            store,
            began,
            shadow,
        }) = this.after.take()
        {
            let took = began.elapsed();
            plan.desk
                .metrics
                .store(store, StoreKind::Read, StoreEnd::of(&answer), took);
            if let Some(shadow) = shadow {
                shadow.start(store, plan.observed(&answer), took);
            }
            call.end(if answer.is_ok() { End::Ok } else { End::Error });
        }
        Poll::Ready(answer)
    }
}

impl<F, Req, Res, E> fmt::Debug for ReadFuture<F, Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadFuture").finish_non_exhaustive()
    }
}
