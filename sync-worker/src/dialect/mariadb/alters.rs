//! What MariaDB's columns change without refusing it, also under a strict SQL mode: rounded, cut,
//! padded, or read as something else.
//!
//! The rules are of the column's type alone, by the text that is sent
//! (<https://mariadb.com/kb/en/data-types/>). Where a text is no value of the type at all, the server
//! says so itself.

use changeover_shadow::Value;

use super::rows::{in_utc, text};
use crate::dialect::catalog::Column;
use crate::dialect::exact::{Clock, Decimal, arguments, reads_as};

/// Whether `column` would hold another value than `value`, and nobody would be told.
pub(super) fn alters(column: &Column, value: &Value) -> bool {
    let name = column.sql_type.trim_end_matches(" unsigned");
    match value {
        // These columns fill themselves.
        Value::Null => column.not_null && (column.generated || name == "timestamp"),
        Value::List(_) | Value::Record(_) => true,
        Value::Bytes(bytes) => match name {
            "binary" => shorter(bytes, column),
            "varbinary" | "longblob" => false,
            "tinyblob" | "blob" | "mediumblob" => bytes.len() > room(name),
            _ => true,
        },
        // A text is the bits that it is written with, or a number: nobody knows.
        Value::Text(_) if name == "bit" => true,
        value => alters_text(column, name, &text(value)),
    }
}

fn alters_text(column: &Column, name: &str, text: &str) -> bool {
    let stored = column.stored_type.as_str();
    let places = |most: i64| Decimal::read(text).is_some_and(|number| number.scale() > most);
    let second = || arguments(stored).get(1).copied();
    match name {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" => places(0),
        "decimal" => second().is_some_and(places),
        "double" => second().is_some_and(places) || text.parse().is_ok_and(|n| !reads_as(text, n)),
        "float" => second().is_some_and(places) || is_no_float(text),
        "bit" => text.parse::<u64>().is_err(),
        // Fewer digits are one of this century or the last.
        "year" => !matches!(text.parse(), Ok(0 | 1901..=2155)),
        "date" | "datetime" | "timestamp" | "time" => alters_time(column, name, in_utc(text)),
        "char" => text.ends_with(' ') || cut(text, text.chars().count(), first(stored)),
        "varchar" => cut(text, text.chars().count(), first(stored)),
        "tinytext" | "text" | "mediumtext" => match stored.contains(" CHARACTER SET utf8") {
            true => text.len() > room(name),
            false => text.chars().count() > room(name),
        },
        "tinyblob" | "blob" | "mediumblob" => text.len() > room(name),
        "enum" => !members(stored).iter().any(|label| label == text),
        "set" => alters_set(stored, text),
        "binary" => shorter(text.as_bytes(), column),
        _ => false,
    }
}

/// How many bytes a `text` or `blob` holds. Of a longer one of the same character set the server keeps
/// the remainder, not even a part: where it copies from one to another it cuts the length, not the text.
fn room(name: &str) -> usize {
    match name {
        "tinytext" | "tinyblob" => 255,
        "text" | "blob" => 65_535,
        _ => 16_777_215,
    }
}

/// A number of its digits is read as a moment, too, and what a column has no digits for is left out.
fn alters_time(column: &Column, name: &str, text: &str) -> bool {
    let digits = Some(first(&column.stored_type).unwrap_or(0));
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let clock = Clock::of(unsigned);
    let dated = matches!(unsigned.as_bytes(), [a, b, c, d, b'-', ..] if [a, b, c, d].iter().all(|c| c.is_ascii_digit()));
    let finer = clock.as_ref().is_some_and(|clock| clock.finer_than(digits));
    match name {
        "time" => dated || finer || clock.is_none_or(|clock| clock.dated),
        "date" => !dated || clock.is_some_and(|clock| !clock.is_midnight()),
        _ => !dated || finer,
    }
}

fn is_no_float(text: &str) -> bool {
    text.parse::<f32>().is_ok_and(|number| {
        let shortest = format!("{number:e}");
        Decimal::read(text).is_some_and(|number| Decimal::read(&shortest) != Some(number))
    })
}

fn first(stored: &str) -> Option<i64> {
    arguments(stored).first().copied()
}

/// Whether a text is too long by spaces alone, which are cut off; others are refused.
fn cut(text: &str, length: usize, most: Option<i64>) -> bool {
    let spaces = text.len() - text.trim_end_matches(' ').len();
    let most = most.and_then(|most| usize::try_from(most).ok());
    most.is_some_and(|most| length > most && length - spaces <= most)
}

