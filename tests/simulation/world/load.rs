//! The follower's side of a load.

use changeover::flags::{Key, Version};
use changeover::shadow::Value;
use changeover::worker::image::Image;
use changeover::worker::store::{Cursor, Hold, HoldKind, Loaded, Stamped, StoreError};

use super::super::bugs::Bug;
use super::{World, cell, image_of, revision_of, unique_of};

/// What the follower's rows say about its load.
#[derive(Debug, Default)]
pub struct Load {
    pub(super) running: bool,
    begun: bool,
    done_at: Option<Version>,
}

impl World {
    /// The version that the follower has of a key: its own, or the one of the load.
    pub(super) fn held_version(&self, key: &Key) -> Option<Version> {
        self.fences.get(key).copied().or(self.load.done_at)
    }

    /// The version of a key that a running load has passed and brought.
    pub(super) fn passed(&self, key: &Key) -> Option<Version> {
        let base = self.follower_base;
        let rows = image_of(revision_of(base), self.at(key, base));
        let empty = Image::empty(1);
        let brought = rows.as_ref().ok() == Some(self.held.get(key).unwrap_or(&empty));
        (self.load.running && brought).then_some(base)
    }

    pub(super) fn is_shut(&mut self) -> bool {
        let shut = self.load.running && !self.is(Bug::CopiesPassTheLoad);
        self.reach.copy_beside_a_load_refused += u64::from(shut);
        shut
    }

    pub fn start_loading(&mut self, revision: i64) -> Result<bool, StoreError> {
        self.admit(revision)?;
        let begun = self.load.begun && !self.is(Bug::LoadedAgain);
        let copied = self
            .fences
            .values()
            .any(|fence| *fence <= self.follower_base);
        let swept = self.cursor(revision).last.is_some() || self.cursor(revision).done;
        if !self.load.running && !begun && !swept && (!copied || self.is(Bug::LoadedOverCopies)) {
            self.load.running = true;
            self.load.begun = true;
            let cursor = Cursor {
                base: self.follower_base,
                loading: true,
                ..Cursor::default()
            };
            self.cursors.insert(revision, vec![cursor]);
        }
        Ok(self.load.running)
    }

    pub(super) fn stands_at(&self, revision: i64, at: &Cursor) -> bool {
        let parts = self.cursors(revision);
        let Some(held) = parts.get(at.part as usize) else {
            return false;
        };
        let same = (&held.last, held.passed, held.base) == (&at.last, at.passed, at.base);
        let ends = held.upto == at.upto || self.is(Bug::PartWithoutItsEnd);
        let goes_on = self.load.running == at.loading && !held.done;
        goes_on && at.base == self.follower_base && same && ends
    }

    pub fn load(
        &mut self,
        revision: i64,
        images: &[Stamped],
        from: &Cursor,
        to: &Cursor,
    ) -> Result<Loaded, StoreError> {
        self.admit(revision)?;
        if !self.stands_at(revision, from) {
            self.reach.late_page_refused += 1;
            if !self.is(Bug::LatePageLoaded) {
                return Ok(Loaded::Elsewhere);
            }
        }
        let refused = |one: &Stamped| {
            let image = one.image.as_ref().ok();
            let wants = image.and_then(unique_of);
            let taken = |held: &Image| wants.is_some() && unique_of(held) == wants;
            let others = self.held.iter().filter(|(key, _)| **key != one.key);
            image.is_none_or(|image| cell(image, 3) == Some(&Value::Boolean(true)))
                || others.into_iter().any(|(_, held)| taken(held))
        };
        if let Some(one) = images.iter().find(|one| refused(one)) {
            let hold = Hold {
                kind: HoldKind::Waiting,
                reason: "a constraint".into(),
            };
            let named = vec![(one.key.clone(), hold)];
            return Ok(Loaded::Refused(if images.len() == 1 {
                named
            } else {
                Vec::new()
            }));
        }
        for one in images {
            match &one.image {
                Ok(image) if !image.is_empty() => {
                    drop(self.held.insert(one.key.clone(), image.clone()))
                }
                _ => {}
            }
        }
        self.reach.page_loaded += 1;
        let parts = self.cursors.entry(revision).or_default();
        if let Some(held) = parts.get_mut(to.part as usize) {
            (held.last, held.passed) = (to.last.clone(), to.passed);
        }
        self.check_cursor(revision);
        Ok(Loaded::Yes)
    }

    pub fn end_loading(
        &mut self,
        revision: i64,
        from: &Cursor,
        ready: bool,
    ) -> Result<bool, StoreError> {
        self.admit(revision)?;
        if !self.stands_at(revision, from) {
            return Ok(false);
        }
        let parts = self.cursors(revision);
        if !ready && parts.iter().all(|one| one.done || one.part == from.part) {
            return Ok(false);
        }
        let parts = self.cursors.entry(revision).or_default();
        if let Some(part) = parts.get_mut(from.part as usize) {
            part.done = true;
        }
        if !parts.iter().all(|part| part.done) && !self.is(Bug::OverWithOnePart) {
            self.reach.part_ended += 1;
            self.check_cursor(revision);
            return Ok(true);
        }
        self.load.running = false;
        self.load.done_at = Some(from.base);
        self.reach.load_ended += 1;
        self.check_cursor(revision);
        let keys: Vec<Key> = self.held.keys().cloned().collect();
        for key in keys {
            self.check_image(&key);
        }
        Ok(true)
    }

    pub fn give_up_loading(&mut self, revision: i64) -> Result<(), StoreError> {
        self.admit(revision)?;
        if self.load.running {
            self.reach.load_given_up += 1;
            self.load.running = false;
            let place = match self.is(Bug::GivenUpWhereItStood) {
                true => self.cursors(revision).swap_remove(0).last,
                false => None,
            };
            let cursor = Cursor {
                last: place,
                ..Cursor::default()
            };
            self.cursors.insert(revision, vec![cursor]);
        }
        Ok(())
    }
}
