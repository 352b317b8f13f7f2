//! What the router shows of consistency checks.

use std::collections::BTreeMap;

use changeover_sync_worker::check::Outcome;
use serde::Serialize;

use crate::wiring::LastCheck;

/// How the consistency checks of this process ended last. Rows are not named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Checks {
    /// How many found nothing.
    pub clean: u64,
    /// Those that found rows, and how many.
    pub found: BTreeMap<String, u64>,
    /// Those that could not be ended, and why.
    pub failed: BTreeMap<String, String>,
}

impl Checks {
    pub(super) fn of(last: BTreeMap<String, LastCheck>) -> Checks {
        let mut checks = Checks::default();
        for (name, LastCheck { checked, .. }) in last {
            match checked.outcome {
                Outcome::Clean => checks.clean += 1,
                Outcome::Found { rows, .. } => drop(checks.found.insert(name, rows)),
                Outcome::Failed { reason } => drop(checks.failed.insert(name, reason)),
                Outcome::NotYet { .. } => {}
            }
        }
        checks
    }
}
