//! How loaded a database is: [`LoadQuery`], a query of one number as a
//! [`Signal`], and [`Load`], the queries that are built in.

use std::time::Duration;

use changeover_shadow::Value;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Deserialize;

use super::session::{Database, Session};
use super::statement::Statement;
use crate::pace::{Signal, SignalError};

/// What can be asked without writing SQL. SQLite knows none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Load {
    /// Sessions that run a statement in this database, the worker's own apart.
    ActiveSessions,
    /// How long ago the slowest replica had what it has applied by now, in seconds. A replica that
    /// is cut off does not tell: watch the bytes too. No replica at all is no answer. On MariaDB it is
    /// the replica that knows, and has to be asked.
    ReplicaLagSeconds,
    /// How many bytes of the log the slowest replica has not applied. No replica at all is no answer.
    ReplicaLagBytes,
    /// How many bytes of the log the slowest replication slot keeps from being removed; 0 without slots.
    SlotBytes,
    /// How many bytes the log takes on disk, on MariaDB the binary logs. For members of `pg_monitor`; on
    /// MariaDB, for users with the right BINLOG MONITOR.
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

/// What an engine is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// A query of one number.
    Select(&'static str),
    /// What is no query, and answers rows.
    Show {
        /// The statement.
        sql: &'static str,
        /// The column that has the numbers.
        column: &'static str,
        /// What is made of several.
        fold: Fold,
    },
}

/// What is made of several numbers. One that is missing is no answer, and so are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fold {
    /// The greatest of them.
    Greatest,
    /// All of them together.
    Sum,
}

impl Fold {
    fn of(self, numbers: impl Iterator<Item = Option<f64>>) -> Option<f64> {
        let numbers: Vec<f64> = numbers.collect::<Option<_>>()?;
        let all = numbers.into_iter();
        all.reduce(|a, b| match self {
            Fold::Greatest => a.max(b),
            Fold::Sum => a + b,
        })
    }
}

/// A query of one number, asked through a connection of its own.
#[derive(Debug)]
pub struct LoadQuery {
    database: Database,
    sql: String,
    /// The column that has the numbers, and what is made of them, where it is not the only one.
    shown: Option<(&'static str, Fold)>,
    within: Duration,
}

impl LoadQuery {
    /// `sql` selects one row of one column that is a number, or is NULL for no answer; the database
    /// ends it when it takes longer than `within`.
    #[must_use]
    pub fn new(database: &Database, sql: &str, within: Duration) -> LoadQuery {
        let sql = sql.trim().trim_end_matches(';');
        LoadQuery {
            database: database.aside(),
            // A line of its own, for a query that ends in a comment. It stands once, by a name: SQLite's text of a
            // value names it three times.
            sql: format!(
                "SELECT {} FROM (SELECT (\n{sql}\n) AS reading) AS q",
                database.dialect().key_text(&["q.reading".to_owned()])
            ),
            shown: None,
            within,
        }
    }

    /// A query that is built in; `None` where the engine has no such thing.
    #[must_use]
    pub fn built_in(database: &Database, load: Load, within: Duration) -> Option<LoadQuery> {
        Some(match database.dialect().server()?.load(load)? {
            Question::Select(sql) => LoadQuery::new(database, sql, within),
            Question::Show { sql, column, fold } => LoadQuery {
                database: database.aside(),
                sql: sql.to_owned(),
                shown: Some((column, fold)),
                within,
            },
        })
    }

    /// A query whose asker is gone would go on over there, and more of them with each try: the database is
    /// told to end it.
    async fn ask(&self) -> Result<f64, SignalError> {
        let dialect = self.database.dialect();
        let values = match dialect.server() {
            Some(server) => {
                let mut lease = self.database.session().await?;
                let limit = server.statement_limit(self.within);
                lease.session().script(&limit).await?;
                let values = self.values(lease.session()).await?;
                lease.give_back();
                values
            }
            // A limit is set when a file is opened, and opening one is quick.
            None => {
                let mut session = dialect.checks().connect_reading(self.within).await?;
                self.values(&mut *session).await?
            }
        };
        if let Some(Value::Text(text)) = values.first()
            && text.trim().parse::<f64>().is_err()
        {
            return Err("it answered something that is no number".into());
        }
        let fold = self.shown.map_or(Fold::Greatest, |(_, fold)| fold);
        fold.of(values.iter().map(number))
            .ok_or_else(|| "it answered no number".into())
    }

    /// The column that has the numbers.
    async fn values(&self, session: &mut dyn Session) -> Result<Vec<Value>, SignalError> {
        let index = match self.shown {
            None => 0,
            Some((column, _)) => {
                let columns = session.describe(&self.sql).await?;
                let index = columns.iter().position(|(name, _)| name == column);
                index.ok_or_else(|| format!("the server's answer has no column {column}"))?
            }
        };
        let statement = Statement::of(self.database.dialect(), &self.sql);
        let rows = session.fetch(statement).await?;
        let values = rows.into_iter().map(|row| row.into_iter().nth(index));
        Ok(values.map(Option::unwrap_or_default).collect())
    }
}

impl Signal for LoadQuery {
    fn read(&self) -> BoxFuture<'_, Result<f64, SignalError>> {
        self.ask().boxed()
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Text(text) | Value::Decimal(text) => text.trim().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Fold;

    #[test]
    fn one_that_is_missing_is_no_answer() {
        let of = |fold: Fold, numbers: &[Option<f64>]| fold.of(numbers.iter().copied());
        assert_eq!(of(Fold::Sum, &[Some(1.0), Some(2.0)]), Some(3.0));
        assert_eq!(of(Fold::Greatest, &[Some(1.0), Some(2.0)]), Some(2.0));
        for fold in [Fold::Sum, Fold::Greatest] {
            assert_eq!(of(fold, &[]), None);
            assert_eq!(of(fold, &[Some(1.0), None]), None);
        }
    }
}
