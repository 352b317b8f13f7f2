//! [`Together`]: copies that many ask for at once, made as one.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use changeover_flags::Key;
use tokio::runtime::{Handle, Id};
use tokio::sync::oneshot;

use super::{Copier, CopySource};
use crate::store::StoreError;

/// Keys that are not known to be on the follower, and why, without values.
pub type Left = Vec<(Key, String)>;

/// What became of a copy that others may have been part of.
pub type Answer = Result<Left, Arc<StoreError>>;

/// Copies the keys of whoever asks while other copies are under way together with all others that wait.
///
/// A copy of one key costs three transactions, and so does one of a hundred of which none is refused. As long as few
/// ask, each is served at once and alone; the more ask, the more share a copy, as commits do in a database's log. No
/// task of its own runs: one of those that wait makes the next copy, for all of them. Source: the group commit of
/// `DeWitt` and others, "Implementation Techniques for Main Memory Database Systems", 1984.
///
/// Runtimes share nothing, since one need not be driven. A clone shares everything else.
#[derive(Debug, Clone)]
pub struct Together {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    copier: Copier,
    source: CopySource,
    /// One for each runtime that copies at the moment; `None` is outside of any.
    queues: Mutex<HashMap<Option<Id>, Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Copies under way.
    running: usize,
    waiting: VecDeque<Waiting>,
}

/// Somebody who waits, in a call of [`Together::copy`]. Who has gone is taken out when a copy ends.
#[derive(Debug)]
struct Waiting {
    keys: BTreeSet<Key>,
    alone: bool,
    tell: oneshot::Sender<Told>,
}

/// What somebody who waits is told.
#[derive(Debug)]
enum Told {
    /// To make the next copy, for these others as well.
    Lead(Lane, Vec<Waiting>),
    /// What became of it.
    Done(Answer),
    /// One of all the keys may be at fault: to try with no others.
    Alone,
}

/// The right to make one copy at a time on this runtime. Whoever drops it passes it on.
#[derive(Debug)]
struct Lane {
    shared: Option<Arc<Shared>>,
    runtime: Option<Id>,
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            pass_on(&shared, self.runtime);
        }
    }
}

impl Together {
    /// The most copies at a time. One that waits for a lock holds up those that share it, and no others while
    /// there is another lane.
    pub const LANES: usize = 4;

    /// As many keys as one copy has before no more callers share it.
    pub const KEYS: usize = 100;

    /// Copies through `copier`, counted as `source`'s.
    #[must_use]
    pub fn new(copier: Copier, source: CopySource) -> Together {
        let queues = Mutex::default();
        Together {
            shared: Arc::new(Shared {
                copier,
                source,
                queues,
            }),
        }
    }

    /// Copies `keys` as they are on the authority after this call began, and answers which of them are not known
    /// to be on the follower.
    ///
    /// Cancellation safe, as [`Copier::copy`]: others that it copied for try again, alone. It must be polled until it
    /// ends, or dropped, for others of its runtime wait for it.
    ///
    /// # Errors
    ///
    /// As [`Copier::copy`]. What concerns a whole side is told to all that shared the copy; otherwise each has tried
    /// again alone.
    pub async fn copy(&self, keys: &[Key]) -> Answer {
        // The canonical text is the one that is answered.
        let authority = self.shared.copier.authority();
        let keys: BTreeSet<Key> = keys.iter().map(|key| authority.canonical(key)).collect();
        if keys.is_empty() {
            return Ok(Left::new());
        }
        let mut alone = false;
        loop {
            let (lane, others) = match self.enter(&keys, alone) {
                Ok(lane) => (lane, Vec::new()),
                Err(told) => match told.await {
                    Ok(Told::Lead(lane, others)) => (lane, others),
                    Ok(Told::Done(answer)) => return answer,
                    // Who copied for this one has gone: it took too long, or panicked, over some key.
                    Ok(Told::Alone) | Err(_) => {
                        alone = true;
                        continue;
                    }
                },
            };
            if let Some(answer) = self.lead(&keys, lane, others).await {
                return answer;
            }
            alone = true;
        }
    }

