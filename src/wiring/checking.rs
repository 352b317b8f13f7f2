//! The consistency checks of the worker in the application.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::SystemTime;

use changeover_sync_worker::check::{Checked, First};

use super::{RunOptions, Wiring};

/// How a consistency check of this process ended last.
#[derive(Debug, Clone)]
pub struct LastCheck {
    /// When it ended.
    pub at: SystemTime,
    /// What it found. Its samples name rows.
    pub checked: Checked,
}

impl Wiring {
    /// How each consistency check of this process ended last, by name: the worker runs them from time
    /// to time.
    #[must_use]
    pub fn last_checks(&self) -> BTreeMap<String, LastCheck> {
        let last = self.last_checks.lock();
        last.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs the checks whenever their time has come, once the new side is ready. Before, history is
    /// still being copied, and whoever copies it needs the databases.
    pub(super) async fn check_from_time_to_time(&self, options: &RunOptions) {
        let Some(how) = &options.checks else {
            return;
        };
        let own = options.own_checks.clone();
        let checks = self.migration.checks(own, how.clone());
        while !self.flags.load().ready {
            tokio::time::sleep(options.watch_every).await;
        }
        let told = |checked: &Checked| {
            let last = LastCheck {
                at: SystemTime::now(),
                checked: checked.clone(),
            };
            let mut all = self
                .last_checks
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            all.insert(checked.check.clone(), last);
        };
        checks.follow(First::Spread, told).await;
    }
}
