//! A MariaDB connection: numbers and times cross as the server stores them, everything else as text.

use std::fmt::Write as _;

use changeover_shadow::Value;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::mysql::{MySqlArguments, MySqlConnectOptions, MySqlConnection, MySqlRow, MySqlTypeInfo};
use sqlx::{
    Arguments, AssertSqlSafe, Column as _, ConnectOptions, Either, Executor, Row, SqlSafeStr,
    Statement as _, TypeInfo, ValueRef,
};

use super::errors::error;
use super::rows;
use crate::dialect::session::{DbError, ErrorClass, Session};
use crate::dialect::statement::{Arg, Statement};

/// What the worker's statements, and the triggers that it installs, are written in: quotes and
/// backslashes as in the SQL standard, an `UPDATE` whose assignments all see the row as it was, and no
/// value that is bent to fit, or taken for a wish of a new id.
pub(super) const SQL_MODE: &str = "ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,SIMULTANEOUS_ASSIGNMENT,STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_VALUE_ON_ZERO";

/// One connection.
#[derive(Debug)]
pub(super) struct MariadbSession {
    connection: MySqlConnection,
    /// The longest message that the server takes: it hangs up on a longer one, as if the network had failed.
    most_bytes: usize,
}

impl MariadbSession {
    /// A new connection.
    pub(super) async fn open(options: &MySqlConnectOptions) -> Result<MariadbSession, DbError> {
        let connection = options.connect().await.map_err(error)?;
        let mut session = MariadbSession {
            connection,
            most_bytes: usize::MAX,
        };
        session
            .script(&format!(
                "SET SESSION sql_mode = '{SQL_MODE}', time_zone = '+00:00', \
                 tx_isolation = 'READ-COMMITTED', innodb_lock_wait_timeout = 1, lock_wait_timeout = 2, \
                 idle_transaction_timeout = 60, max_statement_time = 0, group_concat_max_len = 1048576, sql_safe_updates = 0"
            ))
            .await?;
        let asked = sqlx::raw_sql("SELECT CAST(@@max_allowed_packet AS CHAR)");
        let row = session.connection.fetch_one(asked).await.map_err(error)?;
        let most: String = row.try_get(0).map_err(error)?;
        session.most_bytes = most.parse().unwrap_or(usize::MAX);
        Ok(session)
    }
}

impl MariadbSession {
    /// Refuses what the server would hang up on. Fewer rows may do.
    fn takes(&self, sql: &str, args: &[Arg]) -> Result<(), DbError> {
        if sql.len().saturating_add(rows::size(args)) <= self.most_bytes {
            return Ok(());
        }
        Err(DbError {
            class: ErrorClass::Data,
            summary: format!(
                "more than the server takes at once: raise its max_allowed_packet ({} bytes)",
                self.most_bytes
            ),
            source: sqlx::Error::RowNotFound,
        })
    }
}

impl Session for MariadbSession {
    fn execute<'a>(&'a mut self, statement: Statement<'a>) -> BoxFuture<'a, Result<u64, DbError>> {
        let (sql, args, reusable) = statement.into_parts();
        async move {
            self.takes(&sql, &args)?;
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
            self.takes(&sql, &args)?;
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
                let why = "it has parameters, such as ?: write values as literals";
                return Err(DbError::odd(why));
            }
            Ok(statement
                .columns()
                .iter()
                .map(|column| {
                    (
                        column.name().to_owned(),
                        kind_of(column.type_info()).to_ascii_lowercase(),
                    )
                })
                .collect())
        }
        .boxed()
    }
}

