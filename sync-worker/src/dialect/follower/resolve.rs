//! From an image's cells to values: lookups, generated ids, ids of shared rows.

use std::collections::{HashMap, HashSet};

use changeover_shadow::Value;

use super::{SqlFollower, TargetTable};
use crate::dialect::authority::{integer, text};
use crate::dialect::session::{DbError, ErrorClass, Session};
use crate::dialect::statement::{RowColumn, Statement};
use crate::dialect::tables;
use crate::image::{Cell, Image};

/// What cells refer to, for the copies at hand.
#[derive(Debug, Default)]
pub(super) struct Resolved<'c> {
    /// (lookup, what was asked) → answer.
    lookups: HashMap<(usize, String), Value>,
    /// (key, target, slot) → id.
    ids: HashMap<(&'c str, usize, &'c str), Value>,
    /// (key, target) of which a row had an id before this copy.
    known: HashSet<(&'c str, usize)>,
    /// (target, id) that this copy was given.
    new: HashSet<(usize, String)>,
}

/// Ids that were given out for rows of a target: key, slot and id of each.
pub(super) struct NewIds {
    target: usize,
    rows: Vec<Vec<Value>>,
}

/// One copy: its key's text and its image.
pub(super) type Copy<'a> = (&'a str, &'a Image);

impl<'c> Resolved<'c> {
    /// The value of a cell; `None` when a lookup has no answer.
    pub(super) fn value(&self, key: &str, cell: &Cell) -> Option<Value> {
        match cell {
            Cell::Value(value) => Some(value.clone()),
            Cell::Lookup {
                by: Value::Null, ..
            } => Some(Value::Null),
            Cell::Lookup { lookup, by } => self.lookups.get(&(*lookup, tag(by))).cloned(),
            Cell::Row { target, slot } => Some(self.id(key, *target, slot).unwrap_or_default()),
        }
    }

    pub(super) fn id(&self, key: &str, target: usize, slot: &str) -> Option<Value> {
        self.ids.get(&(key, target, slot)).cloned()
    }

    /// Keeps what the id map answers: key, target, slot and id of each row. It outlives rows: only those
    /// that the image has can be referred to.
    fn keep_ids(
        &mut self,
        copies: &[Copy<'c>],
        generated: &[(usize, &TargetTable)],
        answered: &[Vec<Value>],
    ) {
        let keys: HashMap<&str, &'c str> = copies.iter().map(|(key, _)| (*key, *key)).collect();
        let rows = copies.iter().flat_map(|(key, image)| {
            let targets = image.targets.iter().enumerate();
            targets.flat_map(move |(index, rows)| rows.iter().map(move |row| (*key, index, row)))
        });
        let slots: HashMap<(&str, usize, &str), &'c str> = rows
            .map(|(key, index, row)| ((key, index, row.slot.as_str()), row.slot.as_str()))
            .collect();
        for row in answered {
            let [Value::Text(key), Value::Text(name), Value::Text(slot), id] = row.as_slice()
            else {
                continue;
            };
            let mut generated = generated.iter();
            let target = generated.find(|(_, target)| target.target.name == *name);
            if let (Some((index, _)), Some(key)) = (target, keys.get(key.as_str())) {
                self.known.insert((*key, *index));
                if let Some(slot) = slots.get(&(*key, *index, slot.as_str())) {
                    self.ids.insert((*key, *index, *slot), id.clone());
                }
            }
        }
    }

    /// Whether this copy was given the id.
    pub(super) fn is_new(&self, target: usize, id: &Value) -> bool {
        self.new.contains(&(target, tag(id)))
    }

    /// Whether a row of the key had an id in this target before this copy.
    pub(super) fn had_id(&self, key: &str, target: usize) -> bool {
        self.known.contains(&(key, target))
    }

    /// Whether a cell waits for no lookup.
    fn answers(&self, cell: &Cell) -> bool {
        match cell {
            Cell::Lookup { lookup, by } if *by != Value::Null => {
                self.lookups.contains_key(&(*lookup, tag(by)))
            }
            _ => true,
        }
    }

    /// The first lookup that an image still waits for.
    pub(super) fn missing_lookup(&self, image: &Image) -> Option<usize> {
        let rows = image.targets.iter().flatten();
        let mut cells = rows.flat_map(|row| &row.cells);
        cells.find_map(|cell| match cell {
            Cell::Lookup { lookup, .. } if !self.answers(cell) => Some(*lookup),
            _ => None,
        })
    }

    /// A text that is the same for the same values of these cells alone.
    fn name<'i>(&self, key: &str, cells: impl Iterator<Item = &'i Cell>) -> String {
        let mut name = String::new();
        for cell in cells {
            let tag = match cell {
                Cell::Value(value) => tag(value),
                other => tag(&self.value(key, other).unwrap_or_default()),
            };
            name.push_str(&tag.len().to_string());
            name.push(':');
            name.push_str(&tag);
        }
        name
    }
}

