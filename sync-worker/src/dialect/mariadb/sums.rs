//! Rows of MariaDB are compared key by key: no sum is made of them yet.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::Mariadb;
use crate::dialect::catalog::Column;
use crate::dialect::session::{DbError, Session};
use crate::dialect::sums::{SummedRows, Summing};
use crate::sum::Sum;

/// Said in reports.
const WHY: &str = "rows of MariaDB are compared key by key";

impl Summing for Mariadb {
    fn nothing(&self) -> Option<&'static str> {
        Some(WHY)
    }

    fn key_order(&self, _sql_type: &str) -> Option<&'static str> {
        None
    }

    fn summed(
        &self,
        _expression: &str,
        _from: Option<&str>,
        _column: &Column,
    ) -> Result<String, String> {
        Err(WHY.to_owned())
    }

    fn sum<'a>(
        &'a self,
        _session: &'a mut dyn Session,
        _rows: SummedRows<'a>,
    ) -> BoxFuture<'a, Result<Sum, DbError>> {
        async { Err(DbError::odd(WHY)) }.boxed()
    }
}
