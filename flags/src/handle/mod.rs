//! The handle that every part of an instance shares: read without a lock, changed from anywhere.
//!
//! 1. A change acts in memory first and is saved after. If saving fails, the change stays in force
//!    and the error says that it would not survive a restart.
//! 2. The kill switch waits for nothing: neither for a slow disk nor for another change being saved.
//! 3. An edit of the stored flags is looked for before every save, so that a save does not undo
//!    it. Where an edit meets a change that is not saved yet, the safer one wins: a thrown kill,
//!    the lower percentage.
//! 4. Stored flags that cannot be understood are never overwritten.
//! 5. What the environment fixes stands beside the flags and is never stored.

mod error;
mod excepted;
mod learning;
mod saving;
mod shown;
mod troubles;
mod word;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::{
    Entity, Environment, Fixable, InForce, Kill, MemoryStore, Percent, Saved, Snapshot, Store,
    StoreError,
};

pub use error::{Refused, Unsaved};
pub use learning::Asking;
use shown::{check_ready, shown};
use word::Word;

/// The flags of one entity in this process. Clones share them.
///
/// [`Flags::load`] takes no lock and does no IO. Everything that changes flags may block on the
/// [`Store`]: after it acted in memory, and one change at a time. What ends in `_now` acts in memory
/// alone, and leaves the storing to the next change or [`reload`](Flags::reload).
///
/// ```
/// use changeover_flags::{Entity, Flags, Percent, Refused};
/// let flags = Flags::memory(Entity::new("listings")?);
/// assert!(flags.load().serving().is_err());
/// assert!(matches!(flags.set_read_new(Percent::HUNDRED), Err(Refused::NotReady(_))));
/// flags.kill("new side answers slowly")?;
/// assert!(flags.load().kill);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Flags {
    inner: Arc<Inner>,
}

struct Inner {
    entity: Entity,
    /// What readers see. Written only under `state`, so that it never goes back.
    snapshot: Word,
    /// The same with its exceptions, for readers whose word says that there are some. Held for
    /// moments, and written before the word.
    in_force: RwLock<InForce>,
    /// Held for moments, never across IO: the kill switch needs it.
    state: Mutex<State>,
    /// Held across IO. Taken before `state` where both are.
    disk: Mutex<Disk>,
    /// Why the flags in force are not those that are stored. Held for moments, never across IO.
    unstored: Mutex<Option<String>>,
}

/// What is in force.
struct State {
    flags: Saved,
    environment: Environment,
    /// The environment's percentage was in force, and the new side stopped being ready.
    environment_spent: bool,
    /// One more at every change.
    changes: u64,
    /// The changes that are stored.
    stored: u64,
    /// `kill` was set or cleared since the last save.
    kill_unsaved: bool,
    /// `read_new` was set since the last save.
    read_new_unsaved: bool,
    /// The exceptions were set since the last save.
    exceptions_unsaved: bool,
    /// The operations that there are, once a layer has told.
    declared: Option<BTreeSet<&'static str>>,
}

struct Disk {
    store: Box<dyn Store>,
    /// What the store held when we last looked: the difference to it is somebody's edit.
    seen: Saved,
    /// What a failed save tried to store. It may be there all the same, and is no edit then.
    attempted: Option<Saved>,
}

impl Flags {
    /// Restores the last known flags from `store`; without any the stage is unknown.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if there are stored flags that cannot be read or understood, or that ask for
    /// what is refused.
    pub fn open(entity: Entity, store: impl Store + 'static) -> Result<Flags, StoreError> {
        let saved = store.load()?;
        if let Some(saved) = &saved {
            check_ready(&entity, saved).map_err(StoreError::NotReady)?;
        }
        Ok(Flags::start(
            entity,
            Box::new(store),
            saved.unwrap_or_default(),
        ))
    }

    /// Flags that forget with the process.
    #[must_use]
    pub fn memory(entity: Entity) -> Flags {
        Flags::start(entity, Box::new(MemoryStore::new()), Saved::default())
    }

