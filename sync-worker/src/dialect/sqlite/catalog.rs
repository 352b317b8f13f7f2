//! What SQLite's pragmas say about a table.

use changeover_shadow::Value;

use super::{Sqlite, replace};
use crate::dialect::Dialect;
use crate::dialect::catalog::{Column, Exclusion, Reference, Table, Term, Unique};
use crate::dialect::session::{DbError, ErrorClass, Session};
use crate::dialect::statement::Statement;

pub(super) async fn describe(
    dialect: &Sqlite,
    session: &mut dyn Session,
    name: &str,
) -> Result<Option<Table>, DbError> {
    let found = Statement::of(
        dialect,
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name = ",
    )
    .text(name);
    if session.fetch(found).await?.is_empty() {
        return Ok(None);
    }
    let mut table = Table {
        name: name.to_owned(),
        canonical: name.to_lowercase(),
        ..Table::default()
    };
    let primary = columns(dialect, session, &mut table).await?;
    for column in &mut table.columns {
        column.blurred = blurred(dialect, session, name, &column.name).await?;
    }
    if !primary.is_empty() {
        table.unique.push(Unique {
            columns: primary.clone(),
            primary: true,
        });
        table.indexes.push(primary);
    }
    let rowid = table.columns.iter().find(|column| column.generated);
    if let Some(column) = rowid {
        table.exclusions.push(Exclusion {
            index: "the primary key".to_owned(),
            terms: vec![Term {
                sql: dialect.quote(&column.name),
                is_column: true,
                collation: "BINARY".to_owned(),
            }],
            filter: None,
        });
    }
    exclusions(dialect, session, &mut table).await?;
    indexes(dialect, session, &mut table).await?;
    references(dialect, session, &mut table).await?;
    Ok(Some(table))
}

/// Fills in the columns; answers those of the primary key.
async fn columns(
    dialect: &Sqlite,
    session: &mut dyn Session,
    table: &mut Table,
) -> Result<Vec<String>, DbError> {
    let statement = Statement::of(
        dialect,
        "SELECT name, type, \"notnull\", dflt_value, pk, hidden FROM pragma_table_xinfo(",
    )
    .text(&table.name)
    .sql(") ORDER BY cid");
    let rows = session.fetch(statement).await?;
    let mut primary: Vec<(i64, String)> = Vec::new();
    for row in rows {
        let name = text(&row, 0).unwrap_or_default();
        let declared = text(&row, 1).unwrap_or_default();
        let (pk, hidden) = (int(&row, 4), int(&row, 5));
        if pk > 0 {
            primary.push((pk, name.clone()));
        }
        table.columns.push(Column {
            name,
            sql_type: declared.clone(),
            full_type: declared.clone(),
            stored_type: declared,
            not_null: int(&row, 2) != 0,
            default: text(&row, 3),
            generated: false,
            computed: hidden > 1,
            blurred: false,
        });
    }
    primary.sort_unstable();
    let primary: Vec<String> = primary.into_iter().map(|(_, name)| name).collect();
    if let [only] = primary.as_slice() {
        for column in &mut table.columns {
            // An INTEGER PRIMARY KEY is the row's own number: never null, numbered by itself.
            if column.name == *only && column.sql_type.eq_ignore_ascii_case("INTEGER") {
                column.generated = true;
                column.not_null = true;
            }
        }
    }
    Ok(primary)
}

/// Whether the column's collation takes texts that differ for equal. No pragma names it: a column of
/// a compound query compares as its first part's column does. A collation that is not SQLite's own
/// is not known to this connection, and anything can be equal under it.
async fn blurred(
    dialect: &Sqlite,
    session: &mut dyn Session,
    table: &str,
    column: &str,
) -> Result<bool, DbError> {
    let column = dialect.quote(column);
    let statement = Statement::of(
        dialect,
        &format!("SELECT count(*) FROM (SELECT {column} AS k FROM "),
    )
    .table(table)
    .sql(" WHERE 0 UNION ALL SELECT 'a') WHERE k = 'A' OR k = 'a '");
    match session.fetch(statement).await {
        Ok(rows) => Ok(rows.first().is_some_and(|row| int(row, 0) > 0)),
        Err(error) if error.class == ErrorClass::Other => Ok(true),
        Err(error) => Err(error),
    }
}

