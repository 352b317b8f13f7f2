//! A PostgreSQL connection that speaks text: every value crosses as the exact text the server
//! prints and reads, so no driver type can lose a digit.

use changeover_shadow::Value;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt as _};
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgDatabaseError, PgRow};
use sqlx::{
    Arguments, AssertSqlSafe, Column as _, ConnectOptions, Either, Executor, Row, SqlSafeStr,
    Statement as _, TypeInfo, ValueRef,
};

use super::text::{Array, text};
use crate::dialect::session::{DbError, ErrorClass, Session};
use crate::dialect::statement::{Arg, Statement};

/// One connection.
#[derive(Debug)]
pub(super) struct PostgresSession {
    pub(super) connection: PgConnection,
}

impl PostgresSession {
    /// A new connection, set up for exact text.
    pub(super) async fn open(options: &PgConnectOptions) -> Result<PostgresSession, DbError> {
        let connection = options.connect().await.map_err(error)?;
        let mut session = PostgresSession { connection };
        // The schema is pinned, temporary tables last, so that the worker and the triggers it
        // installs mean the same tables whatever a role's settings are.
        session
            .script(
                "SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', false);
                 SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'iso_8601';
                 SET extra_float_digits = 1; SET bytea_output = 'hex'; SET client_min_messages = 'warning';
                 SET idle_in_transaction_session_timeout = '60s'; SET statement_timeout = 0; SET standard_conforming_strings = on;
                 SET row_security = off; SET synchronous_commit = on; SET plan_cache_mode = force_custom_plan;
                 SET jit = off; SET random_page_cost = 1.1; SET default_transaction_isolation = 'read committed'",
            )
            .await?;
        Ok(session)
    }
}

impl Session for PostgresSession {
    fn execute<'a>(&'a mut self, statement: Statement<'a>) -> BoxFuture<'a, Result<u64, DbError>> {
        let (sql, args, reusable) = statement.into_parts();
        async move {
            let query = sqlx::query_with(AssertSqlSafe(sql), arguments(args)?).persistent(reusable);
            let done = self.connection.execute(query).await.map_err(error)?;
            Ok(done.rows_affected())
        }
        .boxed()
    }

    fn fetch<'a>(
        &'a mut self,
        statement: Statement<'a>,
    ) -> BoxFuture<'a, Result<Vec<Vec<Value>>, DbError>> {
        let (sql, args, reusable) = statement.into_parts();
        async move {
            let query = sqlx::query_with(AssertSqlSafe(sql), arguments(args)?).persistent(reusable);
            let rows = self.connection.fetch_all(query).await.map_err(error)?;
            rows.iter().map(values).collect()
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
                return Err(has_parameters());
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

    fn copy_out<'a>(
        &'a mut self,
        sql: &'a str,
        most: usize,
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, DbError>> {
        copy_out(&mut self.connection, sql, most).boxed()
    }

    fn copy_in<'a>(
        &'a mut self,
        sql: &'a str,
        rows: &'a [u8],
    ) -> BoxFuture<'a, Result<(), DbError>> {
        copy_in(&mut self.connection, sql, rows).boxed()
    }
}

/// How many bytes are sent at once.
const CHUNK: usize = 256 << 10;

async fn copy_out(
    connection: &mut PgConnection,
    sql: &str,
    most: usize,
) -> Result<Option<Vec<u8>>, DbError> {
    let mut stream = connection.copy_out_raw(sql).await.map_err(error)?;
    let mut rows = Vec::new();
    while let Some(part) = stream.next().await {
        let part = part.map_err(error)?;
        if rows.len() + part.len() > most {
            return Ok(None);
        }
        rows.extend_from_slice(&part);
    }
    Ok(Some(rows))
}

async fn copy_in(connection: &mut PgConnection, sql: &str, rows: &[u8]) -> Result<(), DbError> {
    let mut copy = connection.copy_in_raw(sql).await.map_err(error)?;
    for part in rows.chunks(CHUNK) {
        copy.send(part).await.map_err(error)?;
    }
    copy.finish().await.map_err(error)?;
    Ok(())
}

fn has_parameters() -> DbError {
    let why = "it has parameters, such as $1: write values as literals";
    DbError {
        class: ErrorClass::Other,
        summary: why.into(),
        source: sqlx::Error::Protocol(why.into()),
    }
}

fn arguments(args: Vec<Arg>) -> Result<PgArguments, DbError> {
    let mut bound = PgArguments::default();
    for arg in args {
        match arg {
            Arg::Value(value) => bound.add(text(value)),
            Arg::Column(values) => bound.add(Array::of(values.iter())),
            Arg::Array(bytes) => bound.add(Array(bytes)),
        }
        .map_err(|cause| error(sqlx::Error::Encode(cause)))?;
    }
    Ok(bound)
}

fn values(row: &PgRow) -> Result<Vec<Value>, DbError> {
    (0..row.len()).map(|index| value(row, index)).collect()
}

fn value(row: &PgRow, index: usize) -> Result<Value, DbError> {
    let raw = row.try_get_raw(index).map_err(error)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let value = match raw.type_info().name() {
        "INT8" => Value::Integer(row.try_get(index).map_err(error)?),
        "INT4" => Value::Integer(row.try_get::<i32, _>(index).map_err(error)?.into()),
        "INT2" => Value::Integer(row.try_get::<i16, _>(index).map_err(error)?.into()),
        "BOOL" => Value::Boolean(row.try_get(index).map_err(error)?),
        "VOID" => Value::Null,
        "TEXT[]" | "VARCHAR[]" | "NAME[]" => Value::List(
            row.try_get::<Vec<String>, _>(index)
                .map_err(error)?
                .into_iter()
                .map(Value::Text)
                .collect(),
        ),
        _ => Value::Text(row.try_get(index).map_err(error)?),
    };
    Ok(value)
}

