//! The range of a sweep: up to a key, which may be changed while it runs.

use changeover_flags::Key;

use super::run::{LOOK, Run};
use super::worker::Worker;
use super::{Backfill, Progress};
use crate::pace::Reason;
use crate::store::{Cursor, StoreError};
use crate::sum::Span;
use crate::turns::Work;

/// How far a part is swept.
pub(super) struct Reach {
    upto: Option<Key>,
    /// Whether nothing of the part lies beyond.
    whole: bool,
}

impl Reach {
    /// The keys that are still to be passed.
    pub(super) fn rest(&self, part: &Cursor) -> Span {
        Span {
            after: part.last.clone(),
            upto: self.upto.clone(),
        }
    }

    /// Whether a page behind which there is no other one ends its part, or the range before it.
    pub(super) const fn is_whole(&self) -> bool {
        self.whole
    }
}

impl Backfill {
    /// How far a part is swept where the range ends with this key. Which key comes first is the
    /// database's to say.
    pub(super) async fn reach(
        &self,
        part: &Cursor,
        range: Option<&Key>,
    ) -> Result<Reach, StoreError> {
        let upto = part.upto.clone();
        let Some(end) = range else {
            return Ok(Reach { upto, whole: true });
        };
        let beyond = Span {
            after: Some(end.clone()),
            upto,
        };
        let beyond_it = self.copier.authority().keys(&beyond, 1).await?;
        Ok(match beyond_it.is_empty() {
            true => Reach {
                upto: beyond.upto,
                whole: true,
            },
            false => Reach {
                upto: beyond.after,
                whole: false,
            },
        })
    }

    /// Nothing is left but what lies beyond this key: waits until the range has another end.
    pub(super) async fn beyond<F: FnMut(Progress) + Send>(
        &self,
        range: &Key,
        worker: &mut Worker,
        run: &Run<F>,
    ) {
        let reason = Reason::Range(range.clone());
        let meters = self.copier.meters();
        let _held = meters.held_back(Work::Backfill, reason.label());
        tracing::info!(%reason, "held back");
        run.held_back(Some(reason));
        tokio::select! {
            // Who could change it has not gone: the backfill holds it.
            _ = worker.range.changed() => {}
            // Somebody else may have ended it.
            () = tokio::time::sleep(LOOK) => {}
        }
        run.held_back(None);
    }
}
