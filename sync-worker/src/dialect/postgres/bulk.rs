//! PostgreSQL's `COPY`, in its text format: what a type prints, the same or another type reads.

use changeover_shadow::Value;

use super::{Postgres, alters};
use crate::dialect::bulk::Bulk;
use crate::dialect::catalog::Column;

impl Bulk for Postgres {
    fn format(&self) -> &'static str {
        "PostgreSQL text"
    }

    fn copy_out(&self, select: &str) -> String {
        format!("COPY ({select}) TO STDOUT")
    }

    fn copy_in(&self, table: &str, columns: &[String]) -> String {
        format!("COPY {table} ({}) FROM STDIN", columns.join(", "))
    }

    fn alters(&self, rows: &[u8], columns: &[Column]) -> bool {
        let watched: Vec<Option<&Column>> = columns
            .iter()
            .map(|column| Some(column).filter(|column| alters::may_alter(column)))
            .collect();
        if watched.iter().all(Option::is_none) {
            return false;
        }
        rows.split(|byte| *byte == b'\n').any(|row| {
            let fields = row.split(|byte| *byte == b'\t').zip(&watched);
            let mut watched = fields.filter_map(|(field, column)| Some((field, (*column)?)));
            watched.any(|(field, column)| match text(field) {
                Some(text) => alters::alters(column, &Value::Text(text)),
                None => false,
            })
        })
    }

    fn literal(&self, text: &str, sql_type: &str) -> String {
        // Sessions are opened with `standard_conforming_strings`.
        format!("'{}'::{sql_type}", text.replace('\'', "''"))
    }
}

/// The text of a field; `None` for `NULL`, and for what is no text. Escapes: PostgreSQL manual, `COPY`,
/// "Text Format".
fn text(field: &[u8]) -> Option<String> {
    if field == b"\\N" {
        return None;
    }
    if !field.contains(&b'\\') {
        return String::from_utf8(field.to_vec()).ok();
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
    String::from_utf8(plain).ok()
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
