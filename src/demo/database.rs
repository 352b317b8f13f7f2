//! The application's two databases: two SQLite files, or two PostgreSQL databases. They are made
//! for the demo, taken away for a while, and removed at the end.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection,
    SqliteConnection,
};
use tempfile::TempDir;

use super::store::Store;

/// Connections of each pool.
const CONNECTIONS: u32 = 8;
/// How long a SQLite connection waits for the file's one writer.
const BUSY: Duration = Duration::from_secs(10);

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
        server: Box<PgConnectOptions>,
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
            home: Home::Server {
                server: Box::new(server),
                names,
            },
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
