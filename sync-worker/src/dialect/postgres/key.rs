//! Which columns can be part of a key, and the one text that each component has.

use crate::dialect::catalog::Column;
use crate::dialect::exact;

/// The text of the key that these expressions make. Whatever the search path is: a trigger's function is called
/// with its caller's.
pub(super) fn text(expressions: &[String]) -> String {
    if let [only] = expressions {
        return format!("({only})::pg_catalog.text");
    }
    let escaped = |e| {
        format!(
            r"pg_catalog.replace(pg_catalog.replace(({e})::pg_catalog.text, '\', '\\'), ',', '\,')"
        )
    };
    let parts: Vec<String> = expressions.iter().map(escaped).collect();
    let joined = parts.join(" OPERATOR(pg_catalog.||) ',' OPERATOR(pg_catalog.||) ");
    // Operators that are named so all bind alike.
    format!("({joined})")
}

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
    match column.sql_type.as_str() {
        "smallint" => trimmed(component).parse::<i16>().is_ok(),
        "integer" => trimmed(component).parse::<i32>().is_ok(),
        "bigint" => trimmed(component).parse::<i64>().is_ok(),
        "uuid" => canonical_uuid(component).is_some(),
        // No text of this engine has one.
        _ => !component.contains('\0'),
    }
}

/// The component as the server prints it.
pub(super) fn canonical(component: &str, column: &Column) -> String {
    match column.sql_type.as_str() {
        "smallint" | "integer" | "bigint" => trimmed(component)
            .parse::<i64>()
            .map_or_else(|_| component.to_owned(), |number| number.to_string()),
        "uuid" => canonical_uuid(component).unwrap_or_else(|| component.to_owned()),
        _ => component.to_owned(),
    }
}

/// A number without what the server passes over around it: the white space of ASCII alone.
fn trimmed(number: &str) -> &str {
    number.trim_matches(|c: char| matches!(c, ' ' | '\t'..='\r'))
}

/// A uuid as the server prints it; the server reads it in either case, with or without braces around
/// it and a hyphen after each four digits.
fn canonical_uuid(text: &str) -> Option<String> {
    let bare = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}')?,
        None => text,
    };
    let (mut digits, mut last) = (String::new(), '-');
    for c in bare.chars() {
        match c {
            '-' if last != '-' && digits.len() % 4 == 0 && digits.len() < 32 => {}
            c if c.is_ascii_hexdigit() => digits.push(c.to_ascii_lowercase()),
            _ => return None,
        }
        last = c;
    }
    exact::uuid(&digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(sql_type: &str) -> Column {
        Column {
            sql_type: sql_type.into(),
            ..Column::default()
        }
    }

    #[test]
    fn a_uuid_has_one_text() {
        let canonical = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        for text in [
            canonical,
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{a0eebc999c0b4ef8bb6d6bb9bd380a11}",
            "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
        ] {
            assert_eq!(canonical_uuid(text).as_deref(), Some(canonical));
        }
        for text in [
            "not a uuid",
            "{a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0eebc9-99c0b4ef8bb6d6bb9bd380a11",
            "a0eebc99--9c0b4ef8bb6d6bb9bd380a11",
            " a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11-",
        ] {
            assert_eq!(canonical_uuid(text), None, "{text}");
        }
    }

    #[test]
    fn only_what_the_server_passes_over_is_passed_over() {
        let number = column("bigint");
        for text in ["7", " 7", "7\t\n", "\u{b}\u{c}+7\r", "007"] {
            assert!(fits(text, &number), "{text:?}");
            assert_eq!(canonical(text, &number), "7");
        }
        for text in ["\u{a0}7", "7\u{2003}", "\u{85}7", "\u{1c}7"] {
            assert!(!fits(text, &number), "{text:?}");
            assert_eq!(canonical(text, &number), text);
        }
        assert!(fits("a", &column("text")) && !fits("a\0", &column("text")));
        assert!(!fits("\u{a0}7", &column("integer")) && !fits("\u{a0}7", &column("smallint")));
    }
}
