//! Bugs put in on purpose. Each must be found, or the simulation proves nothing.
//!
//! Those that would live in a database are flags of the simulated one ([`World`](super::world)).
//! Those that would live in the product are put between the product and its ports here; the
//! product itself has no switch for them.

use std::sync::Arc;

use changeover::flags::{Key, Version};
use changeover::worker::store::{
    Answer, Applied, Authority, Cursor, Follower, Loaded, Observed, Stamped, StoreError,
};
use changeover::worker::sum::{Span, Sum};

/// One bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The follower takes every copy.
    FenceRemoved,
    /// The follower takes a copy of the very version it holds, and now and then such a copy carries
    /// an older image.
    FenceTakesEqual,
    /// Now and then a copy of the very version that the follower holds carries an older image. No
    /// bug while the fence takes higher versions alone: nothing is to be found.
    StaleImageOfAHeldVersion,
    /// A mark clears whatever version the key has by now.
    MarkWithoutVersion,
    /// The mark goes out before the follower's answer has come.
    MarkBeforeCommit,
    /// A deleted key forgets its version.
    FenceRowDeletedWithItsRow,
    /// The image is older than the version it is read with.
    ImageReadInsideTheWrite,
    /// The rows change first, the version some time later.
    StampOutsideTheTransaction,
    /// No answer from the follower is taken for "it is there".
    TimeoutTakenForDone,
    /// No answer from the authority is taken for "it did not happen", and the write sent again.
    UnknownWriteRetried,
    /// The pin is let go when the copy is sent, not when it has arrived.
    UnpinnedBeforeCopied,
    /// The follower does not compare mapping revisions.
    OldRevisionAccepted,
    /// A mapping revision is raised on the authority first.
    RaisedAuthorityFirst,
    /// Keys whose stamps lie below the raised base are dirty by their own numbers alone.
    StampsBelowTheBaseForgotten,
    /// The follower takes copies while history is loaded.
    CopiesPassTheLoad,
    /// The follower loads a page wherever the cursor stands.
    LatePageLoaded,
    /// A page that was read before a load was divided is loaded into its first part.
    PartWithoutItsEnd,
    /// The first part that ends ends the load.
    OverWithOnePart,
    /// The first part of copies that ends ends the sweep.
    SweptWithOnePart,
    /// A load begins although history was copied in part.
    LoadedOverCopies,
    /// A second load may begin.
    LoadedAgain,
    /// After a load was given up, copies go on where it stood.
    GivenUpWhereItStood,
}

impl Bug {
    /// The follower's port as the product sees it, with what this bug does to it.
    pub fn meddle<P: Authority + Follower + Clone + 'static>(
        bug: Option<Bug>,
        ports: &P,
    ) -> Arc<dyn Follower> {
        match bug {
            Some(bug @ (Bug::MarkBeforeCommit | Bug::TimeoutTakenForDone)) => Arc::new(Meddler {
                ports: ports.clone(),
                bug,
            }),
            _ => Arc::new(ports.clone()),
        }
    }
}

struct Meddler<P> {
    ports: P,
    bug: Bug,
}

impl<P: Authority + Follower> Meddler<P> {
    async fn mark_early(&self, copies: &[Stamped]) {
        if self.bug == Bug::MarkBeforeCommit {
            let marks: Vec<(Key, Version)> = copies
                .iter()
                .map(|copy| (copy.key.clone(), copy.version))
                .collect();
            let _ = self.ports.mark_synced(&marks).await;
        }
    }

    fn believe(
        &self,
        copies: &[Stamped],
        answer: Result<Vec<Applied>, StoreError>,
    ) -> Result<Vec<Applied>, StoreError> {
        match answer {
            Err(StoreError::Unreachable { .. }) if self.bug == Bug::TimeoutTakenForDone => {
                Ok(vec![Applied::Stale; copies.len()])
            }
            answer => answer,
        }
    }
}

impl<P: Authority + Follower> Follower for Meddler<P> {
    fn apply<'a>(
        &'a self,
        copies: &'a [Stamped],
        cursor: Option<&'a Cursor>,
    ) -> Answer<'a, Vec<Applied>> {
        Box::pin(async move {
            self.mark_early(copies).await;
            self.believe(copies, self.ports.apply(copies, cursor).await)
        })
    }

    fn apply_group<'a>(&'a self, copies: &'a [Stamped]) -> Answer<'a, Vec<Applied>> {
        Box::pin(async move {
            self.mark_early(copies).await;
            self.believe(copies, self.ports.apply_group(copies).await)
        })
    }

    fn observe<'a>(&'a self, copies: &'a [Stamped]) -> Answer<'a, Vec<Observed>> {
        self.ports.observe(copies)
    }

    fn held_keys<'a>(&'a self, after: Option<&'a Key>, limit: u32) -> Answer<'a, Vec<Key>> {
        self.ports.held_keys(after, limit)
    }

    fn moved_keys<'a>(&'a self, after: Option<&'a Key>, limit: u32) -> Answer<'a, Vec<Key>> {
        self.ports.moved_keys(after, limit)
    }

    fn keys<'a>(&'a self, span: &'a Span, limit: u32) -> Answer<'a, Vec<Key>> {
        Follower::keys(&self.ports, span, limit)
    }

    fn sum<'a>(&'a self, span: &'a Span, salt: u64) -> Answer<'a, Option<Sum>> {
        Follower::sum(&self.ports, span, salt)
    }

    fn versions<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Option<Version>>> {
        Follower::versions(&self.ports, keys)
    }

    fn cursor(&self) -> Answer<'_, Cursor> {
        self.ports.cursor()
    }

    fn cursors(&self) -> Answer<'_, Vec<Cursor>> {
        self.ports.cursors()
    }

    fn save_cursor<'a>(&'a self, cursor: &'a Cursor) -> Answer<'a, bool> {
        self.ports.save_cursor(cursor)
    }

    fn advance<'a>(&'a self, from: &'a Cursor, to: &'a Cursor) -> Answer<'a, bool> {
        self.ports.advance(from, to)
    }

    fn divide<'a>(&'a self, from: &'a Cursor, at: &'a [Key]) -> Answer<'a, bool> {
        self.ports.divide(from, at)
    }

    fn start_loading(&self) -> Answer<'_, bool> {
        self.ports.start_loading()
    }

    fn load<'a>(
        &'a self,
        images: &'a [Stamped],
        from: &'a Cursor,
        to: &'a Cursor,
    ) -> Answer<'a, Loaded> {
        self.ports.load(images, from, to)
    }

    fn end_loading<'a>(&'a self, from: &'a Cursor, ready: bool) -> Answer<'a, bool> {
        self.ports.end_loading(from, ready)
    }

    fn give_up_loading(&self) -> Answer<'_, ()> {
        self.ports.give_up_loading()
    }
}
