//! What can be asked of a PostgreSQL server.

use std::time::Duration;

use super::{Postgres, load};
use crate::dialect::load::{Load, Question};
use crate::dialect::server::Server;
use crate::dialect::watched::Presence;
use crate::dialect::{Dialect as _, Statement};

impl Server for Postgres {
    fn presence(&self) -> Presence {
        Presence {
            own: "SELECT pg_backend_pid()",
            at_work: "SELECT 1 FROM pg_stat_activity WHERE pid = {} AND wait_event_type IS DISTINCT FROM 'Client'",
        }
    }

    fn known_rows(&self, table: &str) -> Statement<'_> {
        // A partitioned table's own statistics are nobody's who does not ask for them.
        let rows = Statement::of(
            self,
            "SELECT coalesce((SELECT sum(greatest(c.reltuples, 0)) FROM pg_partition_tree(t.it) p \
             JOIN pg_class c ON c.oid = p.relid WHERE p.isleaf), \
             (SELECT greatest(c.reltuples, 0) FROM pg_class c WHERE c.oid = t.it))::bigint \
             FROM (SELECT to_regclass(",
        );
        rows.text(&self.table(table)).sql(") AS it) t")
    }

    fn load(&self, load: Load) -> Option<Question> {
        Some(Question::Select(load::query(load)))
    }

    fn statement_limit(&self, within: Duration) -> String {
        let millis = within.as_millis().clamp(1, i32::MAX as u128);
        format!("SET statement_timeout = {millis}")
    }
}
