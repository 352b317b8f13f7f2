//! Checks on a schedule.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{Checked, Checks};

/// When a check on a schedule runs for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// At once.
    Now,
    /// At a random moment within its interval: processes that start together do not ask together.
    Spread,
}

impl Checks {
    /// Runs each check again and again, whenever its time has come, until dropped; `told` hears of
    /// each when it has ended. One that takes long delays no other, beyond
    /// [`CheckOptions::concurrency`](super::CheckOptions::concurrency).
    ///
    /// Cancellation safe: it writes nothing.
    pub async fn follow(&self, first: First, told: impl Fn(&Checked) + Sync) {
        let told: &(dyn Fn(&Checked) + Sync) = &told;
        let all = self.list.iter().map(|check| async move {
            let every = check.every.max(Self::MIN_EVERY);
            let wait = match first {
                First::Now => Duration::ZERO,
                First::Spread => every.mul_f64(rand::random()),
            };
            let mut due = interval_at(Instant::now() + wait, every);
            // What was missed while it ran is not made up for.
            due.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                due.tick().await;
                let checked = self.run_one(check).await;
                checked.log(&self.entity);
                told(&checked);
            }
        });
        join_all(all).await;
    }
}
