//! Rows that belong to a row which is gone: a join, as sums make it, has none of them.
//!
//! The id map outlives rows, and says whose the row was that is gone.

use changeover_flags::Key;

use super::SqlFollower;
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
        let parent = self.targets.get(*of);
        let Some((parent, id)) = parent.and_then(|of| Some((of, of.id.as_ref()?))) else {
            return Ok(Some(Vec::new()));
        };
        let dialect = self.dialect();
        let (column, id) = (dialect.quote(column), dialect.quote(&id.name));
        let named = dialect.sums().mapped_id("s.named");
        // First the rows, of which there are hardly any: the map is looked at for those alone.
        let statement = Statement::of(
            dialect,
            &format!("SELECT DISTINCT m.key AS \"key\" FROM (SELECT t.{column} AS named FROM "),
        )
        .table(&target.target.table)
        .sql(&format!(
            " t WHERE t.{column} IS NOT NULL AND NOT EXISTS (SELECT 1 FROM "
        ))
        .table(&parent.target.table)
        .sql(&format!(" p WHERE p.{id} = t.{column})) s CROSS JOIN "))
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
}
