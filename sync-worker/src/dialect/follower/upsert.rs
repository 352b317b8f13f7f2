//! Rows that are added, or changed where they are there already.

use changeover_shadow::Value;

use super::write::{derived, numbered};
use super::{SqlFollower, TargetTable};
use crate::dialect::catalog::Column;
use crate::dialect::session::{DbError, ErrorClass, Session};
use crate::dialect::statement::{RowColumn, Statement};
use crate::dialect::tables;
use crate::mapping::Belongs;

impl TargetTable {
    /// Whether a row that is found by its identity may hold another value in this column: one of the
    /// identity's, too, where the database takes texts that differ for equal.
    fn changes(&self, column: &Column) -> bool {
        column.blurred || !self.identity.iter().any(|known| known.name == column.name)
    }
}

impl SqlFollower {
    /// Inserts rows of which none is there: one that is there is refused.
    pub(super) async fn insert(
        &self,
        session: &mut dyn Session,
        target: &TargetTable,
        columns: &[Column],
        rows: &[Vec<Value>],
    ) -> Result<(), DbError> {
        for statement in self.insertions(target, columns, rows) {
            session.execute(statement).await?;
        }
        Ok(())
    }

    /// The statements that insert rows.
    pub(super) fn insertions(
        &self,
        target: &TargetTable,
        columns: &[Column],
        rows: &[Vec<Value>],
    ) -> Vec<Statement<'_>> {
        let chunks = rows.chunks(self.dialect().rows_limit(columns.len()));
        let statements = chunks.map(|rows| self.insertion(target, "", columns, rows));
        statements.collect()
    }

    /// Up to what is done with a row that is there, the table under this name.
    fn insertion(
        &self,
        target: &TargetTable,
        called: &str,
        columns: &[Column],
        rows: &[Vec<Value>],
    ) -> Statement<'_> {
        let dialect = self.dialect();
        let names: Vec<String> = columns.iter().map(|c| dialect.quote(&c.name)).collect();
        let overriding = match target.own_id() {
            Some(_) => dialect.overriding(),
            None => "",
        };
        let statement = Statement::of(dialect, "INSERT INTO ")
            .table(&target.target.table)
            .sql(&format!(
                "{called} ({}){overriding} SELECT {} FROM ",
                names.join(", "),
                numbered("r", columns.len())
            ));
        derived(statement, RowColumn::into, columns, rows)
    }

    /// Inserts rows, or changes those that are there and belong to the same key.
    pub(super) async fn put(
        &self,
        session: &mut dyn Session,
        target: &TargetTable,
        columns: &[Column],
        rows: &[Vec<Value>],
    ) -> Result<(), DbError> {
        if self.dialect().update_joins() {
            return self.put_joined(session, target, columns, rows).await;
        }
        let dialect = self.dialect();
        let identity: Vec<String> = target
            .identity
            .iter()
            .map(|c| dialect.quote(&c.name))
            .collect();
        let set: Vec<String> = columns
            .iter()
            .filter(|column| target.changes(column))
            .map(|column| dialect.quote(&column.name))
            .map(|name| format!("{name} = excluded.{name}"))
            .collect();
        let action = if set.is_empty() {
            "NOTHING".into()
        } else {
            format!("UPDATE SET {}", set.join(", "))
        };
        let new = |column: &str| format!("excluded.{}", dialect.quote(column));
        let guard = self.same_owner(target, &new);
        for rows in rows.chunks(dialect.rows_limit(columns.len())) {
            let statement = self.insertion(target, " AS t", columns, rows).sql(&format!(
                " WHERE true ON CONFLICT ({}) DO {action}{}",
                identity.join(", "),
                guard
                    .as_ref()
                    .map_or_else(String::new, |guard| format!(" WHERE {guard}"))
            ));
            let changed = session.execute(statement).await?;
            if guard.is_some() && changed < rows.len() as u64 {
                return Err(of_another_key(target));
            }
        }
        Ok(())
    }

    /// The same where an `INSERT` that changes what is there would change it by any unique value, and
    /// not by its identity alone: what is there is changed, then what is not is inserted.
    async fn put_joined(
        &self,
        session: &mut dyn Session,
        target: &TargetTable,
        columns: &[Column],
        rows: &[Vec<Value>],
    ) -> Result<(), DbError> {
        let dialect = self.dialect();
        let table = dialect.table(&target.target.table);
        let found = found_by(target, columns);
        let place = |column: &str| {
            let place = found.iter().position(|known| known.name == column);
            place.map_or_else(|| "NULL".to_owned(), |n| format!("r.f{n}"))
        };
        let identified: Vec<String> = target
            .identity
            .iter()
            .map(|c| format!("t.{} = {}", dialect.quote(&c.name), place(&c.name)))
            .collect();
        let identified = identified.join(" AND ");
        let set: Vec<String> = (0..)
            .zip(columns)
            .filter(|(_, column)| target.changes(column))
            .map(|(n, column): (usize, _)| format!("t.{} = r.c{n}", dialect.quote(&column.name)))
            .collect();
        let names: Vec<String> = columns.iter().map(|c| dialect.quote(&c.name)).collect();
        let guard = self.same_owner(target, &place);
        for rows in rows.chunks(dialect.rows_limit(columns.len() + found.len())) {
            let mut changed = 0;
            if !set.is_empty() {
                let mine = guard.as_ref();
                let mine = mine.map_or_else(String::new, |guard| format!(" AND {guard}"));
                let update = Statement::of(dialect, "UPDATE ");
                let update = both(update, columns, &found, rows).sql(&format!(
                    " STRAIGHT_JOIN {table} AS t SET {} WHERE {identified}{mine}",
                    set.join(", ")
                ));
                changed = session.execute(update).await?;
            }
            let insert = Statement::of(dialect, "INSERT INTO ")
                .table(&target.target.table)
                .sql(&format!(
                    " ({}) SELECT {} FROM ",
                    names.join(", "),
                    numbered("r", columns.len())
                ));
            let insert = both(insert, columns, &found, rows).sql(&format!(
                " WHERE NOT EXISTS (SELECT 1 FROM {table} AS t WHERE {identified})"
            ));
            changed += session.execute(insert).await?;
            // Of two rows with one identity, the second would be passed over in silence.
            if !set.is_empty() && changed < rows.len() as u64 {
                return Err(of_another_key(target));
            }
        }
        Ok(())
    }

    /// What must hold for a row `t` that is there already to be changed: that it belongs to the
    /// key that changes it. `None` where its identity says so by itself. Without it, a copy would
    /// take the row of another key, and leave that key clean without it.
    /// `new` is what the row is to have in a column.
    fn same_owner(&self, target: &TargetTable, new: &dyn Fn(&str) -> String) -> Option<String> {
        if target.is_generated() {
            return None;
        }
        let dialect = self.dialect();
        let identity = target.target.identity_columns();
        let same = |column: &String| format!("t.{} = {}", dialect.quote(column), new(column));
        match target.target.belongs()? {
            Belongs::Key(columns) => {
                let free: Vec<String> = columns
                    .iter()
                    .filter(|column| !identity.contains(column))
                    .map(same)
                    .collect();
                (!free.is_empty()).then(|| free.join(" AND "))
            }
            Belongs::Row { column, .. } if identity.contains(column) => None,
            Belongs::Row {
                column,
                target: parent,
            } => {
                let parent = self.targets.get(*parent)?;
                let sql_type = &parent.id.as_ref()?.sql_type;
                let owner = dialect.quote(column);
                // Another row of the same key may be the owner as well.
                Some(format!(
                    "({} OR EXISTS (SELECT 1 FROM {map} m JOIN {map} n ON n.entity = m.entity \
                     AND n.place = m.place AND n.target = m.target AND n.key = m.key \
                     WHERE m.place = '{}' AND m.target_table = '{}' AND {} = t.{owner} \
                     AND {} = {}))",
                    same(column),
                    self.place,
                    parent.table.name.replace('\'', "''"),
                    dialect.cast("m.id", sql_type),
                    dialect.cast("n.id", sql_type),
                    new(column),
                    map = dialect.table(tables::ID),
                ))
            }
        }
    }
}

