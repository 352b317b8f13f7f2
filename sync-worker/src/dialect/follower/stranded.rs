//! Rows that belong to a row which is gone, or has no key itself: a join, as sums make it, has none of them.
//!
//! The id map outlives rows, and says whose the row was.

use changeover_flags::Key;

use super::{SqlFollower, TargetTable};
use crate::dialect::authority::after_key;
use crate::dialect::session::{DbError, Session};
use crate::dialect::span::keys_of;
use crate::dialect::statement::Statement;
use crate::dialect::tables;
use crate::mapping::Belongs;

impl SqlFollower {
    pub(super) async fn stranded_in(
        &self,
        session: &mut dyn Session,
        target: usize,
        after: Option<&Key>,
        limit: u32,
    ) -> Result<Option<Vec<Key>>, DbError> {
        let Some(target) = self.targets.get(target) else {
            return Ok(None);
        };
        let Some(Belongs::Row { column, target: of }) = target.belongs() else {
            return Ok(Some(Vec::new()));
        };
        let Some((parent, with_key)) = self.with_key(*of) else {
            return Ok(Some(Vec::new()));
        };
        let dialect = self.dialect();
        let column = format!("t.{}", dialect.quote(column));
        let named = dialect.sums().mapped_id("s.named");
        // First the rows, of which there are hardly any: the map is looked at for those alone.
        let statement = Statement::of(
            dialect,
            &format!("SELECT DISTINCT m.key AS \"key\" FROM (SELECT {column} AS named FROM "),
        )
        .table(&target.target.table)
        .sql(&format!(
            " t WHERE {column} IS NOT NULL AND NOT EXISTS (SELECT 1 FROM {with_key} = {column})) s CROSS JOIN "
        ))
        .table(tables::ID)
        .sql(&format!(" m WHERE m.id = {named} AND m.target_table = "))
        .text(&parent.target.table)
        .sql(" AND m.target = ")
        .text(&parent.target.name)
        .sql(" AND ");
        let statement = after_key(self.here(statement, "m."), after)
            .sql(" ORDER BY \"key\" LIMIT ")
            .int(limit.into());
        Ok(Some(keys_of(session, statement, 0).await?))
    }

    /// A target with a generated id, and what its rows are read from as far as they have a key, up to a comparison of
    /// that id: a row that belongs to one which is gone has none.
    fn with_key(&self, target: usize) -> Option<(&TargetTable, String)> {
        let dialect = self.dialect();
        let first = self.targets.get(target)?;
        let (mut of, mut name) = (first, "p".to_owned());
        let mut from = format!("{} p", dialect.table(&first.target.table));
        for n in 0.. {
            match of.belongs()? {
                Belongs::Row { column, target } => {
                    let next = self.targets.get(*target)?;
                    let (called, id) = (format!("p{n}"), next.id.as_ref()?);
                    let table = dialect.table(&next.target.table);
                    let (id, column) = (dialect.quote(&id.name), dialect.quote(column));
                    from.push_str(&format!(
                        " JOIN {table} {called} ON {called}.{id} = {name}.{column}"
                    ));
                    (of, name) = (next, called);
                }
                Belongs::Key(columns) => {
                    let known = columns
                        .iter()
                        .map(|column| format!("{name}.{} IS NOT NULL AND ", dialect.quote(column)));
                    let known: String = known.collect();
                    let id = dialect.quote(&first.id.as_ref()?.name);
                    return Some((first, format!("{from} WHERE {known}p.{id}")));
                }
            }
        }
        None
    }
}