async fn indexes(
    dialect: &Sqlite,
    session: &mut dyn Session,
    table: &mut Table,
) -> Result<(), DbError> {
    let statement = Statement::of(
        dialect,
        "SELECT l.name, l.\"unique\", l.partial, i.name FROM pragma_index_list(",
    )
    .text(&table.name)
    .sql(") l JOIN pragma_index_info(l.name) i ORDER BY l.seq, i.seqno");
    let mut found: Vec<(String, bool, Vec<Option<String>>)> = Vec::new();
    for row in session.fetch(statement).await? {
        if int(&row, 2) != 0 {
            continue;
        }
        let name = text(&row, 0).unwrap_or_default();
        let column = text(&row, 3);
        match found.last_mut() {
            Some((known, _, columns)) if *known == name => columns.push(column),
            _ => found.push((name, int(&row, 1) != 0, vec![column])),
        }
    }
    for (_, unique, columns) in found {
        // An index over an expression has nameless columns: it proves nothing about columns.
        let Some(columns) = columns.into_iter().collect::<Option<Vec<String>>>() else {
            continue;
        };
        if unique && !table.is_unique(&columns) {
            table.unique.push(Unique {
                columns: columns.clone(),
                primary: false,
            });
        }
        table.indexes.push(columns);
    }
    Ok(())
}

/// One term of an index: its column, if it is one, and its collation.
type Compared = (Option<String>, String);

