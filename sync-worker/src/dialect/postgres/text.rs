//! Values as the text that PostgreSQL reads, alone and as arrays.

use std::fmt::Write as _;

use changeover_shadow::Value;
use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo};
use sqlx::{Postgres, Type};

/// A `text[]`, as it is bound: a copy of many rows has one for each column, and nothing else is made of
/// their values.
pub(super) struct Array(pub(super) Vec<u8>);

impl Array {
    /// The type of the elements: `text`.
    const TEXT: i32 = 25;

    /// The binary form: dimensions, whether there are nulls, and the elements' type; how many there are,
    /// and the first one's number; each with its length, -1 for null. Source: `array_recv` of PostgreSQL's
    /// `src/backend/utils/adt/arrayfuncs.c`.
    pub(super) fn of<'v>(values: impl ExactSizeIterator<Item = &'v Value>) -> Array {
        let count = length(values.len());
        let mut bytes = Vec::with_capacity(20 + 16 * values.len());
        for number in [1, 1, Array::TEXT, count, 1] {
            bytes.extend(number.to_be_bytes());
        }
        let mut printed = String::new();
        for value in values {
            let text = match value {
                Value::Null => {
                    bytes.extend((-1i32).to_be_bytes());
                    continue;
                }
                Value::Decimal(text) | Value::Text(text) => text,
                value => {
                    printed.clear();
                    print(value, &mut printed);
                    &printed
                }
            };
            bytes.extend(length(text.len()).to_be_bytes());
            bytes.extend(text.as_bytes());
        }
        Array(bytes)
    }
}

/// A message has less than 2 GiB: the driver refuses what is longer.
fn length(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

impl Type<Postgres> for Array {
    fn type_info() -> PgTypeInfo {
        <Vec<String> as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Array {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }
}

/// The text that PostgreSQL reads as this value in any column that can hold it.
pub(super) fn text(value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Decimal(text) | Value::Text(text) => Some(text),
        value => {
            let mut printed = String::new();
            print(&value, &mut printed);
            Some(printed)
        }
    }
}

/// Appends the text of a value; of a null nothing.
fn print(value: &Value, to: &mut String) {
    // Nothing that is written to a text fails.
    let _ = match value {
        Value::Null => Ok(()),
        Value::Boolean(value) => write!(to, "{value}"),
        Value::Integer(value) => write!(to, "{value}"),
        Value::Float(value) => write!(to, "{}", float(*value)),
        Value::Decimal(text) | Value::Text(text) => to.write_str(text),
        Value::Bytes(bytes) => to
            .write_str("\\x")
            .and_then(|()| bytes.iter().try_for_each(|byte| write!(to, "{byte:02x}"))),
        Value::List(_) | Value::Record(_) => write!(to, "{}", json(value)),
    };
}

/// The shortest decimal, written as PostgreSQL writes it: it may be bound for a column of text.
fn float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    let shortest = format!("{value:e}");
    let Some((digits, exponent)) = shortest.split_once('e') else {
        return shortest;
    };
    match exponent.parse::<i32>() {
        Ok(-4..15) | Err(_) => value.to_string(),
        Ok(exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
    }
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null | Value::Bytes(_) => serde_json::Value::Null,
        Value::Boolean(value) => (*value).into(),
        Value::Integer(value) => (*value).into(),
        Value::Float(value) => (*value).into(),
        Value::Decimal(value) | Value::Text(value) => value.as_str().into(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Record(fields) => fields
            .iter()
            .map(|(name, value)| (name.to_owned(), json(value)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_has_the_form_that_postgresql_reads() {
        let values = [Value::Text("ab".into()), Value::Null, Value::Integer(-7)];
        let head = [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 25, 0, 0, 0, 3, 0, 0, 0, 1];
        let elements = b"\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\x02-7";
        assert_eq!(
            Array::of(values.iter()).0,
            [&head[..], &elements[..]].concat()
        );
        for value in values {
            let bound = Encode::<Postgres>::encode(Array::of([value].iter()), &mut <_>::default());
            assert!(matches!(bound, Ok(IsNull::No)));
        }
    }

    #[test]
    fn values_are_printed_as_postgresql_prints_them() {
        for (value, expected) in [
            (Value::Boolean(true), "true"),
            (Value::Float(f64::NEG_INFINITY), "-Infinity"),
            (Value::Float(f64::NAN), "NaN"),
            (Value::Float(1e300), "1e+300"),
            (Value::Float(0.1), "0.1"),
            (Value::Bytes(vec![0, 255]), "\\x00ff"),
            (
                Value::List(vec![Value::Integer(1), Value::Null]),
                "[1,null]",
            ),
        ] {
            assert_eq!(text(value.clone()).as_deref(), Some(expected), "{value:?}");
        }
        assert_eq!(text(Value::Null), None);
    }
}