fn arguments(args: Vec<Arg>) -> Result<MySqlArguments, DbError> {
    let mut bound = MySqlArguments::default();
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

fn add(bound: &mut MySqlArguments, value: Value) -> Result<(), DbError> {
    match value {
        Value::Null => bound.add(None::<String>),
        Value::Boolean(value) => bound.add(i64::from(value)),
        Value::Integer(value) => bound.add(value),
        Value::Float(value) => bound.add(value),
        Value::Decimal(value) | Value::Text(value) => bound.add(value),
        Value::Bytes(value) => bound.add(value),
        Value::List(_) | Value::Record(_) => Err("a list or record".into()),
    }
    .map_err(|cause| error(sqlx::Error::Encode(cause)))
}

fn values(row: &MySqlRow) -> Result<Vec<Value>, DbError> {
    (0..row.len()).map(|index| value(row, index)).collect()
}

/// One value, from its form in the binary protocol
/// (<https://mariadb.com/kb/en/resultset-row/#binary-resultset-row>).
fn value(row: &MySqlRow, index: usize) -> Result<Value, DbError> {
    let raw = row.try_get_raw(index).map_err(error)?;
    let info = raw.type_info().into_owned();
    let kind = kind_of(&info);
    // Not `raw.is_null()`: the driver takes a zero date for null.
    let Ok(bytes) = <&[u8] as sqlx::Decode<'_, sqlx::MySql>>::decode(raw) else {
        return Ok(Value::Null);
    };
    read(kind, bytes).ok_or_else(|| {
        DbError::odd(&format!(
            "the server sent a {kind} in a form that is not known"
        ))
    })
}

/// The type's name. To the driver text that is compared byte by byte is binary.
fn kind_of(info: &MySqlTypeInfo) -> &str {
    let is_text = <str as sqlx::Type<sqlx::MySql>>::compatible(info);
    match (info.name(), is_text) {
        // Whatever its sign.
        ("BOOLEAN", _) if <u8 as sqlx::Type<sqlx::MySql>>::compatible(info) => "TINYINT UNSIGNED",
        ("BOOLEAN", _) => "TINYINT",
        ("BINARY", true) => "CHAR",
        ("VARBINARY", true) => "VARCHAR",
        ("TINYBLOB", true) => "TINYTEXT",
        ("BLOB", true) => "TEXT",
        ("MEDIUMBLOB", true) => "MEDIUMTEXT",
        ("LONGBLOB", true) => "LONGTEXT",
        (name, _) => name,
    }
}

fn read(kind: &str, bytes: &[u8]) -> Option<Value> {
    let text = || String::from_utf8(bytes.to_vec()).ok();
    Some(match kind {
        "TINYINT" | "SMALLINT" | "INT" | "MEDIUMINT" | "BIGINT" => Value::Integer(signed(bytes)?),
        "TINYINT UNSIGNED" | "SMALLINT UNSIGNED" | "INT UNSIGNED" | "MEDIUMINT UNSIGNED"
        | "BIGINT UNSIGNED" | "YEAR" => {
            let number = little(bytes)?;
            match i64::try_from(number) {
                Ok(number) => Value::Integer(number),
                Err(_) => Value::Decimal(number.to_string()),
            }
        }
        "BIT" => {
            let number = bytes
                .iter()
                .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
            match i64::try_from(number) {
                Ok(number) => Value::Integer(number),
                Err(_) => Value::Decimal(number.to_string()),
            }
        }
        // It stands for the shortest decimal that reads as it.
        "FLOAT" => {
            let number = f32::from_le_bytes(bytes.try_into().ok()?);
            Value::Float(number.to_string().parse().ok()?)
        }
        "DOUBLE" => Value::Float(f64::from_le_bytes(bytes.try_into().ok()?)),
        "DECIMAL" => Value::Decimal(text()?),
        "DATE" => Value::Text(date(bytes)?),
        "DATETIME" => Value::Text(moment(bytes)?),
        // The session's time zone is UTC.
        "TIMESTAMP" => Value::Text(format!("{}+00", moment(bytes)?)),
        "TIME" => Value::Text(time(bytes)?),
        "BINARY" | "VARBINARY" | "TINYBLOB" | "BLOB" | "MEDIUMBLOB" | "LONGBLOB" | "GEOMETRY" => {
            Value::Bytes(bytes.to_vec())
        }
        _ => Value::Text(text()?),
    })
}

fn little(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || bytes.len() > 8 {
        return None;
    }
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)),
    )
}

