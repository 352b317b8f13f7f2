//! [`Together`]: copies that many ask for at once, made as one.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use changeover_flags::Key;
use tokio::sync::oneshot;

use super::{Copier, CopySource};
use crate::store::StoreError;

/// Keys that are not known to be on the follower, and why, without values.
pub type Left = Vec<(Key, String)>;

/// What became of a copy that others may have been part of.
pub type Answer = Result<Left, Arc<StoreError>>;

/// Copies the keys of whoever asks while another copy is under way together with all others that wait.
///
/// A copy of one key costs three transactions, and so does one of a hundred. As long as few ask, each is served
/// at once and alone; the more ask, the more share a copy, as commits do in a database's log. No task of its own
/// runs: whoever waits longest makes the next copy, for all that wait. Source: the group commit of `DeWitt` and
/// others, "Implementation Techniques for Main Memory Database Systems", 1984.
///
/// A clone shares everything.
#[derive(Debug, Clone)]
pub struct Together {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    copier: Copier,
    source: CopySource,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Copies under way.
    running: usize,
    waiting: VecDeque<Waiting>,
}

/// Somebody who waits. Each is a call of [`Together::copy`], so there are as many as callers.
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

/// The right to make one copy at a time. Whoever drops it passes it on.
#[derive(Debug)]
struct Lane(Option<Arc<Shared>>);

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            pass_on(&shared);
        }
    }
}

impl Together {
    /// The most copies at a time: one that waits for a lock does not hold up all others.
    pub const LANES: usize = 2;

    /// As many keys as one copy has before no more callers share it.
    pub const KEYS: usize = 100;

    /// Copies through `copier`, counted as `source`'s.
    #[must_use]
    pub fn new(copier: Copier, source: CopySource) -> Together {
        let queue = Mutex::default();
        Together {
            shared: Arc::new(Shared {
                copier,
                source,
                queue,
            }),
        }
    }

    /// Copies `keys` as they are on the authority after this call began, and answers which of them are not known
    /// to be on the follower; and which keys that nobody asked for, and that hold a unique value of one that
    /// somebody did.
    ///
    /// Cancellation safe, as [`Copier::copy`]: others that it copied for ask again.
    ///
    /// # Errors
    ///
    /// As [`Copier::copy`], for all that shared the copy.
    pub async fn copy(&self, keys: &[Key]) -> Answer {
        // The canonical text is the one that is answered.
        let authority = self.shared.copier.authority();
        let keys: BTreeSet<Key> = keys.iter().map(|key| authority.canonical(key)).collect();
        let mut alone = false;
        loop {
            let (lane, others) = match self.enter(&keys, alone) {
                Ok(lane) => (lane, Vec::new()),
                Err(told) => match told.await {
                    Ok(Told::Lead(lane, others)) => (lane, others),
                    Ok(Told::Done(answer)) => return answer,
                    Ok(Told::Alone) => {
                        alone = true;
                        continue;
                    }
                    // Who copied for this one has gone.
                    Err(_) => continue,
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
        let mut queue = lock(&self.shared);
        if queue.running < Self::LANES {
            queue.running += 1;
            return Ok(Lane(Some(Arc::clone(&self.shared))));
        }
        let (tell, told) = oneshot::channel();
        let keys = keys.clone();
        queue.waiting.push_back(Waiting { keys, alone, tell });
        Err(told)
    }

    /// Copies for all of them; `None` when each is to be tried alone.
    async fn lead(&self, own: &BTreeSet<Key>, lane: Lane, others: Vec<Waiting>) -> Option<Answer> {
        let mut all = own.clone();
        all.extend(others.iter().flat_map(|one| one.keys.iter().cloned()));
        let keys: Vec<Key> = all.iter().cloned().collect();
        let Shared { copier, source, .. } = &*self.shared;
        let copied = copier.copy(&keys, *source).await;
        // Before anybody is told: whoever asks next may share the copy after this one.
        drop(lane);
        let left = match copied {
            Ok(report) => Ok(report.left),
            Err(error) if !others.is_empty() && !error.is_transient() => {
                for one in others {
                    let _ = one.tell.send(Told::Alone);
                }
                return None;
            }
            Err(error) => Err(Arc::new(error)),
        };
        let part = |keys: &BTreeSet<Key>| match &left {
            Ok(left) => {
                let concerns = |key: &Key| keys.contains(key) || !all.contains(key);
                let left = left.iter().filter(|(key, _)| concerns(key));
                Ok(left.cloned().collect())
            }
            Err(error) => Err(Arc::clone(error)),
        };
        for one in others {
            // Who has gone needs no answer.
            let _ = one.tell.send(Told::Done(part(&one.keys)));
        }
        Some(part(own))
    }
}

/// Lets somebody who waits make the next copy.
fn pass_on(shared: &Arc<Shared>) {
    let mut others = Vec::new();
    loop {
        let first = {
            let mut queue = lock(shared);
            for one in others.drain(..).rev() {
                queue.waiting.push_front(one);
            }
            let Some(first) = queue.next() else {
                queue.running -= 1;
                return;
            };
            others = if first.alone {
                Vec::new()
            } else {
                queue.share(first.keys.len())
            };
            first
        };
        let lane = Lane(Some(Arc::clone(shared)));
        match first
            .tell
            .send(Told::Lead(lane, std::mem::take(&mut others)))
        {
            Err(Told::Lead(mut lane, back)) => {
                // It has gone: the next one has the right, and the same company.
                lane.0 = None;
                others = back;
            }
            _ => return,
        }
    }
}

impl Queue {
    /// Who has waited longest, of those that still do.
    fn next(&mut self) -> Option<Waiting> {
        while let Some(one) = self.waiting.pop_front() {
            if !one.tell.is_closed() {
                return Some(one);
            }
        }
        None
    }

    /// Who shares a copy that has so many keys already.
    fn share(&mut self, mut keys: usize) -> Vec<Waiting> {
        let mut sharing = Vec::new();
        while let Some(one) = self.next() {
            keys += one.keys.len();
            if one.alone || keys > Together::KEYS {
                self.waiting.push_front(one);
                break;
            }
            sharing.push(one);
        }
        sharing
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, Queue> {
    shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
