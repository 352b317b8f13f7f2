//! Rows summed beside SQLite, which has no hash of its own: the file is read in this process, so rows
//! are hashed here.

use changeover_flags::Version;
use changeover_shadow::Value;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::Sqlite;
use super::affinity::Affinity;
use crate::dialect::alike::{Form, add_row};
use crate::dialect::authority::{integer, key_at};
use crate::dialect::catalog::Column;
use crate::dialect::session::{DbError, Session};
use crate::dialect::sums::{KeyOrder, SummedRows, Summing, at};
use crate::sum::Sum;

impl Summing for Sqlite {
    fn key_order(&self, sql_type: &str) -> Option<KeyOrder> {
        key_order(sql_type)
    }

    fn bound(&self, order: KeyOrder) -> &'static str {
        match order {
            KeyOrder::Signed | KeyOrder::Unsigned => "bigint",
            KeyOrder::Uuid => "text",
        }
    }

    fn least_bytes(&self, column: &Column) -> Option<&'static str> {
        (Affinity::of(&column.sql_type) == Affinity::Text).then_some("x''")
    }

    fn names_bytes(&self, component: &str, column: &Column) -> bool {
        component.starts_with("x'") && self.least_bytes(column).is_some()
    }

    fn most_keys(&self) -> u32 {
        4_096
    }

    fn summed(
        &self,
        expression: &str,
        _from: Option<&str>,
        _column: &Column,
    ) -> Result<String, String> {
        // A value keeps its own class; the column's part is done where it is hashed.
        Ok(expression.to_owned())
    }

    fn forms(&self, sql_type: &str) -> &'static [Form] {
        forms(sql_type)
    }

    fn written(&self, expression: &str, sql_type: &str, form: Form) -> Option<String> {
        // It has no numbers of 32 bits, and of these no value would have a text.
        let unsaid = matches!(
            (Affinity::of(sql_type), form),
            (_, Form::Single) | (Affinity::Real, Form::Text) | (Affinity::Text, Form::Double)
        );
        (!unsaid).then(|| expression.to_owned())
    }

    fn never(&self) -> &'static str {
        "randomblob(16)"
    }

    /// A value keeps its own class, and is stored as that column stores it.
    fn text_like(&self, column: &Column) -> Column {
        column.clone()
    }

    /// In its own class. Without its column's affinity, of which the map's index has none.
    fn mapped_id(&self, id: &str) -> String {
        format!("+{id}")
    }

    fn slot_text(&self, written: &str) -> String {
        format!(
            "CASE typeof({written}) WHEN 'text' THEN {written} WHEN 'integer' THEN CAST({written} AS TEXT) \
             WHEN 'real' THEN {} ELSE '' END",
            self.never()
        )
    }

    fn sum<'a>(
        &'a self,
        session: &'a mut dyn Session,
        rows: SummedRows<'a>,
    ) -> BoxFuture<'a, Result<Vec<Sum>, DbError>> {
        sum(session, rows).boxed()
    }
}

/// A column can hold text whatever it is declared as; numbers come before all text, and bounds are
/// numbers, so these columns still divide alike.
fn key_order(declared: &str) -> Option<KeyOrder> {
    (Affinity::of(declared) == Affinity::Integer).then_some(KeyOrder::Signed)
}

/// A column holds what comes, as far as it does not prefer another class: what is neither a number nor bytes came as a
/// text. In a column of no preference a number and its text are two values, and have one text.
fn forms(declared: &str) -> &'static [Form] {
    match Affinity::of(declared) {
        // Of a strict table.
        _ if declared.eq_ignore_ascii_case("any") => &[],
        Affinity::Text => &[Form::Text, Form::Bytes],
        Affinity::Integer | Affinity::Numeric => {
            &[Form::Number, Form::Double, Form::Text, Form::Bytes]
        }
        Affinity::Real => &[Form::Double, Form::Number],
        Affinity::Blob => &[Form::Bytes],
    }
}

async fn sum(session: &mut dyn Session, summed: SummedRows<'_>) -> Result<Vec<Sum>, DbError> {
    let mut sums = vec![Sum::default(); summed.places];
    for mut row in session.fetch(summed.rows).await? {
        let mut values = row.split_off(3);
        // Beside another engine a value is what it is: that engine's column makes of it what its own form says.
        if summed.copied && summed.forms.is_none() {
            let stored = values.into_iter().zip(summed.columns);
            values = stored
                .map(|(value, column)| Affinity::of(&column.sql_type).apply(value))
                .collect();
        }
        let version = match row.get(2) {
            None | Some(Value::Null) => None,
            Some(version) => Some(Version(integer(version))),
        };
        let key = key_at(&row, 1).ok_or_else(|| DbError::odd("a key is not text"))?;
        let sum = row.first().and_then(|place| at(&mut sums, place));
        let sum = sum.ok_or_else(|| DbError::odd("a row is in none of the spans asked for"))?;
        match summed.forms {
            None => sum.add_row(summed.salt, summed.target, &key, version, &values),
            Some(forms) => add_row(
                sum,
                (summed.salt, summed.target),
                (&key, version),
                (&values, forms),
            ),
        }
    }
    Ok(sums)
}
