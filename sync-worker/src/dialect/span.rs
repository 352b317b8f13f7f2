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
        if let ([first, _, ..], true) = (key, dialect.sums().leads()) {
            let components = bound.components(columns.len())?;
            let (component, column) = components.iter().zip(columns).next()?;
            let or_equal = than.trim_end_matches('=');
            statement = statement.sql(&format!(" AND {first} {or_equal}= "));
            statement = bind(statement, dialect, component, column);
        }
        statement = statement.sql(" AND ");
        statement = compared(statement, dialect, (key, columns), than, bound)?;
    }
    Some(statement)
}

/// Appends which of these spans, each beginning where the one before ends, the key that these expressions
/// make is in, from 0 on. `None` if a bound is not of its form.
pub(super) fn place_among<'d>(
    mut statement: Statement<'d>,
    dialect: &dyn Dialect,
    key: &[String],
    columns: &[Column],
    spans: &[Span],
) -> Option<Statement<'d>> {
    let Some((_, bounded)) = spans
        .split_last()
        .filter(|(_, bounded)| !bounded.is_empty())
    else {
        return Some(statement.sql("0"));
    };
    statement = statement.sql("CASE");
    for (place, span) in bounded.iter().enumerate() {
        let bound = span.upto.as_ref()?;
        statement = compared(
            statement.sql(" WHEN "),
            dialect,
            (key, columns),
            "<=",
            bound,
        )?;
        statement = statement.sql(&format!(" THEN {place}"));
    }
    Some(statement.sql(&format!(" ELSE {} END", bounded.len())))
}

/// Appends a comparison of the key that these expressions make.
fn compared<'d>(
    statement: Statement<'d>,
    dialect: &dyn Dialect,
    (key, columns): (&[String], &[Column]),
    than: &str,
    bound: &Key,
) -> Option<Statement<'d>> {
    let components = bound.components(columns.len())?;
    let mut bounds = components.iter().zip(columns);
    let mut statement = statement.sql(&format!("({}) {than} (", key.join(", ")));
    let (component, column) = bounds.next()?;
    statement = bind(statement, dialect, component, column);
    for (component, column) in bounds {
        statement = bind(statement.sql(", "), dialect, component, column);
    }
    Some(statement.sql(")"))
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

/// Numbers between `after` and `last` that divide what is between them into so many parts, or fewer where
/// there are not as many numbers; none where these are no numbers.
pub(super) fn evenly(after: &Key, last: &Key, parts: u32) -> Vec<Key> {
    let number = |key: &Key| key.as_str().parse::<i64>().ok().map(i128::from);
    let Some((from, to)) = number(after).zip(number(last)) else {
        return Vec::new();
    };
    let parts = i128::from(parts).min(to - from);
    (1..parts)
        .map(|part| Key::new((from + (to - from) * part / parts).to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_divided_between_their_bounds() {
        let at = |after: &str, last: &str, parts| -> Vec<String> {
            let ends = evenly(&Key::new(after), &Key::new(last), parts);
            ends.iter().map(ToString::to_string).collect()
        };
        assert_eq!(at("0", "100", 4), ["25", "50", "75"]);
        assert_eq!(at("-3", "1", 16), ["-2", "-1", "0"]);
        for (after, last) in [("7", "7"), ("7", "8"), ("8", "7"), ("a", "8"), ("7", "8.5")] {
            assert_eq!(at(after, last, 16), Vec::<String>::new(), "{after} {last}");
        }
        let (least, most) = (i64::MIN.to_string(), i64::MAX.to_string());
        assert_eq!(at(&least, &most, 2), ["-1"]);
    }
}
