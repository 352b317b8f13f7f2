//! A store that forgets with the process: for tests, and where nothing needs to survive.

use std::sync::{Mutex, PoisonError};

use super::{Saved, Store, StoreError};

/// Keeps the flags in memory. Shared through an [`Arc`](std::sync::Arc) it survives a
/// [`Flags`](crate::Flags), as a file survives a process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    saved: Mutex<Option<Saved>>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }
}

impl Store for MemoryStore {
    fn load(&self) -> Result<Option<Saved>, StoreError> {
        // A value is replaced whole, so it is sound even if a holder of the lock panicked.
        let saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(saved.clone())
    }

    fn save(&self, saved: &Saved) -> Result<(), StoreError> {
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = Some(saved.clone());
        Ok(())
    }
}
