//! Rows that are added, or changed where they are there already.

use changeover_shadow::Value;

use super::write::{bound, numbered};
use super::{SqlFollower, TargetTable};
use crate::dialect::catalog::Column;
use crate::dialect::session::{DbError, ErrorClass, Session};
use crate::dialect::statement::Statement;
use crate::dialect::tables;
use crate::mapping::Belongs;

impl SqlFollower {
    /// Inserts rows, or changes those that are there and belong to the same key. With `fresh`, one
    /// that is there is refused.
    pub(super) async fn put(
        &self,
        session: &mut dyn Session,
        target: &TargetTable,
        columns: &[Column],
        rows: &[Vec<Value>],
        fresh: bool,
    ) -> Result<(), DbError> {
        if self.dialect().update_joins() && !fresh {
            return self.put_joined(session, target, columns, rows).await;
        }
        let dialect = self.dialect();
        let names: Vec<String> = columns.iter().map(|c| dialect.quote(&c.name)).collect();
        let identity: Vec<String> = target
            .identity
            .iter()
            .map(|c| dialect.quote(&c.name))
            .collect();
        let set: Vec<String> = names
            .iter()
            .filter(|name| !identity.contains(name))
            .map(|name| format!("{name} = excluded.{name}"))
            .collect();
        let action = if set.is_empty() {
            "NOTHING".into()
        } else {
            format!("UPDATE SET {}", set.join(", "))
        };
        let overriding = if target.own_id().is_some() {
            dialect.overriding()
        } else {
            ""
        };
        let new = |column: &str| format!("excluded.{}", dialect.quote(column));
        let guard = self.same_owner(target, &new).filter(|_| !fresh);
        for rows in rows.chunks(dialect.rows_limit(columns.len())) {
            let statement = Statement::of(dialect, "INSERT INTO ")
                .table(&target.target.table)
                .sql(&format!(
                    "{} ({}){overriding} SELECT {} FROM ",
                    if fresh { "" } else { " AS t" },
                    names.join(", "),
                    numbered("r", columns.len())
                ));
            let mut statement = bound(statement, columns, rows);
            if !fresh {
                statement = statement.sql(&format!(
                    " WHERE true ON CONFLICT ({}) DO {action}{}",
                    identity.join(", "),
                    guard
                        .as_ref()
                        .map_or_else(String::new, |guard| format!(" WHERE {guard}"))
                ));
            }
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
        let place = |column: &str| {
            let found = columns.iter().position(|known| known.name == column);
            found.map_or_else(|| "NULL".to_owned(), |n| format!("r.c{n}"))
        };
        let identified: Vec<String> = target
            .identity
            .iter()
            .map(|c| format!("t.{} = {}", dialect.quote(&c.name), place(&c.name)))
            .collect();
        let identified = identified.join(" AND ");
        let set: Vec<String> = columns
            .iter()
            .filter(|column| {
                !target
                    .identity
                    .iter()
                    .any(|known| known.name == column.name)
            })
            .map(|column| {
                format!(
                    "t.{} = {}",
                    dialect.quote(&column.name),
                    place(&column.name)
                )
            })
            .collect();
        let names: Vec<String> = columns.iter().map(|c| dialect.quote(&c.name)).collect();
        let guard = self.same_owner(target, &place);
        for rows in rows.chunks(dialect.rows_limit(columns.len())) {
            let mut changed = 0;
            if !set.is_empty() {
                let mine = guard.as_ref();
                let mine = mine.map_or_else(String::new, |guard| format!(" AND {guard}"));
                let update = bound(Statement::of(dialect, "UPDATE "), columns, rows).sql(&format!(
                    " CROSS JOIN {table} AS t SET {} WHERE {identified}{mine}",
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
            let insert = bound(insert, columns, rows).sql(&format!(
                " WHERE NOT EXISTS (SELECT 1 FROM {table} AS t WHERE {identified})"
            ));
            changed += session.execute(insert).await?;
            if guard.is_some() && changed < rows.len() as u64 {
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
        match target.belongs()? {
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

fn of_another_key(target: &TargetTable) -> DbError {
    DbError {
        class: ErrorClass::Unique,
        summary: format!(
            "a row of {} with this identity belongs to another key",
            target.target.table
        ),
        source: sqlx::Error::RowNotFound,
    }
}
