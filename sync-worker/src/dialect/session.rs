//! One connection of the worker's own, and what its errors mean.
//!
//! Copiers never borrow the application's pool: a copier's mark must never ride on a connection
//! that the application may get next. A session is closed when anything goes wrong on it or when
//! the work on it is dropped half-way, so no transaction is ever left open by a cancelled call.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use changeover_shadow::Value;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::watched::{self, Watched};
use super::{Dialect, Statement};
use crate::store::StoreError;

/// One connection to a database.
pub trait Session: Send {
    /// Runs a statement; answers the number of rows it changed.
    fn execute<'a>(&'a mut self, statement: Statement<'a>) -> BoxFuture<'a, Result<u64, DbError>>;

    /// Runs a statement; answers its rows.
    fn fetch<'a>(
        &'a mut self,
        statement: Statement<'a>,
    ) -> BoxFuture<'a, Result<Vec<Vec<Value>>, DbError>>;

    /// Runs several statements without arguments, in one round trip where the engine can.
    fn script<'a>(&'a mut self, sql: &'a str) -> BoxFuture<'a, Result<(), DbError>>;

    /// Names and types of what a query answers, without running it.
    fn describe<'a>(
        &'a mut self,
        sql: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(String, String)>, DbError>>;

    /// Runs a statement of [`Bulk::copy_out`](super::bulk::Bulk::copy_out). `None` for more than `most`
    /// bytes; the connection is of no more use then.
    fn copy_out<'a>(
        &'a mut self,
        sql: &'a str,
        most: usize,
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, DbError>> {
        let _ = (sql, most);
        async { Ok(None) }.boxed()
    }

    /// Runs a statement of [`Bulk::copy_in`](super::bulk::Bulk::copy_in) on `rows`.
    fn copy_in<'a>(
        &'a mut self,
        sql: &'a str,
        rows: &'a [u8],
    ) -> BoxFuture<'a, Result<(), DbError>> {
        let _ = (sql, rows);
        async {
            Err(DbError {
                class: ErrorClass::Other,
                summary: "this engine does not read rows in bulk".into(),
                source: sqlx::Error::RowNotFound,
            })
        }
        .boxed()
    }
}

/// What an error of a database means for the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The connection is gone or was never there: the effect of a `COMMIT` is unknown.
    Connection,
    /// Lost against other transactions; nothing was changed.
    Busy,
    /// A unique constraint.
    Unique,
    /// A foreign key whose parent is not there (or whose child still is).
    ForeignKey,
    /// Any other refusal of the data itself: a check, a null, a type, a length.
    Data,
    /// The product's own tables are not there.
    NotInstalled,
    /// The role may not do it, or not see all rows of a table.
    Rights,
    /// Anything else: a missing table, a bug.
    Other,
}

/// An error of a database.
///
/// Neither its text, nor its `Debug`, nor its cause shows a value of a row, which the database's own
/// words may quote: of those, [`summary`](DbError::summary) has what may be seen.
pub struct DbError {
    /// What it means.
    pub class: ErrorClass,
    /// The constraint, SQLSTATE or code by name; never a value of a row.
    pub summary: String,
    /// The driver's error. **Its text may quote values of rows**: not to be shown.
    pub source: sqlx::Error,
}

impl fmt::Display for DbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary)
    }
}

impl fmt::Debug for DbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("DbError");
        debug
            .field("class", &self.class)
            .field("summary", &self.summary);
        if let Some(cause) = self.cause() {
            debug.field("source", cause);
        }
        debug.finish_non_exhaustive()
    }
}

impl std::error::Error for DbError {
    /// What the driver says of the connection; nothing that it says of rows.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause()
            .map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}

impl DbError {
    /// The driver's error, where the driver itself speaks and not the database.
    fn cause(&self) -> Option<&sqlx::Error> {
        use sqlx::Error as E;
        let own = matches!(
            &self.source,
            E::Configuration(_)
                | E::Io(_)
                | E::Tls(_)
                | E::Protocol(_)
                | E::PoolTimedOut
                | E::PoolClosed
                | E::WorkerCrashed
        );
        own.then_some(&self.source)
    }

