//! The worker's ports over the simulated databases.

use std::collections::BTreeMap;

use changeover::flags::{Key, Version};
use changeover::worker::store::{
    Answer, Applied, Authority, Cursor, Dirt, Dirty, Follower, Hold, Lag, Loaded, Observed, Page,
    Stamped, StoreError,
};
use changeover::worker::sum::{Span, Sum, Unsummed};
use rand::RngExt;

use super::network::{Net, What};
use super::world::Process;

/// Both ports of one process, at one mapping revision.
#[derive(Clone)]
pub struct Ports {
    pub net: Net,
    pub revision: i64,
}

impl Authority for Ports {
    fn read<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Stamped>> {
        let (revision, keys) = (self.revision, keys.to_vec());
        let copies = self.net.process != Process::Verify;
        self.net.call(What::Read, move |state| {
            let torn = copies && state.world.bug.is_some() && state.random.random_range(0..3) == 0;
            Ok(keys
                .iter()
                .map(|key| state.world.read(revision, key, torn))
                .collect())
        })
    }

    fn page<'a>(&'a self, span: &'a Span, limit: u32) -> Answer<'a, Page> {
        let (revision, span) = (self.revision, span.clone());
        self.net.call(What::Read, move |state| {
            Ok(state.world.page(revision, &span, limit))
        })
    }

    fn unsummed(&self) -> Option<Vec<Unsummed>> {
        None
    }

    fn keys<'a>(&'a self, span: &'a Span, limit: u32) -> Answer<'a, Vec<Key>> {
        let span = span.clone();
        self.net
            .call(What::Read, move |state| Ok(state.world.keys(&span, limit)))
    }

    /// Rows are the root table's here.
    fn orphans<'a>(&'a self, _span: &'a Span, _limit: u32) -> Answer<'a, Vec<Key>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn sum<'a>(&'a self, span: &'a Span, salt: u64) -> Answer<'a, Option<Sum>> {
        let (revision, span) = (self.revision, span.clone());
        self.net.call(What::Read, move |state| {
            Ok(state.world.sum(revision, &span, salt))
        })
    }

    fn rootless<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Key>> {
        let keys = keys.to_vec();
        self.net
            .call(What::Read, move |state| Ok(state.world.rootless(&keys)))
    }

    fn dirty<'a>(&'a self, after: Option<&'a Key>, limit: u32) -> Answer<'a, Vec<Dirty>> {
        let after = after.cloned();
        self.net.call(What::Read, move |state| {
            Ok(state.world.dirty(after.as_ref(), limit))
        })
    }

    fn dirty_among<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, BTreeMap<Key, Dirt>> {
        let keys = keys.to_vec();
        self.net.call(What::Read, move |state| {
            let dirty = state.world.dirty_among(&keys).into_iter();
            Ok(dirty.map(|key| (key, Dirt::Stamped)).collect())
        })
    }

    fn stamped_keys<'a>(&'a self, after: Option<&'a Key>, limit: u32) -> Answer<'a, Vec<Key>> {
        let after = after.cloned();
        self.net.call(What::Read, move |state| {
            Ok(state.world.stamped_keys(after.as_ref(), limit))
        })
    }

    fn mark_synced<'a>(&'a self, marks: &'a [(Key, Version)]) -> Answer<'a, ()> {
        let marks = marks.to_vec();
        self.net.call(What::Mark, move |state| {
            state.world.mark_synced(&marks);
            Ok(())
        })
    }

    fn hold<'a>(&'a self, key: &'a Key, version: Version, hold: &'a Hold) -> Answer<'a, ()> {
        let (key, hold) = (key.clone(), hold.clone());
        self.net.call(What::Mark, move |state| {
            state.world.hold(&key, version, &hold);
            Ok(())
        })
    }

    fn touch<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, ()> {
        let keys = keys.to_vec();
        self.net.call(What::Mark, move |state| {
            keys.iter().for_each(|key| {
                state.world.stamp(key);
            });
            Ok(())
        })
    }

    fn versions<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Version>> {
        let keys = keys.to_vec();
        self.net
            .call(What::Read, move |state| Ok(state.world.versions(&keys)))
    }

    fn lag(&self) -> Answer<'_, Lag> {
        self.net.call(What::Read, |state| Ok(state.world.lag()))
    }

    fn estimate(&self) -> Answer<'_, u64> {
        self.net.call(What::Read, |state| Ok(state.world.count()))
    }
}

