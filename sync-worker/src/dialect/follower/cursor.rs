//! How far a backfill has come, kept beside what it copied.

use changeover_flags::{Key, Version};
use changeover_shadow::Value;
use futures_util::FutureExt;

use super::SqlFollower;
use crate::dialect::authority::{integer, key_at};
use crate::dialect::session::{DbError, Session, on_session};
use crate::dialect::statement::Statement;
use crate::dialect::tables;
use crate::dialect::versions::base_of;
use crate::store::{Answer, Cursor, StoreError};

impl SqlFollower {
    pub(super) async fn cursors_in(
        &self,
        session: &mut dyn Session,
    ) -> Result<Vec<Cursor>, DbError> {
        let statement = Statement::of(
            self.dialect(),
            &format!(
                "SELECT {}, b.cursor, b.passed, b.done, b.loading, b.part, b.upto FROM ",
                base_of("e.incarnation")
            ),
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

    /// Keeps a cursor: of a part, where that stands at `from`.
    pub(super) fn saving<'a>(
        &'a self,
        cursor: &'a Cursor,
        from: Option<&'a Cursor>,
    ) -> Answer<'a, bool> {
        let saving = on_session!(self, "keeping the backfill's cursor of", |session| {
            async move {
                match from {
                    Some(from) => self.advance_in(session, from, cursor).await,
                    None => self.save_cursor_in(session, cursor).await,
                }
            }
        });
        async move {
            self.keeps(cursor)?;
            saving.await
        }
        .boxed()
    }

    /// Keeps the cursor and answers whether it did, unless one as far or further stands there: a page that
    /// lands late, or of an older revision or base, never sends the sweep back or forward; nor does one
    /// beside a load, or one from before the sweep was divided.
    pub(super) async fn save_cursor_in(
        &self,
        session: &mut dyn Session,
        cursor: &Cursor,
    ) -> Result<bool, DbError> {
        let dialect = self.dialect();
        let (revision, begins) = (self.mapping.shape().revision, cursor.passed == 0);
        if begins {
            self.record_beginning(session, cursor).await?;
        }
        // A sweep that begins takes the place of an older revision's.
        let older = match begins {
            true => format!("revision < {revision} OR "),
            false => String::new(),
        };
        let done = dialect.boolean(cursor.done);
        let statement = Statement::of(dialect, "UPDATE ")
            .table(tables::BACKFILL)
            .sql(" SET \"cursor\" = ")
            .bind(place(cursor.last.as_ref()), "text")
            .sql(", upto = NULL, passed = ")
            .int(keys(cursor.passed))
            .sql(&format!(
                ", done = {done}, revision = {revision} WHERE part = 0 AND ({older}upto IS NULL AND NOT done \
                 AND NOT loading AND revision = {revision} AND passed "
            ))
            // A page without keys may end what another has brought as far.
            .sql(if cursor.done { "<= " } else { "< " })
            .int(keys(cursor.passed))
            .sql(") AND ");
        let statement = self.here(statement, "").sql(" AND");
        let statement = self.at_base(statement, cursor.base);
        Ok(session.execute(statement).await? > 0)
    }

    /// Moves a part of copies.
    pub(super) async fn advance_in(
        &self,
        session: &mut dyn Session,
        from: &Cursor,
        to: &Cursor,
    ) -> Result<bool, DbError> {
        let dialect = self.dialect();
        let moved = Statement::of(dialect, "UPDATE ")
            .table(tables::BACKFILL)
            .sql(" SET \"cursor\" = ")
            .bind(place(to.last.as_ref()), "text")
            .sql(", passed = ")
            .int(keys(to.passed))
            .sql(&format!(", done = {} WHERE ", dialect.boolean(to.done)));
        let advanced = session.execute(self.standing_at(moved, from)).await? > 0;
        // No page of a part tells it, since none keeps a cursor beside its copies.
        self.tell_planner(session, to.passed).await?;
        Ok(advanced)
    }

