//! Which columns can be part of a key, and the one text that each component has.

use changeover_shadow::Value;

use crate::dialect::catalog::Column;
use crate::dialect::exact;
use crate::dialect::statement::Arg;

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

/// A condition: `column` is one of `keys`. As many are bound as the next power of two, the last one
/// repeated: so there are few texts, and each is prepared once.
pub(super) fn one_of(column: &str, mut keys: Vec<Value>, args: &mut Vec<Arg>) -> String {
    let Some(last) = keys.last().cloned() else {
        return "1 = 0".to_owned();
    };
    keys.resize(keys.len().next_power_of_two(), last);
    let marks = vec!["?"; keys.len()].join(", ");
    args.push(Arg::Column(keys));
    format!("{column} IN ({marks})")
}

/// Why `column` cannot be part of a key, if it cannot. In which texts are equal under its collation is
/// asked of every engine.
pub(super) fn type_problem(column: &Column) -> Option<String> {
    match kind(column) {
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

/// Why a key of these columns is too long, if it may be.
pub(super) fn length_problem(columns: &[&Column]) -> Option<String> {
    let most: u32 = columns
        .iter()
        .map(|column| match kind(column) {
            // In a key of several, commas and backslashes have one more before them.
            Some("text") if columns.len() > 1 => 2 * length(column).unwrap_or(LONGEST),
            Some("text") => length(column).unwrap_or(LONGEST),
            Some("uuid") => 36,
            _ => 20,
        })
        .sum::<u32>()
        + u32::try_from(columns.len()).unwrap_or(LONGEST)
        - 1;
    (most > LONGEST).then(|| {
        format!("its text may take {most} characters, and a key has at most {LONGEST}: a longer one would fail the write of its row")
    })
}

/// Why no index finds a value in `column`: what it is compared with is text of every language, and the
/// server converts the column's.
pub(super) fn search_problem(column: &Column) -> Option<String> {
    let (_, set) = column.stored_type.split_once(" CHARACTER SET ")?;
    (!set.starts_with("utf8mb4 ")).then(|| {
        format!(
            "its character set is {set}, in which every copy would walk through the whole table"
        )
    })
}

/// Why the triggers cannot note a row's value in `column` exactly, if they cannot.
pub(super) fn note_problem(column: &Column) -> Option<String> {
    let noted = match column.sql_type.trim_end_matches(" unsigned") {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "decimal" | "double" | "char"
        | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "uuid" | "date"
        | "datetime" | "time" | "year" | "enum" => !column.full_type.contains("zerofill"),
        _ => false,
    };
    (!noted).then(|| {
        format!(
            "its type is {}, whose text depends on the writer's session or is none",
            column.full_type
        )
    })
}

/// Whether equal components have equal texts in both columns.
pub(super) fn same_text(a: &Column, b: &Column) -> bool {
    kind(a).is_some() && kind(a) == kind(b)
}

fn kind(column: &Column) -> Option<&'static str> {
    // Its text has zeros that the number has not.
    if column.full_type.contains("zerofill") {
        return None;
    }
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
    match kind(column) {
        Some("integer") => {}
        Some("uuid") => return dashed(component).is_some(),
        _ => return true,
    }
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
        Some("uuid") => dashed(component).unwrap_or_else(|| component.to_owned()),
        _ => component.to_owned(),
    }
}

/// A uuid as the server prints it. It reads one with dashes anywhere between its digits, or none.
fn dashed(text: &str) -> Option<String> {
    exact::uuid(&text.replace('-', ""))
}

fn number(text: &str) -> Option<i128> {
    text.trim_matches(' ').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(sql_type: &str, full_type: &str) -> Column {
        Column {
            sql_type: sql_type.into(),
            full_type: full_type.into(),
            ..Column::default()
        }
    }

    #[test]
    fn a_number_fits_its_type() {
        let of = |sql_type| column(sql_type, sql_type);
        assert!(fits("-128", &of("tinyint")) && !fits("128", &of("tinyint")));
        assert!(fits("255", &of("tinyint unsigned")) && !fits("-1", &of("tinyint unsigned")));
        assert!(fits("18446744073709551615", &of("bigint unsigned")));
        assert!(!fits("18446744073709551615", &of("bigint")));
        assert!(!fits("7 or 1", &of("int")) && !fits("", &of("int")));
        assert_eq!(canonical("007", &of("int")), "7");
    }

    #[test]
    fn few_texts_ask_for_any_number_of_keys() {
        let asked = |keys: usize| {
            let mut args = Vec::new();
            let text = one_of("c", vec![Value::Integer(7); keys], &mut args);
            let Some(Arg::Column(bound)) = args.pop() else {
                return (text, 0);
            };
            (text, bound.len())
        };
        assert_eq!(asked(5), asked(8));
        assert_eq!(asked(3), ("c IN (?, ?, ?, ?)".to_owned(), 4));
        assert_eq!(asked(1), ("c IN (?)".to_owned(), 1));
        assert_eq!(asked(0), ("1 = 0".to_owned(), 0));
    }

    #[test]
    fn a_uuid_has_one_text() {
        let uuid = column("uuid", "uuid");
        let dashed = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        for text in [
            dashed,
            "A0EEBC999C0B4EF8BB6D6BB9BD380A11",
            "a0eebc99-9c0b4ef8-bb6d6bb9bd380a11",
        ] {
            assert!(fits(text, &uuid));
            assert_eq!(canonical(text, &uuid), dashed);
        }
        assert!(!fits("a0eebc99", &uuid) && !fits("", &uuid));
    }

    #[test]
    fn keys_of_several_columns_have_room_for_their_escapes() {
        let of = |length: u32| column("varchar", &format!("varchar({length})"));
        let (short, long, wide) = (of(100), of(300), of(600));
        assert_eq!(length_problem(&[&wide]), None);
        assert_eq!(length_problem(&[&short, &short]), None);
        assert!(length_problem(&[&long, &short]).is_some());
    }

    #[test]
    fn a_key_is_one_text() {
        assert_eq!(
            type_problem(&column("bigint unsigned", "bigint(20) unsigned")),
            None
        );
        assert_eq!(type_problem(&column("varchar", "varchar(40)")), None);
        for bad in [
            column("varchar", "varchar(601)"),
            column("text", "text"),
            column("decimal", "decimal(10,0)"),
            column("int unsigned", "int(5) unsigned zerofill"),
        ] {
            assert!(type_problem(&bad).is_some(), "{bad:?}");
        }
    }
}
