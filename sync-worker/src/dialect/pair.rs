//! What is summed of one target on both sides, or why it is not: [`Pair`].

use super::alike::Form;
use super::catalog::{Column, Table};
use super::sums::{KeyOrder, RowsOf, SumTarget};
use super::{Dialect, inspect};
use crate::mapping::{Belongs, Identity, Ownership, Shape, SourceQuery, Target};
use crate::preflight::Catalog;

/// The two sides between which targets are looked at.
pub(super) struct Pair<'a> {
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
                identity: Identity::Generated(_),
                ..
            } => return Err(not("its rows have generated ids")),
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
        let ordered = |side: &dyn Dialect, types: Vec<&String>| {
            let found = types.iter().map(|name| side.sums().key_order(name));
            found.eq(self.order.iter().copied().map(Some))
        };
        let held_types = held_key.iter().map(|column| &column.sql_type).collect();
        if !ordered(self.authority, key_types.iter().collect())
            || !ordered(self.follower, held_types)
        {
            return Err(not(
                "its key is not ordered as the root table's: name columns of the same kind",
            ));
        }
        let target = self.columns(target, table, query, types, holding)?;
        Ok((target, held_key))
    }

    fn columns(
        &self,
        target: &Target,
        table: &Table,
        query: &SourceQuery,
        types: &[String],
        holding: &[String],
    ) -> Result<SumTarget, Reason> {
        let (mut source, mut held, mut columns) = (Vec::new(), Vec::new(), Vec::new());
        let mut forms = (self.authority.engine() != self.follower.engine()).then(Vec::new);
        for name in &target.columns {
            let not = |why: String| (format!("{}.{name}", target.name), why);
            let (column, (expression, from)) = table
                .column(name)
                .zip(expression(name, query, types))
                .ok_or_else(|| not("it is a lookup's answer, or another row's id".to_owned()))?;
            let (of_source, of_column) = match &mut forms {
                None => self.summed((expression, from), column).map_err(not)?,
                Some(forms) => {
                    let (form, texts) = self.alike((expression, from), column).map_err(not)?;
                    forms.push(form);
                    texts
                }
            };
            source.push(of_source);
            held.push(of_column);
            columns.push(column.clone());
        }
        let root = &self.shape.root;
        Ok(SumTarget {
            name: target.name.clone(),
            rooted: query.from == root.table && query.key == root.key,
            source: RowsOf {
                from: inspect::from(self.authority, root, query),
                key: inspect::key(self.authority, root, query),
                filter: query.filter.clone(),
                values: source,
            },
            held: RowsOf {
                from: format!("{} t", self.follower.table(&table.name)),
                key: (holding.iter())
                    .map(|name| format!("t.{}", self.follower.quote(name)))
                    .collect(),
                filter: None,
                values: held,
            },
            columns,
            forms,
        })
    }

    /// A column's name in the follower's rows.
    fn held(&self, column: &Column) -> String {
        format!("t.{}", self.follower.quote(&column.name))
    }

    /// What stands for an expression and for the column that it fills, between databases of one engine.
    fn summed(
        &self,
        (expression, from): (&str, &str),
        column: &Column,
    ) -> Result<(String, String), String> {
        let (authority, follower) = (self.authority.sums(), self.follower.sums());
        Ok((
            authority.summed(expression, Some(from), column)?,
            follower.summed(&self.held(column), None, column)?,
        ))
    }

    /// The same between two engines, and the form of both.
    fn alike(
        &self,
        (expression, from): (&str, &str),
        column: &Column,
    ) -> Result<(Form, (String, String)), String> {
        let (authority, follower) = (self.authority.sums(), self.follower.sums());
        let held = self.held(column);
        let written = follower.forms(&column.sql_type).iter().find_map(|form| {
            let source = authority.written(expression, from, *form)?;
            let held = follower.written(&held, &column.sql_type, *form)?;
            Some((*form, (source, held)))
        });
        written.ok_or_else(|| {
            format!(
                "no text is known that both engines write of values of type {from} in a column of type {}: \
                 convert them in the expression",
                column.full_type
            )
        })
    }
}

/// The expression that fills a column as it is, and its type.
fn expression<'a>(
    column: &str,
    query: &'a SourceQuery,
    types: &'a [String],
) -> Option<(&'a str, &'a str)> {
    let selected = query.select.iter().zip(types);
    // The first one is the slot, whatever the columns are called.
    let mut filling = selected.skip(1).filter(|((name, _), _)| name == column);
    let ((_, expression), sql_type) = filling.next()?;
    Some((expression, sql_type))
}
