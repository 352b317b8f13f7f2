//! What is summed of one target on both sides, or why it is not: [`Pair`].

use changeover_flags::{Entity, Place};

use super::alike::Form;
use super::catalog::{Column, Table};
use super::sums::{KeyOrder, RowsOf, SumTarget};
use super::{Dialect, inspect, tables};
use crate::mapping::{Belongs, Ownership, Shape, SourceQuery, Target};
use crate::preflight::Catalog;

/// The two sides between which targets are looked at.
pub(super) struct Pair<'a> {
    pub(super) entity: &'a Entity,
    /// The follower's.
    pub(super) place: Place,
    pub(super) shape: &'a Shape,
    pub(super) catalog: &'a Catalog,
    /// The order of each key component on the authority's side.
    pub(super) order: Vec<KeyOrder>,
    pub(super) authority: &'a dyn Dialect,
    pub(super) follower: &'a dyn Dialect,
}

/// What cannot be summed, and why.
pub(super) type Reason = (String, String);

impl Pair<'_> {
    /// How a target is summed, and the columns that have its key.
    pub(super) fn target(
        &self,
        index: usize,
        target: &Target,
    ) -> Result<(SumTarget, Vec<Column>), Reason> {
        let not = |why: &str| (target.name.clone(), why.to_owned());
        let holding = match &target.ownership {
            Ownership::Shared { .. } => return Err(not("its rows are shared by many keys")),
            Ownership::Owned {
                belongs: Belongs::Row { .. },
                ..
            } => return Err(not("its rows belong to another row's id")),
            Ownership::Owned {
                belongs: Belongs::Key(columns),
                ..
            } => columns,
        };
        let unknown = || not("the catalog does not know all of it");
        let (place, query) = (self.shape.queries.iter().enumerate())
            .find(|(_, query)| query.fills == Some(index))
            .ok_or_else(unknown)?;
        let types = self.catalog.types.get(place).ok_or_else(unknown)?;
        let key_types = self.catalog.key_types.get(place).ok_or_else(unknown)?;
        let table = (self.catalog.follower.iter())
            .find(|table| table.name == target.table)
            .ok_or_else(unknown)?;
        let held_key = (holding.iter())
            .map(|name| table.column(name).cloned())
            .collect::<Option<Vec<Column>>>()
            .ok_or_else(unknown)?;
        let order = |side: &dyn Dialect, types: &mut dyn Iterator<Item = &String>| {
            let orders: Option<Vec<KeyOrder>> =
                types.map(|name| side.sums().key_order(name)).collect();
            orders.unwrap_or_default()
        };
        let read = order(self.authority, &mut key_types.iter());
        let held = order(
            self.follower,
            &mut held_key.iter().map(|column| &column.sql_type),
        );
        // Of a key of several numbers, more than one would have to be brought within the column's.
        let narrower = matches!(
            (&*self.order, &*held),
            ([KeyOrder::Unsigned], [KeyOrder::Signed])
        );
        if read != self.order || (held != self.order && !narrower) {
            return Err(not(
                "its key is not ordered as the root table's: name columns of the same kind",
            ));
        }
        let target = self.columns((index, target), table, (query, types), holding)?;
        Ok((target, held_key))
    }

    fn columns(
        &self,
        (index, target): (usize, &Target),
        table: &Table,
        (query, types): (&SourceQuery, &[String]),
        holding: &[String],
    ) -> Result<SumTarget, Reason> {
        let two_engines = self.authority.engine() != self.follower.engine();
        let mut all = Vec::with_capacity(target.columns.len() + 1);
        for name in &target.columns {
            let not = |why: String| (format!("{}.{name}", target.name), why);
            let column = (table.column(name))
                .ok_or_else(|| not("the catalog does not know all of it".to_owned()))?;
            let summed = match expression(name, query, types) {
                Some(filling) if two_engines => {
                    self.alike(filling, column, &self.held(column), column)
                }
                Some(filling) => self.summed(filling, column),
                None => self.looked_up(index, column, (query, types)),
            };
            all.push(summed.map_err(not)?);
        }
        if let Some(id) = target.id_column() {
            let slot = self.slot(target, id, (query, types), holding);
            all.push(slot.map_err(|why| (target.name.clone(), why))?);
        }
        let values = |of: fn(&Summed) -> &String| all.iter().map(of).cloned().collect();
        let root = &self.shape.root;
        Ok(SumTarget {
            name: target.name.clone(),
            rooted: query.from == root.table && query.key == root.key,
            source: RowsOf {
                from: inspect::from(self.authority, root, query),
                key: inspect::key(self.authority, root, query),
                filter: query.filter.clone(),
                values: values(|summed| &summed.source),
            },
            held: RowsOf {
                from: format!("{} t", self.follower.table(&table.name)),
                key: (holding.iter())
                    .map(|name| format!("t.{}", self.follower.quote(name)))
                    .collect(),
                filter: None,
                values: values(|summed| &summed.held),
            },
            forms: (two_engines).then(|| all.iter().filter_map(|summed| summed.form).collect()),
            columns: all.into_iter().map(|summed| summed.column).collect(),
        })
    }

    /// A column's name in the follower's rows.
    fn held(&self, column: &Column) -> String {
        format!("t.{}", self.follower.quote(&column.name))
    }

    /// How an expression and the column that it fills are summed between databases of one engine.
    fn summed(&self, (expression, from): Filling<'_>, column: &Column) -> Result<Summed, String> {
        let (authority, follower) = (self.authority.sums(), self.follower.sums());
        Ok(Summed {
            source: authority.summed(expression, Some(from), column)?,
            held: follower.summed(&self.held(column), None, column)?,
            column: column.clone(),
            form: None,
        })
    }

    /// How an expression and what the follower has in its place, of the type of `like`, are summed as one text, which
    /// is how two engines do: in the best form that both write.
    fn alike(
        &self,
        (expression, from): Filling<'_>,
        column: &Column,
        held: &str,
        like: &Column,
    ) -> Result<Summed, String> {
        let (authority, follower) = (self.authority.sums(), self.follower.sums());
        let written = follower.forms(&like.sql_type).iter().find_map(|form| {
            Some(Summed {
                source: authority.written(expression, from, *form)?,
                held: follower.written(held, &like.sql_type, *form)?,
                column: column.clone(),
                form: Some(*form),
            })
        });
        written.ok_or_else(|| {
            format!(
                "no text is known that both sides write of values of type {from} in a column of type {}: \
                 convert them in the expression",
                like.full_type
            )
        })
    }

    /// How what a lookup is asked for is summed, and on the follower's side what it was asked for, which the answer
    /// tells: a lookup's rows never change, and each answer is one row's. An answer that no row gives agrees with nothing.
    fn looked_up(
        &self,
        target: usize,
        column: &Column,
        (query, types): (&SourceQuery, &[String]),
    ) -> Result<Summed, String> {
        let answers = self.shape.pointers.iter().find(|pointer| {
            pointer.target == target && pointer.column == column.name && pointer.by.is_some()
        });
        let asked = expression(&format!("{}.by", column.name), query, types);
        let Some((pointer, asked)) = answers.zip(asked) else {
            return Err("it is another row's id".to_owned());
        };
        let table = (self.catalog.follower.iter()).find(|table| table.name == pointer.table);
        let of = |name: &String| table.and_then(|table| table.column(name));
        let (Some(by), Some(value)) = (pointer.by.as_ref().and_then(of), of(&pointer.names)) else {
            return Err("the catalog does not know all of its lookup".to_owned());
        };
        // Other texts than these can be equal and not the same.
        let exact = self.follower.sums().key_order(&value.sql_type).is_some();
        let unique = table.is_some_and(|table| table.is_unique(std::slice::from_ref(&value.name)));
        if !exact || !unique || value.sql_type != column.sql_type {
            return Err(format!(
                "it is a lookup's answer, which tells what was asked only where {}.{} is unique, of the column's type, and one of integers (PostgreSQL: or uuids)",
                pointer.table, value.name
            ));
        }
        let quote = |column: &Column| format!("looked.{}", self.follower.quote(&column.name));
        let (from, held) = (self.follower.table(&pointer.table), self.held(column));
        let mut summed = self.alike(asked, column, &quote(by), by)?;
        summed.held = format!(
            "CASE WHEN {held} IS NOT NULL THEN coalesce((SELECT {} FROM {from} looked WHERE {} = {held}), {}) END",
            summed.held,
            quote(value),
            self.follower.sums().never()
        );
        summed.column = self.follower.sums().text_like(by);
        Ok(summed)
    }

    /// How a row's slot is summed, and on the follower's side the one for which its id was drawn, if that was for this
    /// key: then the row has the id that a copy would give it. An id that was drawn for nobody agrees with nothing.
    fn slot(
        &self,
        target: &Target,
        id: &str,
        (query, types): (&SourceQuery, &[String]),
        holding: &[String],
    ) -> Result<Summed, String> {
        let slot = query.select.first().zip(types.first());
        let ((_, slot), from) = slot.ok_or("the catalog does not know all of it")?;
        let text = Column {
            name: "slot".to_owned(),
            sql_type: "text".to_owned(),
            full_type: "text".to_owned(),
            ..Column::default()
        };
        let mut summed = self.alike((slot, from), &text, "m.slot", &text)?;
        if summed.form != Some(Form::Text) {
            return Err(format!(
                "its slot is of type {from}, of which no text is known"
            ));
        }
        summed.source = self.authority.sums().slot_text(&summed.source);
        let held = |name: &str| format!("t.{}", self.follower.quote(name));
        let key: Vec<String> = holding.iter().map(|name| held(name)).collect();
        let id = self.follower.sums().mapped_id(&held(id));
        let quoted = |text: &str| text.replace('\'', "''");
        summed.held = format!(
            "coalesce((SELECT {} FROM {} m WHERE m.place = '{}' AND m.target_table = '{}' AND m.id = {id} \
             AND m.entity = '{}' AND m.target = '{}' AND m.key = {}), {})",
            summed.held,
            self.follower.table(tables::ID),
            self.place,
            quoted(&target.table),
            self.entity,
            quoted(&target.name),
            self.follower.key_text(&key),
            self.follower.sums().never(),
        );
        Ok(summed)
    }
}

/// How one column is summed.
struct Summed {
    source: String,
    held: String,
    /// What both are values of.
    column: Column,
    /// How they are written, unless each engine sums its own values.
    form: Option<Form>,
}

/// An expression, and its type.
type Filling<'a> = (&'a str, &'a str);

/// The expression that fills a column as it is, and its type. None where the name stands twice: that of a lookup's
/// question can be a column's.
fn expression<'a>(
    column: &str,
    query: &'a SourceQuery,
    types: &'a [String],
) -> Option<Filling<'a>> {
    let selected = query.select.iter().zip(types);
    // The first one is the slot, whatever the columns are called.
    let mut filling = selected.skip(1).filter(|((name, _), _)| name == column);
    let ((_, expression), sql_type) = filling.next()?;
    filling
        .next()
        .is_none()
        .then_some((expression.as_str(), sql_type.as_str()))
}
