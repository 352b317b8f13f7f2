//! Many rows as one argument, and rows that may be there already.

use std::fmt::Write as _;

use changeover_shadow::Value;

use super::{Mariadb, key};
use crate::dialect::Dialect as _;
use crate::dialect::statement::{Arg, RowColumn};

/// A derived table of `rows`, which cross as one text of JSON: the statement's text does not depend on
/// how many there are.
pub(super) fn table(
    dialect: &Mariadb,
    columns: &[RowColumn<'_>],
    rows: &[Vec<Value>],
    args: &mut Vec<Arg>,
) -> String {
    let (mut select, mut read) = (String::new(), String::new());
    for (index, column) in columns.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let name = dialect.quote(column.name);
        let _ = write!(select, "{comma}j.c{index} AS {name}");
        let sql_type = read_as(column.sql_type.unwrap_or("text"));
        let _ = write!(read, "{comma}c{index} {sql_type} PATH '$[{index}]'");
    }
    let rows: Vec<Vec<serde_json::Value>> = rows
        .iter()
        .map(|row| {
            (0..columns.len())
                .map(|index| json(row.get(index)))
                .collect()
        })
        .collect();
    args.push(Arg::Value(Value::Text(
        serde_json::Value::from(rows).to_string(),
    )));
    format!("(SELECT {select} FROM JSON_TABLE(?, '$[*]' COLUMNS ({read})) AS j)")
}

/// The type in which a column of the derived table is read: numbers as numbers, so that they are
/// found by a table's index; everything else as exact text.
fn read_as(sql_type: &str) -> String {
    match sql_type {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" => "bigint".to_owned(),
        unsigned if unsigned.ends_with(" unsigned") => "bigint unsigned".to_owned(),
        _ => format!("longtext CHARACTER SET utf8mb4 COLLATE {}", key::EXACT),
    }
}

fn json(value: Option<&Value>) -> serde_json::Value {
    match value {
        None | Some(Value::Null) => serde_json::Value::Null,
        Some(Value::Boolean(value)) => i64::from(*value).into(),
        // As text: no reader takes it for a float on its way.
        Some(Value::Integer(value)) => value.to_string().into(),
        Some(Value::Float(value)) => value.to_string().into(),
        Some(Value::Decimal(value) | Value::Text(value)) => value.as_str().into(),
        Some(Value::Bytes(_) | Value::List(_) | Value::Record(_)) => serde_json::Value::Null,
    }
}

/// What ends an `INSERT`: the row that is there is changed by `set` where `when` holds.
///
/// Assignments are made from left to right, and each sees what the earlier ones have done. The
/// columns that `when` looks at must therefore be the last, and only one of them may be assigned.
pub(super) fn or_update(table: &str, set: &[(&str, &str)], when: &str) -> String {
    let assigned: Vec<String> = set
        .iter()
        .map(|(column, value)| match when {
            "" => format!("{table}.{column} = {value}"),
            when => format!("{table}.{column} = IF({when}, {value}, {table}.{column})"),
        })
        .collect();
    format!(" ON DUPLICATE KEY UPDATE {}", assigned.join(", "))
}

/// What ends an `INSERT`: the row that is there stays as it is. Not `INSERT IGNORE`, which also takes
/// values that do not fit.
pub(super) fn or_nothing(table: &str, identity: &[String]) -> String {
    let same: Vec<String> = identity
        .iter()
        .map(|column| format!("{table}.{column} = {table}.{column}"))
        .collect();
    format!(" ON DUPLICATE KEY UPDATE {}", same.join(", "))
}
