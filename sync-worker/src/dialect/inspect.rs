//! Questions that the preflight asks of a database, and the SQL text of a mapping's queries.

use changeover_shadow::Value;

use super::Dialect;
use super::catalog::Table;
use super::install::replace_row;
use super::session::{DbError, Session};
use super::statement::Statement;
use crate::mapping::{Root, SourceQuery};

/// What stands after `FROM`. The root table alone is a name, quoted as such: names in mixed case
/// and reserved words need no quotes of the mapping's author.
pub(crate) fn from(dialect: &dyn Dialect, root: &Root, query: &SourceQuery) -> String {
    if query.from == root.table {
        dialect.table(&root.table)
    } else {
        query.from.clone()
    }
}

/// The expressions that equal the key's components. Over the root table alone, the names of its
/// key columns are names.
pub(crate) fn key(dialect: &dyn Dialect, root: &Root, query: &SourceQuery) -> Vec<String> {
    let name = |expression: &String| {
        if query.from == root.table && root.key.contains(expression) {
            dialect.quote(expression)
        } else {
            expression.clone()
        }
    };
    query.key.iter().map(name).collect()
}

/// The types of what one of a mapping's queries answers, by the order of its `select`, and those of
/// the expressions that equal the key's components.
pub(crate) async fn query_types(
    dialect: &dyn Dialect,
    session: &mut dyn Session,
    root: &Root,
    query: &SourceQuery,
) -> Result<(Vec<String>, Vec<String>), DbError> {
    let select: Vec<String> = query
        .select
        .iter()
        .map(|(_, expression)| expression)
        .chain(&key(dialect, root, query))
        .enumerate()
        .map(|(n, expression)| format!("({expression}) AS c{n}"))
        .collect();
    let filter = query
        .filter
        .as_ref()
        .map(|filter| format!(" WHERE ({filter})"))
        .unwrap_or_default();
    let sql = format!(
        "SELECT {} FROM {}{filter}",
        select.join(", "),
        from(dialect, root, query)
    );
    let columns = dialect.describe_query(session, &sql).await?;
    let mut types = columns.into_iter().map(|(_, sql_type)| sql_type);
    let selected = types.by_ref().take(query.select.len()).collect();
    Ok((selected, types.collect()))
}

/// Whether the database understands one expression over a query's `from`.
pub(crate) async fn understands(
    dialect: &dyn Dialect,
    session: &mut dyn Session,
    from: &str,
    expression: &str,
) -> Result<(), DbError> {
    dialect
        .describe_query(session, &format!("SELECT ({expression}) FROM {from}"))
        .await
        .map(drop)
}

/// How many columns the query of a source answers, for a row whose columns are all `NULL`.
pub(crate) async fn key_query_width(
    dialect: &dyn Dialect,
    session: &mut dyn Session,
    table: &Table,
    query: &str,
) -> Result<usize, DbError> {
    let query = replace_row(query, |column| {
        let sql_type = table
            .column(column)
            .map_or("text", |column| column.sql_type.as_str());
        dialect.cast("NULL", sql_type)
    });
    Ok(dialect.describe_query(session, &query).await?.len())
}

/// How many keys stand more than once in a table.
pub(crate) async fn duplicates(
    dialect: &dyn Dialect,
    session: &mut dyn Session,
    table: &Table,
    key: &[String],
) -> Result<i64, DbError> {
    let columns: Vec<String> = key.iter().map(|name| dialect.quote(name)).collect();
    let columns = columns.join(", ");
    let statement = Statement::of(
        dialect,
        &format!("SELECT count(*) FROM (SELECT {columns} FROM "),
    )
    .table(&table.name)
    .sql(&format!(" GROUP BY {columns} HAVING count(*) > 1) d"));
    let rows = session.fetch(statement).await?;
    Ok(match rows.first().and_then(|row| row.first()) {
        Some(Value::Integer(count)) => *count,
        _ => 0,
    })
}

/// Why an expression is not one expression: the text would end the statement it stands in.
/// Quoted text is passed over.
#[must_use]
pub(crate) fn not_one_expression(text: &str) -> Option<&'static str> {
    let mut depth = 0_i32;
    let mut rest = text.chars().peekable();
    if text.trim().is_empty() {
        return Some("is empty");
    }
    while let Some(c) = rest.next() {
        match c {
            // A doubled quote ends one quoted text and begins the next.
            '\'' | '"' | '`' if !rest.by_ref().any(|other| other == c) => {
                return Some("has a quote that is not closed");
            }
            ';' => return Some("has a ';' outside of quotes"),
            '-' if rest.peek() == Some(&'-') => return Some("has a comment ('--')"),
            '/' if rest.peek() == Some(&'*') => return Some("has a comment ('/*')"),
            '\0' => return Some("has a NUL character"),
            '(' => depth += 1,
            ')' => {
                depth -= 1;
                if depth < 0 {
                    return Some("closes a parenthesis that it did not open");
                }
            }
            _ => {}
        }
    }
    (depth > 0).then_some("opens a parenthesis that it does not close")
}

#[cfg(test)]
mod tests {
    use super::not_one_expression;

    #[test]
    fn an_expression_cannot_end_its_statement() {
        for good in [
            "id",
            "lower(trim(\"a;b\"))",
            "'it''s -- fine; ('",
            "a - -b",
            "(a) || (b)",
            "a / b",
        ] {
            assert_eq!(not_one_expression(good), None, "{good}");
        }
        for bad in [
            "",
            " ",
            "id; DROP TABLE x",
            "id) FROM x; --",
            "id --",
            "id /* x",
            "'open",
            "(a",
            "a)(",
            "a\0",
        ] {
            assert!(not_one_expression(bad).is_some(), "{bad}");
        }
    }
}
