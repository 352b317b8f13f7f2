//! What the contract's checks ask of SQLite.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::affinity::Affinity;
use super::{BUSY_TIMEOUT, Sqlite};
use crate::dialect::catalog::Column;
use crate::dialect::probe::{Probe, texts};
use crate::dialect::session::{DbError, ErrorClass, Session};

impl Probe for Sqlite {
    fn tables<'a>(
        &'a self,
        session: &'a mut dyn Session,
    ) -> BoxFuture<'a, Result<Vec<String>, DbError>> {
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'sqlite_*' \
             AND name NOT GLOB 'changeover_*' AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name";
        texts(self, session, sql).boxed()
    }

    fn row_id(&self) -> (&'static str, &'static str) {
        ("rowid", "INTEGER")
    }

    fn other_values(&self, current: &str, column: &Column) -> Vec<String> {
        match Affinity::of(&column.sql_type) {
            Affinity::Integer | Affinity::Numeric | Affinity::Real => {
                vec![
                    format!("coalesce({current}, 0) + 1"),
                    // Values that differ stay different, whatever order rows are changed in.
                    format!("-1 - coalesce({current}, 0)"),
                ]
            }
            Affinity::Text | Affinity::Blob => vec![
                format!("coalesce({current}, '') || '~'"),
                format!("'~' || substr(coalesce({current}, ''), 2)"),
            ],
        }
    }

    fn open_transactions<'a>(
        &'a self,
        session: &'a mut dyn Session,
    ) -> BoxFuture<'a, Result<Vec<String>, DbError>> {
        async move {
            session.script("PRAGMA busy_timeout = 0").await?;
            let free = session.script("BEGIN IMMEDIATE; ROLLBACK").await;
            let wait = format!("PRAGMA busy_timeout = {}", BUSY_TIMEOUT.as_millis());
            session.script(&wait).await?;
            match free {
                Ok(()) => Ok(Vec::new()),
                Err(error) if error.class == ErrorClass::Busy => Ok(vec![
                    "a connection that holds the file's one write lock".to_owned(),
                ]),
                Err(error) => Err(error),
            }
        }
        .boxed()
    }
}
