//! The application's data layer over either schema, as a team would have it: plain SQL, a pool, and
//! no idea that there is a migration.

use std::time::Duration;

use changeover::flags::Place;
use changeover::proxy::{Failure, Operation, Outcome, Refused, Touched};
use changeover::worker::guard;
use serde::Serialize;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Postgres, Row as _, Sqlite, Transaction};

/// What a caller may ask for.
#[derive(Debug, Clone)]
pub enum Call {
    /// The title.
    Get(i64),
    /// Adds a token to the title.
    Append { key: i64, token: String },
    /// Makes the row if it is not there, sets its title, and gives it another photo.
    Put { key: i64, token: String },
    /// Deletes the row and its photos.
    Delete { key: i64 },
    /// A row whose id the database chooses.
    Create { token: String },
    /// Two rows change their unique value.
    Swap { keys: [i64; 2] },
    /// One more of everything that a tenant has in the list rows.
    Restock { tenant: i64 },
    /// Changes a row of a lookup table, on which the rows of a tenant depend.
    Rename { tenant: i64, name: String },
}

/// What it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Answer {
    /// The title of the row, if there is one.
    Title(Option<String>),
    /// Rows changed.
    Done(u64),
    /// The new row's id.
    Created(i64),
}

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the database did not do it")]
    Sql(#[from] sqlx::Error),
}

impl Error {
    /// Only what the database itself refused certainly did not happen.
    pub fn is_definite(&self) -> bool {
        match self {
            Error::Refused(_) | Error::Sql(sqlx::Error::PoolTimedOut) => true,
            Error::Sql(sqlx::Error::Database(error)) => {
                let code = error.code().unwrap_or_default();
                // The server is going away, or the file cannot be read: anything may have happened.
                !code.starts_with("57P") && !code.starts_with("08") && code != "10"
            }
            Error::Sql(_) => false,
        }
    }
}

/// The layer's view of [`Error::is_definite`].
#[derive(Debug, Clone, Copy)]
pub struct Certainty;

impl Outcome<Error> for Certainty {
    fn failure(&self, error: &Error) -> Failure {
        if error.is_definite() {
            Failure::Definite
        } else {
            Failure::Unknown
        }
    }
}

/// The layer's view of [`Call`].
pub fn operation(call: &Call) -> Operation {
    match call {
        Call::Get(key) => Operation::read("get", *key),
        Call::Append { key, .. } => Operation::write("append", [*key]),
        Call::Put { key, .. } => Operation::write("put", [*key]),
        Call::Delete { key } => Operation::write("delete", [*key]),
        Call::Create { .. } => Operation::insert("create"),
        Call::Swap { keys } => Operation::write("swap", *keys),
        Call::Restock { tenant } => Operation::bulk("restock", tenant.to_string()),
        Call::Rename { .. } => Operation::bulk_all("rename"),
    }
}

/// The key of a row that the database numbered.
pub fn written(_: &Operation, answer: &Answer) -> Option<Touched> {
    match answer {
        Answer::Created(id) => Some(Touched::keys([*id])),
        Answer::Title(_) | Answer::Done(_) => None,
    }
}

/// A pool of one side's database.
#[derive(Clone)]
enum Pool {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

/// One side of the application.
#[derive(Clone)]
pub struct Repository {
    pool: Pool,
    place: Place,
    bug: Bug,
}

/// What is wrong with the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    Nothing,
    /// Appends are answered before their commit.
    AckBeforeCommit,
    /// One append in fifty loses its answer and is tried again.
    BlindRetry,
}

