//! Rows summed by PostgreSQL, beside PostgreSQL: a row is written as a record, which quotes its fields so that two rows
//! have one text only if all their fields have, and the text is hashed twice. What all rows share, and the
//! version, is in the seed of their hashes: in the text it took an eighth of the time, and a twentieth.
//!
//! To quote took a quarter of the time, a byte at a time. So a row without NULL is written without quotes where its
//! types allow that: fields with `|` between them, each text with its length before it.

use changeover_shadow::Value;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{Postgres, alike};
use crate::dialect::Dialect;
use crate::dialect::alike::Form;
use crate::dialect::catalog::Column;
use crate::dialect::session::{DbError, Session};
use crate::dialect::statement::{Arg, Statement};
use crate::dialect::sums::{KeyOrder, SummedRows, Summing, answered};
use crate::sum::Sum;

impl Summing for Postgres {
    fn key_order(&self, sql_type: &str) -> Option<KeyOrder> {
        key_order(sql_type)
    }

    fn plain(&self, expression: &str, column: &Column) -> String {
        match self.key_order(&column.sql_type) {
            Some(_) => expression.to_owned(),
            None => format!("({expression}) COLLATE \"C\""),
        }
    }

    fn bound(&self, order: KeyOrder) -> &'static str {
        match order {
            KeyOrder::Signed => "bigint",
            KeyOrder::Unsigned => "numeric",
            KeyOrder::Uuid => "uuid",
        }
    }

    fn lists_versions(&self) -> bool {
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
        "gen_random_uuid()::text"
    }

    fn mapped_id(&self, id: &str) -> String {
        format!("({id})::text COLLATE \"C\"")
    }

    fn sum<'a>(
        &'a self,
        session: &'a mut dyn Session,
        rows: SummedRows<'a>,
    ) -> BoxFuture<'a, Result<Vec<Sum>, DbError>> {
        match rows.forms {
            Some(_) => alike::sum(self, session, rows).boxed(),
            None => sum(self, session, rows).boxed(),
        }
    }
}

/// Types that have one text in every database, as far as sessions are set up alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    Integer,
    Numeric,
    Real,
    Double,
    Text,
    Bytes,
    Uuid,
    /// A date, or a point in time: each is read out of the other's text alike in all time zones, since
    /// a session's is UTC.
    Instant,
    Time,
    Interval,
    Json,
    Jsonb,
}

impl Kind {
    /// Of a column's type, or of one as the driver calls it.
    pub(super) fn of(name: &str) -> Option<Kind> {
        Some(match name {
            "boolean" | "BOOL" => Kind::Boolean,
            "smallint" | "integer" | "bigint" | "INT2" | "INT4" | "INT8" => Kind::Integer,
            "numeric" | "NUMERIC" => Kind::Numeric,
            "real" | "FLOAT4" => Kind::Real,
            "double precision" | "FLOAT8" => Kind::Double,
            "text" | "character varying" | "bpchar" | "TEXT" | "VARCHAR" | "CHAR" => Kind::Text,
            "bytea" | "BYTEA" => Kind::Bytes,
            "uuid" | "UUID" => Kind::Uuid,
            "date"
            | "DATE"
            | "timestamp without time zone"
            | "TIMESTAMP"
            | "timestamp with time zone"
            | "TIMESTAMPTZ" => Kind::Instant,
            "time without time zone" | "TIME" => Kind::Time,
            "interval" | "INTERVAL" => Kind::Interval,
            "json" | "JSON" => Kind::Json,
            "jsonb" | "JSONB" => Kind::Jsonb,
            _ => return None,
        })
    }

    /// Whether a value's own text is what a copy writes into a column of `to`, and whether every server
    /// reads it alike. Not so of floats but into their like: a copy writes another text for the same
    /// number; nor of text, which each server may read in its own way.
    fn carries_to(self, to: Kind) -> bool {
        use Kind::{
            Boolean, Double, Instant, Integer, Json, Jsonb, Numeric, Real, Text, Time, Uuid,
        };
        self == to
            || matches!(
                (self, to),
                (Integer, Numeric | Double | Text)
                    | (Numeric, Double | Text)
                    | (Real, Double)
                    | (Boolean | Uuid | Instant | Time | Json | Jsonb, Text)
                    | (Text, Uuid)
                    | (Json, Jsonb)
            )
    }
}

