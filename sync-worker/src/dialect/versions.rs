//! The versions of many rows: each looked up, or all of them in a list while they are few.
//!
//! After a load an entity keeps the versions of its writes alone, and for most rows a look finds nothing. On
//! PostgreSQL that took half of a sum's time.

use changeover_flags::Version;
use changeover_shadow::Value;

use super::session::{DbError, Session};
use super::statement::{RowColumn, Statement};
use super::tables;

/// The versions that a place keeps, while they are few: keys, and their versions.
pub(super) struct Versions<'a>(Option<&'a [Vec<Value>]>);

/// More versions than these are looked up: after a load, an entity has those of its writes alone.
pub(super) const FEW: usize = 256;

/// The versions that `kept` selects, in the order of their keys, from the session's snapshot; `None` where
/// they are many.
pub(super) async fn few(
    session: &mut dyn Session,
    kept: Statement<'_>,
) -> Result<Option<Vec<Vec<Value>>>, DbError> {
    let kept = kept.sql(&format!(" ORDER BY c.key LIMIT {}", FEW + 1));
    let rows = session.fetch(kept).await?;
    Ok((rows.len() <= FEW).then_some(rows))
}

/// The base of the incarnation that an expression answers, which the versions of that incarnation are above.
pub(super) fn base_of(incarnation: &str) -> String {
    format!("{incarnation} * {}", 1_i64 << Version::COUNTER_BITS)
}

impl<'a> Versions<'a> {
    pub(super) fn of(few: Option<&'a Vec<Vec<Value>>>) -> Versions<'a> {
        Versions(few.map(Vec::as_slice))
    }

    /// Appends the version of the row `s`, which `looked_up` finds in the table of versions `c`; NULL where
    /// none is kept.
    pub(super) fn version<'d>(
        &self,
        statement: Statement<'d>,
        looked_up: impl FnOnce(Statement<'d>) -> Statement<'d>,
    ) -> Statement<'d> {
        match self.0 {
            Some([]) => statement.sql("NULL"),
            Some(_) => statement.sql("v.version"),
            None => {
                let statement = statement.sql("(SELECT c.version FROM ");
                let statement = statement
                    .table(tables::KEY)
                    .sql(" c WHERE c.key = s.k AND ");
                looked_up(statement).sql(")")
            }
        }
    }

    /// Appends the list, if there is something in it, to a statement that ends with the rows `s`: to look
    /// into it for each row takes an eighth of a sum's time.
    pub(super) fn beside<'d>(&self, statement: Statement<'d>) -> Statement<'d> {
        let columns = [
            RowColumn::new("key", "text"),
            RowColumn::new("version", "bigint"),
        ];
        match self.0 {
            Some(rows @ [_, ..]) => statement
                .sql(" LEFT JOIN ")
                .rows("v", &columns, rows)
                .sql(" ON v.key = s.k"),
            _ => statement,
        }
    }
}
