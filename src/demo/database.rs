//! The application's two databases: two SQLite files, or two PostgreSQL databases.
//!
//! The marketplace speaks one SQL to both engines; [`Store`] carries it to the pool of the one in
//! use. The pools are the application's own: the product opens connections of its own.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteRow, SqliteSynchronous,
};
use sqlx::{
    Arguments as _, AssertSqlSafe, ColumnIndex, ConnectOptions as _, Connection as _,
    Executor as _, PgConnection, Postgres, Sqlite, SqliteConnection, Transaction, TypeInfo as _,
    ValueRef as _,
};
use tempfile::TempDir;

/// Connections of each pool.
const CONNECTIONS: u32 = 8;
/// How long a SQLite connection waits for the file's one writer.
const BUSY: Duration = Duration::from_secs(10);

/// A value on its way to or from a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    Null,
    Int(i64),
    Text(String),
}

impl From<i64> for Cell {
    fn from(number: i64) -> Cell {
        Cell::Int(number)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }
}

impl From<Option<&str>> for Cell {
    fn from(text: Option<&str>) -> Cell {
        text.map_or(Cell::Null, Cell::from)
    }
}

/// One row of an answer, read from left to right.
pub(super) struct Cells(std::vec::IntoIter<Cell>);

impl Cells {
    /// The next value as a number; 0 for what is none.
    pub(super) fn int(&mut self) -> i64 {
        match self.0.next() {
            Some(Cell::Int(number)) => number,
            _ => 0,
        }
    }

    /// Passes over values.
    pub(super) fn skip(&mut self, values: usize) {
        self.0.by_ref().take(values).for_each(drop);
    }

    /// The next value as text, `None` for `NULL`.
    pub(super) fn text(&mut self) -> Option<String> {
        match self.0.next() {
            Some(Cell::Text(text)) => Some(text),
            Some(Cell::Int(number)) => Some(number.to_string()),
            Some(Cell::Null) | None => None,
        }
    }
}

/// The application's pool of one database.
#[derive(Debug, Clone)]
pub(super) enum Store {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// A transaction that the application opened.
pub(super) enum Work {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl Store {
    /// Runs a statement and says how many rows it changed.
    pub(super) async fn execute(&self, sql: &str, cells: &[Cell]) -> Result<u64, sqlx::Error> {
        match self {
            Store::Sqlite(pool) => sqlite(&mut *pool.acquire().await?, sql, cells).await,
            Store::Postgres(pool) => postgres(&mut *pool.acquire().await?, sql, cells).await,
        }
    }

    /// Runs a query.
    pub(super) async fn fetch(&self, sql: &str, cells: &[Cell]) -> Result<Vec<Cells>, sqlx::Error> {
        match self {
            Store::Sqlite(pool) => sqlite_rows(&mut *pool.acquire().await?, sql, cells).await,
            Store::Postgres(pool) => postgres_rows(&mut *pool.acquire().await?, sql, cells).await,
        }
    }

    /// Opens a transaction. SQLite's takes the write lock at once, so that it cannot fail half-way
    /// for having read an older state.
    pub(super) async fn begin(&self) -> Result<Work, sqlx::Error> {
        Ok(match self {
            Store::Sqlite(pool) => Work::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?),
            Store::Postgres(pool) => Work::Postgres(pool.begin().await?),
        })
    }

    /// Runs several statements without arguments.
    pub(super) async fn script(&self, sql: &str) -> Result<(), sqlx::Error> {
        let sql = sqlx::raw_sql(AssertSqlSafe(self.words(sql)));
        match self {
            Store::Sqlite(pool) => pool.execute(sql).await.map(drop),
            Store::Postgres(pool) => pool.execute(sql).await.map(drop),
        }
    }

    fn words(&self, sql: &str) -> String {
        match self {
            Store::Sqlite(_) => sqlite_words(sql),
            Store::Postgres(_) => postgres_words(sql),
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Store::Sqlite(pool) => pool.close().await,
            Store::Postgres(pool) => pool.close().await,
        }
    }
}

impl Work {
    /// Runs a statement and says how many rows it changed.
    pub(super) async fn execute(&mut self, sql: &str, cells: &[Cell]) -> Result<u64, sqlx::Error> {
        match self {
            Work::Sqlite(work) => sqlite(work, sql, cells).await,
            Work::Postgres(work) => postgres(work, sql, cells).await,
        }
    }

    /// Runs a query.
    pub(super) async fn fetch(
        &mut self,
        sql: &str,
        cells: &[Cell],
    ) -> Result<Vec<Cells>, sqlx::Error> {
        match self {
            Work::Sqlite(work) => sqlite_rows(work, sql, cells).await,
            Work::Postgres(work) => postgres_rows(work, sql, cells).await,
        }
    }

    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Work::Sqlite(work) => work.commit().await,
            Work::Postgres(work) => work.commit().await,
        }
    }
}

