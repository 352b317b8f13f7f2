//! The [`Follower`] in SQL, the same for every engine.
//!
//! A copy is one transaction: mark the session as a copier, check the mapping revision, resolve
//! lookups, raise the fence, allocate ids, add shared rows, delete what the image no longer has,
//! write what it has, keep the cursor, commit. The fence comes before any row: where it is refused
//! nothing else happens.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use changeover_flags::{Entity, Key, Place, Version};
use futures_util::FutureExt;

use super::authority::{integer, key_at};
use super::bulk::Bulk;
use super::catalog::{Column, Table};
use super::session::{Database, DbError, Session, on_session};
use super::statement::Statement;
use super::sums::Sums;
use super::versions::base_of;
use super::{Dialect, tables};
use crate::mapping::{Lookup, Mapping};
use crate::store::{
    Answer, Applied, Cursor, Follower, Loaded, Observed, RawPage, Stamped, StoreError,
};
use crate::sum::{Span, Sum};

mod apply;
mod counts;
mod cursor;
mod holders;
mod insert;
mod keys;
mod load;
mod load_page;
mod observe;
mod parts;
mod resolve;
mod stranded;
mod sums;
mod target;
mod unfenced;
mod upsert;
mod write;

use target::TargetTable;

/// The side that takes copies, in SQL.
#[derive(Clone)]
pub struct SqlFollower {
    database: Database,
    entity: Entity,
    place: Place,
    mapping: Arc<dyn Mapping>,
    targets: Arc<Vec<TargetTable>>,
    lookups: Arc<Vec<LookupTable>>,
    /// How many keys the backfill had passed when the planner was last told.
    told: Arc<AtomicU64>,
    /// Whether what it applies is rolled back.
    rehearses: bool,
    sums: Arc<Sums>,
}

impl std::fmt::Debug for SqlFollower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlFollower")
            .field("entity", &self.entity)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// A lookup with the catalog's view of it.
#[derive(Debug)]
struct LookupTable {
    lookup: Lookup,
    by: Column,
    value: Column,
}

/// Why one try to apply copies ended.
enum Refusal {
    /// The data was refused: by which class of constraint.
    Data(DbError),
    /// The store did not do it.
    Store(StoreError),
}

impl SqlFollower {
    /// The follower of `entity` at `place`. `tables` are the tables that the mapping names, as the
    /// catalog describes them; `None` when one of them, or a column, is missing.
    #[must_use]
    pub fn new(
        database: Database,
        entity: Entity,
        place: Place,
        mapping: Arc<dyn Mapping>,
        tables: &[Table],
    ) -> Option<SqlFollower> {
        let find = |name: &str| tables.iter().find(|table| table.name == name);
        let shape = mapping.shape();
        let targets = shape
            .targets
            .iter()
            .map(|target| TargetTable::new(target, find(&target.table)?))
            .collect::<Option<Vec<_>>>()?;
        let lookups = shape
            .lookups
            .iter()
            .map(|lookup| {
                let table = find(&lookup.table)?;
                Some(LookupTable {
                    lookup: lookup.clone(),
                    by: table.column(&lookup.by)?.clone(),
                    value: table.column(&lookup.value)?.clone(),
                })
            })
            .collect::<Option<Vec<_>>>()?;
        Some(SqlFollower {
            database,
            entity,
            place,
            targets: Arc::new(targets),
            lookups: Arc::new(lookups),
            mapping,
            told: Arc::default(),
            rehearses: false,
            sums: Arc::default(),
        })
    }

    /// The same, whose rows are summed so.
    pub(crate) fn summing(self, sums: &Arc<Sums>) -> SqlFollower {
        SqlFollower {
            sums: Arc::clone(sums),
            ..self
        }
    }

    /// The same, through connections of their own: see [`Database::apart`].
    #[must_use]
    pub fn apart(&self, connections: usize) -> SqlFollower {
        self.on(self.database.apart(connections))
    }

