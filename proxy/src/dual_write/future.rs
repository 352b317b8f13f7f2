use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::shadow_read::ReadFuture;
use crate::unit::Surviving;

pin_project! {
    /// The answer of [`DualWrite`](super::DualWrite).
    ///
    /// Dropping it cancels a read, and a write that has not been polled; a write that has been
    /// polled goes on without its caller.
    pub struct DualWriteFuture<F, Req, Res, E>
    where
        Res: Send,
        Res: 'static,
        E: Send,
        E: 'static,
    {
        #[pin]
        state: State<F, Req, Res, E>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, Req, Res, E>
    where
        Res: Send,
        Res: 'static,
        E: Send,
        E: 'static,
    {
        Read { #[pin] read: ReadFuture<F, Req, Res, E> },
        Unit { unit: Surviving<Result<Res, E>> },
        Refused { refused: Option<E> },
    }
}

impl<F, Req, Res: Send + 'static, E: Send + 'static> DualWriteFuture<F, Req, Res, E> {
    pub(crate) fn read(read: ReadFuture<F, Req, Res, E>) -> Self {
        DualWriteFuture {
            state: State::Read { read },
        }
    }

    pub(crate) fn unit(unit: Surviving<Result<Res, E>>) -> Self {
        DualWriteFuture {
            state: State::Unit { unit },
        }
    }

    pub(crate) fn refused(refused: E) -> Self {
        DualWriteFuture {
            state: State::Refused {
                refused: Some(refused),
            },
        }
    }
}

impl<F, Req, Res, E> Future for DualWriteFuture<F, Req, Res, E>
where
    F: Future<Output = Result<Res, E>>,
    Req: Send + 'static,
    Res: Send + 'static,
    E: Send + 'static,
{
    type Output = Result<Res, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Read { read } => read.poll(cx),
            StateProj::Unit { unit } => Pin::new(unit).poll(cx),
            StateProj::Refused { refused } => {
                Poll::Ready(Err(refused.take().expect("polled after it was ready")))
            }
        }
    }
}

impl<F, Req, Res: Send + 'static, E: Send + 'static> fmt::Debug
    for DualWriteFuture<F, Req, Res, E>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DualWriteFuture").finish_non_exhaustive()
    }
}
