//! Which side serves: the stage, the read percentage, sampling and the kill switch of a changeover.
//!
//! A call takes one [`Snapshot`] from [`Flags`] and decides everything by it. This crate keeps the
//! snapshot, restores it after a restart and refuses changes that are not safe. It knows no HTTP,
//! no Tower and no database: whoever reads the home row hands it in as an [`Epoch`].
//!
//! # Stages
//!
//! | stage | authority | copies run | a read is answered by |
//! | --- | --- | --- | --- |
//! | [`legacy`](Stage::Legacy) | legacy | – | legacy |
//! | [`dual-write`](Stage::DualWrite) | legacy | legacy → new | new for [`read_new`](Snapshot::read_new) percent of keys, else legacy |
//! | [`cutover`](Stage::Cutover) | new | new → legacy | new |
//! | [`complete`](Stage::Complete) | new | – | new |
//!
//! # Rules
//!
//! 1. The stage is derived from the [`Epoch`] row and stored nowhere else; what is kept locally is
//!    a memory of it. Moves are one step at a time, and every other one is an [`IllegalMove`].
//! 2. An instance never goes back: an epoch older than the known one is ignored.
//! 3. A stage that was never learnt is an error, [`UnknownStage`]; there is no default, since the
//!    default could be a retired store.
//! 4. Writes have no percentage. Reads have one, by [`Bucket`]: pinned, the same on every instance,
//!    and growing it only adds keys.
//! 5. A percentage above zero is refused until a backfill and one clean verify are recorded, from
//!    wherever it comes: a call, an edit of the file, a restart.
//! 6. [`Exceptions`] from the percentage: keys that are always or never read from the new side, and
//!    percentages of single operations. Rule 5 holds for them as well. Never beats always, and a
//!    kill beats both.
//! 7. The kill switch acts in memory before anything else and is stored apart from the percentage,
//!    so clearing it returns to the ramp that was.
//! 8. All of it survives a restart, in a [`Store`]; [`FileStore`] is one TOML file per entity that
//!    can be edited by hand and taken up with [`Flags::reload`], without any database. While an
//!    edit cannot be understood or asks for what is refused, the last good flags stay in force;
//!    [`Flags::troubles`] says why, and the log says it once.
//! 9. What an environment variable sets stands above all that, for the life of the process; see
//!    [`environment`].
//!
//! # What it does not promise
//!
//! - That two instances believe the same at one instant. Correctness does not rest on it: the
//!   databases refuse a write to the wrong side.
//! - That a kill reaches other instances. It acts on this one; spreading it is the operator's tool.
//! - Anything without blocking but [`Flags::load`] and what ends in `_now`. Changes write files.
//!
//! # Example
//!
//! ```
//! use changeover_flags::{Bucket, Entity, Epoch, FileStore, Flags, Percent, Stage};
//!
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path();
//! let listings = Entity::new("listings")?;
//! let flags = Flags::open(listings.clone(), FileStore::new(directory, &listings))?;
//!
//! // What the worker reads from the home row.
//! flags.learn(&Epoch::READY)?;
//! flags.set_read_new(Percent::new(25.0)?)?;
//!
//! let now = flags.load();
//! assert_eq!(now.serving()?, Stage::DualWrite);
//! let keys = (0..1_000).map(|key| Bucket::of(&listings, &key.to_string()));
//! let moved = keys.filter(|bucket| now.read_new.covers(*bucket)).count();
//! assert!((200..300).contains(&moved));
//!
//! // A restart, with the database away.
//! flags.kill("latency of new")?;
//! drop(flags);
//! let flags = Flags::open(listings.clone(), FileStore::new(directory, &listings))?;
//! assert!(flags.load().kill);
//! flags.clear_kill()?;
//! assert_eq!(flags.load().read_new.to_string(), "25%");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod key;
mod place;

mod stage;

mod epoch;

mod percent;

mod bucket;

mod snapshot;

mod exceptions;

pub mod environment;
mod handle;
mod store;

pub use bucket::Bucket;
pub use environment::{BadVariable, Environment, Fixable};
pub use epoch::{Epoch, IllegalMove};
pub use exceptions::{Asked, BadList, Exceptions, KeyList, Listed, Shares};
pub use handle::{Asking, Flags, Refused, Unsaved};
pub use key::{BadEntity, Entity, Key, Version};
pub use percent::{BadPercent, Percent};
pub use place::{Place, Role};
pub use snapshot::{InForce, Snapshot, UnknownStage};
pub use stage::Stage;
pub use store::{
    FileStore, Kill, Learnt, MemoryStore, NotReady, Saved, Store, StoreError, UnknownOperation,
};