/// A text that is the same for the same value alone.
pub(super) fn tag(value: &Value) -> String {
    match value {
        Value::Null => "n".into(),
        Value::Boolean(value) => format!("b{value}"),
        Value::Integer(value) => format!("i{value}"),
        Value::Float(value) => format!("f{}", value.to_bits()),
        Value::Decimal(value) => format!("d{value}"),
        Value::Text(value) => format!("t{value}"),
        Value::Bytes(value) => format!("x{value:?}"),
        Value::List(items) => items
            .iter()
            .map(|item| {
                let t = tag(item);
                format!("{}:{t}", t.len())
            })
            .collect(),
        Value::Record(fields) => fields
            .iter()
            .map(|(name, value)| {
                let t = tag(value);
                format!("{}:{name}{}:{t}", name.len(), t.len())
            })
            .collect(),
    }
}

impl SqlFollower {
    /// Asks every lookup once for every different value.
    pub(super) async fn resolve_lookups(
        &self,
        session: &mut dyn Session,
        copies: &[Copy<'_>],
        resolved: &mut Resolved<'_>,
    ) -> Result<(), DbError> {
        for (index, lookup) in self.lookups.iter().enumerate() {
            let mut asked: Vec<&Value> = Vec::new();
            let mut known: HashMap<String, usize> = HashMap::new();
            for (_, image) in copies {
                for cell in image.targets.iter().flatten().flat_map(|row| &row.cells) {
                    if let Cell::Lookup { lookup, by } = cell
                        && *lookup == index
                        && *by != Value::Null
                    {
                        known.entry(tag(by)).or_insert_with(|| {
                            asked.push(by);
                            asked.len() - 1
                        });
                    }
                }
            }
            if asked.is_empty() {
                continue;
            }
            let dialect = self.dialect();
            let rows: Vec<Vec<Value>> = (0i64..)
                .zip(&asked)
                .map(|(position, by)| vec![Value::Integer(position), (*by).clone()])
                .collect();
            let columns = [
                RowColumn::new("position", "bigint"),
                RowColumn::of("asked", &lookup.by),
            ];
            let value = format!("t.{}", dialect.quote(&lookup.value.name));
            let statement = Statement::of(
                dialect,
                &format!("SELECT r.position, {} FROM ", dialect.exact(&value)),
            )
            .rows("r", &columns, &rows)
            .sql(" CROSS JOIN ")
            .table(&lookup.lookup.table)
            .sql(&format!(
                " t WHERE t.{} = r.asked",
                dialect.quote(&lookup.by.name)
            ));
            for row in session.fetch(statement).await? {
                if let [Value::Integer(position), value] = row.as_slice()
                    && let Some(by) = usize::try_from(*position).ok().and_then(|p| asked.get(p))
                {
                    resolved.lookups.insert((index, tag(by)), value.clone());
                }
            }
        }
        Ok(())
    }

    /// Reads the id map for these copies.
    pub(super) async fn resolve_ids<'c>(
        &self,
        session: &mut dyn Session,
        copies: &[Copy<'c>],
        resolved: &mut Resolved<'c>,
    ) -> Result<(), DbError> {
        let generated: Vec<(usize, &TargetTable)> = self.generated().collect();
        if generated.is_empty() || copies.is_empty() {
            return Ok(());
        }
        let statement = Statement::of(self.dialect(), "SELECT m.key, m.target, m.slot, m.id FROM ")
            .table(tables::ID)
            .sql(" m WHERE ");
        let statement = self
            .here(statement, "m.")
            .sql(" AND ")
            .key_in("m.key", copies.iter().map(|(key, _)| *key));
        let answered = session.fetch(statement).await?;
        if !answered.is_empty() {
            resolved.keep_ids(copies, &generated, &answered);
        }
        Ok(())
    }

    /// New ids for rows of which none is known. Those that are answered are still to be [kept](Self::map_ids) in the
    /// id map, before rows that have them are written.
    pub(super) async fn allocate_ids<'c>(
        &self,
        session: &mut dyn Session,
        copies: &[Copy<'c>],
        resolved: &mut Resolved<'c>,
    ) -> Result<Vec<NewIds>, DbError> {
        let mut all = Vec::new();
        for (index, target) in self.generated() {
            let ids = self.allocate(session, copies, index, target, resolved);
            let Some(ids) = ids.await? else { continue };
            let mut later = self.generated().skip_while(|(other, _)| *other <= index);
            if later.all(|(_, later)| later.table.name != target.table.name) {
                all.push(ids);
                continue;
            }
            // Where the map says which ids are given out, it has to have these before it is asked again.
            for statement in self.map_ids(&ids) {
                session.execute(statement).await?;
            }
        }
        Ok(all)
    }

    fn generated(&self) -> impl Iterator<Item = (usize, &TargetTable)> {
        let targets = self.targets.iter().enumerate();
        targets.filter(|(_, target)| target.is_generated())
    }

    async fn allocate<'c>(
        &self,
        session: &mut dyn Session,
        copies: &[Copy<'c>],
        index: usize,
        target: &TargetTable,
        resolved: &mut Resolved<'c>,
    ) -> Result<Option<NewIds>, DbError> {
        let new: Vec<(&'c str, &'c str)> = copies
            .iter()
            .flat_map(|(key, image)| {
                image
                    .targets
                    .get(index)
                    .into_iter()
                    .flatten()
                    .map(|row| (*key, row.slot.as_str()))
            })
            .filter(|(key, slot)| !resolved.ids.contains_key(&(*key, index, *slot)))
            .collect();
        let Some(column) = target.id.as_ref().filter(|_| !new.is_empty()) else {
            return Ok(None);
        };
        let ids = self
            .dialect()
            .allocate_ids(&target.table, column, self.place.as_str(), new.len())
            .ok_or_else(|| DbError {
                class: ErrorClass::Other,
                summary: format!(
                    "column {} of {} generates no ids: give it a default, or name identity columns",
                    column.name, target.table.name
                ),
                source: sqlx::Error::ColumnNotFound(column.name.clone()),
            })?;
        let ids: Vec<Value> = session.fetch(ids).await?.into_iter().flatten().collect();
        let mut rows = Vec::with_capacity(new.len());
        for ((key, slot), id) in new.into_iter().zip(ids) {
            rows.push(vec![text(key), text(slot), id.clone()]);
            resolved.new.insert((index, tag(&id)));
            resolved.ids.insert((key, index, slot), id);
        }
        Ok(Some(NewIds {
            target: index,
            rows,
        }))
    }

    /// The statements that keep new ids in the id map.
    pub(super) fn map_ids(&self, new: &NewIds) -> Vec<Statement<'_>> {
        let columns = [
            RowColumn::new("key", "text"),
            RowColumn::new("slot", "text"),
            RowColumn::new("id", "text"),
        ];
        let Some(target) = self.targets.get(new.target) else {
            return Vec::new();
        };
        let chunks = new.rows.chunks(self.dialect().rows_limit(columns.len()));
        let statements = chunks.map(|rows| {
            Statement::of(self.dialect(), "INSERT INTO ")
                .table(tables::ID)
                .sql(" (entity, place, \"key\", target, slot, target_table, id) SELECT ")
                .text(self.entity.as_str())
                .sql(", ")
                .text(self.place.as_str())
                .sql(", r.key, ")
                .text(&target.target.name)
                .sql(", r.slot, ")
                .text(&target.table.name)
                .sql(", r.id FROM ")
                .rows("r", &columns, rows)
        });
        statements.collect()
    }

