//! Plain SQL on one side, as an application or an operator would send it, and what of the tests' own
//! SQL differs between engines.

use std::time::Duration;

use sqlx::mysql::{MySqlPool, MySqlPoolOptions};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Row};

use crate::support;

/// What a side runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
    Mariadb,
}

impl Engine {
    /// The URL of a new empty database, which for SQLite is the named file.
    pub async fn fresh(self, file: String) -> String {
        match self {
            Engine::Sqlite => file,
            Engine::Postgres => support::postgres::fresh_one().await,
            Engine::Mariadb => support::mariadb::fresh_one().await,
        }
    }

    /// `sql` with what a column is declared as: `{id}` numbers itself, `{chosen}` does, too, but the
    /// application may choose, `{word}` is text that can be indexed, and `{exact}` text that can be a
    /// key.
    pub fn schema(self, sql: &str) -> String {
        let (id, word) = match self {
            Engine::Sqlite => ("INTEGER PRIMARY KEY NOT NULL", "text"),
            Engine::Postgres => ("bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "text"),
            Engine::Mariadb => ("bigint NOT NULL AUTO_INCREMENT PRIMARY KEY", "varchar(190)"),
        };
        let exact = match self {
            Engine::Mariadb => "varchar(120) COLLATE utf8mb4_nopad_bin".to_owned(),
            _ => word.to_owned(),
        };
        sql.replace("{id}", id)
            .replace("{chosen}", &id.replace("ALWAYS", "BY DEFAULT"))
            .replace("{exact}", &exact)
            .replace("{word}", word)
    }

    /// `sql` with each `{column}` as the text of a price with two digits.
    pub fn priced(self, sql: &str) -> String {
        let text = |column: &str| match self {
            Engine::Sqlite => format!("iif({column} IS NULL, NULL, printf('%.2f', {column}))"),
            Engine::Postgres | Engine::Mariadb => format!("CAST({column} AS text)"),
        };
        let mut parts = sql.split('{');
        let mut priced = parts.next().unwrap().to_owned();
        for part in parts {
            let (column, rest) = part.split_once('}').unwrap();
            priced += &(text(column) + rest);
        }
        priced
    }

    /// A statement that says that it is a copy, as nobody should who is none.
    pub fn forced(self, sql: &str) -> String {
        match self {
            Engine::Sqlite => format!(
                "BEGIN IMMEDIATE; INSERT INTO changeover_copying VALUES ('x'); {sql}; \
                 DELETE FROM changeover_copying; COMMIT"
            ),
            Engine::Postgres => {
                format!("BEGIN; SET LOCAL changeover.copy = 'on'; {sql}; COMMIT")
            }
            Engine::Mariadb => format!(
                "SET @changeover_copy = 1; START TRANSACTION; {sql}; COMMIT; \
                 SET @changeover_copy = NULL"
            ),
        }
    }

    /// What of the product stands in a database, one `kind name` each.
    pub fn installed(self) -> &'static str {
        match self {
            Engine::Sqlite => {
                "SELECT type || ' ' || name FROM sqlite_schema WHERE name LIKE '%changeover%'"
            }
            Engine::Postgres => {
                "SELECT 'class ' || relname::text FROM pg_class WHERE relname LIKE 'changeover%' \
                 UNION ALL SELECT 'function ' || proname::text FROM pg_proc WHERE proname LIKE 'changeover%' \
                 UNION ALL SELECT 'trigger ' || tgname::text FROM pg_trigger WHERE tgname LIKE 'changeover%'"
            }
            Engine::Mariadb => {
                "SELECT 'table ' || table_name FROM information_schema.tables WHERE table_schema = database() AND table_name LIKE '%changeover%' \
                 UNION ALL SELECT 'routine ' || routine_name FROM information_schema.routines WHERE routine_schema = database() AND routine_name LIKE '%changeover%' \
                 UNION ALL SELECT 'trigger ' || trigger_name FROM information_schema.triggers WHERE event_object_schema = database() AND trigger_name LIKE '%changeover%'"
            }
        }
    }
}

/// Connections to one side.
#[derive(Clone)]
pub enum Plain {
    Postgres(PgPool),
    Sqlite(SqlitePool),
    Mariadb(MySqlPool),
}

/// Runs a query on whichever pool it is.
macro_rules! on_pool {
    ($plain:expr, |$pool:ident| $work:expr) => {
        match $plain {
            Plain::Postgres($pool) => $work,
            Plain::Sqlite($pool) => $work,
            Plain::Mariadb($pool) => $work,
        }
    };
}
pub(crate) use on_pool;