    fn start(entity: Entity, store: Box<dyn Store>, saved: Saved) -> Flags {
        let state = State {
            flags: saved.clone(),
            environment: Environment::default(),
            environment_spent: false,
            changes: 0,
            stored: 0,
            kill_unsaved: false,
            read_new_unsaved: false,
            exceptions_unsaved: false,
            declared: None,
        };
        let in_force = shown(&state);
        let inner = Inner {
            entity,
            snapshot: Word::new(&in_force.snapshot),
            in_force: RwLock::new(in_force),
            state: Mutex::new(state),
            disk: Mutex::new(Disk {
                store,
                seen: saved,
                attempted: None,
            }),
            unstored: Mutex::new(None),
        };
        Flags {
            inner: Arc::new(inner),
        }
    }

    /// Puts in force what the environment fixes, above everything else; see
    /// [`environment`](crate::environment). For all clones.
    #[must_use]
    pub fn fixed_by(self, environment: Environment) -> Flags {
        {
            let mut state = lock(&self.inner.state);
            state.environment = environment;
            self.show(&state);
        }
        self
    }

    /// The entity.
    #[must_use]
    pub fn entity(&self) -> &Entity {
        &self.inner.entity
    }

    /// All flags at this instant, without a lock. Take one per call.
    #[must_use]
    #[inline]
    pub fn load(&self) -> Snapshot {
        let word = self.inner.snapshot.load();
        // An epoch number that fits into no word is read under the lock.
        word.unwrap_or_else(|| self.whole().snapshot)
    }

    /// All flags at this instant with the exceptions that belong to them; without a lock while there
    /// are none, and else behind one that is held for moments.
    #[must_use]
    #[inline]
    pub fn in_force(&self) -> InForce {
        match self.inner.snapshot.load() {
            Some(snapshot) if !snapshot.excepted => InForce {
                snapshot,
                exceptions: None,
            },
            _ => self.whole(),
        }
    }

