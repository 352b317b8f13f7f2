//! MariaDB 10.6 and later.
//!
//! What sets it apart from the other engines:
//!
//! * Creating a trigger commits. An installation is therefore not one transaction: triggers come
//!   first and do nothing until a row of `changeover_guard` says so, and the epoch row comes last.
//!   Installers queue for a named lock.
//! * A writer's trigger reads its row of `changeover_guard` with a shared lock, so changing that row
//!   waits for every writer in flight, whatever its isolation level.
//! * Rows that a foreign key deletes or changes by cascade fire no trigger: the preflight refuses
//!   such keys. Nor does `TRUNCATE`, which nothing refuses: a verify names the rows that it leaves.
//!
//! Statements and triggers are written in the SQL mode that `session` sets: identifiers in double
//! quotes, text in single quotes, `||` for concatenation.

use std::str::FromStr;
use std::time::Duration;

use changeover_flags::{Key, Version};
use changeover_shadow::Value;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::ConnectOptions;
use sqlx::mysql::MySqlConnectOptions;

use super::catalog::{Column, Table};
use super::check::Checks;
use super::install::{Reject, Stamp};
use super::probe::Probe;
use super::server::Server;
use super::session::{DbError, Session};
use super::statement::{Arg, RowColumn, Statement};
use super::sums::Summing;
use super::{BadSetting, Dialect};

mod alike;
mod alters;
mod catalog;
mod check;
mod errors;
mod key;
mod load;
mod names;
mod normalise;
mod notes;
mod probe;
mod rejects;
mod rows;
mod server;
mod session;
mod sums;
mod transactions;
mod triggers;

use session::MariadbSession;

/// Error number of a copy that reached the authority.
const COPY_ON_AUTHORITY: u16 = 31_901;
/// Error number of a write that reached the follower.
const WRITE_ON_FOLLOWER: u16 = 31_902;
/// How many statements a connection keeps prepared. One that is closed costs the next a delayed
/// acknowledgement, 40 ms: the driver leaves Nagle's algorithm on.
const STATEMENTS: usize = 400;

/// A MariaDB database.
#[derive(Debug)]
pub struct Mariadb {
    options: MySqlConnectOptions,
    name: String,
}

impl Mariadb {
    /// The database that a `mysql://` or `mariadb://` URL names.
    ///
    /// # Errors
    ///
    /// The driver's, when the URL cannot be read or names no database.
    pub fn new(url: &str) -> Result<Mariadb, sqlx::Error> {
        let options = MySqlConnectOptions::from_str(url)?
            .charset("utf8mb4")
            .timezone(Some("+00:00".into()))
            .statement_cache_capacity(STATEMENTS)
            .disable_statement_logging();
        let Some(database) = options.get_database() else {
            return Err(sqlx::Error::Configuration("it names no database".into()));
        };
        let name = format!(
            "MariaDB database {database:?} at {}:{}",
            options.get_host(),
            options.get_port(),
        );
        Ok(Mariadb { options, name })
    }
}

impl Dialect for Mariadb {
    fn engine(&self) -> &'static str {
        "MariaDB"
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

    fn transactional_ddl(&self) -> bool {
        false
    }

    fn cascades_fire_triggers(&self) -> bool {
        false
    }

