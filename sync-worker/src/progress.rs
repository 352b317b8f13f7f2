//! How far things are: [`Progress::read`], one look at both sides.

use crate::store::{Authority, Cursor, Follower, Lag, StoreError};

/// How far backfill and drain have come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// Dirty and held keys.
    pub lag: Lag,
    /// The backfill's cursor. It trails the backfill by one page.
    pub cursor: Cursor,
    /// How many parts the backfill has, at least one.
    pub parts: usize,
    /// How many of them are done.
    pub parts_done: usize,
    /// Keys in the root table: exact or an estimate.
    pub estimate: u64,
}

impl Progress {
    /// Asks both sides. The answers are of three moments, close to each other.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when a store did not answer.
    pub async fn read(
        authority: &dyn Authority,
        follower: &dyn Follower,
    ) -> Result<Progress, StoreError> {
        let lag = authority.lag().await?;
        let parts = follower.cursors().await?;
        Ok(Progress {
            lag,
            cursor: Cursor::together(&parts),
            parts: parts.len(),
            parts_done: parts.iter().filter(|part| part.done).count(),
            estimate: authority.estimate().await?,
        })
    }

    /// Whether every key is on the follower: history was swept and nothing is dirty.
    #[must_use]
    pub const fn is_caught_up(&self) -> bool {
        self.cursor.done && self.lag.dirty == 0
    }
}
