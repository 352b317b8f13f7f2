//! Between memory and the store: edits are merged in, changes are written out.

use std::sync::Arc;

use super::{Disk, Flags, State, Unsaved, check_ready, lock};
use crate::{Fixable, Kill, Saved, StoreError};

impl Flags {
    pub(super) fn save(&self, change: &'static str) -> Result<(), Unsaved> {
        let saved = self.persist().map(drop);
        saved.map_err(|source| Unsaved {
            change,
            entity: self.inner.entity.clone(),
            source,
        })
    }

    /// Takes up edits, then stores what is not stored. Whether an edit changed anything.
    pub(super) fn persist(&self) -> Result<bool, StoreError> {
        let mut disk = lock(&self.inner.disk);
        let taken = self.take_edit(&mut disk);
        let done = taken.and_then(|changed| self.write(&mut disk).map(|()| changed));
        // While the disk is held, so that the last one to look has the last word.
        self.note(done.as_ref().err());
        done
    }

    /// Merges what somebody changed in the store since we last looked.
    fn take_edit(&self, disk: &mut Disk) -> Result<bool, StoreError> {
        let loaded = disk.store.load();
        if let Ok(Some(stored)) = &loaded
            && disk.attempted.as_ref() == Some(stored)
        {
            disk.seen = stored.clone();
        }
        // First: who throws it must not have to find out what else is wrong with the edit.
        let killed = match &loaded {
            Ok(stored) => stored.as_ref().and_then(|stored| stored.kill.as_ref()),
            Err(error) => error.kill(),
        };
        let mut changed = killed.is_some_and(|kill| self.take_kill(kill, &mut disk.seen));
        let Some(stored) = loaded? else {
            // Taken away is no edit: nobody clears a kill like that. The next write brings it back.
            if disk.seen != Saved::default() {
                tracing::warn!(entity = %self.inner.entity, "the stored flags are gone: the flags in force are stored again");
                disk.seen = Saved::default();
                lock(&self.inner.state).changes += 1;
            }
            return Ok(changed);
        };
        let mut state = lock(&self.inner.state);
        let mut flags = state.flags.clone();
        if stored.kill != disk.seen.kill && !state.kill_unsaved {
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
        if stored.exceptions != disk.seen.exceptions {
            self.check_operations(&state, &stored.exceptions)?;
            flags.exceptions = match state.exceptions_unsaved {
                true => Arc::new(stored.exceptions.safer(&flags.exceptions, flags.read_new)),
                false => Arc::clone(&stored.exceptions),
            };
        }
        check_ready(&self.inner.entity, &flags).map_err(StoreError::NotReady)?;
        self.warn_of_fixed(&state, &flags);
        disk.seen = stored;
        if flags != state.flags {
            changed = true;
            tracing::info!(entity = %self.inner.entity, read_new = %flags.read_new, sample = %flags.sample, kill = flags.kill.is_some(), excepted = !flags.exceptions.is_empty(), "edited flags taken up");
            self.publish(&mut state, flags);
        }
        Ok(changed)
    }

    /// Puts in force a kill that stands in the store, if somebody threw it there; not over the words
    /// of one that is not saved yet.
    fn take_kill(&self, kill: &Kill, seen: &mut Saved) -> bool {
        if seen.kill.as_ref() == Some(kill) {
            return false;
        }
        seen.kill = Some(kill.clone());
        let mut state = lock(&self.inner.state);
        if state.kill_unsaved && state.flags.kill.is_some() {
            return false;
        }
        tracing::warn!(entity = %self.inner.entity, reason = kill.reason, "kill switch thrown by an edit of the stored flags");
        let flags = Saved {
            kill: Some(kill.clone()),
            ..state.flags.clone()
        };
        self.publish(&mut state, flags);
        true
    }

    /// Says which parts of an edit have no effect.
    fn warn_of_fixed(&self, state: &State, edited: &Saved) {
        let (now, environment) = (&state.flags, &state.environment);
        let (lists, edited_lists) = (&now.exceptions, &edited.exceptions);
        for (edited, fixed, flag) in [
            (
                edited.read_new != now.read_new,
                environment.read_new.is_some(),
                Fixable::ReadNew,
            ),
            (
                edited.sample != now.sample,
                environment.sample.is_some(),
                Fixable::Sample,
            ),
            (
                edited_lists.always_new != lists.always_new,
                environment.always_new.is_some(),
                Fixable::AlwaysNew,
            ),
            (
                edited_lists.never_new != lists.never_new,
                environment.never_new.is_some(),
                Fixable::NeverNew,
            ),
        ] {
            if edited && fixed {
                let variable = flag.variable(&self.inner.entity);
                tracing::warn!(entity = %self.inner.entity, variable, "an edit of the stored flags is without effect while the environment sets it");
            }
        }
    }

    /// Stores what is in force. Whoever comes last stores the changes of all before.
    fn write(&self, disk: &mut Disk) -> Result<(), StoreError> {
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
            state.exceptions_unsaved = false;
        }
        Ok(())
    }
}