/// The columns by which a row that is there is found, and its owner.
fn found_by(target: &TargetTable, columns: &[Column]) -> Vec<Column> {
    let owner: &[String] = match target.target.belongs() {
        Some(Belongs::Key(names)) => names,
        Some(Belongs::Row { column, .. }) => std::slice::from_ref(column),
        None => &[],
    };
    let is_asked = |column: &&Column| {
        owner.contains(&column.name) || target.identity.iter().any(|c| c.name == column.name)
    };
    columns.iter().filter(is_asked).cloned().collect()
}

/// A derived table `r(c0, c1, …, f0, f1, …)` of rows: to be put into `columns`, and to be found by `found`.
fn both<'d>(
    statement: Statement<'d>,
    columns: &[Column],
    found: &[Column],
    rows: &[Vec<Value>],
) -> Statement<'d> {
    let names = |letter: &str, count: usize| -> Vec<String> {
        (0..count).map(|n| format!("{letter}{n}")).collect()
    };
    let (put, asked) = (names("c", columns.len()), names("f", found.len()));
    let typed: Vec<RowColumn<'_>> = (put.iter().zip(columns))
        .map(|(name, column)| RowColumn::into(name, column))
        .chain((asked.iter().zip(found)).map(|(name, column)| RowColumn::of(name, column)))
        .collect();
    let places: Vec<usize> = found
        .iter()
        .filter_map(|column| columns.iter().position(|known| known.name == column.name))
        .collect();
    let rows: Vec<Vec<Value>> = rows
        .iter()
        .map(|row| {
            let asked = places.iter().filter_map(|place| row.get(*place));
            row.iter().chain(asked).cloned().collect()
        })
        .collect();
    statement.rows("r", &typed, &rows)
}

fn of_another_key(target: &TargetTable) -> DbError {
    DbError {
        class: ErrorClass::Unique,
        summary: format!(
            "a row of {} with this identity belongs to another key, or is in the image twice",
            target.target.table
        ),
        source: sqlx::Error::RowNotFound,
    }
}
