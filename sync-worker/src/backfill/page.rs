//! Pages of images: how many keys one has, and the next one read ahead.

use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::Backfill;
use super::range::Reach;
use crate::pace::RowsPerSecond;
use crate::store::{Cursor, Page, StoreError};

impl Backfill {
    /// How many keys the next page of images has.
    pub(super) fn asks(&self, loading: bool) -> u32 {
        let (page, pacer) = (self.options.page.max(1), self.turns.pacer());
        let most = match loading {
            // At a fixed rate a page of the most keys would be seconds of it, at once.
            true => {
                let rate = pacer.rate().map_or(u32::MAX, RowsPerSecond::get);
                self.options.loaded().min((rate / 4).max(page))
            }
            false => page,
        };
        pacer.page().min(most)
    }

    /// The page at the cursor: the one that was read ahead, if there is one.
    pub(super) async fn page(
        &self,
        cursor: &Cursor,
        reach: &Reach,
        ahead: &mut Option<(Page, u32)>,
        most: u32,
    ) -> Result<(Page, u32), StoreError> {
        if let Some(ahead) = ahead.take() {
            return Ok(ahead);
        }
        let asked = self.asks(cursor.loading).min(most);
        let rest = reach.rest(cursor);
        let page = self.copier.authority().page(&rest, asked).await?;
        Ok((page, asked))
    }

    /// The page at the cursor, read while the one before is written.
    pub(super) async fn read_ahead(
        &self,
        cursor: &Cursor,
        reach: &Reach,
        ended: bool,
    ) -> Option<(Page, u32)> {
        // At a fixed rate a page that waits for its turn would be an old one.
        if ended || self.turns.pacer().is_metered() {
            return None;
        }
        let asked = self.asks(cursor.loading);
        let rest = reach.rest(cursor);
        // To make images of rows is work, for which a task of its own may have another thread. It only reads: dropped
        // with this future, it ends where it awaits next.
        let authority = Arc::clone(self.copier.authority());
        let page = async move { authority.page(&rest, asked).await };
        let page = tokio::spawn(page.in_current_span());
        let page = AbortOnDropHandle::new(page).await;
        Some((page.ok()?.ok()?, asked))
    }
}