impl Plain {
    pub async fn open(url: &str) -> Plain {
        if url.starts_with("sqlite:") {
            let options: SqliteConnectOptions = url.parse().unwrap();
            let options = options
                .journal_mode(SqliteJournalMode::Wal)
                .create_if_missing(true);
            let pool = SqlitePoolOptions::new().max_connections(4);
            Plain::Sqlite(pool.connect_with(options).await.unwrap())
        } else if url.starts_with("mysql:") {
            let pool = mariadb().max_connections(8);
            Plain::Mariadb(pool.connect(url).await.unwrap())
        } else {
            let pool = PgPoolOptions::new().max_connections(8);
            Plain::Postgres(pool.connect(url).await.unwrap())
        }
    }

    /// At most so many connections, opened when they are asked for, and for not longer than a moment: a
    /// server may be away.
    pub async fn patient(url: &str, connections: u32) -> Plain {
        Plain::few(url, connections, Duration::from_millis(500)).await
    }

    /// At most so many connections, opened when they are asked for, and waited for no longer.
    pub async fn few(url: &str, connections: u32, within: Duration) -> Plain {
        if url.starts_with("sqlite:") {
            Plain::open(url).await
        } else if url.starts_with("mysql:") {
            let pool = mariadb().max_connections(connections);
            Plain::Mariadb(pool.acquire_timeout(within).connect_lazy(url).unwrap())
        } else {
            let pool = PgPoolOptions::new().max_connections(connections);
            Plain::Postgres(pool.acquire_timeout(within).connect_lazy(url).unwrap())
        }
    }

    pub fn engine(&self) -> Engine {
        match self {
            Plain::Sqlite(_) => Engine::Sqlite,
            Plain::Postgres(_) => Engine::Postgres,
            Plain::Mariadb(_) => Engine::Mariadb,
        }
    }

    pub fn is_postgres(&self) -> bool {
        self.engine() == Engine::Postgres
    }

    /// Drops the one table that stays when an entity was taken out.
    pub async fn forget_past(&self) {
        self.run("DROP TABLE IF EXISTS changeover_past").await;
    }

    /// Runs statements, or says why not.
    pub async fn try_run(&self, sql: &str) -> Result<(), sqlx::Error> {
        // To MariaDB no statement is an error.
        if sql.is_empty() {
            return Ok(());
        }
        let sql = sqlx::raw_sql(AssertSqlSafe(self.said(sql)));
        on_pool!(self, |pool| sql.execute(pool).await.map(drop))
    }

    /// Runs statements past what refuses all but copies.
    pub async fn force(&self, sql: &str) {
        self.run(&self.engine().forced(sql)).await;
    }

    pub async fn run(&self, sql: &str) {
        if let Err(error) = self.try_run(sql).await {
            panic!("{sql}\n{error}");
        }
    }

    /// Rows of one text column.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        let query = AssertSqlSafe(self.said(sql));
        let get = "a query of one text column";
        // What it makes of a number and a text is binary.
        if let Plain::Mariadb(pool) = self {
            let rows = sqlx::query(query).fetch_all(pool).await;
            let rows = rows.unwrap_or_else(|e| panic!("{sql}\n{e}"));
            let bytes = rows.iter().map(|row| row.try_get_unchecked(0).expect(get));
            return bytes
                .map(|bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned())
                .collect();
        }
        on_pool!(self, |pool| {
            let rows = sqlx::query(query).fetch_all(pool).await;
            let rows = rows.unwrap_or_else(|e| panic!("{sql}\n{e}"));
            rows.iter().map(|row| row.try_get(0).expect(get)).collect()
        })
    }

    /// The steps of a SQLite query plan.
    pub async fn plan(&self, sql: &str) -> Vec<String> {
        let Plain::Sqlite(pool) = self else {
            panic!("only SQLite explains this way");
        };
        let query = sqlx::query(AssertSqlSafe(sql.to_owned()));
        let rows = query.fetch_all(pool).await;
        let rows = rows.unwrap_or_else(|e| panic!("{sql}\n{e}"));
        rows.iter().map(|row| row.get("detail")).collect()
    }

    pub async fn text(&self, sql: &str) -> String {
        self.texts(sql).await.into_iter().next().unwrap_or_default()
    }

    /// `sql` as this engine wants it said: MariaDB has other names for what a value is cast to.
    pub fn said(&self, sql: &str) -> String {
        match self {
            Plain::Mariadb(_) => sql
                .replace(" AS text)", " AS char)")
                .replace(" AS bigint)", " AS signed)"),
            _ => sql.to_owned(),
        }
    }
}

fn mariadb() -> MySqlPoolOptions {
    // The SQL of these tests is the standard's: names in double quotes, texts without escapes. A query
    // that recurs further than the limit answers a part of its rows.
    const MODE: &str = "SET SESSION max_recursive_iterations = 1000000, sql_mode = \
        'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,STRICT_ALL_TABLES'";
    MySqlPoolOptions::new().after_connect(|connection, _| {
        Box::pin(async move { sqlx::query(MODE).execute(connection).await.map(drop) })
    })
}