/// Whether zeros are put behind the bytes.
fn shorter(bytes: &[u8], column: &Column) -> bool {
    let length = first(&column.stored_type).and_then(|length| usize::try_from(length).ok());
    length.is_some_and(|length| bytes.len() < length)
}

/// A set keeps its own order, and each member once; a number stands for members.
fn alters_set(stored: &str, text: &str) -> bool {
    let members = members(stored);
    let mut rest = members.iter();
    !text.is_empty() && !text.split(',').all(|one| rest.any(|member| member == one))
}

/// The members of an enum or set, from `enum('a','it''s')`.
fn members(stored: &str) -> Vec<String> {
    let (mut found, mut one, mut quoted) = (Vec::new(), String::new(), false);
    let inner = stored.split_once('(').map_or("", |(_, inner)| inner);
    let mut chars = inner.chars().peekable();
    while let Some(char) = chars.next() {
        match (char, quoted) {
            ('\'', false) => quoted = true,
            ('\'', true) if chars.next_if_eq(&'\'').is_some() => one.push('\''),
            ('\'', true) => {
                quoted = false;
                found.push(std::mem::take(&mut one));
            }
            (')', false) => break,
            (char, true) => one.push(char),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::exact::told_apart;

    fn column(stored: &str) -> Column {
        let name = stored.split(['(', ' ']).next().unwrap_or_default();
        let unsigned = if stored.contains("unsigned") {
            " unsigned"
        } else {
            ""
        };
        Column {
            sql_type: format!("{name}{unsigned}"),
            stored_type: stored.into(),
            ..Column::default()
        }
    }

    #[test]
    fn what_a_type_leaves_out_is_known() {
        let enumerated = "enum('a','it''s') CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci";
        let cases = [
            ("int(11)", "7", "7.5"),
            ("bigint(20) unsigned", "1e3", "1.5e-7"),
            ("decimal(12,2)", "1.500", "1.005"),
            ("double", "0.1", "0.12345678901234567890"),
            ("double(10,2)", "0.25", "0.125"),
            ("float", "0.1", "0.123456789"),
            ("year(4)", "1970", "70"),
            ("year(4)", "0000", "1900"),
            ("date", "2024-01-31 00:00:00", "2024-01-31 00:00:01"),
            ("date", "2024-01-31", "20240131"),
            ("datetime", "2024-01-31 10:00:00.0", "2024-01-31 10:00:00.5"),
            (
                "datetime(3)",
                "2024-01-31T10:00:00.125",
                "2024-01-31 10:00:00.1255",
            ),
            (
                "timestamp(6)",
                "2024-01-31 10:00:00.123456+00",
                "20240131100000",
            ),
            ("time", "-838:59:59", "10:00:00.5"),
            ("time", "10:00:00", "10"),
            ("time", "10:00:00", "2024-01-31 10:00:00"),
            ("char(5)", "ab", "ab "),
            ("varchar(3)", "äöü", "abc "),
            (enumerated, "it's", "IT'S"),
            (enumerated, "a", "1"),
            ("set('x','y')", "x,y", "y,x"),
            ("set('x','y')", "", "x,x"),
        ];
        told_apart(&cases, &|stored, value| alters(&column(stored), value));
        let bits = column("bit(8)");
        assert!(!alters(&bits, &Value::Integer(5)) && alters(&bits, &Value::Integer(-1)));
        assert!(alters(&bits, &Value::Text("101".into())));
        let bytes = Value::Bytes(vec![1, 2]);
        let long = Value::Text("x".repeat(256));
        for (stored, altered) in [
            (
                "tinytext CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
                true,
            ),
            ("tinytext CHARACTER SET latin1 COLLATE latin1_bin", true),
            ("tinyblob", true),
            (
                "text CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
                false,
            ),
            ("blob", false),
        ] {
            assert_eq!(alters(&column(stored), &long), altered, "{stored}");
        }
        for (stored, altered) in [
            ("binary(2)", false),
            ("binary(3)", true),
            ("varbinary(3)", false),
            ("varchar(9)", true),
        ] {
            assert_eq!(alters(&column(stored), &bytes), altered, "{stored}");
        }
    }

    #[test]
    fn columns_that_fill_themselves_take_no_null() {
        let mut stamp = column("timestamp");
        assert!(!alters(&stamp, &Value::Null));
        stamp.not_null = true;
        assert!(alters(&stamp, &Value::Null));
        let mut id = column("bigint(20)");
        (id.not_null, id.generated) = (true, true);
        assert!(alters(&id, &Value::Null));
        assert!(!alters(&column("int(11)"), &Value::Null));
    }
}
