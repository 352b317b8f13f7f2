//! How loaded a MariaDB server is.

use crate::dialect::load::{Fold, Load, Question};

/// A user without the right PROCESS is shown its own sessions alone, and has no answer. Only a replica knows
/// how far it is behind, and has none while it knows that it does not hear of its primary; what it has not
/// heard of, it does not count, and that is all of it until `slave_net_timeout` has passed. Nor does it count
/// anything before it has applied its first event after a start.
pub(super) const fn question(load: Load) -> Option<Question> {
    match load {
        Load::ActiveSessions => Some(Question::Select(
            "SELECT CASE WHEN EXISTS (SELECT 1 FROM information_schema.user_privileges \
             WHERE privilege_type = 'PROCESS' AND grantee = concat('''', replace(current_user(), '@', '''@'''), '''')) \
             THEN count(*) END FROM information_schema.processlist \
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
