//! Questions about the keys of a span.

use changeover_flags::Key;

use super::Dialect;
use super::catalog::Column;
use super::session::{DbError, Session};
use super::statement::Statement;
use super::sums::RowsOf;
use crate::sum::Span;

/// The first `limit` keys in a span of which one of these has a row `r` that meets `condition`, in order.
/// `None` if there are none of these, or a bound is no key.
pub(super) fn first_keys<'d, 'r>(
    dialect: &'d dyn Dialect,
    of: impl Iterator<Item = &'r RowsOf>,
    condition: &str,
    (span, columns): (&Span, &[Column]),
    limit: u32,
) -> Option<Statement<'d>> {
    let order: Vec<String> = (0..columns.len()).map(|n| format!("o{n}")).collect();
    let order = format!(" ORDER BY {} LIMIT {limit}", order.join(", "));
    let mut statement = Statement::of(dialect, "SELECT u.k FROM (");
    let mut parts = 0;
    for rows in of {
        let union = if parts > 0 { " UNION " } else { "" };
        let part = statement.sql(&format!("{union}SELECT * FROM (SELECT r.* FROM ("));
        let part = rows.keys(dialect, part, span, columns)?;
        statement = part.sql(&format!(") AS r WHERE {condition}{order}) AS p"));
        parts += 1;
    }
    (parts > 0).then(|| statement.sql(&format!(") AS u{order}")))
}

/// Appends a condition: the key that these expressions make is within the span. `columns` are those
/// of the root table's key. `None` if a bound is not of its form.
pub(super) fn within<'d>(
    mut statement: Statement<'d>,
    dialect: &dyn Dialect,
    key: &[String],
    columns: &[Column],
    span: &Span,
) -> Option<Statement<'d>> {
    statement = statement.sql("1 = 1");
    for (bound, than) in [(&span.after, ">"), (&span.upto, "<=")] {
        let Some(bound) = bound else { continue };
        let components = bound.components(columns.len())?;
        let mut bounds = components.iter().zip(columns);
        if let ([first, _, ..], true) = (key, dialect.sums().leads()) {
            let (component, column) = bounds.clone().next()?;
            let or_equal = than.trim_end_matches('=');
            statement = statement.sql(&format!(" AND {first} {or_equal}= "));
            statement = bind(statement, dialect, component, column);
        }
        statement = statement.sql(&format!(" AND ({}) {than} (", key.join(", ")));
        let (component, column) = bounds.next()?;
        statement = bind(statement, dialect, component, column);
        for (component, column) in bounds {
            statement = bind(statement.sql(", "), dialect, component, column);
        }
        statement = statement.sql(")");
    }
    Some(statement)
}

/// Appends a part of a bound, of the widest type: it may lie beyond what the other side's column holds.
fn bind<'d>(
    statement: Statement<'d>,
    dialect: &dyn Dialect,
    component: &str,
    column: &Column,
) -> Statement<'d> {
    let widest = dialect.sums().key_order(&column.sql_type);
    let value = dialect.key_value(component, column);
    statement.bind(value, widest.unwrap_or(&column.sql_type))
}

/// The keys in a column.
pub(super) async fn keys_of(
    session: &mut dyn Session,
    statement: Statement<'_>,
    column: usize,
) -> Result<Vec<Key>, DbError> {
    let rows = session.fetch(statement).await?;
    let keys = rows.iter();
    Ok(keys
        .filter_map(|row| super::authority::key_at(row, column))
        .collect())
}
