//! SQLite 3.35 and later: one writer at a time, and the embedded default.

use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use changeover_flags::Key;
use changeover_shadow::Value;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};

use super::catalog::{Column, Table};
use super::check::Checks;
use super::install::{Reject, Stamp};
use super::probe::Probe;
use super::session::{DbError, Session};
use super::statement::{Arg, RowColumn, Statement};
use super::sums::Summing;
use super::{BadSetting, Dialect, tables};

mod affinity;
mod catalog;
mod check;
mod probe;
mod replace;
mod session;
mod sums;
mod triggers;

use session::SqliteSession;

/// A SQLite file.
#[derive(Debug)]
pub struct Sqlite {
    options: SqliteConnectOptions,
    name: String,
}

/// How long a session waits for the file's one writer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Rows that the driver's thread may be ahead of their reader. Every time the buffer is full costs
/// two task switches, and a page of images is read whole anyway.
const ROW_BUFFER: usize = 2_048;

/// SQLite's `SQLITE_MAX_VARIABLE_NUMBER` in the bundled build.
const MAX_VARIABLES: usize = 32_766;

impl Sqlite {
    /// The file that a `sqlite:` URL names. It must exist when it is opened.
    ///
    /// # Errors
    ///
    /// The driver's, when the URL cannot be read.
    pub fn new(url: &str) -> Result<Sqlite, sqlx::Error> {
        // Every connection to a database in memory may be another database.
        if url.contains(":memory:") || url.contains("mode=memory") {
            return Err(sqlx::Error::Configuration(
                "it names a database in memory".into(),
            ));
        }
        let options = SqliteConnectOptions::from_str(url)?
            // A mistyped path must not become an empty database.
            .create_if_missing(false)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .synchronous(SqliteSynchronous::Full)
            .row_buffer_size(ROW_BUFFER)
            .disable_statement_logging();
        let name = format!("SQLite file {}", options.get_filename().display());
        Ok(Sqlite { options, name })
    }
}

