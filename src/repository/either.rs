//! Two repositories of different types: [`Either`].

use std::sync::Arc;

use changeover_proxy::{Builder, Incomplete};

use super::{Answer, Call, CallError, Layered};

/// One of two repositories of different types: what [`layered`](macro@crate::layered) layers.
#[derive(Debug, Clone, Copy)]
pub enum Either<L, N> {
    /// The repository over the legacy tables.
    Legacy(L),
    /// The repository over the new ones.
    New(N),
}

impl<L, N, E> Layered<Either<L, N>, E>
where
    L: Send + Sync + 'static,
    N: Send + Sync + 'static,
    E: CallError,
{
    /// As [`around`](Layered::around), for repositories of two types.
    ///
    /// # Errors
    ///
    /// As [`around`](Layered::around).
    pub fn either(
        builder: Builder<(), Call<Either<L, N>, E>, Answer, E>,
        legacy: L,
        new: N,
    ) -> Result<Layered<Either<L, N>, E>, Incomplete> {
        Layered::around(
            builder,
            Arc::new(Either::Legacy(legacy)),
            Arc::new(Either::New(new)),
        )
    }
}
