//! History without a fence row per key: a load.
//!
//! A load shuts the follower for copies. While it lasts, nothing but its pages writes there, each at
//! the one place where the cursor stands; when it is over, nothing but copies does. So a page can
//! meet neither a newer row nor a deleted one, and a late page finds the cursor elsewhere. What is
//! written meanwhile stays dirty, and is copied when the load is over.
//!
//! A load may be divided into parts, each a row with a cursor and an end. A page is read within its part,
//! and its place is free only while the part has the end that it was read with: each key still has one
//! page that may bring it. The load is over when every part is.
//!
//! The follower's epoch row keeps at which incarnation a load began, and at which it was done. From
//! then on a key without a version of its own has that incarnation's base.

use std::time::Duration;

use changeover_flags::Key;
use changeover_shadow::Value;

use super::SqlFollower;
use super::cursor::place;
use crate::dialect::held_mapping::HeldMapping;
use crate::dialect::session::{DbError, Session};
use crate::dialect::statement::Statement;
use crate::dialect::tables;
use crate::store::Cursor;

/// How long a load that begins or ends waits for copies in flight.
const PATIENCE: Duration = Duration::from_secs(10);

impl SqlFollower {
    /// Opens a transaction that copies and pages in flight end before, and later ones see.
    async fn begin_alone(&self, session: &mut dyn Session) -> Result<(), DbError> {
        let dialect = self.dialect();
        session.script(dialect.begin_write()).await?;
        let (entity, place) = (self.entity.as_str(), self.place.as_str());
        if let Some(lock) = dialect.lock_epoch(entity, place, PATIENCE) {
            session.script(&lock).await?;
        }
        Ok(())
    }

    pub(super) async fn start_loading_in(
        &self,
        session: &mut dyn Session,
    ) -> Result<bool, DbError> {
        self.begin_alone(session).await?;
        let began = match self.can_load(session).await? {
            May::Begin if self.has_strays(session).await? => false,
            May::Begin => {
                self.shut(session).await?;
                true
            }
            May::GoOn => true,
            May::Not => false,
        };
        session.script("COMMIT").await?;
        Ok(began)
    }

    async fn can_load(&self, session: &mut dyn Session) -> Result<May, DbError> {
        let dialect = self.dialect();
        let select = format!("SELECT {}, e.load_began, ", HeldMapping::COLUMNS);
        // What was copied of history has no stamp on the authority that would keep a page from
        // bringing it once more.
        let statement = Statement::of(dialect, &select)
            .sql("(SELECT 1 FROM ")
            .table(tables::KEY)
            .sql(" c WHERE c.version <= e.incarnation * 17592186044416 AND ");
        let statement = self
            .here(statement, "c.")
            .sql(" LIMIT 1), (SELECT 1 FROM ")
            .table(tables::BACKFILL)
            .sql(" b WHERE (b.done OR b.passed > 0) AND ");
        let statement = self
            .here(statement, "b.")
            .sql(" LIMIT 1), (SELECT 1 FROM ")
            .table(tables::BACKFILL)
            .sql(" b WHERE b.loading AND NOT b.done AND ");
        let statement = self
            .here(statement, "b.")
            .sql(" LIMIT 1) FROM ")
            .table(tables::EPOCH)
            .sql(" e WHERE ");
        let rows = session.fetch(self.here(statement, "e.")).await?;
        let Some([revision, mapping, began, copied, swept, loading]) =
            rows.first().map(Vec::as_slice)
        else {
            return Ok(May::Not);
        };
        // Whoever copies with another mapping is told so by the first page.
        let mine = HeldMapping::read(revision, mapping).admits(self.mapping.shape());
        let none = |value: &Value| *value == Value::Null;
        Ok(match mine {
            Ok(()) if !none(loading) => May::GoOn,
            Ok(()) if none(began) && none(copied) && none(swept) => May::Begin,
            _ => May::Not,
        })
    }

