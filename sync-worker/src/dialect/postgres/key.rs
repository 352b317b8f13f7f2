//! Which columns can be part of a key, and the one text that each component has.

use crate::dialect::catalog::Column;

/// Why `column` cannot be part of a key, if it cannot.
pub(super) fn type_problem(column: &Column) -> Option<String> {
    let usable = [
        "smallint",
        "integer",
        "bigint",
        "text",
        "character varying",
        "uuid",
    ];
    (!usable.contains(&column.sql_type.as_str())).then(|| {
        format!(
            "its type is {}; a key column must be one of {}, whose text never depends on settings",
            column.full_type,
            usable.join(", ")
        )
    })
}

/// Whether equal components have equal texts in both columns.
pub(super) fn same_text(a: &Column, b: &Column) -> bool {
    let kind = |column: &Column| match column.sql_type.as_str() {
        "smallint" | "integer" | "bigint" => Some("integer"),
        "text" | "character varying" => Some("text"),
        "uuid" => Some("uuid"),
        _ => None,
    };
    kind(a).is_some() && kind(a) == kind(b)
}

/// Whether `column` can hold this component.
pub(super) fn fits(component: &str, column: &Column) -> bool {
    let component = component.trim();
    match column.sql_type.as_str() {
        "smallint" => component.parse::<i16>().is_ok(),
        "integer" => component.parse::<i32>().is_ok(),
        "bigint" => component.parse::<i64>().is_ok(),
        "uuid" => canonical_uuid(component).is_some(),
        _ => true,
    }
}

/// The component as the server prints it.
pub(super) fn canonical(component: &str, column: &Column) -> String {
    match column.sql_type.as_str() {
        "smallint" | "integer" | "bigint" => component
            .trim()
            .parse::<i64>()
            .map_or_else(|_| component.to_owned(), |number| number.to_string()),
        "uuid" => canonical_uuid(component).unwrap_or_else(|| component.to_owned()),
        _ => component.to_owned(),
    }
}

/// A uuid as the server prints it; the server reads it in either case, with or without hyphens and
/// braces.
fn canonical_uuid(text: &str) -> Option<String> {
    let digits: String = text
        .chars()
        .filter(|c| !matches!(c, '-' | '{' | '}'))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let hex = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let part = |from: usize, to: usize| digits.get(from..to);
    hex.then(|| {
        Some(format!(
            "{}-{}-{}-{}-{}",
            part(0, 8)?,
            part(8, 12)?,
            part(12, 16)?,
            part(16, 20)?,
            part(20, 32)?
        ))
    })?
}

#[cfg(test)]
mod tests {
    use super::canonical_uuid;

    #[test]
    fn a_uuid_has_one_text() {
        let canonical = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        for text in [
            canonical,
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{a0eebc999c0b4ef8bb6d6bb9bd380a11}",
        ] {
            assert_eq!(canonical_uuid(text).as_deref(), Some(canonical));
        }
        assert_eq!(canonical_uuid("not a uuid"), None);
    }
}
