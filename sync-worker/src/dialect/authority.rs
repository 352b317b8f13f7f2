//! The [`Authority`] in SQL, the same for every engine.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use changeover_flags::{Entity, Key, Place, Version};
use changeover_shadow::Value;

use super::catalog::{Column, Table};
use super::session::{Database, DbError, Session, on_session};
use super::statement::{RowColumn, Statement};
use super::{Dialect, tables};
use crate::image::Image;
use crate::mapping::{Mapping, SourceRow, SourceRows};
use crate::store::{
    Answer, Authority, Dirty, Hold, HoldKind, Lag, Page, Stamped,
};

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
}

impl std::fmt::Debug for SqlAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlAuthority")
            .field("entity", &self.entity)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// One of the mapping's queries with the names and types of its answers.
#[derive(Debug)]
struct Query {
    sql_select: String,
    sql_where: String,
    names: Arc<[String]>,
    types: Vec<String>,
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
        let dialect = database.dialect();
        let queries = shape
            .queries
            .iter()
            .zip(types)
            .map(|(query, types)| {
                let select: Vec<String> =
                    query.select.iter().map(|(_, e)| format!(", {}", dialect.exact(e))).collect();
                let mut matches: Vec<String> = query
                    .key
                    .iter()
                    .enumerate()
                    .map(|(index, e)| format!("({e}) = changeover_keys.c{index}"))
                    .collect();
                matches.extend(query.filter.iter().map(|filter| format!("({filter})")));
                Query {
                    sql_select: format!("SELECT changeover_keys.key{} FROM ", select.concat()),
                    sql_where: format!(" CROSS JOIN {} WHERE {}", query.from, matches.join(" AND ")),
                    names: query.select.iter().map(|(name, _)| name.clone()).collect(),
                    types,
                }
            })
            .collect();
        let key_columns =
            shape.root.key.iter().filter_map(|name| root.column(name)).cloned().collect();
        SqlAuthority {
            root: shape.root.table.clone(),
            database,
            entity,
            place,
            queries: Arc::new(queries),
            key_columns: Arc::new(key_columns),
            mapping,
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
        let statement = statement.sql("(SELECT e.incarnation << 44 FROM ").table(tables::EPOCH).sql(" e WHERE ");
        self.here(statement, "e.").sql(")")
    }

