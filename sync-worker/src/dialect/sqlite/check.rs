//! Consistency checks on SQLite.

use std::time::{Duration, Instant};

use changeover_shadow::Value;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::ConnectOptions;

use super::session::{self, SqliteSession};
use super::{Sqlite, catalog};
use crate::dialect::Dialect;
use crate::dialect::catalog::{Column, Table};
use crate::dialect::check::Checks;
use crate::dialect::session::{DbError, Session};
use crate::dialect::statement::Statement;

/// Steps of SQLite's machine between two looks at the clock: well below a millisecond.
const STEPS: i32 = 10_000;

impl Checks for Sqlite {
    fn connect_reading(&self, limit: Duration) -> BoxFuture<'_, Result<Box<dyn Session>, DbError>> {
        async move {
            let options = self.options.clone().pragma("query_only", "ON");
            let mut connection = options.connect().await.map_err(session::error)?;
            // A statement whose caller is gone would run on in the driver's thread.
            let until = Instant::now() + limit;
            connection
                .lock_handle()
                .await
                .map_err(session::error)?
                .set_progress_handler(STEPS, move || Instant::now() < until);
            let mut session = SqliteSession { connection };
            session.script("BEGIN").await?;
            Ok(Box::new(session) as Box<dyn Session>)
        }
        .boxed()
    }

    /// As a subquery, nothing but a query is understood. The line breaks end a comment; in brackets
    /// a mistyped name is an error, and no text that never matches.
    fn first_rows(&self, sql: &str, rows: usize) -> String {
        let sql = catalog::in_brackets(sql);
        format!("SELECT * FROM (\n{sql}\n) LIMIT {rows}")
    }

    fn referenced(&self, name: &str) -> String {
        self.quote(name)
    }

    /// Without `AUTOINCREMENT` a column counts on from its greatest id.
    fn sequence_behind<'a>(
        &'a self,
        session: &'a mut dyn Session,
        table: &'a Table,
        column: &'a Column,
    ) -> BoxFuture<'a, Result<Vec<Vec<Value>>, DbError>> {
        async move {
            let kept = "SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'";
            if session.fetch(Statement::of(self, kept)).await?.is_empty() {
                return Ok(Vec::new());
            }
            let statement = Statement::of(
                self,
                &format!(
                    "SELECT 'the next id is ' || (q.seq + 1) || ', and ' || t.id || ' is taken' \
                     FROM (SELECT max({}) AS id FROM ",
                    self.quote(&column.name)
                ),
            )
            .table(&table.name)
            .sql(") t JOIN sqlite_sequence q ON q.seq < t.id AND q.name = ")
            .text(&table.name)
            .sql(" COLLATE NOCASE");
            session.fetch(statement).await
        }
        .boxed()
    }
}