    /// Whether the new tables have rows of keys without a version: of an earlier installation, or put
    /// there by hand. A page adds rows, and takes none out.
    async fn has_strays(&self, session: &mut dyn Session) -> Result<bool, DbError> {
        for target in 0..self.targets.len() {
            let strays = self.unfenced_in(session, target, None, 1).await?;
            if strays.is_some_and(|strays| !strays.is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn shut(&self, session: &mut dyn Session) -> Result<(), DbError> {
        let dialect = self.dialect();
        let begun = Statement::of(dialect, "UPDATE ")
            .table(tables::EPOCH)
            .sql(" SET load_began = incarnation WHERE ");
        session.execute(self.here(begun, "")).await?;
        self.forget_parts(session).await?;
        let (yes, no) = (dialect.boolean(true), dialect.boolean(false));
        let cursor = Statement::of(dialect, "INSERT INTO ")
            .table(tables::BACKFILL)
            .sql(" (entity, place, revision, \"cursor\", passed, done, loading) SELECT ")
            .text(self.entity.as_str())
            .sql(", ")
            .text(self.place.as_str())
            .sql(", ")
            .int(self.mapping.shape().revision)
            .sql(&format!(", NULL, 0, {no}, {yes} WHERE true"))
            .sql(&dialect.or_update(
                tables::BACKFILL,
                "entity, place, part",
                &[
                    ("revision", &dialect.incoming("revision")),
                    ("\"cursor\"", "NULL"),
                    ("upto", "NULL"),
                    ("passed", "0"),
                    ("done", no),
                    ("loading", yes),
                ],
                "",
            ));
        session.execute(cursor).await?;
        Ok(())
    }

    /// The condition that a part of the load goes on, stands at `at`, and ends where that does.
    pub(super) fn standing_at<'d>(&self, statement: Statement<'d>, at: &Cursor) -> Statement<'d> {
        let same = self.dialect().is_same();
        let statement = self
            .here(statement, "")
            .sql(" AND loading AND NOT done AND revision = ")
            .int(self.mapping.shape().revision)
            .sql(" AND part = ")
            .int(at.part.into())
            .sql(" AND passed = ")
            .int(keys(at.passed))
            .sql(&format!(" AND \"cursor\" {same} "))
            .bind(place(at.last.as_ref()), "text")
            .sql(&format!(" AND upto {same} "))
            .bind(place(at.upto.as_ref()), "text")
            .sql(" AND");
        self.at_base(statement, at.base)
    }

    pub(super) async fn divide_load_in(
        &self,
        session: &mut dyn Session,
        from: &Cursor,
        at: &[Key],
    ) -> Result<bool, DbError> {
        let Some(first) = at.first().filter(|_| from.part == 0 && from.upto.is_none()) else {
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
        let divided = session.execute(self.standing_at(ends, from)).await? > 0;
        let no = dialect.boolean(false);
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
                .sql(&format!(", 0, {no}, {})", dialect.boolean(true)));
            session.execute(insert).await?;
        }
        session.script("COMMIT").await?;
        Ok(divided)
    }

    pub(super) async fn end_loading_in(
        &self,
        session: &mut dyn Session,
        from: &Cursor,
        ready: bool,
    ) -> Result<bool, DbError> {
        let dialect = self.dialect();
        self.begin_alone(session).await?;
        let done = Statement::of(dialect, "UPDATE ")
            .table(tables::BACKFILL)
            .sql(&format!(" SET done = {} WHERE ", dialect.boolean(true)));
        let ended = session.execute(self.standing_at(done, from)).await? > 0;
        let over = ended && !self.is_loading(session).await?;
        if over && !ready {
            session.script("ROLLBACK").await?;
            return Ok(false);
        }
        if over {
            let loaded = Statement::of(dialect, "UPDATE ")
                .table(tables::EPOCH)
                .sql(" SET loaded = incarnation WHERE ");
            session.execute(self.here(loaded, "")).await?;
        }
        session.script("COMMIT").await?;
        if over {
            let passed = Cursor::together(&self.cursors_in(session).await?).passed;
            self.tell_planner(session, passed).await?;
        }
        Ok(ended)
    }

    /// Whether some part of a load is open.
    async fn is_loading(&self, session: &mut dyn Session) -> Result<bool, DbError> {
        let open = Statement::of(self.dialect(), "SELECT 1 FROM ")
            .table(tables::BACKFILL)
            .sql(" WHERE loading AND NOT done AND ");
        let open = self.here(open, "").sql(" LIMIT 1");
        Ok(!session.fetch(open).await?.is_empty())
    }

    /// Takes the rows of parts away, but for the first one's.
    async fn forget_parts(&self, session: &mut dyn Session) -> Result<(), DbError> {
        let parts = Statement::of(self.dialect(), "DELETE FROM ")
            .table(tables::BACKFILL)
            .sql(" WHERE part > 0 AND ");
        session.execute(self.here(parts, "")).await?;
        Ok(())
    }

    pub(super) async fn give_up_loading_in(
        &self,
        session: &mut dyn Session,
    ) -> Result<(), DbError> {
        let dialect = self.dialect();
        self.begin_alone(session).await?;
        if self.is_loading(session).await? {
            self.forget_parts(session).await?;
            let no = dialect.boolean(false);
            let given_up = Statement::of(dialect, "UPDATE ")
                .table(tables::BACKFILL)
                .sql(&format!(
                    " SET loading = {no}, done = {no}, \"cursor\" = NULL, upto = NULL, passed = 0 WHERE "
                ));
            session.execute(self.here(given_up, "")).await?;
        }
        session.script("COMMIT").await
    }
}

/// Whether a load may begin.
enum May {
    Begin,
    GoOn,
    Not,
}

/// A count of keys, in SQL.
pub(super) fn keys(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