    /// An answer that no database gives.
    pub(super) fn odd(why: &str) -> DbError {
        DbError {
            class: ErrorClass::Other,
            summary: why.to_owned(),
            source: sqlx::Error::Protocol(why.to_owned()),
        }
    }

    /// As an error of a store that was `doing` something.
    #[must_use]
    pub fn at(self, store: &str, doing: &str) -> StoreError {
        let (store, doing) = (store.to_owned(), doing.to_owned());
        match self.class {
            ErrorClass::Connection => StoreError::Unreachable {
                store,
                doing,
                source: self.into(),
            },
            ErrorClass::Busy => StoreError::Busy {
                store,
                doing,
                source: self.into(),
            },
            ErrorClass::NotInstalled => StoreError::NotInstalled { store, doing },
            _ => StoreError::Refused {
                store,
                doing,
                advice: self.summary.clone(),
                source: Some(self.into()),
            },
        }
    }
}

/// The worker's own connections to one database: opened when asked for, at most `limit` at once,
/// kept for the next caller only when their work ended well.
#[derive(Clone)]
pub struct Database {
    dialect: Arc<dyn Dialect>,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<VecDeque<Box<dyn Session>>>>,
    few_keys: bool,
    asked_every: Duration,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("dialect", &self.dialect)
            .finish_non_exhaustive()
    }
}

impl Database {
    /// The most connections to one database unless told otherwise.
    pub const CONNECTIONS: usize = 4;

    /// How often a server is asked about an answer that does not come, unless told otherwise.
    pub const ASKED_EVERY: Duration = Duration::from_secs(30);

    /// Connections to what `dialect` describes, at most `limit` at once.
    #[must_use]
    pub fn new(dialect: Arc<dyn Dialect>, limit: usize) -> Database {
        Database {
            dialect,
            permits: Arc::new(Semaphore::new(limit.max(1))),
            idle: Arc::default(),
            few_keys: false,
            asked_every: Self::ASKED_EVERY,
        }
    }

    /// The same database through connections of their own, at most `limit` at once: work that
    /// waits for a connection here does not wait for work there. They are for calls, which touch
    /// few keys each, where [`new`](Database::new) is for pages.
    #[must_use]
    pub fn apart(&self, limit: usize) -> Database {
        Database {
            few_keys: true,
            asked_every: self.asked_every,
            ..Database::new(Arc::clone(&self.dialect), limit)
        }
    }

    /// The same database through one connection of its own, for questions beside the work.
    #[must_use]
    pub fn aside(&self) -> Database {
        Database::new(Arc::clone(&self.dialect), 1).asked_every(self.asked_every)
    }

    /// While a statement has no answer, the server is asked so often whether it is at work on it; a
    /// connection that it has forgotten is given up after two such looks ([`watched`]). For connections
    /// that are opened from now on. It is also the time that opening one may take, up to ten seconds; less
    /// than 100 ms is taken as 100 ms.
    ///
    /// [`watched`]: super::watched
    #[must_use]
    pub fn asked_every(mut self, every: Duration) -> Database {
        self.asked_every = every.max(Duration::from_millis(100));
        self
    }

    /// The engine's dialect.
    #[must_use]
    pub fn dialect(&self) -> &dyn Dialect {
        &*self.dialect
    }

    /// Opens what `url` names: `postgres://…`, `mysql://…` (or `mariadb://…`) or `sqlite:path`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] when the URL names no engine that is built in, or cannot be read.
    pub fn open(url: &str) -> Result<Database, StoreError> {
        let refused = |advice: String, source| StoreError::Refused {
            store: "a database".into(),
            doing: "reading its URL".into(),
            advice,
            source,
        };
        let dialect: Arc<dyn Dialect> =
            if url.starts_with("postgres:") || url.starts_with("postgresql:") {
                Arc::new(super::postgres::Postgres::new(url).map_err(|e| {
                    refused(
                        "write it as postgres://user:password@host:port/database".into(),
                        Some(e.into()),
                    )
                })?)
            } else if url.starts_with("sqlite:") {
                Arc::new(super::sqlite::Sqlite::new(url).map_err(|e| {
                    refused(
                    "write it as sqlite:path/to/file.db; a database in memory cannot be migrated"
                        .into(),
                    Some(e.into()),
                )
                })?)
            } else if url.starts_with("mysql:") || url.starts_with("mariadb:") {
                Arc::new(super::mariadb::Mariadb::new(url).map_err(|e| {
                    refused(
                        "write it as mysql://user:password@host:port/database".into(),
                        Some(e.into()),
                    )
                })?)
            } else {
                return Err(refused(
                    "use a URL that starts with postgres:, mysql: or sqlite:".into(),
                    None,
                ));
            };
        Ok(Database::new(dialect, Self::CONNECTIONS))
    }

