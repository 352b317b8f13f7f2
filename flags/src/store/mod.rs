//! Where the last known flags outlive the process: a contract and two stores.

mod error;
mod file;
mod memory;

use std::sync::Arc;

use crate::{Epoch, Exceptions, Percent, Stage, Version};

pub use error::{NotReady, StoreError, UnknownOperation};
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
    /// What differs from these percentages; shared, since it can be long.
    pub exceptions: Arc<Exceptions>,
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
