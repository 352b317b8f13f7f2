//! What the authority knows of each key: dirty, held, marked, touched.

use std::collections::BTreeMap;

use changeover_flags::{Key, Version};
use changeover_shadow::Value;

use super::{SqlAuthority, after_key, dirty, integer, key_at, text};
use crate::dialect::session::{DbError, Session};
use crate::dialect::statement::{RowColumn, Statement};
use crate::dialect::tables;
use crate::store::{Dirt, Dirty, Hold, HoldKind, Lag};

/// What is one row of [`KEY`](tables::KEY).
const ONE_KEY: &str = "entity, place, \"key\"";

/// A key's own version.
const OWN: &str = "version";

impl SqlAuthority {
    pub(super) async fn stamped_keys_in(
        &self,
        session: &mut dyn Session,
        after: Option<&Key>,
        limit: u32,
    ) -> Result<Vec<Key>, DbError> {
        let statement = Statement::of(self.dialect(), "SELECT \"key\" FROM ")
            .table(tables::KEY)
            .sql(" WHERE ");
        let statement = after_key(self.here(statement, ""), after)
            .sql(" ORDER BY \"key\" LIMIT ")
            .int(limit.into());
        Ok(session
            .fetch(statement)
            .await?
            .iter()
            .filter_map(|row| key_at(row, 0))
            .collect())
    }

    pub(super) async fn dirty_in(
        &self,
        session: &mut dyn Session,
        after: Option<&Key>,
        limit: u32,
    ) -> Result<Vec<Dirty>, DbError> {
        self.dialect()
            .expand(session, self.entity.as_str(), self.place.as_str())
            .await?;
        let above = self.dirty_above(session, after.is_none()).await?;
        let select = format!("SELECT \"key\", {above}, state, reason FROM ");
        let statement = Statement::of(self.dialect(), &select)
            .table(tables::KEY)
            .sql(" WHERE ");
        let statement = after_key(self.here(statement, ""), after)
            .sql(&format!(
                " AND {} ORDER BY \"key\" LIMIT ",
                self.dirty_by(&above)
            ))
            .int(limit.into());
        let rows = session.fetch(statement).await?;
        Ok(rows.iter().filter_map(|row| dirty(row)).collect())
    }

    /// What the synced version of a dirty key is below. Once no version below the base is left
    /// whose key has to be copied, a key's own version is enough, and the index of dirty keys finds
    /// it. Whether that is so is asked with `settle`, since it may take a walk through all keys; it
    /// stays so until the base is raised, because versions and marks only rise.
    async fn dirty_above(
        &self,
        session: &mut dyn Session,
        settle: bool,
    ) -> Result<String, DbError> {
        let dialect = self.dialect();
        let open = Statement::of(dialect, "SELECT passed FROM ")
            .table(tables::BACKFILL)
            .sql(" WHERE NOT done AND ");
        let rows = session.fetch(self.here(open, "")).await?;
        let Some(incarnation) = rows.first().and_then(|row| row.first()).map(integer) else {
            return Ok(OWN.to_owned());
        };
        let base = incarnation << Version::COUNTER_BITS;
        if settle {
            let left = Statement::of(dialect, "SELECT 1 FROM ")
                .table(tables::KEY)
                .sql(&format!(" WHERE version < {base} AND synced < {base} AND "));
            let left = session.fetch(self.here(left, "").sql(" LIMIT 1")).await?;
            if left.is_empty() {
                let settled = Statement::of(dialect, "UPDATE ")
                    .table(tables::BACKFILL)
                    .sql(&format!(
                        " SET done = {} WHERE passed = ",
                        dialect.boolean(true)
                    ))
                    .int(incarnation)
                    .sql(" AND ");
                session.execute(self.here(settled, "")).await?;
                return Ok(OWN.to_owned());
            }
        }
        Ok(format!("{}(version, {base})", dialect.greatest_name()))
    }

    /// The condition that the synced version is below this.
    fn dirty_by(&self, above: &str) -> String {
        match above {
            OWN => self.dialect().dirty_keys().to_owned(),
            above => format!("synced < {above}"),
        }
    }

    pub(super) async fn dirty_among_in(
        &self,
        session: &mut dyn Session,
        keys: &[Key],
    ) -> Result<BTreeMap<Key, Dirt>, DbError> {
        let (entity, place) = (self.entity.as_str(), self.place.as_str());
        let mut dirty = BTreeMap::new();
        if self.dialect().expand(session, entity, place).await? > 0 {
            let noted = self.dialect().noted(session, entity, place, keys).await?;
            let noted = noted.iter().filter_map(|row| key_at(row, 0));
            dirty.extend(noted.map(|key| (key, Dirt::Noted)));
        }
        let statement = Statement::of(self.dialect(), "SELECT c.key FROM ")
            .table(tables::KEY)
            .sql(" c WHERE ");
        let greatest = self.dialect().greatest_name();
        let statement = self
            .here(statement, "c.")
            .sql(&format!(" AND c.synced < {greatest}(c.version, "));
        let statement = self
            .base(statement)
            .sql(") AND ")
            .key_in("c.key", keys.iter().map(Key::as_str));
        for row in session.fetch(statement).await? {
            if let Some(key) = key_at(&row, 0) {
                dirty.entry(key).or_insert(Dirt::Stamped);
            }
        }
        Ok(dirty)
    }

