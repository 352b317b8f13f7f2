//! Which columns can be part of a key, and the one text that each component has.

use crate::dialect::catalog::Column;

/// How the product compares text: byte by byte, trailing spaces included.
pub(super) const EXACT: &str = "utf8mb4_nopad_bin";

/// The longest key that `changeover_key` holds, in characters.
pub(super) const LONGEST: u32 = 600;

/// The key's text.
pub(super) fn text(expressions: &[String]) -> String {
    let exact = |e: &String| format!("(CAST({e} AS CHAR CHARACTER SET utf8mb4) COLLATE {EXACT})");
    if let [only] = expressions {
        return exact(only);
    }
    let escaped = |e: &String| format!(r"replace(replace({}, '\', '\\'), ',', '\,')", exact(e));
    let parts: Vec<String> = expressions.iter().map(escaped).collect();
    parts.join(" || ',' || ")
}

/// Why `column` cannot be part of a key, if it cannot.
pub(super) fn type_problem(column: &Column) -> Option<String> {
    match kind(column) {
        Some("text") if column.blurred => Some(format!(
            "its type is {} with a collation that takes texts that differ for equal: in a key a text must be one value, as with COLLATE utf8mb4_nopad_bin",
            column.full_type
        )),
        Some("text") if length(column).is_none_or(|length| length > LONGEST) => Some(format!(
            "its type is {}; a key has at most {LONGEST} characters",
            column.full_type
        )),
        Some(_) => None,
        None => Some(format!(
            "its type is {}; a key column must be an integer, a uuid, or a char or varchar",
            column.full_type
        )),
    }
}

/// Whether equal components have equal texts in both columns.
pub(super) fn same_text(a: &Column, b: &Column) -> bool {
    kind(a).is_some() && kind(a) == kind(b)
}

fn kind(column: &Column) -> Option<&'static str> {
    match column.sql_type.trim_end_matches(" unsigned") {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" => Some("integer"),
        "char" | "varchar" => Some("text"),
        "uuid" => Some("uuid"),
        _ => None,
    }
}

/// The length that a type is declared with.
fn length(column: &Column) -> Option<u32> {
    let (_, rest) = column.full_type.split_once('(')?;
    rest.split_once(')')?.0.parse().ok()
}

/// Whether `column` can hold this component.
pub(super) fn fits(component: &str, column: &Column) -> bool {
    let Some("integer") = kind(column) else {
        return true;
    };
    let (name, unsigned) = match column.sql_type.strip_suffix(" unsigned") {
        Some(name) => (name, true),
        None => (column.sql_type.as_str(), false),
    };
    let bits = match name {
        "tinyint" => 8,
        "smallint" => 16,
        "mediumint" => 24,
        "int" => 32,
        _ => 64,
    };
    let (least, most) = match unsigned {
        true => (0, (1_i128 << bits) - 1),
        false => (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1),
    };
    number(component).is_some_and(|number| (least..=most).contains(&number))
}

/// The component as the server prints it.
pub(super) fn canonical(component: &str, column: &Column) -> String {
    match kind(column) {
        Some("integer") => {
            number(component).map_or_else(|| component.to_owned(), |number| number.to_string())
        }
        Some("uuid") => component.to_ascii_lowercase(),
        _ => component.to_owned(),
    }
}

fn number(text: &str) -> Option<i128> {
    text.trim_matches(' ').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(sql_type: &str, full_type: &str, blurred: bool) -> Column {
        Column {
            sql_type: sql_type.into(),
            full_type: full_type.into(),
            blurred,
            ..Column::default()
        }
    }

    #[test]
    fn a_number_fits_its_type() {
        let of = |sql_type| column(sql_type, sql_type, false);
        assert!(fits("-128", &of("tinyint")) && !fits("128", &of("tinyint")));
        assert!(fits("255", &of("tinyint unsigned")) && !fits("-1", &of("tinyint unsigned")));
        assert!(fits("18446744073709551615", &of("bigint unsigned")));
        assert!(!fits("18446744073709551615", &of("bigint")));
        assert!(!fits("7 or 1", &of("int")) && !fits("", &of("int")));
        assert_eq!(canonical("007", &of("int")), "7");
    }

    #[test]
    fn a_key_is_one_text() {
        assert_eq!(
            type_problem(&column("bigint unsigned", "bigint(20) unsigned", false)),
            None
        );
        assert_eq!(type_problem(&column("varchar", "varchar(40)", false)), None);
        for bad in [
            column("varchar", "varchar(40)", true),
            column("varchar", "varchar(601)", false),
            column("text", "text", false),
            column("decimal", "decimal(10,0)", false),
        ] {
            assert!(type_problem(&bad).is_some(), "{bad:?}");
        }
    }
}
