//! What a change of flags can answer besides success.

use thiserror::Error;

use crate::{Entity, NotReady, StoreError, UnknownOperation};

/// A change that is in force and not saved: a restart would undo it.
#[derive(Debug, Error)]
#[error(
    "{change} of {entity} is in force but not saved: a restart would undo it; clear the cause and repeat it, or reload"
)]
pub struct Unsaved {
    pub(super) change: &'static str,
    pub(super) entity: Entity,
    pub(super) source: StoreError,
}

impl Unsaved {
    /// Why it was not saved.
    #[must_use]
    pub fn store_error(&self) -> &StoreError {
        &self.source
    }
}

/// Why a flag was not changed, or not wholly.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Refused {
    /// Nothing changed.
    #[error(transparent)]
    NotReady(#[from] NotReady),
    /// The application has no such operation. Nothing changed.
    #[error(transparent)]
    UnknownOperation(#[from] UnknownOperation),
    /// An environment variable sets the flag. Nothing changed.
    #[error(
        "the environment variable {variable} sets this flag for as long as the process runs: change or unset it there and start again; a kill switch can be thrown at any time"
    )]
    Fixed {
        /// The variable.
        variable: String,
    },
    /// It is in force in this process and not saved.
    #[error(transparent)]
    Unsaved(#[from] Unsaved),
}
