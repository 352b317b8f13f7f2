//! Where the last known flags outlive the process: a contract and two stores.

mod file;
mod memory;

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::{Entity, Epoch, Percent, Stage, Version};

pub use file::FileStore;
pub use memory::MemoryStore;

/// Keeps one entity's [`Saved`] flags.
///
/// [`Flags`](crate::Flags) calls it, from whichever thread changes a flag, never two calls at a
/// time from one `Flags`. [`Store::load`] is called once at the start, at every reload and before
/// every save; [`Store::save`] after a change. Both may block: readers of flags never wait for
/// them, and the kill switch has acted before.
pub trait Store: Send + Sync {
    /// What was saved last, or what somebody put there since; `None` if nothing ever was.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if there is something that cannot be read or understood. It must never pass
    /// for `None`: that would forget a kill.
    fn load(&self) -> Result<Option<Saved>, StoreError>;

    /// Replaces what is stored, all or nothing: after an error or a crash a load gives the old
    /// state or this one. After success it survives the process and, where it can, the machine.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the state may not be stored.
    fn save(&self, saved: &Saved) -> Result<(), StoreError>;
}

impl<S: Store + ?Sized> Store for Arc<S> {
    fn load(&self) -> Result<Option<Saved>, StoreError> {
        (**self).load()
    }

    fn save(&self, saved: &Saved) -> Result<(), StoreError> {
        (**self).save(saved)
    }
}

/// The flags of one entity as they are stored. The default is what holds before anything is set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Saved {
    /// The read percentage. A kill does not change it, so clearing the kill returns to it.
    pub read_new: Percent,
    /// The share of reads that are compared.
    pub sample: Percent,
    /// The kill switch, while it is thrown.
    pub kill: Option<Kill>,
    /// What the database said last; `None` if it was never asked.
    pub learnt: Option<Learnt>,
}

/// A thrown kill switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    /// Why, in the words of who threw it; at most [`Kill::MAX_REASON`] characters.
    pub reason: String,
}

impl Kill {
    /// The longest reason that is kept, in characters; a longer one is cut.
    pub const MAX_REASON: usize = 500;

    /// A kill with a reason.
    #[must_use]
    pub fn new(reason: &str) -> Kill {
        Kill {
            reason: reason.chars().take(Self::MAX_REASON).collect(),
        }
    }
}

/// What an instance keeps of the [`Epoch`] row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learnt {
    /// The stage.
    pub stage: Stage,
    /// The epoch's number.
    pub epoch: i64,
    /// The mapping revision.
    pub revision: i64,
    /// The version base.
    pub base: Version,
    /// Whether a backfill and a clean verify were recorded.
    pub ready: bool,
}

impl Learnt {
    /// Whether this is certainly older than `known`: a late answer, to be ignored.
    ///
    /// The number decides; at the same number the revision and the base do, which only rise.
    #[must_use]
    pub fn is_older_than(&self, known: &Learnt) -> bool {
        self.epoch < known.epoch
            || (self.epoch == known.epoch
                && (self.revision < known.revision || self.base < known.base))
    }
}

impl From<&Epoch> for Learnt {
    fn from(epoch: &Epoch) -> Learnt {
        Learnt {
            stage: epoch.stage(),
            epoch: epoch.number,
            revision: epoch.revision,
            base: epoch.base,
            ready: epoch.ready(),
        }
    }
}

/// A percentage above zero before the new side has proved equal.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{percent} of the reads of {entity} cannot go to new yet: finish a backfill and one verify without differences first, or set 0"
)]
pub struct NotReady {
    /// The entity.
    pub entity: Entity,
    /// The percentage that was asked for.
    pub percent: Percent,
}

/// Flags that could not be loaded or saved.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The directory of the flags file is not there.
    #[error("no directory {}: create it, or name another one for the flags files", .path.display())]
    NoDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// The file is there and cannot be read.
    #[error("reading the flags file {}: check that this user may read it", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file could not be replaced; the old one is as it was.
    #[error("writing the flags file {}: check free space and that this user may write to its directory", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is damaged or was edited wrongly.
    #[error("understanding the flags file {}: correct it; or move it away to start without it, which also forgets a kill", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The file was written by another release.
    #[error("the flags file {} has format {found} and this release reads format {expected}: use the release that wrote it, or move it away to start without it, which also forgets a kill", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What stands in it.
        found: i64,
        /// What this release reads.
        expected: i64,
    },
    /// The file belongs to another entity.
    #[error("the flags file {} is of entity {found:?}, not {expected}: it was copied or renamed by mistake; restore the right one", .path.display())]
    WrongEntity {
        /// The file.
        path: PathBuf,
        /// The name in it.
        found: String,
        /// The name it must have.
        expected: Entity,
    },
    /// What is stored asks for something that is refused.
    #[error("taking the stored flags of {}", .0.entity)]
    NotReady(#[source] NotReady),
    /// Another kind of store failed.
    #[error("the store of the flags failed")]
    Other(#[source] Box<dyn StdError + Send + Sync>),
}
