//! The one text of a row that every engine writes, so that two engines have one sum.
//!
//! Between databases of one engine each engine sums in its own way, which is quicker ([`Summing::summed`]).
//! Between two engines a row is a text of UTF-8: what its sum is salted with, `:`, its target's name, `:`, and its
//! fields, which are its key, the version of that, and each value in a [`Form`] that both engines write. A
//! field is `-` where it is NULL, and else the number of its bytes, `:`, and these: no two rows have one text. Both
//! halves of the MD5 of that are added up as numbers of 64 bits without sign, exactly. MD5 is what PostgreSQL and MariaDB
//! both have; it detects errors, and is no defence against somebody who chooses rows.
//!
//! A form is exact. Two values have one text in it only if a verify takes them for equal; what has no text
//! in a form has a field of its own, `!`, which agrees with nothing, and is compared key by key.
//!
//! [`Summing::summed`]: super::sums::Summing::summed

use changeover_flags::{Key, Version};
use changeover_shadow::Value;

use super::exact::Decimal;
use crate::sum::Sum;

/// How a value is written for sums between two engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A whole number, or true and false as 1 and 0. A float from 10^15 on is written as a power of ten, which no column of
    /// whole numbers reads.
    Integer,
    /// A number that is exact in decimal digits: without zeros before it or at the end of its decimals.
    Number,
    /// A floating-point number of 32 bits: as that of 64 bits which is the same number.
    Single,
    /// A floating-point number of 64 bits: as 16 hexadecimal digits, the highest first. -0 is 0.
    Double,
    /// A text as it is, or anything else as the text that a copy carries.
    Text,
    /// A uuid: in small letters, as a text of hyphens and hexadecimal digits.
    Uuid,
    /// Bytes: two hexadecimal digits each.
    Bytes,
    /// A day: `2024-02-29`.
    Date,
    /// A point in time, of UTC where it has a zone: `2024-02-29 12:00:00.5`, without zeros at the end of a second's
    /// decimals.
    Moment,
    /// A time of day: `12:00:00.5`, likewise.
    Time,
}

/// What stands for a value that has no text in its form: the field of no value.
const NEVER: &str = "!";

/// Adds a row that this process hashes, as its values came.
pub(super) fn add_row(
    sum: &mut Sum,
    (salt, target): (u64, &str),
    (key, version): (&Key, Option<Version>),
    (values, forms): (&[Value], &[Form]),
) {
    let mut text = format!("{salt}:{target}:");
    let mut field = |value: Option<&str>| match value {
        None => text.push('-'),
        Some(value) => text.push_str(&format!("{}:{value}", value.len())),
    };
    field(Some(key.as_str()));
    field(version.map(|version| version.0.to_string()).as_deref());
    let mut unsaid = false;
    for (value, form) in values.iter().zip(forms) {
        match form.write(value) {
            _ if *value == Value::Null => field(None),
            Some(said) => field(Some(&said)),
            None => unsaid = true,
        }
    }
    if unsaid {
        text.push_str(NEVER);
    }
    sum.add_text(&text);
}

impl Form {
    /// The text of a value that comes in its own class; `None` where the other engine would write none of a value that
    /// a verify takes for equal.
    fn write(self, value: &Value) -> Option<String> {
        match (self, value) {
            (Form::Integer | Form::Number, Value::Boolean(value)) => {
                Some(u8::from(*value).to_string())
            }
            (Form::Integer | Form::Number | Form::Text, Value::Integer(value)) => {
                Some(value.to_string())
            }
            (Form::Integer, Value::Float(value))
                if value.fract() != 0.0
                    || value.abs() >= 1e15
                    || (*value == 0.0 && value.is_sign_negative()) =>
            {
                None
            }
            // It stands for the shortest decimal that reads as it, which this is.
            (Form::Integer | Form::Number, Value::Float(value)) if value.is_finite() => {
                Some((value + 0.0).to_string())
            }
            (Form::Integer, Value::Text(text)) => {
                let number = text.parse::<i64>().ok()?.to_string();
                (number == *text).then_some(number)
            }
            (Form::Number, Value::Text(text) | Value::Decimal(text)) => match Decimal::read(text) {
                Some(number) if text.trim() == text => number.plain(),
                Some(_) => None,
                None => Some(text.clone()),
            },
            (Form::Double, Value::Float(value)) => {
                Some(format!("{:016x}", (value + 0.0).to_bits()))
            }
            (Form::Double, Value::Integer(value)) => {
                let float = *value as f64;
                (float as i128 == i128::from(*value)).then(|| format!("{:016x}", float.to_bits()))
            }
            (Form::Bytes, Value::Bytes(bytes)) => {
                Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
            }
            (Form::Text | Form::Date, Value::Text(text)) => Some(text.clone()),
            (Form::Uuid, Value::Text(text)) => Some(text.to_ascii_lowercase()),
            (Form::Moment, Value::Text(text)) => Some(moment(text)),
            (Form::Time, Value::Text(text)) => Some(trimmed(text).to_owned()),
            _ => None,
        }
    }
}

/// A point in time in the spelling of the databases, if it is one of UTC in a spelling that all of them read; else what it is.
fn moment(text: &str) -> String {
    trimmed(text.strip_suffix("+00").unwrap_or(text)).replacen('T', " ", 1)
}

