//! What SQLite makes of a value that is stored in a column (sqlite.org/datatype3.html, section 3).

use changeover_shadow::Value;

use crate::dialect::exact::{Decimal, reads_as};

/// The affinity of a declared type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Affinity {
    /// Prefers text.
    Text,
    /// Prefers whole numbers, then other numbers.
    Integer,
    /// As `Integer`.
    Numeric,
    /// Prefers floating point.
    Real,
    /// Takes what comes.
    Blob,
}

impl Affinity {
    /// The affinity of `declared`, by SQLite's five rules in their order.
    pub(super) fn of(declared: &str) -> Affinity {
        let declared = declared.to_ascii_uppercase();
        let has = |part: &str| declared.contains(part);
        if has("INT") {
            Affinity::Integer
        } else if has("CHAR") || has("CLOB") || has("TEXT") {
            Affinity::Text
        } else if has("BLOB") || declared.is_empty() {
            Affinity::Blob
        } else if has("REAL") || has("FLOA") || has("DOUB") {
            Affinity::Real
        } else {
            Affinity::Numeric
        }
    }

    /// `value` as a column of this affinity stores it.
    pub(super) fn apply(self, value: Value) -> Value {
        let value = match value {
            Value::Boolean(value) => Value::Integer(value.into()),
            Value::Decimal(text) => Value::Text(text),
            other => other,
        };
        match (self, value) {
            (Affinity::Text, Value::Integer(number)) => Value::Text(number.to_string()),
            (Affinity::Text, Value::Float(number)) => Value::Text(real_text(number)),
            (Affinity::Integer | Affinity::Numeric, Value::Text(text)) => numeric(text),
            (Affinity::Integer | Affinity::Numeric, Value::Float(number)) => whole(number),
            (Affinity::Real, Value::Integer(number)) => Value::Float(number as f64),
            (Affinity::Real, Value::Text(text)) => match numeric(text) {
                Value::Integer(number) => Value::Float(number as f64),
                other => other,
            },
            (_, value) => value,
        }
    }
}

impl Affinity {
    /// Whether a column of this affinity would hold another value than `value`. Another way to write
    /// the same number is none.
    pub(super) fn alters(self, value: &Value) -> bool {
        if matches!(value, Value::Float(number) if number.is_nan()) {
            return true; // SQLite stores it as NULL.
        }
        match (value, self.apply(value.clone())) {
            (Value::Integer(number), Value::Float(stored)) => stored as i128 != i128::from(*number),
            // SQLite writes fifteen digits.
            (Value::Float(number), Value::Text(_)) => {
                format!("{number:.14e}").parse() != Ok(*number)
            }
            (Value::Float(number), Value::Integer(_)) => {
                number.is_sign_negative() && *number == 0.0
            }
            (Value::Text(text) | Value::Decimal(text), Value::Float(stored)) => {
                !reads_as(text, stored)
            }
            (Value::Text(text) | Value::Decimal(text), Value::Integer(stored)) => {
                Decimal::read(text).is_some_and(|number| number.whole() != Some(stored.into()))
            }
            _ => false,
        }
    }
}

/// Text that looks like a number becomes one, if nothing is lost; otherwise it stays text.
fn numeric(text: String) -> Value {
    let trimmed = text.trim_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let looks_like_a_number = trimmed
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E'));
    if !looks_like_a_number {
        return Value::Text(text);
    }
    if let Ok(number) = trimmed.parse::<i64>() {
        return Value::Integer(number);
    }
    match trimmed.parse::<f64>() {
        Ok(number) => whole(number),
        Err(_) => Value::Text(text),
    }
}

/// A floating-point number that is a whole number of 64 bits is stored as one.
fn whole(number: f64) -> Value {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if number.fract() == 0.0 && number.abs() < BEYOND {
        Value::Integer(number as i64)
    } else {
        Value::Float(number)
    }
}

fn real_text(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        format!("{number:.1}")
    } else {
        number.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_five_rules_hold_in_order() {
        let cases = [
            ("BIGINT", Affinity::Integer),
            ("VARCHAR(20)", Affinity::Text),
            ("CHARINT", Affinity::Integer),
            ("", Affinity::Blob),
            ("DOUBLE PRECISION", Affinity::Real),
            ("DECIMAL(10,2)", Affinity::Numeric),
            ("TIMESTAMP", Affinity::Numeric),
        ];
        for (declared, affinity) in cases {
            assert_eq!(Affinity::of(declared), affinity, "{declared}");
        }
    }

    #[test]
    fn a_number_that_is_stored_as_another_one_is_known() {
        let text = |text: &str| Value::Text(text.into());
        for (affinity, kept, altered) in [
            (
                Affinity::Numeric,
                text("5.00"),
                text("0.1000000000000000055"),
            ),
            (
                Affinity::Numeric,
                text("abc"),
                text("12345678901234567890.5"),
            ),
            // Read as a float, which is a whole number.
            (
                Affinity::Integer,
                text("4503599627370497.00"),
                text("9007199254740993.00"),
            ),
            (Affinity::Real, Value::Integer(7), Value::Integer(i64::MAX)),
            (Affinity::Text, Value::Float(0.1), Value::Float(0.1 + 0.2)),
            (Affinity::Integer, Value::Float(2.5), Value::Float(-0.0)),
            (Affinity::Blob, Value::Float(0.1), Value::Float(f64::NAN)),
        ] {
            assert!(!affinity.alters(&kept), "{affinity:?} {kept:?}");
            assert!(affinity.alters(&altered), "{affinity:?} {altered:?}");
        }
    }

    #[test]
    fn numbers_are_stored_as_sqlite_stores_them() {
        let text = |text: &str| Value::Text(text.into());
        assert_eq!(Affinity::Numeric.apply(text("5.00")), Value::Integer(5));
        assert_eq!(Affinity::Numeric.apply(text("5.25")), Value::Float(5.25));
        let large = Value::Integer(9_007_199_254_740_992);
        assert_eq!(
            Affinity::Numeric.apply(Value::Float(9e15)),
            Value::Integer(9_000_000_000_000_000)
        );
        assert_eq!(Affinity::Integer.apply(text("9007199254740993.00")), large);
        assert_eq!(
            Affinity::Numeric.apply(Value::Float(9.3e18)),
            Value::Float(9.3e18)
        );
        assert_eq!(
            Affinity::Numeric.apply(text("2024-01-01")),
            text("2024-01-01")
        );
        assert_eq!(Affinity::Integer.apply(text("abc")), text("abc"));
        assert_eq!(Affinity::Text.apply(Value::Integer(7)), text("7"));
        assert_eq!(Affinity::Real.apply(Value::Integer(7)), Value::Float(7.0));
        assert_eq!(Affinity::Blob.apply(text("7")), text("7"));
    }
}
