//! Shadow reads that are about to begin.
//!
//! A caller starts no task while one is on its way that will start its shadow read too: under load
//! one task starts many, and a caller pays for a place in a list. What waits here holds its place
//! among [`Limits::shadows`](crate::Limits::shadows), so the list is bounded by them.

use std::mem::replace;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use tokio::runtime::{Handle as Runtime, Id};

use crate::pins::lock;

/// A shadow read whose caller has its answer. Dropped, it counts itself.
pub(super) trait Job: Send {
    /// Where it runs.
    fn runtime(&self) -> &Runtime;

    /// The whole of it.
    fn run(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// The shadow reads of one layer that wait for the task that starts them.
#[derive(Default)]
pub(crate) struct Starting(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    jobs: Vec<Box<dyn Job>>,
    /// The runtime of the task that starts them, while it is on its way.
    on: Option<Id>,
}

impl Starting {
    /// Begins `job` on its runtime, out of the caller's sight.
    pub(super) fn push(self: &Arc<Self>, job: Box<dyn Job>) {
        let here = job.runtime().id();
        let mut waiting = lock(&self.0);
        if waiting.on == Some(here) {
            return waiting.jobs.push(job);
        }
        let runtime = job.runtime().clone();
        // A runtime need not be driven: no job waits for another one's.
        if waiting.on.is_some() {
            drop(waiting);
            return drop(runtime.spawn(job.run()));
        }
        waiting.on = Some(here);
        waiting.jobs.push(job);
        drop(waiting);
        let mut starter = Starter(Some(Arc::clone(self)));
        drop(runtime.spawn(async move {
            for job in starter.jobs() {
                drop(tokio::spawn(job.run()));
            }
        }));
    }
}

/// Starts what waits, once. Dropped before, with its runtime, it takes along what would have run there.
struct Starter(Option<Arc<Starting>>);

impl Starter {
    fn jobs(&mut self) -> Vec<Box<dyn Job>> {
        let Some(starting) = self.0.take() else {
            return Vec::new();
        };
        let mut waiting = lock(&starting.0);
        waiting.on = None;
        // As much room for the next ones: a caller would have to make it, bit by bit.
        let room = Vec::with_capacity(waiting.jobs.len());
        replace(&mut waiting.jobs, room)
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        drop(self.jobs());
    }
}
