//! SQL, and nowhere else: one [`Dialect`] per engine, and the two roles written once above it.
//!
//! | module | holds |
//! | --- | --- |
//! | [`statement`] | SQL text with its arguments |
//! | [`session`] | one connection of the worker's own, and what its errors mean |
//! | [`catalog`] | tables, columns and keys as the database describes them |
//! | [`inspect`], [`probe`], [`check`] | what the preflight, the contract's checks and the consistency checks ask |
//! | [`sums`], [`alike`] | what rows of both sides are summed, and how: where engines differ, in one text |
//! | [`load`] | how loaded a database is, for the worker's pace |
//! | [`postgres`], [`mariadb`], [`sqlite`] | what differs between the engines |
//! | [`authority`], [`follower`], [`home`], [`install`], [`standing`], [`raise`] | the protocol's SQL, the same for all |

use std::fmt::Debug;

use changeover_flags::{Key, Version};
use changeover_shadow::Value;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

pub mod alike;
pub mod authority;
pub mod bulk;
pub mod catalog;
mod chain;
pub mod check;
mod exact;
pub mod follower;
pub mod held_mapping;
pub mod home;
pub mod inspect;
pub mod install;
pub mod load;
pub mod mariadb;
mod pair;
pub mod postgres;
pub mod probe;
pub mod raise;
pub mod server;
pub mod session;
mod span;
pub mod sqlite;
pub mod standing;
pub mod statement;
pub mod sums;
pub mod uninstall;
mod versions;
pub mod watched;

use catalog::{Column, Table};
use session::{DbError, Session};
pub use statement::{RowColumn, Statement};

/// The tables that the product keeps.
pub mod tables {
    /// One row per key and place: version, synced version, state.
    pub const KEY: &str = "changeover_key";
    /// One row per entity and place: who decides, revision, base.
    pub const EPOCH: &str = "changeover_epoch";
    /// Generated ids: (entity, place, key, target, slot) → id.
    pub const ID: &str = "changeover_id";
    /// Cursors of backfills, on the follower. On the authority: the incarnation (`passed`) below
    /// whose base versions of keys may lie that are not copied yet, until that is `done`.
    pub const BACKFILL: &str = "changeover_backfill";
    /// One row per entity and place that was installed once: the highest incarnation used there. It
    /// outlives an uninstallation.
    pub const PAST: &str = "changeover_past";
    /// Rows of sources whose dependants are to be stamped once more after their commit.
    pub const EXPAND: &str = "changeover_expand";
}

/// A setting that is not as the promise needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadSetting {
    /// Its name.
    pub setting: String,
    /// What it is, and why that is bad.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

