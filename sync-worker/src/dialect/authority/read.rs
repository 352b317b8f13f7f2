//! Images and versions, read at one instant.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use changeover_flags::{Key, Version};
use changeover_shadow::Value;

use super::query::Query;
use super::{SqlAuthority, integer, key_at};
use crate::dialect::catalog::Column;
use crate::dialect::session::{DbError, ErrorClass, Session, on_session};
use crate::dialect::span::{evenly, keys_of, within};
use crate::dialect::statement::{RowColumn, Statement};
use crate::dialect::tables;
use crate::dialect::versions::FEW;
use crate::image::Image;
use crate::mapping::{SourceRow, SourceRows};
use crate::store::{Answer, Page, Stamped};
use crate::sum::Span;

/// A table that is known to have so many rows is not counted for a progress display.
const COUNTED: u64 = 1_000_000;

impl SqlAuthority {
    /// Keys with their components, as a derived table `changeover_keys`, whose columns bear names
    /// that no application's table has: a mapping's expressions name columns without a table. Keys whose
    /// text is not of this key's form or types are left out: no row can have them.
    pub(super) fn bound_keys<'d>(&self, statement: Statement<'d>, keys: &[Key]) -> Statement<'d> {
        let dialect = self.dialect();
        let names: Vec<String> = (0..self.key_columns.len())
            .map(|i| format!("changeover_c{i}"))
            .collect();
        let mut columns = vec![RowColumn::new("changeover_key", "text")];
        columns.extend(
            names
                .iter()
                .zip(self.key_columns.iter())
                .map(|(n, c)| RowColumn::of(n, c)),
        );
        let rows: Vec<Vec<Value>> = keys
            .iter()
            .filter_map(|key| {
                let components = key.components(self.key_columns.len())?;
                let mut row = vec![Value::Text(key.as_str().to_owned())];
                for (component, column) in components.iter().zip(self.key_columns.iter()) {
                    if !dialect.key_fits(component, column) {
                        return None;
                    }
                    row.push(dialect.key_value(component, column));
                }
                Some(row)
            })
            .collect();
        statement.rows("changeover_keys", &columns, &rows)
    }

    /// Reads versions and images of `keys` within the session's snapshot.
    pub(super) async fn read_in(
        &self,
        session: &mut dyn Session,
        keys: &[Key],
    ) -> Result<Vec<Stamped>, DbError> {
        let versions = self.versions_in(session, keys).await?;
        let mut images = self.images_in(session, keys).await?;
        self.not_of_misfits(session, keys, &mut images).await?;
        Ok(keys
            .iter()
            .zip(versions)
            .zip(images)
            .map(|((key, version), image)| Stamped {
                key: key.clone(),
                version,
                image,
            })
            .collect())
    }

    /// Reads images of `keys` within the session's snapshot, in the order asked. A key on whose
    /// rows an expression fails has none.
    pub(super) async fn images_in(
        &self,
        session: &mut dyn Session,
        keys: &[Key],
    ) -> Result<Vec<Result<Image, String>>, DbError> {
        match self
            .images_of(session, keys, |query| &query.sql_where)
            .await
        {
            Err(error) if error.class == ErrorClass::Data => self.images_apart(session, keys).await,
            answer => answer,
        }
    }

    /// Reads images of `keys`, or fails with the first row that fails. `condition` is what the rows
    /// of a query must meet.
    pub(super) async fn images_of(
        &self,
        session: &mut dyn Session,
        keys: &[Key],
        condition: fn(&Query) -> &String,
    ) -> Result<Vec<Result<Image, String>>, DbError> {
        let mut rows: BTreeMap<&str, SourceRows> = keys
            .iter()
            .map(|key| {
                (
                    key.as_str(),
                    SourceRows {
                        queries: vec![Vec::new(); self.mapping.shape().queries.len()],
                    },
                )
            })
            .collect();
        for query in self.queries.iter() {
            let statement = Statement::of(self.dialect(), &query.sql_select);
            let statement = self.bound_keys(statement, keys).sql(condition(query));
            for row in session.fetch(statement).await? {
                let mut values = row.into_iter();
                let Some(Value::Text(key)) = values.next() else {
                    continue;
                };
                let Some(rows) = rows.get_mut(key.as_str()) else {
                    continue;
                };
                for answer in &query.answers {
                    let types = answer.types.iter();
                    let values = types
                        .zip(&mut values)
                        .map(|(sql_type, value)| self.dialect().decode(value, sql_type))
                        .collect();
                    if let Some(list) = rows.queries.get_mut(answer.index) {
                        list.push(SourceRow::new(Arc::clone(&answer.names), values));
                    }
                }
            }
        }
        Ok(keys
            .iter()
            .map(|key| self.image(key, rows.get(key.as_str())))
            .collect())
    }

    /// The mapping's image; a panic in it is its error.
    pub(super) fn image(&self, key: &Key, rows: Option<&SourceRows>) -> Result<Image, String> {
        let nothing = SourceRows::default();
        let rows = rows.unwrap_or(&nothing);
        match catch_unwind(AssertUnwindSafe(|| self.mapping.image(key, rows))) {
            Ok(Ok(image)) if image.targets.len() == self.mapping.shape().targets.len() => Ok(image),
            Ok(Ok(_)) => Err("the mapping's image has not one list per target".into()),
            Ok(Err(error)) => Err(error.reason),
            Err(_) => Err("the mapping panicked".into()),
        }
    }

    pub(super) async fn versions_in(
        &self,
        session: &mut dyn Session,
        keys: &[Key],
    ) -> Result<Vec<Version>, DbError> {
        if keys.len() > 2 * FEW
            && let Some(few) = self.few(session).await?
        {
            return self.versions_among(session, keys, &few).await;
        }
        let mut found = HashMap::new();
        for keys in keys.chunks(self.dialect().rows_limit(1)) {
            // A subquery and not a join: a planner without statistics takes an entity for one row, and
            // would walk through all of it once per key.
            let statement = Statement::of(self.dialect(), "SELECT r.key, ");
            let statement = self
                .base(statement)
                .sql(", (SELECT c.version FROM ")
                .table(tables::KEY)
                .sql(" c WHERE c.key = r.key AND ");
            let statement = self.here(statement, "c.").sql(") FROM ").keys("r", keys);
            for row in session.fetch(statement).await? {
                if let [Value::Text(key), base, version] = row.as_slice() {
                    found.insert(key.clone(), integer(version).max(integer(base)));
                }
            }
        }
        Ok(keys
            .iter()
            .map(|key| Version(found.get(key.as_str()).copied().unwrap_or_default()))
            .collect())
    }

    /// The same, all versions that are kept being these.
    async fn versions_among(
        &self,
        session: &mut dyn Session,
        keys: &[Key],
        kept: &[Vec<Value>],
    ) -> Result<Vec<Version>, DbError> {
        let base = self.base(Statement::of(self.dialect(), "SELECT "));
        let base = session.fetch(base).await?;
        let base = base.first().and_then(|row| row.first()).map_or(0, integer);
        let kept = kept.iter().filter_map(|row| match row.as_slice() {
            [Value::Text(key), version] => Some((key.as_str(), integer(version))),
            _ => None,
        });
        let kept: HashMap<&str, i64> = kept.collect();
        let version = |key: &Key| kept.get(key.as_str()).copied().unwrap_or_default();
        Ok(keys
            .iter()
            .map(|key| Version(version(key).max(base)))
            .collect())
    }

    pub(super) async fn read_snapshot(
        &self,
        session: &mut dyn Session,
        keys: &[Key],
    ) -> Result<Vec<Stamped>, DbError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.begin_snapshot(session).await?;
        let stamped = self.read_in(session, keys).await?;
        session.script("COMMIT").await?;
        Ok(stamped)
    }

    pub(super) async fn page_in(
        &self,
        session: &mut dyn Session,
        span: &Span,
        limit: u32,
    ) -> Result<Page, DbError> {
        self.begin_snapshot(session).await?;
        let keys = self.root_keys(session, span, limit).await?;
        let stamped = if keys.is_empty() {
            Vec::new()
        } else {
            self.read_in(session, &keys).await?
        };
        session.script("COMMIT").await?;
        Ok(Page {
            stamped,
            last: keys.last().cloned(),
        })
    }

    /// Those of `keys` without a row in the root table.
    pub(super) async fn rootless_in(
        &self,
        session: &mut dyn Session,
        keys: &[Key],
    ) -> Result<Vec<Key>, DbError> {
        let dialect = self.dialect();
        let same: Vec<String> = (0..)
            .zip(self.key_columns.iter())
            .map(|(i, c)| format!("t.{} = changeover_c{i}", dialect.quote(&c.name)))
            .collect();
        let statement = Statement::of(dialect, "SELECT changeover_key FROM ");
        let statement = self
            .bound_keys(statement, keys)
            .sql(" WHERE EXISTS (SELECT 1 FROM ")
            .table(&self.root)
            .sql(&format!(" t WHERE {})", same.join(" AND ")));
        let rows = session.fetch(statement).await?;
        let rooted: HashSet<Key> = rows.iter().filter_map(|row| key_at(row, 0)).collect();
        let rootless = keys.iter().filter(|key| !rooted.contains(*key));
        Ok(rootless.cloned().collect())
    }

    /// Keys of the root table in `span`, in the order of the key columns.
    pub(super) async fn root_keys(
        &self,
        session: &mut dyn Session,
        span: &Span,
        limit: u32,
    ) -> Result<Vec<Key>, DbError> {
        let columns = self.root_columns();
        let key = format!("{} AS \"key\"", self.dialect().key_text(&columns));
        let Some(rows) = self.root_rows(Statement::new(self.dialect()), &key, span) else {
            return Ok(Vec::new());
        };
        let order = format!(" ORDER BY {} LIMIT ", columns.join(", "));
        keys_of(session, rows.sql(&order).int(limit.into()), 0).await
    }

    /// The `limit`th key of the root table in `span`, behind what divides the span up to it; or, where there
    /// are fewer, how many.
    pub(super) async fn cut_in(
        &self,
        session: &mut dyn Session,
        span: &Span,
        (limit, parts): (u32, u32),
    ) -> Result<(u64, Vec<Key>), DbError> {
        let dialect = self.dialect();
        let nothing = (0, Vec::new());
        let (order, of_last) = (self.root_columns().join(", "), self.key_columns_of("p"));
        // Made of the last one alone, whose rows are passed over without one.
        let key = dialect.key_text(&of_last);
        let statement = Statement::of(dialect, &format!("SELECT {key} FROM ("));
        let Some(rows) = self.root_rows(statement, &order, span) else {
            return Ok(nothing);
        };
        let last = rows
            .sql(&format!(" ORDER BY {order} LIMIT 1 OFFSET "))
            .int(i64::from(limit.max(1)) - 1)
            .sql(") AS p");
        if let Some(last) = keys_of(session, last, 0).await?.pop() {
            // As if keys were spread evenly: to count parts off would cost each verify what a difference
            // seldom saves.
            let components = self.key_columns.len();
            let ordered = |column: &Column| dialect.sums().key_order(&column.sql_type).is_some();
            let after = span.after.as_ref();
            let after = after.filter(|_| self.key_columns.iter().all(ordered));
            let ends = after.map(|after| evenly(after, &last, components, parts));
            let mut ends = ends.unwrap_or_default();
            ends.push(last);
            return Ok((limit.into(), ends));
        }
        let Some(rows) = self.root_rows(Statement::new(dialect), "count(*)", span) else {
            return Ok(nothing);
        };
        let rows = session.fetch(rows).await?;
        let counted = rows.first().and_then(|row| row.first()).map_or(0, integer);
        Ok((counted.unsigned_abs(), Vec::new()))
    }

    /// Appends a query of the rows of the root table in `span`, without those whose key is of bytes: no bound
    /// would be beyond them. `None` if there can be none.
    fn root_rows<'d>(
        &'d self,
        statement: Statement<'d>,
        selected: &str,
        span: &Span,
    ) -> Option<Statement<'d>> {
        let statement = statement
            .sql(&format!("SELECT {selected} FROM "))
            .table(&self.root)
            .sql(" AS t WHERE ");
        let columns = self.root_columns();
        let dialect = self.dialect();
        let mut rows = within(statement, dialect, &columns, &self.key_columns, span)?;
        for (name, column) in columns.iter().zip(self.key_columns.iter()) {
            if let Some(least) = dialect.sums().least_bytes(column) {
                rows = rows.sql(&format!(" AND {name} < {least}"));
            }
        }
        Some(rows)
    }

    /// Images of the first `limit` keys of the root table, without versions: for checks before the
    /// product's tables exist.
    pub(crate) fn sample(&self, limit: u32) -> Answer<'_, Vec<(Key, Result<Image, String>)>> {
        on_session!(self, "reading a sample of", |session| self
            .sample_in(session, limit))
    }

    pub(super) async fn sample_in(
        &self,
        session: &mut dyn Session,
        limit: u32,
    ) -> Result<Vec<(Key, Result<Image, String>)>, DbError> {
        self.begin_snapshot(session).await?;
        let keys = self.root_keys(session, &Span::default(), limit).await?;
        let images = self.images_in(session, &keys).await?;
        session.script("COMMIT").await?;
        Ok(keys.into_iter().zip(images).collect())
    }

    /// How many rows the root table has: counted where they are few, else what statistics know, since a count
    /// reads all of them.
    pub(super) async fn estimate_in(&self, session: &mut dyn Session) -> Result<u64, DbError> {
        if let Some(server) = self.dialect().server() {
            let known = server.known_rows(&self.root);
            let known = number(&session.fetch(known).await?);
            if known >= COUNTED {
                return Ok(known);
            }
        }
        let counted = Statement::of(self.dialect(), "SELECT count(*) FROM ").table(&self.root);
        Ok(number(&session.fetch(counted).await?))
    }
}

/// The number that a query answers; 0 for none.
fn number(rows: &[Vec<Value>]) -> u64 {
    let number = rows.first().and_then(|row| row.first());
    number.map_or(0, integer).unsigned_abs()
}
