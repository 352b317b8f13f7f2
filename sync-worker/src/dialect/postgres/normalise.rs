//! Values as PostgreSQL's columns would hold them.

use changeover_shadow::Value;

use super::Postgres;
use crate::dialect::Dialect;
use crate::dialect::catalog::Column;
use crate::dialect::session::{DbError, Session};
use crate::dialect::statement::{RowColumn, Statement};

/// `rows` through the columns' own input conversion, in their order.
pub(super) async fn normalise(
    dialect: &Postgres,
    session: &mut dyn Session,
    columns: &[Column],
    rows: Vec<Vec<Value>>,
) -> Result<Vec<Vec<Value>>, DbError> {
    let names: Vec<String> = (0..columns.len())
        .map(|index| format!("c{index}"))
        .collect();
    let mut bound: Vec<RowColumn<'_>> = names
        .iter()
        .zip(columns)
        .map(|(name, column)| RowColumn::new(name, &column.full_type))
        .collect();
    bound.push(RowColumn::new("position", "bigint"));
    let select: Vec<String> = names.iter().map(|name| format!("r.{name}::text")).collect();
    let rows: Vec<Vec<Value>> = (0i64..)
        .zip(rows)
        .map(|(position, mut row)| {
            row.push(Value::Integer(position));
            row
        })
        .collect();
    let statement = Statement::of(dialect, &format!("SELECT {} FROM ", select.join(", ")))
        .rows("r", &bound, &rows)
        .sql(" ORDER BY r.position");
    let rows = session.fetch(statement).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            row.into_iter()
                .zip(columns)
                .map(|(value, column)| dialect.decode(value, &column.sql_type))
                .collect()
        })
        .collect())
}
