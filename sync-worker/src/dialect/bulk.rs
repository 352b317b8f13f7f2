//! Moving rows without looking into them.

use changeover_shadow::Value;

use super::Dialect;
use super::catalog::Column;
use super::session::{DbError, Session};
use super::statement::Statement;

/// How an engine writes many rows at once, and reads them again.
pub trait Bulk: Send + Sync {
    /// The name of the form: databases that name the same one read what the other writes.
    fn format(&self) -> &'static str;

    /// The statement that writes what `select` answers: as text, or as its types store it.
    fn copy_out(&self, select: &str, typed: bool) -> String;

    /// The statement that reads such rows of these columns, quoted, into `table`, quoted.
    fn copy_in(&self, table: &str, columns: &[String], typed: bool) -> String;

    /// Whether this is for sure the name of a table or column, as the catalog spells it, and no more.
    fn is_name(&self, sql: &str) -> bool;

    /// Whether what `from` stores is what `to` stores, for every value, also on another server.
    fn is_one_type(&self, from: &Column, to: &Column) -> bool;

    /// A query of the names of a table's columns, and of their types with length and precision.
    fn types(&self, table: &str) -> String;

    /// Whether one of `columns`, in their order in `rows`, would hold another value than is written
    /// there, as [`Dialect::alters`] says.
    fn alters(&self, rows: &[u8], columns: &[Column]) -> bool;

    /// What lets the commit of the transaction it stands in be answered before it is on disk: a crash
    /// may then take it back, with everything that was committed after it.
    fn commit_behind(&self) -> &'static str;

    /// What goes before many rows in their transaction: foreign keys are checked by statements of the
    /// engine's own, which need not be planned again for each row.
    fn many_rows(&self) -> &'static str;

    /// `text` as a literal of `sql_type`: these statements bind nothing.
    fn literal(&self, text: &str, sql_type: &str) -> String;
}

/// Whether a table still has these columns, of these types. To be asked by a transaction that keeps
/// others from changing it.
pub(super) async fn still_has<'c>(
    dialect: &dyn Dialect,
    session: &mut dyn Session,
    table: &str,
    mut columns: impl Iterator<Item = &'c Column> + Send,
) -> Result<bool, DbError> {
    let Some(bulk) = dialect.bulk() else {
        return Ok(false);
    };
    let types = session
        .fetch(Statement::of(dialect, &bulk.types(table)))
        .await?;
    Ok(columns.all(|column| {
        types.iter().any(|row| {
            matches!(row.as_slice(), [Value::Text(name), Value::Text(full)]
                if *name == column.name && *full == column.full_type)
        })
    }))
}
