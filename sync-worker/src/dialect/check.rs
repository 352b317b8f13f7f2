//! What the consistency checks ask: SQL that is expected to answer no rows.
//!
//! Each question has a connection of its own, which writes nothing and is closed afterwards: whatever
//! it sets there is gone with it.

use std::time::Duration;

use changeover_shadow::Value;
use futures_util::future::BoxFuture;

use super::catalog::{Column, Table};
use super::session::{DbError, Session};
use super::{Dialect, Statement};

/// What differs between engines in asking a check.
pub trait Checks: Send + Sync {
    /// A connection for one question: inside a transaction that sees one instant and writes nothing.
    /// No statement on it runs for longer than `limit`.
    fn connect_reading(&self, limit: Duration) -> BoxFuture<'_, Result<Box<dyn Session>, DbError>>;

    /// The question for at most `rows` rows of `sql`, which is one query; its first column comes
    /// first.
    fn first_rows(&self, sql: &str, rows: usize) -> String;

    /// A table as the catalog names it in a [`Reference`](super::catalog::Reference), as SQL.
    fn referenced(&self, name: &str) -> String;

    /// One row of one text if the next id that a generated `column` gets is taken already; no row if
    /// it is not, or if the column counts on from its greatest id.
    fn sequence_behind<'a>(
        &'a self,
        session: &'a mut dyn Session,
        table: &'a Table,
        column: &'a Column,
    ) -> BoxFuture<'a, Result<Vec<Vec<Value>>, DbError>>;
}

/// Rows that refer to one that should be there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Referring<'a> {
    /// The table that refers, as SQL.
    pub(crate) from: &'a str,
    /// The columns that refer.
    pub(crate) columns: &'a [String],
    /// The columns that name such a row in an answer.
    pub(crate) key: &'a [String],
    /// The table referred to, as SQL.
    pub(crate) to: &'a str,
    /// The columns referred to.
    pub(crate) to_columns: &'a [String],
}

/// The query for rows that refer to none. One with a `NULL` among its columns refers to nothing.
pub(crate) fn orphans(dialect: &dyn Dialect, referring: &Referring<'_>) -> String {
    let of = |alias: &str, name: &String| format!("{alias}.{}", dialect.quote(name));
    let key: Vec<String> = referring.key.iter().map(|name| of("c", name)).collect();
    let set = referring.columns.iter();
    let set = set.map(|name| format!("{} IS NOT NULL", of("c", name)));
    let same = referring.columns.iter().zip(referring.to_columns);
    let same = same.map(|(from, to)| format!("{} = {}", of("p", to), of("c", from)));
    format!(
        "SELECT {} FROM {} c WHERE {} AND NOT EXISTS (SELECT 1 FROM {} p WHERE {})",
        dialect.key_text(&key),
        referring.from,
        set.collect::<Vec<_>>().join(" AND "),
        referring.to,
        same.collect::<Vec<_>>().join(" AND "),
    )
}

/// The first column of at most `rows` rows that `sql` answers.
pub(crate) async fn ask(
    dialect: &dyn Dialect,
    sql: &str,
    rows: usize,
    limit: Duration,
) -> Result<Vec<String>, DbError> {
    let mut session = dialect.checks().connect_reading(limit).await?;
    let sql = sql.trim().trim_end_matches(';');
    let statement = Statement::of(dialect, &dialect.checks().first_rows(sql, rows));
    let answer = session.fetch(statement).await.map_err(only_reads)?;
    Ok(firsts(answer))
}

/// What [`Checks::sequence_behind`] says, on a connection of its own.
pub(crate) async fn sequence(
    dialect: &dyn Dialect,
    table: &Table,
    column: &Column,
    limit: Duration,
) -> Result<Vec<String>, DbError> {
    let checks = dialect.checks();
    let mut session = checks.connect_reading(limit).await?;
    let answer = checks.sequence_behind(&mut *session, table, column);
    Ok(firsts(answer.await?))
}

/// `25006` is PostgreSQL's code for a write in a transaction that only reads, 8 SQLite's.
fn only_reads(mut error: DbError) -> DbError {
    let code = error.source.as_database_error().and_then(|db| db.code());
    let writes = match code.as_deref() {
        Some("25006") => true,
        Some(code) => code.parse::<i64>().is_ok_and(|code| code & 0xff == 8),
        None => false,
    };
    if writes {
        error.summary = "it writes, and a check may only read: nothing was written".into();
    }
    error
}

fn firsts(rows: Vec<Vec<Value>>) -> Vec<String> {
    let firsts = rows.into_iter().map(|row| row.into_iter().next());
    firsts
        .map(|value| text(value.unwrap_or_default()))
        .collect()
}

fn text(value: Value) -> String {
    match value {
        Value::Text(text) | Value::Decimal(text) => text,
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(value) => value.to_string(),
        Value::Null => "NULL".into(),
        Value::Bytes(_) | Value::List(_) | Value::Record(_) => "(no text)".into(),
    }
}
