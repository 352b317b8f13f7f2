//! Rows summed beside SQLite, which has no hash of its own: the file is read in this process, so rows
//! are hashed here.

use changeover_flags::Version;
use changeover_shadow::Value;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::Sqlite;
use super::affinity::Affinity;
use crate::dialect::authority::{integer, key_at};
use crate::dialect::catalog::Column;
use crate::dialect::session::{DbError, Session};
use crate::dialect::sums::{SummedRows, Summing, at};
use crate::sum::Sum;

impl Summing for Sqlite {
    fn key_order(&self, sql_type: &str) -> Option<&'static str> {
        key_order(sql_type)
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
fn key_order(declared: &str) -> Option<&'static str> {
    (Affinity::of(declared) == Affinity::Integer).then_some("bigint")
}

async fn sum(session: &mut dyn Session, summed: SummedRows<'_>) -> Result<Vec<Sum>, DbError> {
    let mut sums = vec![Sum::default(); summed.places];
    for mut row in session.fetch(summed.rows).await? {
        let mut values = row.split_off(3);
        if summed.copied {
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
        sum.add_row(summed.salt, summed.target, &key, version, &values);
    }
    Ok(sums)
}