impl Dialect for Sqlite {
    fn engine(&self) -> &'static str {
        "SQLite"
    }

    fn place_name(&self) -> &str {
        &self.name
    }

    fn probe(&self) -> &dyn Probe {
        self
    }

    fn checks(&self) -> &dyn Checks {
        self
    }

    fn sums(&self) -> &dyn Summing {
        self
    }

    fn identity<'a>(
        &'a self,
        _session: &'a mut dyn Session,
    ) -> BoxFuture<'a, Result<String, DbError>> {
        let path = self.options.get_filename();
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        async move { Ok(format!("sqlite {}", path.display())) }.boxed()
    }

    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, DbError>> {
        async move {
            let connection = self.options.connect().await.map_err(session::error)?;
            Ok(Box::new(SqliteSession { connection }) as Box<dyn Session>)
        }
        .boxed()
    }

    fn few_keys(&self) -> Option<&'static str> {
        None
    }

    fn quote(&self, name: &str) -> String {
        format!("\"{}\"", name.replace('"', "\"\""))
    }

    fn table(&self, name: &str) -> String {
        self.quote(name)
    }

    fn placeholder(&self, _n: usize, _sql_type: &str) -> String {
        // Not `?n`: SQLite keeps such names in a list that the driver searches once per argument,
        // so binding n of them takes n² steps. A statement's arguments stand in its text's order.
        "?".to_owned()
    }

    fn rows(&self, columns: &[RowColumn<'_>], rows: &[Vec<Value>], args: &mut Vec<Arg>) -> String {
        let mut text = String::from("(SELECT ");
        for (index, column) in columns.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let source = if rows.is_empty() {
                "NULL".into()
            } else {
                format!("column{}", index + 1)
            };
            let _ = write!(text, "{comma}{source} AS {}", self.quote(column.name));
        }
        if rows.is_empty() {
            text.push_str(" WHERE 0)");
            return text;
        }
        text.push_str(" FROM (VALUES ");
        for (position, row) in rows.iter().enumerate() {
            text.push_str(if position == 0 { "(" } else { ", (" });
            for index in 0..columns.len() {
                args.push(Arg::Value(row.get(index).cloned().unwrap_or_default()));
                let comma = if index == 0 { "" } else { "," };
                let _ = write!(text, "{comma}?");
            }
            text.push(')');
        }
        text.push_str("))");
        text
    }

    fn triggers(&self) -> &'static str {
        triggers::STANDING
    }

    fn stale_triggers<'a>(
        &'a self,
        session: &'a mut dyn Session,
        entity: &'a str,
        place: &'a str,
        _script: &'a [String],
    ) -> BoxFuture<'a, Result<Vec<String>, DbError>> {
        async move {
            // All of them: with one writer nobody waits for it.
            let all = triggers::drop_objects(self, session, entity, place).await?;
            Ok(all
                .into_iter()
                .filter(|sql| sql.starts_with("DROP TRIGGER"))
                .collect())
        }
        .boxed()
    }

    fn forget_notes(&self, _entity: &str, _place: &str) -> Option<String> {
        None
    }

    fn refresh_statistics(&self, _written: &[&str]) -> Option<String> {
        // Without statistics SQLite takes the index with the most columns, which is the right one.
        None
    }

    fn cast(&self, expression: &str, _sql_type: &str) -> String {
        expression.to_owned()
    }

    fn rows_text_is_stable(&self) -> bool {
        false
    }

    fn rows_limit(&self, columns: usize) -> usize {
        (MAX_VARIABLES - 64) / columns.max(1)
    }

    fn exact(&self, expression: &str) -> String {
        expression.to_owned()
    }

    fn decode(&self, value: Value, _sql_type: &str) -> Value {
        value
    }

    fn key_text(&self, expressions: &[String]) -> String {
        // Bytes are called what SQLite's own literals of them are: as texts they may be none, or another key's.
        let text = |e: &String| {
            format!(
                "CASE typeof({e}) WHEN 'blob' THEN 'x''' || hex({e}) || '''' ELSE CAST({e} AS TEXT) END"
            )
        };
        if let [only] = expressions {
            return text(only);
        }
        let escaped = |e: &String| format!(r"replace(replace({}, '\', '\\'), ',', '\,')", text(e));
        let parts: Vec<String> = expressions.iter().map(escaped).collect();
        parts.join(" || ',' || ")
    }

    fn key_value(&self, component: &str, column: &Column) -> Value {
        affinity::Affinity::of(&column.sql_type).apply(Value::Text(component.to_owned()))
    }

    fn canonical_component(&self, component: &str, column: &Column) -> String {
        match self.key_value(component, column) {
            Value::Integer(number) => number.to_string(),
            _ => component.to_owned(),
        }
    }

    fn key_fits(&self, _component: &str, _column: &Column) -> bool {
        // Any column holds and compares anything.
        true
    }

    fn key_is_typed(&self, component: &str, column: &Column) -> bool {
        let value = self.key_value(component, column);
        affinity::Affinity::of(&column.sql_type) != affinity::Affinity::Integer
            || matches!(value, Value::Integer(_))
    }

    fn key_type_problem(&self, column: &Column) -> Option<String> {
        use affinity::Affinity::{Integer, Text};
        (!matches!(affinity::Affinity::of(&column.sql_type), Integer | Text)).then(|| {
            format!(
                "it is declared {:?}; a key column must be declared INTEGER or TEXT (or VARCHAR, BIGINT, …)",
                column.full_type
            )
        })
    }

    fn same_key_text(&self, a: &Column, b: &Column) -> bool {
        use affinity::Affinity::{Integer, Numeric, Text};
        let of = |column: &Column| affinity::Affinity::of(&column.sql_type);
        matches!(
            (of(a), of(b)),
            (Integer | Numeric, Integer | Numeric) | (Text, Text)
        )
    }

    fn greatest_name(&self) -> &'static str {
        "max"
    }

    fn begin_snapshot(&self) -> &'static str {
        "BEGIN"
    }

    fn begin_copy(&self, entity: &str, _place: &str) -> String {
        format!("BEGIN IMMEDIATE; INSERT INTO changeover_copying (entity) VALUES ('{entity}')")
    }

    fn begin_write(&self) -> &'static str {
        "BEGIN IMMEDIATE"
    }

    fn lock_epoch(&self, _entity: &str, _place: &str, _lock_timeout: Duration) -> Option<String> {
        None
    }

    fn end_copy(&self) -> Option<&'static str> {
        Some("DELETE FROM changeover_copying")
    }

    fn end_rehearsal(&self) -> &'static str {
        "ROLLBACK"
    }

    fn overriding(&self) -> &'static str {
        ""
    }

    fn skip_locked(&self) -> &'static str {
        ""
    }

    fn allocate_ids(
        &self,
        table: &Table,
        column: &Column,
        place: &str,
        count: usize,
    ) -> Option<Statement<'_>> {
        // One writer: nobody can take these numbers before this transaction ends. The id map is
        // asked too, because an id outlives its row.
        let (table_name, id) = (self.table(&table.name), self.quote(&column.name));
        column.generated.then(|| {
            Statement::of(
                self,
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ",
            )
            .int(i64::try_from(count).unwrap_or(i64::MAX))
            .sql(&format!(
                ") SELECT i + max(coalesce((SELECT max({id}) FROM {table_name}), 0), \
                     coalesce((SELECT max(id) FROM {} WHERE place = '{place}' AND target_table = ",
                tables::ID
            ))
            .text(&table.name)
            .sql("), 0)) FROM n")
        })
    }

    fn normalise<'a>(
        &'a self,
        _session: &'a mut dyn Session,
        columns: &'a [Column],
        rows: Vec<Vec<Value>>,
    ) -> BoxFuture<'a, Result<Vec<Vec<Value>>, DbError>> {
        let rows = rows
            .into_iter()
            .map(|row| {
                row.into_iter()
                    .zip(columns)
                    .map(|(value, column)| affinity::Affinity::of(&column.sql_type).apply(value))
                    .collect()
            })
            .collect();
        async move { Ok(rows) }.boxed()
    }

    fn alters(&self, column: &Column, value: &Value) -> bool {
        affinity::Affinity::of(&column.sql_type).alters(value)
    }

    fn describe<'a>(
        &'a self,
        session: &'a mut dyn Session,
        table: &'a str,
    ) -> BoxFuture<'a, Result<Option<Table>, DbError>> {
        catalog::describe(self, session, table).boxed()
    }

    fn describe_query<'a>(
        &'a self,
        session: &'a mut dyn Session,
        sql: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(String, String)>, DbError>> {
        // In double quotes a name that does not exist would be text; in brackets it is an error.
        let sql = catalog::in_brackets(sql);
        async move { session.describe(&sql).await }.boxed()
    }

    fn durability<'a>(
        &'a self,
        _session: &'a mut dyn Session,
    ) -> BoxFuture<'a, Result<Vec<BadSetting>, DbError>> {
        // `synchronous` is a setting of each connection: the application's cannot be seen here.
        async { Ok(Vec::new()) }.boxed()
    }

    fn create_tables(&self) -> Vec<String> {
        triggers::create_tables()
    }

    fn create_past(&self) -> String {
        triggers::PAST.to_owned()
    }

    fn stamp_objects(&self, stamp: &Stamp<'_>) -> Vec<String> {
        triggers::stamp(self, stamp)
    }

    fn reject_objects(&self, reject: &Reject<'_>) -> Vec<String> {
        triggers::reject(self, reject)
    }

    fn drop_objects<'a>(
        &'a self,
        session: &'a mut dyn Session,
        entity: &'a str,
        place: &'a str,
    ) -> BoxFuture<'a, Result<Vec<String>, DbError>> {
        triggers::drop_objects(self, session, entity, place).boxed()
    }

    fn expand<'a>(
        &'a self,
        _session: &'a mut dyn Session,
        _entity: &'a str,
        _place: &'a str,
    ) -> BoxFuture<'a, Result<u64, DbError>> {
        // One writer: a trigger sees every row that was committed before its own write.
        async { Ok(0) }.boxed()
    }

    fn noted<'a>(
        &'a self,
        _session: &'a mut dyn Session,
        _entity: &'a str,
        _place: &'a str,
        _keys: &'a [Key],
    ) -> BoxFuture<'a, Result<Vec<Vec<Value>>, DbError>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn begin_install(&self, lock_timeout: Duration) -> String {
        format!(
            "PRAGMA busy_timeout = {}; BEGIN IMMEDIATE",
            lock_timeout.as_millis().max(1)
        )
    }

    fn lock_tables(&self, _tables: &[&str], _lock_timeout: Duration) -> Option<String> {
        None
    }

    fn blockers<'a>(
        &'a self,
        _session: &'a mut dyn Session,
        _tables: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Vec<String>, DbError>> {
        let who = "a connection, of this or another process, that writes the file (SQLite does not tell which)";
        async move { Ok(vec![who.to_owned()]) }.boxed()
    }
}
