//! From what is stored to what is in force, and what may be.

use std::sync::Arc;

use super::State;
use crate::{Asked, Entity, Exceptions, InForce, NotReady, Percent, Saved, Snapshot};

/// What is in force: the flags, and above them the environment.
pub(super) fn shown(state: &State) -> InForce {
    let mut shown = snapshot_of(&state.flags);
    let environment = &state.environment;
    shown.kill |= environment.kill.is_some();
    shown.sample = environment.sample.unwrap_or(shown.sample);
    let proved = shown.ready && !state.environment_spent;
    if let Some(fixed) = environment.read_new {
        shown.read_new = if proved { fixed } else { Percent::ZERO };
    }
    let mut exceptions = Arc::clone(&state.flags.exceptions);
    environment.except(&mut exceptions, proved);
    shown.excepted = !exceptions.is_empty();
    InForce {
        snapshot: shown,
        exceptions: shown.excepted.then_some(exceptions),
    }
}

fn snapshot_of(flags: &Saved) -> Snapshot {
    let flagged = Snapshot {
        kill: flags.kill.is_some(),
        read_new: flags.read_new,
        sample: flags.sample,
        ..Snapshot::UNKNOWN
    };
    match &flags.learnt {
        None => flagged,
        Some(learnt) => Snapshot {
            stage: learnt.stage,
            epoch: learnt.epoch,
            ready: learnt.ready,
            known: true,
            ..flagged
        },
    }
}

pub(super) fn check_ready(entity: &Entity, flags: &Saved) -> Result<(), NotReady> {
    let ready = flags.learnt.is_some_and(|learnt| learnt.ready);
    match asked(flags) {
        Some(asked) if !ready => Err(NotReady {
            entity: entity.clone(),
            asked,
        }),
        _ => Ok(()),
    }
}

/// What of `flags` sends reads to the new side.
pub(super) fn asked(flags: &Saved) -> Option<Asked> {
    let share = Some(flags.read_new).filter(|share| *share > Percent::ZERO);
    let exceptions: &Exceptions = &flags.exceptions;
    share.map(Asked::Share).or_else(|| exceptions.asks())
}
