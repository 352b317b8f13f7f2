//! Two closures behind one layer, for teams without Tower services and without a repository trait:
//! [`Closures`].
//!
//! Each call brings the two ways of doing it, one per place, and says what it touches. The layer
//! chooses, compares, follows and counts as it does for a service.
//!
//! # Rules
//!
//! 1. A closure may be called more than once, or not at all: a read is asked of both sides to be
//!    compared, and of the authority again when the other side fails. It captures clones, and does
//!    its work in the future it returns.
//! 2. A write brings both closures too, though only the authority's is called: which side that is
//!    changes at the cutover, in all instances at once, and not in the application's code.
//! 3. Answers are [`Serialize`](serde::Serialize): that is how two of them are compared. One that serialises to
//!    `null` (`None`) was *not found*.
//! 4. The name of a call is its metric label when the builder was told of it
//!    ([`Builder::operations`]), else `other`.
//!
//! # Example
//!
//! ```
//! use changeover::closures::Closures;
//! use changeover::flags::{Entity, Epoch, Flags, Percent};
//! use changeover::proxy::{Changeover, Operation, Refused};
//!
//! async fn title_in(database: &'static str, id: i64) -> Result<Option<String>, Refused> {
//!     Ok(Some(format!("{id} from {database}")))
//! }
//! async fn rename_in(_database: &'static str, _id: i64, _title: &str) -> Result<(), Refused> {
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let flags = Flags::memory(Entity::new("listings")?);
//! # flags.learn(&Epoch::READY)?;
//! // With a worker: `wiring.builder()`.
//! let listings = Closures::around(Changeover::builder(flags.clone()).operations(["title"]))?;
//! let title = |id| listings.read("title", id, move || title_in("legacy", id), move || title_in("new", id));
//! assert_eq!(title(1).await?, Some("1 from legacy".into()));
//! flags.set_read_new(Percent::HUNDRED)?;
//! assert_eq!(title(1).await?, Some("1 from new".into()));
//!
//! let lamp = || rename_in("legacy", 7, "lamp");
//! listings.write("rename", [7], lamp, || rename_in("new", 7, "lamp")).await?;
//! // Just written, not copied yet: pinned to the authority.
//! assert_eq!(title(7).await?, Some("7 from legacy".into()));
//!
//! // Which side, and why?
//! let get = Operation::read("title", 7);
//! let (_title, served) = listings.served(get, || title_in("legacy", 7), || title_in("new", 7)).await?;
//! assert_eq!(served.to_string(), "legacy; because=pinned");
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::sync::Arc;

use changeover_flags::{Key, Place};
use changeover_proxy::{Builder, Handle, Incomplete, Operation, Served};
use futures_util::future::BoxFuture;

use crate::repository::{Answer, Call, CallError, Comparable, Layered};

/// The layer around closures; see the [module page](self). A clone shares everything.
pub struct Closures<E>(Layered<Place, E>);

impl<E> Closures<E>
where
    E: CallError,
{
    /// The layer that `builder` describes. What a call is and how an answer is observed are set
    /// here; everything else is the builder's.
    ///
    /// # Errors
    ///
    /// [`Incomplete`] when the builder's compare rules cannot be used.
    pub fn around(
        builder: Builder<(), Call<Place, E>, Answer, E>,
    ) -> Result<Closures<E>, Incomplete> {
        Layered::around(builder, Arc::new(Place::Legacy), Arc::new(Place::New)).map(Closures)
    }

    /// Reads the aggregate of `key` on the side that its percentage says.
    ///
    /// Cancellation safe: nothing was changed.
    ///
    /// # Errors
    ///
    /// The authority's own error, or the layer's: [`Refused`](changeover_proxy::Refused).
    pub fn read<T>(
        &self,
        name: &'static str,
        key: impl Into<Key>,
        legacy: impl Way<T, E>,
        new: impl Way<T, E>,
    ) -> BoxFuture<'static, Result<T, E>>
    where
        T: Comparable,
    {
        self.call(Operation::read(name, key), legacy, new)
    }

    /// Writes the aggregates of `keys` at the authority; copies follow.
    ///
    /// Cancellation safe: a write that has begun goes on without its caller.
    ///
    /// # Errors
    ///
    /// The authority's own error, or the layer's: [`Refused`](changeover_proxy::Refused).
    pub fn write<T, K>(
        &self,
        name: &'static str,
        keys: impl IntoIterator<Item = K>,
        legacy: impl Way<T, E>,
        new: impl Way<T, E>,
    ) -> BoxFuture<'static, Result<T, E>>
    where
        K: Into<Key>,
        T: Comparable,
    {
        self.call(Operation::write(name, keys), legacy, new)
    }

    /// A write whose key the database generates: `shown` says which key the answer shows.
    ///
    /// Cancellation safe, and with the errors of, [`write`](Closures::write).
    pub fn insert<T, K>(
        &self,
        name: &'static str,
        legacy: impl Way<T, E>,
        new: impl Way<T, E>,
        shown: impl Fn(&T) -> K + Send + Sync + 'static,
    ) -> BoxFuture<'static, Result<T, E>>
    where
        K: Into<Key>,
        T: Comparable,
    {
        let either = either(legacy, new);
        self.0
            .insert(Operation::insert(name), move |place| either(*place), shown)
    }

    /// Any other call: a list, a bulk write, a read with a token or a deadline.
    ///
    /// Cancellation safe, and with the errors of, [`write`](Closures::write).
    pub fn call<T>(
        &self,
        operation: Operation,
        legacy: impl Way<T, E>,
        new: impl Way<T, E>,
    ) -> BoxFuture<'static, Result<T, E>>
    where
        T: Comparable,
    {
        let either = either(legacy, new);
        self.0.call(operation, move |place| either(*place))
    }

    /// The same, and says which side served the answer and why.
    ///
    /// Cancellation safe, and with the errors of, [`write`](Closures::write).
    pub fn served<T>(
        &self,
        operation: Operation,
        legacy: impl Way<T, E>,
        new: impl Way<T, E>,
    ) -> BoxFuture<'static, Result<(T, Served), E>>
    where
        T: Comparable,
    {
        let either = either(legacy, new);
        self.0.served(operation, move |place| either(*place))
    }

    /// The layer's handle: tokens, units of work, the graceful end.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.0.handle()
    }
}

/// One way of doing a call: a closure that answers a future.
///
/// There is nothing to implement: every `Fn() -> Future<Output = Result<T, E>>` that can be sent and
/// shared is one.
pub trait Way<T, E>: Send + Sync + 'static {
    /// Begins the call. Each time it is called is a call of its own.
    fn begin(&self) -> BoxFuture<'static, Result<T, E>>;
}

impl<T, E, F, Answered> Way<T, E> for F
where
    F: Fn() -> Answered + Send + Sync + 'static,
    Answered: Future<Output = Result<T, E>> + Send + 'static,
{
    fn begin(&self) -> BoxFuture<'static, Result<T, E>> {
        Box::pin(self())
    }
}

/// The closure of the place that is asked for.
fn either<T, E>(
    legacy: impl Way<T, E>,
    new: impl Way<T, E>,
) -> impl Fn(Place) -> BoxFuture<'static, Result<T, E>> + Send + Sync + 'static {
    move |place| match place {
        Place::Legacy => legacy.begin(),
        Place::New => new.begin(),
    }
}

impl<E> Clone for Closures<E> {
    fn clone(&self) -> Self {
        Closures(self.0.clone())
    }
}

impl<E> fmt::Debug for Closures<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Closures").field(&self.0).finish()
    }
}
