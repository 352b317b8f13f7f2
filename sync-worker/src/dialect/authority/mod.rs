//! The [`Authority`] in SQL, the same for every engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use changeover_flags::{Entity, Key, Place, Version};
use changeover_shadow::Value;
use futures_util::FutureExt as _;

use super::bulk::Bulk;
use super::catalog::{Column, Table};
use super::session::{Database, DbError, on_session};
use super::statement::Statement;
use super::sums::{RowsOf, Sums};
use super::versions::base_of;
use super::{Dialect, tables};
use crate::mapping::Mapping;
use crate::store::{Answer, Authority, Dirt, Dirty, Hold, HoldKind, Lag, Page, RawPage, Stamped};
use crate::sum::{Span, Sum, Unsummed};

mod apart;
mod orphans;
mod query;
mod raw;
mod read;
mod state;
mod sums;
mod trial;

use query::Query;
pub(in crate::dialect) use query::is_scalar;
pub(crate) use trial::{Trials, Unstamped};

/// The side that takes writes, in SQL.
#[derive(Clone)]
pub struct SqlAuthority {
    database: Database,
    entity: Entity,
    place: Place,
    mapping: Arc<dyn Mapping>,
    queries: Arc<Vec<Query>>,
    key_columns: Arc<Vec<Column>>,
    root: String,
    /// Where keys are looked for that no page shows.
    orphans: Arc<Vec<RowsOf>>,
    sums: Arc<Sums>,
    /// How rows are moved that nobody looks into.
    moved: Option<Arc<raw::Moved>>,
}

impl std::fmt::Debug for SqlAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlAuthority")
            .field("entity", &self.entity)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl SqlAuthority {
    /// The authority of `entity` at `place`, reading with the mapping's queries. `root` is its
    /// root table as the catalog describes it; `types` are the types of each query's answers.
    #[must_use]
    pub fn new(
        database: Database,
        entity: Entity,
        place: Place,
        mapping: Arc<dyn Mapping>,
        root: &Table,
        types: Vec<Vec<String>>,
    ) -> SqlAuthority {
        let shape = mapping.shape();
        let queries = Query::all(database.dialect(), shape, types);
        let key_columns: Vec<Column> = shape
            .root
            .key
            .iter()
            .filter_map(|name| root.column(name))
            .cloned()
            .collect();
        SqlAuthority {
            root: shape.root.table.clone(),
            moved: raw::moved(&*mapping).map(Arc::new),
            orphans: Arc::new(orphans::sources(database.dialect(), shape, &key_columns)),
            database,
            entity,
            place,
            queries: Arc::new(queries),
            key_columns: Arc::new(key_columns),
            mapping,
            sums: Arc::default(),
        }
    }

    /// The same, whose rows are summed so.
    pub(crate) fn summing(self, sums: &Arc<Sums>) -> SqlAuthority {
        SqlAuthority {
            sums: Arc::clone(sums),
            ..self
        }
    }

    /// The same, through connections of their own: see [`Database::apart`].
    #[must_use]
    pub fn apart(&self, connections: usize) -> SqlAuthority {
        self.on(self.database.apart(connections))
    }

    /// The same, through the connections of `database`.
    pub(crate) fn on(&self, database: Database) -> SqlAuthority {
        SqlAuthority {
            database,
            ..self.clone()
        }
    }

    fn dialect(&self) -> &dyn Dialect {
        self.database.dialect()
    }

    /// `WHERE` text that names this entity and place.
    fn here<'d>(&self, statement: Statement<'d>, alias: &str) -> Statement<'d> {
        statement
            .sql(&format!("{alias}entity = "))
            .text(self.entity.as_str())
            .sql(&format!(" AND {alias}place = "))
            .text(self.place.as_str())
    }

    fn base<'d>(&self, statement: Statement<'d>) -> Statement<'d> {
        let statement = statement
            .sql(&format!("(SELECT {} FROM ", base_of("e.incarnation")))
            .table(tables::EPOCH)
            .sql(" e WHERE ");
        self.here(statement, "e.").sql(")")
    }
}

impl Authority for SqlAuthority {
    fn canonical(&self, key: &Key) -> Key {
        let Some(components) = key.components(self.key_columns.len()) else {
            return key.clone();
        };
        let dialect = self.dialect();
        Key::composite(
            components
                .iter()
                .zip(self.key_columns.iter())
                .map(|(component, column)| dialect.canonical_component(component, column)),
        )
    }

    fn names(&self, key: &Key) -> bool {
        let fits = |(component, column): (&String, &Column)| {
            self.dialect().key_is_typed(component, column)
        };
        let components = key.components(self.key_columns.len());
        components
            .is_some_and(|components| components.iter().zip(self.key_columns.iter()).all(fits))
    }

    fn read<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Stamped>> {
        on_session!(self, "reading keys of", |session| self
            .read_snapshot(session, keys))
    }

    fn page<'a>(&'a self, span: &'a Span, limit: u32) -> Answer<'a, Page> {
        on_session!(self, "reading a page of", |session| self
            .page_in(session, span, limit))
    }

    fn unsummed(&self) -> Option<Vec<Unsummed>> {
        self.sums.unsummed().map(<[_]>::to_vec)
    }

