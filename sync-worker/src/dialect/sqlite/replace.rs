//! Which rows a write pushes out of a table by `REPLACE`, and which keys they belong to.
//!
//! SQLite takes a row out without a trigger when another takes its place in any unique index: over
//! columns or expressions, of all rows or of some, under any collation. The index is evaluated here
//! as it stands in the schema, for the rows that stand and for the row that comes.

use super::Sqlite;
use crate::dialect::Dialect;
use crate::dialect::catalog::{Exclusion, Table, Term};
use crate::dialect::install::{Stamp, replace_row};
use crate::mapping::KeyExpression;

/// Queries for the keys of the rows that a write of `NEW` would displace, one per unique index.
pub(super) fn displaced(dialect: &Sqlite, stamp: &Stamp<'_>, timing: &str) -> Vec<String> {
    let rows = stamp.table.exclusions.iter();
    rows.map(|exclusion| rows_in_the_way(dialect, stamp.table, exclusion, timing))
        .map(|rows| keys(dialect, stamp, &rows))
        .collect()
}

/// The keys of the rows that a query answers, as a query of one column named `key`.
fn keys(dialect: &Sqlite, stamp: &Stamp<'_>, rows: &str) -> String {
    let names = |alias: &str, columns: &[String]| -> Vec<String> {
        let name = |column: &String| format!("{alias}.{}", dialect.quote(column));
        columns.iter().map(name).collect()
    };
    match stamp.key {
        KeyExpression::Columns(columns) => format!(
            "SELECT {} AS key FROM ({rows}) AS changeover_t",
            dialect.key_text(&names("changeover_t", columns))
        ),
        // A query cannot be asked for each row of another, but it can be what keys are searched by.
        KeyExpression::Query(query) => {
            let key = names("changeover_r", &stamp.root.key);
            format!(
                "SELECT {} AS key FROM ({rows}) AS changeover_t CROSS JOIN {} AS changeover_r WHERE ({}) IN ({})",
                dialect.key_text(&key),
                dialect.table(&stamp.root.table),
                key.join(", "),
                replace_row(query, |column| format!(
                    "changeover_t.{}",
                    dialect.quote(column)
                ))
            )
        }
    }
}

/// The rows that stand where `NEW` would, apart from the row that is updated.
fn rows_in_the_way(dialect: &Sqlite, table: &Table, exclusion: &Exclusion, timing: &str) -> String {
    let mut rows = format!(
        "SELECT * FROM {} WHERE {}",
        dialect.table(&table.name),
        in_place_of(dialect, table, exclusion, "NEW")
    );
    if let Some(filter) = &exclusion.filter {
        // Said of the rows that stand, too: otherwise the index is of no use to this search.
        rows.push_str(&format!(" AND ({filter}\n)"));
    }
    if timing == "UPDATE" {
        let itself = in_place_of(dialect, table, exclusion, "OLD");
        rows.push_str(&format!(" AND ({itself}) IS NOT TRUE"));
    }
    rows
}

/// Whether a row of the table stands where `record` does in the index.
fn in_place_of(dialect: &Sqlite, table: &Table, exclusion: &Exclusion, record: &str) -> String {
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|column| dialect.quote(&column.name))
        .map(|name| format!("{record}.{name} AS {name}"))
        .collect();
    let of_record = |sql: &str| format!("(SELECT ({sql}\n) FROM (SELECT {}))", columns.join(", "));
    let same = |term: &Term| {
        let other = if term.is_column {
            format!("{record}.{}", term.sql)
        } else {
            of_record(&term.sql)
        };
        let (sql, collation) = (&term.sql, dialect.quote(&term.collation));
        if term.is_column {
            format!("{sql} = {other} COLLATE {collation}")
        } else {
            format!("({sql}\n) = {other} COLLATE {collation}")
        }
    };
    let filter = exclusion.filter.as_deref().map(of_record);
    let terms: Vec<String> = exclusion.terms.iter().map(same).chain(filter).collect();
    terms.join(" AND ")
}

