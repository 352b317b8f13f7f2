//! Exceptions from the percentages: how they are set, and what they may name.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Flags, Refused, State, check_ready, lock};
use crate::{Exceptions, Fixable, KeyList, Saved, Shares, UnknownOperation};

impl Flags {
    /// Sets the keys whose reads go to the new side at any percentage.
    ///
    /// # Errors
    ///
    /// As [`set_read_new`](Flags::set_read_new), with nothing changed but for [`Refused::Unsaved`]:
    /// a list that is not empty needs the same evidence as a percentage above zero.
    pub fn set_always_new(&self, keys: KeyList) -> Result<(), Refused> {
        let fixed = |state: &State| {
            let fixed = state.environment.always_new.is_some();
            fixed.then_some(Fixable::AlwaysNew)
        };
        self.except(
            "the list of keys that are always read from new",
            fixed,
            |exceptions| {
                exceptions.always_new = keys;
            },
        )
    }

    /// Sets the keys whose reads do not go to the new side, whatever else says that they do.
    ///
    /// # Errors
    ///
    /// [`Refused::Fixed`], with nothing changed, while the environment sets it.
    /// [`Refused::Unsaved`] if it is in force but not saved.
    pub fn set_never_new(&self, keys: KeyList) -> Result<(), Refused> {
        let fixed = |state: &State| {
            let fixed = state.environment.never_new.is_some();
            fixed.then_some(Fixable::NeverNew)
        };
        self.except(
            "the list of keys that are never read from new",
            fixed,
            |exceptions| {
                exceptions.never_new = keys;
            },
        )
    }

    /// Sets the percentages of one operation; those that are `None` are the entity's again.
    ///
    /// # Errors
    ///
    /// As [`set_read_new`](Flags::set_read_new), and [`Refused::UnknownOperation`] for a name that no
    /// layer has [declared](Flags::declare_operations); nothing changes but for [`Refused::Unsaved`].
    pub fn set_operation(&self, name: &str, shares: Shares) -> Result<(), Refused> {
        self.known(&lock(&self.inner.state), name)?;
        let fixed = |state: &State| {
            let environment = &state.environment;
            let read_new = shares.read_new.and(environment.read_new);
            let sample = shares.sample.and(environment.sample);
            let sample = sample.map(|_| Fixable::Sample);
            read_new.map(|_| Fixable::ReadNew).or(sample)
        };
        self.except("the percentages of an operation", fixed, |exceptions| {
            if shares == Shares::default() {
                exceptions.operations.remove(name);
            } else {
                exceptions.operations.insert(name.to_owned(), shares);
            }
        })
    }

    /// Tells which operations there are, in addition to those of layers before: what names another
    /// one is refused from here on. [`Flags::troubles`] names those that stand in the stored flags.
    pub fn declare_operations(&self, names: &[&'static str]) {
        let mut state = lock(&self.inner.state);
        let declared = state.declared.get_or_insert_with(BTreeSet::new);
        declared.extend(names);
    }

    fn except(
        &self,
        change: &'static str,
        fixed: impl Fn(&State) -> Option<Fixable>,
        except: impl FnOnce(&mut Exceptions),
    ) -> Result<(), Refused> {
        {
            let mut state = lock(&self.inner.state);
            if let Some(flag) = fixed(&state) {
                self.free(true, flag)?;
            }
            let mut exceptions = (*state.flags.exceptions).clone();
            except(&mut exceptions);
            let flags = Saved {
                exceptions: Arc::new(exceptions),
                ..state.flags.clone()
            };
            check_ready(&self.inner.entity, &flags)?;
            state.exceptions_unsaved = true;
            self.publish(&mut state, flags);
        }
        Ok(self.save(change)?)
    }

    /// What is wrong with the operations that `wanted` names, where those in force do not.
    pub(super) fn check_operations(
        &self,
        state: &State,
        wanted: &Exceptions,
    ) -> Result<(), UnknownOperation> {
        let old = &state.flags.exceptions.operations;
        let mut added = wanted
            .operations
            .keys()
            .filter(|name| !old.contains_key(*name));
        added.try_for_each(|name| self.known(state, name))
    }

    pub(super) fn known(&self, state: &State, name: &str) -> Result<(), UnknownOperation> {
        match &state.declared {
            Some(declared) if !declared.contains(name) => Err(UnknownOperation {
                entity: self.inner.entity.clone(),
                operation: name.to_owned(),
                declared: declared.iter().copied().collect(),
            }),
            _ => Ok(()),
        }
    }
}
