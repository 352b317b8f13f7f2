//! What is summed of one target on both sides, or why it is not: [`Pair`].

use changeover_flags::{Entity, Place};

use super::alike::Form;
use super::catalog::{Column, Table};
use super::sums::{KeyOrder, RowsOf, SumTarget};
use super::{Dialect, inspect, tables};
use crate::mapping::{Pointer, Shape, SourceQuery, Target};
use crate::preflight::Catalog;

mod references;

use references::Holding;

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

impl<'a> Pair<'a> {
    /// How a target of rows of one key is summed.
    pub(super) fn target(&self, index: usize, target: &Target) -> Result<Paired, Reason> {
        let not = |why: &str| (target.name.clone(), why.to_owned());
        let filling = self.filling(index).map_err(not)?;
        let holding = self.holding(target, "t")?;
        let order = |side: &dyn Dialect, types: &mut dyn Iterator<Item = &String>| {
            let orders: Option<Vec<KeyOrder>> =
                types.map(|name| side.sums().key_order(name)).collect();
            orders.unwrap_or_default()
        };
        let read = order(self.authority, &mut filling.key_types.iter());
        let held = order(
            self.follower,
            &mut holding.columns.iter().map(|column| &column.sql_type),
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
        self.columns((index, target), filling, holding)
    }

    /// What a column of a target names, if it is filled by that.
    fn pointer(&self, target: usize, column: &str) -> Option<&'a Pointer> {
        let mut pointers = self.shape.pointers.iter();
        pointers.find(|pointer| pointer.target == target && pointer.column == column)
    }

    /// The query that fills a target.
    fn filling(&self, target: usize) -> Result<Query<'a>, &'static str> {
        let mut queries = self.shape.queries.iter().enumerate();
        let found = queries
            .find(|(_, query)| query.fills == Some(target))
            .and_then(|(place, query)| {
                Some(Query {
                    query,
                    types: self.catalog.types.get(place)?,
                    key_types: self.catalog.key_types.get(place)?,
                })
            });
        found.ok_or(UNKNOWN)
    }

    /// One of the follower's tables.
    fn table(&self, name: &str) -> Result<&'a Table, &'static str> {
        let mut tables = self.catalog.follower.iter();
        tables.find(|table| table.name == name).ok_or(UNKNOWN)
    }

    fn columns(
        &self,
        (index, target): (usize, &Target),
        filling: Query<'_>,
        holding: Holding,
    ) -> Result<Paired, Reason> {
        let two_engines = self.authority.engine() != self.follower.engine();
        let whole = |why: String| (target.name.clone(), why);
        let table = (self.table(&target.table)).map_err(|why| whole(why.to_owned()))?;
        let mut all = Vec::with_capacity(target.columns.len() + 1);
        let (mut beside, mut shared) = (String::new(), Vec::new());
        for name in &target.columns {
            let not = |why: String| (format!("{}.{name}", target.name), why);
            let column = table.column(name).ok_or_else(|| not(UNKNOWN.to_owned()))?;
            let expression = match self.pointer(index, name) {
                Some(_) => None,
                None => Some(
                    filling
                        .expression(name)
                        .ok_or_else(|| not(TWICE.to_owned()))?,
                ),
            };
            match expression {
                Some(expression) => {
                    all.push(
                        self.filled(expression, column, &held(self, column))
                            .map_err(not)?,
                    );
                }
                None => {
                    let named = self.named((index, target), column, filling, &holding);
                    let named = named.map_err(not)?;
                    all.extend(named.columns);
                    beside.push_str(&named.beside);
                    shared.extend(named.shared);
                }
            }
        }
        if let Some(id) = target.id_column() {
            all.push(self.slot(target, id, filling, &holding).map_err(whole)?);
        }
        let values = |of: fn(&Summed) -> &String| all.iter().map(of).cloned().collect();
        let (root, query) = (&self.shape.root, filling.query);
        Ok(Paired {
            shared,
            target: SumTarget {
                name: target.name.clone(),
                source: RowsOf {
                    from: inspect::from(self.authority, root, query),
                    beside: String::new(),
                    key: inspect::key(self.authority, root, query),
                    filter: query.filter.clone(),
                    values: values(|summed| &summed.source),
                },
                held: RowsOf {
                    from: holding.from,
                    beside,
                    key: holding.key,
                    filter: None,
                    values: values(|summed| &summed.held),
                },
                forms: (two_engines).then(|| all.iter().filter_map(|summed| summed.form).collect()),
                columns: all.into_iter().map(|summed| summed.column).collect(),
            },
            key: holding.columns,
        })
    }

    /// How an expression and the column that it fills, which is called so on the follower's side, are summed.
    fn filled(&self, filling: Filling<'_>, column: &Column, held: &str) -> Result<Summed, String> {
        match self.authority.engine() == self.follower.engine() {
            true => self.summed(filling, column, held),
            false => self.alike(filling, column, held, column),
        }
    }

