//! PostgreSQL's `COPY`, in its text format: what a type prints, the same or another type reads.

use super::Postgres;
use crate::dialect::bulk::Bulk;

impl Bulk for Postgres {
    fn format(&self) -> &'static str {
        "PostgreSQL text"
    }

    fn copy_out(&self, select: &str) -> String {
        format!("COPY ({select}) TO STDOUT")
    }

    fn copy_in(&self, table: &str, columns: &[String]) -> String {
        format!("COPY {table} ({}) FROM STDIN", columns.join(", "))
    }

    fn literal(&self, text: &str, sql_type: &str) -> String {
        // Sessions are opened with `standard_conforming_strings`.
        format!("'{}'::{sql_type}", text.replace('\'', "''"))
    }
}
