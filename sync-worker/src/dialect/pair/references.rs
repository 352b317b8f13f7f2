//! Columns that name other rows of the key's image, and rows that belong to such a row.
//!
//! A row of another row is summed with its key, which that other one has: both are joined, and rows whose
//! other row is gone are listed apart ([`Follower::stranded`]). A shared row is summed with the rows that
//! name it, as if its columns were theirs, where the same row of the root table says both: then nothing is left
//! to look at where the shared rows are.
//!
//! [`Follower::stranded`]: crate::store::Follower::stranded

use super::{Filling, Pair, Query, Reason, Summed, UNKNOWN, held, text};
use crate::dialect::alike::Form;
use crate::dialect::authority::is_scalar;
use crate::dialect::catalog::{Column, Table};
use crate::dialect::chain::Chain;
use crate::mapping::{Belongs, NamedRow, Pointer, Target};

/// How the rows of a target have a key on the follower's side.
pub(super) struct Holding {
    /// What they are read from.
    pub(super) from: String,
    /// Expressions that are the key's components.
    pub(super) key: Vec<String>,
    /// The columns that these are.
    pub(super) columns: Vec<Column>,
}

/// How a column that names a row is summed.
#[derive(Default)]
pub(super) struct Named {
    pub(super) columns: Vec<Summed>,
    /// What is joined for them on the follower's side.
    pub(super) beside: String,
    /// The target whose rows they say.
    pub(super) shared: Option<usize>,
}

