//! History without a fence row per key: a load.
//!
//! A load shuts the follower for copies. While it lasts, nothing but its pages writes there, each at
//! the one place where the cursor stands; when it is over, nothing but copies does. So a page can
//! meet neither a newer row nor a deleted one, and a late page finds the cursor elsewhere. What is
//! written meanwhile stays dirty, and is copied when the load is over.
//!
//! The follower's epoch row keeps at which incarnation a load began, and at which it was done. From
//! then on a key without a version of its own has that incarnation's base.

use std::time::Duration;

use changeover_flags::Key;
use changeover_shadow::Value;

use super::apply::Held;
use super::resolve::{Copy, Resolved};
use super::write::How;
use super::{Refusal, SqlFollower};
use crate::dialect::bulk::still_has;
use crate::dialect::held_mapping::HeldMapping;
use crate::dialect::session::{DbError, ErrorClass, Session};
use crate::dialect::statement::Statement;
use crate::dialect::tables;
use crate::store::{Applied, Cursor, Hold, HoldKind, Loaded, RawPage, Stamped, StoreError};

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
            .sql("), (SELECT 1 FROM ")
            .table(tables::BACKFILL)
            .sql(" b WHERE b.loading AND NOT b.done AND ");
        let statement = self
            .here(statement, "b.")
            .sql(") FROM ")
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
                "entity, place",
                &[
                    ("revision", &dialect.incoming("revision")),
                    ("\"cursor\"", "NULL"),
                    ("passed", "0"),
                    ("done", no),
                    ("loading", yes),
                ],
                "",
            ));
        session.execute(cursor).await?;
        Ok(())
    }

    /// The condition that the load goes on, and stands at `at`.
    fn standing_at<'d>(&self, statement: Statement<'d>, at: &Cursor) -> Statement<'d> {
        let last = at.last.as_ref().map(|key| Value::Text(key.as_str().into()));
        let statement = self
            .here(statement, "")
            .sql(" AND loading AND NOT done AND revision = ")
            .int(self.mapping.shape().revision)
            .sql(" AND passed = ")
            .int(keys(at.passed))
            .sql(&format!(" AND \"cursor\" {} ", self.dialect().is_same()))
            .bind(last.unwrap_or_default(), "text")
            .sql(" AND");
        self.at_base(statement, at.base)
    }

    pub(super) async fn end_loading_in(
        &self,
        session: &mut dyn Session,
        from: &Cursor,
    ) -> Result<bool, DbError> {
        let dialect = self.dialect();
        self.begin_alone(session).await?;
        let done = Statement::of(dialect, "UPDATE ")
            .table(tables::BACKFILL)
            .sql(&format!(" SET done = {} WHERE ", dialect.boolean(true)));
        let ended = session.execute(self.standing_at(done, from)).await? > 0;
        if ended {
            let loaded = Statement::of(dialect, "UPDATE ")
                .table(tables::EPOCH)
                .sql(" SET loaded = incarnation WHERE ");
            session.execute(self.here(loaded, "")).await?;
        }
        session.script("COMMIT").await?;
        if ended {
            self.tell_planner(session, from.passed).await?;
        }
        Ok(ended)
    }

    pub(super) async fn give_up_loading_in(
        &self,
        session: &mut dyn Session,
    ) -> Result<(), DbError> {
        let dialect = self.dialect();
        self.begin_alone(session).await?;
        let given_up = Statement::of(dialect, "UPDATE ")
            .table(tables::BACKFILL)
            .sql(&format!(
                " SET loading = {}, \"cursor\" = NULL, passed = 0 WHERE loading AND NOT done AND ",
                dialect.boolean(false)
            ));
        session.execute(self.here(given_up, "")).await?;
        session.script("COMMIT").await
    }

    /// Loads a page. What is refused is named where it stands alone.
    pub(super) async fn load_page(
        &self,
        images: &[Stamped],
        from: &Cursor,
        to: &Cursor,
    ) -> Result<Loaded, StoreError> {
        self.load_rows(Rows::Images(images), from, to).await
    }

    /// Loads a page as the authority's engine wrote it.
    pub(super) async fn load_raw_page(
        &self,
        page: &RawPage,
        from: &Cursor,
        to: &Cursor,
    ) -> Result<Loaded, StoreError> {
        self.load_rows(Rows::Raw(page), from, to).await
    }

    async fn load_rows(
        &self,
        rows: Rows<'_>,
        from: &Cursor,
        to: &Cursor,
    ) -> Result<Loaded, StoreError> {
        let store = |error: DbError| match Refusal::from(error) {
            Refusal::Store(error) => error,
            Refusal::Data(error) => error.at("the follower", "loading a page"),
        };
        let mut lease = self.database.session().await.map_err(store)?;
        let loaded = match self.load_in(lease.session(), rows, from, to).await {
            Ok(loaded) => loaded,
            Err(Refusal::Store(error)) => return Err(error),
            Err(Refusal::Data(error)) => {
                if lease.session().script("ROLLBACK").await.is_ok() {
                    lease.give_back();
                }
                let named = match rows {
                    Rows::Images([one]) => {
                        let summary = error.summary.clone();
                        let hold = match self.refused(std::slice::from_ref(one), error).await? {
                            Applied::Held(hold) => hold,
                            // Another key is about to give it away, or never will: copies find out.
                            _ => Hold {
                                kind: HoldKind::Waiting,
                                reason: summary,
                            },
                        };
                        vec![(one.key.clone(), hold)]
                    }
                    _ => Vec::new(),
                };
                return Ok(Loaded::Refused(named));
            }
        };
        // To move rows asks nothing of the new tables: they are looked at once, at the end.
        let told = match rows {
            Rows::Images(_) => self.tell_planner(lease.session(), to.passed).await,
            Rows::Raw(_) => Ok(()),
        };
        if loaded != Loaded::Yes || told.is_ok() {
            lease.give_back();
        }
        Ok(loaded)
    }

    async fn load_in(
        &self,
        session: &mut dyn Session,
        rows: Rows<'_>,
        from: &Cursor,
        to: &Cursor,
    ) -> Result<Loaded, Refusal> {
        if !self.begin_page(session, from, to).await? {
            session.script("ROLLBACK").await?;
            return Ok(Loaded::Elsewhere);
        }
        let refused = match rows {
            Rows::Images(images) => self.insert(session, images, from).await?,
            Rows::Raw(page) if self.alters(page) => {
                session.script("ROLLBACK").await?;
                return Ok(Loaded::Refused(Vec::new()));
            }
            Rows::Raw(page) => match self.copy_in(session, page).await {
                Ok(true) => Vec::new(),
                Ok(false) => {
                    session.script("ROLLBACK").await?;
                    return Ok(Loaded::Refused(Vec::new()));
                }
                // Images tell what it is.
                Err(error) if error.class == ErrorClass::Other => {
                    tracing::debug!(%error, "a page is not taken as it is");
                    session.script("ROLLBACK").await?;
                    return Ok(Loaded::Refused(Vec::new()));
                }
                Err(error) => return Err(error.into()),
            },
        };
        if !refused.is_empty() {
            session.script("ROLLBACK").await?;
            return Ok(Loaded::Refused(refused));
        }
        if let Some(sql) = self.dialect().end_copy() {
            session.script(sql).await?;
        }
        session.script("COMMIT").await?;
        Ok(Loaded::Yes)
    }

    /// Inserts images; answers those that cannot be.
    async fn insert(
        &self,
        session: &mut dyn Session,
        images: &[Stamped],
        from: &Cursor,
    ) -> Result<Vec<(Key, Hold)>, Refusal> {
        let copies: Vec<Copy<'_>> = images
            .iter()
            .filter_map(|copy| Some((copy.key.as_str(), copy.image.as_ref().ok()?)))
            .collect();
        let mut resolved = Resolved::default();
        self.resolve_lookups(session, &copies, &mut resolved)
            .await?;
        let outcomes = images.iter().map(|copy| {
            let outcome = self.before_fence(copy, from.base, &resolved);
            (copy.key.clone(), outcome)
        });
        let refused: Vec<_> = outcomes
            .filter_map(|(key, outcome)| match outcome {
                Applied::Held(hold) => Some((key, hold)),
                _ => None,
            })
            .collect();
        if refused.is_empty() && !copies.is_empty() {
            self.write(session, &copies, How::Insert, &mut resolved)
                .await?;
        }
        Ok(refused)
    }

    /// Whether some column would hold another value than the page has.
    fn alters(&self, page: &RawPage) -> bool {
        let mut targets = self.targets.iter().zip(&page.targets);
        self.dialect().bulk().is_some_and(|bulk| {
            targets.any(|(target, page)| !page.typed && bulk.alters(&page.rows, &target.columns))
        })
    }

    /// Writes a page; answers whether the columns are of the types that it was written for. An integer
    /// would be read as a float of the same bytes.
    async fn copy_in(&self, session: &mut dyn Session, page: &RawPage) -> Result<bool, DbError> {
        let dialect = self.dialect();
        let Some(bulk) = dialect.bulk() else {
            return Ok(false);
        };
        session.script(bulk.many_rows()).await?;
        for (target, page) in self.targets.iter().zip(&page.targets) {
            let columns: Vec<String> = target
                .columns
                .iter()
                .map(|column| dialect.quote(&column.name))
                .collect();
            let (table, typed) = (&target.target.table, page.typed);
            let sql = bulk.copy_in(&dialect.table(table), &columns, typed);
            session.copy_in(&sql, &page.rows).await?;
            // Asked now: who has written rows keeps others from changing their types.
            if typed && !still_has(dialect, session, table, target.columns.iter()).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Opens a page's transaction and takes its place; answers whether the place was free.
    async fn begin_page(
        &self,
        session: &mut dyn Session,
        from: &Cursor,
        to: &Cursor,
    ) -> Result<bool, Refusal> {
        let dialect = self.dialect();
        let mut begin = dialect.begin_copy(self.entity.as_str(), self.place.as_str());
        // A crash that takes this page back takes the cursor's step with it. The load's end is not
        // committed like this, and is on disk no sooner than every page before it.
        if let Some(bulk) = dialect.bulk() {
            begin = format!("{begin}; {}", bulk.commit_behind());
        }
        session.script(&begin).await?;
        let Held { base, loading } = self.check_revision(session).await?;
        if !loading || base != from.base {
            return Ok(false);
        }
        let last = to.last.as_ref().map(|key| Value::Text(key.as_str().into()));
        let passed = Statement::of(dialect, "UPDATE ")
            .table(tables::BACKFILL)
            .sql(" SET \"cursor\" = ")
            .bind(last.unwrap_or_default(), "text")
            .sql(", passed = ")
            .int(keys(to.passed))
            .sql(" WHERE ");
        Ok(session.execute(self.standing_at(passed, from)).await? > 0)
    }
}

/// What is loaded.
#[derive(Clone, Copy)]
enum Rows<'a> {
    Images(&'a [Stamped]),
    Raw(&'a RawPage),
}

/// Whether a load may begin.
enum May {
    Begin,
    GoOn,
    Not,
}

fn keys(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
