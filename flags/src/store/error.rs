//! Flags that cannot be stored, or not be taken from a store.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::{Asked, Entity, Kill};

/// Reads that would go to the new side, by a percentage above zero or by a list, before the new side has proved equal.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{asked} of {entity} cannot go to new yet: finish a backfill and one verify without differences first, or set 0 and list none"
)]
pub struct NotReady {
    /// The entity.
    pub entity: Entity,
    /// What was asked for.
    pub asked: Asked,
}

/// A percentage of an operation that no layer has declared.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{entity} has no operation {operation:?}: use one of those that its layer declares: {}", .declared.join(", ")
)]
pub struct UnknownOperation {
    /// The entity.
    pub entity: Entity,
    /// The name.
    pub operation: String,
    /// The names that there are.
    pub declared: Vec<&'static str>,
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
        /// Where and why, without the keys that are listed there: this is shown to many.
        source: Box<dyn StdError + Send + Sync>,
        /// The kill that can be read in it all the same.
        kill: Option<Kill>,
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
        /// The kill that can be read in it all the same.
        kill: Option<Kill>,
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
    /// What is stored names an operation that the application does not have.
    #[error(transparent)]
    UnknownOperation(#[from] UnknownOperation),
    /// What is stored asks for something that is refused.
    #[error("taking the stored flags of {}", .0.entity)]
    NotReady(#[source] NotReady),
    /// Another kind of store failed.
    #[error("the store of the flags failed")]
    Other(#[source] Box<dyn StdError + Send + Sync>),
}

impl StoreError {
    /// A kill that is thrown in what could not be loaded.
    #[must_use]
    pub const fn kill(&self) -> Option<&Kill> {
        match self {
            StoreError::Malformed { kill, .. } | StoreError::Format { kill, .. } => kill.as_ref(),
            _ => None,
        }
    }
}
