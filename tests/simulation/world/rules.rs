//! The rules, checked after every change.

use std::collections::BTreeSet;

use changeover::flags::{Key, Version};
use changeover::worker::image::Image;

use super::{Row, World, image_of, revision_of};

impl World {
    pub(super) fn at(&self, key: &Key, version: Version) -> Option<&Row> {
        let history = self.history.get(key)?;
        let (_, row) = history.iter().rev().find(|(at, _)| *at <= version)?;
        row.as_ref()
    }

    /// G1, at any version: the follower holds the image of the rows at the version it claims.
    pub(super) fn check_image(&mut self, key: &Key) {
        let Some(fence) = self.held_version(key) else {
            return;
        };
        if fence > self.version(key) {
            self.violate(format!("G5: {key} is ahead of the authority at {fence}"));
            return;
        }
        let expected = image_of(revision_of(fence), self.at(key, fence));
        let empty = Image::empty(1);
        let held = self.held.get(key).unwrap_or(&empty);
        if expected.as_ref().ok() != Some(held) {
            let what = format!("G1: {key} at {fence} holds {held:?} and not {expected:?}");
            self.violate(what);
        }
    }

    /// G2: a key that is not dirty is on the follower.
    pub(super) fn check_clean(&mut self, key: &Key) {
        let version = self.version(key);
        if !self.is_dirty(key) && self.held_version(key).or(self.passed(key)) < Some(version) {
            self.violate(format!(
                "G2: {key} is clean at {version} and not on the follower"
            ));
        }
    }

    /// G2 for history: what the cursor has passed is on the follower, or dirty.
    pub(super) fn check_cursor(&mut self, revision: i64) {
        if revision != self.follower_revision {
            return;
        }
        let parts = self.cursors(revision);
        let begins = [None].into_iter();
        let begins = begins.chain(parts.iter().map(|part| part.upto.as_ref()));
        let parts: Vec<_> = begins.zip(&parts).collect();
        let passed = |key: &&Key| {
            parts.iter().any(|(begin, part)| {
                let last = if part.done { &part.upto } else { &part.last };
                Some(*key) > *begin && (Some(*key) <= last.as_ref() || part.done && last.is_none())
            })
        };
        let keys: Vec<Key> = self.rows.keys().filter(passed).cloned().collect();
        for key in keys {
            self.check_clean(&key);
        }
    }

    /// After everything came to rest: both sides agree on every key.
    pub fn check_rest(&mut self) {
        let keys: BTreeSet<Key> = self
            .history
            .keys()
            .chain(self.held.keys())
            .cloned()
            .collect();
        for key in keys {
            let rows = image_of(self.follower_revision, self.rows.get(&key));
            let empty = Image::empty(1);
            let held = self.held.get(&key).unwrap_or(&empty);
            if rows.as_ref().ok() != Some(held) {
                self.violate(format!("at rest {key} differs: {rows:?} and {held:?}"));
            }
            let known = self.stamps.contains_key(&key) || self.rows.contains_key(&key);
            if known && self.held_version(&key) != Some(self.version(&key)) {
                self.violate(format!("at rest the versions of {key} differ"));
            }
        }
        for id in self.acknowledged.clone() {
            if self.applied.get(&id) != Some(&1) {
                self.violate(format!("append {id} was acknowledged and lost"));
            }
        }
    }
}
