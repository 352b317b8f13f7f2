//! Tower layers that put a changeover around a data layer: dual write, shadow read, routing.
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::sync::{Arc, Mutex};
//!
//! use changeover_flags::{Entity, Epoch, Flags, Percent};
//! use changeover_proxy::{
//!     BoxError, Changeover, Copied, CopyKeys, FencedCopy, Operation, Refused, Token,
//! };
//! use changeover_shadow::Json;
//! use futures_util::future::BoxFuture;
//! use tower::{Layer as _, Service, ServiceExt as _, service_fn};
//!
//! type Rows = Arc<Mutex<BTreeMap<i64, String>>>;
//!
//! #[derive(Clone)]
//! enum Call { Get(i64), Put(i64, String) }
//!
//! /// A repository as a service: over legacy tables, or over new ones.
//! fn store(rows: Rows) -> impl Service<Call, Response = Option<String>, Error = Refused,
//!     Future: Send> + Clone + Send + Sync + 'static {
//!     service_fn(move |call| {
//!         let mut rows = rows.lock().expect("no panic inside");
//!         let answer = match call {
//!             Call::Get(id) => rows.get(&id).cloned(),
//!             Call::Put(id, row) => rows.insert(id, row),
//!         };
//!         async move { Ok(answer) }
//!     })
//! }
//!
//! /// How a row of legacy becomes a row of new. The worker's copies are fenced by version.
//! struct Copier { legacy: Rows, new: Rows }
//!
//! impl CopyKeys for Copier {
//!     fn copy(&self, keys: Vec<changeover_flags::Key>) -> BoxFuture<'static, Result<Copied, BoxError>> {
//!         let (legacy, new) = (self.legacy.clone(), self.new.clone());
//!         Box::pin(async move {
//!             let applied = keys.len();
//!             for key in keys {
//!                 let id = key.as_str().parse()?;
//!                 let row = legacy.lock().expect("no panic inside").get(&id).cloned();
//!                 new.lock().expect("no panic inside").extend(row.map(|row| (id, row)));
//!             }
//!             Ok(Copied { applied, left: vec![] })
//!         })
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (legacy, new) = (Rows::default(), Rows::default());
//! let flags = Flags::memory(Entity::new("listings")?);
//! flags.learn(&Epoch::READY)?;
//! flags.set_read_new(Percent::HUNDRED)?;
//!
//! let layer = Changeover::builder(flags)
//!     .classify(|call: &Call| match call {
//!         Call::Get(id) => Operation::read("get", *id),
//!         Call::Put(id, _) => Operation::write("put", [*id]),
//!     })
//!     .observe(Json)
//!     .operations(["get", "put"])
//!     .new_service(store(new.clone()))
//!     .follow(FencedCopy::new(Copier { legacy: legacy.clone(), new: new.clone() }))
//!     .build()?;
//! let handle = layer.handle();
//! let listings = layer.layer(store(legacy));
//!
//! listings.clone().oneshot(Call::Put(1, "lamp".into())).await?;
//! // At once from legacy, since the key is pinned; from new, once it is copied.
//! assert_eq!(listings.clone().oneshot(Call::Get(1)).await?, Some("lamp".into()));
//! assert!(handle.close_and_wait(std::time::Duration::from_secs(5)).await.is_complete());
//! assert_eq!(new.lock().expect("no panic inside").get(&1), Some(&"lamp".to_owned()));
//! assert_eq!(handle.pins().total(), 0);
//! # Ok(())
//! # }
//! ```
//!
//! # Rules
//!
//! 1. The caller's answer never depends on the follower: not on its result, readiness, latency or
//!    panic. The answer and the error are the service's own; the layers add [`Refused`] alone.
//! 2. One snapshot of the flags and one table, [`route`](mod@route), decide a call.
//! 3. A write is called once, at the authority. An unknown outcome is never retried and never
//!    turned into another error.
//! 4. A write that has begun goes on without its caller, and so does what follows it.
//! 5. Keys are pinned before the authority is called; this process reads a pinned key from the
//!    authority, until a copy that began after the write's end is applied, or the databases say
//!    that the key is clean, or (best effort) every write of it was replayed.
//! 6. A caller that hands its [`Token`] back reads its own writes, on any instance.
//! 7. What the follower cannot answer (an error, a panic, too slow, *not found*) the authority
//!    answers.
//! 8. Everything has a limit, and every loss is counted: each call, copy and compare ends in
//!    exactly one counter; see [`metrics`](mod@metrics).
//!
//! # Routing
//!
//! | stage | authority | copies run | a read is answered by | shadow read |
//! | --- | --- | --- | --- | --- |
//! | legacy | legacy | – | legacy | – |
//! | dual-write | legacy | legacy → new | new for `read_new` percent of keys, else legacy | the other side, sampled |
//! | cutover | new | new → legacy | new | legacy, sampled |
//! | complete | new | – | new | – |
//!
//! The whole of it stands in [`route`](mod@route).
//!
//! # Which layer
//!
//! - [`Changeover`]: both services, routed; writes and compares as the next two do.
//! - [`DualWrite`]: brings the follower after every write of the service inside.
//! - [`ShadowRead`]: compares a share of the reads.
//! - [`UnitOfWork`]: for a transaction that the application opens itself.
//!
//! # Not promised
//!
//! - That the follower has a write when the caller has its answer: it is pinned and dirty until
//!   copied. [`Ack`] has one value as yet.
//! - That other instances see it at once: without a token they may read what is at most the
//!   reported lag old.
//! - Any order between instances: that is the fence of the copy, in the databases.
//! - Anything after the process ended: the keys are dirty by their own commit, the worker drains.
//! - With [`Replay`], more than best effort.

pub mod call;
pub mod changeover;
pub mod dual_write;
pub mod route;
pub mod served;
pub mod shadow_read;

pub mod unit;
pub mod unit_of_work;

mod pins;
pub mod port;
pub mod replay;
pub mod token;

mod desk;
mod limits;
pub mod metrics;
mod plan;
mod ready;
mod refused;

pub use call::{
    Ack, Classify, Duplicate, Failure, KeylessReads, Kind, Operation, Outcome, Touched,
    WithWritten, with_written,
};
pub use changeover::{Builder, Changeover, ChangeoverFuture, ChangeoverLayer, Incomplete};
pub use desk::{Drained, Handle, NoToken};
pub use dual_write::{DualWrite, DualWriteFuture, DualWriteLayer};
pub use limits::Limits;
pub use metrics::{Cohort, Cohorts, OTHER};
pub use pins::PinCount;
pub use port::{
    BoxError, Copied, CopyKeys, Ended, FencedCopy, Follow, Followed, NoFollow, NoVersions,
    Versions, Written,
};
pub use refused::Refused;
pub use replay::Replay;
pub use route::{Circumstances, Reason, Route, route};
pub use served::{Because, Fallback, Served};
pub use shadow_read::{ReadFuture, ShadowRead, ShadowReadLayer};
pub use token::{BadToken, Token};
pub use unit::Surviving;
pub use unit_of_work::UnitOfWork;
