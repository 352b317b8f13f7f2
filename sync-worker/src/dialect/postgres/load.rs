//! How loaded a PostgreSQL server is.

use crate::dialect::load::Load;

/// A role that may not see others' rows is shown NULL in their columns: that is no answer, and not 0.
pub(super) const fn query(load: Load) -> &'static str {
    match load {
        Load::ActiveSessions => {
            "SELECT count(*) + CASE WHEN bool_or(backend_type IS NULL AND pid <> pg_backend_pid()) THEN NULL ELSE 0 END \
             FROM pg_stat_activity WHERE datname = current_database() AND application_name IS DISTINCT FROM 'changeover' \
             AND (backend_type IS NULL OR backend_type = 'client backend' AND state = 'active')"
        }
        // The lag of a replica that has nothing to apply is NULL.
        Load::ReplicaLagSeconds => {
            "SELECT max(CASE WHEN state IS NOT NULL THEN extract(epoch FROM coalesce(replay_lag, '0')) END) \
             FROM pg_stat_replication"
        }
        Load::ReplicaLagBytes => {
            "SELECT max(pg_wal_lsn_diff(pg_current_wal_lsn(), coalesce(replay_lsn, flush_lsn))) FROM pg_stat_replication"
        }
        Load::SlotBytes => {
            "SELECT CASE WHEN NOT pg_is_in_recovery() THEN coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)), 0) END \
             FROM pg_replication_slots"
        }
        Load::WalBytes => "SELECT sum(size) FROM pg_ls_waldir()",
    }
}
