//! A connection that does not wait for a server which has forgotten it.
//!
//! A connection that a firewall dropped, or whose server lost its network, is never closed: what waits
//! for its answer would wait for ever. How long a statement may take is no help, since a scan of a large
//! table may take hours. So while an answer is outstanding, the server itself is asked from time to time,
//! through another connection, whether it is at work on it. Found idle twice in a row, or not to be
//! reached, the connection is given up with an error of [`ErrorClass::Connection`], and what becomes of
//! it is what becomes of every lost connection: the effect of a `COMMIT` is unknown, the rest is tried again.

use std::sync::Arc;
use std::time::Duration;

use changeover_shadow::Value;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::session::{DbError, ErrorClass, Session};
use super::{Dialect, Statement};

/// How a server is asked what it does for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presence {
    /// A query that answers the connection's own number.
    pub own: &'static str,
    /// A query that answers a row if the server works on a statement of the connection of the number in
    /// place of `{}`, and waits neither for a statement nor for its rows to be taken.
    pub at_work: &'static str,
}

/// How long opening a connection may take; less where answers are asked about sooner.
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);

/// How many looks in a row must find nobody at work.
const LOOKS: u32 = 2;

/// A new connection, to a server whose answers are asked about so often.
///
/// # Errors
///
/// Those of connecting, and [`ErrorClass::Connection`] after ten seconds without an answer.
pub(super) async fn connect(
    dialect: &dyn Dialect,
    every: Duration,
) -> Result<Box<dyn Session>, DbError> {
    match timeout(CONNECTED_WITHIN.min(every), dialect.connect()).await {
        Ok(opened) => opened,
        Err(_) => Err(silent("no answer to a new connection")),
    }
}

/// A connection and whom to ask about it.
pub(super) struct Watched {
    session: Box<dyn Session>,
    watch: Watch,
}

struct Watch {
    dialect: Arc<dyn Dialect>,
    at_work: String,
    every: Duration,
}

impl Watched {
    /// A connection that is asked about after each `every` without an answer; as it is, where the engine
    /// is no server.
    ///
    /// # Errors
    ///
    /// The error of asking for the connection's number, for as long as opening one may take.
    pub(super) async fn over(
        mut session: Box<dyn Session>,
        dialect: &Arc<dyn Dialect>,
        every: Duration,
    ) -> Result<Box<dyn Session>, DbError> {
        let Some(presence) = dialect.server().map(|server| server.presence()) else {
            return Ok(session);
        };
        let own = timeout(
            CONNECTED_WITHIN.min(every),
            session.fetch(Statement::of(&**dialect, presence.own)),
        );
        let own = own
            .await
            .unwrap_or_else(|_| Err(silent("no answer on a new connection")))?;
        let number = match own.first().and_then(|row| row.first()) {
            Some(Value::Integer(number)) => number.to_string(),
            Some(Value::Text(number)) if number.bytes().all(|b| b.is_ascii_digit()) => {
                number.clone()
            }
            _ => return Err(DbError::odd("a connection without a number")),
        };
        let watch = Watch {
            dialect: Arc::clone(dialect),
            at_work: presence.at_work.replace("{}", &number),
            every,
        };
        Ok(Box::new(Watched { session, watch }))
    }
}

impl Watch {
    /// What `answer` is, or that there will be none. Dropping it drops the answer: the connection is of
    /// no more use then.
    async fn during<T>(&self, mut answer: BoxFuture<'_, Result<T, DbError>>) -> Result<T, DbError> {
        let mut idle = 0;
        loop {
            if let Ok(answered) = timeout(self.every, &mut answer).await {
                return answered;
            }
            let at_work = tokio::select! {
                biased;
                answered = &mut answer => return answered,
                at_work = self.is_at_work() => at_work,
            };
            idle = if at_work { 0 } else { idle + 1 };
            if idle >= LOOKS {
                return Err(silent(
                    "no answer, and the server is not at work on one or does not answer anybody",
                ));
            }
        }
    }

    async fn is_at_work(&self) -> bool {
        let asked = async {
            let mut session = connect(&*self.dialect, self.every).await?;
            let asked = Statement::of(&*self.dialect, &self.at_work);
            Ok::<_, DbError>(!session.fetch(asked).await?.is_empty())
        };
        match timeout(2 * CONNECTED_WITHIN.min(self.every), asked).await {
            Ok(Ok(at_work)) => at_work,
            // A server that refuses a question is there.
            Ok(Err(error)) => error.class != ErrorClass::Connection,
            Err(_) => false,
        }
    }
}

/// What did not answer in time.
pub(super) fn silent(what: &str) -> DbError {
    DbError {
        class: ErrorClass::Connection,
        summary: what.to_owned(),
        source: sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()),
    }
}

impl Session for Watched {
    fn execute<'a>(&'a mut self, statement: Statement<'a>) -> BoxFuture<'a, Result<u64, DbError>> {
        self.watch.during(self.session.execute(statement)).boxed()
    }

    fn fetch<'a>(
        &'a mut self,
        statement: Statement<'a>,
    ) -> BoxFuture<'a, Result<Vec<Vec<Value>>, DbError>> {
        self.watch.during(self.session.fetch(statement)).boxed()
    }

    fn script<'a>(&'a mut self, sql: &'a str) -> BoxFuture<'a, Result<(), DbError>> {
        self.watch.during(self.session.script(sql)).boxed()
    }

    fn describe<'a>(
        &'a mut self,
        sql: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(String, String)>, DbError>> {
        self.watch.during(self.session.describe(sql)).boxed()
    }

    fn copy_out<'a>(
        &'a mut self,
        sql: &'a str,
        most: usize,
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, DbError>> {
        self.watch.during(self.session.copy_out(sql, most)).boxed()
    }

    fn copy_in<'a>(
        &'a mut self,
        sql: &'a str,
        rows: &'a [u8],
    ) -> BoxFuture<'a, Result<(), DbError>> {
        self.watch.during(self.session.copy_in(sql, rows)).boxed()
    }
}
