//! How loaded a database is: [`LoadQuery`], a query of one number as a
//! [`Signal`], and [`Load`], the queries that are built in.

use std::time::Duration;

use changeover_shadow::Value;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Deserialize;

use super::session::Database;
use super::statement::Statement;
use crate::pace::{Signal, SignalError};

/// What can be asked without writing SQL. SQLite knows none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Load {
    /// Sessions that run a statement in this database, the worker's own apart.
    ActiveSessions,
    /// How long ago the slowest replica had what it has applied by now, in seconds. A replica that
    /// is cut off does not tell: watch the bytes too. No replica at all is no answer.
    ReplicaLagSeconds,
    /// How many bytes of the log the slowest replica has not applied. No replica at all is no answer.
    ReplicaLagBytes,
    /// How many bytes of the log the slowest replication slot keeps from being removed; 0 without slots.
    SlotBytes,
    /// How many bytes the log takes on disk. For members of `pg_monitor`.
    WalBytes,
}

impl Load {
    /// All of them.
    pub const ALL: [Load; 5] = [
        Load::ActiveSessions,
        Load::ReplicaLagSeconds,
        Load::ReplicaLagBytes,
        Load::SlotBytes,
        Load::WalBytes,
    ];
}

/// A query of one number, asked through a connection of its own.
#[derive(Debug)]
pub struct LoadQuery {
    database: Database,
    sql: String,
    within: Duration,
}

impl LoadQuery {
    /// `sql` selects one row of one column that is a number, or is NULL for no answer; the server
    /// ends it when it takes longer than `within`, where it can.
    #[must_use]
    pub fn new(database: &Database, sql: &str, within: Duration) -> LoadQuery {
        let sql = sql.trim().trim_end_matches(';');
        LoadQuery {
            database: database.aside(),
            // A line of its own, for a query that ends in a comment.
            sql: format!(
                "SELECT {}",
                database.dialect().key_text(&[format!("(\n{sql}\n)")])
            ),
            within,
        }
    }

    /// A query that is built in; `None` where the engine has no such thing.
    #[must_use]
    pub fn built_in(database: &Database, load: Load, within: Duration) -> Option<LoadQuery> {
        let sql = database.dialect().load(load)?;
        Some(LoadQuery::new(database, sql, within))
    }

    async fn ask(&self) -> Result<f64, SignalError> {
        let mut lease = self.database.session().await?;
        let dialect = self.database.dialect();
        // Dropped here, it would go on over there, and more of them with each try.
        if let Some(limit) = dialect.statement_limit(self.within) {
            lease.session().script(&limit).await?;
        }
        let statement = Statement::of(dialect, &self.sql);
        let rows = lease.session().fetch(statement).await?;
        lease.give_back();
        match rows.into_iter().flatten().next() {
            Some(Value::Text(text)) => match text.trim().parse() {
                Ok(number) => Ok(number),
                Err(_) => Err("it answered something that is no number".into()),
            },
            _ => Err("it answered no number".into()),
        }
    }
}

impl Signal for LoadQuery {
    fn read(&self) -> BoxFuture<'_, Result<f64, SignalError>> {
        self.ask().boxed()
    }
}
