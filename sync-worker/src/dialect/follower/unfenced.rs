//! Rows whose keys have no version of their own: loaded ones, and those that no copy wrote.

use changeover_flags::Key;

use super::SqlFollower;
use crate::dialect::catalog::Column;
use crate::dialect::session::{DbError, Session};
use crate::dialect::span::{keys_of, within};
use crate::dialect::statement::Statement;
use crate::dialect::tables;
use crate::mapping::Belongs;
use crate::sum::Span;

impl SqlFollower {
    pub(super) async fn unfenced_in(
        &self,
        session: &mut dyn Session,
        target: usize,
        after: Option<&Key>,
        limit: u32,
    ) -> Result<Option<Vec<Key>>, DbError> {
        let Some(target) = self.targets.get(target) else {
            return Ok(None);
        };
        // The others belong to rows of these, or to no key.
        let Some(Belongs::Key(names)) = target.target.belongs() else {
            return Ok(Some(Vec::new()));
        };
        let dialect = self.dialect();
        let columns: Vec<Column> = names
            .iter()
            .filter_map(|name| target.table.column(name))
            .cloned()
            .collect();
        let names: Vec<String> = columns
            .iter()
            .map(|column| format!("t.{}", dialect.quote(&column.name)))
            .collect();
        let known: Vec<String> = names.iter().map(|n| format!("{n} IS NOT NULL")).collect();
        let (key, together) = (dialect.key_text(&names), names.join(", "));
        let statement = Statement::of(dialect, &format!("SELECT {key} FROM "))
            .table(&target.target.table)
            .sql(&format!(" t WHERE {} AND ", known.join(" AND ")));
        let span = Span::above(after.cloned());
        let Some(statement) = within(statement, dialect, &names, &columns, &span) else {
            return Ok(Some(Vec::new()));
        };
        let statement = statement
            .sql(" AND NOT EXISTS (SELECT 1 FROM ")
            .table(tables::KEY)
            .sql(&format!(" c WHERE c.key = {key} AND "));
        let statement = self
            .here(statement, "c.")
            .sql(&format!(") GROUP BY {together} ORDER BY {together} LIMIT "))
            .int(limit.into());
        Ok(Some(keys_of(session, statement, 0).await?))
    }
}
