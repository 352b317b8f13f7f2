//! Rows summed by MariaDB: a row is written as its fields, each with its length before it, so that two
//! rows have one text only if all their fields have, and the MD5 of the text is summed in two halves. Where its
//! values are in a form that other engines write, too, so is that text ([`alike`](crate::dialect::alike)).
//!
//! The server bends what it cannot say, with a warning at most. What is too long for a message becomes
//! NULL, which would be equal to another one; a uuid of the moment takes its place, so that such rows
//! never agree, and are compared key by key.

use changeover_shadow::Value;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{Mariadb, alike, key};
use crate::dialect::alike::Form;
use crate::dialect::catalog::Column;
use crate::dialect::session::{DbError, Session};
use crate::dialect::statement::{Arg, Statement};
use crate::dialect::sums::{KeyOrder, SummedRows, Summing, answered};
use crate::sum::Sum;

impl Summing for Mariadb {
    fn key_order(&self, sql_type: &str) -> Option<KeyOrder> {
        key_order(sql_type)
    }

    fn bound(&self, order: KeyOrder) -> &'static str {
        match order {
            KeyOrder::Signed => SIGNED,
            KeyOrder::Unsigned => UNSIGNED,
            KeyOrder::Uuid => "uuid",
        }
    }

    fn leads(&self) -> bool {
        true
    }

    fn summed(
        &self,
        expression: &str,
        from: Option<&str>,
        column: &Column,
    ) -> Result<String, String> {
        summed(expression, from, column)
    }

    fn forms(&self, sql_type: &str) -> &'static [Form] {
        alike::forms(sql_type)
    }

    fn written(&self, expression: &str, sql_type: &str, form: Form) -> Option<String> {
        alike::written(expression, sql_type, form)
    }

    fn never(&self) -> &'static str {
        NEVER
    }

    fn mapped_id(&self, id: &str) -> String {
        key::text(&[id.to_owned()])
    }

    fn sum<'a>(
        &'a self,
        session: &'a mut dyn Session,
        rows: SummedRows<'a>,
    ) -> BoxFuture<'a, Result<Vec<Sum>, DbError>> {
        sum(self, session, rows).boxed()
    }
}

/// The type that a bound is read as: a number of text would be compared as a float.
pub(super) fn bound(sql_type: &str) -> &'static str {
    match sql_type {
        SIGNED => "CAST(? AS SIGNED)",
        UNSIGNED => "CAST(? AS UNSIGNED)",
        _ => "?",
    }
}

const SIGNED: &str = "signed";
const UNSIGNED: &str = "unsigned";

/// How keys of a type are ordered. The server orders uuids in a way of its own.
fn key_order(sql_type: &str) -> Option<KeyOrder> {
    match (Kind::of(sql_type)?, sql_type) {
        (Kind::Integer, "bigint unsigned") => Some(KeyOrder::Unsigned),
        (Kind::Integer, _) => Some(KeyOrder::Signed),
        _ => None,
    }
}

/// Types whose values have one form on every server, as far as sessions are set up alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Integer,
    Year,
    Bits,
    Decimal,
    Float,
    Double,
    Text,
    Uuid,
    Bytes,
    /// A date, or a point in time; a session's zone is UTC.
    Instant,
    Time,
}

impl Kind {
    /// Of a column's type, or of one as the driver calls it.
    pub(super) fn of(name: &str) -> Option<Kind> {
        Some(match name.trim_end_matches(" unsigned") {
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" => Kind::Integer,
            "year" => Kind::Year,
            "bit" => Kind::Bits,
            "decimal" => Kind::Decimal,
            "float" => Kind::Float,
            "double" => Kind::Double,
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum" => {
                Kind::Text
            }
            "uuid" => Kind::Uuid,
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Kind::Bytes,
            "date" | "datetime" | "timestamp" => Kind::Instant,
            "time" => Kind::Time,
            _ => return None,
        })
    }

    /// Whether a value's own form is that of what a copy writes into a column of `to`.
    fn carries_to(self, to: Kind) -> bool {
        self == to
            || matches!(
                (self, to),
                (Kind::Integer, Kind::Decimal | Kind::Text) | (Kind::Text, Kind::Uuid)
            )
    }
}

/// The expression that stands for a value in a row. Not what its column would make of it: what that
/// bends is never copied, and differs here.
fn summed(expression: &str, from: Option<&str>, column: &Column) -> Result<String, String> {
    let to = Kind::of(&column.sql_type).ok_or_else(|| {
        format!(
            "its type is {}, which is not known to have one text everywhere",
            column.full_type
        )
    })?;
    let e = format!("({expression})");
    let kind = match from {
        None => to,
        Some(from) => Kind::of(from)
            .filter(|kind| kind.carries_to(to))
            .ok_or_else(|| {
                format!(
                    "whether a value of type {from} has one text in a column of type {} is not known: convert it in the expression",
                    column.full_type
                )
            })?,
    };
    Ok(match (kind, to) {
        // Without the zeros that a column may show before it.
        (Kind::Integer | Kind::Year | Kind::Bits, Kind::Text) => text(&format!("({e} + 0)")),
        (Kind::Integer | Kind::Year | Kind::Bits, _) => format!("({e} + 0)"),
        (Kind::Decimal, _) => plain(&e),
        // A verify takes -0 for 0.
        (Kind::Float | Kind::Double, _) => format!("({e} + 0e0)"),
        (Kind::Bytes, _) => e,
        (Kind::Instant, _) => or_never(&e, &format!("DATE_FORMAT({e}, '%Y-%m-%d %H:%i:%s.%f')")),
        (Kind::Time, _) => or_never(&e, &text(&format!("CAST({e} AS TIME(6))"))),
        // Not by the type, which 10.6 has not.
        (Kind::Text | Kind::Uuid, Kind::Uuid) => or_never(&e, &format!("LOWER({})", text(&e))),
        (Kind::Text | Kind::Uuid, _) => or_never(&e, &text(&e)),
    })
}

