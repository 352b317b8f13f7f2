//! What the follower holds beside what it should hold.

use std::collections::{BTreeMap, HashMap};

use changeover_flags::Key;
use changeover_shadow::{Fields, Value};

use super::resolve::{Copy, Resolved, tag};
use super::write::{derived, owned_rows};
use super::{SqlFollower, TargetTable};
use crate::dialect::authority::{key_at, text};
use crate::dialect::catalog::Column;
use crate::dialect::held_mapping::HeldMapping;
use crate::dialect::session::{DbError, ErrorClass, Session};
use crate::dialect::statement::{RowColumn, Statement};
use crate::dialect::tables;
use crate::mapping::Belongs;
use crate::store::{Observed, Stamped, StoreError};

/// What a failed statement is taken back to: PostgreSQL refuses everything after one otherwise.
const SAVEPOINT: &str = "SAVEPOINT changeover_observed";
const ROLLBACK: &str = "ROLLBACK TO SAVEPOINT changeover_observed";

/// Rows by key, then by row name.
type RowsByKey = HashMap<String, BTreeMap<String, Value>>;

impl SqlFollower {
    /// What is held, and the mapping that it holds, at one instant.
    pub(super) async fn observe_in(
        &self,
        session: &mut dyn Session,
        copies: &[Stamped],
    ) -> Result<(Option<HeldMapping>, Vec<Observed>), DbError> {
        let begin = self.snapshot();
        session.script(&format!("{begin}; {SAVEPOINT}")).await?;
        let held = self.held_mapping(session).await?;
        let mut observed = Vec::with_capacity(copies.len());
        let mut parts = vec![copies];
        while let Some(part) = parts.pop() {
            match self.observe_part(session, part).await {
                Ok(part) => observed.extend(part),
                Err(error) if error.class == ErrorClass::Data => {
                    session.script(ROLLBACK).await?;
                    if part.len() > 1 {
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.push(second);
                        parts.push(first);
                    } else {
                        observed.extend(self.unholdable(session, part, &error).await?);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        session.script("COMMIT").await?;
        Ok((held, observed))
    }

    /// What opens a transaction of one instant.
    pub(super) fn snapshot(&self) -> String {
        let targets = self.targets.iter().map(|target| &*target.target.table);
        let tables: Vec<&str> = targets.collect();
        self.dialect().begin_snapshot_of(&tables)
    }

    /// The mapping whose copies are held, if there is one.
    pub(super) async fn held_mapping(
        &self,
        session: &mut dyn Session,
    ) -> Result<Option<HeldMapping>, DbError> {
        let select = format!("SELECT {} FROM ", HeldMapping::COLUMNS);
        let statement = Statement::of(self.dialect(), &select)
            .table(tables::EPOCH)
            .sql(" WHERE ");
        let rows = session.fetch(self.here(statement, "")).await?;
        Ok(match rows.first().map(Vec::as_slice) {
            Some([revision, mapping]) => Some(HeldMapping::read(revision, mapping)),
            _ => None,
        })
    }

    /// Images of one mapping say nothing about copies of another.
    pub(super) fn admit(&self, held: Option<HeldMapping>, doing: &str) -> Result<(), StoreError> {
        held.ok_or_else(|| self.not_installed(doing))?
            .admits(self.mapping.shape())
    }

    /// A copy whose image has values that the follower's columns cannot hold.
    async fn unholdable(
        &self,
        session: &mut dyn Session,
        copies: &[Stamped],
        error: &DbError,
    ) -> Result<Vec<Observed>, DbError> {
        let keys: Vec<Key> = copies.iter().map(|copy| copy.key.clone()).collect();
        let versions = self.versions_in(session, &keys).await?;
        let pairs = keys.into_iter().zip(versions);
        let unholdable = pairs.map(|(key, version)| Observed {
            key,
            version,
            expected: Err(error.summary.clone()),
            actual: Value::Null,
        });
        Ok(unholdable.collect())
    }

    async fn observe_part(
        &self,
        session: &mut dyn Session,
        copies: &[Stamped],
    ) -> Result<Vec<Observed>, DbError> {
        let keys: Vec<Key> = copies.iter().map(|copy| copy.key.clone()).collect();
        let versions = self.versions_in(session, &keys).await?;
        let nothing = crate::image::Image::empty(self.targets.len());
        let images: Vec<Copy<'_>> = copies
            .iter()
            .map(|copy| (copy.key.as_str(), copy.image.as_ref().unwrap_or(&nothing)))
            .collect();
        let mut resolved = Resolved::default();
        self.resolve_lookups(session, &images, &mut resolved)
            .await?;
        self.resolve_ids(session, &images, &mut resolved).await?;
        let mut expected: HashMap<String, BTreeMap<String, Value>> = HashMap::new();
        let mut actual: HashMap<String, BTreeMap<String, Value>> = HashMap::new();
        for (index, target) in self.targets.iter().enumerate() {
            let (should, is) = if target.target.is_owned() {
                let should = self
                    .expected_owned(session, &images, index, target, &resolved)
                    .await?;
                (should, self.actual_owned(session, &images, target).await?)
            } else {
                self.resolve_shared(session, &images, index, target, &mut resolved)
                    .await?;
                self.shared(session, &images, index, target, &resolved)
                    .await?
            };
            for (all, found) in [(&mut expected, should), (&mut actual, is)] {
                for (key, rows) in found {
                    all.entry(key)
                        .or_default()
                        .insert(target.target.name.clone(), rows.into());
                }
            }
        }
        let observed = keys
            .into_iter()
            .zip(versions)
            .map(|(key, version)| Observed {
                version,
                expected: Ok(expected.remove(key.as_str()).unwrap_or_default().into()),
                actual: actual.remove(key.as_str()).unwrap_or_default().into(),
                key,
            })
            .collect();
        Ok(observed)
    }

    /// The image's rows of an owned target, as the follower's columns would hold them.
    async fn expected_owned(
        &self,
        session: &mut dyn Session,
        images: &[Copy<'_>],
        index: usize,
        target: &TargetTable,
        resolved: &Resolved<'_>,
    ) -> Result<RowsByKey, DbError> {
        let columns: Vec<Column> = target.written().into_iter().cloned().collect();
        let mut keys = Vec::new();
        let mut rows = Vec::new();
        for image in images {
            for row in owned_rows(std::slice::from_ref(image), index, target, resolved) {
                keys.push(image.0.to_owned());
                rows.push(row);
            }
        }
        let rows = self.dialect().normalise(session, &columns, rows).await?;
        Ok(by_key(keys.into_iter().zip(rows), &columns, target))
    }

    /// The rows of an owned target that belong to these keys.
    async fn actual_owned(
        &self,
        session: &mut dyn Session,
        images: &[Copy<'_>],
        target: &TargetTable,
    ) -> Result<RowsByKey, DbError> {
        let dialect = self.dialect();
        let columns: Vec<Column> = target.written().into_iter().cloned().collect();
        let select: String = columns
            .iter()
            .map(|column| {
                format!(
                    ", {}",
                    dialect.exact(&format!("t.{}", dialect.quote(&column.name)))
                )
            })
            .collect();
        let keys: Vec<&str> = images.iter().map(|(key, _)| *key).collect();
        let Some(statement) = self.rows_of_keys(target, &keys, &select) else {
            return Ok(HashMap::new());
        };
        let rows = session.fetch(statement).await?;
        let found = rows.into_iter().filter_map(|mut row| {
            let values = row.split_off(1);
            let key = key_at(&row, 0)?;
            let values: Vec<Value> = values
                .into_iter()
                .zip(&columns)
                .map(|(value, column)| dialect.decode(value, &column.sql_type))
                .collect();
            Some((key.as_str().to_owned(), values))
        });
        Ok(by_key(found, &columns, target))
    }

    /// The question for the rows of an owned target that belong to `keys`: the key of each, and what
    /// `select` says of its row `t`. None for a target that is shared.
    pub(super) fn rows_of_keys<'a>(
        &'a self,
        target: &TargetTable,
        keys: &[&str],
        select: &str,
    ) -> Option<Statement<'a>> {
        let dialect = self.dialect();
        Some(match target.target.belongs()? {
            Belongs::Key(names) => {
                let holding: Vec<Column> = names
                    .iter()
                    .filter_map(|name| target.table.column(name))
                    .cloned()
                    .collect();
                let mut rows = Vec::with_capacity(keys.len());
                for key in keys {
                    for mut row in self.key_values(std::iter::once(*key), &holding) {
                        row.push(text(key));
                        rows.push(row);
                    }
                }
                let mut typed = holding.clone();
                typed.push(Column {
                    sql_type: "text".into(),
                    ..Column::default()
                });
                let same: Vec<String> = names
                    .iter()
                    .enumerate()
                    .map(|(n, name)| format!("t.{} = r.c{n}", dialect.quote(name)))
                    .collect();
                let statement = Statement::of(
                    dialect,
                    &format!("SELECT r.c{}{select} FROM ", holding.len()),
                );
                derived(statement, RowColumn::of, &typed, &rows)
                    .sql(" CROSS JOIN ")
                    .table(&target.target.table)
                    .sql(&format!(" t WHERE {}", same.join(" AND ")))
            }
            Belongs::Row {
                column,
                target: parent,
            } => {
                let parent = self.targets.get(*parent);
                let id = parent.and_then(|parent| parent.id.as_ref());
                let id = dialect.cast("m.id", id.map_or("text", |column| &column.sql_type));
                let statement = Statement::of(dialect, &format!("SELECT m.key{select} FROM "))
                    .table(tables::ID)
                    .sql(" m CROSS JOIN ")
                    .table(&target.target.table)
                    .sql(" t WHERE ");
                self.here(statement, "m.")
                    .sql(" AND m.target = ")
                    .text(parent.map_or("", |parent| &parent.target.name))
                    .sql(" AND ")
                    .key_in("m.key", keys.iter().copied())
                    .sql(&format!(" AND t.{} = {id}", dialect.quote(column)))
            }
        })
    }

    /// The shared rows that these images name: what they should say, and what they say.
    async fn shared(
        &self,
        session: &mut dyn Session,
        images: &[Copy<'_>],
        index: usize,
        target: &TargetTable,
        resolved: &Resolved<'_>,
    ) -> Result<(RowsByKey, RowsByKey), DbError> {
        let dialect = self.dialect();
        let mut keys = Vec::new();
        let mut rows = Vec::new();
        for image in images {
            for row in owned_rows(std::slice::from_ref(image), index, target, resolved) {
                keys.push(image.0.to_owned());
                rows.push(row);
            }
        }
        let positions = target.identity_positions();
        let asked: Vec<Vec<Value>> = (0i64..)
            .zip(&rows)
            .map(|(position, row)| {
                positions
                    .iter()
                    .filter_map(|p| row.get(*p).cloned())
                    .chain([Value::Integer(position)])
                    .collect()
            })
            .collect();
        let mut typed = target.identity.clone();
        typed.push(Column {
            sql_type: "bigint".into(),
            ..Column::default()
        });
        let same: Vec<String> = target
            .identity
            .iter()
            .enumerate()
            .map(|(n, column)| format!("t.{} = r.c{n}", dialect.quote(&column.name)))
            .collect();
        let select: Vec<String> = target
            .columns
            .iter()
            .map(|column| dialect.exact(&format!("t.{}", dialect.quote(&column.name))))
            .collect();
        let mut found = Vec::new();
        for asked in asked.chunks(dialect.rows_limit(typed.len())) {
            let statement = Statement::of(
                dialect,
                &format!(
                    "SELECT r.c{}, {} FROM ",
                    target.identity.len(),
                    select.join(", ")
                ),
            );
            let statement = derived(statement, RowColumn::of, &typed, asked)
                .sql(" CROSS JOIN ")
                .table(&target.target.table)
                .sql(&format!(" t WHERE {}", same.join(" AND ")));
            for mut row in session.fetch(statement).await? {
                let values = row.split_off(1);
                if let Some(Value::Integer(position)) = row.first()
                    && let Some(key) = usize::try_from(*position).ok().and_then(|p| keys.get(p))
                {
                    let values: Vec<Value> = values
                        .into_iter()
                        .zip(&target.columns)
                        .map(|(value, column)| dialect.decode(value, &column.sql_type))
                        .collect();
                    found.push((key.clone(), values));
                }
            }
        }
        let rows = dialect.normalise(session, &target.columns, rows).await?;
        let should = by_key(keys.into_iter().zip(rows), &target.columns, target);
        Ok((should, by_key(found.into_iter(), &target.columns, target)))
    }
}

/// Rows as records, named by their identity.
fn by_key(
    rows: impl Iterator<Item = (String, Vec<Value>)>,
    columns: &[Column],
    target: &TargetTable,
) -> RowsByKey {
    let mut found = RowsByKey::new();
    for (key, values) in rows {
        let names = columns.iter().map(|column| column.name.clone());
        let fields: Fields = names.zip(values).collect();
        let name: Vec<String> = target
            .identity
            .iter()
            .map(|column| fields.get(&column.name).map(tag).unwrap_or_default())
            .collect();
        found
            .entry(key)
            .or_default()
            .insert(name.join(","), Value::Record(fields));
    }
    found
}
