//! The shipped dialects with a change to the SQL they send: everything else is theirs.

use std::sync::Arc;
use std::time::Duration;

use changeover::flags::{Key, Version};
use changeover::shadow::Value;
use changeover::worker::dialect::bulk::Bulk;
use changeover::worker::dialect::catalog::{Column, Table};
use changeover::worker::dialect::check::Checks;
use changeover::worker::dialect::install::{Reject, Stamp};
use changeover::worker::dialect::mariadb::Mariadb;
use changeover::worker::dialect::postgres::Postgres;
use changeover::worker::dialect::probe::Probe;
use changeover::worker::dialect::server::Server;
use changeover::worker::dialect::session::{Database, DbError, Session};
use changeover::worker::dialect::sqlite::Sqlite;
use changeover::worker::dialect::statement::Arg;
use changeover::worker::dialect::sums::Summing;
use changeover::worker::dialect::{BadSetting, Dialect, RowColumn, Statement};
use futures_util::future::BoxFuture;

/// A change to a statement's text; equal text is no change.
pub type Rewrite = fn(&str) -> String;

/// The database of a URL, sending changed SQL.
pub fn database(url: &str, rewrite: Rewrite) -> Database {
    let shipped: Box<dyn Dialect> = if url.starts_with("sqlite:") {
        Box::new(Sqlite::new(url).unwrap())
    } else if url.starts_with("mysql:") {
        Box::new(Mariadb::new(url).unwrap())
    } else {
        Box::new(Postgres::new(url).unwrap())
    };
    Database::new(Arc::new(Mutant { shipped, rewrite }), Database::CONNECTIONS)
}

#[derive(Debug)]
struct Mutant {
    shipped: Box<dyn Dialect>,
    rewrite: Rewrite,
}

struct MutantSession {
    shipped: Box<dyn Session>,
    rewrite: Rewrite,
}

impl MutantSession {
    fn changed<'a>(&self, statement: Statement<'a>) -> Statement<'a> {
        let dialect = statement.dialect();
        let (text, args, reusable) = statement.into_parts();
        Statement::from_parts(dialect, ((self.rewrite)(&text), args, reusable))
    }
}

impl Session for MutantSession {
    fn copy_out<'a>(
        &'a mut self,
        sql: &'a str,
        most: usize,
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, DbError>> {
        let sql = (self.rewrite)(sql);
        Box::pin(async move { self.shipped.copy_out(&sql, most).await })
    }

    fn copy_in<'a>(
        &'a mut self,
        sql: &'a str,
        rows: &'a [u8],
    ) -> BoxFuture<'a, Result<(), DbError>> {
        let sql = (self.rewrite)(sql);
        Box::pin(async move { self.shipped.copy_in(&sql, rows).await })
    }

    fn execute<'a>(&'a mut self, statement: Statement<'a>) -> BoxFuture<'a, Result<u64, DbError>> {
        let statement = self.changed(statement);
        self.shipped.execute(statement)
    }

    fn fetch<'a>(
        &'a mut self,
        statement: Statement<'a>,
    ) -> BoxFuture<'a, Result<Vec<Vec<Value>>, DbError>> {
        let statement = self.changed(statement);
        self.shipped.fetch(statement)
    }

    fn script<'a>(&'a mut self, sql: &'a str) -> BoxFuture<'a, Result<(), DbError>> {
        let sql = (self.rewrite)(sql);
        Box::pin(async move { self.shipped.script(&sql).await })
    }

    fn describe<'a>(
        &'a mut self,
        sql: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(String, String)>, DbError>> {
        self.shipped.describe(sql)
    }
}

impl Dialect for Mutant {
    fn bulk(&self) -> Option<&dyn Bulk> {
        self.shipped.bulk()
    }

    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, DbError>> {
        Box::pin(async move {
            let shipped = self.shipped.connect().await?;
            Ok(Box::new(MutantSession {
                shipped,
                rewrite: self.rewrite,
            }) as Box<dyn Session>)
        })
    }

    fn transactional_ddl(&self) -> bool {
        self.shipped.transactional_ddl()
    }

    fn cascades_fire_triggers(&self) -> bool {
        self.shipped.cascades_fire_triggers()
    }

    fn incoming(&self, column: &str) -> String {
        self.shipped.incoming(column)
    }

    fn or_update(&self, table: &str, key: &str, set: &[(&str, &str)], when: &str) -> String {
        self.shipped.or_update(table, key, set, when)
    }

