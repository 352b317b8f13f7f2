//! Who holds the unique values that a copy wants.

use std::collections::BTreeSet;

use changeover_flags::Key;
use changeover_shadow::Value;

use super::resolve::{Copy, Resolved};
use super::write::{derived, numbered, owned_rows};
use super::{SqlFollower, TargetTable};
use crate::dialect::authority::key_at;
use crate::dialect::catalog::Column;
use crate::dialect::session::{DbError, Session};
use crate::dialect::statement::{RowColumn, Statement};
use crate::dialect::tables;
use crate::mapping::Belongs;
use crate::store::Stamped;

impl SqlFollower {
    /// Keys, other than these, whose rows hold a unique value that these images want.
    pub(super) async fn holders_in(
        &self,
        session: &mut dyn Session,
        copies: &[Stamped],
    ) -> Result<Vec<Key>, DbError> {
        let images: Vec<Copy<'_>> = copies
            .iter()
            .filter_map(|copy| Some((copy.key.as_str(), copy.image.as_ref().ok()?)))
            .collect();
        let mut resolved = Resolved::default();
        self.resolve_lookups(session, &images, &mut resolved)
            .await?;
        self.resolve_ids(session, &images, &mut resolved).await?;
        let mut holders = BTreeSet::new();
        for (index, target) in self.targets.iter().enumerate() {
            if !target.target.is_owned() {
                self.resolve_shared(session, &images, index, target, &mut resolved)
                    .await?;
                continue;
            }
            let written: Vec<Column> = target.written().into_iter().cloned().collect();
            let rows = owned_rows(&images, index, target, &resolved);
            for unique in &target.table.unique {
                let positions: Option<Vec<usize>> = unique
                    .columns
                    .iter()
                    .map(|name| written.iter().position(|column| column.name == *name))
                    .collect();
                let Some(positions) = positions else { continue };
                let columns: Vec<Column> = positions
                    .iter()
                    .filter_map(|p| written.get(*p))
                    .cloned()
                    .collect();
                let values: Vec<Vec<Value>> = rows
                    .iter()
                    .map(|row| {
                        positions
                            .iter()
                            .filter_map(|p| row.get(*p).cloned())
                            .collect()
                    })
                    .collect();
                holders.extend(self.owners(session, target, &columns, &values).await?);
            }
        }
        for (key, _) in images {
            holders.remove(&Key::new(key));
        }
        Ok(holders.into_iter().collect())
    }

    /// The keys of the rows of `target` that hold these values.
    async fn owners(
        &self,
        session: &mut dyn Session,
        target: &TargetTable,
        columns: &[Column],
        values: &[Vec<Value>],
    ) -> Result<Vec<Key>, DbError> {
        let dialect = self.dialect();
        let names: Vec<String> = columns
            .iter()
            .map(|column| format!("t.{}", dialect.quote(&column.name)))
            .collect();
        let (select, join) = match self.owner_of(target) {
            Some(parts) => parts,
            None => return Ok(Vec::new()),
        };
        let statement = Statement::of(dialect, &format!("SELECT {select} FROM "))
            .table(&target.target.table)
            .sql(&format!(
                " t{join} WHERE ({}) IN (SELECT {} FROM ",
                names.join(", "),
                numbered("r", names.len())
            ));
        let statement = derived(statement, RowColumn::of, columns, values).sql(")");
        Ok(session
            .fetch(statement)
            .await?
            .iter()
            .filter_map(|row| key_at(row, 0))
            .collect())
    }

    /// The key of a row `t` of an owned target: what to select, and what to join.
    fn owner_of(&self, target: &TargetTable) -> Option<(String, String)> {
        let dialect = self.dialect();
        match target.target.belongs()? {
            Belongs::Key(names) => {
                let columns: Vec<String> = names
                    .iter()
                    .map(|name| format!("t.{}", dialect.quote(name)))
                    .collect();
                Some((dialect.key_text(&columns), String::new()))
            }
            Belongs::Row {
                column,
                target: parent,
            } => {
                let parent = self.targets.get(*parent)?;
                let id = dialect.cast("m.id", &parent.id.as_ref()?.sql_type);
                let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
                Some((
                    "m.key".into(),
                    format!(
                        " JOIN {} m ON m.entity = {} AND m.place = {} AND m.target = {} AND {id} = t.{}",
                        dialect.table(tables::ID),
                        literal(self.entity.as_str()),
                        literal(self.place.as_str()),
                        literal(&parent.target.name),
                        dialect.quote(column)
                    ),
                ))
            }
        }
    }
}
