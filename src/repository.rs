//! A repository with `async` methods behind the layers: [`Layered`], and the macro
//! [`repository!`](crate::repository!) that writes the forwarding methods.
//!
//! The layers go around a `Service<Request>`. Most applications have something else: a trait of
//! `async` methods, one per query, and handlers that hold an `Arc<dyn Trait>`. This module is the
//! bridge. A call of a method becomes a [`Call`]: an [`Operation`] (what it touches) and a closure
//! that runs the method on whichever repository the layer chooses.
//!
//! # Rules
//!
//! 1. Both repositories implement one trait, whose methods answer boxed futures (`BoxFuture`, or
//!    what `async-trait` writes), take `&self`, and have one error type `E: From<Refused>`.
//! 2. Arguments are owned and `Clone`: a read may be asked twice, of either side.
//! 3. Answers are [`Serialize`](serde::Serialize): that is how two of them are compared. One that serialises to
//!    `null` (`None`) was *not found*.
//! 4. Nothing else changes: handlers call the same methods and get the same answers and errors.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//! use changeover::flags::{Entity, Epoch, Flags, Percent};
//! use changeover::proxy::{Changeover, Refused};
//! use changeover::repository::BoxFuture;
//!
//! type Answer<'a, T> = BoxFuture<'a, Result<T, Refused>>;
//!
//! trait Listings: Send + Sync {
//!     fn title(&self, id: i64) -> Answer<'_, Option<String>>;
//!     fn create(&self, title: String) -> Answer<'_, i64>;
//! }
//!
//! struct Store(&'static str);
//!
//! impl Listings for Store {
//!     fn title(&self, id: i64) -> Answer<'_, Option<String>> {
//!         Box::pin(async move { Ok(Some(format!("{id} from {}", self.0))) })
//!     }
//!     fn create(&self, _title: String) -> Answer<'_, i64> {
//!         Box::pin(async { Ok(7) })
//!     }
//! }
//!
//! changeover::repository! {
//!     /// The listings, while they move.
//!     struct MovingListings: Listings, Refused;
//!     title(id: i64) -> Option<String> = read(id);
//!     create(title: String) -> i64 = insert(), |id| *id;
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let flags = Flags::memory(Entity::new("listings")?);
//! # flags.learn(&Epoch::READY)?;
//! // With a worker: `wiring.builder()`.
//! let builder = Changeover::builder(flags.clone());
//! let listings = MovingListings::around(builder, Arc::new(Store("legacy")), Arc::new(Store("new")))?;
//! assert_eq!(listings.title(1).await?, Some("1 from legacy".into()));
//! flags.set_read_new(Percent::HUNDRED)?;
//! assert_eq!(listings.title(1).await?, Some("1 from new".into()));
//!
//! // Just written, not copied yet: pinned to the authority.
//! assert_eq!(listings.create("lamp".into()).await?, 7);
//! assert_eq!(listings.title(7).await?, Some("7 from legacy".into()));
//! # Ok(())
//! # }
//! ```
//!
//! # What the macro writes
//!
//! A struct around a [`Layered`], its methods `around` and `handle`, and the trait's impl with, for each
//! line `method(arguments) -> Answer = kind(what);`,
//!
//! ```text
//! fn title(&self, id: i64) -> BoxFuture<'_, Result<Option<String>, Refused>> {
//!     self.0.call(Operation::read("title", id), move |on| on.title(id.clone()))
//! }
//! ```
//!
//! `kind` is one of [`Operation`]'s constructors without the name, which is the method's, and its
//! other methods may follow: `list().routed_by(seller.to_string()).keyed_by(["id"])`. Where the
//! database generates the key, `insert(), |answer| answer.id` says which one the answer shows. Write
//! the methods by hand where they are more than this: with `async-trait`, for generic methods, for
//! answers that are not serialised.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use changeover_flags::Key;
use changeover_proxy::{
    Builder, Changeover, Classify, Handle, Incomplete, Operation, Served, Touched,
};
use changeover_shadow::{Json, Observe, Value};
pub use futures_util::future::BoxFuture;
use tower::{Layer as _, Service, ServiceExt as _};

mod bounds;
mod either;

#[doc(hidden)]
pub use bounds::again;
pub use bounds::{Argument, CallError, Comparable};
pub use either::Either;

/// A method with its arguments, to be run on either repository, maybe twice.
type Method<R, E> =
    Arc<dyn for<'a> Fn(&'a R) -> BoxFuture<'a, Result<Answer, E>> + Send + Sync + 'static>;

