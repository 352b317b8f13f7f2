//! Why a migration did not do what it was told.

use changeover_flags::{Entity, IllegalMove};
use thiserror::Error;

use crate::mapping::Fingerprint;
use crate::store::StoreError;

/// Why a migration did not do what it was told.
#[derive(Debug, Error)]
pub enum MigrationError {
    /// The stage does not allow it.
    #[error("the move is not allowed")]
    Illegal(#[from] IllegalMove),
    /// The entity is not installed.
    #[error("{entity} is not installed: run install first")]
    NotInstalled {
        /// The entity.
        entity: Entity,
    },
    /// The databases hold another mapping revision than this process has.
    #[error(
        "the databases hold mapping revision {held} of {entity}, this process has {mine}: to go on with a newer one, raise it in the databases, too (changeover install --raise, Migration::raise_revision); else deploy the one that is held"
    )]
    Revision {
        /// The entity.
        entity: Entity,
        /// The databases' revision.
        held: i64,
        /// This process's.
        mine: i64,
    },
    /// The databases hold another mapping of this process's revision.
    #[error(
        "the mapping of {entity} was changed without raising its revision: the databases hold one of revision {revision} with fingerprint {held}, this process has {mine}; raise the revision in the mapping, then in the databases (changeover install --raise, Migration::raise_revision), or deploy the mapping that is held"
    )]
    Mapping {
        /// The entity.
        entity: Entity,
        /// The revision of both.
        revision: i64,
        /// The databases'.
        held: Fingerprint,
        /// This process's.
        mine: Fingerprint,
    },
    /// A table of the new side holds rows that no copy wrote, and the mapping generates their ids:
    /// the first copy of their keys would replace them under other ids.
    #[error(
        "table {table} holds rows already that no copy wrote: delete them, or let the mapping name identity columns in place of a generated id; nothing was written"
    )]
    Occupied {
        /// The table.
        table: String,
    },
    /// The triggers of some tables are not as they were installed.
    #[error(
        "the triggers of {entity} are gone or switched off on {tables}, so writes there leave no stamp: changeover install (Migration::install) puts them back, and changeover backfill then copies every key again; what was deleted meanwhile, changeover verify names"
    )]
    Triggers {
        /// The entity.
        entity: Entity,
        /// The tables, each with its side.
        tables: String,
    },
    /// Someone else moved the entity at the same time.
    #[error(
        "{entity} was moved by someone else at the same time: look at its stage, then decide again"
    )]
    Moved {
        /// The entity.
        entity: Entity,
    },
    /// A database did not answer.
    #[error("a database did not do its part")]
    Store(#[from] StoreError),
}