    /// Keys with their components, as a derived table `changeover_keys(key, c0, …)`. Keys whose
    /// text is not of this key's form are left out: no row can have them.
    fn bound_keys<'d>(&self, statement: Statement<'d>, keys: &[Key]) -> Statement<'d> {
        let dialect = self.dialect();
        let names: Vec<String> = (0..self.key_columns.len()).map(|i| format!("c{i}")).collect();
        let mut columns = vec![RowColumn::new("key", "text")];
        columns.extend(
            names.iter().zip(self.key_columns.iter()).map(|(n, c)| RowColumn::new(n, &c.sql_type)),
        );
        let rows: Vec<Vec<Value>> = keys
            .iter()
            .filter_map(|key| {
                let components = key.components(self.key_columns.len())?;
                let mut row = vec![Value::Text(key.as_str().to_owned())];
                for (component, column) in components.iter().zip(self.key_columns.iter()) {
                    row.push(dialect.key_value(component, column));
                }
                Some(row)
            })
            .collect();
        statement.rows("changeover_keys", &columns, &rows)
    }

    /// Reads versions and images of `keys` within the session's snapshot.
    async fn read_in(
        &self,
        session: &mut dyn Session,
        keys: &[Key],
    ) -> Result<Vec<Stamped>, DbError> {
        let versions = self.versions_in(session, keys).await?;
        let images = self.images_in(session, keys).await?;
        Ok(keys
            .iter()
            .zip(versions)
            .zip(images)
            .map(|((key, version), image)| Stamped { key: key.clone(), version, image })
            .collect())
    }

    /// Reads images of `keys` within the session's snapshot, in the order asked.
    async fn images_in(
        &self,
        session: &mut dyn Session,
        keys: &[Key],
    ) -> Result<Vec<Result<Image, String>>, DbError> {
        let mut rows: BTreeMap<&str, SourceRows> = keys
            .iter()
            .map(|key| {
                (key.as_str(), SourceRows { queries: vec![Vec::new(); self.queries.len()] })
            })
            .collect();
        for (index, query) in self.queries.iter().enumerate() {
            let statement = Statement::of(self.dialect(), &query.sql_select);
            let statement = self.bound_keys(statement, keys).sql(&query.sql_where);
            for row in session.fetch(statement).await? {
                let mut values = row.into_iter();
                let Some(Value::Text(key)) = values.next() else { continue };
                let values = values
                    .zip(&query.types)
                    .map(|(value, sql_type)| self.dialect().decode(value, sql_type))
                    .collect();
                if let Some(list) =
                    rows.get_mut(key.as_str()).and_then(|rows| rows.queries.get_mut(index))
                {
                    list.push(SourceRow::new(Arc::clone(&query.names), values));
                }
            }
        }
        Ok(keys.iter().map(|key| self.image(key, rows.get(key.as_str()))).collect())
    }

    /// The mapping's image; a panic in it is its error.
    fn image(&self, key: &Key, rows: Option<&SourceRows>) -> Result<Image, String> {
        let nothing = SourceRows::default();
        let rows = rows.unwrap_or(&nothing);
        match catch_unwind(AssertUnwindSafe(|| self.mapping.image(key, rows))) {
            Ok(Ok(image)) if image.targets.len() == self.mapping.shape().targets.len() => Ok(image),
            Ok(Ok(_)) => Err("the mapping's image has not one list per target".into()),
            Ok(Err(error)) => Err(error.reason),
            Err(_) => Err("the mapping panicked".into()),
        }
    }

    async fn versions_in(
        &self,
        session: &mut dyn Session,
        keys: &[Key],
    ) -> Result<Vec<Version>, DbError> {
        let statement = Statement::of(self.dialect(), "SELECT r.key, ");
        let statement = self.base(statement).sql(", c.version FROM ").keys("r", keys);
        let statement = statement.sql(" LEFT JOIN ").table(tables::KEY).sql(" c ON c.key = r.key AND ");
        let statement = self.here(statement, "c.");
        let mut found = HashMap::new();
        for row in session.fetch(statement).await? {
            if let [Value::Text(key), base, version] = row.as_slice() {
                found.insert(key.clone(), integer(version).max(integer(base)));
            }
        }
        Ok(keys
            .iter()
            .map(|key| Version(found.get(key.as_str()).copied().unwrap_or_default()))
            .collect())
    }

    async fn stamped_keys_in(
        &self,
        session: &mut dyn Session,
        after: Option<&Key>,
        limit: u32,
    ) -> Result<Vec<Key>, DbError> {
        let statement = Statement::of(self.dialect(), "SELECT key FROM ").table(tables::KEY).sql(" WHERE ");
        let statement =
            after_key(self.here(statement, ""), after).sql(" ORDER BY key LIMIT ").int(limit.into());
        Ok(session.fetch(statement).await?.iter().filter_map(|row| key_at(row, 0)).collect())
    }

    async fn read_snapshot(&self, session: &mut dyn Session, keys: &[Key]) -> Result<Vec<Stamped>, DbError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        session.script(self.dialect().begin_snapshot()).await?;
        let stamped = self.read_in(session, keys).await?;
        session.script("COMMIT").await?;
        Ok(stamped)
    }

    async fn page_in(
        &self,
        session: &mut dyn Session,
        after: Option<&Key>,
        limit: u32,
    ) -> Result<Page, DbError> {
        session.script(self.dialect().begin_snapshot()).await?;
        let keys = self.root_keys(session, after, limit).await?;
        let stamped = if keys.is_empty() { Vec::new() } else { self.read_in(session, &keys).await? };
        session.script("COMMIT").await?;
        Ok(Page { stamped, last: keys.last().cloned() })
    }

    /// Keys of the root table after `after`, in the order of the key columns.
    async fn root_keys(
        &self,
        session: &mut dyn Session,
        after: Option<&Key>,
        limit: u32,
    ) -> Result<Vec<Key>, DbError> {
        let dialect = self.dialect();
        // Qualified, because a bare name in ORDER BY means the answer's column of that name, and
        // `id::text` is called `id` too: pages would be in text order and rows would be skipped.
        let columns: Vec<String> =
            self.key_columns.iter().map(|c| format!("t.{}", dialect.quote(&c.name))).collect();
        let mut statement = Statement::of(dialect, "SELECT ")
            .sql(&dialect.key_text(&columns))
            .sql(" AS key FROM ")
            .table(&self.root)
            .sql(" AS t");
        if let Some(components) = after.and_then(|key| key.components(columns.len())) {
            statement = statement.sql(&format!(" WHERE ({}) > (", columns.join(", ")));
            for (index, (component, column)) in
                components.iter().zip(self.key_columns.iter()).enumerate()
            {
                let value = dialect.key_value(component, column);
                statement = statement
                    .sql(if index == 0 { "" } else { ", " })
                    .bind(value, &column.sql_type);
            }
            statement = statement.sql(")");
        }
        let statement =
            statement.sql(&format!(" ORDER BY {} LIMIT ", columns.join(", "))).int(limit.into());
        Ok(session.fetch(statement).await?.iter().filter_map(|row| key_at(row, 0)).collect())
    }

    /// Images of the first `limit` keys of the root table, without versions: for checks before the
    /// product's tables exist.
    pub(crate) fn sample(&self, limit: u32) -> Answer<'_, Vec<(Key, Result<Image, String>)>> {
        on_session!(self, "reading a sample of", |session| self.sample_in(session, limit))
    }

    async fn sample_in(
        &self,
        session: &mut dyn Session,
        limit: u32,
    ) -> Result<Vec<(Key, Result<Image, String>)>, DbError> {
        let keys = self.root_keys(session, None, limit).await?;
        let images = self.images_in(session, &keys).await?;
        Ok(keys.into_iter().zip(images).collect())
    }

    async fn dirty_in(&self, session: &mut dyn Session, after: Option<&Key>, limit: u32) -> Result<Vec<Dirty>, DbError> {
        self.dialect().expand(session, self.entity.as_str(), self.place.as_str()).await?;
        let statement = Statement::of(self.dialect(), "SELECT key, version, state, reason FROM ")
            .table(tables::KEY)
            .sql(" WHERE ");
        let statement = after_key(self.here(statement, ""), after)
            .sql(" AND synced < version ORDER BY key LIMIT ")
            .int(limit.into());
        let rows = session.fetch(statement).await?;
        Ok(rows.iter().filter_map(|row| dirty(row)).collect())
    }

    async fn dirty_among_in(&self, session: &mut dyn Session, keys: &[Key]) -> Result<Vec<Key>, DbError> {
        self.dialect().expand(session, self.entity.as_str(), self.place.as_str()).await?;
        let statement = Statement::of(self.dialect(), "SELECT c.key FROM ")
            .table(tables::KEY)
            .sql(" c WHERE ");
        let statement = self
            .here(statement, "c.")
            .sql(" AND c.synced < c.version AND c.key IN (SELECT r.key FROM ")
            .keys("r", keys)
            .sql(")");
        Ok(session.fetch(statement).await?.iter().filter_map(|row| key_at(row, 0)).collect())
    }

    async fn hold_in(&self, session: &mut dyn Session, key: &Key, version: Version, hold: &Hold) -> Result<(), DbError> {
        // A key of history may have no row yet: it gets one, dirty, without a new version.
        let statement = Statement::of(self.dialect(), "INSERT INTO ")
            .table(tables::KEY)
            .sql(" AS c (entity, place, key, version, state, reason) SELECT ")
            .text(self.entity.as_str())
            .sql(", ")
            .text(self.place.as_str())
            .sql(", ")
            .text(key.as_str())
            .sql(", ")
            .int(version.0)
            .sql(", ")
            .text(hold.kind.as_str())
            .sql(", ")
            .text(&hold.reason)
            .sql(" WHERE true ON CONFLICT (entity, place, key) DO UPDATE SET state = excluded.state, reason = excluded.reason WHERE c.version <= excluded.version AND c.synced < excluded.version");
        session.execute(statement).await?;
        Ok(())
    }

    async fn touch_in(&self, session: &mut dyn Session, keys: &[Key]) -> Result<(), DbError> {
        let statement = Statement::of(self.dialect(), "INSERT INTO ")
            .table(tables::KEY)
            .sql(" AS c (entity, place, key, version) SELECT ")
            .text(self.entity.as_str())
            .sql(", ")
            .text(self.place.as_str())
            .sql(", r.key, ");
        let statement = self
            .base(statement)
            .sql(" + 1 FROM ")
            .keys("r", keys)
            .sql(" WHERE true ORDER BY r.key ON CONFLICT (entity, place, key) DO UPDATE SET version = ");
        let statement = statement
            .sql(self.dialect().greatest_name())
            .sql("(c.version, excluded.version - 1) + 1, state = 'ok', reason = NULL");
        session.execute(statement).await?;
        Ok(())
    }

    async fn mark_synced_in(
        &self,
        session: &mut dyn Session,
        marks: &[(Key, Version)],
    ) -> Result<(), DbError> {
        if marks.is_empty() {
            return Ok(());
        }
        let rows: Vec<Vec<Value>> = marks
            .iter()
            .map(|(key, version)| vec![text(key.as_str()), Value::Integer(version.0)])
            .collect();
        let columns = [RowColumn::new("key", "text"), RowColumn::new("version", "bigint")];
        let mut statement = Statement::new(self.dialect());
        let skip = self.dialect().skip_locked();
        if !skip.is_empty() {
            // A key that somebody is writing gets a newer version anyway: a mark must neither
            // wait for an application nor make it wait.
            statement = statement
                .sql("WITH free AS MATERIALIZED (SELECT c.key FROM ")
                .table(tables::KEY)
                .sql(" c WHERE ");
            statement = self
                .here(statement, "c.")
                .sql(" AND c.key IN (SELECT r.key FROM ")
                .keys("r", marks.iter().map(|(key, _)| key))
                .sql(&format!(") ORDER BY c.key{skip}) "));
        }
        statement = statement
            .sql("UPDATE ")
            .table(tables::KEY)
            .sql(" AS c SET synced = r.version FROM ")
            .rows("r", &columns, &rows)
            .sql(if skip.is_empty() { " WHERE " } else { ", free WHERE free.key = c.key AND " });
        statement = self
            .here(statement, "c.")
            .sql(" AND c.key = r.key AND c.synced < r.version AND r.version <= ")
            .sql(self.dialect().greatest_name())
            .sql("(c.version, ");
        session.execute(self.base(statement).sql(")")).await?;
        Ok(())
    }

    async fn lag_in(&self, session: &mut dyn Session) -> Result<Lag, DbError> {
        self.dialect().expand(session, self.entity.as_str(), self.place.as_str()).await?;
        let statement = Statement::of(self.dialect(), "SELECT state, count(*) FROM ")
            .table(tables::KEY)
            .sql(" WHERE ");
        let statement = self.here(statement, "").sql(" AND synced < version GROUP BY state");
        let mut lag = Lag::default();
        for row in session.fetch(statement).await? {
            let count = row.get(1).map_or(0, integer).unsigned_abs();
            lag.dirty += count;
            match row.first() {
                Some(Value::Text(state)) if state == HoldKind::Waiting.as_str() => {
                    lag.waiting += count;
                }
                Some(Value::Text(state)) if state == HoldKind::Blocked.as_str() => {
                    lag.blocked += count;
                }
                _ => {}
            }
        }
        Ok(lag)
    }

    async fn estimate_in(&self, session: &mut dyn Session) -> Result<u64, DbError> {
        let statement = Statement::of(self.dialect(), "SELECT count(*) FROM ").table(&self.root);
        let rows = session.fetch(statement).await?;
        Ok(rows.first().and_then(|row| row.first()).map_or(0, integer).unsigned_abs())
    }
}

