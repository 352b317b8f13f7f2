//! PostgreSQL's `COPY`. In its text format, what a type prints, the same or another type reads; in its
//! binary format only the same one does, in half the time.

use std::borrow::Cow;

use super::Postgres;
use super::alters::Keeps;
use crate::dialect::Dialect as _;
use crate::dialect::bulk::Bulk;
use crate::dialect::catalog::Column;

/// Words that are a function where a column may stand.
const FUNCTIONS: [&str; 12] = [
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "localtime",
    "localtimestamp",
    "session_user",
    "system_user",
    "user",
];

/// Types that every server stores, and sends, alike, and reads whatever it finds there.
const STORED_ALIKE: [&str; 19] = [
    "boolean",
    "smallint",
    "integer",
    "bigint",
    "numeric",
    "real",
    "double precision",
    "text",
    "character varying",
    "bpchar",
    "bytea",
    "uuid",
    "date",
    "time without time zone",
    "timestamp without time zone",
    "timestamp with time zone",
    "interval",
    "json",
    "jsonb",
];

impl Bulk for Postgres {
    fn format(&self) -> &'static str {
        "PostgreSQL COPY"
    }

    fn copy_out(&self, select: &str, typed: bool) -> String {
        format!("COPY ({select}) TO STDOUT{}", format(typed))
    }

    fn copy_in(&self, table: &str, columns: &[String], typed: bool) -> String {
        let (columns, format) = (columns.join(", "), format(typed));
        format!("COPY {table} ({columns}) FROM STDIN{format}")
    }

    fn is_name(&self, sql: &str) -> bool {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        sql.bytes().all(plain)
            && !sql.starts_with(|first: char| first.is_ascii_digit())
            && !FUNCTIONS.contains(&sql)
    }

    fn is_one_type(&self, from: &Column, to: &Column) -> bool {
        // A domain's name may stand for another type over there, and has checks.
        STORED_ALIKE.contains(&&*to.sql_type)
            && to.full_type == to.stored_type
            && from.full_type == to.full_type
    }

    fn types(&self, table: &str) -> String {
        let table = self.table(table).replace('\'', "''");
        format!(
            "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a \
             WHERE a.attrelid = to_regclass('{table}') AND a.attnum > 0 AND NOT a.attisdropped"
        )
    }

    fn alters(&self, rows: &[u8], columns: &[Column]) -> bool {
        let watched: Vec<Option<Keeps<'_>>> = columns.iter().map(Keeps::of).collect();
        if watched.iter().all(Option::is_none) {
            return false;
        }
        rows.split(|byte| *byte == b'\n').any(|row| {
            let mut fields = row.split(|byte| *byte == b'\t').zip(&watched);
            fields.any(|(field, keeps)| match keeps {
                Some(keeps) => text(field).is_some_and(|text| keeps.less_than(&text)),
                None => false,
            })
        })
    }

    fn commit_behind(&self) -> &'static str {
        "SET LOCAL synchronous_commit = off"
    }

    fn many_rows(&self) -> &'static str {
        "SET LOCAL plan_cache_mode = auto"
    }

    fn literal(&self, text: &str, sql_type: &str) -> String {
        // Sessions are opened with `standard_conforming_strings`.
        format!("'{}'::{sql_type}", text.replace('\'', "''"))
    }
}

const fn format(typed: bool) -> &'static str {
    if typed { " (FORMAT binary)" } else { "" }
}

/// The text of a field; `None` for `NULL`, and for what is no text. Escapes: PostgreSQL manual, `COPY`,
/// "Text Format".
fn text(field: &[u8]) -> Option<Cow<'_, str>> {
    if field == b"\\N" {
        return None;
    }
    if !field.contains(&b'\\') {
        return std::str::from_utf8(field).ok().map(Cow::Borrowed);
    }
    let (mut plain, mut bytes) = (Vec::with_capacity(field.len()), field.iter());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next()? {
                b'b' => 8,
                b'f' => 12,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'v' => 11,
                other => *other,
            },
            other => *other,
        });
    }
    String::from_utf8(plain).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn fields_are_read_as_they_were_written() {
        assert_eq!(text(b"plain").as_deref(), Some("plain"));
        assert_eq!(text(b"\\N"), None);
        assert_eq!(text(b"\\\\N").as_deref(), Some("\\N"));
        assert_eq!(text(b"a\\tb\\nc\\\\d").as_deref(), Some("a\tb\nc\\d"));
        assert_eq!(text(b"").as_deref(), Some(""));
    }
}
