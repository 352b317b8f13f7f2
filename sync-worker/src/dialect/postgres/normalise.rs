//! Values as PostgreSQL's columns would hold them.

use changeover_shadow::Value;

use super::Postgres;
use super::catalog::unhex;
use crate::dialect::Dialect;
use crate::dialect::catalog::Column;
use crate::dialect::session::{DbError, Session};
use crate::dialect::statement::{RowColumn, Statement, numbered};

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
    let rows = numbered(rows);
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

/// The value of a column's or expression's exact text.
pub(super) fn decode(value: Value, sql_type: &str) -> Value {
    let Value::Text(text) = value else {
        return value;
    };
    let typed = match sql_type {
        "smallint" | "integer" | "bigint" | "INT2" | "INT4" | "INT8" => {
            text.parse().ok().map(Value::Integer)
        }
        "boolean" | "BOOL" => Some(Value::Boolean(text == "true")),
        "real" | "double precision" | "FLOAT4" | "FLOAT8" => text.parse().ok().map(Value::Float),
        "numeric" | "NUMERIC" => return Value::Decimal(text),
        "bytea" | "BYTEA" => unhex(&text).map(Value::Bytes),
        _ => None,
    };
    typed.unwrap_or(Value::Text(text))
}