impl Follower for Ports {
    /// Now and then a connection breaks between two copies of one call.
    fn apply<'a>(
        &'a self,
        copies: &'a [Stamped],
        cursor: Option<&'a Cursor>,
    ) -> Answer<'a, Vec<Applied>> {
        let (who, revision) = (self.net.process, self.revision);
        let (copies, cursor) = (copies.to_vec(), cursor.cloned());
        self.net.call(What::Copy, move |state| {
            let breaks = state.faults.lost_answer > 0 && state.random.random_range(0..20) == 0;
            let most = if breaks {
                copies.len() / 2
            } else {
                copies.len()
            };
            let answers = state
                .world
                .apply(who, revision, &copies, cursor.as_ref(), most)?;
            if breaks {
                return Err(StoreError::Unreachable {
                    store: "simulated".into(),
                    doing: "copying".into(),
                    source: "cut off between two copies".into(),
                });
            }
            Ok(answers)
        })
    }

    fn apply_group<'a>(&'a self, copies: &'a [Stamped]) -> Answer<'a, Vec<Applied>> {
        let (who, revision, copies) = (self.net.process, self.revision, copies.to_vec());
        self.net.call(What::Copy, move |state| {
            state.world.apply_group(who, revision, &copies)
        })
    }

    fn observe<'a>(&'a self, copies: &'a [Stamped]) -> Answer<'a, Vec<Observed>> {
        let copies = copies.to_vec();
        self.net
            .call(What::Read, move |state| Ok(state.world.observe(&copies)))
    }

    fn held_keys<'a>(&'a self, after: Option<&'a Key>, limit: u32) -> Answer<'a, Vec<Key>> {
        let after = after.cloned();
        self.net.call(What::Read, move |state| {
            Ok(state.world.held_keys(after.as_ref(), limit))
        })
    }

    fn moved_keys<'a>(&'a self, after: Option<&'a Key>, limit: u32) -> Answer<'a, Vec<Key>> {
        let after = after.cloned();
        self.net.call(What::Read, move |state| {
            Ok(state.world.moved_keys(after.as_ref(), limit))
        })
    }

    fn keys<'a>(&'a self, span: &'a Span, limit: u32) -> Answer<'a, Vec<Key>> {
        let span = span.clone();
        self.net.call(What::Read, move |state| {
            Ok(state.world.keys_of_rows(&span, limit))
        })
    }

    fn sum<'a>(&'a self, span: &'a Span, salt: u64) -> Answer<'a, Option<Sum>> {
        let span = span.clone();
        self.net.call(What::Read, move |state| {
            Ok(Some(state.world.sum_held(&span, salt)))
        })
    }

    fn versions<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Option<Version>>> {
        let keys = keys.to_vec();
        self.net.call(What::Read, move |state| {
            Ok(state.world.held_versions(&keys))
        })
    }

    fn cursor(&self) -> Answer<'_, Cursor> {
        let revision = self.revision;
        self.net
            .call(What::Read, move |state| Ok(state.world.cursor(revision)))
    }

    fn cursors(&self) -> Answer<'_, Vec<Cursor>> {
        let (who, revision) = (self.net.process, self.revision);
        self.net.call(What::Read, move |state| {
            let cursor = state.world.cursor(revision);
            if who == Process::Backfill && cursor.passed > 0 && !cursor.done {
                state.world.reach.backfill_resumed += 1;
            }
            Ok(state.world.cursors(revision))
        })
    }

    fn save_cursor<'a>(&'a self, cursor: &'a Cursor) -> Answer<'a, bool> {
        let (revision, cursor) = (self.revision, cursor.clone());
        self.net.call(What::Copy, move |state| {
            state.world.save_cursor(revision, &cursor)
        })
    }

    fn advance<'a>(&'a self, from: &'a Cursor, to: &'a Cursor) -> Answer<'a, bool> {
        let (revision, from, to) = (self.revision, from.clone(), to.clone());
        self.net.call(What::Copy, move |state| {
            state.world.advance(revision, &from, &to)
        })
    }

    fn divide<'a>(&'a self, from: &'a Cursor, at: &'a [Key]) -> Answer<'a, bool> {
        let (revision, from, at) = (self.revision, from.clone(), at.to_vec());
        self.net.call(What::Copy, move |state| {
            state.world.divide(revision, &from, &at)
        })
    }

    fn start_loading(&self) -> Answer<'_, bool> {
        let revision = self.revision;
        self.net
            .call(What::Copy, move |state| state.world.start_loading(revision))
    }

    fn load<'a>(
        &'a self,
        images: &'a [Stamped],
        from: &'a Cursor,
        to: &'a Cursor,
    ) -> Answer<'a, Loaded> {
        let (revision, images) = (self.revision, images.to_vec());
        let (from, to) = (from.clone(), to.clone());
        self.net.call(What::Copy, move |state| {
            state.world.load(revision, &images, &from, &to)
        })
    }

    fn end_loading<'a>(&'a self, from: &'a Cursor, ready: bool) -> Answer<'a, bool> {
        let (revision, from) = (self.revision, from.clone());
        self.net.call(What::Copy, move |state| {
            state.world.end_loading(revision, &from, ready)
        })
    }

    fn give_up_loading(&self) -> Answer<'_, ()> {
        let revision = self.revision;
        self.net.call(What::Copy, move |state| {
            state.world.give_up_loading(revision)
        })
    }
}
