//! Where the flags in force are not the flags that somebody asked for.

use std::error::Error as StdError;

use super::{Flags, lock};
use crate::{Asked, Fixable, NotReady, Percent, StoreError};

impl Flags {
    /// Why the flags in force are not those that were asked for, with the remedy: stored flags that
    /// cannot be understood or ask for what is refused, a change that could not be stored, a
    /// percentage or a list of the environment that waits for evidence, percentages of operations that
    /// there are not. Empty if nothing is amiss.
    ///
    /// Takes no lock that is held across IO, so it answers while a disk hangs.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        let unstored = lock(&self.inner.unstored).clone();
        let unstored = unstored.into_iter().chain(self.unproved());
        unstored.chain(self.unknown()).collect()
    }

    /// What the environment sends to the new side, when that is not in force.
    fn unproved(&self) -> Vec<String> {
        let state = lock(&self.inner.state);
        let (environment, now) = (&state.environment, self.in_force());
        if now.snapshot.ready && !state.environment_spent {
            return Vec::new();
        }
        let share = environment.read_new.filter(|share| *share > Percent::ZERO);
        let share = share.map(|share| (Fixable::ReadNew, Asked::Share(share)));
        let list = environment.always_new.as_ref();
        let list = list.filter(|list| !list.is_empty());
        let list = list.map(|list| (Fixable::AlwaysNew, Asked::Listed(list.len())));
        let waits = |(flag, asked): (Fixable, Asked)| {
            let entity = self.inner.entity.clone();
            let variable = flag.variable(&entity);
            if state.environment_spent {
                return format!(
                    "{variable} was in force until the new side stopped being ready: once it is ready again, start again to put it in force"
                );
            }
            format!("{variable}: {}", NotReady { entity, asked })
        };
        share.into_iter().chain(list).map(waits).collect()
    }

    /// Operations that were in the stored flags before anybody told which ones there are.
    fn unknown(&self) -> Vec<String> {
        let state = lock(&self.inner.state);
        let names = state.flags.exceptions.operations.keys();
        let unknown = names.filter_map(|name| self.known(&state, name).err());
        unknown.map(|error| error.to_string()).collect()
    }

    /// Remembers how the last look at the store ended, and logs it once: a file is looked at every
    /// second, and a bad edit in it stays until somebody comes.
    pub(super) fn note(&self, error: Option<&StoreError>) {
        let said = error.map(with_causes);
        let mut unstored = lock(&self.inner.unstored);
        if *unstored == said {
            return;
        }
        let entity = &self.inner.entity;
        match &said {
            Some(why) => {
                tracing::error!(%entity, why, "the flags in force are not those that are stored; they stay");
            }
            None => tracing::info!(%entity, "the flags in force are those that are stored again"),
        }
        *unstored = said;
    }
}

fn with_causes(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(error.to_string().trim_end());
        cause = error.source();
    }
    text
}