    /// A connection: an idle one, or a new one. Waits when `limit` are in use.
    ///
    /// # Errors
    ///
    /// The error of connecting.
    pub async fn session(&self) -> Result<Lease, DbError> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| DbError {
                class: ErrorClass::Connection,
                summary: "the connections were closed".into(),
                source: sqlx::Error::PoolClosed,
            })?;
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front();
        let session = match idle {
            Some(session) => session,
            None => self.connect().await?,
        };
        Ok(Lease {
            session,
            home: Arc::clone(&self.idle),
            _permit: permit,
        })
    }

    async fn connect(&self) -> Result<Box<dyn Session>, DbError> {
        let session = watched::connect(&*self.dialect, self.asked_every).await?;
        let mut session = Watched::over(session, &self.dialect, self.asked_every).await?;
        if self.few_keys
            && let Some(settings) = self.dialect.few_keys()
        {
            session.script(settings).await?;
        }
        Ok(session)
    }

    /// Drops the idle connections.
    pub fn forget_idle(&self) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

/// A borrowed connection. Dropping it closes the connection; [`give_back`](Lease::give_back) keeps
/// it.
pub struct Lease {
    session: Box<dyn Session>,
    home: Arc<Mutex<VecDeque<Box<dyn Session>>>>,
    _permit: OwnedSemaphorePermit,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").finish_non_exhaustive()
    }
}

impl Lease {
    /// The connection.
    pub fn session(&mut self) -> &mut dyn Session {
        &mut *self.session
    }

    /// Keeps the connection for the next caller. Only for connections without a transaction.
    pub fn give_back(self) {
        self.home
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(self.session);
    }
}

/// Runs `work` on a connection of `owner.database`, which is kept when it ends well and closed
/// otherwise (also when the future is dropped). An error says what was being done to
/// `owner.entity` at `owner.place`.
macro_rules! on_session {
    ($owner:ident, $doing:literal, |$session:ident| $work:expr) => {
        futures_util::FutureExt::boxed(async move {
            let kept = async {
                let mut lease = $owner.database.session().await?;
                let $session = lease.session();
                let answer = $work.await?;
                lease.give_back();
                Ok::<_, $crate::dialect::session::DbError>(answer)
            };
            kept.await.map_err(|error| {
                error.at(
                    $owner.database.dialect().place_name(),
                    &format!(
                        concat!($doing, " {} on the {} side"),
                        $owner.entity, $owner.place
                    ),
                )
            })
        })
    };
}
pub(super) use on_session;

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    fn failed(source: sqlx::Error) -> StoreError {
        let error = DbError {
            class: ErrorClass::Data,
            summary: "the column's type refuses the value (SQLSTATE 22P02)".into(),
            source,
        };
        error.at("the follower", "applying copies")
    }

    #[test]
    fn what_a_database_says_of_a_row_is_in_no_text_of_an_error() {
        let error = failed(sqlx::Error::Decode("no number: canary".into()));
        let cause = error.source().expect("the error of the database");
        assert!(cause.source().is_none());
        let shown = format!("{error} {error:?} {error:#?} {cause}");
        assert!(
            !shown.contains("canary") && shown.contains("22P02"),
            "{shown}"
        );
    }

    #[test]
    fn what_a_driver_says_of_its_connection_is_kept() {
        let refused = std::io::Error::other("connection refused");
        let error = failed(sqlx::Error::Io(refused));
        let cause = error.source().and_then(|cause| cause.source());
        let shown = format!("{error:?} {}", cause.expect("the driver's error"));
        assert_eq!(shown.matches("connection refused").count(), 2, "{shown}");
    }
}
