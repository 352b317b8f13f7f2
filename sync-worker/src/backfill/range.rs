//! The range of a sweep: up to a key, which may be changed while it runs.

use std::sync::atomic::{AtomicU32, Ordering};

use changeover_flags::Key;
use tokio::sync::watch;

use super::run::{LOOK, Run};
use super::worker::Worker;
use super::{Backfill, Progress};
use crate::metrics::HeldBack;
use crate::pace::Reason;
use crate::store::{Cursor, StoreError};
use crate::sum::Span;
use crate::turns::Work;

/// With which key a sweep ends, and how many workers stand there.
#[derive(Debug)]
pub(super) struct Range {
    end: watch::Sender<Option<Key>>,
    standing: AtomicU32,
}

impl Range {
    pub(super) fn new() -> Range {
        Range {
            end: watch::channel(None).0,
            standing: AtomicU32::new(0),
        }
    }

    pub(super) fn end(&self) -> Option<Key> {
        self.end.borrow().clone()
    }

    pub(super) fn set_end(&self, end: Option<Key>) {
        self.end.send_if_modified(|now| {
            let differs = *now != end;
            *now = end;
            differs
        });
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Key>> {
        self.end.subscribe()
    }

    /// The reason, while nothing is left but what lies beyond the end.
    pub(super) fn holds_back(&self) -> Option<Reason> {
        match self.standing.load(Ordering::Relaxed) {
            0 => None,
            _ => self.end().map(Reason::Range),
        }
    }
}

/// A worker that has nothing to do but what lies beyond the range. The first one tells of it, and the last
/// one that it is over.
pub(super) struct Standing<'r, F: FnMut(Progress) + Send> {
    end: Key,
    range: &'r Range,
    run: &'r Run<F>,
    _held: HeldBack,
}

impl<F: FnMut(Progress) + Send> Drop for Standing<'_, F> {
    fn drop(&mut self) {
        if self.range.standing.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.run.held_back(None);
        }
    }
}

/// How far a part is swept.
pub(super) struct Reach {
    upto: Option<Key>,
    /// Whether nothing of the part lay beyond.
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
        end: Option<&Key>,
    ) -> Result<Reach, StoreError> {
        let upto = part.upto.clone();
        let Some(end) = end else {
            return Ok(Reach { upto, whole: true });
        };
        let authority = self.copier.authority();
        if !authority.names(end) {
            // To a database it may come before every key, or after.
            return Err(StoreError::Refused {
                store: "the authority".into(),
                doing: "ending the range of a sweep".into(),
                advice: format!("{end} is no key of these tables: end it with one, or with none"),
                source: None,
            });
        }
        let beyond = Span {
            after: Some(end.clone()),
            upto,
        };
        let whole = authority.keys(&beyond, 1).await?.is_empty();
        Ok(Reach {
            // What is inserted behind a range that has ended is stamped.
            upto: match whole {
                true => beyond.upto.or(beyond.after),
                false => beyond.after,
            },
            whole,
        })
    }

    /// Nothing is left for a worker but what lies beyond this key.
    pub(super) fn stand<'r, F: FnMut(Progress) + Send>(
        &'r self,
        end: Key,
        run: &'r Run<F>,
    ) -> Standing<'r, F> {
        let reason = Reason::Range(end.clone());
        let held = self
            .copier
            .meters()
            .held_back(Work::Backfill, reason.label());
        if self.range.standing.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::info!(%reason, "held back");
            run.held_back(Some(reason));
        }
        Standing {
            end,
            range: &self.range,
            run,
            _held: held,
        }
    }
}

impl<F: FnMut(Progress) + Send> Standing<'_, F> {
    /// Whether it is this end.
    pub(super) fn is_at(&self, end: &Key) -> bool {
        self.end == *end
    }

    /// Waits until the range may have another end, or somebody else another place.
    pub(super) async fn wait(&self, worker: &mut Worker) {
        tokio::select! {
            // Who could change it has not gone: the backfill holds it.
            _ = worker.range.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}
