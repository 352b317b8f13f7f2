//! Keys that the follower holds.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use changeover_flags::Key;

use super::SqlFollower;
use crate::dialect::authority::key_at;
use crate::dialect::session::{DbError, Session};
use crate::dialect::statement::Statement;
use crate::dialect::sums::keys_of;
use crate::dialect::tables;

impl SqlFollower {
    pub(super) async fn held_keys_in(
        &self,
        session: &mut dyn Session,
        after: Option<&Key>,
        limit: u32,
    ) -> Result<Vec<Key>, DbError> {
        if after.is_none() {
            let strays = self.strays_in(session).await?;
            *self.strays.lock().unwrap_or_else(PoisonError::into_inner) = strays;
        }
        let statement = Statement::of(self.dialect(), "SELECT key FROM ")
            .table(tables::KEY)
            .sql(" WHERE ");
        let mut statement = self.here(statement, "");
        if let Some(key) = after {
            statement = statement.sql(" AND key > ").text(key.as_str());
        }
        let statement = statement.sql(" ORDER BY key LIMIT ").int(limit.into());
        let mut keys: BTreeSet<Key> = session
            .fetch(statement)
            .await?
            .iter()
            .filter_map(|row| key_at(row, 0))
            .collect();
        let full = keys.len() >= limit as usize;
        let strays = self.strays.lock().unwrap_or_else(PoisonError::into_inner);
        let last = keys.last().cloned().filter(|_| full);
        keys.extend(
            strays
                .iter()
                .filter(|key| after.is_none_or(|after| *key > after))
                .filter(|key| last.as_ref().is_none_or(|last| *key <= last))
                .cloned(),
        );
        Ok(keys.into_iter().take(limit as usize).collect())
    }

    pub(super) async fn moved_keys_in(
        &self,
        session: &mut dyn Session,
        after: Option<&Key>,
        limit: u32,
    ) -> Result<Vec<Key>, DbError> {
        let statement = Statement::of(self.dialect(), "SELECT key FROM ")
            .table(tables::KEY)
            .sql(" WHERE version <> (SELECT e.incarnation << 44 FROM ")
            .table(tables::EPOCH)
            .sql(" e WHERE ");
        let statement = self.here(statement, "e.").sql(") AND ");
        let mut statement = self.here(statement, "");
        if let Some(key) = after {
            statement = statement.sql(" AND key > ").text(key.as_str());
        }
        let statement = statement.sql(" ORDER BY key LIMIT ").int(limit.into());
        keys_of(session, statement, 0).await
    }
}
