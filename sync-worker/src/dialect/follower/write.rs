//! The rows of images: what is deleted, added and changed.

use std::collections::HashMap;

use changeover_shadow::Value;

use super::resolve::{Copy, Resolved, tag};
use super::{SqlFollower, TargetTable};
use crate::dialect::catalog::Column;
use crate::dialect::session::{DbError, ErrorClass, Session};
use crate::dialect::statement::{RowColumn, Statement};
use crate::dialect::tables;
use crate::mapping::Belongs;

/// What is made of the rows that the keys have on the follower already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// They are changed, and deleted where the image does not have them.
    Change,
    /// All of them are deleted first, so that unique values can change hands.
    Replace,
}

impl SqlFollower {
    /// Writes the images of keys whose fence was raised in this transaction.
    pub(super) async fn write<'c>(
        &self,
        session: &mut dyn Session,
        images: &[Copy<'c>],
        how: How,
        resolved: &mut Resolved<'c>,
    ) -> Result<(), DbError> {
        let replace = how == How::Replace;
        self.resolve_ids(session, images, resolved).await?;
        for ids in self.allocate_ids(session, images, resolved).await? {
            for statement in self.map_ids(&ids) {
                session.execute(statement).await?;
            }
        }
        self.add_all_shared(session, images, resolved).await?;
        let mut rows: Vec<Vec<Vec<Value>>> = Vec::with_capacity(self.targets.len());
        for (index, target) in self.targets.iter().enumerate() {
            rows.push(if target.target.is_owned() {
                owned_rows(images, index, target, resolved)
            } else {
                Vec::new()
            });
        }
        let mut kept = HashMap::new();
        if replace {
            for (index, target) in self.targets.iter().enumerate() {
                kept.insert(index, self.unmapped_values(session, images, target).await?);
            }
        }
        for (index, target) in self.targets.iter().enumerate().rev() {
            if target.target.is_owned() {
                let remain = rows.get(index).map_or(&[][..], Vec::as_slice);
                let remain = if replace { &[][..] } else { remain };
                self.delete_others(session, images, target, remain, resolved)
                    .await?;
            }
        }
        for (index, target) in self.targets.iter().enumerate() {
            let rows = rows.get_mut(index).map(std::mem::take).unwrap_or_default();
            if rows.is_empty() {
                continue;
            }
            let columns: Vec<Column> = target.written().into_iter().cloned().collect();
            if let Some(kept) = kept.get(&index).filter(|kept| !kept.is_empty()) {
                self.insert_keeping(session, target, columns, &rows, kept)
                    .await?;
                continue;
            }
            // An id that was given out a moment ago is no row's: whoever has it is not the key's.
            let new = |row: &Vec<Value>| {
                let own = target.own_id().and(row.first());
                own.is_some_and(|id| resolved.is_new(index, id))
            };
            let (new, known): (Vec<_>, Vec<_>) = rows.into_iter().partition(new);
            match how {
                How::Change => self.put(session, target, &columns, &known).await?,
                How::Replace => self.insert(session, target, &columns, &known).await?,
            }
            self.insert(session, target, &columns, &new).await?;
        }
        Ok(())
    }

    /// Adds the shared rows that the images name, where they are not there, and finds their ids.
    pub(super) async fn add_all_shared<'c>(
        &self,
        session: &mut dyn Session,
        images: &[Copy<'c>],
        resolved: &mut Resolved<'c>,
    ) -> Result<(), DbError> {
        for (index, target) in self.targets.iter().enumerate() {
            if !target.target.is_owned() {
                self.add_shared(session, images, index, target, resolved)
                    .await?;
            }
        }
        Ok(())
    }

    async fn add_shared<'c>(
        &self,
        session: &mut dyn Session,
        images: &[Copy<'c>],
        index: usize,
        target: &TargetTable,
        resolved: &mut Resolved<'c>,
    ) -> Result<(), DbError> {
        let missing = self
            .resolve_shared(session, images, index, target, resolved)
            .await?;
        if missing.is_empty() {
            return Ok(());
        }
        let dialect = self.dialect();
        let names: Vec<String> = target
            .columns
            .iter()
            .map(|c| dialect.quote(&c.name))
            .collect();
        let identity: Vec<String> = target
            .identity
            .iter()
            .map(|c| dialect.quote(&c.name))
            .collect();
        for rows in missing.chunks(dialect.rows_limit(target.columns.len())) {
            let statement = Statement::of(dialect, "INSERT INTO ")
                .table(&target.target.table)
                .sql(&format!(
                    " ({}) SELECT {} FROM ",
                    names.join(", "),
                    numbered("r", names.len())
                ));
            let statement = derived(statement, RowColumn::into, &target.columns, rows)
                .sql(" WHERE true")
                .sql(&dialect.or_nothing(&target.target.table, &identity));
            session.execute(statement).await?;
        }
        let missing = self
            .resolve_shared(session, images, index, target, resolved)
            .await?;
        if missing.is_empty() {
            Ok(())
        } else {
            Err(DbError {
                class: ErrorClass::Data,
                summary: format!(
                    "a row added to {} is not found again by its identity: does a trigger change it?",
                    target.target.table
                ),
                source: sqlx::Error::RowNotFound,
            })
        }
    }

