//! PostgreSQL 14 and later.

use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use changeover_flags::Key;
use changeover_shadow::Value;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

use super::bulk::Bulk;
use super::catalog::{Column, Table};
use super::check::Checks;
use super::install::{Reject, Stamp};
use super::probe::Probe;
use super::server::Server;
use super::session::{DbError, Session};
use super::statement::{Arg, RowColumn, Statement};
use super::sums::Summing;
use super::{BadSetting, Dialect, tables};

mod alike;
mod alters;
mod bulk;
mod catalog;
mod check;
mod key;
mod load;
mod normalise;
mod notes;
mod probe;
mod server;
mod session;
mod stamps;
mod sums;
mod text;
mod triggers;

use session::PostgresSession;

/// A PostgreSQL database.
#[derive(Debug)]
pub struct Postgres {
    options: PgConnectOptions,
    name: String,
}

/// How long a copy waits for a lock before it gives way.
const COPY_LOCK_TIMEOUT: &str = "2s";

impl Postgres {
    /// The database that a `postgres://` URL names.
    ///
    /// # Errors
    ///
    /// The driver's, when the URL cannot be read.
    pub fn new(url: &str) -> Result<Postgres, sqlx::Error> {
        let options = PgConnectOptions::from_str(url)?
            .application_name("changeover")
            .disable_statement_logging();
        let name = format!(
            "PostgreSQL database {:?} at {}:{}",
            options.get_database().unwrap_or("(default)"),
            options.get_host(),
            options.get_port(),
        );
        Ok(Postgres { options, name })
    }

    fn tables(&self, names: &[&str]) -> String {
        let tables: Vec<String> = names.iter().map(|name| self.table(name)).collect();
        tables.join(", ")
    }
}

impl Dialect for Postgres {
    fn engine(&self) -> &'static str {
        "PostgreSQL"
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

    fn bulk(&self) -> Option<&dyn Bulk> {
        Some(self)
    }

