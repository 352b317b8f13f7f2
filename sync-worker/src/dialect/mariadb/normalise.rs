//! Values as MariaDB's columns would hold them.

use changeover_shadow::Value;

use super::Mariadb;
use crate::dialect::Dialect;
use crate::dialect::catalog::Column;
use crate::dialect::session::{DbError, Session};
use crate::dialect::statement::{RowColumn, Statement, numbered};

/// `rows` through a temporary table of the columns' types, in their order. The server has no other
/// way to say what an assignment makes of a value.
pub(super) async fn normalise(
    dialect: &Mariadb,
    session: &mut dyn Session,
    columns: &[Column],
    rows: Vec<Vec<Value>>,
) -> Result<Vec<Vec<Value>>, DbError> {
    if rows.is_empty() || columns.is_empty() {
        return Ok(rows);
    }
    let names: Vec<String> = (0..columns.len())
        .map(|index| format!("c{index}"))
        .collect();
    let typed: Vec<String> = (names.iter().zip(columns))
        .map(|(name, column)| format!("{name} {} NULL", column.stored_type))
        .collect();
    session
        .script(&format!(
            "CREATE OR REPLACE TEMPORARY TABLE changeover_normal (position bigint NOT NULL PRIMARY KEY, {}) ENGINE=InnoDB",
            typed.join(", ")
        ))
        .await?;
    let mut bound: Vec<RowColumn<'_>> = (names.iter().zip(columns))
        .map(|(name, column)| RowColumn::into(name, column))
        .collect();
    bound.push(RowColumn::new("position", "bigint"));
    let rows = numbered(rows);
    let names = names.join(", ");
    for rows in rows.chunks(dialect.rows_limit(bound.len())) {
        let insert = format!(
            "INSERT INTO changeover_normal ({names}, position) SELECT {names}, r.position FROM "
        );
        let insert = Statement::of(dialect, &insert).rows("r", &bound, rows);
        session.execute(insert).await?;
    }
    let held = format!("SELECT {names} FROM changeover_normal ORDER BY position");
    session.fetch(Statement::of(dialect, &held)).await
}
