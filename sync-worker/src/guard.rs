//! Guards for the application's own pools: a connection never comes back inside a transaction, and
//! [`waiting`] says when one has none left.
//!
//! A driver may hand a connection back to its pool inside a transaction when the future that opens
//! the transaction is dropped half-way (sqlx 0.8.4 to 0.9.0, upstream issue 4385). The next
//! statement on that connection is then answered `Ok` and rolled back later: an acknowledged write
//! is lost. Two guards, each of which is enough for the calls it covers:
//!
//! 1. Writes through the layers run in a unit of work that their caller cannot cancel, so no
//!    `begin` is dropped half-way, as long as there is room for writes (`Limits::writes`, `write_time`).
//! 2. These hooks roll back whatever a connection was left in before the pool hands it out again.
//!    They cost one round trip per release (none on SQLite), and cover calls that bypass the layers, and reads
//!    that open a transaction: a read is dropped with its caller, and when its time is over.
//!
//! ```no_run
//! # async fn f() -> Result<(), sqlx::Error> {
//! use changeover_sync_worker::guard;
//! let pool = guard::postgres(sqlx::postgres::PgPoolOptions::new())
//!     .connect("postgres://localhost/shop")
//!     .await?;
//! # Ok(()) }
//! ```

use sqlx::Pool;
use sqlx::mysql::MySqlPoolOptions;
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::SqlitePoolOptions;

/// `options` with a hook that ends a transaction a connection was left in. A connection on which
/// that fails is closed.
#[must_use]
pub fn postgres(options: PgPoolOptions) -> PgPoolOptions {
    options.after_release(|connection, _| {
        Box::pin(async move {
            // Alone, `ROLLBACK` is a warning in the server's log and in ours for every release. Like
            // this only a connection inside a transaction is warned of; inside one that has failed,
            // `BEGIN` is an error, and the connection is closed.
            sqlx::raw_sql("BEGIN; ROLLBACK")
                .execute(connection)
                .await
                .map(|_| true)
        })
    })
}

/// As [`postgres`], for MariaDB.
#[must_use]
pub fn mariadb(options: MySqlPoolOptions) -> MySqlPoolOptions {
    options.after_release(|connection, _| {
        Box::pin(async move {
            sqlx::raw_sql("ROLLBACK")
                .execute(connection)
                .await
                .map(|_| true)
        })
    })
}

/// As [`postgres`], for SQLite.
#[must_use]
pub fn sqlite(options: SqlitePoolOptions) -> SqlitePoolOptions {
    options.after_release(|connection, _| {
        Box::pin(async move {
            // Outside a transaction SQLite answers ROLLBACK with an error, and that is well.
            let _ = sqlx::raw_sql("ROLLBACK").execute(connection).await;
            Ok(true)
        })
    })
}

/// Says whether `pool` has no connection left, so that whoever asks next waits: for
/// `Builder::pool_waiting`, which then sheds shadow reads. A connection on its way back counts as
/// taken, so a pool of one or two says so often.
pub fn waiting<DB: sqlx::Database>(pool: &Pool<DB>) -> impl Fn() -> bool + Send + Sync + use<DB> {
    let pool = pool.clone();
    move || pool.num_idle() == 0 && pool.size() >= pool.options().get_max_connections()
}
