//! Rows that belong to a row which is gone, or has no key itself: a join, as sums make it, has none of them.
//!
//! The id map outlives rows, and says whose the row was.

use changeover_flags::Key;

use super::SqlFollower;
use crate::dialect::authority::after_key;
use crate::dialect::chain::Chain;
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
        let Some(Belongs::Row { column, target: of }) = target.target.belongs() else {
            return Ok(Some(Vec::new()));
        };
        let dialect = self.dialect();
        let target_at = |index: usize| self.targets.get(index).map(|one| &one.target);
        let parent = target_at(*of).and_then(|parent| {
            let chain = Chain::of(dialect, target_at, parent, "p")?;
            Some((parent, parent.id_column()?, chain))
        });
        let Some((parent, id, chain)) = parent else {
            return Ok(Some(Vec::new()));
        };
        let column = format!("t.{}", dialect.quote(column));
        let mut there = format!("{} WHERE p.{} = {column}", chain.from, dialect.quote(id));
        for component in &chain.key {
            there.push_str(&format!(" AND {component} IS NOT NULL"));
        }
        let named = dialect.sums().mapped_id("s.named");
        // First the rows, of which there are hardly any: the map is looked at for those alone.
        let statement = Statement::of(
            dialect,
            &format!("SELECT DISTINCT m.key AS \"key\" FROM (SELECT {column} AS named FROM "),
        )
        .table(&target.target.table)
        .sql(&format!(
            " t WHERE {column} IS NOT NULL AND NOT EXISTS (SELECT 1 FROM {there})) s CROSS JOIN "
        ))
        .table(tables::ID)
        .sql(&format!(" m WHERE m.id = {named} AND m.target_table = "))
        .text(&parent.table)
        .sql(" AND m.target = ")
        .text(&parent.name)
        .sql(" AND ");
        let statement = after_key(self.here(statement, "m."), after)
            .sql(" ORDER BY \"key\" LIMIT ")
            .int(limit.into());
        Ok(Some(keys_of(session, statement, 0).await?))
    }
}
