//! The authority's side of the ports.

use changeover::flags::{Key, Version};
use changeover::worker::store::{Dirty, Hold, HoldKind, Lag, Page, Stamped};
use changeover::worker::sum::{Span, Sum};

use super::super::bugs::Bug;
use super::{Stamp, World, add_image, image_of};

impl World {
    pub(super) fn version(&self, key: &Key) -> Version {
        self.stamps
            .get(key)
            .map_or(self.base, |stamp| stamp.version.max(self.base))
    }

    pub(super) fn is_dirty(&self, key: &Key) -> bool {
        let forgets = self.is(Bug::StampsBelowTheBaseForgotten);
        self.stamps.get(key).is_some_and(|stamp| match forgets {
            true => stamp.synced < stamp.version,
            false => stamp.synced < self.version(key),
        })
    }

    pub fn read(&self, revision: i64, key: &Key, torn: bool) -> Stamped {
        let version = self.version(key);
        let mut row = self.rows.get(key);
        let stale = match self.bug {
            Some(Bug::ImageReadInsideTheWrite) => true,
            Some(Bug::FenceTakesEqual | Bug::StaleImageOfAHeldVersion) => {
                self.fences.get(key) == Some(&version)
            }
            _ => false,
        };
        if torn
            && stale
            && let Some(history) = self.history.get(key)
            && let Some((_, before)) = history.iter().rev().nth(1)
        {
            row = before.as_ref();
        }
        Stamped {
            key: key.clone(),
            version,
            image: image_of(revision, row),
        }
    }

    pub fn page(&self, revision: i64, span: &Span, limit: u32) -> Page {
        let keys = self.rows.keys().filter(|key| span.contains_text(key));
        let stamped: Vec<Stamped> = keys
            .take(limit as usize)
            .map(|key| self.read(revision, key, false))
            .collect();
        let last = stamped.last().map(|one| one.key.clone());
        Page { stamped, last }
    }

    pub fn keys(&self, span: &Span, limit: u32) -> Vec<Key> {
        let keys = self.rows.keys().filter(|key| span.contains_text(key));
        keys.take(limit as usize).cloned().collect()
    }

    pub fn sum(&self, revision: i64, span: &Span, salt: u64) -> Option<Sum> {
        let mut sum = Sum::default();
        for key in self.rows.keys().filter(|key| span.contains_text(key)) {
            let one = self.read(revision, key, false);
            add_image(&mut sum, salt, key, Some(one.version), &one.image.ok()?);
        }
        Some(sum)
    }

    pub fn dirty(&self, after: Option<&Key>, limit: u32) -> Vec<Dirty> {
        let keys = self
            .stamps
            .iter()
            .filter(|(key, _)| after.is_none_or(|after| *key > after));
        let dirty = keys
            .filter(|(key, _)| self.is_dirty(key))
            .map(|(key, stamp)| Dirty {
                key: key.clone(),
                version: self.version(key),
                hold: stamp.hold.clone(),
            });
        dirty.take(limit as usize).collect()
    }

    pub fn rootless(&self, keys: &[Key]) -> Vec<Key> {
        let rootless = keys.iter().filter(|key| !self.rows.contains_key(*key));
        rootless.cloned().collect()
    }

    pub fn dirty_among(&self, keys: &[Key]) -> Vec<Key> {
        keys.iter()
            .filter(|key| self.is_dirty(key))
            .cloned()
            .collect()
    }

    pub fn stamped_keys(&self, after: Option<&Key>, limit: u32) -> Vec<Key> {
        let keys = self
            .stamps
            .keys()
            .filter(|key| after.is_none_or(|after| *key > after));
        keys.take(limit as usize).cloned().collect()
    }

    pub fn mark_synced(&mut self, marks: &[(Key, Version)]) {
        for (key, version) in marks {
            let current = self.version(key);
            let blind = self.is(Bug::MarkWithoutVersion);
            let Some(stamp) = self.stamps.get_mut(key) else {
                continue;
            };
            if blind {
                stamp.synced = current;
            } else if *version > stamp.synced && *version <= current {
                stamp.synced = *version;
                stamp.hold = None;
            }
            self.check_clean(key);
        }
    }

    pub fn hold(&mut self, key: &Key, version: Version, hold: &Hold) {
        self.reach.key_held += 1;
        if self.version(key) == version {
            let stamp = Stamp {
                version,
                synced: Version(-1),
                hold: None,
            };
            self.stamps.entry(key.clone()).or_insert(stamp).hold = Some(hold.clone());
        }
    }

    pub fn versions(&self, keys: &[Key]) -> Vec<Version> {
        keys.iter().map(|key| self.version(key)).collect()
    }

    pub fn lag(&self) -> Lag {
        let mut lag = Lag::default();
        for (_, stamp) in self.stamps.iter().filter(|(key, _)| self.is_dirty(key)) {
            lag.dirty += 1;
            match stamp.hold.as_ref().map(|hold| hold.kind) {
                Some(HoldKind::Waiting) => lag.waiting += 1,
                Some(HoldKind::Blocked) => lag.blocked += 1,
                None => {}
            }
        }
        lag
    }

    pub fn count(&self) -> u64 {
        self.rows.len() as u64
    }
}
