//! The sweeps of a verify that compares key by key.

use std::time::Duration;

use changeover_flags::Key;

use super::{Sweep, Verify};
use crate::copy::answered;
use crate::store::{Page, StoreError};
use crate::sum::Span;

impl Verify {
    /// A page that was read ahead longer ago than this is read again.
    const FRESH: Duration = Duration::from_secs(1);

    /// All keys of both sides, those of the root table behind `after`; answers how many were found.
    pub(super) async fn sweep_keys(
        &self,
        after: Option<&Key>,
        sweep: &mut Sweep<'_>,
    ) -> Result<u64, StoreError> {
        let mut keys = self.sweep_authority(after, sweep).await?;
        keys += self.sweep_orphans(Span::default(), sweep).await?;
        keys += self.sweep_deleted(sweep).await?;
        keys += self.sweep_follower(sweep).await?;
        keys += self.sweep_unfenced(sweep).await?;
        Ok(keys)
    }

    async fn sweep_authority(
        &self,
        after: Option<&Key>,
        sweep: &mut Sweep<'_>,
    ) -> Result<u64, StoreError> {
        let authority = self.copier.authority();
        let mut rest = Span::above(after.cloned());
        let (mut ahead, mut keys) = (None, 0);
        loop {
            let waited = sweep.turn().await;
            let page = match ahead.take().filter(|_| waited < Self::FRESH) {
                Some(page) => page,
                None => authority.page(&rest, self.page()).await?,
            };
            let Some(last) = page.last else {
                return Ok(keys);
            };
            let read = page.stamped.len();
            keys += read as u64;
            // Rows that came later are stamped, and found among the stamped keys or as lag.
            let full = read >= self.page() as usize;
            rest = Span::above(Some(last.clone()));
            let next = async {
                match full {
                    true => authority.page(&rest, self.page()).await,
                    false => Ok(Page::default()),
                }
            };
            // One side reads the next page while the other one answers for this one.
            let (next, ()) = tokio::try_join!(next, self.compare(page.stamped, sweep))?;
            ahead = Some(next);
            sweep.reach(Some(last));
        }
    }

    /// Keys of a span that have rows, and that are in no page.
    pub(super) async fn sweep_orphans(
        &self,
        span: Span,
        sweep: &mut Sweep<'_>,
    ) -> Result<u64, StoreError> {
        let (mut rest, mut seen) = (span, 0);
        loop {
            sweep.turn().await;
            let keys = self.copier.authority().orphans(&rest, self.page()).await?;
            // A key that no bound is beyond would come for ever.
            let last = keys.last().filter(|last| rest.after.as_ref() != Some(last));
            let Some(last) = last.cloned() else {
                return Ok(seen);
            };
            rest.after = Some(last);
            seen += keys.len() as u64;
            self.compare_once(keys, false, sweep).await?;
        }
    }

    /// Deleted keys that the follower never heard of; those it did are in the next sweep.
    async fn sweep_deleted(&self, sweep: &mut Sweep<'_>) -> Result<u64, StoreError> {
        let mut after: Option<Key> = None;
        let mut seen = 0;
        loop {
            sweep.turn().await;
            let keys = self
                .copier
                .authority()
                .stamped_keys(after.as_ref(), self.page())
                .await?;
            let Some(last) = keys.last() else {
                return Ok(seen);
            };
            after = Some(last.clone());
            seen += keys.len() as u64;
            let held = self.copier.follower().versions(&keys).await?;
            answered("follower", "reading versions", keys.len(), held.len())?;
            let unheld = keys
                .into_iter()
                .zip(held)
                .filter(|(_, held)| held.is_none());
            let unheld: Vec<Key> = unheld.map(|(key, _)| key).collect();
            self.compare_gone(&unheld, sweep).await?;
        }
    }

    async fn sweep_follower(&self, sweep: &mut Sweep<'_>) -> Result<u64, StoreError> {
        let mut after: Option<Key> = None;
        let mut seen = 0;
        loop {
            sweep.turn().await;
            let keys = self
                .copier
                .follower()
                .held_keys(after.as_ref(), self.page())
                .await?;
            let Some(last) = keys.last() else {
                return Ok(seen);
            };
            after = Some(last.clone());
            seen += keys.len() as u64;
            self.compare_gone(&keys, sweep).await?;
        }
    }

    /// Rows of the follower whose keys have no version of their own there.
    async fn sweep_unfenced(&self, sweep: &mut Sweep<'_>) -> Result<u64, StoreError> {
        let (follower, limit) = (self.copier.follower(), self.page());
        let mut seen = 0;
        for target in 0.. {
            let mut after: Option<Key> = None;
            loop {
                sweep.turn().await;
                let keys = follower.unfenced(target, after.as_ref(), limit).await?;
                let Some(keys) = keys else {
                    return Ok(seen);
                };
                seen += keys.len() as u64;
                self.compare_gone(&keys, sweep).await?;
                if keys.len() < limit as usize {
                    break;
                }
                after = keys.last().cloned();
            }
        }
        Ok(seen)
    }

    /// Compares those of `keys` that are in no page: the first sweep has seen the others.
    async fn compare_gone(&self, keys: &[Key], sweep: &mut Sweep<'_>) -> Result<(), StoreError> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut gone = self.copier.authority().rootless(keys).await?;
        gone.retain(|key| !sweep.gone.contains(key));
        if gone.is_empty() {
            return Ok(());
        }
        let gone = self.read(&gone).await?;
        self.compare(gone, sweep).await
    }
}