    fn or_nothing(&self, table: &str, identity: &[String]) -> String {
        self.shipped.or_nothing(table, identity)
    }

    fn delete_from(&self, table: &str) -> String {
        self.shipped.delete_from(table)
    }

    fn is_same(&self) -> &'static str {
        self.shipped.is_same()
    }

    fn lift_base(&self, entity: &str, place: &str, base: Version) -> Option<String> {
        self.shipped.lift_base(entity, place, base)
    }

    fn unwaited(&self) -> BoxFuture<'_, Result<(), DbError>> {
        self.shipped.unwaited()
    }

    fn key_length_problem(&self, columns: &[&Column]) -> Option<String> {
        self.shipped.key_length_problem(columns)
    }

    fn search_problem(&self, column: &Column) -> Option<String> {
        self.shipped.search_problem(column)
    }

    fn note_problem(&self, column: &Column) -> Option<String> {
        self.shipped.note_problem(column)
    }

    fn swaps_equal_columns(&self) -> bool {
        self.shipped.swaps_equal_columns()
    }

    fn update_joins(&self) -> bool {
        self.shipped.update_joins()
    }

    fn dirty_keys(&self) -> &'static str {
        self.shipped.dirty_keys()
    }

    fn few_keys(&self) -> Option<&'static str> {
        self.shipped.few_keys()
    }

    fn server(&self) -> Option<&dyn Server> {
        self.shipped.server()
    }

    fn engine(&self) -> &'static str {
        self.shipped.engine()
    }
    fn place_name(&self) -> &str {
        self.shipped.place_name()
    }
    fn probe(&self) -> &dyn Probe {
        self.shipped.probe()
    }
    fn checks(&self) -> &dyn Checks {
        self.shipped.checks()
    }
    fn sums(&self) -> &dyn Summing {
        self.shipped.sums()
    }

    fn identity<'a>(
        &'a self,
        session: &'a mut dyn Session,
    ) -> BoxFuture<'a, Result<String, DbError>> {
        self.shipped.identity(session)
    }

    fn lock_tables(&self, tables: &[&str], lock_timeout: Duration) -> Option<String> {
        self.shipped.lock_tables(tables, lock_timeout)
    }

    fn blockers<'a>(
        &'a self,
        session: &'a mut dyn Session,
        tables: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Vec<String>, DbError>> {
        self.shipped.blockers(session, tables)
    }
    fn quote(&self, name: &str) -> String {
        self.shipped.quote(name)
    }
    fn table(&self, name: &str) -> String {
        self.shipped.table(name)
    }
    fn placeholder(&self, n: usize, sql_type: &str) -> String {
        self.shipped.placeholder(n, sql_type)
    }
    fn rows(&self, columns: &[RowColumn<'_>], rows: &[Vec<Value>], args: &mut Vec<Arg>) -> String {
        self.shipped.rows(columns, rows, args)
    }
    fn canonical_component(&self, component: &str, column: &Column) -> String {
        self.shipped.canonical_component(component, column)
    }
    fn key_fits(&self, component: &str, column: &Column) -> bool {
        self.shipped.key_fits(component, column)
    }

    fn key_is_typed(&self, component: &str, column: &Column) -> bool {
        self.shipped.key_is_typed(component, column)
    }
    fn same_key_text(&self, a: &Column, b: &Column) -> bool {
        self.shipped.same_key_text(a, b)
    }
    fn triggers(&self) -> &'static str {
        self.shipped.triggers()
    }
    fn stale_triggers<'a>(
        &'a self,
        session: &'a mut dyn Session,
        entity: &'a str,
        place: &'a str,
        script: &'a [String],
    ) -> BoxFuture<'a, Result<Vec<String>, DbError>> {
        self.shipped.stale_triggers(session, entity, place, script)
    }
    fn forget_notes(&self, entity: &str, place: &str) -> Option<String> {
        self.shipped.forget_notes(entity, place)
    }
    fn refresh_statistics(&self, written: &[&str]) -> Option<String> {
        self.shipped.refresh_statistics(written)
    }
    fn cast(&self, expression: &str, sql_type: &str) -> String {
        self.shipped.cast(expression, sql_type)
    }
    fn rows_text_is_stable(&self) -> bool {
        self.shipped.rows_text_is_stable()
    }
    fn rows_limit(&self, columns: usize) -> usize {
        self.shipped.rows_limit(columns)
    }
    fn exact(&self, expression: &str) -> String {
        self.shipped.exact(expression)
    }
    fn decode(&self, value: Value, sql_type: &str) -> Value {
        self.shipped.decode(value, sql_type)
    }
    fn key_text(&self, expressions: &[String]) -> String {
        self.shipped.key_text(expressions)
    }
    fn key_value(&self, component: &str, column: &Column) -> Value {
        self.shipped.key_value(component, column)
    }
    fn key_type_problem(&self, column: &Column) -> Option<String> {
        self.shipped.key_type_problem(column)
    }
    fn greatest_name(&self) -> &'static str {
        self.shipped.greatest_name()
    }
    fn boolean(&self, value: bool) -> &'static str {
        self.shipped.boolean(value)
    }
    fn begin_snapshot(&self) -> &'static str {
        self.shipped.begin_snapshot()
    }
    fn begin_snapshot_of(&self, tables: &[&str]) -> String {
        self.shipped.begin_snapshot_of(tables)
    }
    fn begin_copy(&self, entity: &str, place: &str) -> String {
        self.shipped.begin_copy(entity, place)
    }
    fn begin_write(&self) -> &'static str {
        self.shipped.begin_write()
    }
    fn lock_epoch(&self, entity: &str, place: &str, lock_timeout: Duration) -> Option<String> {
        self.shipped.lock_epoch(entity, place, lock_timeout)
    }
    fn end_copy(&self) -> Option<&'static str> {
        self.shipped.end_copy()
    }
    fn end_rehearsal(&self) -> &'static str {
        self.shipped.end_rehearsal()
    }
    fn overriding(&self) -> &'static str {
        self.shipped.overriding()
    }
    fn skip_locked(&self) -> &'static str {
        self.shipped.skip_locked()
    }
    fn allocate_ids(
        &self,
        table: &Table,
        column: &Column,
        place: &str,
        count: usize,
    ) -> Option<Statement<'_>> {
        self.shipped.allocate_ids(table, column, place, count)
    }
    fn normalise<'a>(
        &'a self,
        session: &'a mut dyn Session,
        columns: &'a [Column],
        rows: Vec<Vec<Value>>,
    ) -> BoxFuture<'a, Result<Vec<Vec<Value>>, DbError>> {
        self.shipped.normalise(session, columns, rows)
    }
    fn alters(&self, column: &Column, value: &Value) -> bool {
        self.shipped.alters(column, value)
    }
    fn describe<'a>(
        &'a self,
        session: &'a mut dyn Session,
        table: &'a str,
    ) -> BoxFuture<'a, Result<Option<Table>, DbError>> {
        self.shipped.describe(session, table)
    }
    fn describe_query<'a>(
        &'a self,
        session: &'a mut dyn Session,
        sql: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(String, String)>, DbError>> {
        self.shipped.describe_query(session, sql)
    }
    fn durability<'a>(
        &'a self,
        session: &'a mut dyn Session,
    ) -> BoxFuture<'a, Result<Vec<BadSetting>, DbError>> {
        self.shipped.durability(session)
    }
    fn create_tables(&self) -> Vec<String> {
        self.shipped.create_tables()
    }
    fn create_past(&self) -> String {
        self.shipped.create_past()
    }
    fn stamp_objects(&self, stamp: &Stamp<'_>) -> Vec<String> {
        self.shipped.stamp_objects(stamp)
    }
    fn reject_objects(&self, reject: &Reject<'_>) -> Vec<String> {
        self.shipped.reject_objects(reject)
    }
    fn drop_objects<'a>(
        &'a self,
        session: &'a mut dyn Session,
        entity: &'a str,
        place: &'a str,
    ) -> BoxFuture<'a, Result<Vec<String>, DbError>> {
        self.shipped.drop_objects(session, entity, place)
    }
    fn expand<'a>(
        &'a self,
        session: &'a mut dyn Session,
        entity: &'a str,
        place: &'a str,
    ) -> BoxFuture<'a, Result<u64, DbError>> {
        self.shipped.expand(session, entity, place)
    }

    fn noted<'a>(
        &'a self,
        session: &'a mut dyn Session,
        entity: &'a str,
        place: &'a str,
        keys: &'a [Key],
    ) -> BoxFuture<'a, Result<Vec<Vec<Value>>, DbError>> {
        self.shipped.noted(session, entity, place, keys)
    }
    fn begin_install(&self, lock_timeout: Duration) -> String {
        self.shipped.begin_install(lock_timeout)
    }
}