/// The expression whose text stands for a value in a row: as `column` holds it, or would.
fn summed(expression: &str, from: Option<&str>, column: &Column) -> Result<String, String> {
    let to = Kind::of(&column.sql_type).ok_or_else(|| {
        format!(
            "its type is {}, which is not known to have one text everywhere",
            column.full_type
        )
    })?;
    let value = match from {
        None => expression.to_owned(),
        Some(from) => {
            let kind = Kind::of(from).filter(|kind| kind.carries_to(to));
            let kind = kind.ok_or_else(|| {
                format!(
                    "whether a value of type {from} has one text in a column of type {} is not known: convert it in the expression",
                    column.full_type
                )
            })?;
            match column.full_type == column.sql_type && is_same(from, &column.sql_type, kind) {
                true => format!("({expression})"),
                // The same number, without the text of each.
                false if (kind, to) == (Kind::Numeric, Kind::Numeric) => {
                    format!("({expression})::{}", column.full_type)
                }
                // As a copy: by the text, into the column's own type.
                false => format!("(({expression})::text)::{}", column.full_type),
            }
        }
    };
    Ok(match to {
        // A verify takes -0 for 0.
        Kind::Real | Kind::Double => format!("({value} + 0::{})", column.sql_type),
        _ => value,
    })
}

/// Whether values of the type that the driver calls `from` are written as those of `to` are, both of
/// one kind.
fn is_same(from: &str, to: &str, kind: Kind) -> bool {
    match kind {
        // A blank-padded text loses its blanks on its way into another column.
        Kind::Text => from != "CHAR" && to != "bpchar",
        Kind::Instant => matches!(
            (from, to),
            ("DATE", "date")
                | ("TIMESTAMP", "timestamp without time zone")
                | ("TIMESTAMPTZ", "timestamp with time zone")
        ),
        _ => Kind::of(to) == Some(kind),
    }
}

/// How keys of a type are ordered.
fn key_order(sql_type: &str) -> Option<KeyOrder> {
    match Kind::of(sql_type)? {
        Kind::Integer => Some(KeyOrder::Signed),
        Kind::Uuid => Some(KeyOrder::Uuid),
        _ => None,
    }
}

/// The function that answers the bytes of a date, or a point in time.
fn sends(sql_type: &str) -> Option<&'static str> {
    Some(match sql_type {
        "date" => "date_send",
        "timestamp without time zone" => "timestamp_send",
        "timestamp with time zone" => "timestamptz_send",
        _ => return None,
    })
}

/// A function takes 100 arguments; two of them are the separator and the key.
const MOST_FIELDS: usize = 98;

/// The text of a row `r`. That of a record begins with `(`, as no key does.
fn row(columns: &[Column]) -> String {
    let values: Vec<String> = (0..columns.len()).map(|n| format!("r.c{n}")).collect();
    let values = values.join(", ");
    let record = format!("ROW(r.k, {values})::text");
    let fields = columns.iter().enumerate().map(|(n, column)| {
        use Kind::{Boolean, Bytes, Double, Instant, Integer, Numeric, Real, Text, Time, Uuid};
        match Kind::of(&column.sql_type)? {
            // Its bytes: to write out days and hours takes a third longer.
            Instant => Some(vec![format!("{}(r.c{n})", sends(&column.sql_type)?)]),
            Text => Some(vec![format!("octet_length(r.c{n})"), format!("r.c{n}")]),
            // No text of these has the separator in it, or is empty.
            Boolean | Integer | Numeric | Real | Double | Uuid | Time | Bytes => {
                Some(vec![format!("r.c{n}")])
            }
            _ => None,
        }
    });
    let fields: Option<Vec<Vec<String>>> = fields.collect();
    match fields.map(|fields| fields.concat()) {
        Some(fields) if fields.len() <= MOST_FIELDS => format!(
            "CASE num_nulls({values}) WHEN 0 THEN concat_ws('|', r.k, {}) ELSE {record} END",
            fields.join(", ")
        ),
        _ => record,
    }
}

