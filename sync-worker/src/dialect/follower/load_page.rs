//! Pages of a load: what of history they bring, and the place that they take.

use changeover_flags::Key;

use super::apply::Held;
use super::cursor::{keys, place};
use super::resolve::{Copy, Resolved};
use super::{Refusal, SqlFollower};
use crate::dialect::bulk::still_has;
use crate::dialect::session::{DbError, ErrorClass, Session};
use crate::dialect::statement::Statement;
use crate::dialect::tables;
use crate::store::{Applied, Cursor, Hold, HoldKind, Loaded, RawPage, Stamped, StoreError};
impl SqlFollower {
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
                // Not kept for a moment longer: to name the key takes another one.
                match lease.session().script("ROLLBACK").await {
                    Ok(()) => lease.give_back(),
                    Err(_) => drop(lease),
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
            Rows::Images(images) => self.load_images(session, images, from).await?,
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
    async fn load_images(
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
            self.insert_images(session, &copies, &mut resolved).await?;
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
        let passed = Statement::of(dialect, "UPDATE ")
            .table(tables::BACKFILL)
            .sql(" SET \"cursor\" = ")
            .bind(place(to.last.as_ref()), "text")
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