impl Pair<'_> {
    /// How the rows of a target, which are called so, have a key: in columns of theirs, or in those of the row that
    /// they belong to.
    pub(super) fn holding(&self, target: &Target, called: &str) -> Result<Holding, Reason> {
        let not = |why: &str| (target.name.clone(), why.to_owned());
        let target_at = |index: usize| self.shape.targets.get(index);
        let chain = Chain::of(self.follower, target_at, target, called);
        let chain = chain.ok_or_else(|| not("its rows belong to no key"))?;
        for (of, column, parent) in chain.steps {
            let named = self.id_named_by(&of.table, column, parent);
            named.map_err(|why| not(&why))?;
        }
        let (of, columns) = chain.end;
        let table = self.table(&of.table).map_err(not)?;
        let columns = columns.iter().map(|name| table.column(name).cloned());
        let columns: Option<Vec<Column>> = columns.collect();
        Ok(Holding {
            from: chain.from,
            key: chain.key,
            columns: columns.ok_or_else(|| not(UNKNOWN))?,
        })
    }

    /// The id of a target that a column of a table names, if each value of the column is one row's.
    fn id_named_by<'t>(
        &self,
        table: &str,
        column: &str,
        named: &'t Target,
    ) -> Result<&'t str, String> {
        let id = named.id_column().ok_or(UNKNOWN)?;
        let holder = self.table(&named.table)?;
        let (of, id_column) = (self.table(table)?.column(column), holder.column(id));
        let (of, id_column) = of.zip(id_column).ok_or(UNKNOWN)?;
        if !self.tells(of, (holder, id_column)) {
            return Err(format!(
                "it is another row's id, which is summed where {}.{id} is unique and both are integers, both with a sign or both without (PostgreSQL: or uuids)",
                named.table
            ));
        }
        Ok(id)
    }

    /// Whether a value of one column is that of one row of a table at most, in a column of it.
    pub(super) fn tells(&self, one: &Column, (table, column): (&Table, &Column)) -> bool {
        // Other texts than these can be equal and not the same.
        let order = |column: &Column| self.follower.sums().key_order(&column.sql_type);
        let unique = table.is_unique(std::slice::from_ref(&column.name));
        unique && order(one).is_some() && order(one) == order(column)
    }

    /// How a column that no expression fills is summed.
    pub(super) fn named(
        &self,
        (index, target): (usize, &Target),
        column: &Column,
        filling: Query<'_>,
        holding: &Holding,
    ) -> Result<Named, String> {
        let pointer = self.pointer(index, &column.name).ok_or(UNKNOWN)?;
        let one = |summed: Summed| Named {
            columns: vec![summed],
            ..Named::default()
        };
        match pointer {
            Pointer { by: Some(by), .. } => self.looked_up((pointer, by), column, filling).map(one),
            Pointer { row: Some(row), .. } => {
                let named = self.shape.targets.get(row.target).ok_or(UNKNOWN)?;
                let id = self.id_named_by(&target.table, &column.name, named)?;
                match named.is_owned() {
                    false => self.shared_row((row, named, id), (target, column), filling),
                    true if self.is_its_key(row, target, column)? => Ok(Named::default()),
                    true => self
                        .own_row((row, named, id), column, filling, holding)
                        .map(one),
                }
            }
            _ => Err("it is another row's id".to_owned()),
        }
    }

    /// Whether a column has nothing to say but by which row it has its key: one that is the only one of its key.
    fn is_its_key(&self, row: &NamedRow, target: &Target, column: &Column) -> Result<bool, String> {
        let slot = self.filling(row.target)?.query.select.first();
        let one = slot.is_some_and(|(_, slot)| slot == "''") && row.slot.is_none();
        Ok(one
            && matches!(target.belongs(), Some(Belongs::Row { column: by, target: of })
                if *by == column.name && *of == row.target))
    }

    /// How the id of a row of the key's own is summed: by its slot, where that row is there and is the key's. The empty
    /// slot is NULL, as is no id: where there is a row of the empty slot, no id has another sum. An id that was drawn
    /// for no slot of the key, or whose row is gone, agrees with nothing.
    fn own_row(
        &self,
        (row, named, id): (&NamedRow, &Target, &str),
        column: &Column,
        filling: Query<'_>,
        holding: &Holding,
    ) -> Result<Summed, String> {
        let asked = match row.slot {
            None => Some(("NULL", "text")),
            Some(_) => filling.expression(&format!("{}.slot", column.name)),
        };
        let asked = asked.ok_or("its name is that of another column's slot")?;
        let held = held(self, column);
        let owner = self.holding(named, "n").map_err(|(_, why)| why)?;
        let mut there = format!("SELECT 1 FROM {} WHERE ", owner.from);
        for (theirs, own) in owner.key.iter().zip(&holding.key) {
            there.push_str(&format!("{theirs} = {own} AND "));
        }
        there.push_str(&format!("n.{} = ", self.follower.quote(id)));
        let drawn = format!(" AND EXISTS ({there}{held})");
        let mut summed = self.drawn(asked, (named, &held), holding, &drawn)?;
        let id_column = self.table(&named.table)?.column(id).ok_or(UNKNOWN)?;
        let empty = format!("{} AND e.slot = ''", self.mapped("e", named, holding));
        let never = self.follower.sums().never();
        summed.source = format!("nullif({}, '')", summed.source);
        summed.held = format!(
            "CASE WHEN {held} IS NOT NULL THEN nullif(coalesce({}, {never}), '') \
             WHEN EXISTS (SELECT 1 FROM {empty} AND EXISTS ({there}{})) THEN {never} END",
            summed.held,
            self.follower.cast("e.id", &id_column.sql_type),
        );
        Ok(summed)
    }

    /// How a shared row and its id are summed: whether one is named, and what it says. Its identity is not NULL, so an
    /// id of no row has another sum.
    fn shared_row(
        &self,
        (row, named, id): (&NamedRow, &Target, &str),
        (target, column): (&Target, &Column),
        filling: Query<'_>,
    ) -> Result<Named, String> {
        let says = self.filling(row.target)?;
        let root = &self.shape.root;
        let (query, other) = (filling.query, says.query);
        let same = (&query.from, &query.key, &query.filter)
            == (&other.from, &other.key, &other.filter)
            && (&query.from, &query.key) == (&root.table, &root.key);
        let slot = other.select.first().map(|(_, slot)| slot.as_str());
        let mut all = query.select.iter().chain(&other.select);
        if !same
            || slot != Some(row.slot.as_deref().unwrap_or("''"))
            || !all.all(|(_, one)| is_scalar(one))
        {
            return Err(
                "it names a shared row, which is summed where both say one thing each of one row of the root table"
                    .to_owned(),
            );
        }
        let identity = named.identity_columns();
        let known: Option<Vec<String>> = (identity.iter())
            .map(|name| Some(format!("({}) IS NOT NULL", says.expression(name)?.0)))
            .collect();
        let known = known
            .ok_or("the shared row is told by another row's id")?
            .join(" AND ");
        let named_by = held(self, column);
        let position = target.columns.iter().position(|name| *name == column.name);
        let alias = format!("r{}", position.unwrap_or_default());
        let beside = format!(
            " LEFT JOIN {} {alias} ON {alias}.{} = {named_by}",
            self.follower.table(&named.table),
            self.follower.quote(id),
        );
        let mut columns = vec![Summed {
            source: format!("CASE WHEN {known} THEN '1' END"),
            held: format!("CASE WHEN {named_by} IS NOT NULL THEN '1' END"),
            column: text(&column.name),
            form: Some(Form::Text),
        }];
        let table = self.table(&named.table)?;
        for name in &named.columns {
            if self.pointer(row.target, name).is_some() {
                return Err("the shared row names another one itself".to_owned());
            }
            let filling: Filling<'_> = says.expression(name).ok_or(UNKNOWN)?;
            let column = table.column(name).ok_or(UNKNOWN)?;
            let held = format!("{alias}.{}", self.follower.quote(name));
            let mut summed = self.filled(filling, column, &held)?;
            if identity != [name.clone()] {
                summed.source = format!("CASE WHEN {known} THEN {} END", summed.source);
            }
            columns.push(summed);
        }
        Ok(Named {
            columns,
            beside,
            shared: Some(row.target),
        })
    }
}