fn sqlite_words(sql: &str) -> String {
    // SQLite looks for `$1` by name, among all of a statement's, and for `?1` by number.
    sql.replace('$', "?")
        .replace("{id}", "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT")
        .replace("{instant}", "TEXT")
}

fn postgres_words(sql: &str) -> String {
    sql.replace(
        "{id}",
        "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
    )
    .replace("{instant}", "TIMESTAMPTZ")
}

async fn sqlite(
    connection: &mut SqliteConnection,
    sql: &str,
    cells: &[Cell],
) -> Result<u64, sqlx::Error> {
    let query = sqlx::query_with(AssertSqlSafe(sqlite_words(sql)), sqlite_arguments(cells)?);
    Ok(connection.execute(query).await?.rows_affected())
}

async fn sqlite_rows(
    connection: &mut SqliteConnection,
    sql: &str,
    cells: &[Cell],
) -> Result<Vec<Cells>, sqlx::Error> {
    let query = sqlx::query_with(AssertSqlSafe(sqlite_words(sql)), sqlite_arguments(cells)?);
    let rows: Vec<SqliteRow> = connection.fetch_all(query).await?;
    rows.iter()
        .map(|row| cells_of(row, |name| name == "INTEGER"))
        .collect()
}

fn sqlite_arguments(cells: &[Cell]) -> Result<SqliteArguments, sqlx::Error> {
    let mut arguments = SqliteArguments::default();
    for cell in cells {
        match cell {
            Cell::Null => arguments.add(None::<String>),
            Cell::Int(number) => arguments.add(*number),
            Cell::Text(text) => arguments.add(text.clone()),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

async fn postgres(
    connection: &mut PgConnection,
    sql: &str,
    cells: &[Cell],
) -> Result<u64, sqlx::Error> {
    let query = sqlx::query_with(
        AssertSqlSafe(postgres_words(sql)),
        postgres_arguments(cells)?,
    );
    Ok(connection.execute(query).await?.rows_affected())
}

async fn postgres_rows(
    connection: &mut PgConnection,
    sql: &str,
    cells: &[Cell],
) -> Result<Vec<Cells>, sqlx::Error> {
    let query = sqlx::query_with(
        AssertSqlSafe(postgres_words(sql)),
        postgres_arguments(cells)?,
    );
    let rows: Vec<PgRow> = connection.fetch_all(query).await?;
    rows.iter()
        .map(|row| cells_of(row, |name| name == "INT8"))
        .collect()
}

fn postgres_arguments(cells: &[Cell]) -> Result<PgArguments, sqlx::Error> {
    let mut arguments = PgArguments::default();
    for cell in cells {
        match cell {
            Cell::Null => arguments.add(None::<String>),
            Cell::Int(number) => arguments.add(*number),
            Cell::Text(text) => arguments.add(text.clone()),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

fn cells_of<'r, R>(row: &'r R, is_int: fn(&str) -> bool) -> Result<Cells, sqlx::Error>
where
    R: sqlx::Row,
    usize: ColumnIndex<R>,
    i64: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    String: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
{
    let mut cells = Vec::with_capacity(row.len());
    for index in 0..row.len() {
        let value = row.try_get_raw(index)?;
        let int = !value.is_null() && is_int(value.type_info().name());
        cells.push(if value.is_null() {
            Cell::Null
        } else if int {
            Cell::Int(row.try_get(index)?)
        } else {
            Cell::Text(row.try_get(index)?)
        });
    }
    Ok(Cells(cells.into_iter()))
}

/// The two databases of one demo.
#[derive(Debug)]
pub(super) struct Databases {
    pub(super) legacy: Store,
    pub(super) new: Store,
    pub(super) legacy_url: String,
    pub(super) new_url: String,
    home: Home,
}

/// Where the databases are, and how they go away.
#[derive(Debug)]
enum Home {
    Files {
        folder: Option<TempDir>,
        legacy: PathBuf,
        new: PathBuf,
    },
    Server {
        server: PgConnectOptions,
        names: [String; 2],
    },
}

impl Databases {
    /// Two files in a folder of their own.
    pub(super) async fn files() -> Result<Databases, sqlx::Error> {
        let folder = tempfile::Builder::new()
            .prefix("changeover-demo-")
            .tempdir()?;
        let (legacy, new) = (
            folder.path().join("legacy.db"),
            folder.path().join("new.db"),
        );
        Ok(Databases {
            legacy: Store::Sqlite(file_pool(&legacy).await?),
            new: Store::Sqlite(file_pool(&new).await?),
            legacy_url: format!("sqlite:{}", legacy.display()),
            new_url: format!("sqlite:{}", new.display()),
            home: Home::Files {
                folder: Some(folder),
                legacy,
                new,
            },
        })
    }

    /// Two databases of their own on a server.
    pub(super) async fn on_server(url: &str) -> Result<Databases, sqlx::Error> {
        let server = PgConnectOptions::from_str(url)?.disable_statement_logging();
        let number = rand::random_range(100_000..1_000_000);
        let names = ["legacy", "new"].map(|side| format!("changeover_demo_{side}_{number}"));
        let mut connection = server.connect().await?;
        for name in &names {
            let create = format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'");
            connection
                .execute(sqlx::raw_sql(AssertSqlSafe(create)))
                .await?;
        }
        connection.close().await?;
        let [legacy, new] = names.each_ref().map(|name| server.clone().database(name));
        Ok(Databases {
            legacy_url: legacy.to_url_lossy().to_string(),
            new_url: new.to_url_lossy().to_string(),
            legacy: Store::Postgres(server_pool(legacy)),
            new: Store::Postgres(server_pool(new)),
            home: Home::Server { server, names },
        })
    }

    /// What the databases are called.
    pub(super) fn describe(&self) -> String {
        match &self.home {
            Home::Files { legacy, new, .. } => {
                format!("SQLite, {} and {}", legacy.display(), new.display())
            }
            Home::Server {
                names: [legacy, new],
                ..
            } => format!("PostgreSQL, {legacy} and {new}"),
        }
    }

    /// The two SQLite files, if that is what they are.
    pub(super) fn paths(&self) -> Option<(&PathBuf, &PathBuf)> {
        match &self.home {
            Home::Files { legacy, new, .. } => Some((legacy, new)),
            Home::Server { .. } => None,
        }
    }

    /// Takes the new database away from everybody who writes it, until the outage ends.
    pub(super) async fn fail_new(&self) -> Result<Outage, sqlx::Error> {
        match &self.home {
            Home::Files { new, .. } => {
                // One writer: whoever holds the lock keeps every copy out.
                let mut holder = file(new).connect().await?;
                holder.execute("BEGIN IMMEDIATE").await?;
                Ok(Outage::Locked(holder))
            }
            Home::Server {
                server,
                names: [_, new],
            } => {
                let mut admin = server.connect().await?;
                let sql = format!(
                    "ALTER DATABASE {new} WITH ALLOW_CONNECTIONS false; \
                     SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{new}'"
                );
                admin.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
                Ok(Outage::Closed(Box::new(admin), new.clone()))
            }
        }
    }

    /// Closes the pools and removes the databases; says where they are when they are to be kept.
    pub(super) async fn end(self, keep: bool) -> Result<Option<String>, sqlx::Error> {
        let place = self.describe();
        self.legacy.close().await;
        self.new.close().await;
        match self.home {
            Home::Files { folder, .. } => match folder {
                Some(folder) if keep => drop(folder.keep()),
                Some(folder) => folder.close()?,
                None => {}
            },
            Home::Server { server, names } if !keep => {
                let mut admin = server.connect().await?;
                for name in names {
                    let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                    admin.execute(sqlx::raw_sql(AssertSqlSafe(drop))).await?;
                }
                admin.close().await?;
            }
            Home::Server { .. } => {}
        }
        Ok(keep.then_some(place))
    }
}

/// The new database out of reach.
pub(super) enum Outage {
    Locked(SqliteConnection),
    Closed(Box<PgConnection>, String),
}

impl Outage {
    pub(super) async fn end(self) -> Result<(), sqlx::Error> {
        match self {
            Outage::Locked(mut holder) => {
                holder.execute("ROLLBACK").await?;
                holder.close().await
            }
            Outage::Closed(mut admin, name) => {
                let sql = format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true");
                admin.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
                admin.close().await
            }
        }
    }
}

/// The application's settings of a SQLite file: nothing that was acknowledged may be lost.
fn file(path: &PathBuf) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY)
        .foreign_keys(true)
        .disable_statement_logging()
}

async fn file_pool(path: &PathBuf) -> Result<SqlitePool, sqlx::Error> {
    SqlitePoolOptions::new()
        .max_connections(CONNECTIONS)
        .connect_with(file(path))
        .await
}

fn server_pool(options: PgConnectOptions) -> PgPool {
    let options = options
        .options([("TimeZone", "UTC")])
        .disable_statement_logging();
    PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(Duration::from_secs(5))
        .connect_lazy_with(options)
}
