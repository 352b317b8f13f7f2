//! Questions about the keys of a span.

use changeover_flags::Key;

use super::catalog::Column;
use super::session::{DbError, Session};
use super::statement::Statement;
use super::sums::{KeyOrder, RowsOf};
use super::{Dialect, exact};
use crate::sum::Span;

/// The first `limit` keys in a span of which one of these has a row `r` that meets `condition`, in order.
/// `None` if there are none of these, or a bound is no key.
pub(super) fn first_keys<'d, 'r>(
    dialect: &'d dyn Dialect,
    of: impl IntoIterator<Item = &'r RowsOf>,
    condition: impl Fn(Statement<'d>) -> Statement<'d>,
    (span, columns): (&Span, &[Column]),
    limit: u32,
) -> Option<Statement<'d>> {
    let order: Vec<String> = (0..columns.len()).map(|n| format!("o{n}")).collect();
    let order = format!(" ORDER BY {} LIMIT {limit}", order.join(", "));
    let mut statement = Statement::of(dialect, "SELECT u.k FROM (");
    let mut parts = 0;
    for rows in of {
        let union = if parts > 0 { " UNION " } else { "" };
        let part = statement.sql(&format!("{union}SELECT * FROM (SELECT DISTINCT r.* FROM ("));
        let part = rows.keys(dialect, part, span, columns)?;
        statement = condition(part.sql(") AS r WHERE ")).sql(&format!("{order}) AS p"));
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
/// make is in, the first of them being at a place: by halves, so that a key is compared with few ends. `None` if
/// a bound is not of its form.
pub(super) fn place_among<'d>(
    statement: Statement<'d>,
    dialect: &dyn Dialect,
    key: (&[String], &[Column]),
    (first, spans): (usize, &[Span]),
) -> Option<Statement<'d>> {
    let (low, high) = spans.split_at(spans.len() / 2);
    let Some(last) = low.last() else {
        return Some(statement.sql(&first.to_string()));
    };
    let statement = statement.sql("CASE WHEN ");
    let statement = compared(statement, dialect, key, "<=", last.upto.as_ref()?)?.sql(" THEN ");
    let statement = place_among(statement, dialect, key, (first, low))?.sql(" ELSE ");
    let statement = place_among(statement, dialect, key, (first + low.len(), high))?;
    Some(statement.sql(" END"))
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
    let sums = dialect.sums();
    let order = sums.key_order(&column.sql_type);
    let greatest = i64::MAX.to_string();
    // No key of such a column is above that: what is up to the bound is up to it.
    let component = match (order, component.parse::<u64>()) {
        (Some(KeyOrder::Signed), Ok(bound)) if i64::try_from(bound).is_err() => &greatest,
        _ => component,
    };
    let widest = order.map(|order| sums.bound(order));
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

/// Keys between `after` and `last` that divide what is between them into so many parts, or fewer where there are
/// not as many: as if the first component in which the two differ were spread evenly. None unless that is a whole
/// number or a uuid.
pub(super) fn evenly(after: &Key, last: &Key, components: usize, parts: u32) -> Vec<Key> {
    let bounds = after
        .components(components)
        .zip(last.components(components));
    let Some((after, last)) = bounds else {
        return Vec::new();
    };
    let mut pairs = after.iter().zip(&last).enumerate();
    let differing = pairs.find(|(_, (after, last))| after != last);
    let Some((position, (from, to))) = differing else {
        return Vec::new();
    };
    let between = match (number(from), number(to), uuid(from), uuid(to)) {
        (Some(from), Some(to), ..) => spread(from, to, parts).filter_map(of_number).collect(),
        (.., Some(from), Some(to)) => spread(from, to, parts).filter_map(of_uuid).collect(),
        _ => Vec::new(),
    };
    let key = |part: String| {
        let mut components = last.clone();
        components.splice(position..=position, [part]);
        Key::composite(components)
    };
    between.into_iter().map(key).collect()
}

/// Numbers that divide what is between two into so many parts, or into as many as there are.
fn spread(from: u128, to: u128, parts: u32) -> impl Iterator<Item = u128> {
    let between = to.saturating_sub(from);
    let parts = u128::from(parts).min(between);
    (1..parts).map(move |part| from + between / parts * part + between % parts * part / parts)
}

/// Where numbers of 64 bits begin, if none shall be negative.
const ZERO: i128 = 1 << 64;

fn number(text: &str) -> Option<u128> {
    let number = text.parse::<i128>().ok()?.checked_add(ZERO)?;
    u128::try_from(number).ok()
}

fn of_number(number: u128) -> Option<String> {
    let number = i128::try_from(number).ok()?.checked_sub(ZERO)?;
    Some(number.to_string())
}

/// A uuid is ordered as the number that its digits are.
fn uuid(text: &str) -> Option<u128> {
    let digits = text.replace('-', "");
    exact::uuid(&digits).filter(|uuid| uuid == text)?;
    u128::from_str_radix(&digits, 16).ok()
}

fn of_uuid(number: u128) -> Option<String> {
    exact::uuid(&format!("{number:032x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(after: &Key, last: &Key, components: usize, parts: u32) -> Vec<String> {
        let ends = evenly(after, last, components, parts);
        ends.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn numbers_are_divided_between_their_bounds() {
        let at = |after: &str, last: &str, parts| at(&Key::new(after), &Key::new(last), 1, parts);
        assert_eq!(at("0", "100", 4), ["25", "50", "75"]);
        assert_eq!(at("0", "11", 4), ["2", "5", "8"]);
        assert_eq!(at("-3", "1", 16), ["-2", "-1", "0"]);
        for (after, last) in [("7", "7"), ("7", "8"), ("8", "7"), ("a", "8"), ("7", "8.5")] {
            assert_eq!(at(after, last, 16), Vec::<String>::new(), "{after} {last}");
        }
        let (least, most) = (i64::MIN.to_string(), i64::MAX.to_string());
        assert_eq!(at(&least, &most, 2), ["-1"]);
        assert_eq!(at("0", &u64::MAX.to_string(), 2), [most]);
    }

    #[test]
    fn uuids_are_divided_in_the_order_of_their_digits() {
        let at = |after: &str, last: &str, parts| at(&Key::new(after), &Key::new(last), 1, parts);
        let (least, most) = (
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        );
        let quarters = ["3fffffff", "7fffffff", "bfffffff"];
        assert_eq!(
            at(least, most, 4),
            quarters.map(|first| format!("{first}-ffff-ffff-ffff-ffffffffffff"))
        );
        for (after, last) in [
            (most, least),
            ("7", most),
            (least, "FFFFFFFF-ffff-ffff-ffff-ffffffffffff"),
        ] {
            assert_eq!(at(after, last, 4), Vec::<String>::new(), "{after} {last}");
        }
    }

    #[test]
    fn keys_of_several_parts_are_divided_where_they_first_differ() {
        let key = |tenant: &str, id: &str| Key::composite([tenant, id]);
        assert_eq!(at(&key("5", "0"), &key("5", "9"), 2, 3), ["5,3", "5,6"]);
        assert_eq!(
            at(&key("1", "70"), &key("9", "3"), 2, 4),
            ["3,3", "5,3", "7,3"]
        );
        assert_eq!(
            at(&key("1", "70"), &key("2", "3"), 2, 4),
            Vec::<String>::new()
        );
        assert_eq!(
            at(&key("1", "70"), &Key::new("2"), 2, 4),
            Vec::<String>::new()
        );
    }
}
