//! How loaded a MariaDB server is.

use crate::dialect::load::{Fold, Load, Question};

/// What a user without the right PROCESS is shown is its own sessions alone. Only a replica knows how far it
/// is behind, and says nothing while it does not hear of its primary; what it has not yet heard of, it
/// does not count.
pub(super) const fn question(load: Load) -> Option<Question> {
    match load {
        Load::ActiveSessions => Some(Question::Select(
            "SELECT count(*) FROM information_schema.processlist \
             WHERE command NOT IN ('Sleep', 'Daemon') AND db = database() AND id <> connection_id()",
        )),
        Load::ReplicaLagSeconds => Some(Question::Show {
            sql: "SHOW ALL SLAVES STATUS",
            column: "Seconds_Behind_Master",
            fold: Fold::Greatest,
        }),
        Load::WalBytes => Some(Question::Show {
            sql: "SHOW BINARY LOGS",
            column: "File_size",
            fold: Fold::Sum,
        }),
        Load::ReplicaLagBytes | Load::SlotBytes => None,
    }
}