/// What differs between engines. Everything else is written once, in SQL they share.
pub trait Dialect: Send + Sync + Debug + 'static {
    /// The engine's name as in messages: `PostgreSQL`, `MariaDB` or `SQLite`.
    fn engine(&self) -> &'static str;

    /// Where the database is, without secrets.
    fn place_name(&self) -> &str;

    /// What the contract's checks ask.
    fn probe(&self) -> &dyn probe::Probe;

    /// What the consistency checks ask.
    fn checks(&self) -> &dyn check::Checks;

    /// How rows are summed.
    fn sums(&self) -> &dyn sums::Summing;

    /// How it moves rows that nobody looks into, if it can.
    fn bulk(&self) -> Option<&dyn bulk::Bulk> {
        None
    }

    /// Whether creating a trigger is a part of its transaction. Where it is not, and commits, what an
    /// installation creates does nothing until a row says so.
    fn transactional_ddl(&self) -> bool {
        true
    }

    /// Whether rows that a foreign key deletes or changes fire triggers.
    fn cascades_fire_triggers(&self) -> bool {
        true
    }

    /// What tells two databases apart, whatever their URLs say: equal identities mean one database.
    fn identity<'a>(
        &'a self,
        session: &'a mut dyn Session,
    ) -> BoxFuture<'a, Result<String, DbError>>;

    /// A new connection of the worker's own, set up for exact text.
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, DbError>>;

    /// What can be asked of it, if it is a server.
    fn server(&self) -> Option<&dyn server::Server> {
        None
    }

    /// What to set on a connection whose statements are about few keys each; `None` for nothing.
    fn few_keys(&self) -> Option<&'static str>;

    /// `name` quoted as an identifier.
    fn quote(&self, name: &str) -> String;

    /// A table or view, qualified and quoted.
    fn table(&self, name: &str) -> String;

    /// The `n`th argument (from 1), read as `sql_type`.
    fn placeholder(&self, n: usize, sql_type: &str) -> String;

    /// A derived table of bound rows, in parentheses, without alias; its arguments are appended.
    fn rows(
        &self,
        columns: &[RowColumn<'_>],
        rows: &[Vec<Value>],
        args: &mut Vec<statement::Arg>,
    ) -> String;

    /// A condition: `column` (text) is one of `keys`; its arguments are appended.
    fn key_in(&self, column: &str, keys: Vec<Value>, args: &mut Vec<statement::Arg>) -> String {
        let rows: Vec<Vec<Value>> = keys.into_iter().map(|key| vec![key]).collect();
        let rows = self.rows(&[RowColumn::new("key", "text")], &rows, args);
        format!("{column} IN (SELECT r.key FROM {rows} AS r)")
    }

    /// What tells the planner how large the product's own tables and `written` have become; `None`
    /// where no planner needs to be told.
    fn refresh_statistics(&self, written: &[&str]) -> Option<String>;

    /// `expression` converted to `sql_type`, where the engine needs it said.
    fn cast(&self, expression: &str, sql_type: &str) -> String;

    /// Whether the text of [`rows`](Dialect::rows) is the same for any number of rows.
    fn rows_text_is_stable(&self) -> bool;

    /// How many rows of `columns` columns one statement can bind.
    fn rows_limit(&self, columns: usize) -> usize;

    /// `expression` as canonical text that [`decode`](Dialect::decode) reads back exactly.
    fn exact(&self, expression: &str) -> String;

    /// The value of an [`exact`](Dialect::exact) text of a column or expression of `sql_type`.
    fn decode(&self, value: Value, sql_type: &str) -> Value;

    /// The key text of `expressions`: see [`Key`].
    fn key_text(&self, expressions: &[String]) -> String;

    /// One key component's text as the value that a key column of `column` is compared with.
    fn key_value(&self, component: &str, column: &Column) -> Value;

    /// One key component as this database writes it, however the application wrote it.
    fn canonical_component(&self, component: &str, column: &Column) -> String;

    /// Whether a row can hold this key component in `column`. Where it cannot, no row has the key,
    /// and comparing the two may be an error.
    fn key_fits(&self, component: &str, column: &Column) -> bool;

    /// Whether it is of the column's own type, too: an engine may hold any text in any column.
    fn key_is_typed(&self, component: &str, column: &Column) -> bool {
        self.key_fits(component, column)
    }

    /// Why `column` cannot be part of a key, if it cannot: its text must not depend on settings.
    fn key_type_problem(&self, column: &Column) -> Option<String>;

    /// Whether one key has one text in both of these columns: what is `7` in a column of numbers can
    /// be `007` in one of text.
    fn same_key_text(&self, a: &Column, b: &Column) -> bool;

    /// The function that answers the greatest of its arguments.
    fn greatest_name(&self) -> &'static str;

    /// In [`or_update`](Dialect::or_update), what the row would have had in `column`.
    fn incoming(&self, column: &str) -> String {
        format!("excluded.{column}")
    }

    /// What ends an `INSERT` into a `table` of the product's whose row of the same `key` may be there:
    /// columns are `set` where `when` holds; an empty `set` changes nothing, an empty `when` always holds. Of the
    /// columns that `when` names, at most one is set, and it is the last.
    fn or_update(&self, table: &str, key: &str, set: &[(&str, &str)], when: &str) -> String {
        if set.is_empty() {
            return self.or_nothing(table, &[key.to_owned()]);
        }
        let set: Vec<String> = set
            .iter()
            .map(|(column, value)| format!("{column} = {value}"))
            .collect();
        let when = match when {
            "" => String::new(),
            when => format!(" WHERE {when}"),
        };
        format!(
            " ON CONFLICT ({key}) DO UPDATE SET {}{when}",
            set.join(", ")
        )
    }

    /// What ends an `INSERT` into any `table` whose row of the same `identity`, quoted, may be there,
    /// and is left as it is.
    fn or_nothing(&self, table: &str, identity: &[String]) -> String {
        let _ = table;
        format!(" ON CONFLICT ({}) DO NOTHING", identity.join(", "))
    }

    /// A statement that deletes rows `t` of `table`, up to their condition.
    fn delete_from(&self, table: &str) -> String {
        format!("DELETE FROM {} AS t WHERE ", self.table(table))
    }

    /// What stands between two values that are one, or both `NULL`.
    fn is_same(&self) -> &'static str {
        "IS NOT DISTINCT FROM"
    }

    /// What lifts the base at which an entity's triggers stamp, where it is no part of them.
    fn lift_base(&self, entity: &str, place: &str, base: Version) -> Option<String> {
        let _ = (entity, place, base);
        None
    }

    /// Fails as busy while a writer may be in flight for which creating a trigger does not wait.
    fn unwaited(&self) -> BoxFuture<'_, Result<(), DbError>> {
        async { Ok(()) }.boxed()
    }

    /// Why the text of a key of these columns may be longer than the product's tables take.
    fn key_length_problem(&self, columns: &[&Column]) -> Option<String> {
        let _ = columns;
        None
    }

    /// Why no index finds a value in `column`.
    fn search_problem(&self, column: &Column) -> Option<String> {
        let _ = column;
        None
    }

    /// Why a column that a source's query takes from the written row cannot be noted exactly.
    fn note_problem(&self, column: &Column) -> Option<String> {
        let _ = column;
        None
    }

    /// Whether the planner puts one of two equal columns for the other, even into a `CASE` whose
    /// condition is that they are equal: it is then asked of rows where they are not.
    fn swaps_equal_columns(&self) -> bool {
        false
    }

    /// Whether the tables that an `UPDATE` reads stand before its `SET`, and not in a `FROM` after it.
    fn update_joins(&self) -> bool {
        false
    }

    /// Which rows of [`KEY`](tables::KEY) are dirty by their own version, as its index has it.
    fn dirty_keys(&self) -> &'static str {
        "synced < version"
    }

    /// A truth value.
    fn boolean(&self, value: bool) -> &'static str {
        if value { "1" } else { "0" }
    }

    /// Opens a transaction whose reads are all of one instant.
    fn begin_snapshot(&self) -> &'static str;

    /// The same, for an instant at which none of these tables is being rewritten.
    fn begin_snapshot_of(&self, tables: &[&str]) -> String {
        let _ = tables;
        self.begin_snapshot().to_owned()
    }

    /// Opens the transaction of a copy: marked as such, with the follower's epoch row shared.
    fn begin_copy(&self, entity: &str, place: &str) -> String;

    /// Opens a writing transaction on the product's own tables.
    fn begin_write(&self) -> &'static str;

    /// Waits for copies and touches in flight, and keeps new ones out until the commit. Later locks
    /// are waited for as long as `lock_timeout`.
    fn lock_epoch(
        &self,
        entity: &str,
        place: &str,
        lock_timeout: std::time::Duration,
    ) -> Option<String>;

    /// Ends a copy: what must run before `COMMIT`.
    fn end_copy(&self) -> Option<&'static str>;

    /// What follows `INSERT INTO t(..)` so that ids may be given for generated columns.
    fn overriding(&self) -> &'static str;

    /// Ends a copy's transaction without its changes, but not without what its commit would have
    /// refused.
    fn end_rehearsal(&self) -> &'static str;

    /// `FROM … WHERE` text that selects only rows nobody else is writing, for marks that must
    /// never make an application wait. Empty where the engine has one writer.
    fn skip_locked(&self) -> &'static str;

    /// Allocates `count` new ids of a generated column, one row each. They are given out once they are in a row or in
    /// the id map: before that, the same ones may be allocated again.
    fn allocate_ids(
        &self,
        table: &Table,
        column: &Column,
        place: &str,
        count: usize,
    ) -> Option<Statement<'_>>;

    /// `rows` as the columns would hold them: the engine's own conversion on assignment.
    fn normalise<'a>(
        &'a self,
        session: &'a mut dyn Session,
        columns: &'a [Column],
        rows: Vec<Vec<Value>>,
    ) -> BoxFuture<'a, Result<Vec<Vec<Value>>, DbError>>;

    /// Whether `column` would hold another value than `value`, and refuse nothing. Another way to write
    /// the same value is none.
    fn alters(&self, column: &Column, value: &Value) -> bool;

    /// The table as the catalog describes it, or `None` when there is none.
    fn describe<'a>(
        &'a self,
        session: &'a mut dyn Session,
        table: &'a str,
    ) -> BoxFuture<'a, Result<Option<Table>, DbError>>;

    /// The names and types of what a query answers, without running it.
    fn describe_query<'a>(
        &'a self,
        session: &'a mut dyn Session,
        sql: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(String, String)>, DbError>>;

    /// Settings under which the database can forget commits it has acknowledged, or is not the
    /// primary.
    fn durability<'a>(
        &'a self,
        session: &'a mut dyn Session,
    ) -> BoxFuture<'a, Result<Vec<BadSetting>, DbError>>;

    /// The product's tables, each creatable again without effect.
    fn create_tables(&self) -> Vec<String>;

    /// The objects that make `table` stamp keys, each replaceable by itself.
    fn stamp_objects(&self, stamp: &install::Stamp<'_>) -> Vec<String>;

    /// The objects that make `table` refuse all but copies.
    fn reject_objects(&self, reject: &install::Reject<'_>) -> Vec<String>;

    /// The table of what was taken out, creatable again without effect.
    fn create_past(&self) -> String;

    /// What removes every stamp and reject object of an entity, and the product's tables with the
    /// last entity. Until the commit nobody installs another.
    fn drop_objects<'a>(
        &'a self,
        session: &'a mut dyn Session,
        entity: &'a str,
        place: &'a str,
    ) -> BoxFuture<'a, Result<Vec<String>, DbError>>;

    /// A query of the product's triggers in this database: name, table as in [`Table::canonical`], and
    /// whether it does what it is for in every session. `{entity}` and `{place}` stand for a side's.
    fn triggers(&self) -> &'static str;

    /// What drops the entity's triggers that `script`, which is about to run, does not replace
    /// where they are.
    fn stale_triggers<'a>(
        &'a self,
        session: &'a mut dyn Session,
        entity: &'a str,
        place: &'a str,
        script: &'a [String],
    ) -> BoxFuture<'a, Result<Vec<String>, DbError>>;

    /// What deletes the notes that [`expand`](Dialect::expand) works on.
    fn forget_notes(&self, entity: &str, place: &str) -> Option<String>;

    /// Stamps once more what depends on rows whose writers have committed; answers how many such
    /// rows are left, whose dependants have no new version yet. Engines with one writer have none.
    fn expand<'a>(
        &'a self,
        session: &'a mut dyn Session,
        entity: &'a str,
        place: &'a str,
    ) -> BoxFuture<'a, Result<u64, DbError>>;

    /// Those of `keys` that depend on a row that [`expand`](Dialect::expand) left, one column.
    fn noted<'a>(
        &'a self,
        session: &'a mut dyn Session,
        entity: &'a str,
        place: &'a str,
        keys: &'a [Key],
    ) -> BoxFuture<'a, Result<Vec<Vec<Value>>, DbError>>;

    /// Opens the transaction of an installation, which waits for a lock no longer than this.
    fn begin_install(&self, lock_timeout: std::time::Duration) -> String;

    /// Locks these tables against writers, all of them within the lock timeout. `None` where
    /// [`begin_install`](Dialect::begin_install) has locked everything.
    fn lock_tables(&self, tables: &[&str], lock_timeout: std::time::Duration) -> Option<String>;

    /// Who is in the way of locking these tables, one line each, without values of rows. Empty
    /// where the engine does not tell.
    fn blockers<'a>(
        &'a self,
        session: &'a mut dyn Session,
        tables: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Vec<String>, DbError>>;
}
