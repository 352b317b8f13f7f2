//! Checks on a schedule.

use super::{Checked, Checks};
use futures_util::future::join_all;

impl Checks {
    /// Runs each check now, and again whenever its time has come, until dropped; `told` hears of each
    /// when it has ended. One that takes long delays no other, beyond
    /// [`CheckOptions::concurrency`](super::CheckOptions::concurrency).
    ///
    /// Cancellation safe: it writes nothing.
    pub async fn follow(&self, told: impl Fn(&Checked) + Sync) {
        let told: &(dyn Fn(&Checked) + Sync) = &told;
        let all = self.list.iter().map(|check| async move {
            // What was missed while it ran is not made up for.
            let mut due = tokio::time::interval(check.every.max(Self::MIN_EVERY));
            due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
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