    /// Makes the row of a sweep. Only one that begins does: where it is gone, so is what was copied.
    async fn record_beginning(
        &self,
        session: &mut dyn Session,
        cursor: &Cursor,
    ) -> Result<(), DbError> {
        let dialect = self.dialect();
        let statement = Statement::of(dialect, "INSERT INTO ")
            .table(tables::BACKFILL)
            .sql(" (entity, place, revision, \"cursor\", passed, done) SELECT ")
            .text(self.entity.as_str())
            .sql(", ")
            .text(self.place.as_str())
            .sql(", ")
            .int(self.mapping.shape().revision)
            .sql(", ")
            .bind(place(cursor.last.as_ref()), "text")
            .sql(&format!(", 0, {} WHERE", dialect.boolean(cursor.done)));
        let statement = self.at_base(statement, cursor.base).sql(&dialect.or_update(
            tables::BACKFILL,
            "entity, place, part",
            &[],
            "",
        ));
        session.execute(statement).await?;
        Ok(())
    }

    /// Divides a sweep. Both ends of each part are known when the first page of it can be read.
    pub(super) async fn divide_in(
        &self,
        session: &mut dyn Session,
        from: &Cursor,
        at: &[Key],
    ) -> Result<bool, DbError> {
        let Some(first) = at.first().filter(|_| !from.is_part()) else {
            return Ok(false);
        };
        if !at.iter().all(|key| self.names(key.as_str())) {
            return Ok(false);
        }
        let dialect = self.dialect();
        self.begin_alone(session).await?;
        let ends = Statement::of(dialect, "UPDATE ")
            .table(tables::BACKFILL)
            .sql(" SET upto = ")
            .bind(place(Some(first)), "text")
            .sql(" WHERE ");
        let divided = session.execute(self.divisible(ends, from)).await? > 0;
        if divided {
            self.forget_parts(session).await?;
        }
        let (loading, no) = (dialect.boolean(from.loading), dialect.boolean(false));
        let ends = at.iter().skip(1).map(Some).chain([None]);
        for (part, (begin, end)) in (1..).zip(at.iter().zip(ends)) {
            if !divided {
                break;
            }
            let insert = Statement::of(dialect, "INSERT INTO ")
                .table(tables::BACKFILL)
                .sql(
                    " (entity, place, part, revision, \"cursor\", upto, passed, done, loading) VALUES (",
                )
                .text(self.entity.as_str())
                .sql(", ")
                .text(self.place.as_str())
                .sql(", ")
                .int(part)
                .sql(", ")
                .int(self.mapping.shape().revision)
                .sql(", ")
                .bind(place(Some(begin)), "text")
                .sql(", ")
                .bind(place(end), "text")
                .sql(&format!(", 0, {no}, {loading})"));
            session.execute(insert).await?;
        }
        session.script("COMMIT").await?;
        Ok(divided)
    }

    /// The condition that a sweep may be divided. A page of a load brings each key once, so the load has to stand
    /// where its parts were reckoned from; copies may come twice, and their part may end before its place.
    fn divisible<'d>(&self, statement: Statement<'d>, from: &Cursor) -> Statement<'d> {
        if from.loading {
            return self.standing_at(statement, from);
        }
        let statement = self
            .here(statement, "")
            .sql(" AND NOT loading AND NOT done AND part = 0 AND upto IS NULL AND revision = ")
            .int(self.mapping.shape().revision)
            .sql(" AND");
        self.at_base(statement, from.base)
    }

    /// Takes the rows of parts away, but for the first one's.
    pub(super) async fn forget_parts(&self, session: &mut dyn Session) -> Result<(), DbError> {
        let parts = Statement::of(self.dialect(), "DELETE FROM ")
            .table(tables::BACKFILL)
            .sql(" WHERE part > 0 AND ");
        session.execute(self.here(parts, "")).await?;
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

/// A count of keys, in SQL.
pub(super) fn keys(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Where a cursor stands, or ends.
pub(super) fn place(key: Option<&Key>) -> Value {
    key.map_or(Value::Null, |key| Value::Text(key.as_str().into()))
}

/// Whether an engine's truth value is true.
pub(super) const fn truth(value: &Value) -> bool {
    matches!(value, Value::Boolean(true) | Value::Integer(1))
}
