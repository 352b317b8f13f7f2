//! The follower's side of the ports.

use std::collections::BTreeSet;

use changeover::flags::{Key, Version};
use changeover::shadow::Value;
use changeover::worker::image::Image;
use changeover::worker::store::{Applied, Cursor, Hold, HoldKind, Observed, Stamped, StoreError};
use changeover::worker::sum::{Span, Sum};

use super::super::bugs::Bug;
use super::{Process, World, add_image, cell, unique_of};

impl World {
    pub fn admit(&mut self, revision: i64) -> Result<(), StoreError> {
        if revision == self.follower_revision || self.is(Bug::OldRevisionAccepted) {
            return Ok(());
        }
        self.reach.old_revision_refused += 1;
        Err(StoreError::Revision {
            held: self.follower_revision,
            mine: revision,
        })
    }

    fn refusal(&mut self, who: Process, copy: &Stamped) -> Option<Applied> {
        if copy.version < self.follower_base {
            self.reach.below_base_refused += 1;
            return Some(Applied::BehindBase);
        }
        let fence = self.fences.get(&copy.key).copied();
        let stale = match self.bug {
            Some(Bug::FenceRemoved) => false,
            Some(Bug::FenceTakesEqual) => fence.is_some_and(|fence| fence > copy.version),
            _ => fence.is_some_and(|fence| fence >= copy.version),
        };
        if stale {
            if fence > Some(copy.version) {
                self.reach.late_copy_refused += 1;
                let deleted = !self.held.contains_key(&copy.key);
                self.reach.delete_outranked_late_page +=
                    u64::from(deleted && who == Process::Backfill);
            }
            return Some(Applied::Stale);
        }
        let refused = copy.image.as_ref().ok().and_then(|image| cell(image, 3));
        (refused == Some(&Value::Boolean(true))).then(|| {
            Applied::Held(Hold {
                kind: HoldKind::Blocked,
                reason: "a constraint".into(),
            })
        })
    }

    fn take(&mut self, who: Process, copy: &Stamped) -> Applied {
        if let Some(refusal) = self.refusal(who, copy) {
            return refusal;
        }
        let Ok(image) = &copy.image else {
            let key = &copy.key;
            self.violate(format!("{key} was copied without an image"));
            return Applied::Stale;
        };
        if let Some(unique) = unique_of(image) {
            let holders: Vec<Key> = self
                .held
                .iter()
                .filter(|(key, held)| **key != copy.key && unique_of(held) == Some(unique))
                .map(|(key, _)| key.clone())
                .collect();
            if !holders.is_empty() {
                return Applied::Conflict(holders);
            }
        }
        let before = self.fences.insert(copy.key.clone(), copy.version);
        if before > Some(copy.version) {
            self.violate(format!("{} became older on the follower", copy.key));
        }
        if image.is_empty() {
            self.held.remove(&copy.key);
            if self.is(Bug::FenceRowDeletedWithItsRow) {
                self.fences.remove(&copy.key);
            }
        } else {
            self.held.insert(copy.key.clone(), image.clone());
        }
        if who == Process::Drain
            && self
                .unknown
                .get(&copy.key)
                .is_some_and(|unknown| *unknown <= copy.version)
        {
            self.unknown.remove(&copy.key);
            self.reach.unknown_write_drained += 1;
        }
        self.check_image(&copy.key);
        Applied::Applied
    }

    /// Applies the first `most` of `copies`; the cursor goes with the last of all.
    pub fn apply(
        &mut self,
        who: Process,
        revision: i64,
        copies: &[Stamped],
        cursor: Option<&Cursor>,
        most: usize,
    ) -> Result<Vec<Applied>, StoreError> {
        self.admit(revision)?;
        if self.is_shut() {
            return Ok(vec![Applied::Loading; copies.len()]);
        }
        let answers: Vec<Applied> = copies
            .iter()
            .take(most)
            .map(|copy| self.take(who, copy))
            .collect();
        let settled = |answer: &Applied| matches!(answer, Applied::Applied | Applied::Stale);
        let keeps = most >= copies.len() && (!self.careful || answers.iter().all(settled));
        if let Some(cursor) = cursor.filter(|_| keeps) {
            self.save_cursor(revision, cursor)?;
        }
        Ok(answers)
    }

    /// All of what is not refused by its fence, in one transaction, or nothing.
    pub fn apply_group(
        &mut self,
        who: Process,
        revision: i64,
        copies: &[Stamped],
    ) -> Result<Vec<Applied>, StoreError> {
        self.admit(revision)?;
        if self.is_shut() {
            return Ok(vec![Applied::Loading; copies.len()]);
        }
        let before = (self.held.clone(), self.fences.clone());
        for copy in copies {
            if self.refusal(who, copy).is_none() {
                self.held.remove(&copy.key);
            }
        }
        let mut answers: Vec<Applied> = copies.iter().map(|copy| self.take(who, copy)).collect();
        let mut holders = BTreeSet::new();
        for answer in &answers {
            if let Applied::Conflict(keys) = answer {
                holders.extend(keys.iter().cloned());
            }
        }
        if holders.is_empty() {
            let applied = answers
                .iter()
                .filter(|answer| **answer == Applied::Applied)
                .count();
            self.reach.group_copied += u64::from(applied > 1);
            return Ok(answers);
        }
        (self.held, self.fences) = before;
        for answer in &mut answers {
            if matches!(answer, Applied::Applied | Applied::Conflict(_)) {
                *answer = Applied::Conflict(holders.iter().cloned().collect());
            }
        }
        Ok(answers)
    }

