//! [`Value`]: a typed value as a store answered it, the common currency of comparing.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::Fields;

/// One value, or a tree of values, as a store answered it.
///
/// Numbers keep their kind: `Integer(1)`, `Decimal("1.0")` and `Text("1")` are three values, and
/// whether they *mean* the same is for compare rules to say. Decimals and instants are carried as
/// the exact text their store prints, so no precision is lost on the way.
///
/// `Debug` prints the contents, and `==` follows IEEE 754 for floats (`NaN != NaN`). What this crate
/// builds out of values ([`FieldDiff`](crate::FieldDiff), [`Verdict`](crate::Verdict),
/// [`Answer`](crate::Answer), [`Evidence`](crate::Evidence)) prints no contents by default, and
/// [`diff`](crate::diff) compares floats by their bits.
///
/// ```
/// use changeover_shadow::Value;
/// let row = Value::record([("id", Value::from(7)), ("title", "chair".into())]);
/// assert_eq!(row.kind(), "record");
/// assert_eq!(row, serde_json::json!({"title": "chair", "id": 7}).into());
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// SQL `NULL`, JSON `null`, `None`.
    #[default]
    Null,
    /// A truth value.
    Boolean(bool),
    /// A whole number of up to 64 bits.
    Integer(i64),
    /// A binary floating-point number; compared by bits where equality is asked for.
    Float(f64),
    /// An exact number, as decimal text.
    Decimal(String),
    /// Text, and every type that is carried as its text (dates, uuids, enums).
    Text(String),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// An ordered list.
    List(Vec<Value>),
    /// Named fields.
    Record(Fields),
}

impl Value {
    /// A record of the given fields, named by literals or owned texts. Of two fields with one name the later one stays.
    pub fn record<N, V>(fields: impl IntoIterator<Item = (N, V)>) -> Value
    where
        N: Into<Cow<'static, str>>,
        V: Into<Value>,
    {
        Value::Record(fields.into_iter().collect())
    }

    /// A list of the given items, in order.
    pub fn list<V: Into<Value>>(items: impl IntoIterator<Item = V>) -> Value {
        Value::List(items.into_iter().map(Into::into).collect())
    }

    /// The name of the variant, such as `text`: safe to print and to use as a label.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Boolean(_) => "boolean",
            Value::Integer(_) => "integer",
            Value::Float(_) => "float",
            Value::Decimal(_) => "decimal",
            Value::Text(_) => "text",
            Value::Bytes(_) => "bytes",
            Value::List(_) => "list",
            Value::Record(_) => "record",
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Boolean(value)
    }
}

macro_rules! from_whole_numbers {
    ($($number:ty),*) => {$(
        impl From<$number> for Value {
            fn from(value: $number) -> Value {
                Value::Integer(value.into())
            }
        }
    )*};
}

from_whole_numbers!(i8, i16, i32, i64, u8, u16, u32);

/// A number above [`i64::MAX`] becomes a [`Value::Decimal`].
impl From<u64> for Value {
    fn from(value: u64) -> Value {
        i64::try_from(value).map_or_else(|_| Value::Decimal(value.to_string()), Value::Integer)
    }
}

/// Widened exactly: `0.1_f32` is not the value `0.1_f64`.
impl From<f32> for Value {
    fn from(value: f32) -> Value {
        Value::Float(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Value {
        Value::Float(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Value {
        Value::Text(value)
    }
}

impl From<Cow<'_, str>> for Value {
    fn from(value: Cow<'_, str>) -> Value {
        Value::Text(value.into_owned())
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Value {
        Value::Bytes(value)
    }
}

impl From<Vec<Value>> for Value {
    fn from(value: Vec<Value>) -> Value {
        Value::List(value)
    }
}

impl From<BTreeMap<String, Value>> for Value {
    fn from(value: BTreeMap<String, Value>) -> Value {
        Value::Record(value.into())
    }
}

/// [`Value::Null`].
impl From<()> for Value {
    fn from((): ()) -> Value {
        Value::Null
    }
}

/// `None` is [`Value::Null`].
impl<V: Into<Value>> From<Option<V>> for Value {
    fn from(value: Option<V>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

/// The one canonical reading of JSON: a number that fits `i64` is an [`Value::Integer`], one that an
/// `f64` holds exactly as written is a [`Value::Float`], any other a [`Value::Decimal`].
///
/// Recursive, as dropping such a value is: the depth that `serde_json` parses (128) is safe.
impl From<serde_json::Value> for Value {
    fn from(value: serde_json::Value) -> Value {
        match value {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Boolean(value),
            serde_json::Value::Number(number) => from_number(&number),
            serde_json::Value::String(text) => Value::Text(text),
            serde_json::Value::Array(items) => Value::list(items),
            serde_json::Value::Object(fields) => Value::record(fields),
        }
    }
}

fn from_number(number: &serde_json::Number) -> Value {
    if let Some(whole) = number.as_i64() {
        return Value::Integer(whole);
    }
    // Another crate may turn on serde_json's `arbitrary_precision`: a number that an f64 would
    // round must not become equal to its neighbour.
    let exact = number
        .as_f64()
        .filter(|float| serde_json::Number::from_f64(*float).as_ref() == Some(number));
    exact.map_or_else(|| Value::Decimal(number.to_string()), Value::Float)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_keeps_every_kind_apart() {
        let read = Value::from(json!([null, true, 1, 1.0, "1", u64::MAX, [], {}]));
        let Value::List(items) = &read else {
            unreachable!("an array reads as a list")
        };
        let kinds: Vec<_> = items.iter().map(Value::kind).collect();
        assert_eq!(
            kinds,
            [
                "null", "boolean", "integer", "float", "text", "decimal", "list", "record"
            ]
        );
        assert_eq!(items[5], Value::Decimal("18446744073709551615".to_owned()));
    }

    #[test]
    fn rust_values_and_json_agree() {
        let built = Value::record([
            ("price", Value::from(12.5)),
            ("stock", 3_u32.into()),
            ("note", None::<&str>.into()),
            ("tags", Value::list(["a", "b"])),
        ]);
        let read = json!({"price": 12.5, "stock": 3, "note": null, "tags": ["a", "b"]});
        assert_eq!(built, read.into());
        assert_eq!(Value::from(u64::MAX), json!(u64::MAX).into());
    }
}