    fn most_summed(&self) -> u32 {
        let own = self.dialect().sums().most_keys();
        own.min(self.sums.most_keys())
    }

    fn keys<'a>(&'a self, span: &'a Span, limit: u32) -> Answer<'a, Vec<Key>> {
        on_session!(self, "listing keys of", |session| self
            .root_keys(session, span, limit))
    }

    fn cut<'a>(&'a self, span: &'a Span, limit: u32, parts: u32) -> Answer<'a, (u64, Vec<Key>)> {
        on_session!(self, "counting keys of", |session| self.cut_in(
            session,
            span,
            (limit, parts)
        ))
    }

    fn orphans<'a>(&'a self, span: &'a Span, limit: u32) -> Answer<'a, Vec<Key>> {
        on_session!(self, "listing rows without their key of", |session| self
            .orphans_in(session, span, limit))
    }

    fn sum<'a>(&'a self, span: &'a Span, salt: u64) -> Answer<'a, Option<Sum>> {
        Box::pin(async move {
            let mut sums = self.sums(std::slice::from_ref(span), salt).await?;
            Ok(sums.pop().flatten())
        })
    }

    fn sums<'a>(&'a self, spans: &'a [Span], salt: u64) -> Answer<'a, Vec<Option<Sum>>> {
        on_session!(self, "summing rows of", |session| self
            .sums_in(session, spans, salt))
    }

    fn raw_format(&self) -> Option<&'static str> {
        self.bulk().map(Bulk::format)
    }

    fn raw_page<'a>(
        &'a self,
        span: &'a Span,
        limit: u32,
        base: Version,
    ) -> Answer<'a, Option<RawPage>> {
        let read = async move {
            let mut lease = self.database.session().await?;
            let page = self.raw_page_in(lease.session(), span, limit, base).await?;
            if page.is_some() {
                lease.give_back();
            }
            Ok::<_, DbError>(page)
        };
        let store = |error: DbError| {
            let doing = format!(
                "reading a page of {} on the {} side",
                self.entity, self.place
            );
            error.at(self.dialect().place_name(), &doing)
        };
        async move { read.await.map_err(store) }.boxed()
    }

    fn rootless<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Key>> {
        on_session!(self, "looking for rows of", |session| self
            .rootless_in(session, keys))
    }

    fn dirty<'a>(&'a self, after: Option<&'a Key>, limit: u32) -> Answer<'a, Vec<Dirty>> {
        on_session!(self, "listing dirty keys of", |session| self
            .dirty_in(session, after, limit))
    }

    fn dirty_among<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, BTreeMap<Key, Dirt>> {
        on_session!(self, "asking for dirty keys of", |session| self
            .dirty_among_in(session, keys))
    }

    fn stamped_keys<'a>(&'a self, after: Option<&'a Key>, limit: u32) -> Answer<'a, Vec<Key>> {
        on_session!(self, "listing stamped keys of", |session| self
            .stamped_keys_in(session, after, limit))
    }

    fn mark_synced<'a>(&'a self, marks: &'a [(Key, Version)]) -> Answer<'a, ()> {
        on_session!(self, "marking keys of", |session| self
            .mark_synced_in(session, marks))
    }

    fn hold<'a>(&'a self, key: &'a Key, version: Version, hold: &'a Hold) -> Answer<'a, ()> {
        on_session!(self, "recording why a key is held of", |session| self
            .hold_in(session, key, version, hold))
    }

    fn touch<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, ()> {
        on_session!(self, "touching keys of", |session| self
            .touch_in(session, keys))
    }

    fn versions<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Version>> {
        on_session!(self, "asking for versions of", |session| self
            .versions_in(session, keys))
    }

    fn lag(&self) -> Answer<'_, Lag> {
        on_session!(self, "counting dirty keys of", |session| self
            .lag_in(session))
    }

    fn estimate(&self) -> Answer<'_, u64> {
        on_session!(self, "counting rows of", |session| self
            .estimate_in(session))
    }
}

/// A condition: the key stands after this one.
pub(in crate::dialect) fn after_key<'d>(
    statement: Statement<'d>,
    after: Option<&Key>,
) -> Statement<'d> {
    match after {
        Some(key) => statement.sql(" AND \"key\" > ").text(key.as_str()),
        None => statement,
    }
}

fn dirty(row: &[Value]) -> Option<Dirty> {
    let hold = match row.get(2) {
        Some(Value::Text(state)) if state == HoldKind::Waiting.as_str() => Some(HoldKind::Waiting),
        Some(Value::Text(state)) if state == HoldKind::Blocked.as_str() => Some(HoldKind::Blocked),
        _ => None,
    };
    let reason = match row.get(3) {
        Some(Value::Text(reason)) => reason.clone(),
        _ => String::new(),
    };
    Some(Dirty {
        key: key_at(row, 0)?,
        version: Version(integer(row.get(1)?)),
        hold: hold.map(|kind| Hold { kind, reason }),
    })
}

pub(in crate::dialect) fn key_at(row: &[Value], index: usize) -> Option<Key> {
    match row.get(index) {
        Some(Value::Text(text)) => Some(Key::new(text)),
        _ => None,
    }
}

pub(in crate::dialect) fn integer(value: &Value) -> i64 {
    match value {
        Value::Integer(number) => *number,
        _ => 0,
    }
}

pub(in crate::dialect) fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}