fn signed(bytes: &[u8]) -> Option<i64> {
    let unused = u32::try_from(8_usize.checked_sub(bytes.len())?).ok()? * 8;
    // Moved to the top and back, so that the sign is spread.
    Some((little(bytes)? << unused).cast_signed() >> unused)
}

/// A length, then year (2 bytes), month, day; the length is 0 for zero dates.
fn date(bytes: &[u8]) -> Option<String> {
    match *bytes {
        [0] | [] => Some("0000-00-00".to_owned()),
        [_, low, high, month, day, ..] => Some(format!(
            "{:04}-{month:02}-{day:02}",
            u16::from_le_bytes([low, high])
        )),
        _ => None,
    }
}

/// A date, then hour, minute, second, then microseconds (4 bytes), what is zero at the end left out.
fn moment(bytes: &[u8]) -> Option<String> {
    let mut text = date(bytes)?;
    match *bytes.get(5..).unwrap_or_default() {
        [] => text.push_str(" 00:00:00"),
        [hour, minute, second, ref rest @ ..] => {
            let _ = write!(text, " {hour:02}:{minute:02}:{second:02}");
            fraction(&mut text, rest)?;
        }
        _ => return None,
    }
    Some(text)
}

/// A length, whether it is negative, days (4 bytes), hour, minute, second, then microseconds.
fn time(bytes: &[u8]) -> Option<String> {
    match *bytes {
        [0] | [] => Some("00:00:00".to_owned()),
        [_, negative, a, b, c, d, hour, minute, second, ref rest @ ..] => {
            let hours = u32::from_le_bytes([a, b, c, d]).checked_mul(24)? + u32::from(hour);
            let sign = if negative == 1 { "-" } else { "" };
            let mut text = format!("{sign}{hours:02}:{minute:02}:{second:02}");
            fraction(&mut text, rest)?;
            Some(text)
        }
        _ => None,
    }
}

fn fraction(text: &mut String, bytes: &[u8]) -> Option<()> {
    match *bytes {
        [] => {}
        [a, b, c, d] => {
            let _ = write!(text, ".{:06}", u32::from_le_bytes([a, b, c, d]));
            let kept = text.trim_end_matches('0').trim_end_matches('.').len();
            text.truncate(kept);
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_sign_and_all_their_digits() {
        assert_eq!(read("TINYINT", &[0xff]), Some(Value::Integer(-1)));
        assert_eq!(read("SMALLINT", &[0, 0x80]), Some(Value::Integer(-32_768)));
        assert_eq!(read("BIGINT", &[0xff; 8]), Some(Value::Integer(-1)));
        assert_eq!(
            read("BIGINT UNSIGNED", &[0xff; 8]),
            Some(Value::Decimal(u64::MAX.to_string()))
        );
        assert_eq!(read("BIT", &[1, 0]), Some(Value::Integer(256)));
        assert_eq!(read("BIGINT", &[0; 9]), None);
    }

    #[test]
    fn times_are_read_with_every_digit() {
        let of = |kind: &str, bytes: &[u8]| match read(kind, bytes) {
            Some(Value::Text(text)) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(of("DATE", &[4, 0xe4, 0x07, 2, 29]), "2020-02-29");
        assert_eq!(of("DATE", &[0]), "0000-00-00");
        assert_eq!(
            of("DATETIME", &[4, 0xe4, 0x07, 2, 29]),
            "2020-02-29 00:00:00"
        );
        assert_eq!(
            of("TIMESTAMP", &[11, 0xe4, 0x07, 2, 29, 1, 2, 3, 1, 0, 0, 0]),
            "2020-02-29 01:02:03.000001+00"
        );
        assert_eq!(
            of("TIME", &[12, 1, 34, 0, 0, 0, 22, 59, 59, 0x20, 0xa1, 7, 0]),
            "-838:59:59.5"
        );
        assert_eq!(of("TIME", &[8, 0, 0, 0, 0, 0, 7, 0, 0]), "07:00:00");
    }
}