async fn sum(
    dialect: &Postgres,
    session: &mut dyn Session,
    summed: SummedRows<'_>,
) -> Result<Vec<Sum>, DbError> {
    let target = summed.target.replace('\'', "''");
    let (text, mut args, reusable) = summed.rows.into_parts();
    args.push(Arg::Value(Value::Integer(summed.salt.cast_signed())));
    let salt = dialect.placeholder(args.len(), "bigint");
    // A text is made of bytes, which mean other characters in another encoding.
    let salt = |half: u64| {
        format!(
            "(SELECT hashtextextended(concat(current_setting('server_encoding'), ' {target}'), {salt} # {half}))"
        )
    };
    // In the C collation: under one that takes different texts for equal they would have one hash. No
    // version is negative.
    let hash = |half: u64| {
        let salt = salt(half);
        format!("hashtextextended(q.text COLLATE \"C\", {salt} # coalesce(q.v, -1))")
    };
    // OFFSET keeps the text from being made once per hash.
    let values: String = (0..summed.columns.len())
        .map(|n| format!(", c{n}"))
        .collect();
    let text = format!(
        "SELECT h.g, count(*), sum(h.one)::text, sum(h.other)::text FROM \
         (SELECT q.g, {} AS one, {} AS other FROM \
         (SELECT r.g, r.v, {} AS text \
         FROM ({text}) AS r (g, k, v{values}) OFFSET 0) AS q) AS h GROUP BY h.g",
        hash(0),
        hash(1),
        row(summed.columns)
    );
    let statement = Statement::from_parts(dialect, (text, args, reusable));
    answered(&session.fetch(statement).await?, summed.places)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(from: Option<&str>, sql_type: &str, full_type: &str) -> Option<String> {
        let column = Column {
            sql_type: sql_type.into(),
            full_type: full_type.into(),
            ..Column::default()
        };
        summed("e", from, &column).ok()
    }

    #[test]
    fn a_value_is_written_as_a_copy_would_leave_it() {
        let numeric = "numeric(12,2)";
        for (from, sql_type, full_type, sql) in [
            ("INT4", "bigint", "bigint", "(e)"),
            ("INT4", "numeric", numeric, "((e)::text)::numeric(12,2)"),
            ("NUMERIC", "numeric", "numeric", "(e)"),
            ("NUMERIC", "numeric", numeric, "(e)::numeric(12,2)"),
            ("VARCHAR", "text", "text", "(e)"),
            ("CHAR", "text", "text", "((e)::text)::text"),
            ("TIMESTAMP", "date", "date", "((e)::text)::date"),
            ("DATE", "date", "date", "(e)"),
            ("BOOL", "text", "text", "((e)::text)::text"),
            ("FLOAT4", "real", "real", "((e) + 0::real)"),
        ] {
            let found = of(Some(from), sql_type, full_type);
            assert_eq!(found.as_deref(), Some(sql), "{from} {full_type}");
        }
        assert_eq!(of(None, "bpchar", "character(5)").as_deref(), Some("e"));
    }

    #[test]
    fn what_is_not_known_to_have_one_text_is_not_summed() {
        for (from, to) in [
            (Some("FLOAT8"), "text"),
            (Some("FLOAT8"), "numeric"),
            (Some("TEXT"), "timestamp with time zone"),
            (Some("TEXT"), "integer"),
            (Some("MONEY"), "numeric"),
            (Some("TEXT[]"), "text[]"),
            (Some("mood"), "mood"),
            (Some("unknown"), "text"),
            (None, "money"),
            (None, "citext"),
            (None, "text[]"),
        ] {
            assert_eq!(of(from, to, to), None, "{from:?} {to}");
        }
    }

    #[test]
    fn a_row_is_written_without_quotes_where_its_types_allow_it() {
        let columns = |types: &[&str]| -> Vec<Column> {
            let of = |name: &&str| Column {
                sql_type: (*name).into(),
                ..Column::default()
            };
            types.iter().map(of).collect()
        };
        assert_eq!(
            row(&columns(&["bigint", "text"])),
            "CASE num_nulls(r.c0, r.c1) WHEN 0 \
             THEN concat_ws('|', r.k, r.c0, octet_length(r.c1), r.c1) ELSE ROW(r.k, r.c0, r.c1)::text END"
        );
        let instants = row(&columns(&["date", "timestamp with time zone", "bytea"]));
        assert!(instants.contains("('|', r.k, date_send(r.c0), timestamptz_send(r.c1), r.c2)"));
        let record = |types: &[&str]| row(&columns(types)).starts_with("ROW(");
        assert!(record(&["bigint", "jsonb"]) && record(&["interval"]));
        assert!(!record(&["text"; 49]) && record(&["text"; 50]));
    }

    #[test]
    fn keys_are_ordered_where_no_collation_is_asked() {
        assert_eq!(key_order("INT4"), key_order("bigint"));
        assert_eq!(key_order("uuid"), Some(KeyOrder::Uuid));
        assert_eq!(key_order("text"), None);
    }
}