/// One call of a method of `R`.
pub struct Call<R: ?Sized, E> {
    operation: Operation,
    method: Method<R, E>,
}

impl<R: ?Sized, E> Clone for Call<R, E> {
    fn clone(&self) -> Self {
        Call {
            operation: self.operation.clone(),
            method: Arc::clone(&self.method),
        }
    }
}

impl<R: ?Sized, E> fmt::Debug for Call<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("operation", &self.operation)
            .finish_non_exhaustive()
    }
}

/// What a method answered, whatever its type.
pub struct Answer {
    value: Box<dyn Any + Send>,
    observe: fn(&(dyn Any + Send)) -> Option<Value>,
    shown: Option<Touched>,
    served: Option<Served>,
}

impl Answer {
    fn new<T: Comparable>(value: T, shown: Option<Touched>) -> Answer {
        Answer {
            value: Box::new(value),
            observe: |value| Json.observe(value.downcast_ref::<T>()?),
            shown,
            served: None,
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

/// One of the two repositories, as a service of [`Call`]s.
pub struct Methods<R: ?Sized>(Arc<R>);

impl<R: ?Sized> Methods<R> {
    /// A repository for a layer to ask: say, one over a small pool of its own, for
    /// [`Builder::probe`].
    #[must_use]
    pub fn of(repository: Arc<R>) -> Methods<R> {
        Methods(repository)
    }
}

impl<R: ?Sized> Clone for Methods<R> {
    fn clone(&self) -> Self {
        Methods(Arc::clone(&self.0))
    }
}

impl<R: ?Sized> fmt::Debug for Methods<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Methods")
    }
}

impl<R, E> Service<Call<R, E>> for Methods<R>
where
    R: Send + Sync + ?Sized + 'static,
    E: 'static,
{
    type Response = Answer;
    type Error = E;
    type Future = BoxFuture<'static, Result<Answer, E>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call<R, E>) -> Self::Future {
        let on = Arc::clone(&self.0);
        Box::pin(async move { (call.method)(&on).await })
    }
}

/// What a call is, as the call itself says.
#[derive(Debug, Clone, Copy)]
struct AsCalled;

impl<R: ?Sized + 'static, E: 'static> Classify<Call<R, E>, Answer> for AsCalled {
    fn operation(&self, call: &Call<R, E>) -> Operation {
        call.operation.clone()
    }

    fn written(&self, _operation: &Operation, answer: &Answer) -> Option<Touched> {
        answer.shown.clone()
    }
}

/// Two repositories behind one layer, called by method; see the [module page](self). A clone
/// shares everything.
pub struct Layered<R: ?Sized, E> {
    service: Changeover<Methods<R>, Methods<R>, Call<R, E>, Answer, E>,
}

