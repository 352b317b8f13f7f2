//! How a sweep is divided into parts.

use changeover_flags::Key;

use super::{Backfill, BackfillOptions};
use crate::store::{Cursor, StoreError};
use crate::sum::Span;

impl Backfill {
    /// How often a load that others move is tried to be divided.
    const TRIES: u32 = 20;

    /// The keys that end as many parts as are wanted, of about as many keys each; none where there is nothing
    /// to divide, or they cannot be found.
    pub(super) async fn cuts(&self, parts: &[Cursor], estimate: u64) -> Vec<Key> {
        let wanted = self.options.parts.max(*self.workers.borrow());
        let wanted = wanted.clamp(1, BackfillOptions::MOST_PARTS);
        let [whole] = parts else {
            return Vec::new();
        };
        if whole.is_part() || whole.done {
            return Vec::new();
        }
        let left = estimate.saturating_sub(whole.passed);
        let each = u32::try_from(left / u64::from(wanted)).unwrap_or(u32::MAX);
        let (mut at, mut rest) = (Vec::new(), whole.rest());
        while each > 0 && at.len() + 1 < wanted as usize {
            match self.copier.authority().cut(&rest, each, 1).await {
                Ok((_, mut ends)) => match ends.pop() {
                    Some(last) => {
                        rest.after = Some(last.clone());
                        at.push(last);
                    }
                    None => break,
                },
                Err(error) => {
                    tracing::warn!(%error, "the sweep is not divided: its parts were not found");
                    return Vec::new();
                }
            }
        }
        at
    }

    /// Divides a sweep that has begun, unless somebody else has. A load stays as it is where somebody else
    /// moves it whenever it is looked at.
    pub(super) async fn divide(&self, mut cuts: Vec<Key>) {
        for _ in 0..Self::TRIES {
            match self.try_to_divide(&mut cuts).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, "whether the sweep is divided is not known yet");
                    return;
                }
            }
        }
        tracing::warn!(
            "the load is not divided: another process works on it, which may be ended and begun again with more parts"
        );
    }

    /// Whether there is nothing left to divide.
    async fn try_to_divide(&self, cuts: &mut Vec<Key>) -> Result<bool, StoreError> {
        let (authority, follower) = (self.copier.authority(), self.copier.follower());
        let parts = follower.cursors().await?;
        let [whole] = parts.as_slice() else {
            return Ok(true);
        };
        // What others have passed since the keys were counted has no part of its own.
        while let Some(first) = cuts.first() {
            let before = Span {
                after: whole.last.clone(),
                upto: Some(first.clone()),
            };
            if !authority.keys(&before, 1).await?.is_empty() {
                break;
            }
            cuts.remove(0);
        }
        if cuts.is_empty() || whole.is_part() || whole.done {
            return Ok(true);
        }
        follower.divide(whole, cuts).await
    }
}
