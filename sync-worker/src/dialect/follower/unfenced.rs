//! Rows whose keys have no version of their own: loaded ones, and those that no copy wrote.

use changeover_flags::Key;

use super::SqlFollower;
use crate::dialect::authority::key_at;
use crate::dialect::catalog::Column;
use crate::dialect::session::{DbError, Session};
use crate::dialect::statement::Statement;
use crate::dialect::tables;
use crate::mapping::Belongs;

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
        let Some(Belongs::Key(names)) = target.belongs() else {
            return Ok(Some(Vec::new()));
        };
        let dialect = self.dialect();
        let columns: Vec<&Column> = names
            .iter()
            .filter_map(|name| target.table.column(name))
            .collect();
        let names: Vec<String> = columns
            .iter()
            .map(|column| format!("t.{}", dialect.quote(&column.name)))
            .collect();
        let known: Vec<String> = names.iter().map(|n| format!("{n} IS NOT NULL")).collect();
        let (key, together) = (dialect.key_text(&names), names.join(", "));
        let mut statement = Statement::of(dialect, &format!("SELECT {key} FROM "))
            .table(&target.target.table)
            .sql(&format!(" t WHERE {}", known.join(" AND ")));
        if let Some(components) = after.and_then(|key| key.components(columns.len())) {
            statement = statement.sql(&format!(" AND ({together}) > ("));
            for (n, (component, column)) in components.iter().zip(&columns).enumerate() {
                let value = dialect.key_value(component, column);
                statement = statement
                    .sql(if n == 0 { "" } else { ", " })
                    .bind(value, &column.sql_type);
            }
            statement = statement.sql(")");
        }
        let statement = statement
            .sql(" AND NOT EXISTS (SELECT 1 FROM ")
            .table(tables::KEY)
            .sql(&format!(" c WHERE c.key = {key} AND "));
        let statement = self
            .here(statement, "c.")
            .sql(&format!(") GROUP BY {together} ORDER BY {together} LIMIT "))
            .int(limit.into());
        let rows = session.fetch(statement).await?;
        Ok(Some(rows.iter().filter_map(|row| key_at(row, 0)).collect()))
    }
}
