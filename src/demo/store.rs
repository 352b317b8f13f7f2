//! One SQL for both engines: a [`Store`] carries a statement to the pool of the engine in use.
//!
//! `$1` is an argument; `{id}` and `{instant}` are the types that the two engines write differently.
//! The pools are the application's own: the product opens connections of its own.

use sqlx::postgres::{PgArguments, PgPool, PgRow};
use sqlx::sqlite::{SqliteArguments, SqlitePool, SqliteRow};
use sqlx::{
    Arguments as _, AssertSqlSafe, ColumnIndex, Executor as _, PgConnection, Postgres, Sqlite,
    SqliteConnection, Transaction, TypeInfo as _, ValueRef as _,
};

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
