//! Consistency checks on MariaDB.

use std::time::Duration;

use changeover_shadow::Value;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::Mariadb;
use crate::dialect::Dialect;
use crate::dialect::catalog::{Column, Table};
use crate::dialect::check::Checks;
use crate::dialect::server::Server as _;
use crate::dialect::session::{DbError, Session};

/// A snapshot in which nothing is written, by a function neither.
const READING: &str = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; \
    START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";

impl Checks for Mariadb {
    fn connect_reading(&self, limit: Duration) -> BoxFuture<'_, Result<Box<dyn Session>, DbError>> {
        async move {
            let mut session = self.connect().await?;
            session.script(&self.statement_limit(limit)).await?;
            session.script(READING).await?;
            Ok(session)
        }
        .boxed()
    }

    /// As a subquery, nothing but a query is understood. The line breaks end a comment.
    fn first_rows(&self, sql: &str, rows: usize) -> String {
        format!("SELECT * FROM (\n{sql}\n) AS c LIMIT {rows}")
    }

    fn referenced(&self, name: &str) -> String {
        self.table(name)
    }

    /// A column counts on from its greatest id, whoever gave it.
    fn sequence_behind<'a>(
        &'a self,
        _session: &'a mut dyn Session,
        _table: &'a Table,
        _column: &'a Column,
    ) -> BoxFuture<'a, Result<Vec<Vec<Value>>, DbError>> {
        async { Ok(Vec::new()) }.boxed()
    }
}