    fn whole(&self) -> InForce {
        let in_force = self.inner.in_force.read();
        in_force.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What would be saved now: the flags with the kill's reason and the epoch's details, without
    /// what the environment fixes.
    #[must_use]
    pub fn saved(&self) -> Saved {
        lock(&self.inner.state).flags.clone()
    }

    /// What the environment fixes.
    #[must_use]
    pub fn environment(&self) -> Environment {
        lock(&self.inner.state).environment.clone()
    }

    /// The kill that is in force, wherever it comes from.
    #[must_use]
    pub fn killed(&self) -> Option<Kill> {
        let state = lock(&self.inner.state);
        let kill = state
            .flags
            .kill
            .as_ref()
            .or(state.environment.kill.as_ref());
        kill.cloned()
    }

    /// Sets the share of keys whose reads the new side answers.
    ///
    /// # Errors
    ///
    /// [`Refused::NotReady`], with nothing changed, for more than zero before a backfill and a
    /// clean verify are recorded, and [`Refused::Fixed`] while the environment sets it.
    /// [`Refused::Unsaved`] if it is in force but not saved.
    pub fn set_read_new(&self, percent: Percent) -> Result<(), Refused> {
        {
            let mut state = lock(&self.inner.state);
            self.free(state.environment.read_new.is_some(), Fixable::ReadNew)?;
            let mut flags = state.flags.clone();
            flags.read_new = percent;
            check_ready(&self.inner.entity, &flags)?;
            state.read_new_unsaved = true;
            self.publish(&mut state, flags);
        }
        Ok(self.save("the read percentage")?)
    }

    /// Sets the share of reads that are also compared.
    ///
    /// # Errors
    ///
    /// [`Refused::Fixed`], with nothing changed, while the environment sets it.
    /// [`Refused::Unsaved`] if it is in force but not saved.
    pub fn set_sample(&self, percent: Percent) -> Result<(), Refused> {
        {
            let mut state = lock(&self.inner.state);
            self.free(state.environment.sample.is_some(), Fixable::Sample)?;
            let mut flags = state.flags.clone();
            flags.sample = percent;
            self.publish(&mut state, flags);
        }
        Ok(self.save("the sampling")?)
    }

    /// Throws the kill switch: every read to the authority, none compared. Always acts, and before
    /// anything that can fail or wait. Thrown again, it takes the new reason.
    ///
    /// # Errors
    ///
    /// [`Unsaved`]: reads go to the authority, but a restart would forget it.
    pub fn kill(&self, reason: &str) -> Result<(), Unsaved> {
        self.kill_now(reason);
        self.save("the kill switch")
    }

    /// Throws the kill switch in memory, without IO, for where nothing may block. It is stored by
    /// the next [`reload`](Flags::reload) or change, whichever comes first.
    pub fn kill_now(&self, reason: &str) {
        self.set_kill(Some(Kill::new(reason)));
        tracing::warn!(entity = %self.inner.entity, reason, "kill switch thrown");
    }

    /// Clears the kill switch: reading returns to the percentage that was, and to whatever was set
    /// while it was thrown.
    ///
    /// # Errors
    ///
    /// [`Refused::Fixed`], with nothing changed, while the environment throws it.
    /// [`Refused::Unsaved`]: it is cleared, but a restart would throw it again.
    pub fn clear_kill(&self) -> Result<(), Refused> {
        self.clear_kill_now()?;
        Ok(self.save("the cleared kill switch")?)
    }

    /// Clears the kill switch in memory, without IO, for where nothing may block. That is stored by the
    /// next [`reload`](Flags::reload) or change, whichever comes first.
    ///
    /// # Errors
    ///
    /// [`Refused::Fixed`], with nothing changed, while the environment throws it.
    pub fn clear_kill_now(&self) -> Result<(), Refused> {
        let fixed = lock(&self.inner.state).environment.kill.is_some();
        self.free(fixed, Fixable::Kill)?;
        self.set_kill(None);
        tracing::warn!(entity = %self.inner.entity, "kill switch cleared");
        Ok(())
    }

    /// Takes up percentage, sampling and kill as somebody edited them in the store, and saves what
    /// an earlier change could not. Says whether the flags in force changed.
    ///
    /// The rest of the stored flags is not taken up: the stage comes from the database.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read or understood, or asks for what is refused: then
    /// nothing changes, not even by half, but for a kill that was thrown there. Also if an earlier change still cannot be saved. The same
    /// error is logged once, and stands in [`troubles`](Flags::troubles) until it is mended.
    pub fn reload(&self) -> Result<bool, StoreError> {
        self.persist()
    }

    fn set_kill(&self, kill: Option<Kill>) {
        let mut state = lock(&self.inner.state);
        let flags = Saved {
            kill,
            ..state.flags.clone()
        };
        state.kill_unsaved = true;
        self.publish(&mut state, flags);
    }

    /// Puts `flags` in force. The lock that `state` comes from keeps snapshots in order.
    fn publish(&self, state: &mut State, flags: Saved) {
        state.flags = flags;
        state.changes += 1;
        self.show(state);
    }

    /// Shows readers what is in force.
    fn show(&self, state: &State) {
        let in_force = shown(state);
        let snapshot = in_force.snapshot;
        let mut whole = self.inner.in_force.write();
        **whole.as_mut().unwrap_or_else(|poisoned| poisoned.get_mut()) = in_force;
        // Under the lock, so that who has seen the new whole does not see an older word.
        self.inner.snapshot.store(&snapshot);
    }

    fn free(&self, fixed: bool, flag: Fixable) -> Result<(), Refused> {
        if !fixed {
            return Ok(());
        }
        Err(Refused::Fixed {
            variable: flag.variable(&self.inner.entity),
        })
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flags")
            .field("entity", &self.inner.entity)
            .field("snapshot", &self.load())
            .finish_non_exhaustive()
    }
}

/// The data behind the locks is replaced whole, so it is sound even if a holder (a store that
/// panicked, say) did not return; the kill switch must work then too.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
