//! Rows of a part whose keys are in no page.

use super::Backfill;
use crate::store::{Cursor, StoreError};
use crate::sum::Span;

impl Backfill {
    /// The most keys that are asked for at once.
    const ORPHANS: u32 = 10_000;

    /// Makes keys of a part dirty that have rows, and none in the root table: copies bring them, or hold them
    /// and say why.
    pub(super) async fn touch_orphans(&self, part: &Cursor) -> Result<(), StoreError> {
        let authority = self.copier.authority();
        let mut rest = self.whole_of(part).await?;
        loop {
            let keys = authority.orphans(&rest, Self::ORPHANS).await?;
            for keys in keys.chunks(self.options.page.max(1) as usize) {
                self.touch_those_missing(keys).await?;
            }
            let full = keys.len() >= Self::ORPHANS as usize;
            // A key that no bound is beyond would come for ever.
            let last = keys.last().filter(|last| rest.after.as_ref() != Some(last));
            let Some(last) = last.filter(|_| full) else {
                return Ok(());
            };
            rest.after = Some(last.clone());
            self.turns.next(drop).await;
        }
    }

    /// All keys of a part, passed or not.
    async fn whole_of(&self, part: &Cursor) -> Result<Span, StoreError> {
        let after = match part.part.checked_sub(1) {
            None => None,
            Some(before) => {
                let parts = self.copier.follower().cursors().await?;
                let before = parts.into_iter().find(|one| one.part == before);
                before.and_then(|before| before.upto)
            }
        };
        Ok(Span {
            after,
            upto: part.upto.clone(),
        })
    }
}
