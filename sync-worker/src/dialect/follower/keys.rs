//! Keys that the follower holds.

use changeover_flags::Key;

use super::SqlFollower;
use crate::dialect::authority::after_key;
use crate::dialect::session::{DbError, Session};
use crate::dialect::span::keys_of;
use crate::dialect::statement::Statement;
use crate::dialect::tables;
use crate::dialect::versions::base_of;

impl SqlFollower {
    pub(super) async fn held_keys_in(
        &self,
        session: &mut dyn Session,
        after: Option<&Key>,
        limit: u32,
    ) -> Result<Vec<Key>, DbError> {
        let statement = Statement::of(self.dialect(), "SELECT \"key\" FROM ")
            .table(tables::KEY)
            .sql(" WHERE ");
        self.listed(session, statement, after, limit).await
    }

    pub(super) async fn moved_keys_in(
        &self,
        session: &mut dyn Session,
        after: Option<&Key>,
        limit: u32,
    ) -> Result<Vec<Key>, DbError> {
        let statement = Statement::of(self.dialect(), "SELECT \"key\" FROM ")
            .table(tables::KEY)
            .sql(&format!(
                " WHERE version <> (SELECT {} FROM ",
                base_of("e.incarnation")
            ))
            .table(tables::EPOCH)
            .sql(" e WHERE ");
        let statement = self.here(statement, "e.").sql(") AND ");
        self.listed(session, statement, after, limit).await
    }

    /// The first `limit` keys after `after` that `statement` begins to ask for.
    async fn listed(
        &self,
        session: &mut dyn Session,
        statement: Statement<'_>,
        after: Option<&Key>,
        limit: u32,
    ) -> Result<Vec<Key>, DbError> {
        let statement = after_key(self.here(statement, ""), after)
            .sql(" ORDER BY \"key\" LIMIT ")
            .int(limit.into());
        keys_of(session, statement, 0).await
    }
}
