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

use changeover_shadow::Value;

use super::SqlFollower;
use super::cursor::{keys, place};
use crate::dialect::held_mapping::HeldMapping;
use crate::dialect::session::{DbError, Session};
use crate::dialect::statement::Statement;
use crate::dialect::tables;
use crate::dialect::versions::base_of;
use crate::store::Cursor;

/// How long a load that begins or ends waits for copies in flight.
const PATIENCE: Duration = Duration::from_secs(10);

impl SqlFollower {
    /// Opens a transaction that copies and pages in flight end before, and later ones see.
    pub(super) async fn begin_alone(&self, session: &mut dyn Session) -> Result<(), DbError> {
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
            .sql(&format!(
                " c WHERE c.version <= {} AND ",
                base_of("e.incarnation")
            ));
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

    /// The condition that a part goes on as it did, stands at `at`, and ends where that does.
    pub(super) fn standing_at<'d>(&self, statement: Statement<'d>, at: &Cursor) -> Statement<'d> {
        let same = self.dialect().is_same();
        let loading = if at.loading { "loading" } else { "NOT loading" };
        let statement = self
            .here(statement, "")
            .sql(&format!(" AND {loading} AND NOT done AND revision = "))
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