/// The text of a value.
pub(super) fn text(e: &str) -> String {
    format!("CAST({e} AS CHAR CHARACTER SET utf8mb4)")
}

/// A decimal without the zeros at its end: its column has its own number of them.
pub(super) fn plain(e: &str) -> String {
    let text = format!("CAST({e} AS CHAR)");
    format!(
        "TRIM(TRAILING '.' FROM TRIM(TRAILING '0' FROM \
         CONCAT({text}, IF(LOCATE('.', {text}) > 0, '', '.'))))"
    )
}

/// What is never equal. Of the type `uuid`, it would make uuids of what it stands beside.
pub(super) const NEVER: &str = "CAST(UUID() AS CHAR CHARACTER SET utf8mb4)";

/// `said` of a value `e`; where it cannot be said, what is never equal.
pub(super) fn or_never(e: &str, said: &str) -> String {
    format!("IF({e} IS NULL, NULL, COALESCE({said}, {NEVER}))")
}

async fn sum(
    dialect: &Mariadb,
    session: &mut dyn Session,
    summed: SummedRows<'_>,
) -> Result<Vec<Sum>, DbError> {
    let (text, mut args, reusable) = summed.rows.into_parts();
    let names: String = (0..summed.columns.len())
        .map(|n| format!(", c{n}"))
        .collect();
    let field = |name: &str| {
        format!(
            "IF(r.{name} IS NULL, '-', CONCAT(OCTET_LENGTH(r.{name}), ':', CAST(r.{name} AS BINARY)))"
        )
    };
    let fields: Vec<String> = (["k", "v"].into_iter().map(field))
        .chain((0..summed.columns.len()).map(|n| field(&format!("c{n}"))))
        .collect();
    let half = |from: u32| {
        format!(
            "CAST(COALESCE(SUM(CAST(CONV(SUBSTR(h.hash, {from}, 16), 16, 10) AS DECIMAL(20))), 0) AS CHAR)"
        )
    };
    // The text's first part: what else is hashed.
    let head = format!("{}:{}:", summed.salt, summed.target);
    let text = format!(
        "WITH r (g, k, v{names}) AS ({text}) SELECT h.g, COUNT(*), {}, {} FROM \
         (SELECT r.g, COALESCE(MD5(CONCAT(CAST(? AS BINARY), {})), REPLACE(UUID(), '-', '')) AS hash FROM r) AS h GROUP BY h.g",
        half(1),
        half(17),
        fields.join(", ")
    );
    args.push(Arg::Value(Value::Text(head)));
    let statement = Statement::from_parts(dialect, (text, args, reusable));
    answered(&session.fetch(statement).await?, summed.places)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(from: Option<&str>, sql_type: &str) -> Option<String> {
        let column = Column {
            sql_type: sql_type.into(),
            full_type: sql_type.into(),
            ..Column::default()
        };
        summed("e", from, &column).ok()
    }

    #[test]
    fn a_value_is_written_in_one_form() {
        for (from, to, sql) in [
            (Some("tinyint unsigned"), "bigint", "((e) + 0)"),
            (
                Some("int"),
                "text",
                "CAST(((e) + 0) AS CHAR CHARACTER SET utf8mb4)",
            ),
            (None, "double", "((e) + 0e0)"),
            (Some("blob"), "varbinary", "(e)"),
            (
                Some("timestamp"),
                "datetime",
                "IF((e) IS NULL, NULL, COALESCE(DATE_FORMAT((e), '%Y-%m-%d %H:%i:%s.%f'), \
                 CAST(UUID() AS CHAR CHARACTER SET utf8mb4)))",
            ),
        ] {
            assert_eq!(of(from, to).as_deref(), Some(sql), "{from:?} {to}");
        }
    }

    #[test]
    fn what_is_not_known_to_have_one_form_is_not_summed() {
        for (from, to) in [
            (Some("double"), "text"),
            (Some("float"), "double"),
            (Some("double"), "float"),
            (Some("decimal"), "text"),
            (Some("bigint"), "double"),
            (Some("text"), "int"),
            (Some("datetime"), "varchar"),
            (Some("text"), "blob"),
            (Some("set"), "set"),
            (Some("geometry"), "geometry"),
            (None, "inet6"),
        ] {
            assert_eq!(of(from, to), None, "{from:?} {to}");
        }
    }

    #[test]
    fn integers_of_one_sign_have_one_order() {
        assert_eq!(key_order("int unsigned"), key_order("bigint"));
        assert_ne!(key_order("bigint unsigned"), key_order("bigint"));
        for sql_type in ["varchar", "uuid", "year", "decimal"] {
            assert_eq!(key_order(sql_type), None, "{sql_type}");
        }
        assert_eq!(bound(SIGNED), "CAST(? AS SIGNED)");
        assert_eq!(bound("bigint"), "?");
    }
}