impl Authority for SqlAuthority {
    fn read<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Stamped>> {
        on_session!(self, "reading keys of", |session| self.read_snapshot(session, keys))
    }

    fn page<'a>(&'a self, after: Option<&'a Key>, limit: u32) -> Answer<'a, Page> {
        on_session!(self, "reading a page of", |session| self.page_in(session, after, limit))
    }

    fn dirty<'a>(&'a self, after: Option<&'a Key>, limit: u32) -> Answer<'a, Vec<Dirty>> {
        on_session!(self, "listing dirty keys of", |session| self.dirty_in(session, after, limit))
    }

    fn dirty_among<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Key>> {
        on_session!(self, "asking for dirty keys of", |session| self.dirty_among_in(session, keys))
    }

    fn stamped_keys<'a>(&'a self, after: Option<&'a Key>, limit: u32) -> Answer<'a, Vec<Key>> {
        on_session!(self, "listing stamped keys of", |session| self.stamped_keys_in(session, after, limit))
    }

    fn mark_synced<'a>(&'a self, marks: &'a [(Key, Version)]) -> Answer<'a, ()> {
        on_session!(self, "marking keys of", |session| self.mark_synced_in(session, marks))
    }

    fn hold<'a>(&'a self, key: &'a Key, version: Version, hold: &'a Hold) -> Answer<'a, ()> {
        on_session!(self, "recording why a key is held of", |session| self.hold_in(session, key, version, hold))
    }

    fn touch<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, ()> {
        on_session!(self, "touching keys of", |session| self.touch_in(session, keys))
    }

    fn versions<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Version>> {
        on_session!(self, "asking for versions of", |session| self.versions_in(session, keys))
    }

    fn lag(&self) -> Answer<'_, Lag> {
        on_session!(self, "counting dirty keys of", |session| self.lag_in(session))
    }

    fn estimate(&self) -> Answer<'_, u64> {
        on_session!(self, "counting rows of", |session| self.estimate_in(session))
    }
}

fn after_key<'d>(statement: Statement<'d>, after: Option<&Key>) -> Statement<'d> {
    match after {
        Some(key) => statement.sql(" AND key > ").text(key.as_str()),
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

pub(super) fn key_at(row: &[Value], index: usize) -> Option<Key> {
    match row.get(index) {
        Some(Value::Text(text)) => Some(Key::new(text)),
        _ => None,
    }
}

pub(super) fn integer(value: &Value) -> i64 {
    match value {
        Value::Integer(number) => *number,
        _ => 0,
    }
}

pub(super) fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}