impl<R, E> Layered<R, E>
where
    R: Send + Sync + ?Sized + 'static,
    E: 'static,
{
    /// The layer that `builder` describes, around `legacy` and `new`. What a call is and how an
    /// answer is observed are set here; everything else is the builder's.
    ///
    /// # Errors
    ///
    /// [`Incomplete`] when the builder's compare rules cannot be used.
    pub fn around(
        builder: Builder<(), Call<R, E>, Answer, E>,
        legacy: Arc<R>,
        new: Arc<R>,
    ) -> Result<Layered<R, E>, Incomplete>
    where
        E: CallError,
    {
        let layer = builder
            .classify(AsCalled)
            .observe(|answer: &Answer| (answer.observe)(&*answer.value))
            .mark(|answer: &mut Answer, served| answer.served = Some(served))
            .new_service(Methods(new))
            .build()?;
        Ok(Layered {
            service: layer.layer(Methods(legacy)),
        })
    }

    /// Calls `method` on the side that `operation` is routed to.
    ///
    /// Cancellation safe as the layer is: a write that has begun goes on without its caller.
    pub fn call<T, F>(&self, operation: Operation, method: F) -> BoxFuture<'static, Result<T, E>>
    where
        F: for<'a> Fn(&'a R) -> BoxFuture<'a, Result<T, E>> + Send + Sync + 'static,
        E: CallError,
        T: Comparable,
    {
        let answer = self.send(operation, method, |_| None);
        Box::pin(async move { answer.await.map(|(value, _served)| value) })
    }

    /// The same, and says which side served the answer and why.
    pub fn served<T, F>(
        &self,
        operation: Operation,
        method: F,
    ) -> BoxFuture<'static, Result<(T, Served), E>>
    where
        F: for<'a> Fn(&'a R) -> BoxFuture<'a, Result<T, E>> + Send + Sync + 'static,
        E: CallError,
        T: Comparable,
    {
        Box::pin(self.send(operation, method, |_| None))
    }

    /// The same for a write whose key the database generates: `shown` says which key it was.
    pub fn insert<T, K, F>(
        &self,
        operation: Operation,
        method: F,
        shown: impl Fn(&T) -> K + Send + Sync + 'static,
    ) -> BoxFuture<'static, Result<T, E>>
    where
        F: for<'a> Fn(&'a R) -> BoxFuture<'a, Result<T, E>> + Send + Sync + 'static,
        E: CallError,
        T: Comparable,
        K: Into<Key>,
    {
        let answer = self.send(operation, method, move |answer| {
            Some(Touched::keys([shown(answer)]))
        });
        Box::pin(async move { answer.await.map(|(value, _served)| value) })
    }

    /// The layer's handle: tokens, units of work, the graceful end.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.service.handle()
    }

    fn send<T, F, S>(
        &self,
        operation: Operation,
        method: F,
        shown: S,
    ) -> impl Future<Output = Result<(T, Served), E>> + Send + use<R, E, T, F, S>
    where
        F: for<'a> Fn(&'a R) -> BoxFuture<'a, Result<T, E>> + Send + Sync + 'static,
        S: Fn(&T) -> Option<Touched> + Send + Sync + 'static,
        E: CallError,
        T: Comparable,
    {
        let shown = Arc::new(shown);
        let method = erased(move |on: &R| {
            let (answer, shown) = (method(on), Arc::clone(&shown));
            Box::pin(async move {
                let answer = answer.await?;
                let shown = shown(&answer);
                Ok(Answer::new(answer, shown))
            })
        });
        let answer = self.service.clone().oneshot(Call { operation, method });
        async move {
            let answer = answer.await?;
            let value = answer.value.downcast::<T>();
            let value =
                value.expect("either repository answers a call with what its method answers");
            let served = answer.served.expect("the layer marks every answer");
            Ok((*value, served))
        }
    }
}

/// Tells the compiler that a closure is a method for every lifetime.
fn erased<R, E, F>(method: F) -> Method<R, E>
where
    R: ?Sized,
    F: for<'a> Fn(&'a R) -> BoxFuture<'a, Result<Answer, E>> + Send + Sync + 'static,
{
    Arc::new(method)
}

impl<R: ?Sized, E> Clone for Layered<R, E> {
    fn clone(&self) -> Self {
        Layered {
            service: self.service.clone(),
        }
    }
}

impl<R: ?Sized, E> fmt::Debug for Layered<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layered")
            .field("handle", &self.service.handle())
            .finish()
    }
}

