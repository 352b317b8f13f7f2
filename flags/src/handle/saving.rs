//! Between memory and the store: edits are merged in, changes are written out.

use super::{Disk, Flags, Unsaved, check_ready, lock};
use crate::{Saved, StoreError};

impl Flags {
    pub(super) fn save(&self, change: &'static str) -> Result<(), Unsaved> {
        self.persist().map_err(|source| Unsaved {
            change,
            entity: self.inner.entity.clone(),
            source,
        })
    }

    pub(super) fn persist(&self) -> Result<(), StoreError> {
        let mut disk = lock(&self.inner.disk);
        self.take_edit(&mut disk)?;
        self.write(&mut disk)
    }

    /// Merges what somebody changed in the store since we last looked.
    pub(super) fn take_edit(&self, disk: &mut Disk) -> Result<bool, StoreError> {
        let Some(stored) = disk.store.load()? else {
            // Taken away is no edit: nobody clears a kill like that. The next write brings it back.
            if disk.seen != Saved::default() {
                disk.seen = Saved::default();
                lock(&self.inner.state).changes += 1;
            }
            return Ok(false);
        };
        if disk.attempted.as_ref() == Some(&stored) {
            disk.seen = stored.clone();
        }
        let mut state = lock(&self.inner.state);
        let mut flags = state.flags.clone();
        if stored.kill != disk.seen.kill && !(state.kill_unsaved && flags.kill.is_some()) {
            flags.kill = stored.kill.clone();
        }
        if stored.read_new != disk.seen.read_new {
            flags.read_new = match state.read_new_unsaved {
                true => flags.read_new.min(stored.read_new),
                false => stored.read_new,
            };
        }
        if stored.sample != disk.seen.sample {
            flags.sample = stored.sample;
        }
        check_ready(&self.inner.entity, &flags).map_err(StoreError::NotReady)?;
        disk.seen = stored;
        let changed = flags != state.flags;
        if changed {
            tracing::info!(entity = %self.inner.entity, read_new = %flags.read_new, sample = %flags.sample, kill = flags.kill.is_some(), "edited flags taken up");
            self.publish(&mut state, flags);
        }
        Ok(changed)
    }

    /// Stores what is in force. Whoever comes last stores the changes of all before.
    pub(super) fn write(&self, disk: &mut Disk) -> Result<(), StoreError> {
        let (flags, changes) = {
            let state = lock(&self.inner.state);
            if state.changes == state.stored {
                return Ok(());
            }
            (state.flags.clone(), state.changes)
        };
        if flags != disk.seen {
            disk.attempted = Some(flags.clone());
            disk.store.save(&flags)?;
            disk.attempted = None;
            disk.seen = flags;
        }
        let mut state = lock(&self.inner.state);
        state.stored = changes;
        if state.changes == changes {
            state.kill_unsaved = false;
            state.read_new_unsaved = false;
        }
        Ok(())
    }
}
