//! How far a backfill has come, kept beside what it copied.

use changeover_flags::{Key, Version};
use changeover_shadow::Value;

use super::SqlFollower;
use crate::dialect::authority::{integer, key_at};
use crate::dialect::session::{DbError, Session};
use crate::dialect::statement::Statement;
use crate::dialect::tables;
use crate::store::{Cursor, StoreError};

impl SqlFollower {
    pub(super) async fn cursors_in(
        &self,
        session: &mut dyn Session,
    ) -> Result<Vec<Cursor>, DbError> {
        let statement = Statement::of(
            self.dialect(),
            "SELECT e.incarnation * 17592186044416, b.cursor, b.passed, b.done, b.loading, b.part, b.upto \
             FROM ",
        )
        .table(tables::EPOCH)
        .sql(" e LEFT JOIN ")
        .table(tables::BACKFILL)
        .sql(" b ON b.entity = e.entity AND b.place = e.place AND b.revision = ")
        .int(self.mapping.shape().revision)
        .sql(" WHERE ");
        let statement = self.here(statement, "e.").sql(" ORDER BY b.part");
        let rows = session.fetch(statement).await?;
        let cursors = rows.iter().map(|row| Cursor {
            base: Version(row.first().map_or(0, integer)),
            last: key_at(row, 1),
            passed: row.get(2).map_or(0, integer).unsigned_abs(),
            done: row.get(3).is_some_and(truth),
            loading: row.get(4).is_some_and(truth),
            part: row.get(5).map_or(0, integer).try_into().unwrap_or(u32::MAX),
            upto: key_at(row, 6),
        });
        let cursors: Vec<Cursor> = cursors.collect();
        Ok(match cursors.is_empty() {
            true => vec![Cursor::default()],
            false => cursors,
        })
    }

    /// Keeps the cursor, unless a later one stands there: a page that lands late, or of an older
    /// revision or base, never sends the sweep back or forward; nor does one beside a load.
    pub(super) async fn save_cursor_in(
        &self,
        session: &mut dyn Session,
        cursor: &Cursor,
    ) -> Result<(), DbError> {
        let dialect = self.dialect();
        let last = place(cursor.last.as_ref());
        let (revision, passed) = (
            self.mapping.shape().revision,
            i64::try_from(cursor.passed).unwrap_or(i64::MAX),
        );
        let done = dialect.boolean(cursor.done);
        if cursor.passed == 0 {
            // Only a sweep that begins makes the row: where it is gone, so is what was copied.
            let statement = Statement::of(dialect, "INSERT INTO ")
                .table(tables::BACKFILL)
                .sql(" (entity, place, revision, \"cursor\", passed, done) SELECT ")
                .text(self.entity.as_str())
                .sql(", ")
                .text(self.place.as_str())
                .sql(", ")
                .int(revision)
                .sql(", ")
                .bind(last.clone(), "text")
                .sql(&format!(", 0, {done} WHERE"));
            let statement = self.at_base(statement, cursor.base).sql(&dialect.or_update(
                tables::BACKFILL,
                "entity, place, part",
                &[],
                "",
            ));
            session.execute(statement).await?;
        }
        // A sweep that begins takes the place of an older revision's.
        let older = match cursor.passed {
            0 => format!("revision < {revision} OR "),
            _ => String::new(),
        };
        let statement = Statement::of(dialect, "UPDATE ")
            .table(tables::BACKFILL)
            .sql(" SET \"cursor\" = ")
            .bind(last, "text")
            .sql(", passed = ")
            .int(passed)
            .sql(&format!(
                ", done = {done}, revision = {revision} WHERE part = 0 AND ({older}NOT done AND NOT loading \
                 AND revision = {revision} AND passed <= "
            ))
            .int(passed)
            .sql(") AND ");
        let statement = self.here(statement, "").sql(" AND");
        session
            .execute(self.at_base(statement, cursor.base))
            .await?;
        Ok(())
    }

    /// How far a sweep has come is kept here, too.
    pub(super) fn keeps(&self, cursor: &Cursor) -> Result<(), StoreError> {
        match &cursor.last {
            Some(key) if !self.names(key.as_str()) => Err(StoreError::Refused {
                store: self.dialect().place_name().to_owned(),
                doing: format!("keeping how far a backfill of {} has come", self.entity),
                advice: "the key that it has come to has no text here (it holds a NUL): change the row, or begin with pages of another size".into(),
                source: None,
            }),
            _ => Ok(()),
        }
    }

    /// A condition: the follower is still at this base.
    pub(super) fn at_base<'d>(&self, statement: Statement<'d>, base: Version) -> Statement<'d> {
        let statement = statement
            .sql(" EXISTS (SELECT 1 FROM ")
            .table(tables::EPOCH)
            .sql(" e WHERE e.incarnation = ")
            .int(base.0 >> Version::COUNTER_BITS)
            .sql(" AND ");
        self.here(statement, "e.").sql(")")
    }
}

/// Where a cursor stands, or ends.
pub(super) fn place(key: Option<&Key>) -> Value {
    key.map_or(Value::Null, |key| Value::Text(key.as_str().into()))
}

/// Whether an engine's truth value is true.
pub(super) const fn truth(value: &Value) -> bool {
    matches!(value, Value::Boolean(true) | Value::Integer(1))
}
