//! What PostgreSQL's columns change without refusing it: rounded, cut, or with a part left out.
//!
//! The rules are of the column's type alone, by the text that is sent. A text that PostgreSQL itself
//! writes for a value of another type is read here; one in any other spelling is PostgreSQL's to read.

use changeover_shadow::Value;

use super::text::text;
use crate::dialect::catalog::Column;
use crate::dialect::exact::{Clock, Decimal, arguments, reads_as};

/// Whether `column` would hold another value than `value`, and nobody would be told.
pub(super) fn alters(column: &Column, value: &Value) -> bool {
    if let Value::Bytes(_) = value {
        // Columns of other types refuse the digits that they are sent as.
        let texts = ["text", "character", "name", "citext"];
        return texts
            .iter()
            .any(|name| column.stored_type.starts_with(name));
    }
    if matches!(value, Value::Null | Value::Boolean(_)) {
        return false;
    }
    if matches!(value, Value::Integer(_) | Value::Decimal(_))
        && column.stored_type.starts_with("bit")
    {
        // Its decimal digits would be read as bits.
        return true;
    }
    let Some(keeps) = Keeps::of(column) else {
        return false;
    };
    match value {
        Value::Text(text) | Value::Decimal(text) => keeps.less_than(text),
        value => text(value.clone()).is_some_and(|text| keeps.less_than(&text)),
    }
}

/// What a column's type keeps of what it takes.
#[derive(Debug)]
pub(super) struct Keeps<'c> {
    kind: Kind,
    /// Its name without what stands in parentheses.
    name: &'c str,
    /// The first number in the parentheses.
    first: Option<i64>,
    is_array: bool,
}

#[derive(Debug)]
enum Kind {
    /// So many digits behind the point.
    Numeric(i64),
    Double,
    Real,
    Varying,
    Character,
    Bit,
    Name,
    Date,
    Json,
    Timestamp {
        zoned: bool,
    },
    Time {
        zoned: bool,
    },
    Interval,
}

impl<'c> Keeps<'c> {
    /// `None` where it keeps all that it takes.
    pub(super) fn of(column: &'c Column) -> Option<Keeps<'c>> {
        let stored = column.stored_type.trim_end_matches("[]");
        let arguments = arguments(stored);
        let name = stored.split('(').next().unwrap_or_default().trim_end();
        let zoned = stored.ends_with(" with time zone");
        let kind = match name {
            "numeric" => Kind::Numeric(*arguments.get(1)?),
            "double precision" => Kind::Double,
            "real" => Kind::Real,
            "character varying" => Kind::Varying,
            "character" => Kind::Character,
            "bit" => Kind::Bit,
            "name" => Kind::Name,
            "date" => Kind::Date,
            "jsonb" => Kind::Json,
            name if name.starts_with("timestamp") => Kind::Timestamp { zoned },
            name if name.starts_with("time") => Kind::Time { zoned },
            name if name.starts_with("interval") => Kind::Interval,
            _ => return None,
        };
        Some(Keeps {
            kind,
            name,
            first: arguments.first().copied(),
            is_array: stored != column.stored_type,
        })
    }

    /// Whether it keeps less than this text says.
    pub(super) fn less_than(&self, text: &str) -> bool {
        match self.is_array {
            true => elements(text).iter().any(|one| self.less_than_one(one)),
            false => self.less_than_one(text),
        }
    }

    fn less_than_one(&self, text: &str) -> bool {
        let (first, clock) = (self.first, || Clock::of(text));
        match self.kind {
            Kind::Numeric(scale) => !has_at_most(scale, text) && is_finer_than(scale, text),
            Kind::Double => text.parse().is_ok_and(|number| !reads_as(text, number)),
            Kind::Real => text.parse::<f32>().is_ok_and(|number| {
                let shortest = format!("{number:e}");
                Decimal::read(text).is_some_and(|number| Decimal::read(&shortest) != Some(number))
            }),
            Kind::Varying => longer(text, first),
            Kind::Character => text.ends_with(' ') || longer(text, first),
            Kind::Bit => first.is_some_and(|length| i64::try_from(text.len()) != Ok(length)),
            Kind::Name => text.len() > 63,
            Kind::Date => clock().is_some_and(|clock| !clock.is_midnight()),
            Kind::Json => repeats(text),
            Kind::Timestamp { zoned } => clock()
                .is_some_and(|clock| clock.finer_than(first) || (!zoned && clock.is_elsewhere())),
            Kind::Time { zoned } => clock().is_some_and(|clock| {
                clock.dated || clock.finer_than(first) || (!zoned && clock.is_elsewhere())
            }),
            Kind::Interval => span_changes(self.name, first, text),
        }
    }
}

/// Whether a plain number is seen to have at most so many digits behind its point.
fn has_at_most(scale: i64, text: &str) -> bool {
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    i64::try_from(part.len()).is_ok_and(|part| part <= scale)
        && plain(part)
        && plain(whole.strip_prefix('-').unwrap_or(whole))
}

fn is_finer_than(scale: i64, text: &str) -> bool {
    Decimal::read(text).is_some_and(|number| number.scale() > scale)
}

fn longer(text: &str, most: Option<i64>) -> bool {
    most.is_some_and(|most| i64::try_from(text.chars().count()).is_ok_and(|length| length > most))
}

/// An interval (`P1Y2M3DT4H5M6.5S`, the style of the sessions, or `-838:59:59.5`, that of MariaDB) that keeps
/// fewer fields than it is given, or fewer digits.
fn span_changes(name: &str, digits: Option<i64>, text: &str) -> bool {
    let fields = name.rsplit(' ').next().unwrap_or_default();
    let Some((date, time)) = text.strip_prefix('P').map(|text| {
        let (date, time) = text.split_once('T').unwrap_or((text, ""));
        (date, if time == "0S" { "" } else { time })
    }) else {
        let time = text.strip_prefix('-').unwrap_or(text);
        return Clock::of(time).is_some_and(|clock| {
            clock.finer_than(digits)
                || (fields != "interval" && fields != "second" && !clock.is_midnight())
        });
    };
    match fields {
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
    use crate::dialect::exact::told_apart;

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
            ("interval", "PT1.123456S", "PT1.1234567S"),
            ("numeric(12,2)", "-12345678901.5", "1.5e-7"),
            ("numeric(12,2)", "1.000", "-0.001"),
            ("interval(0)", "PT-1S", "PT1.5S"),
            ("interval day to minute", "P1DT2H3M", "PT2H3M4S"),
            ("interval year to month", "P-1Y2M", "P1M1D"),
            ("interval", "-838:59:59.999999", ""),
            ("interval(0)", "-12:00:01", "-12:00:00.5"),
            ("interval day", "00:00:00", "-25:00:00"),
            ("bit(3)", "101", "1011"),
            ("jsonb", "[{\"a\": {\"a\": 1}}]", "[{\"a\": 1, \"a\": 1}]"),
            ("numeric(5,1)[]", "[0:1]={1.5,NULL}", "{{1.5},{1.25}}"),
            ("character varying(2)[]", "{a,\"b,\"}", "{a,\"b, \"}"),
        ];
        told_apart(&cases, &|stored, value| alters(&column(stored), value));
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