/// Without zeros at the end of a second's decimals.
fn trimmed(text: &str) -> &str {
    match text.contains('.') {
        true => {
            let text = text.trim_end_matches('0');
            text.strip_suffix('.').unwrap_or(text)
        }
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_the_text_of_its_form() {
        let text = |text: &str| Value::Text(text.into());
        for (form, value, said) in [
            (Form::Integer, Value::Boolean(true), "1"),
            (Form::Integer, Value::Float(7.0), "7"),
            (Form::Integer, text("7"), "7"),
            (Form::Number, Value::Integer(-7), "-7"),
            (Form::Number, Value::Float(0.1), "0.1"),
            (Form::Number, Value::Float(-0.0), "0"),
            (Form::Number, Value::Float(1e20), "100000000000000000000"),
            (Form::Number, text("1.50"), "1.5"),
            (Form::Number, text("-0.00"), "0"),
            (Form::Number, text("100"), "100"),
            (Form::Number, text("-12e-3"), "-0.012"),
            (
                Form::Moment,
                text("2024-01-01 00:00:00Z"),
                "2024-01-01 00:00:00Z",
            ),
            (Form::Number, text("12.5e2"), "1250"),
            (Form::Number, text("+0.050"), "0.05"),
            (Form::Number, Value::Decimal("NaN".into()), "NaN"),
            (Form::Double, Value::Float(-0.0), "0000000000000000"),
            (Form::Double, Value::Float(0.1), "3fb999999999999a"),
            (Form::Double, Value::Integer(1), "3ff0000000000000"),
            (Form::Text, text(" a "), " a "),
            (Form::Text, Value::Integer(7), "7"),
            (Form::Bytes, Value::Bytes(vec![0, 255]), "00ff"),
            (
                Form::Moment,
                text("2024-01-01T00:00:00.500"),
                "2024-01-01 00:00:00.5",
            ),
            (
                Form::Moment,
                text("2024-01-01 00:00:10+00"),
                "2024-01-01 00:00:10",
            ),
            (
                Form::Moment,
                text("2024-01-01 00:00:00+01"),
                "2024-01-01 00:00:00+01",
            ),
            (Form::Time, text("12:00:00.000"), "12:00:00"),
            (Form::Uuid, text("A0EEBC99-9c0b"), "a0eebc99-9c0b"),
        ] {
            assert_eq!(
                form.write(&value).as_deref(),
                Some(said),
                "{form:?} {value:?}"
            );
        }
        for (form, value) in [
            (Form::Integer, text("7.0")),
            (Form::Integer, text("007")),
            (Form::Integer, Value::Float(0.5)),
            (Form::Integer, Value::Float(1e15)),
            (Form::Integer, Value::Float(-0.0)),
            (Form::Number, text(" 7")),
            (Form::Number, Value::Bytes(vec![b'1'])),
            (Form::Number, Value::Float(f64::INFINITY)),
            (Form::Number, text("1e999999999")),
            (Form::Number, text("1e-999999999")),
            (Form::Double, Value::Integer(i64::MAX)),
            (Form::Double, text("0.1")),
            (Form::Text, Value::Float(0.1)),
            (Form::Text, Value::Bytes(Vec::new())),
            (Form::Bytes, text("a")),
            (Form::Single, Value::Float(0.5)),
        ] {
            assert_eq!(form.write(&value), None, "{form:?} {value:?}");
        }
    }

    #[test]
    fn a_number_of_many_zeros_is_written() {
        let small = Form::Number.write(&Value::Text("1e-70000".into()));
        assert_eq!(small.map(|text| text.len()), Some(70_002));
        let large = Form::Number.write(&Value::Text("-1e70000".into()));
        assert_eq!(large.map(|text| text.len()), Some(70_002));
    }

    #[test]
    fn what_has_no_text_is_no_other_row() {
        let sum = |values: &[Value]| {
            let mut sum = Sum::default();
            let forms = vec![Form::Bytes; values.len()];
            add_row(&mut sum, (7, "t"), (&Key::from(1), None), (values, &forms));
            sum
        };
        let text = |text: &str| Value::Text(text.into());
        let unsaid = sum(&[text("a")]);
        for other in [&[Value::Null][..], &[], &[Value::Bytes(b"a".to_vec())]] {
            assert_ne!(unsaid, sum(other), "{other:?}");
        }
        // Of two engines one alone hashes here: the other one writes no such field.
        assert_eq!(unsaid, sum(&[text("b")]));
    }

    #[test]
    fn a_sum_is_both_halves_of_an_md5() {
        let (mut sum, mut same) = (Sum::default(), Sum::default());
        let row = [Value::Null, Value::Integer(1)];
        let forms = [Form::Number; 2];
        let version = Some(Version(12_345));
        add_row(&mut sum, (7, "t"), (&Key::from(1), version), (&row, &forms));
        same.add_text("7:t:1:15:12345-1:1");
        assert_eq!(sum, same);
        let mut of_nothing = Sum::default();
        of_nothing.add_text("");
        // RFC 1321, A.5.
        let halves = [0xd41d_8cd9_8f00_b204, 0xe980_0998_ecf8_427e];
        assert_eq!(of_nothing, Sum::of(1, halves));
    }
}
