//! Moving rows without looking into them.

use super::catalog::Column;

/// How an engine writes many rows at once, and reads them again.
pub trait Bulk: Send + Sync {
    /// The name of the form: databases that name the same one read what the other writes.
    fn format(&self) -> &'static str;

    /// The statement that writes what `select` answers.
    fn copy_out(&self, select: &str) -> String;

    /// The statement that reads rows of these columns, quoted, into `table`, quoted.
    fn copy_in(&self, table: &str, columns: &[String]) -> String;

    /// Whether one of `columns`, in their order in `rows`, would hold another value than is written
    /// there, as [`Dialect::alters`](super::Dialect::alters) says.
    fn alters(&self, rows: &[u8], columns: &[Column]) -> bool;

    /// `text` as a literal of `sql_type`: these statements bind nothing.
    fn literal(&self, text: &str, sql_type: &str) -> String;
}
