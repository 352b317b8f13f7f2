//! What PostgreSQL's columns change without refusing it: rounded, cut, or with a part left out.
//!
//! The rules are of the column's type alone, by the text that is sent. A text that PostgreSQL itself
//! writes for a value of another type is read here; one in any other spelling is PostgreSQL's to read.

use changeover_shadow::Value;

use super::session::text;
use crate::dialect::catalog::Column;
use crate::dialect::exact::{Decimal, reads_as};

/// Whether `column` would hold another value than `value`, and nobody would be told.
pub(super) fn alters(column: &Column, value: &Value) -> bool {
    if let Value::Bytes(_) = value {
        // Columns of other types refuse the digits that they are sent as.
        let texts = ["text", "character", "name", "citext"];
        return texts
            .iter()
            .any(|name| column.stored_type.starts_with(name));
    }
    if matches!(value, Value::Null | Value::Boolean(_)) || !may_alter(column) {
        return false;
    }
    let whole = column.stored_type.trim_end_matches("[]");
    let Some(text) = text(value.clone()) else {
        return false;
    };
    match whole == column.stored_type {
        true => changes(whole, &text),
        false => elements(&text).iter().any(|one| changes(whole, one)),
    }
}

/// Whether a column's type takes more than it keeps.
pub(super) fn may_alter(column: &Column) -> bool {
    let stored = column.stored_type.trim_end_matches("[]");
    let always = [
        "real",
        "double precision",
        "date",
        "time",
        "name",
        "interval ",
        "jsonb",
    ];
    stored.contains('(') || always.iter().any(|name| stored.starts_with(name))
}

fn changes(stored: &str, text: &str) -> bool {
    let (length, clock) = (arguments(stored), || Clock::of(text));
    let first = length.first().copied();
    let name = stored.split('(').next().unwrap_or_default().trim_end();
    let zoned = stored.ends_with(" with time zone");
    match name {
        "numeric" => match (length.as_slice(), Decimal::read(text)) {
            ([_, scale], Some(number)) => number.scale() > *scale,
            _ => false,
        },
        "double precision" => text.parse().is_ok_and(|number| !reads_as(text, number)),
        "real" => text.parse::<f32>().is_ok_and(|number| {
            let shortest = format!("{number:e}");
            Decimal::read(text).is_some_and(|number| Decimal::read(&shortest) != Some(number))
        }),
        "character varying" => longer(text, first),
        "character" => text.ends_with(' ') || longer(text, first),
        "bit" => first.is_some_and(|length| i64::try_from(text.len()) != Ok(length)),
        "name" => text.len() > 63,
        "date" => clock().is_some_and(|clock| !clock.is_midnight()),
        "jsonb" => repeats(text),
        name if name.starts_with("timestamp") => {
            clock().is_some_and(|clock| clock.finer_than(first) || (!zoned && clock.is_elsewhere()))
        }
        name if name.starts_with("time") => clock().is_some_and(|clock| {
            clock.dated || clock.finer_than(first) || (!zoned && clock.is_elsewhere())
        }),
        name if name.starts_with("interval") => span_changes(name, first, text),
        _ => false,
    }
}

/// The numbers in the parentheses of a type.
fn arguments(full_type: &str) -> Vec<i64> {
    let inner = full_type
        .split_once('(')
        .and_then(|(_, rest)| rest.split_once(')'));
    let numbers = inner.map_or("", |(inner, _)| inner).split(',');
    numbers
        .filter_map(|number| number.trim().parse().ok())
        .collect()
}

fn longer(text: &str, most: Option<i64>) -> bool {
    most.is_some_and(|most| i64::try_from(text.chars().count()).is_ok_and(|length| length > most))
}

/// The time of day in a text as PostgreSQL writes it: `[date] 10:00:00[.5][+02]`.
struct Clock<'t> {
    dated: bool,
    time: &'t str,
    zone: &'t str,
}

impl<'t> Clock<'t> {
    /// `None` where there is no time of day in it.
    fn of(text: &'t str) -> Option<Clock<'t>> {
        let text = text.trim();
        let text = text.strip_suffix(" BC").unwrap_or(text);
        let colon = text.find(':')?;
        let from = text.get(..colon)?.rfind([' ', 'T']).map_or(0, |at| at + 1);
        let clock = text.get(from..)?;
        let zone = clock.find(['+', '-', 'Z']).unwrap_or(clock.len());
        let (time, zone) = clock.split_at_checked(zone)?;
        time.bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'.'))
            .then_some(Clock {
                dated: from > 0,
                time,
                zone,
            })
    }

    /// Whether more digits stand behind its seconds than are kept.
    fn finer_than(&self, digits: Option<i64>) -> bool {
        let part = self.time.split_once('.').map_or("", |(_, part)| part);
        let part = part.trim_end_matches('0').len();
        i64::try_from(part).is_ok_and(|part| part > digits.unwrap_or(6))
    }

    /// Whether its zone is another than that of the sessions, UTC.
    fn is_elsewhere(&self) -> bool {
        self.zone.bytes().any(|byte| matches!(byte, b'1'..=b'9'))
    }

    fn is_midnight(&self) -> bool {
        !self.is_elsewhere() && !self.time.bytes().any(|byte| matches!(byte, b'1'..=b'9'))
    }
}