    /// The same between databases of one engine.
    fn summed(
        &self,
        (expression, from): Filling<'_>,
        column: &Column,
        held: &str,
    ) -> Result<Summed, String> {
        let (authority, follower) = (self.authority.sums(), self.follower.sums());
        Ok(Summed {
            source: authority.summed(expression, Some(from), column)?,
            held: follower.summed(held, None, column)?,
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
        (pointer, by): (&Pointer, &String),
        column: &Column,
        filling: Query<'_>,
    ) -> Result<Summed, String> {
        let asked = filling.expression(&format!("{}.by", column.name));
        let asked = asked.ok_or("its name is that of another column's question")?;
        let table = self.table(&pointer.table)?;
        let (by, value) = (table.column(by).zip(table.column(&pointer.names))).ok_or(UNKNOWN)?;
        if !self.tells(column, (table, value)) {
            return Err(format!(
                "it is a lookup's answer, which tells what was asked where {}.{} is unique and both are integers, both with a sign or both without (PostgreSQL: or uuids)",
                pointer.table, value.name
            ));
        }
        let quote = |column: &Column| format!("looked.{}", self.follower.quote(&column.name));
        let (from, held) = (self.follower.table(&pointer.table), held(self, column));
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
        filling: Query<'_>,
        holding: &Holding,
    ) -> Result<Summed, String> {
        let slot = filling.query.select.first().zip(filling.types.first());
        let ((_, slot), from) = slot.ok_or(UNKNOWN)?;
        let id = format!("t.{}", self.follower.quote(id));
        let mut summed = self.drawn((slot, from), (target, &id), holding, "")?;
        summed.held = format!(
            "coalesce({}, {})",
            summed.held,
            self.follower.sums().never()
        );
        Ok(summed)
    }

    /// How a slot is summed, and on the follower's side the one of this target for which this id was drawn for the row's
    /// key; NULL if it was not.
    fn drawn(
        &self,
        slot: Filling<'_>,
        (target, id): (&Target, &str),
        holding: &Holding,
        condition: &str,
    ) -> Result<Summed, String> {
        let text = text("slot");
        let mut summed = self.alike(slot, &text, "m.slot", &text)?;
        if summed.form != Some(Form::Text) {
            let from = slot.1;
            return Err(format!(
                "its slot is of type {from}, of which no text is known"
            ));
        }
        summed.source = self.authority.sums().slot_text(&summed.source);
        summed.held = format!(
            "(SELECT {} FROM {} AND m.target_table = '{}' AND m.id = {}{condition})",
            summed.held,
            self.mapped("m", target, holding),
            target.table.replace('\'', "''"),
            self.follower.sums().mapped_id(id),
        );
        Ok(summed)
    }

    /// What the id map has of this target for the row's key, under this name: what stands after `FROM`.
    fn mapped(&self, called: &str, target: &Target, holding: &Holding) -> String {
        format!(
            "{} {called} WHERE {called}.entity = '{}' AND {called}.place = '{}' AND {called}.target = '{}' \
             AND {called}.key = {}",
            self.follower.table(tables::ID),
            self.entity,
            self.place,
            target.name.replace('\'', "''"),
            self.follower.key_text(&holding.key),
        )
    }
}

/// How a target is summed, and what else that stands for.
pub(super) struct Paired {
    pub(super) target: SumTarget,
    /// The columns that have its key.
    pub(super) key: Vec<Column>,
    /// The targets of shared rows that are summed with the rows that name them.
    pub(super) shared: Vec<usize>,
}

/// A query that fills a target.
#[derive(Clone, Copy)]
struct Query<'a> {
    query: &'a SourceQuery,
    types: &'a [String],
    key_types: &'a [String],
}

impl<'a> Query<'a> {
    /// The expression that fills a column as it is, and its type. None where the name stands twice: that of a lookup's
    /// question can be a column's.
    fn expression(&self, column: &str) -> Option<Filling<'a>> {
        let selected = self.query.select.iter().zip(self.types);
        // The first one is the slot, whatever the columns are called.
        let mut filling = selected.skip(1).filter(|((name, _), _)| name == column);
        let ((_, expression), sql_type) = filling.next()?;
        filling
            .next()
            .is_none()
            .then_some((expression.as_str(), sql_type.as_str()))
    }
}

/// A column's name in the follower's rows.
fn held(pair: &Pair<'_>, column: &Column) -> String {
    format!("t.{}", pair.follower.quote(&column.name))
}

/// A column of texts.
fn text(name: &str) -> Column {
    Column {
        name: name.to_owned(),
        sql_type: "text".to_owned(),
        full_type: "text".to_owned(),
        ..Column::default()
    }
}

/// Why a column is not summed whose name is that of what another one asks for.
const TWICE: &str = "its name is that of another column's question";

/// Why what no catalog names is not summed.
const UNKNOWN: &str = "the catalog does not know all of it";

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