/// A transaction that the application opens itself.
pub enum Tx {
    Postgres(Transaction<'static, Postgres>),
    Sqlite(Transaction<'static, Sqlite>),
}

impl Tx {
    pub async fn run(&mut self, sql: &str) -> Result<u64, Error> {
        let query = AssertSqlSafe(sql.to_owned());
        Ok(match self {
            Tx::Postgres(tx) => sqlx::query(query).execute(&mut **tx).await?.rows_affected(),
            Tx::Sqlite(tx) => sqlx::query(query).execute(&mut **tx).await?.rows_affected(),
        })
    }

    async fn text(&mut self, sql: &str) -> Result<Option<String>, Error> {
        let query = AssertSqlSafe(sql.to_owned());
        Ok(match self {
            Tx::Postgres(tx) => sqlx::query_scalar(query).fetch_one(&mut **tx).await?,
            Tx::Sqlite(tx) => sqlx::query_scalar(query).fetch_one(&mut **tx).await?,
        })
    }

    pub async fn commit(self) -> Result<(), Error> {
        match self {
            Tx::Postgres(tx) => tx.commit().await?,
            Tx::Sqlite(tx) => tx.commit().await?,
        }
        Ok(())
    }
}

impl Repository {
    pub fn open(url: &str, place: Place, bug: Bug, guarded: bool) -> Repository {
        let pool = if url.starts_with("sqlite:") {
            let options: SqliteConnectOptions = url.parse().unwrap();
            let options = options
                .journal_mode(SqliteJournalMode::Wal)
                .busy_timeout(Duration::from_secs(5))
                .foreign_keys(true);
            let pool = SqlitePoolOptions::new().max_connections(6);
            let pool = if guarded { guard::sqlite(pool) } else { pool };
            Pool::Sqlite(pool.connect_lazy_with(options))
        } else {
            // Short, since a pool whose server refuses connections asks again ever more slowly.
            let options = PgPoolOptions::new().max_connections(10);
            let options = options.acquire_timeout(Duration::from_millis(300));
            let options = if guarded {
                guard::postgres(options)
            } else {
                options
            };
            Pool::Postgres(options.connect_lazy(url).unwrap())
        };
        Repository { pool, place, bug }
    }

    pub async fn begin(&self) -> Result<Tx, Error> {
        Ok(match &self.pool {
            Pool::Postgres(pool) => Tx::Postgres(pool.begin().await?),
            Pool::Sqlite(pool) => Tx::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?),
        })
    }

    /// Adds a token to a title.
    pub fn append(key: i64, token: &str) -> String {
        format!("UPDATE listings SET title = coalesce(title, '') || ',{token}' WHERE id = {key}")
    }

    pub async fn call(self, call: Call) -> Result<Answer, Error> {
        if let Call::Get(key) = call {
            return self.title(key).await;
        }
        assert_eq!(
            self.place,
            Place::Legacy,
            "a write reached the new side's repository"
        );
        match call {
            Call::Append { key, token } => self.appended(key, &token).await,
            Call::Put { key, token } => {
                let put = format!(
                    "INSERT INTO listings (id, tenant_id, title, status, house, stock) \
                     VALUES ({key}, 1, '{token}', 'ACTIVE', 'House {}', {key}) \
                     ON CONFLICT (id) DO UPDATE SET title = excluded.title, house = excluded.house",
                    key % 5
                );
                let photos = format!("DELETE FROM photos WHERE listing_id = {key}");
                let photo = 1_000_000 + key;
                let photo = format!("INSERT INTO photos VALUES ({photo}, {key}, '{token}')");
                self.transaction(&[put, photos, photo]).await
            }
            Call::Delete { key } => {
                let listing = format!("DELETE FROM listings WHERE id = {key}");
                let photos = format!("DELETE FROM photos WHERE listing_id = {key}");
                self.transaction(&[listing, photos]).await
            }
            Call::Create { token } => {
                let insert = format!(
                    "INSERT INTO listings (tenant_id, title, status, stock) \
                     VALUES (2, '{token}', 'Active', 1) RETURNING id"
                );
                Ok(Answer::Created(self.number(&insert).await?))
            }
            Call::Swap { keys } => self.swap(keys).await,
            Call::Restock { tenant } => {
                let last = super::workload::LISTS.end();
                self.run(&format!(
                    "UPDATE listings SET stock = stock + 1 WHERE tenant_id = {tenant} AND id <= {last}"
                ))
                .await
            }
            Call::Rename { tenant, name } => {
                self.run(&format!(
                    "UPDATE tenants SET name = '{name}' WHERE id = {tenant}"
                ))
                .await
            }
            Call::Get(_) => unreachable!("answered above"),
        }
    }

    async fn appended(&self, key: i64, token: &str) -> Result<Answer, Error> {
        let append = Repository::append(key, token);
        match self.bug {
            Bug::AckBeforeCommit => {
                let mut tx = self.begin().await?;
                let changed = tx.run(&append).await?;
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    let _ = tx.commit().await;
                });
                Ok(Answer::Done(changed))
            }
            Bug::BlindRetry if rand::random_ratio(1, 50) => {
                self.run(&append).await?;
                self.run(&append).await
            }
            Bug::Nothing | Bug::BlindRetry => self.run(&append).await,
        }
    }

    async fn swap(&self, [a, b]: [i64; 2]) -> Result<Answer, Error> {
        let mut tx = self.begin().await?;
        // Locked before they are read, or two swaps would write one value twice.
        for key in [a.min(b), a.max(b)] {
            tx.run(&format!(
                "UPDATE listings SET stock = stock WHERE id = {key}"
            ))
            .await?;
        }
        let sku = |key| format!("SELECT sku FROM listings WHERE id = {key}");
        let (of_a, of_b) = (tx.text(&sku(a)).await?, tx.text(&sku(b)).await?);
        let quoted = |sku: Option<String>| sku.map_or("NULL".to_owned(), |sku| format!("'{sku}'"));
        tx.run(&format!("UPDATE listings SET sku = NULL WHERE id = {a}"))
            .await?;
        tx.run(&format!(
            "UPDATE listings SET sku = {} WHERE id = {b}",
            quoted(of_a)
        ))
        .await?;
        tx.run(&format!(
            "UPDATE listings SET sku = {} WHERE id = {a}",
            quoted(of_b)
        ))
        .await?;
        tx.commit().await?;
        Ok(Answer::Done(2))
    }

    async fn transaction(&self, statements: &[String]) -> Result<Answer, Error> {
        let mut tx = self.begin().await?;
        let mut changed = 0;
        for sql in statements {
            changed += tx.run(sql).await?;
        }
        tx.commit().await?;
        Ok(Answer::Done(changed))
    }

    async fn title(&self, key: i64) -> Result<Answer, Error> {
        let sql = AssertSqlSafe(match self.place {
            Place::Legacy => format!("SELECT coalesce(title, '') FROM listings WHERE id = {key}"),
            Place::New => {
                format!("SELECT coalesce(title, '') FROM service_listings WHERE legacy_id = {key}")
            }
        });
        Ok(Answer::Title(match &self.pool {
            Pool::Postgres(pool) => sqlx::query_scalar(sql).fetch_optional(pool).await?,
            Pool::Sqlite(pool) => sqlx::query_scalar(sql).fetch_optional(pool).await?,
        }))
    }

    async fn run(&self, sql: &str) -> Result<Answer, Error> {
        let query = AssertSqlSafe(sql.to_owned());
        Ok(Answer::Done(match &self.pool {
            Pool::Postgres(pool) => sqlx::query(query).execute(pool).await?.rows_affected(),
            Pool::Sqlite(pool) => sqlx::query(query).execute(pool).await?.rows_affected(),
        }))
    }

    async fn number(&self, sql: &str) -> Result<i64, Error> {
        let query = AssertSqlSafe(sql.to_owned());
        Ok(match &self.pool {
            Pool::Postgres(pool) => sqlx::query(query).fetch_one(pool).await?.try_get(0)?,
            Pool::Sqlite(pool) => sqlx::query(query).fetch_one(pool).await?.try_get(0)?,
        })
    }
}