/// An interval (`P1Y2M3DT4H5M6.5S`, the style of the sessions) that keeps fewer fields than it is given,
/// or fewer digits.
fn span_changes(name: &str, digits: Option<i64>, text: &str) -> bool {
    let Some((date, time)) = text.strip_prefix('P').map(|text| {
        let (date, time) = text.split_once('T').unwrap_or((text, ""));
        (date, if time == "0S" { "" } else { time })
    }) else {
        return false;
    };
    match name.rsplit(' ').next().unwrap_or_default() {
        "year" => !time.is_empty() || date.contains(['M', 'D']),
        "month" => !time.is_empty() || date.contains('D'),
        "day" => !time.is_empty(),
        "hour" => time.contains(['M', 'S']),
        "minute" => time.contains('S'),
        _ => {
            let part = time.split_once('.').map_or("", |(_, part)| part);
            let part = part.trim_end_matches(['0', 'S']).len();
            i64::try_from(part).is_ok_and(|part| part > digits.unwrap_or(6))
        }
    }
}

/// The elements of an array's text, nulls left out.
fn elements(text: &str) -> Vec<String> {
    let (mut found, mut one, mut quoted, mut was_quoted) =
        (Vec::new(), String::new(), false, false);
    let text = text
        .split_once('=')
        .filter(|(head, _)| head.starts_with('['))
        .map_or(text, |(_, rest)| rest);
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '"' => (quoted, was_quoted) = (!quoted, true),
            '\\' => one.extend(chars.next()),
            '{' | '}' | ',' if !quoted => {
                let element = std::mem::take(&mut one);
                if was_quoted || !(element.is_empty() || element == "NULL") {
                    found.push(element);
                }
                was_quoted = false;
            }
            char => one.push(char),
        }
    }
    found
}

/// Whether an object in this JSON has a name twice: `jsonb` keeps the last value.
fn repeats(text: &str) -> bool {
    serde_json::from_str::<Distinct>(text).is_err_and(|error| error.is_data())
}

/// JSON of which nothing is kept. Reading it fails at a name that an object has twice.
struct Distinct;

impl<'de> serde::Deserialize<'de> for Distinct {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Distinct, D::Error> {
        from.deserialize_any(Distinct)
    }
}

impl<'de> serde::de::Visitor<'de> for Distinct {
    type Value = Distinct;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Distinct, A::Error> {
        let mut names = std::collections::HashSet::new();
        while let Some((name, Distinct)) = map.next_entry::<String, Distinct>()? {
            if !names.insert(name) {
                return Err(serde::de::Error::custom("a name stands twice"));
            }
        }
        Ok(Distinct)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Distinct, A::Error> {
        while let Some(Distinct) = list.next_element()? {}
        Ok(Distinct)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_str<E>(self, _: &str) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_unit<E>(self) -> Result<Distinct, E> {
        Ok(Distinct)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(stored: &str) -> Column {
        Column {
            stored_type: stored.into(),
            ..Column::default()
        }
    }

    #[test]
    fn what_a_type_leaves_out_is_known() {
        let cases = [
            ("numeric(12,2)", "1.50", "1.005"),
            ("numeric(3,-2)", "1200", "1250"),
            ("numeric", "1.000000000000000000001", ""),
            ("double precision", "0.1", "0.12345678901234567890"),
            ("real", "0.1", "0.123456789"),
            ("character varying(3)", "äöü", "abc "),
            ("character(3)", "ab", "ab "),
            ("date", "2024-01-31 00:00:00+00", "2024-01-31 00:00:01"),
            (
                "timestamp(0) without time zone",
                "2024-01-31 10:00:00.0",
                "2024-01-31 10:00:00.5",
            ),
            (
                "timestamp without time zone",
                "0044-03-15 10:00:00+00 BC",
                "2024-01-31 10:00:00+02",
            ),
            (
                "timestamp without time zone",
                "infinity",
                "2024-01-31T10:00:00.1234567",
            ),
            ("time without time zone", "10:00:00", "2024-01-31 10:00:00"),
            ("time without time zone", "10:00:00+00", "10:00:00-05"),
            ("interval day", "P1M2D", "P1DT2H"),
            ("interval(0)", "PT-1S", "PT1.5S"),
            ("interval day to minute", "P1DT2H3M", "PT2H3M4S"),
            ("interval year to month", "P-1Y2M", "P1M1D"),
            ("bit(3)", "101", "1011"),
            ("jsonb", "[{\"a\": {\"a\": 1}}]", "[{\"a\": 1, \"a\": 1}]"),
            ("numeric(5,1)[]", "[0:1]={1.5,NULL}", "{{1.5},{1.25}}"),
            ("character varying(2)[]", "{a,\"b,\"}", "{a,\"b, \"}"),
        ];
        for (stored, kept, altered) in cases {
            let column = column(stored);
            let text = |text: &str| Value::Text(text.into());
            assert!(!alters(&column, &text(kept)), "{stored}: {kept}");
            assert!(
                altered.is_empty() || alters(&column, &text(altered)),
                "{stored}: {altered}"
            );
        }
        let bytes = Value::Bytes(b"a".to_vec());
        for (stored, altered) in [
            ("text", true),
            ("character varying(9)", true),
            ("bytea", false),
        ] {
            assert_eq!(alters(&column(stored), &bytes), altered, "{stored}");
        }
        let double = column("double precision");
        assert!(alters(&double, &Value::Integer(9_007_199_254_740_993)));
        assert!(!alters(&double, &Value::Float(f64::MIN_POSITIVE)));
        assert!(!alters(&double, &Value::Float(f64::NEG_INFINITY)));
        assert!(!alters(&column("integer"), &text_of("7")));
    }

    fn text_of(text: &str) -> Value {
        Value::Text(text.into())
    }
}
