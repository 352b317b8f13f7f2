//! What the server's and the driver's errors mean.

use sqlx::mysql::MySqlDatabaseError;

use super::{COPY_ON_AUTHORITY, WRITE_ON_FOLLOWER};
use crate::dialect::session::{DbError, ErrorClass};

/// What a driver's error means. Codes: mariadb.com/kb/en/mariadb-error-codes.
pub(super) fn error(source: sqlx::Error) -> DbError {
    use sqlx::Error as E;
    let (class, summary) = match &source {
        E::Database(db) => {
            let number = db
                .try_downcast_ref::<MySqlDatabaseError>()
                .map_or(0, MySqlDatabaseError::number);
            let state = db.code().unwrap_or_default().into_owned();
            let (class, what) = class_of(number, &state, db.message());
            let detail = match shows(number) && !is_theirs(number, &state) {
                true => format!(": {}", db.message()),
                false => String::new(),
            };
            (class, format!("{what} (error {number}{detail})"))
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
        E::Encode(_) => (
            ErrorClass::Data,
            "a list or record has no form in MariaDB".to_owned(),
        ),
        _ => (ErrorClass::Other, "the driver refused".to_owned()),
    };
    DbError {
        class,
        summary,
        source,
    }
}

const FULL: (ErrorClass, &str) = (ErrorClass::Connection, "the disk is full: make room on it");

/// A trigger or procedure of the application's, whose `SIGNAL` may have any number and quote any value.
fn is_theirs(number: u16, state: &str) -> bool {
    let ours = matches!(number, COPY_ON_AUTHORITY | WRITE_ON_FOLLOWER);
    number == 1644 || (state == "45000" && !ours)
}

/// What an error means, and what is said of it. Of the message, which may quote values, it looks for names and
/// numbers alone.
fn class_of(number: u16, state: &str, message: &str) -> (ErrorClass, &'static str) {
    if is_theirs(number, state) {
        return (
            ErrorClass::Data,
            "a trigger or procedure of the database refuses the row",
        );
    }
    match number {
        1062 | 1586 | 1859 => (ErrorClass::Unique, "a unique value is taken"),
        1216 | 1217 | 1451 | 1452 => (ErrorClass::ForeignKey, "a referenced row is not there"),
        1048 | 1364 => (ErrorClass::Data, "a column that must not be null is null"),
        4025 => (ErrorClass::Data, "a check constraint refuses the row"),
        1205 | 1213 | 1020 | 1317 | 1412 | 1615 | 1969 => {
            (ErrorClass::Busy, "lost against other work")
        }
        1040 | 1203 | 1226 => (ErrorClass::Busy, "the server takes no more connections"),
        1365 => (ErrorClass::Data, "a division by zero"),
        1264 | 1690 | 1292 | 1411 | 1367 => {
            (ErrorClass::Data, "a value is out of its type's range")
        }
        1242 => (ErrorClass::Data, "more than one row where one is expected"),
        1139 | 1265 | 1366 | 1406 | 3140 | 4035..=4044 => {
            (ErrorClass::Data, "the column's type refuses the value")
        }
        1118 => (ErrorClass::Data, "the row is too long for the table"),
        COPY_ON_AUTHORITY | WRITE_ON_FOLLOWER => (ErrorClass::Other, "a guard refused"),
        1021 | 1114 => FULL,
        // What could not be written says why with the number of the operating system, 28 for a disk without
        // room: `Errcode: 28 "No space left on device"`.
        3 | 20 | 1026 | 1030 if message.contains(" 28 ") => FULL,
        1146 if message.contains(".changeover_") => {
            (ErrorClass::NotInstalled, "the database refused")
        }
        1053 | 1152..=1161 | 1927 | 4031 => (ErrorClass::Connection, "the connection failed"),
        // Connections that break off while they are made count against their host.
        1129 => (
            ErrorClass::Connection,
            "the server blocks this host after too many broken connections: FLUSH HOSTS",
        ),
        1045 | 1698 => (
            ErrorClass::Other,
            "the user or its password is refused: correct the URL's user and password",
        ),
        1049 => (
            ErrorClass::Other,
            "there is no such database: correct the URL, or create it",
        ),
        1044 | 1142 | 1143 | 1227 | 1370 | 1419 => (
            ErrorClass::Rights,
            "the user lacks a right: grant it, or connect as one that has it",
        ),
        1290 | 1792 | 1836 => (
            ErrorClass::Other,
            "the server takes no writes: connect to the primary",
        ),
        _ if state.starts_with("08") => (ErrorClass::Connection, "the connection failed"),
        _ if state.starts_with("22") || state.starts_with("23") => {
            (ErrorClass::Data, "the column's type refuses the value")
        }
        _ => (ErrorClass::Other, "the database refused"),
    }
}

/// Whether a message names objects alone, and no value of a row.
fn shows(number: u16) -> bool {
    matches!(
        number,
        1044 | 1045
            | 1048
            | 1049
            | 1054
            | 1059
            | 1064
            | 1072
            | 1142
            | 1143
            | 1146
            | 1227
            | 1267
            | 1305
            | 1364
            | 1370
            | 1419
            | 1698
            | 4025
            | 1235
            | 1356
            | 1442
            | 1415
            | COPY_ON_AUTHORITY
            | WRITE_ON_FOLLOWER
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(number: u16, state: &str) -> ErrorClass {
        class_of(number, state, "").0
    }

    #[test]
    fn a_server_that_goes_down_or_keeps_away_is_tried_again() {
        for (number, state) in [
            (1053, "08S01"),
            (1927, "70100"),
            (1129, "HY000"),
            (1184, "08S01"),
        ] {
            assert_eq!(class(number, state), ErrorClass::Connection, "{number}");
        }
        for number in [1040, 1205, 1213] {
            assert_eq!(class(number, "HY000"), ErrorClass::Busy, "{number}");
        }
    }

    #[test]
    fn what_the_application_signals_is_of_the_row_under_any_number() {
        for number in [1048, 1142, 1205, 1213, 1644, 4025] {
            assert_eq!(class(number, "45000"), ErrorClass::Data, "{number}");
            assert!(is_theirs(number, "45000"), "{number}");
        }
        assert_eq!(class(WRITE_ON_FOLLOWER, "45000"), ErrorClass::Other);
        assert_eq!(class(1142, "42000"), ErrorClass::Rights);
    }

    #[test]
    fn a_write_without_room_is_a_full_disk() {
        let errcode = "(Errcode: 28 \"No space left on device\")";
        let messages = [
            (3, format!("Error writing file './x/y.MAI' {errcode}")),
            (20, format!("Disk got full writing 'x' {errcode}")),
            (1021, format!("Disk full (/tmp/#sql); waiting {errcode}")),
            (1026, format!("Error writing file 'x' {errcode}")),
            (
                1030,
                "Got error 28 \"No space left on device\" from storage engine InnoDB".to_owned(),
            ),
            (1114, "The table 'x' is full".to_owned()),
        ];
        for (number, message) in &messages {
            assert_eq!(class_of(*number, "HY000", message), FULL, "{message}");
        }
        let others = [
            (
                1030,
                "Got error 5 \"Input/output error\" from storage engine",
            ),
            (
                1026,
                "Error writing file 'x' (Errcode: 5 \"Input/output error\")",
            ),
            (1062, "Duplicate entry ' 28 ' for key 'PRIMARY'"),
        ];
        for (number, message) in others {
            assert_ne!(class_of(number, "HY000", message), FULL, "{message}");
        }
    }

    #[test]
    fn a_table_of_the_product_that_is_not_there_means_not_installed() {
        let absent = |table: &str| format!("Table 'shop.{table}' doesn't exist");
        let of = |table| class_of(1146, "42S02", &absent(table)).0;
        assert_eq!(of("changeover_key"), ErrorClass::NotInstalled);
        assert_eq!(of("listings"), ErrorClass::Other);
    }
}