    /// The ids of the shared rows that these images name, where they are there.
    pub(super) async fn resolve_shared<'c>(
        &self,
        session: &mut dyn Session,
        copies: &[Copy<'c>],
        index: usize,
        target: &TargetTable,
        resolved: &mut Resolved<'c>,
    ) -> Result<Vec<Vec<Value>>, DbError> {
        let identity = target.identity_positions();
        let mut rows: Vec<Vec<Value>> = Vec::new();
        let mut users: Vec<Vec<(&'c str, &'c str)>> = Vec::new();
        let mut known: HashMap<String, usize> = HashMap::new();
        for (key, image) in copies {
            for row in image.targets.get(index).into_iter().flatten() {
                if !row.cells.iter().all(|cell| resolved.answers(cell)) {
                    continue;
                }
                let cells = identity.iter().filter_map(|p| row.cells.get(*p));
                let position = *known.entry(resolved.name(key, cells)).or_insert_with(|| {
                    let values = row.cells.iter().map(|cell| resolved.value(key, cell));
                    rows.push(values.map(Option::unwrap_or_default).collect());
                    users.push(Vec::new());
                    rows.len() - 1
                });
                if let Some(users) = users.get_mut(position) {
                    users.push((key, row.slot.as_str()));
                }
            }
        }
        let mut found = vec![false; rows.len()];
        for (position, id) in self.find_shared(session, target, &rows).await? {
            if let Some(found) = found.get_mut(position) {
                *found = true;
            }
            for (key, slot) in users.get(position).into_iter().flatten() {
                resolved.ids.insert((key, index, slot), id.clone());
            }
        }
        Ok(rows
            .into_iter()
            .zip(found)
            .filter(|(_, found)| !found)
            .map(|(row, _)| row)
            .collect())
    }