    fn identity<'a>(
        &'a self,
        session: &'a mut dyn Session,
    ) -> BoxFuture<'a, Result<String, DbError>> {
        catalog::identity(self, session).boxed()
    }

    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, DbError>> {
        async move {
            let session = PostgresSession::open(&self.options).await?;
            Ok(Box::new(session) as Box<dyn Session>)
        }
        .boxed()
    }

    /// Planning a copy of one key costs as much as running it, so each statement is planned once.
    /// Such a plan may be older than a table's growth: without sequential scans and the joins that
    /// read whole tables, it is one that looks keys up in indexes, whatever the sizes were.
    fn few_keys(&self) -> Option<&'static str> {
        Some(
            "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off;
             SET enable_hashjoin = off; SET enable_mergejoin = off",
        )
    }

    fn server(&self) -> Option<&dyn Server> {
        Some(self)
    }

    fn quote(&self, name: &str) -> String {
        format!("\"{}\"", name.replace('"', "\"\""))
    }

    fn table(&self, name: &str) -> String {
        let parts: Vec<String> = name.split('.').map(|part| self.quote(part)).collect();
        parts.join(".")
    }

    fn placeholder(&self, n: usize, sql_type: &str) -> String {
        if sql_type == "text" {
            format!("${n}::text")
        } else {
            format!("(${n}::text)::{sql_type}")
        }
    }

    fn rows(&self, columns: &[RowColumn<'_>], rows: &[Vec<Value>], args: &mut Vec<Arg>) -> String {
        let mut select = String::new();
        let mut arrays = String::new();
        let mut names = String::new();
        for (index, column) in columns.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let values = rows
                .iter()
                .map(|row| row.get(index).unwrap_or(&Value::Null));
            args.push(Arg::Array(text::Array::of(values).0));
            let cast = column
                .sql_type
                .map(|name| format!("::{name}"))
                .unwrap_or_default();
            let _ = write!(
                select,
                "{comma}u.c{index}{cast} AS {}",
                self.quote(column.name)
            );
            let _ = write!(arrays, "{comma}${}::text[]", args.len());
            let _ = write!(names, "{comma}c{index}");
        }
        format!("(SELECT {select} FROM unnest({arrays}) AS u({names}))")
    }

    fn triggers(&self) -> &'static str {
        triggers::STANDING
    }

    fn stale_triggers<'a>(
        &'a self,
        session: &'a mut dyn Session,
        entity: &'a str,
        place: &'a str,
        script: &'a [String],
    ) -> BoxFuture<'a, Result<Vec<String>, DbError>> {
        triggers::stale(self, session, entity, place, script).boxed()
    }

    fn forget_notes(&self, entity: &str, place: &str) -> Option<String> {
        Some(format!(
            "DELETE FROM changeover_expand WHERE entity = '{entity}' AND place = '{place}'"
        ))
    }

    fn refresh_statistics(&self, written: &[&str]) -> Option<String> {
        // A table that this role may not analyze is skipped with a warning, and so is one that
        // somebody else is at.
        let all = [&[tables::KEY, tables::ID], written].concat();
        Some(format!("ANALYZE (SKIP_LOCKED) {}", self.tables(&all)))
    }

    fn cast(&self, expression: &str, sql_type: &str) -> String {
        format!("({expression})::{sql_type}")
    }

    fn key_in(&self, column: &str, keys: Vec<Value>, args: &mut Vec<Arg>) -> String {
        // An array goes into the index's own condition. A derived table does not while the planner
        // takes the product's tables for small, as it does until their first ANALYZE: it then goes
        // through all keys of the entity for each key that is asked for.
        args.push(Arg::Column(keys));
        format!("{column} = ANY (${}::text[])", args.len())
    }

    fn rows_text_is_stable(&self) -> bool {
        true
    }

    fn rows_limit(&self, _columns: usize) -> usize {
        100_000
    }

    fn exact(&self, expression: &str) -> String {
        format!("({expression})::text")
    }

    fn decode(&self, value: Value, sql_type: &str) -> Value {
        normalise::decode(value, sql_type)
    }

    fn key_text(&self, expressions: &[String]) -> String {
        key::text(expressions)
    }

    fn key_value(&self, component: &str, _column: &Column) -> Value {
        Value::Text(component.to_owned())
    }

    fn canonical_component(&self, component: &str, column: &Column) -> String {
        key::canonical(component, column)
    }

    fn key_fits(&self, component: &str, column: &Column) -> bool {
        key::fits(component, column)
    }

    fn key_type_problem(&self, column: &Column) -> Option<String> {
        key::type_problem(column)
    }

    fn same_key_text(&self, a: &Column, b: &Column) -> bool {
        key::same_text(a, b)
    }

    fn greatest_name(&self) -> &'static str {
        "greatest"
    }

    fn boolean(&self, value: bool) -> &'static str {
        if value { "true" } else { "false" }
    }

    fn begin_snapshot(&self) -> &'static str {
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    }

    /// A statement takes its snapshot before it waits for its tables, and one of before a rewrite
    /// (`ALTER TABLE`) sees a table empty. `LOCK TABLE` takes none.
    fn begin_snapshot_of(&self, tables: &[&str]) -> String {
        let (begin, tables) = (self.begin_snapshot(), self.tables(tables));
        format!("{begin}; LOCK TABLE {tables} IN ACCESS SHARE MODE")
    }

    fn begin_copy(&self, entity: &str, place: &str) -> String {
        format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL changeover.copy = 'on'; \
             SET LOCAL lock_timeout = '{COPY_LOCK_TIMEOUT}'; \
             SELECT pg_advisory_xact_lock_shared({})",
            triggers::epoch_lock(entity, place)
        )
    }

    /// It waits less than the server's `deadlock_timeout` (1 s): when the worker and an application wait
    /// for each other, it is the worker that gives way.
    fn begin_write(&self) -> &'static str {
        "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '300ms'"
    }

    fn lock_epoch(&self, entity: &str, place: &str, lock_timeout: Duration) -> Option<String> {
        Some(format!(
            "SET LOCAL lock_timeout = '10s'; SELECT pg_advisory_xact_lock({}); SET LOCAL lock_timeout = '{}ms'",
            triggers::epoch_lock(entity, place),
            lock_timeout.as_millis().max(1)
        ))
    }

    fn end_copy(&self) -> Option<&'static str> {
        None
    }

    fn end_rehearsal(&self) -> &'static str {
        "SET CONSTRAINTS ALL IMMEDIATE; ROLLBACK"
    }

    fn overriding(&self) -> &'static str {
        " OVERRIDING SYSTEM VALUE"
    }

    fn skip_locked(&self) -> &'static str {
        " FOR NO KEY UPDATE SKIP LOCKED"
    }

    fn allocate_ids(
        &self,
        table: &Table,
        column: &Column,
        _place: &str,
        count: usize,
    ) -> Option<Statement<'_>> {
        let next = match &column.default {
            Some(default) => default.clone(),
            None if column.generated => {
                let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
                format!(
                    // Asked for once: as an argument it would be looked up for each id.
                    "nextval((SELECT pg_get_serial_sequence({}, {})::regclass))",
                    literal(&self.table(&table.name)),
                    literal(&column.name)
                )
            }
            None => return None,
        };
        Some(
            Statement::of(
                self,
                &format!("SELECT ({next})::text FROM generate_series(1, "),
            )
            .int(i64::try_from(count).unwrap_or(i64::MAX))
            .sql(")"),
        )
    }

    fn normalise<'a>(
        &'a self,
        session: &'a mut dyn Session,
        columns: &'a [Column],
        rows: Vec<Vec<Value>>,
    ) -> BoxFuture<'a, Result<Vec<Vec<Value>>, DbError>> {
        normalise::normalise(self, session, columns, rows).boxed()
    }

    fn alters(&self, column: &Column, value: &Value) -> bool {
        alters::alters(column, value)
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
        session.describe(sql)
    }

    fn durability<'a>(
        &'a self,
        session: &'a mut dyn Session,
    ) -> BoxFuture<'a, Result<Vec<BadSetting>, DbError>> {
        catalog::durability(self, session).boxed()
    }

    fn create_tables(&self) -> Vec<String> {
        triggers::create_tables()
    }

    fn create_past(&self) -> String {
        triggers::PAST.to_owned()
    }

    fn stamp_objects(&self, stamp: &Stamp<'_>) -> Vec<String> {
        stamps::stamp(self, stamp)
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

    fn begin_install(&self, lock_timeout: Duration) -> String {
        let millis = lock_timeout.as_millis().max(1);
        format!("BEGIN; SET LOCAL lock_timeout = '{millis}ms'")
    }

    fn lock_tables(&self, tables: &[&str], lock_timeout: Duration) -> Option<String> {
        let (millis, names) = (lock_timeout.as_millis().max(1), self.tables(tables));
        // A lock timeout holds for each table: the statement's holds for all of them together.
        Some(format!(
            "SET LOCAL statement_timeout = '{millis}ms'; LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE; \
             SET LOCAL statement_timeout = 0"
        ))
    }

    fn blockers<'a>(
        &'a self,
        session: &'a mut dyn Session,
        tables: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Vec<String>, DbError>> {
        catalog::blockers(self, session, tables).boxed()
    }

    fn expand<'a>(
        &'a self,
        session: &'a mut dyn Session,
        entity: &'a str,
        place: &'a str,
    ) -> BoxFuture<'a, Result<u64, DbError>> {
        notes::expand(self, session, entity, place).boxed()
    }

    fn noted<'a>(
        &'a self,
        session: &'a mut dyn Session,
        entity: &'a str,
        place: &'a str,
        keys: &'a [Key],
    ) -> BoxFuture<'a, Result<Vec<Vec<Value>>, DbError>> {
        notes::noted(self, session, entity, place, keys).boxed()
    }
}
