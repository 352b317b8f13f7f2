//! Consistency checks on PostgreSQL.

use std::time::Duration;

use changeover_shadow::Value;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::Postgres;
use crate::dialect::Dialect;
use crate::dialect::catalog::{Column, Table};
use crate::dialect::check::Checks;
use crate::dialect::server::Server as _;
use crate::dialect::session::{DbError, ErrorClass, Session};
use crate::dialect::statement::Statement;

impl Checks for Postgres {
    fn connect_reading(&self, limit: Duration) -> BoxFuture<'_, Result<Box<dyn Session>, DbError>> {
        async move {
            let mut session = self.connect().await?;
            session.script(&self.statement_limit(limit)).await?;
            session.script(self.begin_snapshot()).await?;
            Ok(session)
        }
        .boxed()
    }

    /// As a subquery, nothing but a query is understood. The line breaks end a comment.
    fn first_rows(&self, sql: &str, rows: usize) -> String {
        format!(
            "SELECT c.changeover_first::text FROM (\n{sql}\n) AS c(changeover_first) LIMIT {rows}"
        )
    }

    fn referenced(&self, name: &str) -> String {
        name.to_owned()
    }

    fn sequence_behind<'a>(
        &'a self,
        session: &'a mut dyn Session,
        table: &'a Table,
        column: &'a Column,
    ) -> BoxFuture<'a, Result<Vec<Vec<Value>>, DbError>> {
        async move {
            let (sequence, rises) = sequence_of(self, session, table, column).await?;
            let (end, taken) = if rises { ("max", ">=") } else { ("min", "<=") };
            let statement = Statement::of(
                self,
                &format!(
                    "SELECT 'the next id is ' || s.next || ', and ' || t.id || ' is taken' FROM (SELECT CASE WHEN q.is_called \
                       THEN q.last_value + (SELECT seqincrement FROM pg_sequence WHERE seqrelid = q.tableoid) \
                       ELSE q.last_value END AS next FROM {sequence} q) s, (SELECT {end}({}) AS id FROM ",
                    self.quote(&column.name)
                ),
            )
            .table(&table.name)
            .sql(&format!(") t WHERE t.id {taken} s.next"));
            session.fetch(statement).await
        }
        .boxed()
    }
}

/// The sequence of an identity column, or of a default, as SQL; and whether it counts upwards.
async fn sequence_of(
    dialect: &Postgres,
    session: &mut dyn Session,
    table: &Table,
    column: &Column,
) -> Result<(String, bool), DbError> {
    let statement = Statement::of(
        dialect,
        "SELECT q.seqrelid::regclass::text, q.seqincrement > 0 FROM pg_attribute a, pg_sequence q \
         WHERE NOT a.attisdropped AND (EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass \
             AND d.objid = q.seqrelid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid \
             AND d.refobjsubid = a.attnum AND d.deptype = 'i') \
           OR EXISTS (SELECT 1 FROM pg_attrdef f JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid \
             WHERE f.adrelid = a.attrelid AND f.adnum = a.attnum \
             AND d.refclassid = 'pg_class'::regclass AND d.refobjid = q.seqrelid)) \
         AND a.attname = ",
    )
    .text(&column.name)
    .sql(" AND a.attrelid = to_regclass(")
    .text(&dialect.table(&table.name))
    .sql(")");
    let rows = session.fetch(statement).await?;
    match rows.first().map(Vec::as_slice) {
        Some([Value::Text(sequence), rises]) => {
            Ok((sequence.clone(), *rises == Value::Boolean(true)))
        }
        _ => {
            let why = "the catalog names no sequence for the column: leave the check out";
            Err(DbError {
                class: ErrorClass::Other,
                summary: why.into(),
                source: sqlx::Error::Protocol(why.into()),
            })
        }
    }
}
