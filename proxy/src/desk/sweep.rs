//! The sweeper: lets go of pins whose copy was skipped, left, late or lost.
//!
//! It runs only while pins are held, one task per entity, and asks the freshness port. Where
//! nobody keeps versions it asks the follower itself, a few keys at a time.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use changeover_flags::Key;
use tokio::runtime::Handle as Runtime;

use super::Desk;
use crate::call::Touched;
use crate::metrics::CopyEnd;
use crate::pins::Moment;
use crate::port::Ended;

/// How many keys the follower itself is asked for at once.
const FOLLOWED_AT_ONCE: usize = 64;

/// Keys that were dirty when the probe began, less those that have been seen clean since.
struct Probe {
    began: Moment,
    dirty: Vec<Key>,
}

#[derive(Default)]
struct Sweep {
    after: Option<Key>,
    probe: Option<Probe>,
}

/// Says that no sweeper runs, however it ended.
struct Running(Weak<Desk>);

impl Running {
    /// The word is another sweeper's, or said already.
    fn hand_over(&mut self) {
        self.0 = Weak::new();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(desk) = self.0.upgrade() {
            desk.sweeping.store(false, Ordering::SeqCst);
        }
    }
}

impl Desk {
    /// Starts the sweeper unless it runs or there is no runtime.
    pub(crate) fn sweep_if_idle(self: &Arc<Self>) {
        if !self.sweeping.load(Ordering::SeqCst)
            && let Ok(runtime) = Runtime::try_current()
        {
            self.sweep_soon(&runtime);
        }
    }

    /// Starts the sweeper unless it runs.
    pub(super) fn sweep_soon(self: &Arc<Self>, runtime: &Runtime) {
        if self.sweeping.swap(true, Ordering::SeqCst) {
            return;
        }
        let mut running = Running(Arc::downgrade(self));
        let every = self.limits.sweep_every;
        drop(runtime.spawn(async move {
            let mut sweep = Sweep::default();
            loop {
                tokio::time::sleep(every).await;
                let Some(desk) = running.0.upgrade() else {
                    return;
                };
                desk.sweep(&mut sweep).await;
                if desk.pins.count().total() > 0 {
                    continue;
                }
                // A pin may have come between the count and the word that nobody sweeps.
                desk.sweeping.store(false, Ordering::SeqCst);
                let none = desk.pins.count().total() == 0;
                if none || desk.sweeping.swap(true, Ordering::SeqCst) {
                    running.hand_over();
                    return;
                }
            }
        }));
    }

    async fn sweep(&self, sweep: &mut Sweep) {
        self.sweep_keys(sweep).await;
        if self.pins.count().scopes > 0 {
            self.sweep_coarse(sweep).await;
        } else {
            sweep.probe = None;
        }
        self.metrics.pins(self.pins.count());
    }

    async fn sweep_keys(&self, sweep: &mut Sweep) {
        let limit = self.limits.sweep_keys;
        let mut keys = self.pins.waiting(sweep.after.as_ref(), limit);
        let began = self.pins.now();
        let asked = keys.clone();
        if keys.is_empty() {
            sweep.after = None;
            return;
        }
        if let Ok(dirty) = self
            .ask_within(self.limits.copy_time, |versions| versions.dirty(asked))
            .await
        {
            sweep.after = keys.last().filter(|_| keys.len() == limit).cloned();
            let dirty: BTreeSet<Key> = dirty.into_iter().collect();
            keys.retain(|key| !dirty.contains(key));
            self.pins.release(&keys, began);
            return;
        }
        keys.truncate(FOLLOWED_AT_ONCE);
        sweep.after = keys.last().cloned();
        let touched = Touched::Keys(keys.clone());
        let follow = || (self.follow_keys)(touched, Ended::Unknown);
        let following = catch_unwind(AssertUnwindSafe(follow));
        if self.followed(following).await == CopyEnd::Applied {
            self.pins.release(&keys, began);
        }
    }

    /// Everything that was dirty after a bulk write has been clean once since: it is drained.
    async fn sweep_coarse(&self, sweep: &mut Sweep) {
        if let Some(probe) = &mut sweep.probe {
            let asked = probe.dirty.clone();
            match self
                .ask_within(self.limits.copy_time, |versions| versions.dirty(asked))
                .await
            {
                Ok(dirty) => probe.dirty = dirty,
                Err(_) => return,
            }
        } else {
            let began = self.pins.now();
            let limit = self.limits.sweep_keys;
            let Ok(Some(dirty)) = self
                .ask_within(self.limits.copy_time, |versions| versions.dirty_keys(limit))
                .await
            else {
                return;
            };
            sweep.probe = Some(Probe { began, dirty });
        }
        if let Some(probe) = sweep.probe.take_if(|probe| probe.dirty.is_empty()) {
            self.pins.release_coarse(probe.began);
        }
    }
}