/// Writes a type that has a trait's methods and sends them through the layer; see
/// [`repository`](mod@crate::repository).
#[macro_export]
macro_rules! repository {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident: $trait:path, $error:ty;
        $(
            $method:ident ( $($arg:ident : $type:ty),* $(,)? ) -> $answer:ty
                = $kind:ident ( $($what:expr),* ) $( .$more:ident ( $($with:expr),* ) )*
                $( , $shown:expr )? ;
        )*
    ) => {
        $(#[$meta])*
        $vis struct $name($crate::repository::Layered<dyn $trait, $error>);

        impl $name {
            /// The layer that `builder` describes, around the two repositories.
            ///
            /// # Errors
            ///
            /// When the builder's compare rules cannot be used.
            $vis fn around(
                builder: $crate::proxy::Builder<
                    (),
                    $crate::repository::Call<dyn $trait, $error>,
                    $crate::repository::Answer,
                    $error,
                >,
                legacy: ::std::sync::Arc<dyn $trait>,
                new: ::std::sync::Arc<dyn $trait>,
            ) -> ::std::result::Result<Self, $crate::proxy::Incomplete> {
                let builder = builder.operations([$(stringify!($method)),*]);
                $crate::repository::Layered::around(builder, legacy, new).map($name)
            }

            /// The layer's handle: tokens, units of work, the graceful end.
            #[allow(dead_code, reason = "not every application needs it")]
            $vis fn handle(&self) -> $crate::proxy::Handle {
                self.0.handle()
            }
        }

        impl $trait for $name {
            $(
                fn $method(
                    &self,
                    $($arg: $type),*
                ) -> $crate::repository::BoxFuture<'_, ::std::result::Result<$answer, $error>> {
                    let operation = $crate::proxy::Operation::$kind(
                        stringify!($method) $(, $what)*
                    )$( .$more($($with),*) )*;
                    $crate::repository!(@send self, operation, $answer,
                        move |on| on.$method($($crate::repository::again::<$type>(&$arg)),*)
                        $(, $shown)?)
                }
            )*
        }
    };
    (@send $this:expr, $operation:expr, $answer:ty, $method:expr) => {
        $this.0.call::<$answer, _>($operation, $method)
    };
    (@send $this:expr, $operation:expr, $answer:ty, $method:expr, $shown:expr) => {
        $this.0.insert::<$answer, _, _>($operation, $method, $shown)
    };
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use changeover_flags::{Entity, Epoch, Flags, Percent};
    use changeover_proxy::Refused;
    use metrics_util::debugging::DebuggingRecorder;

    use super::*;

    #[derive(Debug, PartialEq)]
    enum Error {
        Store(&'static str),
        Layer,
    }

    impl From<Refused> for Error {
        fn from(_: Refused) -> Error {
            Error::Layer
        }
    }

    trait Shop: Send + Sync {
        fn title(&self, id: i64) -> BoxFuture<'_, Result<Option<String>, Error>>;
        fn rename(&self, id: i64, title: String) -> BoxFuture<'_, Result<bool, Error>>;
    }

    /// A store that has one row, or fails.
    struct Store {
        fails: bool,
        row: Mutex<(i64, String)>,
    }

    impl Store {
        fn of(id: i64, title: &str) -> Arc<Store> {
            let row = Mutex::new((id, title.to_owned()));
            Arc::new(Store { fails: false, row })
        }
    }

    impl Shop for Store {
        fn title(&self, id: i64) -> BoxFuture<'_, Result<Option<String>, Error>> {
            Box::pin(async move {
                let row = self.row.lock().expect("nobody panics");
                Ok((row.0 == id).then(|| row.1.clone()))
            })
        }

        fn rename(&self, id: i64, title: String) -> BoxFuture<'_, Result<bool, Error>> {
            Box::pin(async move {
                if self.fails {
                    return Err(Error::Store("disk full"));
                }
                *self.row.lock().expect("nobody panics") = (id, title);
                Ok(true)
            })
        }
    }

    crate::repository! {
        struct Moving: Shop, Error;
        title(id: i64) -> Option<String> = read(id).routed_by("shop");
        rename(id: i64, title: String) -> bool = write([id]);
    }

    fn moving(legacy: Arc<Store>, new: Arc<Store>, known: bool) -> Result<Moving, Incomplete> {
        let flags = Flags::memory(Entity::new("shops").expect("a name"));
        if known {
            let epoch = Epoch::READY;
            flags.learn(&epoch).expect("memory keeps everything");
            flags.set_read_new(Percent::HUNDRED).expect("ready");
        }
        Moving::around(Changeover::builder(flags), legacy, new)
    }

    #[tokio::test]
    async fn errors_are_the_repositorys_own_and_refusals_enter_them() -> Result<(), Incomplete> {
        let full = Arc::new(Store {
            fails: true,
            row: Mutex::default(),
        });
        let shop = moving(full, Store::of(1, "new"), true)?;
        let renamed = shop.rename(1, "x".into()).await;
        assert_eq!(renamed, Err(Error::Store("disk full")));
        let shop = moving(Store::of(1, "legacy"), Store::of(1, "new"), false)?;
        assert_eq!(shop.title(1).await, Err(Error::Layer));
        Ok(())
    }

    #[tokio::test]
    async fn what_the_new_repository_does_not_find_the_old_one_is_asked_for()
    -> Result<(), Incomplete> {
        let shop = moving(Store::of(1, "legacy"), Store::of(2, "new"), true)?;
        assert_eq!(shop.title(1).await, Ok(Some("legacy".into())));
        assert_eq!(shop.title(2).await, Ok(Some("new".into())));
        assert_eq!(shop.title(3).await, Ok(None));
        Ok(())
    }

    #[tokio::test]
    async fn each_method_is_counted_by_its_name() -> Result<(), Incomplete> {
        let recorder = DebuggingRecorder::new();
        let snapshot = recorder.snapshotter();
        let shop = metrics::with_local_recorder(&recorder, || {
            moving(Store::of(1, "legacy"), Store::of(1, "new"), true)
        })?;
        assert_eq!(shop.title(1).await, Ok(Some("new".into())));
        let counted = snapshot.snapshot().into_vec();
        let counted = counted.iter().filter(|(key, _, _, value)| {
            let title = key.key().labels().any(|label| label.value() == "title");
            title && *value == metrics_util::debugging::DebugValue::Counter(1)
        });
        assert_eq!(counted.count(), 1);
        Ok(())
    }
}
