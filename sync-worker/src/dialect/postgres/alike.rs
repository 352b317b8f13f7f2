//! Rows summed by PostgreSQL in the text that other engines write, too.

use changeover_shadow::Value;

use super::Postgres;
use super::sums::Kind;
use crate::dialect::Dialect as _;
use crate::dialect::alike::Form;
use crate::dialect::session::{DbError, Session};
use crate::dialect::statement::{Arg, Statement};
use crate::dialect::sums::{SummedRows, answered};
use crate::sum::Sum;

/// The form in which a column's values are summed.
pub(super) fn forms(sql_type: &str) -> &'static [Form] {
    match Kind::of(sql_type) {
        Some(Kind::Boolean | Kind::Integer) => &[Form::Integer],
        Some(Kind::Numeric) => &[Form::Number],
        Some(Kind::Real) => &[Form::Single],
        Some(Kind::Double) => &[Form::Double],
        Some(Kind::Text) => &[Form::Text],
        Some(Kind::Bytes) => &[Form::Bytes],
        Some(Kind::Uuid) => &[Form::Uuid],
        Some(Kind::Instant) if matches!(sql_type, "date" | "DATE") => &[Form::Date],
        Some(Kind::Instant) => &[Form::Moment],
        Some(Kind::Time) => &[Form::Time],
        // Of a document there are many texts.
        Some(Kind::Interval | Kind::Json | Kind::Jsonb) | None => &[],
    }
}

/// The text of an expression's values, if PostgreSQL writes that form of their type.
pub(super) fn written(expression: &str, sql_type: &str, form: Form) -> Option<String> {
    let e = format!("({expression})");
    let double = |e: &str| format!("encode(float8send({e} + 0::float8), 'hex')");
    let kind = Kind::of(sql_type);
    Some(match (form, kind) {
        (Form::Integer | Form::Number, Some(Kind::Boolean)) => format!("{e}::int::text"),
        (Form::Integer | Form::Number, Some(Kind::Integer)) => format!("{e}::text"),
        (Form::Number, Some(Kind::Numeric)) => format!("trim_scale({e})::text"),
        (Form::Single, Some(Kind::Real)) => double(&format!("{e}::float8")),
        (Form::Double, Some(Kind::Double)) => double(&e),
        // A copy carries the shortest decimal.
        (Form::Double, Some(Kind::Real)) => double(&format!("{e}::text::float8")),
        // True and false, floating-point numbers and bytes are not carried as these texts.
        (Form::Text, Some(Kind::Boolean | Kind::Real | Kind::Double | Kind::Bytes)) => return None,
        (Form::Text, _) => format!("{e}::text"),
        (Form::Uuid, Some(Kind::Uuid)) => format!("{e}::text"),
        // Whatever the collation of the expression is, or if it has two.
        (Form::Uuid, Some(Kind::Text)) => format!("lower({e}::text COLLATE \"C\")"),
        (Form::Bytes, Some(Kind::Bytes)) => format!("encode({e}, 'hex')"),
        (Form::Date, Some(Kind::Instant)) if matches!(sql_type, "date" | "DATE") => {
            format!("{e}::text")
        }
        (Form::Moment, Some(Kind::Instant)) => match sql_type {
            "timestamp without time zone" | "TIMESTAMP" => format!("{e}::text"),
            "timestamp with time zone" | "TIMESTAMPTZ" => {
                format!("({e} AT TIME ZONE 'UTC')::text")
            }
            _ => return None,
        },
        (Form::Time, Some(Kind::Time)) => format!("{e}::text"),
        _ => return None,
    })
}

/// The sums of rows whose values are texts.
pub(super) async fn sum(
    dialect: &Postgres,
    session: &mut dyn Session,
    summed: SummedRows<'_>,
) -> Result<Vec<Sum>, DbError> {
    let (text, mut args, reusable) = summed.rows.into_parts();
    let head = format!("{}:{}:", summed.salt, summed.target);
    args.push(Arg::Value(Value::Text(head)));
    let head = dialect.placeholder(args.len(), "text");
    let values = 0..summed.columns.len();
    let names: String = values.clone().map(|n| format!(", c{n}")).collect();
    // The version is the one number.
    let field = |name: &str, cast: &str| {
        format!("coalesce(octet_length(r.{name}{cast}) || ':' || r.{name}{cast}, '-')")
    };
    let fields: Vec<String> = [field("k", ""), field("v", "::text")]
        .into_iter()
        .chain(values.map(|n| field(&format!("c{n}"), "")))
        .collect();
    // The number of 64 bits that a half is, without a sign.
    let half = |name: &str| {
        format!(
            "(sum(h.{name}) + 18446744073709551616 * count(CASE WHEN h.{name} < 0 THEN 1 END))::text"
        )
    };
    let bits = |from: u32| format!("('x' || substr(q.hash, {from}, 16))::bit(64)::bigint");
    // A database of another encoding writes other bytes: it agrees with nobody. OFFSET keeps the text from being made
    // once per half.
    let text = format!(
        "SELECT h.g, count(*), {}, {} FROM \
         (SELECT q.g, {} AS one, {} AS other FROM \
         (SELECT r.g, md5((SELECT CASE current_setting('server_encoding') WHEN 'UTF8' THEN '' ELSE 'unlike' END || {head}) || {}) AS hash \
         FROM ({text}) AS r (g, k, v{names}) OFFSET 0) AS q) AS h GROUP BY h.g",
        half("one"),
        half("other"),
        bits(1),
        bits(17),
        fields.join(" || ")
    );
    let statement = Statement::from_parts(dialect, (text, args, reusable));
    answered(&session.fetch(statement).await?, summed.places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_column_is_written() {
        for sql_type in [
            "boolean",
            "bigint",
            "numeric",
            "real",
            "double precision",
            "bpchar",
            "bytea",
            "uuid",
            "date",
            "timestamp without time zone",
            "timestamp with time zone",
            "time without time zone",
        ] {
            let [form] = forms(sql_type) else {
                panic!("{sql_type} has one form")
            };
            assert!(written("t.x", sql_type, *form).is_some(), "{sql_type}");
        }
        for sql_type in ["jsonb", "interval", "text[]", "mood"] {
            assert_eq!(forms(sql_type), [], "{sql_type}");
            // As a copy carries it into a column of text.
            assert!(written("x", sql_type, Form::Text).is_some());
        }
    }

    #[test]
    fn what_a_copy_changes_is_not_written() {
        for (sql_type, form) in [
            ("FLOAT8", Form::Text),
            ("FLOAT8", Form::Number),
            ("NUMERIC", Form::Integer),
            ("FLOAT8", Form::Single),
            ("BOOL", Form::Text),
            ("BYTEA", Form::Text),
            ("DATE", Form::Moment),
            ("TIMESTAMP", Form::Date),
            ("TEXT", Form::Number),
            ("INT4", Form::Double),
        ] {
            assert_eq!(written("x", sql_type, form), None, "{sql_type} {form:?}");
        }
    }
}