/// What a driver's error means. SQLSTATEs: PostgreSQL manual, appendix A.
pub(super) fn error(source: sqlx::Error) -> DbError {
    use sqlx::Error as E;
    let class_and_summary = match &source {
        E::Database(db) => {
            let code = db.code().unwrap_or_default().into_owned();
            let constraint = db
                .constraint()
                .map(|name| format!(" on {name}"))
                .unwrap_or_default();
            let (class, what) = if code == "42501" && db.message().contains("row-level security") {
                (ErrorClass::Rights, HIDDEN)
            } else {
                match class_of(&code) {
                    (ErrorClass::Other | ErrorClass::Rights | ErrorClass::Connection, _)
                        if raised(&**db) =>
                    {
                        (ErrorClass::Data, RAISED)
                    }
                    known => known,
                }
            };
            let class = match is_ours(&code, db.message()) {
                true => ErrorClass::NotInstalled,
                false => class,
            };
            (
                class,
                format!("{what}{constraint} (SQLSTATE {code}{})", hint(&code, &**db)),
            )
        }
        E::Io(_)
        | E::Tls(_)
        | E::Protocol(_)
        | E::PoolClosed
        | E::PoolTimedOut
        | E::WorkerCrashed => (ErrorClass::Connection, "the connection failed".to_owned()),
        E::ColumnDecode { .. } => (
            ErrorClass::Data,
            "a text is not valid in its encoding".to_owned(),
        ),
        _ => (ErrorClass::Other, "the driver refused".to_owned()),
    };
    DbError {
        class: class_and_summary.0,
        summary: class_and_summary.1,
        source,
    }
}

/// Whether a table of the product's is missing. Which quotes stand around its name, the server's
/// language says.
fn is_ours(code: &str, message: &str) -> bool {
    code == "42P01" && message.contains("changeover_")
}

/// Sessions and triggers run with `row_security = off`: an error in place of a part of the rows.
const HIDDEN: &str =
    "a policy hides rows of it from the role: connect as one with BYPASSRLS, or exempt it";

const RAISED: &str = "a function or trigger of the database refuses the row";

/// Whether a function of the application's raised it, which may have chosen any code but ours.
fn raised(db: &dyn DatabaseError) -> bool {
    let postgres = db.try_downcast_ref::<PgDatabaseError>();
    postgres
        .is_some_and(|db| db.routine() == Some("exec_stmt_raise") && !db.code().starts_with("CO"))
}

fn class_of(code: &str) -> (ErrorClass, &'static str) {
    match code {
        "23505" | "23P01" => (ErrorClass::Unique, "a unique value is taken"),
        "23503" => (ErrorClass::ForeignKey, "a referenced row is not there"),
        "23502" => (ErrorClass::Data, "a column that must not be null is null"),
        "23514" => (ErrorClass::Data, "a check constraint refuses the row"),
        "40001" | "40P01" | "55P03" | "57014" => (ErrorClass::Busy, "lost against other work"),
        // Trying again helps as soon as somebody has made room.
        "53100" => (ErrorClass::Connection, "the disk is full: make room on it"),
        "53300" => (ErrorClass::Busy, "the server takes no more connections"),
        "22012" => (ErrorClass::Data, "a division by zero"),
        "22003" | "22008" => (ErrorClass::Data, "a value is out of its type's range"),
        "21000" => (ErrorClass::Data, "more than one row where one is expected"),
        // Row or index entry too large, a function or trigger of the application's that raises.
        "54000" => (ErrorClass::Data, "the row exceeds a limit of the server"),
        "P0001" | "P0002" | "P0003" | "P0004" => (ErrorClass::Data, RAISED),
        _ if code.starts_with("22") || code.starts_with("23") => {
            (ErrorClass::Data, "the column's type refuses the value")
        }
        _ if code.starts_with("08") || code.starts_with("57P") => {
            (ErrorClass::Connection, "the connection failed")
        }
        "42501" => (
            ErrorClass::Rights,
            "the role lacks a right: connect as the tables' owner, or grant it",
        ),
        "3D000" => (
            ErrorClass::Other,
            "there is no such database: correct the URL, or create it",
        ),
        _ if code.starts_with("28") => (
            ErrorClass::Other,
            "the role or its password is refused: correct the URL's user and password",
        ),
        "25006" => (
            ErrorClass::Other,
            "the server takes no writes: connect to the primary",
        ),
        _ => (ErrorClass::Other, "the database refused"),
    }
}

/// Messages that name objects, rights and the server's state, and carry no row values, are worth
/// showing. What a function of the application's raises may quote its row under any code.
fn hint(code: &str, db: &dyn DatabaseError) -> String {
    const SHOWN: [&str; 13] = [
        "08", "0A", "23502", "25", "28", "3D", "3F", "42", "53", "55", "57", "58", "CO",
    ];
    match SHOWN.iter().any(|class| code.starts_with(class)) && !raised(db) {
        true => format!(": {}", db.message()),
        false => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_table_of_ours_is_known_in_any_language() {
        for message in [
            "relation \"changeover_epoch\" does not exist",
            "Relation »changeover_epoch« existiert nicht",
            "la relation « changeover_epoch » n'existe pas",
            "リレーション\"changeover_epoch\"は存在しません",
        ] {
            assert!(is_ours("42P01", message), "{message}");
        }
        assert!(!is_ours("42P01", "relation \"listings\" does not exist"));
        assert!(!is_ours("42501", "permission denied for changeover_epoch"));
    }
}