    /// Deletes the rows of these keys that are not among `remain`.
    async fn delete_others(
        &self,
        session: &mut dyn Session,
        images: &[Copy<'_>],
        target: &TargetTable,
        remain: &[Vec<Value>],
        resolved: &Resolved<'_>,
    ) -> Result<(), DbError> {
        let dialect = self.dialect();
        // Nothing refers to an id that was allocated a moment ago.
        let images: Vec<Copy<'_>> = match target.target.belongs() {
            Some(Belongs::Row { target: parent, .. }) => images
                .iter()
                .filter(|(key, _)| resolved.had_id(key, *parent))
                .copied()
                .collect(),
            _ => images.to_vec(),
        };
        if images.is_empty() {
            return Ok(());
        }
        let positions = target.identity_positions();
        let identities: Vec<Vec<Value>> = remain
            .iter()
            .map(|row| {
                positions
                    .iter()
                    .filter_map(|p| row.get(*p).cloned())
                    .collect()
            })
            .collect();
        let statement = Statement::of(dialect, &dialect.delete_from(&target.target.table));
        let mut statement = self.belonging(statement, target, &images);
        if !identities.is_empty() {
            let same: Vec<String> = target
                .identity
                .iter()
                .enumerate()
                .map(|(n, column)| format!("r.c{n} = t.{}", dialect.quote(&column.name)))
                .collect();
            statement = statement.sql(" AND NOT EXISTS (SELECT 1 FROM ");
            statement = derived(statement, RowColumn::of, &target.identity, &identities)
                .sql(&format!(" WHERE {})", same.join(" AND ")));
        }
        session.execute(statement).await?;
        Ok(())
    }

