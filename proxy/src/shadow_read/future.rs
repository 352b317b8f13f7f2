use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use changeover_flags::Place;
use pin_project_lite::pin_project;

use super::Shadow;
use crate::desk::Call;
use crate::metrics::{End, StoreEnd, StoreKind};
use crate::served::Marking;

pin_project! {
    /// A service's own answer, measured, counted and perhaps compared when it is there.
    ///
    /// Dropping it cancels the read.
    pub struct ReadFuture<F, Req, Res, E> {
        #[pin]
        inner: F,
        call: Call,
        store: Place,
        shadow: Option<Box<Shadow<Req, Res, E>>>,
        marking: Option<Marking<Res>>,
    }
}

impl<F, Req, Res, E> ReadFuture<F, Req, Res, E> {
    #[inline]
    pub(crate) fn new(
        inner: F,
        mut call: Call,
        store: Place,
        shadow: Option<Box<Shadow<Req, Res, E>>>,
        marking: Option<Marking<Res>>,
    ) -> Self {
        call.on_drop(End::Cancelled);
        ReadFuture {
            inner,
            call,
            store,
            shadow,
            marking,
        }
    }
}

impl<F, Req, Res, E> Future for ReadFuture<F, Req, Res, E>
where
    F: Future<Output = Result<Res, E>>,
    Req: Send + 'static,
    Res: Send + 'static,
    E: Send + 'static,
{
    type Output = Result<Res, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Poll::Ready(mut answer) = this.inner.poll(cx) else {
            this.call.timed();
            return Poll::Pending;
        };
        let took = this.call.took();
        if let Some(took) = took {
            let end = StoreEnd::of(&answer);
            let metrics = &this.call.desk().metrics;
            metrics.store(*this.store, StoreKind::Read, end, took);
        }
        let end = if answer.is_ok() { End::Ok } else { End::Error };
        this.call.end_after(end, took);
        if let Some(shadow) = this.shadow.take() {
            shadow.start(this.call.desk(), *this.store, &answer, took);
        }
        // What is compared is the service's own answer.
        if let Some(marking) = this.marking.take() {
            marking.put(&mut answer);
        }
        Poll::Ready(answer)
    }
}

impl<F, Req, Res, E> fmt::Debug for ReadFuture<F, Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadFuture").finish_non_exhaustive()
    }
}