    pub(super) async fn hold_in(
        &self,
        session: &mut dyn Session,
        key: &Key,
        version: Version,
        hold: &Hold,
    ) -> Result<(), DbError> {
        // A key of history may have no row yet, or one from below the base: it gets the version at
        // which it was tried, which is no new one, and is dirty by it.
        let dialect = self.dialect();
        let (held, [newer, state, reason]) = (
            dialect.table(tables::KEY),
            ["version", "state", "reason"].map(|column| dialect.incoming(column)),
        );
        let statement = Statement::of(dialect, "INSERT INTO ")
            .table(tables::KEY)
            .sql(" (entity, place, \"key\", version, state, reason) SELECT ")
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
            .sql(" WHERE true")
            .sql(&dialect.or_update(
                tables::KEY,
                ONE_KEY,
                &[("state", &state), ("reason", &reason), ("version", &newer)],
                &format!("{held}.version <= {newer} AND {held}.synced < {newer}"),
            ));
        session.execute(statement).await?;
        Ok(())
    }

    pub(super) async fn touch_in(
        &self,
        session: &mut dyn Session,
        keys: &[Key],
    ) -> Result<(), DbError> {
        let dialect = self.dialect();
        let version = format!(
            "{}({}.version, {} - 1) + 1",
            dialect.greatest_name(),
            dialect.table(tables::KEY),
            dialect.incoming("version")
        );
        let set = [
            ("version", &*version),
            ("state", "'ok'"),
            ("reason", "NULL"),
        ];
        let statement = Statement::of(dialect, "INSERT INTO ")
            .table(tables::KEY)
            .sql(" (entity, place, \"key\", version) SELECT ")
            .text(self.entity.as_str())
            .sql(", ")
            .text(self.place.as_str())
            .sql(", r.key, ");
        let statement = self
            .base(statement)
            .sql(" + 1 FROM ")
            .keys("r", keys)
            .sql(" WHERE true ORDER BY r.key")
            .sql(&dialect.or_update(tables::KEY, ONE_KEY, &set, ""));
        session.execute(statement).await?;
        Ok(())
    }

    pub(super) async fn mark_synced_in(
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
        let columns = [
            RowColumn::new("key", "text"),
            RowColumn::new("version", "bigint"),
        ];
        let dialect = self.dialect();
        let (skip, joins) = (dialect.skip_locked(), dialect.update_joins());
        let update = format!("UPDATE {} AS c", dialect.table(tables::KEY));
        let set = " SET synced = r.version";
        let statement = Statement::new(dialect);
        let statement = match (skip, joins) {
            ("", _) => statement
                .sql(&format!("{update}{set} FROM "))
                .rows("r", &columns, &rows)
                .sql(" WHERE "),
            (_, true) => self
                .free(statement.sql(&format!("{update} CROSS JOIN ")), marks)
                .sql(" AS free CROSS JOIN ")
                .rows("r", &columns, &rows)
                .sql(" SET c.synced = r.version WHERE free.key = c.key AND "),
            (_, false) => self
                .free(statement.sql("WITH free AS MATERIALIZED "), marks)
                .sql(&format!(" {update}{set} FROM "))
                .rows("r", &columns, &rows)
                .sql(", free WHERE free.key = c.key AND "),
        };
        let statement = self
            .here(statement, "c.")
            .sql(" AND c.key = r.key AND c.synced < r.version AND r.version <= ")
            .sql(dialect.greatest_name())
            .sql("(c.version, ");
        session.execute(self.base(statement).sql(")")).await?;
        Ok(())
    }

    /// Those of the keys to be marked that nobody is writing. One that somebody is at gets a newer
    /// version anyway: a mark must neither wait for an application nor make it wait.
    fn free<'d>(&self, statement: Statement<'d>, marks: &[(Key, Version)]) -> Statement<'d> {
        let skip = self.dialect().skip_locked();
        let statement = statement
            .sql("(SELECT c.key FROM ")
            .table(tables::KEY)
            .sql(" c WHERE ");
        self.here(statement, "c.")
            .sql(" AND ")
            .key_in("c.key", marks.iter().map(|(key, _)| key.as_str()))
            .sql(&format!(" ORDER BY c.key{skip})"))
    }

    pub(super) async fn lag_in(&self, session: &mut dyn Session) -> Result<Lag, DbError> {
        let unknown = self
            .dialect()
            .expand(session, self.entity.as_str(), self.place.as_str())
            .await?;
        let above = self.dirty_above(session, false).await?;
        let statement = Statement::of(self.dialect(), "SELECT state, count(*) FROM ")
            .table(tables::KEY)
            .sql(" WHERE ");
        let statement = self
            .here(statement, "")
            .sql(&format!(" AND {} GROUP BY state", self.dirty_by(&above)));
        let mut lag = Lag {
            dirty: unknown,
            ..Lag::default()
        };
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
}