    /// `WHERE` text: a row `t` of the target belongs to one of these keys.
    pub(super) fn belonging<'d>(
        &self,
        statement: Statement<'d>,
        target: &TargetTable,
        images: &[Copy<'_>],
    ) -> Statement<'d> {
        let dialect = self.dialect();
        match target.target.belongs() {
            Some(Belongs::Key(names)) => {
                let columns: Vec<Column> = names
                    .iter()
                    .filter_map(|name| target.table.column(name))
                    .cloned()
                    .collect();
                let rows = self.key_values(images.iter().map(|(key, _)| *key), &columns);
                let quoted: Vec<String> = names
                    .iter()
                    .map(|name| format!("t.{}", dialect.quote(name)))
                    .collect();
                let statement = statement.sql(&format!(
                    "({}) IN (SELECT {} FROM ",
                    quoted.join(", "),
                    numbered("r", columns.len())
                ));
                derived(statement, RowColumn::of, &columns, &rows).sql(")")
            }
            Some(Belongs::Row {
                column,
                target: parent,
            }) => {
                let parent = self.targets.get(*parent);
                let id = parent.and_then(|parent| parent.id.as_ref());
                let id = dialect.cast("m.id", id.map_or("text", |column| &column.sql_type));
                let statement = statement
                    .sql(&format!(
                        "t.{} IN (SELECT {id} FROM ",
                        dialect.quote(column)
                    ))
                    .table(tables::ID)
                    .sql(" m WHERE ");
                self.here(statement, "m.")
                    .sql(" AND m.target = ")
                    .text(parent.map_or("", |parent| &parent.target.name))
                    .sql(" AND ")
                    .key_in("m.key", images.iter().map(|(key, _)| *key))
                    .sql(")")
            }
            None => statement.sql("false"),
        }
    }

    /// Keys as values of the columns that hold their components. Keys that these columns cannot
    /// hold, or only in another spelling, are left out: no row is theirs.
    pub(super) fn key_values<'k>(
        &self,
        keys: impl Iterator<Item = &'k str>,
        columns: &[Column],
    ) -> Vec<Vec<Value>> {
        keys.filter_map(|key| {
            let components = changeover_flags::Key::new(key).components(columns.len())?;
            let dialect = self.dialect();
            let mut pairs = components.iter().zip(columns);
            if !pairs.all(|(component, column)| {
                dialect.key_fits(component, column)
                    && dialect.canonical_component(component, column) == *component
            }) {
                return None;
            }
            Some(
                components
                    .iter()
                    .zip(columns)
                    .map(|(component, column)| dialect.key_value(component, column))
                    .collect(),
            )
        })
        .collect()
    }

    /// What columns that no mapping names hold now, by the row's identity.
    async fn unmapped_values(
        &self,
        session: &mut dyn Session,
        images: &[Copy<'_>],
        target: &TargetTable,
    ) -> Result<HashMap<String, Vec<Value>>, DbError> {
        if target.unmapped.is_empty() || !target.target.is_owned() {
            return Ok(HashMap::new());
        }
        let dialect = self.dialect();
        let select: Vec<String> = target
            .identity
            .iter()
            .chain(&target.unmapped)
            .map(|column| dialect.exact(&format!("t.{}", dialect.quote(&column.name))))
            .collect();
        let statement = Statement::of(dialect, &format!("SELECT {} FROM ", select.join(", ")))
            .table(&target.target.table)
            .sql(" AS t WHERE ");
        let statement = self.belonging(statement, target, images);
        let mut kept = HashMap::new();
        for mut row in session.fetch(statement).await? {
            let values = row.split_off(target.identity.len().min(row.len()));
            let identity = row.into_iter().zip(&target.identity);
            let identity = identity.map(|(value, column)| dialect.decode(value, &column.sql_type));
            kept.insert(name(&identity.collect::<Vec<_>>()), values);
        }
        Ok(kept)
    }

    /// Inserts rows; those that were there before get back what no mapping names.
    async fn insert_keeping(
        &self,
        session: &mut dyn Session,
        target: &TargetTable,
        columns: Vec<Column>,
        rows: &[Vec<Value>],
        kept: &HashMap<String, Vec<Value>>,
    ) -> Result<(), DbError> {
        let dialect = self.dialect();
        let positions = target.identity_positions();
        let identities = rows
            .iter()
            .map(|row| {
                positions
                    .iter()
                    .filter_map(|p| row.get(*p).cloned())
                    .collect()
            })
            .collect();
        let identities = dialect
            .normalise(session, &target.identity, identities)
            .await?;
        let mut before = Vec::new();
        let mut new = Vec::new();
        for (row, identity) in rows.iter().zip(identities) {
            match kept.get(&name(&identity)) {
                Some(values) => {
                    before.push(row.iter().chain(values).cloned().collect::<Vec<Value>>());
                }
                None => new.push(row.clone()),
            }
        }
        let all: Vec<Column> = columns.iter().chain(&target.unmapped).cloned().collect();
        // Those of the key are gone: one that is there is another's, or this key's own a moment ago.
        self.insert(session, target, &all, &before).await?;
        self.insert(session, target, &columns, &new).await
    }
}

/// The rows that these images hold in an owned target, as values, with the generated id first.
pub(super) fn owned_rows(
    images: &[Copy<'_>],
    index: usize,
    target: &TargetTable,
    resolved: &Resolved<'_>,
) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for (key, image) in images {
        for row in image.targets.get(index).into_iter().flatten() {
            let mut values = Vec::with_capacity(row.cells.len() + 1);
            if target.own_id().is_some() {
                values.push(resolved.id(key, index, &row.slot).unwrap_or_default());
            }
            values.extend(
                row.cells
                    .iter()
                    .map(|cell| resolved.value(key, cell).unwrap_or_default()),
            );
            rows.push(values);
        }
    }
    rows
}

/// What tells a row's identity from others.
fn name(identity: &[Value]) -> String {
    identity.iter().map(tag).collect::<Vec<_>>().join("\0")
}

/// `alias.c0, alias.c1, …`
pub(super) fn numbered(alias: &str, count: usize) -> String {
    (0..count)
        .map(|n| format!("{alias}.c{n}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A derived table `r(c0, c1, …)` of values, to be found in these columns ([`RowColumn::of`]) or put
/// into them ([`RowColumn::into`]).
pub(super) fn derived<'d>(
    statement: Statement<'d>,
    typed: for<'a> fn(&'a str, &'a Column) -> RowColumn<'a>,
    columns: &[Column],
    rows: &[Vec<Value>],
) -> Statement<'d> {
    let names: Vec<String> = (0..columns.len()).map(|n| format!("c{n}")).collect();
    let pairs = names.iter().zip(columns);
    let columns: Vec<RowColumn<'_>> = pairs.map(|(n, column)| typed(n, column)).collect();
    statement.rows("r", &columns, rows)
}
