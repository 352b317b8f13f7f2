//! Where the flags in force are not the flags that somebody asked for.

use std::error::Error as StdError;

use super::{Flags, lock};
use crate::{Fixable, NotReady, Percent, StoreError};

impl Flags {
    /// Why the flags in force are not those that were asked for, with the remedy: stored flags that
    /// cannot be understood or ask for what is refused, a change that could not be stored, a
    /// percentage of the environment that waits for evidence. Empty if nothing is amiss.
    ///
    /// Takes no lock that is held across IO, so it answers while a disk hangs.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        let unstored = lock(&self.inner.unstored).clone();
        unstored.into_iter().chain(self.unproved()).collect()
    }

    /// The environment's percentage, when it is not in force.
    fn unproved(&self) -> Option<String> {
        let state = lock(&self.inner.state);
        let percent = state.environment.read_new?;
        if percent == Percent::ZERO || self.load().read_new == percent {
            return None;
        }
        let entity = self.inner.entity.clone();
        let variable = Fixable::ReadNew.variable(&entity);
        Some(if state.environment_spent {
            format!(
                "{variable} was in force until the new side stopped being ready: once it is ready again, start again to put it in force"
            )
        } else {
            format!("{variable}: {}", NotReady { entity, percent })
        })
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
