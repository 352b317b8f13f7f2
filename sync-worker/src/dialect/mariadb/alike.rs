//! Rows summed by MariaDB in the text that other engines write, too.
//!
//! That is the text of all its sums: see [`sums`](super::sums).

use super::sums::{Kind, NEVER, or_never, plain, text};
use crate::dialect::alike::Form;

/// The form in which a column's values are summed.
pub(super) fn forms(sql_type: &str) -> &'static [Form] {
    match Kind::of(sql_type) {
        Some(Kind::Integer | Kind::Year | Kind::Bits) => &[Form::Integer],
        Some(Kind::Decimal) => &[Form::Number],
        Some(Kind::Float) => &[Form::Single],
        Some(Kind::Double) => &[Form::Double],
        Some(Kind::Text) => &[Form::Text],
        Some(Kind::Uuid) => &[Form::Uuid],
        Some(Kind::Bytes) => &[Form::Bytes],
        Some(Kind::Instant) if sql_type == "date" => &[Form::Date],
        Some(Kind::Instant) => &[Form::Moment],
        Some(Kind::Time) => &[Form::Time],
        None => &[],
    }
}

/// The text of an expression's values, if MariaDB writes that form of their type.
pub(super) fn written(expression: &str, sql_type: &str, form: Form) -> Option<String> {
    let e = format!("({expression})");
    let moment = |e: &str| trimmed(&format!("DATE_FORMAT({e}, '%Y-%m-%d %H:%i:%s.%f')"));
    let time = |e: &str| trimmed(&text(&format!("CAST({e} AS TIME(6))")));
    Some(match (form, Kind::of(sql_type)) {
        // Without the zeros that a column may show before it.
        (
            Form::Integer | Form::Number | Form::Text,
            Some(Kind::Integer | Kind::Year | Kind::Bits),
        ) => text(&format!("({e} + 0)")),
        (Form::Number, Some(Kind::Decimal)) => plain(&e),
        // The coordinate of a point: eight bytes, the lowest first. -0 is 0.
        (Form::Single, Some(Kind::Float)) | (Form::Double, Some(Kind::Double)) => {
            format!("LOWER(HEX(REVERSE(SUBSTR(ST_AsBinary(POINT({e} + 0e0, 0)), 6, 8))))")
        }
        // The text of no member is the empty one.
        (Form::Text, Some(Kind::Text)) if sql_type == "enum" => {
            format!("IF({e} + 0 = 0, {NEVER}, {})", text(&e))
        }
        (Form::Text, Some(Kind::Text | Kind::Uuid | Kind::Decimal)) => or_never(&e, &text(&e)),
        (Form::Text, Some(Kind::Time)) => or_never(&e, &time(&e)),
        (Form::Text, Some(Kind::Instant)) => match sql_type {
            "date" => or_never(&e, &format!("DATE_FORMAT({e}, '%Y-%m-%d')")),
            "datetime" => or_never(&e, &moment(&e)),
            // As a copy writes it.
            _ => or_never(&e, &format!("CONCAT({}, '+00')", moment(&e))),
        },
        (Form::Text, None) if matches!(sql_type, "json" | "set" | "inet4" | "inet6") => {
            or_never(&e, &text(&e))
        }
        // Not by the type, which 10.6 has not.
        (Form::Uuid, Some(Kind::Text | Kind::Uuid)) => {
            or_never(&e, &format!("LOWER({})", text(&e)))
        }
        (Form::Bytes, Some(Kind::Bytes)) => or_never(&e, &format!("LOWER(HEX({e}))")),
        (Form::Date, Some(Kind::Instant)) if sql_type == "date" => {
            or_never(&e, &format!("DATE_FORMAT({e}, '%Y-%m-%d')"))
        }
        (Form::Moment, Some(Kind::Instant)) if sql_type != "date" => or_never(&e, &moment(&e)),
        (Form::Time, Some(Kind::Time)) => or_never(&e, &time(&e)),
        _ => return None,
    })
}

/// Without zeros at the end of a second's decimals, of which there are six.
fn trimmed(e: &str) -> String {
    format!("TRIM(TRAILING '.' FROM TRIM(TRAILING '0' FROM {e}))")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_column_is_written() {
        for sql_type in [
            "tinyint",
            "bigint unsigned",
            "year",
            "bit",
            "decimal",
            "float",
            "double",
            "enum",
            "longtext",
            "uuid",
            "varbinary",
            "date",
            "datetime",
            "timestamp",
            "time",
        ] {
            let [form] = forms(sql_type) else {
                panic!("{sql_type} has one form")
            };
            assert!(written("t.x", sql_type, *form).is_some(), "{sql_type}");
        }
        for sql_type in ["json", "set", "geometry"] {
            assert_eq!(forms(sql_type), [], "{sql_type}");
        }
    }

    #[test]
    fn what_a_copy_changes_is_not_written() {
        for (sql_type, form) in [
            ("double", Form::Text),
            ("decimal", Form::Integer),
            ("float", Form::Double),
            ("double", Form::Single),
            ("bit", Form::Bytes),
            ("geometry", Form::Text),
            ("blob", Form::Text),
            ("date", Form::Moment),
            ("text", Form::Number),
        ] {
            assert_eq!(written("x", sql_type, form), None, "{sql_type} {form:?}");
        }
    }
}