/// What each unique index compares, as it stands in the schema.
async fn exclusions(
    dialect: &Sqlite,
    session: &mut dyn Session,
    table: &mut Table,
) -> Result<(), DbError> {
    let statement = Statement::of(
        dialect,
        "SELECT l.name, x.name, x.coll, s.sql FROM pragma_index_list(",
    )
    .text(&table.name)
    .sql(
        ") l JOIN pragma_index_xinfo(l.name) x LEFT JOIN sqlite_schema s ON s.type = 'index' \
         AND s.name = l.name WHERE l.\"unique\" AND x.key ORDER BY l.seq, x.seqno",
    );
    // By index: its text, and what it compares (a column or none, under a collation).
    let mut found: Vec<(String, Option<String>, Vec<Compared>)> = Vec::new();
    for row in session.fetch(statement).await? {
        let index = text(&row, 0).unwrap_or_default();
        let compared = (text(&row, 1), text(&row, 2).unwrap_or_default());
        match found.last_mut() {
            Some((known, _, terms)) if *known == index => terms.push(compared),
            _ => found.push((index, text(&row, 3), vec![compared])),
        }
    }
    for (index, create, compared) in found {
        let Some(exclusion) = exclusion(dialect, &index, create.as_deref(), compared) else {
            table
                .opaque
                .push((index, "its text is not understood".into()));
            continue;
        };
        match session
            .describe(&replace::probe(dialect, table, &exclusion))
            .await
        {
            Ok(_) => table.exclusions.push(exclusion),
            Err(error) if error.class == ErrorClass::Other => {
                table.opaque.push((index, error.source.to_string()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// An index that has no text, since a constraint made it, has columns alone.
fn exclusion(
    dialect: &Sqlite,
    index: &str,
    create: Option<&str>,
    compared: Vec<Compared>,
) -> Option<Exclusion> {
    let (texts, filter) = match create {
        Some(create) => replace::parts(create)?,
        None => (Vec::new(), None),
    };
    let terms = compared.into_iter().enumerate();
    let terms = terms.map(|(n, (column, collation))| {
        Some(Term {
            is_column: column.is_some(),
            sql: match column {
                Some(column) => dialect.quote(&column),
                None => texts.get(n)?.clone(),
            },
            collation,
        })
    });
    Some(Exclusion {
        index: index.to_owned(),
        terms: terms.collect::<Option<Vec<_>>>()?,
        filter,
    })
}

async fn references(
    dialect: &Sqlite,
    session: &mut dyn Session,
    table: &mut Table,
) -> Result<(), DbError> {
    let statement = Statement::of(
        dialect,
        "SELECT s.name, f.\"table\", f.id, f.\"from\", f.on_delete, f.on_update, \
           coalesce(f.\"to\", (SELECT x.name FROM pragma_table_info(f.\"table\") x WHERE x.pk = f.seq + 1)) \
         FROM sqlite_schema s JOIN pragma_foreign_key_list(s.name) f WHERE s.type = 'table' \
         AND (s.name = ",
    )
    .text(&table.name)
    .sql(" OR f.\"table\" = ")
    .text(&table.name)
    .sql(" COLLATE NOCASE) ORDER BY s.name, f.id, f.seq");
    let mut last = None;
    let mut found: Vec<Reference> = Vec::new();
    for row in session.fetch(statement).await? {
        let from = text(&row, 0).unwrap_or_default();
        let id = (from.clone(), int(&row, 2));
        let column = text(&row, 3).unwrap_or_default();
        let to_column = text(&row, 6).unwrap_or_default();
        if last.as_ref() == Some(&id) {
            if let Some(reference) = found.last_mut() {
                reference.columns.push(column);
                reference.to_columns.push(to_column);
            }
            continue;
        }
        last = Some(id);
        let acts = |index: usize| {
            matches!(
                text(&row, index).as_deref(),
                Some("CASCADE" | "SET NULL" | "SET DEFAULT")
            )
        };
        let to = text(&row, 1).unwrap_or_default();
        found.push(Reference {
            from: from.to_lowercase(),
            from_name: from,
            columns: vec![column],
            to: to.to_lowercase(),
            to_name: to,
            to_columns: vec![to_column],
            to_part: false,
            cascades: acts(4) || acts(5),
        });
    }
    let (references, referenced_by): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|reference| reference.from == table.canonical);
    table.references = references;
    table.referenced_by = referenced_by;
    Ok(())
}

/// `sql` with `[name]` for every `"name"`. SQLite takes an unknown name in double quotes for text,
/// so a mistyped column would be copied as a constant.
pub(super) fn in_brackets(sql: &str) -> String {
    let mut text = String::with_capacity(sql.len());
    let mut rest = sql.chars();
    while let Some(c) = rest.next() {
        // One that nothing closes stands in a comment.
        if !matches!(c, '\'' | '"' | '`') || !rest.as_str().contains(c) {
            text.push(c);
            continue;
        }
        let inside: String = rest.by_ref().take_while(|other| *other != c).collect();
        // A name with a quote or bracket of its own stays as it is.
        let plain = c == '"' && !inside.contains(['[', ']']) && !rest.as_str().starts_with('"');
        if plain && !text.ends_with('"') {
            text.push_str(&format!("[{inside}]"));
        } else {
            text.push(c);
            text.push_str(&inside);
            text.push(c);
        }
    }
    text
}

fn text(row: &[Value], index: usize) -> Option<String> {
    match row.get(index) {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    }
}

fn int(row: &[Value], index: usize) -> i64 {
    match row.get(index) {
        Some(Value::Integer(number)) => *number,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::in_brackets;

    #[test]
    fn names_are_bracketed_and_text_is_not() {
        assert_eq!(
            in_brackets(r#"lower("a b") || '"x"' || "c""#),
            r#"lower([a b]) || '"x"' || [c]"#
        );
        assert_eq!(in_brackets(r#""a""b" || "c]""#), r#""a""b" || "c]""#);
        assert_eq!(in_brackets("a -- it's\n\"b\""), "a -- it's\n[b]");
    }
}