    /// The same, but what it applies is rolled back: its answers say what would have happened, so
    /// nothing may be marked by them.
    pub(crate) fn rehearsing(&self) -> SqlFollower {
        SqlFollower {
            rehearses: true,
            ..self.clone()
        }
    }

    fn dialect(&self) -> &dyn Dialect {
        self.database.dialect()
    }

    fn not_installed(&self, doing: &str) -> StoreError {
        StoreError::NotInstalled {
            store: self.dialect().place_name().to_owned(),
            doing: format!("{doing} {}", self.entity),
        }
    }

    fn here<'d>(&self, statement: Statement<'d>, alias: &str) -> Statement<'d> {
        statement
            .sql(&format!("{alias}entity = "))
            .text(self.entity.as_str())
            .sql(&format!(" AND {alias}place = "))
            .text(self.place.as_str())
    }

    /// Tells the planner each time a backfill has doubled the tables: until the first time it takes
    /// them for empty, and plans as if walking through them were free.
    async fn tell_planner(&self, session: &mut dyn Session, passed: u64) -> Result<(), DbError> {
        let told = self.told.load(Ordering::Relaxed);
        let targets = self.targets.iter().map(|target| &*target.target.table);
        let targets: Vec<&str> = targets.collect();
        let Some(sql) = self.dialect().refresh_statistics(&targets) else {
            return Ok(());
        };
        if passed < told.saturating_mul(2).max(500) {
            return Ok(());
        }
        self.told.store(passed, Ordering::Relaxed);
        session.script(&sql).await
    }

    /// The versions of `keys`. Once history was loaded, a key without a version of its own has the
    /// base's at which that was.
    async fn versions_in(
        &self,
        session: &mut dyn Session,
        keys: &[Key],
    ) -> Result<Vec<Option<Version>>, DbError> {
        let statement = Statement::of(self.dialect(), "SELECT c.key, c.version FROM ")
            .table(tables::KEY)
            .sql(" c WHERE ");
        let statement = self
            .here(statement, "c.")
            .sql(" AND ")
            .key_in(
                "c.key",
                keys.iter().map(Key::as_str).filter(|key| self.names(key)),
            )
            .sql(&format!(
                " UNION ALL SELECT NULL, {} FROM ",
                base_of("e.loaded")
            ))
            .table(tables::EPOCH)
            .sql(" e WHERE e.loaded IS NOT NULL AND ");
        let rows = session.fetch(self.here(statement, "e.")).await?;
        let (mut found, mut loaded) = (HashMap::new(), None);
        for row in &rows {
            let version = row.get(1).map(|version| Version(integer(version)));
            match (key_at(row, 0), version) {
                (Some(key), Some(version)) => drop(found.insert(key, version)),
                (None, version) => loaded = version,
                _ => {}
            }
        }
        let version = |key| found.get(key).copied().or(loaded);
        Ok(keys.iter().map(version).collect())
    }

    /// Whether this engine has a text for the key. No copy of another key was ever here.
    fn names(&self, key: &str) -> bool {
        let text = Column {
            sql_type: "text".into(),
            ..Column::default()
        };
        self.dialect().key_fits(key, &text)
    }
}