    pub fn observe(&self, copies: &[Stamped]) -> Vec<Observed> {
        let shown = |image: Option<&Image>| {
            let rows = image.and_then(|image| image.targets.first()?.first());
            let row = rows.map(|row| (String::new(), Value::Text(format!("{:?}", row.cells))));
            let rows = Value::Record(row.into_iter().collect());
            Value::Record([("rows".to_owned(), rows)].into_iter().collect())
        };
        let observed = copies.iter().map(|copy| Observed {
            key: copy.key.clone(),
            version: self.held_version(&copy.key),
            expected: Ok(shown(copy.image.as_ref().ok())),
            actual: shown(self.held.get(&copy.key)),
        });
        observed.collect()
    }

    pub fn held_keys(&self, after: Option<&Key>, limit: u32) -> Vec<Key> {
        let keys: BTreeSet<&Key> = self.fences.keys().chain(self.held.keys()).collect();
        let keys = keys
            .into_iter()
            .filter(|key| after.is_none_or(|after| *key > after));
        keys.take(limit as usize).cloned().collect()
    }

    pub fn moved_keys(&self, after: Option<&Key>, limit: u32) -> Vec<Key> {
        let moved = self
            .fences
            .iter()
            .filter(|(_, fence)| **fence != self.follower_base);
        let keys = moved
            .map(|(key, _)| key)
            .filter(|key| after.is_none_or(|after| *key > after));
        keys.take(limit as usize).cloned().collect()
    }

    pub fn keys_of_rows(&self, span: &Span, limit: u32) -> Vec<Key> {
        let keys = self.held.keys().filter(|key| span.contains_text(key));
        keys.take(limit as usize).cloned().collect()
    }

    pub fn sum_held(&self, span: &Span, salt: u64) -> Sum {
        let mut sum = Sum::default();
        for (key, image) in &self.held {
            if span.contains_text(key) {
                let version = self.fences.get(key).copied();
                add_image(&mut sum, salt, key, version, image);
            }
        }
        sum
    }

    pub fn held_versions(&self, keys: &[Key]) -> Vec<Option<Version>> {
        keys.iter().map(|key| self.held_version(key)).collect()
    }

    /// By parts, in the order of their keys.
    pub fn cursors(&self, revision: i64) -> Vec<Cursor> {
        let parts = self.cursors.get(&revision).cloned();
        let begins = Cursor {
            base: self.follower_base,
            ..Cursor::default()
        };
        parts.unwrap_or_else(|| vec![begins])
    }

    pub fn cursor(&self, revision: i64) -> Cursor {
        Cursor::together(&self.cursors(revision))
    }

    /// A cursor never goes back: a late one of the same sweep is not an error.
    pub fn save_cursor(&mut self, revision: i64, cursor: &Cursor) -> Result<bool, StoreError> {
        self.admit(revision)?;
        let held = self.cursor(revision);
        let further = cursor.last > held.last || (cursor.done && cursor.last == held.last);
        let divided = self.cursors(revision).len() > 1;
        let moves = !self.load.running && !divided && !held.done && further;
        if moves {
            self.cursors.insert(revision, vec![cursor.clone()]);
        }
        self.check_cursor(revision);
        Ok(moves)
    }

    /// Moves a part of copies.
    pub fn advance(
        &mut self,
        revision: i64,
        from: &Cursor,
        to: &Cursor,
    ) -> Result<bool, StoreError> {
        self.admit(revision)?;
        if !self.stands_at(revision, from) {
            self.reach.part_moved_by_others += 1;
            return Ok(false);
        }
        let over = to.done && self.is(Bug::SweptWithOnePart);
        let parts = self.cursors.entry(revision).or_default();
        if let Some(part) = parts.get_mut(from.part as usize) {
            *part = to.clone();
        }
        parts.iter_mut().for_each(|part| part.done |= over);
        self.reach.part_copied += u64::from(to.done);
        self.check_cursor(revision);
        Ok(true)
    }

    pub fn divide(&mut self, revision: i64, from: &Cursor, at: &[Key]) -> Result<bool, StoreError> {
        self.admit(revision)?;
        let whole = self.cursors(revision).swap_remove(0);
        let stands = match from.loading {
            true => self.stands_at(revision, from),
            false => !self.load.running && !whole.done && from.base == self.follower_base,
        };
        if !stands || self.cursors(revision).len() > 1 {
            return Ok(false);
        }
        let begins = [whole.last.clone()].into_iter();
        let begins = begins.chain(at.iter().cloned().map(Some));
        let ends = at.iter().cloned().map(Some).chain([None]);
        let parts = (0..)
            .zip(begins.zip(ends))
            .map(|(part, (last, upto))| Cursor {
                part,
                upto,
                last,
                passed: if part == 0 { whole.passed } else { 0 },
                ..whole.clone()
            });
        let parts: Vec<Cursor> = parts.collect();
        match from.loading {
            true => self.reach.load_divided += 1,
            false => self.reach.copies_divided += 1,
        }
        self.cursors.insert(revision, parts);
        Ok(true)
    }
}