    /// The right to copy now, or who will tell.
    fn enter(&self, keys: &BTreeSet<Key>, alone: bool) -> Result<Lane, oneshot::Receiver<Told>> {
        let runtime = Handle::try_current().ok().map(|runtime| runtime.id());
        let mut queues = lock(&self.shared);
        let queue = queues.entry(runtime).or_default();
        if queue.running < Self::LANES {
            queue.running += 1;
            let shared = Some(Arc::clone(&self.shared));
            return Ok(Lane { shared, runtime });
        }
        let (tell, told) = oneshot::channel();
        let keys = keys.clone();
        let waiting = Waiting { keys, alone, tell };
        match alone {
            // It has waited before.
            true => queue.waiting.push_front(waiting),
            false => queue.waiting.push_back(waiting),
        }
        Err(told)
    }

    /// Copies for all of them; `None` when each is to be tried alone.
    async fn lead(&self, own: &BTreeSet<Key>, lane: Lane, others: Vec<Waiting>) -> Option<Answer> {
        let mut all = own.clone();
        all.extend(others.iter().flat_map(|one| one.keys.iter().cloned()));
        let keys: Vec<Key> = all.into_iter().collect();
        let Shared { copier, source, .. } = &*self.shared;
        let copied = copier.copy(&keys, *source).await;
        // Before anybody is told: whoever asks next may share the copy after this one.
        drop(lane);
        let left = match copied {
            Ok(report) => Ok(report.left),
            Err(error) if !others.is_empty() && !concerns_all(&error) => {
                for one in others {
                    let _ = one.tell.send(Told::Alone);
                }
                return None;
            }
            Err(error) => Err(Arc::new(error)),
        };
        let part = |keys: &BTreeSet<Key>| match &left {
            Ok(left) => Ok(left
                .iter()
                .filter(|(key, _)| keys.contains(key))
                .cloned()
                .collect()),
            Err(error) => Err(Arc::clone(error)),
        };
        for one in others {
            // Who has gone needs no answer.
            let _ = one.tell.send(Told::Done(part(&one.keys)));
        }
        Some(part(own))
    }
}

/// Whether an error is of a whole side, and not of one of the keys, perhaps.
const fn concerns_all(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Unreachable { .. }
            | StoreError::Loading
            | StoreError::Revision { .. }
            | StoreError::Mapping { .. }
            | StoreError::NotInstalled { .. }
    )
}

/// Lets somebody who waits make the next copy.
fn pass_on(shared: &Arc<Shared>, runtime: Option<Id>) {
    let mut back = Vec::new();
    loop {
        // What has gone is dropped when nothing is locked: whose it was is not known.
        let mut gone = Vec::new();
        let group = {
            let mut queues = lock(shared);
            let queue = queues.entry(runtime).or_default();
            for one in back.drain(..).rev() {
                queue.waiting.push_front(one);
            }
            let group = queue.group(&mut gone);
            if group.is_empty() {
                queue.running = queue.running.saturating_sub(1);
                if queue.running == 0 {
                    queues.remove(&runtime);
                }
            }
            group
        };
        drop(gone);
        let mut others = group;
        // Who came last has the most time left, and loses nothing by it.
        let Some(leader) = others.pop() else { return };
        let lane = Lane {
            shared: Some(Arc::clone(shared)),
            runtime,
        };
        match leader.tell.send(Told::Lead(lane, others)) {
            Err(Told::Lead(mut lane, others)) => {
                // It has gone: the others have the right.
                lane.shared = None;
                back = others;
            }
            _ => return,
        }
    }
}

impl Queue {
    /// Who shares the next copy, in the order in which they came.
    fn group(&mut self, gone: &mut Vec<Waiting>) -> Vec<Waiting> {
        let (mut group, mut keys) = (Vec::new(), 0);
        while let Some(one) = self.waiting.pop_front() {
            if one.tell.is_closed() {
                gone.push(one);
                continue;
            }
            keys += one.keys.len();
            let first = group.is_empty();
            if !first && (one.alone || keys > Together::KEYS) {
                self.waiting.push_front(one);
                break;
            }
            let alone = one.alone;
            group.push(one);
            if alone {
                break;
            }
        }
        group
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, HashMap<Option<Id>, Queue>> {
    shared.queues.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
