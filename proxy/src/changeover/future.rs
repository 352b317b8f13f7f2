use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::{BoxFuture, Either};
use pin_project_lite::pin_project;

use super::following::Following;
use crate::dual_write::DualWriteFuture;

pin_project! {
    /// The answer of [`Changeover`](super::Changeover).
    ///
    /// Dropping it cancels a read, and a write that has not been polled; a write that has been
    /// polled goes on without its caller.
    pub struct ChangeoverFuture<L, N, Req, Res, E>
    where
        Res: Send,
        Res: 'static,
        E: Send,
        E: 'static,
    {
        #[pin]
        state: State<L, N, Req, Res, E>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<L, N, Req, Res, E>
    where
        Res: Send,
        Res: 'static,
        E: Send,
        E: 'static,
    {
        Authority { #[pin] inner: DualWriteFuture<Either<L, N>, Req, Res, E> },
        Following { #[pin] read: Following<Either<L, N>, Res, E> },
        Boxed { inner: BoxFuture<'static, Result<Res, E>> },
    }
}

impl<L, N, Req, Res: Send + 'static, E: Send + 'static> ChangeoverFuture<L, N, Req, Res, E> {
    pub(super) fn authority(inner: DualWriteFuture<Either<L, N>, Req, Res, E>) -> Self {
        ChangeoverFuture {
            state: State::Authority { inner },
        }
    }

    pub(super) fn following(read: Following<Either<L, N>, Res, E>) -> Self {
        ChangeoverFuture {
            state: State::Following { read },
        }
    }

    pub(super) fn boxed(inner: BoxFuture<'static, Result<Res, E>>) -> Self {
        ChangeoverFuture {
            state: State::Boxed { inner },
        }
    }
}

impl<L, N, Req, Res, E> Future for ChangeoverFuture<L, N, Req, Res, E>
where
    L: Future<Output = Result<Res, E>>,
    N: Future<Output = Result<Res, E>>,
    Req: Send + 'static,
    Res: Send + 'static,
    E: Send + 'static,
{
    type Output = Result<Res, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Authority { inner } => inner.poll(cx),
            StateProj::Following { read } => read.poll(cx),
            StateProj::Boxed { inner } => inner.as_mut().poll(cx),
        }
    }
}

impl<L, N, Req, Res: Send + 'static, E: Send + 'static> fmt::Debug
    for ChangeoverFuture<L, N, Req, Res, E>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangeoverFuture").finish_non_exhaustive()
    }
}