/// A statement that the database understands if it understands the index's terms and condition.
pub(super) fn probe(dialect: &Sqlite, table: &Table, exclusion: &Exclusion) -> String {
    let term = |term: &Term| {
        format!(
            "({}\n) = 1 COLLATE {}",
            term.sql,
            dialect.quote(&term.collation)
        )
    };
    let filter = exclusion
        .filter
        .iter()
        .map(|filter| format!("({filter}\n)"));
    let terms: Vec<String> = exclusion.terms.iter().map(term).chain(filter).collect();
    format!(
        "SELECT 1 FROM (SELECT * FROM {}) WHERE {}",
        dialect.table(&table.name),
        terms.join(" AND ")
    )
}

/// The terms of a `CREATE INDEX`, and its condition. `None` when the text is not understood.
pub(super) fn parts(create: &str) -> Option<(Vec<String>, Option<String>)> {
    let mut depth = 0_usize;
    let mut from = None;
    let mut terms = Vec::new();
    for (at, c) in bare(create) {
        match (c, depth) {
            ('(', 0) => {
                from = Some(at + 1);
                depth = 1;
            }
            ('(', _) => depth += 1,
            (',', 1) => {
                terms.push(term(create.get(from?..at)?));
                from = Some(at + 1);
            }
            (')', 1) => {
                terms.push(term(create.get(from?..at)?));
                let rest = create.get(at + 1..)?.trim();
                if rest.is_empty() {
                    return Some((terms, None));
                }
                let (word, filter) = rest.split_at_checked(5)?;
                let understood = word.eq_ignore_ascii_case("where");
                return understood.then(|| (terms, Some(filter.trim().to_owned())));
            }
            (')', _) => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

/// A term without its direction.
fn term(text: &str) -> String {
    let text = text.trim();
    let (before, last) = text.rsplit_once(char::is_whitespace).unwrap_or(("", text));
    let directed = ["asc", "desc"]
        .iter()
        .any(|word| last.eq_ignore_ascii_case(word));
    if directed { before } else { text }.trim().to_owned()
}

/// The characters of a statement, and where they are, outside of quotes and comments.
fn bare(sql: &str) -> Vec<(usize, char)> {
    let mut found = Vec::new();
    let mut rest = sql.char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        let next = rest.peek().map(|(_, next)| *next);
        match (c, next) {
            // A doubled quote ends one quoted text and begins the next.
            ('\'' | '"' | '`', _) => while rest.next().is_some_and(|(_, other)| other != c) {},
            ('[', _) => while rest.next().is_some_and(|(_, other)| other != ']') {},
            ('-', Some('-')) => while rest.next().is_some_and(|(_, other)| other != '\n') {},
            ('/', Some('*')) => {
                rest.next();
                let mut last = ' ';
                for (_, other) in rest.by_ref() {
                    if (last, other) == ('*', '/') {
                        break;
                    }
                    last = other;
                }
            }
            _ => found.push((at, c)),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn an_index_is_read_as_it_was_written() {
        let read = |sql: &str| parts(sql).unwrap_or_default();
        let terms = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            read(
                r#"CREATE UNIQUE INDEX "a(b" ON [t(] (lower(trim(x, '(,')), y COLLATE NOCASE DESC) WHERE z > 0"#
            ),
            (
                terms(&["lower(trim(x, '(,'))", "y COLLATE NOCASE"]),
                Some("z > 0".to_owned())
            )
        );
        assert_eq!(
            read("CREATE UNIQUE INDEX a ON t/* ( */(x -- , y\n asc)"),
            (terms(&["x -- , y"]), None)
        );
        assert_eq!(parts("CREATE UNIQUE INDEX a ON t(x"), None);
        assert_eq!(parts("CREATE UNIQUE INDEX a ON t(x) USING y"), None);
    }
}
