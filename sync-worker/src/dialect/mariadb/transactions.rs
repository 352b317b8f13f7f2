//! The transactions that are open on a MariaDB server, as of now.
//!
//! `information_schema.innodb_trx` shows the list that the server made when it was last asked after nobody
//! had asked for a tenth of a second (`CACHE_MIN_IDLE_TIME_NS` of its `trx0i_s.cc`): while somebody asks
//! more often, everybody is shown an old one. A list that names a transaction begun for the question was made after it.

use std::time::Duration;

use rand::RngExt as _;

use super::Mariadb;
use crate::dialect::Dialect as _;
use crate::dialect::probe::texts;
use crate::dialect::session::{DbError, ErrorClass};
use crate::dialect::watched::silent;

/// How long nobody may have asked for the list to be made anew, and a little more.
const IDLE: Duration = Duration::from_millis(110);

/// The longest pause between two questions, and how often is asked: for up to 13 s.
const PAUSE: Duration = Duration::from_secs(1);
const QUESTIONS: usize = 15;

/// How long all of it may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// How often a transaction without a connection is looked for again.
const AGAIN: usize = 3;

/// Who has a transaction open. Statements are not shown: they hold values.
pub(super) async fn blockers(dialect: &Mariadb) -> Result<Vec<String>, DbError> {
    let line = "concat('connection ', p.id, ' (user ', p.user, ', ', lower(p.command), ', its transaction began ', \
                timestampdiff(SECOND, t.trx_started, now()), ' s ago); to end it: KILL ', p.id)";
    let mut blockers = open(dialect, line, "p.id IS NOT NULL ORDER BY t.trx_started").await?;
    blockers.truncate(10);
    Ok(blockers)
}

/// The transactions that may write in this database, without values. The worker's own are among them.
pub(super) async fn in_database(dialect: &Mariadb) -> Result<Vec<String>, DbError> {
    let line = "concat('connection ', p.id, ' (user ', p.user, ', ', lower(p.command), ')')";
    open(
        dialect,
        line,
        "p.db = database() AND t.trx_is_read_only = 0 ORDER BY p.id",
    )
    .await
}

/// A transaction that was prepared for two phases and whose connection is gone holds no lock of a table's
/// definition: creating a trigger does not wait for it, and what it wrote has no stamp when it commits.
pub(super) async fn unwaited(dialect: &Mariadb) -> Result<(), DbError> {
    let line = "CAST(t.trx_id AS char)";
    let lost = "t.trx_mysql_thread_id = 0 AND t.trx_rows_modified > 0";
    let mut there = open(dialect, line, lost).await?;
    // InnoDB's own, for the statistics of a table, look the same and are over at once.
    for _ in 0..AGAIN {
        if there.is_empty() {
            return Ok(());
        }
        let still = open(dialect, line, lost).await?;
        there.retain(|one| still.contains(one));
    }
    if there.is_empty() {
        return Ok(());
    }
    Err(busy(
        "a prepared XA transaction waits for its end: XA RECOVER lists it; commit it or roll it back",
    ))
}

/// `line` of each transaction of others for which `wanted` holds, on a connection of its own.
async fn open(dialect: &Mariadb, line: &str, wanted: &str) -> Result<Vec<String>, DbError> {
    let asked = tokio::time::timeout(ANSWERED_WITHIN, ask(dialect, line, wanted));
    asked
        .await
        .unwrap_or_else(|_| Err(silent("no answer about open transactions")))
}

async fn ask(dialect: &Mariadb, line: &str, wanted: &str) -> Result<Vec<String>, DbError> {
    let sql = format!(
        "SELECT if(t.trx_mysql_thread_id = connection_id(), '', {line}) \
         FROM information_schema.innodb_trx t LEFT JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id \
         WHERE t.trx_mysql_thread_id = connection_id() OR {wanted}"
    );
    let mut session = dialect.connect().await?;
    session
        .script("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        .await?;
    let mut pause = IDLE;
    for _ in 0..QUESTIONS {
        let mut listed = texts(dialect, &mut *session, &sql).await?;
        let before = listed.len();
        listed.retain(|line| !line.is_empty());
        if listed.len() < before {
            return Ok(listed);
        }
        let fraction: f64 = rand::rng().random_range(0.0..1.0);
        tokio::time::sleep(IDLE + (pause - IDLE).mul_f64(fraction)).await;
        pause = PAUSE.min(pause * 2);
    }
    Err(busy(
        "something reads information_schema.innodb_trx more often than every 100 ms, so the server shows an old list of transactions: let it ask less often",
    ))
}

fn busy(why: &str) -> DbError {
    DbError {
        class: ErrorClass::Busy,
        summary: why.to_owned(),
        source: sqlx::Error::Protocol(why.to_owned()),
    }
}
