//! A SQLite connection: values cross in the storage class they have.

use std::sync::Arc;

use changeover_shadow::Value;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{
    Arguments, AssertSqlSafe, Column as _, Either, Executor, Row, SqlSafeStr, Statement as _,
    TypeInfo, ValueRef,
};

use crate::dialect::session::{DbError, ErrorClass, Session};
use crate::dialect::statement::{Arg, Statement};

/// One connection.
#[derive(Debug)]
pub(super) struct SqliteSession {
    pub(super) connection: SqliteConnection,
}

impl Session for SqliteSession {
    fn execute<'a>(&'a mut self, statement: Statement<'a>) -> BoxFuture<'a, Result<u64, DbError>> {
        let (sql, args, reusable) = statement.into_parts();
        async move {
            let sql = Arc::new(sql);
            let query = sqlx::query_with(AssertSqlSafe(Arc::clone(&sql)), arguments(args)?);
            match self.connection.execute(query.persistent(reusable)).await {
                Ok(done) => Ok(done.rows_affected()),
                Err(failed) => Err(self.judged(sql, failed).await),
            }
        }
        .boxed()
    }

    fn fetch<'a>(
        &'a mut self,
        statement: Statement<'a>,
    ) -> BoxFuture<'a, Result<Vec<Vec<Value>>, DbError>> {
        let (sql, args, reusable) = statement.into_parts();
        async move {
            let sql = Arc::new(sql);
            let query = sqlx::query_with(AssertSqlSafe(Arc::clone(&sql)), arguments(args)?);
            match self.connection.fetch_all(query.persistent(reusable)).await {
                Ok(rows) => rows.iter().map(values).collect(),
                Err(failed) => Err(self.judged(sql, failed).await),
            }
        }
        .boxed()
    }

    fn script<'a>(&'a mut self, sql: &'a str) -> BoxFuture<'a, Result<(), DbError>> {
        let sql = sql.to_owned();
        async move {
            self.connection
                .execute(sqlx::raw_sql(AssertSqlSafe(sql)))
                .await
                .map_err(error)?;
            Ok(())
        }
        .boxed()
    }

    fn describe<'a>(
        &'a mut self,
        sql: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(String, String)>, DbError>> {
        let sql = AssertSqlSafe(sql.to_owned()).into_sql_str();
        async move {
            let statement = self.connection.prepare(sql).await.map_err(error)?;
            if !matches!(
                statement.parameters(),
                None | Some(Either::Left([]) | Either::Right(0))
            ) {
                let why = "it has parameters, such as ? or :name: write values as literals";
                let source = sqlx::Error::Protocol(why.into());
                return Err(DbError {
                    class: ErrorClass::Other,
                    summary: why.into(),
                    source,
                });
            }
            Ok(statement
                .columns()
                .iter()
                .map(|column| {
                    (
                        column.name().to_owned(),
                        column.type_info().name().to_owned(),
                    )
                })
                .collect())
        }
        .boxed()
    }
}

impl SqliteSession {
    /// SQLite has one code for a statement that it does not understand and for an expression that
    /// fails on a row. A statement that it does understand failed on a row.
    async fn judged(&mut self, sql: Arc<String>, failed: sqlx::Error) -> DbError {
        let failed = error(failed);
        // What the schema lost under a statement is no row's fault, however the statement is prepared.
        let generic = matches!(
            &failed.source,
            sqlx::Error::Database(db)
                if db.code().as_deref() == Some("1") && !db.message().starts_with("no such ")
        );
        if !generic || failed.class != ErrorClass::Other {
            return failed;
        }
        let understood = self
            .connection
            .prepare(AssertSqlSafe(sql).into_sql_str())
            .await
            .is_ok();
        if !understood {
            return failed;
        }
        let sqlx::Error::Database(db) = &failed.source else {
            return failed;
        };
        // What stands before a quote or colon is the engine's own words; behind it may be a value.
        let what = db.message().split(['\'', '"', ':']).next();
        DbError {
            class: ErrorClass::Data,
            summary: format!("{} (SQLite code 1)", what.unwrap_or_default().trim()),
            source: failed.source,
        }
    }
}

fn arguments(args: Vec<Arg>) -> Result<SqliteArguments, DbError> {
    let mut bound = SqliteArguments::default();
    for arg in args {
        match arg {
            Arg::Value(value) => add(&mut bound, value)?,
            Arg::Column(values) => {
                (values.into_iter()).try_for_each(|value| add(&mut bound, value))?
            }
            Arg::Array(bytes) => add(&mut bound, Value::Bytes(bytes))?,
        }
    }
    Ok(bound)
}