    /// (position, id) of the rows whose identity is there already.
    async fn find_shared(
        &self,
        session: &mut dyn Session,
        target: &TargetTable,
        rows: &[Vec<Value>],
    ) -> Result<Vec<(usize, Value)>, DbError> {
        let dialect = self.dialect();
        let id = target.id.as_ref().map_or_else(
            || "NULL".to_owned(),
            |column| dialect.exact(&format!("t.{}", dialect.quote(&column.name))),
        );
        let names: Vec<String> = (0..target.identity.len())
            .map(|n| format!("c{n}"))
            .collect();
        let mut columns = vec![RowColumn::new("position", "bigint")];
        columns.extend(
            names
                .iter()
                .zip(&target.identity)
                .map(|(n, column)| RowColumn::of(n, column)),
        );
        let same: Vec<String> = names
            .iter()
            .zip(&target.identity)
            .map(|(name, column)| format!("t.{} = r.{name}", dialect.quote(&column.name)))
            .collect();
        let positions = target.identity_positions();
        let bound: Vec<Vec<Value>> = (0i64..)
            .zip(rows)
            .map(|(position, row)| {
                std::iter::once(Value::Integer(position))
                    .chain(positions.iter().filter_map(|p| row.get(*p).cloned()))
                    .collect()
            })
            .collect();
        let mut found = Vec::new();
        for bound in bound.chunks(dialect.rows_limit(columns.len())) {
            let statement = Statement::of(dialect, &format!("SELECT r.position, {id} FROM "))
                .rows("r", &columns, bound)
                .sql(" CROSS JOIN ")
                .table(&target.target.table)
                .sql(&format!(" t WHERE {}", same.join(" AND ")));
            for row in session.fetch(statement).await? {
                if let [position, id] = row.as_slice()
                    && let Ok(position) = usize::try_from(integer(position))
                {
                    found.push((position, id.clone()));
                }
            }
        }
        Ok(found)
    }
}
