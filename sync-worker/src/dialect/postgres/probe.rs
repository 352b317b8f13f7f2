//! What the contract's checks ask of PostgreSQL.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::Postgres;
use crate::dialect::catalog::Column;
use crate::dialect::probe::{Probe, texts};
use crate::dialect::session::{DbError, Session};

impl Probe for Postgres {
    fn tables<'a>(
        &'a self,
        session: &'a mut dyn Session,
    ) -> BoxFuture<'a, Result<Vec<String>, DbError>> {
        // Partitions are written through the table they are of.
        let sql = "SELECT CASE WHEN n.nspname = current_schema() THEN '' ELSE n.nspname || '.' END || c.relname::text \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' \
             AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND c.relname !~ '^changeover_' ORDER BY 1";
        texts(self, session, sql).boxed()
    }

    fn row_id(&self) -> (&'static str, &'static str) {
        ("ctid", "tid")
    }

    fn other_values(&self, current: &str, column: &Column) -> Vec<String> {
        let text = || {
            vec![
                format!("coalesce({current}, '') || '~'"),
                // Of the same length, for a column that is full.
                format!("'~' || substr(coalesce({current}, ''), 2)"),
            ]
        };
        match column.sql_type.as_str() {
            "smallint" | "integer" | "bigint" | "numeric" | "real" | "double precision" => {
                vec![
                    format!("coalesce({current}, 0) + 1"),
                    // Values that differ stay different, whatever order rows are changed in.
                    format!("-1 - coalesce({current}, 0)"),
                ]
            }
            "text" | "character varying" | "character" | "citext" => text(),
            "boolean" => vec![format!("NOT coalesce({current}, false)")],
            "date" => vec![format!("coalesce({current}, '2000-01-01') + 1")],
            "time without time zone" => {
                vec![format!("coalesce({current}, '12:00') + interval '1 hour'")]
            }
            "timestamp without time zone" | "timestamp with time zone" => {
                vec![format!(
                    "coalesce({current}, '2000-01-01') + interval '1 day'"
                )]
            }
            "uuid" => vec!["'c0c0c0c0-0000-4000-8000-000000000001'".to_owned()],
            "json" | "jsonb" => vec![r#"'{"changeover": true}'"#.to_owned()],
            "bytea" => vec![format!("coalesce({current}, '') || '\\x01'")],
            _ => Vec::new(),
        }
    }

    fn open_transactions<'a>(
        &'a self,
        session: &'a mut dyn Session,
    ) -> BoxFuture<'a, Result<Vec<String>, DbError>> {
        let sql = "SELECT format('pid %s (application %s, %s)', pid, coalesce(nullif(application_name, ''), '?'), state) \
             FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
             AND backend_type = 'client backend' AND application_name <> 'changeover' AND xact_start IS NOT NULL ORDER BY pid";
        texts(self, session, sql).boxed()
    }
}
