//! What the contract's checks ask of MariaDB.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{Mariadb, transactions};
use crate::dialect::catalog::Column;
use crate::dialect::probe::{Probe, texts};
use crate::dialect::session::{DbError, Session};

impl Probe for Mariadb {
    fn tables<'a>(
        &'a self,
        session: &'a mut dyn Session,
    ) -> BoxFuture<'a, Result<Vec<String>, DbError>> {
        let sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = database() \
             AND table_type = 'BASE TABLE' AND table_name NOT LIKE 'changeover|_%' ESCAPE '|' ORDER BY 1";
        texts(self, session, sql).boxed()
    }

    fn row_id(&self) -> (&'static str, &'static str) {
        ("_rowid", "bigint")
    }

    fn other_values(&self, current: &str, column: &Column) -> Vec<String> {
        match column.sql_type.trim_end_matches(" unsigned") {
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "decimal" | "float"
            | "double" => {
                vec![
                    format!("coalesce({current}, 0) + 1"),
                    // Values that differ stay different, whatever order rows are changed in.
                    format!("-1 - coalesce({current}, 0)"),
                ]
            }
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => vec![
                format!("coalesce({current}, '') || '~'"),
                // Of the same length, for a column that is full.
                format!("'~' || substr(coalesce({current}, ''), 2)"),
            ],
            "date" | "datetime" | "timestamp" => {
                vec![format!(
                    "coalesce({current}, '2000-01-01') + INTERVAL 1 DAY"
                )]
            }
            "time" => vec![format!("addtime(coalesce({current}, '12:00'), '01:00')")],
            "uuid" => vec!["'c0c0c0c0-0000-4000-8000-000000000001'".to_owned()],
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => {
                vec![format!("concat(coalesce({current}, ''), x'01')")]
            }
            _ => Vec::new(),
        }
    }

    fn open_transactions<'a>(
        &'a self,
        _session: &'a mut dyn Session,
    ) -> BoxFuture<'a, Result<Vec<String>, DbError>> {
        transactions::in_database(self).boxed()
    }
}