    fn identity<'a>(
        &'a self,
        session: &'a mut dyn Session,
    ) -> BoxFuture<'a, Result<String, DbError>> {
        catalog::identity(self, session).boxed()
    }

    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, DbError>> {
        async move {
            let mut session = MariadbSession::open(&self.options).await?;
            catalog::known_version(self, &mut session).await?;
            Ok(Box::new(session) as Box<dyn Session>)
        }
        .boxed()
    }

    fn few_keys(&self) -> Option<&'static str> {
        None
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

    fn placeholder(&self, _n: usize, sql_type: &str) -> String {
        sums::bound(sql_type).to_owned()
    }

    fn rows(&self, columns: &[RowColumn<'_>], rows: &[Vec<Value>], args: &mut Vec<Arg>) -> String {
        rows::table(self, columns, rows, args)
    }

    fn key_in(&self, column: &str, keys: Vec<Value>, args: &mut Vec<Arg>) -> String {
        key::one_of(column, keys, args)
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

    fn refresh_statistics(&self, _written: &[&str]) -> Option<String> {
        // InnoDB keeps them itself.
        None
    }

    fn cast(&self, expression: &str, sql_type: &str) -> String {
        // A text and a number would be compared as floats.
        match sql_type {
            unsigned if unsigned.ends_with("int unsigned") => {
                format!("CAST({expression} AS UNSIGNED)")
            }
            number if number.ends_with("int") => format!("CAST({expression} AS SIGNED)"),
            _ => expression.to_owned(),
        }
    }

    /// To close a statement after its use costs 40 ms on a network: its message has no answer, and the
    /// driver's next one waits until the server acknowledges it.
    fn rows_text_is_stable(&self) -> bool {
        true
    }

    fn rows_limit(&self, _columns: usize) -> usize {
        10_000
    }

    fn exact(&self, expression: &str) -> String {
        expression.to_owned()
    }

    fn decode(&self, value: Value, _sql_type: &str) -> Value {
        value
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

    fn incoming(&self, column: &str) -> String {
        format!("VALUES({column})")
    }

    fn or_update(&self, table: &str, _key: &str, set: &[(&str, &str)], when: &str) -> String {
        match set.is_empty() {
            true => self.or_nothing(table, &["entity".to_owned()]),
            false => rows::or_update(&self.table(table), set, when),
        }
    }

    fn or_nothing(&self, table: &str, identity: &[String]) -> String {
        rows::or_nothing(&self.table(table), identity)
    }

    fn delete_from(&self, table: &str) -> String {
        format!("DELETE t FROM {} AS t WHERE ", self.table(table))
    }

    fn is_same(&self) -> &'static str {
        "<=>"
    }

    fn lift_base(&self, entity: &str, place: &str, base: Version) -> Option<String> {
        Some(triggers::lift(entity, place, base))
    }

    fn unwaited(&self) -> BoxFuture<'_, Result<(), DbError>> {
        transactions::unwaited(self).boxed()
    }

    fn key_length_problem(&self, columns: &[&Column]) -> Option<String> {
        key::length_problem(columns)
    }

    fn search_problem(&self, column: &Column) -> Option<String> {
        key::search_problem(column)
    }

    fn note_problem(&self, column: &Column) -> Option<String> {
        key::note_problem(column)
    }

    fn swaps_equal_columns(&self) -> bool {
        true
    }

    fn update_joins(&self) -> bool {
        true
    }

    fn dirty_keys(&self) -> &'static str {
        "dirty = 1"
    }

    fn begin_snapshot(&self) -> &'static str {
        // Not `READ ONLY`, under which no temporary table can be made.
        "SET @changeover_copy = NULL; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION WITH CONSISTENT SNAPSHOT"
    }

    /// The mark is the connection's, and outlives a rollback: every transaction sets it.
    fn begin_copy(&self, entity: &str, place: &str) -> String {
        rejects::begin_copy(entity, place)
    }

    fn begin_write(&self) -> &'static str {
        "SET @changeover_copy = NULL; START TRANSACTION"
    }

    fn lock_epoch(&self, entity: &str, place: &str, _lock_timeout: Duration) -> Option<String> {
        Some(rejects::lock_epoch(entity, place))
    }

    fn end_copy(&self) -> Option<&'static str> {
        None
    }

    fn overriding(&self) -> &'static str {
        ""
    }

    fn end_rehearsal(&self) -> &'static str {
        "ROLLBACK"
    }

    fn skip_locked(&self) -> &'static str {
        " FOR UPDATE SKIP LOCKED"
    }

    fn allocate_ids(
        &self,
        table: &Table,
        column: &Column,
        _place: &str,
        count: usize,
    ) -> Option<Statement<'_>> {
        rejects::allocate(self, table, column, count)
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
        triggers::create_past()
    }

    fn stamp_objects(&self, stamp: &Stamp<'_>) -> Vec<String> {
        triggers::stamp(self, stamp)
    }

    fn reject_objects(&self, reject: &Reject<'_>) -> Vec<String> {
        rejects::reject(self, reject)
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
        triggers::begin_install(lock_timeout)
    }

    fn lock_tables(&self, _tables: &[&str], _lock_timeout: Duration) -> Option<String> {
        None
    }

    fn blockers<'a>(
        &'a self,
        _session: &'a mut dyn Session,
        _tables: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Vec<String>, DbError>> {
        transactions::blockers(self).boxed()
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
