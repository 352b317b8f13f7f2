//! Many rows as one argument, and rows that may be there already.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use changeover_shadow::Value;

use super::{Mariadb, key};
use crate::dialect::Dialect as _;
use crate::dialect::catalog::Column;
use crate::dialect::exact::{Decimal, arguments};
use crate::dialect::statement::{Arg, RowColumn};

/// A derived table of `rows`, which cross as one text of JSON: the statement's text does not depend on
/// how many there are.
pub(super) fn table(
    dialect: &Mariadb,
    columns: &[RowColumn<'_>],
    rows: &[Vec<Value>],
    args: &mut Vec<Arg>,
) -> String {
    let forms: Vec<Form> = columns.iter().map(Form::of).collect();
    let (mut select, mut read) = (String::new(), String::new());
    for (index, (column, form)) in columns.iter().zip(&forms).enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let name = dialect.quote(column.name);
        let value = form.value(&format!("j.c{index}"));
        let _ = write!(select, "{comma}{value} AS {name}");
        let _ = write!(read, "{comma}c{index} {} PATH '$[{index}]'", form.read_as());
    }
    let rows: Vec<Vec<serde_json::Value>> = rows
        .iter()
        .map(|row| {
            let values = forms.iter().zip(row);
            values
                .map(|(form, value)| form.sent(value).into())
                .collect()
        })
        .collect();
    args.push(Arg::Value(Value::Text(
        serde_json::Value::from(rows).to_string(),
    )));
    format!("(SELECT {select} FROM JSON_TABLE(?, '$[*]' COLUMNS ({read})) AS j)")
}

/// How values of a column cross. `JSON_TABLE` bends what does not fit to what does, without a word
/// (`'9999999999'` is the greatest `int`, `'7x'` is 7), so what is to be put into a column crosses as
/// text, whose assignment the SQL mode guards, and what is to be found is typed only where it fits.
#[derive(Debug)]
enum Form {
    /// Exact text, compared as this collation has it.
    Text(String),
    /// The text of a moment in UTC without its zone, which the type does not take.
    Moment,
    /// Of four digits, as nothing else is read as it is.
    Year,
    /// The number of 64 bits that one of 32 is: the shortest decimal of the greatest is above it.
    Single,
    Integer {
        unsigned: bool,
    },
    /// Of a column of bits, which would take a text for bytes.
    Bits,
    Bytes,
    /// To be compared as this type.
    As(String),
}

impl Form {
    fn of(column: &RowColumn<'_>) -> Form {
        let exact = || Form::Text(key::EXACT.to_owned());
        let Some(of) = column.column else {
            return match column.sql_type {
                Some("bigint") => Form::Integer { unsigned: false },
                _ => exact(),
            };
        };
        let name = of.sql_type.as_str();
        match name {
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Form::Bytes,
            "bit" => Form::Bits,
            "date" | "time" | "datetime" | "timestamp" if column.written => Form::Moment,
            "float" if column.written => Form::Single,
            "year" if column.written => Form::Year,
            _ if column.written => exact(),
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" => {
                Form::Integer { unsigned: false }
            }
            unsigned if unsigned.ends_with("int unsigned") => Form::Integer { unsigned: true },
            "decimal" => Form::As(
                of.full_type
                    .replace(" unsigned", "")
                    .replace(" zerofill", ""),
            ),
            "date" => Form::As("date".to_owned()),
            "time" => Form::As("time(6)".to_owned()),
            "datetime" | "timestamp" => Form::As("datetime(6)".to_owned()),
            _ => collation(of).map_or_else(exact, Form::Text),
        }
    }

    /// The type in which `JSON_TABLE` reads it.
    fn read_as(&self) -> String {
        match self {
            Form::Integer { unsigned: false } => "bigint".to_owned(),
            Form::Integer { unsigned: true } => "bigint unsigned".to_owned(),
            Form::Text(collation) => format!("longtext CHARACTER SET utf8mb4 COLLATE {collation}"),
            _ => format!("longtext CHARACTER SET utf8mb4 COLLATE {}", key::EXACT),
        }
    }

    fn value(&self, read: &str) -> String {
        match self {
            Form::Bits => format!("CAST({read} AS UNSIGNED)"),
            // `UNHEX` of a `longtext` is of a type without length, and empty.
            Form::Bytes => format!("FROM_BASE64({read})"),
            Form::As(sql_type) => format!("CAST({read} AS {sql_type})"),
            _ => read.to_owned(),
        }
    }

    /// The text that stands for a value in the JSON; `None` for NULL, and for what is to be found where it
    /// cannot be.
    fn sent(&self, value: &Value) -> Option<String> {
        let said = match (self, value) {
            (_, Value::Null) => return None,
            (Form::Bytes, Value::Bytes(bytes)) => return Some(BASE64_STANDARD.encode(bytes)),
            (_, value) => text(value),
        };
        match self {
            Form::Bytes => Some(BASE64_STANDARD.encode(said)),
            Form::Text(_) => Some(said),
            Form::Moment => Some(in_utc(&said).to_owned()),
            Form::Year => Some(match said.parse::<u16>() {
                Ok(year) => format!("{year:04}"),
                Err(_) => said,
            }),
            Form::Single => Some(match said.parse::<f32>() {
                Ok(number) if number.is_finite() => f64::from(number).to_string(),
                _ => said,
            }),
            Form::As(sql_type) if sql_type.starts_with("decimal") => {
                let digits = arguments(sql_type);
                let (most, scale) = (digits.first()?, digits.get(1).unwrap_or(&0));
                Decimal::read(&said)?.fits(*most, *scale).then_some(said)
            }
            Form::As(_) => Some(in_utc(&said).to_owned()),
            Form::Bits | Form::Integer { unsigned: true } => {
                let number = u64::try_from(Decimal::read(&said)?.whole()?);
                number.ok().map(|number| number.to_string())
            }
            Form::Integer { unsigned: false } => {
                let number = i64::try_from(Decimal::read(&said)?.whole()?);
                number.ok().map(|number| number.to_string())
            }
        }
    }
}

/// The text that a value is sent as.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Boolean(value) => i64::from(*value).to_string(),
        // As text: no reader takes it for a float on its way.
        Value::Integer(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Decimal(value) | Value::Text(value) => value.clone(),
        Value::Bytes(bytes) => hex(bytes),
        // `alters` keeps them from being sent.
        Value::List(_) | Value::Record(_) => String::new(),
    }
}

/// A moment without the zone that it has in every session of the product's.
pub(super) fn in_utc(text: &str) -> &str {
    text.strip_suffix("+00").unwrap_or(text)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02X}");
        text
    })
}

/// How texts of a column are compared, if that is by characters of every language.
fn collation(column: &Column) -> Option<String> {
    let (_, collation) = column.stored_type.rsplit_once(" COLLATE ")?;
    collation
        .starts_with("utf8mb4_")
        .then(|| collation.to_owned())
}

/// About how many bytes these arguments are in a message, at most.
pub(super) fn size(args: &[Arg]) -> usize {
    let one = |value: &Value| match value {
        Value::Text(text) | Value::Decimal(text) => 16 + text.len(),
        Value::Bytes(bytes) => 16 + bytes.len(),
        _ => 16,
    };
    let of = |arg: &Arg| match arg {
        Arg::Value(value) => one(value),
        Arg::Column(values) => values.iter().map(one).sum(),
        Arg::Array(bytes) => bytes.len(),
    };
    args.iter().map(of).sum::<usize>() + 1024
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