impl Follower for SqlFollower {
    fn apply<'a>(
        &'a self,
        copies: &'a [Stamped],
        cursor: Option<&'a Cursor>,
    ) -> Answer<'a, Vec<Applied>> {
        async move {
            cursor.map_or(Ok(()), |cursor| self.keeps(cursor))?;
            self.apply_parts(copies, cursor).await
        }
        .boxed()
    }

    fn apply_group<'a>(&'a self, copies: &'a [Stamped]) -> Answer<'a, Vec<Applied>> {
        self.group(copies).boxed()
    }

    fn observe<'a>(&'a self, copies: &'a [Stamped]) -> Answer<'a, Vec<Observed>> {
        let observing = on_session!(self, "reading copies of", |session| self
            .observe_in(session, copies));
        async move {
            let (held, observed) = observing.await?;
            self.admit(held, "reading copies of")?;
            Ok(observed)
        }
        .boxed()
    }

    fn held_keys<'a>(&'a self, after: Option<&'a Key>, limit: u32) -> Answer<'a, Vec<Key>> {
        on_session!(self, "listing held keys of", |session| self
            .held_keys_in(session, after, limit))
    }

    fn moved_keys<'a>(&'a self, after: Option<&'a Key>, limit: u32) -> Answer<'a, Vec<Key>> {
        on_session!(self, "listing held keys of", |session| self
            .moved_keys_in(session, after, limit))
    }

    fn keys<'a>(&'a self, span: &'a Span, limit: u32) -> Answer<'a, Vec<Key>> {
        on_session!(self, "listing rows of", |session| self
            .keys_in(session, span, limit))
    }

    fn sum<'a>(&'a self, span: &'a Span, salt: u64) -> Answer<'a, Option<Sum>> {
        async move {
            let mut sums = self.sum_spans(std::slice::from_ref(span), salt).await?;
            Ok(sums.pop().flatten())
        }
        .boxed()
    }

    fn sums<'a>(&'a self, spans: &'a [Span], salt: u64) -> Answer<'a, Vec<Option<Sum>>> {
        self.sum_spans(spans, salt).boxed()
    }

    fn unfenced<'a>(
        &'a self,
        target: usize,
        after: Option<&'a Key>,
        limit: u32,
    ) -> Answer<'a, Option<Vec<Key>>> {
        on_session!(self, "listing keys of rows of", |session| self
            .unfenced_in(session, target, after, limit))
    }

    fn stranded<'a>(
        &'a self,
        target: usize,
        after: Option<&'a Key>,
        limit: u32,
    ) -> Answer<'a, Option<Vec<Key>>> {
        on_session!(self, "listing keys of rows of", |session| self
            .stranded_in(session, target, after, limit))
    }

    fn versions<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Option<Version>>> {
        on_session!(self, "asking for versions of", |session| self
            .versions_in(session, keys))
    }

    fn cursor(&self) -> Answer<'_, Cursor> {
        async { Ok(Cursor::together(&self.cursors().await?)) }.boxed()
    }

    fn cursors(&self) -> Answer<'_, Vec<Cursor>> {
        on_session!(self, "reading the backfill's cursor of", |session| self
            .cursors_in(session))
    }

    fn save_cursor<'a>(&'a self, cursor: &'a Cursor) -> Answer<'a, bool> {
        self.saving(cursor, None)
    }

    fn advance<'a>(&'a self, from: &'a Cursor, to: &'a Cursor) -> Answer<'a, bool> {
        self.saving(to, Some(from))
    }

    fn divide<'a>(&'a self, from: &'a Cursor, at: &'a [Key]) -> Answer<'a, bool> {
        on_session!(self, "dividing the backfill of", |session| self
            .divide_in(session, from, at))
    }

    fn start_loading(&self) -> Answer<'_, bool> {
        on_session!(self, "beginning to load", |session| self
            .start_loading_in(session))
    }

    fn load<'a>(
        &'a self,
        images: &'a [Stamped],
        from: &'a Cursor,
        to: &'a Cursor,
    ) -> Answer<'a, Loaded> {
        async move {
            self.keeps(to)?;
            self.load_page(images, from, to).await
        }
        .boxed()
    }

    fn raw_format(&self) -> Option<&'static str> {
        self.dialect().bulk().map(Bulk::format)
    }

    fn load_raw<'a>(
        &'a self,
        page: &'a RawPage,
        from: &'a Cursor,
        to: &'a Cursor,
    ) -> Answer<'a, Loaded> {
        self.load_raw_page(page, from, to).boxed()
    }

    fn end_loading<'a>(&'a self, from: &'a Cursor, ready: bool) -> Answer<'a, bool> {
        on_session!(self, "ending the load of", |session| self
            .end_loading_in(session, from, ready))
    }

    fn give_up_loading(&self) -> Answer<'_, ()> {
        on_session!(self, "giving up the load of", |session| self
            .give_up_loading_in(session))
    }
}