fn add(bound: &mut SqliteArguments, value: Value) -> Result<(), DbError> {
    match value {
        Value::Null => bound.add(None::<i64>),
        Value::Boolean(value) => bound.add(i64::from(value)),
        Value::Integer(value) => bound.add(value),
        Value::Float(value) => bound.add(value),
        Value::Decimal(value) | Value::Text(value) => bound.add(value),
        Value::Bytes(value) => bound.add(value),
        Value::List(_) | Value::Record(_) => Err("a list or record".into()),
    }
    .map_err(|cause| error(sqlx::Error::Encode(cause)))
}

fn values(row: &SqliteRow) -> Result<Vec<Value>, DbError> {
    (0..row.len()).map(|index| value(row, index)).collect()
}

fn value(row: &SqliteRow, index: usize) -> Result<Value, DbError> {
    let raw = row.try_get_raw(index).map_err(error)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    // The storage class of this very value, whatever the column was declared as.
    let class = raw.type_info().name().to_owned();
    Ok(match class.as_str() {
        "INTEGER" | "BOOLEAN" => Value::Integer(row.try_get_unchecked(index).map_err(error)?),
        "REAL" => Value::Float(row.try_get_unchecked(index).map_err(error)?),
        "BLOB" => Value::Bytes(row.try_get_unchecked(index).map_err(error)?),
        _ => Value::Text(row.try_get_unchecked(index).map_err(error)?),
    })
}

/// What a driver's error means. Codes: sqlite.org/rescode.html.
pub(super) fn error(source: sqlx::Error) -> DbError {
    use sqlx::Error as E;
    let (class, summary) = match &source {
        E::Database(db) => {
            let code: i64 = db.code().and_then(|code| code.parse().ok()).unwrap_or(1);
            // More rows than one statement can bind: fewer keys at a time may do.
            let (class, what) = if db.message().contains("too many SQL variables") {
                (
                    ErrorClass::Data,
                    "the key has more rows than one statement can bind",
                )
            } else if code == 1811 && !db.message().starts_with("changeover: ") {
                (ErrorClass::Data, "a trigger of the table refuses the row")
            } else {
                class_of(code)
            };
            let ours = code == 1 && db.message().contains("no such table: changeover_");
            let class = if ours {
                ErrorClass::NotInstalled
            } else {
                class
            };
            let detail = match class {
                ErrorClass::Other | ErrorClass::Unique => format!(": {}", db.message()),
                // They name a column or repeat the schema.
                _ if matches!(code, 275 | 1299 | 3091) => format!(": {}", db.message()),
                _ => String::new(),
            };
            (class, format!("{what} (SQLite code {code}{detail})"))
        }
        E::Io(_) | E::PoolClosed | E::PoolTimedOut | E::WorkerCrashed | E::Protocol(_) => (
            ErrorClass::Connection,
            "the file's connection failed".to_owned(),
        ),
        E::ColumnDecode { .. } => (
            ErrorClass::Data,
            "a text is not valid in its encoding".to_owned(),
        ),
        E::Encode(_) => (
            ErrorClass::Data,
            "a list or record has no form in SQLite".to_owned(),
        ),
        _ => (ErrorClass::Other, "the driver refused".to_owned()),
    };
    DbError {
        class,
        summary,
        source,
    }
}

fn class_of(code: i64) -> (ErrorClass, &'static str) {
    // Extended codes: the lower byte is the primary one.
    match (code, code & 0xff) {
        (2067 | 1555 | 2579, _) => (ErrorClass::Unique, "a unique value is taken"),
        (787, _) => (ErrorClass::ForeignKey, "a referenced row is not there"),
        (1299, _) => (ErrorClass::Data, "a column that must not be null is null"),
        (275, _) => (ErrorClass::Data, "a check constraint refuses the row"),
        (1811, _) => (ErrorClass::Other, "a trigger refused"),
        (_, 5 | 6) => (ErrorClass::Busy, "the file is being written"),
        (_, 18..=20) => (ErrorClass::Data, "the table refuses the value"),
        (_, 13) => (ErrorClass::Connection, "the disk is full: make room on it"),
        (_, 10) => (
            ErrorClass::Connection,
            "the file could not be read or written",
        ),
        (_, 14) => (
            ErrorClass::Other,
            "there is no such file, or it may not be opened: correct the path, or create the database first",
        ),
        (_, 26) => (
            ErrorClass::Other,
            "the file is not a SQLite database: correct the path",
        ),
        (_, 8) => (
            ErrorClass::Other,
            "the file may not be written: correct its rights",
        ),
        _ => (ErrorClass::Other, "the database refused"),
    }
}
