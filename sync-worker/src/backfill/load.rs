//! One page of a load.

use std::borrow::Cow;
use std::collections::BTreeSet;

use changeover_flags::{Key, Version};
use tokio::time::Instant;

use super::range::Reach;
use super::raw::{Course, is_raw};
use super::{Backfill, Passed};
use crate::copy::answered;
use crate::store::{Cursor, Hold, HoldKind, Loaded, Page, Stamped, StoreError};

/// A page under way.
struct Under<'a> {
    cursor: Cursor,
    /// What is left of the page.
    rest: &'a [Stamped],
    /// Keys of the page that are held.
    held: BTreeSet<Key>,
}

impl Backfill {
    /// Loads one page; `None` when the cursor is to be asked for again.
    pub(super) async fn load(
        &self,
        cursor: &Cursor,
        reach: &Reach,
        ahead: &mut Option<(Page, u32)>,
        course: &mut Course,
    ) -> Result<Option<Passed>, StoreError> {
        if course.takes_raw() && is_raw(&self.copier) {
            *ahead = None;
            return self.load_raw(cursor, reach, course).await;
        }
        let passed = self
            .load_images(cursor, reach, ahead, course.most_images())
            .await?;
        let rows = passed.as_ref().map_or(0, |passed| passed.rows);
        course.passed_images(rows);
        Ok(passed)
    }

    async fn load_images(
        &self,
        cursor: &Cursor,
        reach: &Reach,
        ahead: &mut Option<(Page, u32)>,
        most: u32,
    ) -> Result<Option<Passed>, StoreError> {
        let (meters, pacer) = (self.copier.meters(), self.turns.pacer());
        let begun = Instant::now();
        let (page, asked) = self.page(cursor, reach, ahead, most).await?;
        let (rows, bytes) = (page.stamped.len() as u64, page.bytes());
        pacer.spend(rows, bytes);
        let ended = rows < u64::from(asked);
        let mut under = Under {
            cursor: cursor.clone(),
            rest: &page.stamped,
            held: BTreeSet::new(),
        };
        if let Some(last) = &page.last {
            let to = Cursor {
                last: Some(last.clone()),
                ..cursor.clone()
            };
            let next = self.read_ahead(&to, reach, ended || most < u32::MAX);
            let (next, loaded) = tokio::join!(next, self.load_all(&mut under));
            if !loaded? {
                meters.pages_retried.increment(1);
                return Ok(None);
            }
            *ahead = next;
            let took = begun.elapsed();
            pacer.passed(rows, bytes, took);
            tracing::debug!(rows, bytes, ?took, next = pacer.page(), "a page is loaded");
        }
        let Under {
            mut cursor, held, ..
        } = under;
        if ended && reach.is_whole() {
            cursor.done = self.end_part(&cursor).await?;
            // Somebody else has ended it, or has moved it on. What was brought counts all the same.
            if !cursor.done && rows == 0 {
                return Ok(None);
            }
        }
        let held = held.len() as u64;
        meters.pages_copied.increment(1);
        meters.rows_held.increment(held);
        meters.rows_copied.increment(rows.saturating_sub(held));
        Ok(Some(Passed {
            beyond: ended && !reach.is_whole(),
            cursor,
            rows,
            held,
        }))
    }

    /// Ends a part; `false` when it stands elsewhere.
    pub(super) async fn end_part(&self, part: &Cursor) -> Result<bool, StoreError> {
        self.touch_orphans(part).await?;
        let mut last = self.is_last(part).await?;
        loop {
            if last {
                // Not sooner: a new side from a backup of before this would go on from before this, too.
                self.touch_missing().await?;
            }
            if self.copier.follower().end_loading(part, last).await? {
                return Ok(true);
            }
            // It may have become the last one meanwhile.
            if last || !self.is_last(part).await? {
                return Ok(false);
            }
            last = true;
        }
    }

    /// Whether every other part is done.
    async fn is_last(&self, part: &Cursor) -> Result<bool, StoreError> {
        let parts = self.copier.follower().cursors().await?;
        Ok(parts.iter().all(|one| one.done || one.part == part.part))
    }

    /// Makes stamped keys dirty that say that they are on the follower, and are not: pages leave them
    /// out, and a new side that came back from a backup may lack what copies had brought.
    async fn touch_missing(&self) -> Result<(), StoreError> {
        let authority = self.copier.authority();
        let (limit, mut after) = (self.options.page.max(1), None);
        loop {
            let keys = authority.stamped_keys(after.as_ref(), limit).await?;
            let Some(last) = keys.last() else {
                return Ok(());
            };
            after = Some(last.clone());
            self.touch_those_missing(&keys).await?;
        }
    }

    /// Makes those of `keys` dirty that are neither dirty nor on the follower at the version they have.
    pub(super) async fn touch_those_missing(&self, keys: &[Key]) -> Result<(), StoreError> {
        let (authority, follower) = (self.copier.authority(), self.copier.follower());
        let held = follower.versions(keys).await?;
        answered("follower", "reading versions", keys.len(), held.len())?;
        let dirty = authority.dirty_among(keys).await?;
        let mine = authority.versions(keys).await?;
        answered("authority", "reading versions", keys.len(), mine.len())?;
        let both = keys.iter().zip(held).zip(mine);
        let missing: Vec<Key> = both
            .filter(|((key, held), mine)| *held < Some(*mine) && !dirty.contains_key(key))
            .map(|((key, _), _)| key.clone())
            .collect();
        match missing.is_empty() {
            true => Ok(()),
            false => authority.touch(&missing).await,
        }
    }

    /// Loads what is left of a page, in smaller parts where something in it is refused; `false` when
    /// the cursor stands elsewhere.
    async fn load_all(&self, under: &mut Under<'_>) -> Result<bool, StoreError> {
        let follower = self.copier.follower();
        let mut most = under.rest.len();
        while let Some((part, rest)) = under.rest.split_at_checked(most.min(under.rest.len())) {
            let Some(last) = part.last() else {
                return Ok(true);
            };
            // One side is about to be raised: what the other calls its base is none here.
            let incarnation = |version: Version| version.0 >> Version::COUNTER_BITS;
            let here = incarnation(under.cursor.base);
            if part.iter().any(|one| incarnation(one.version) != here) {
                return Ok(false);
            }
            let images = self.loadable(part, under).await?;
            let to = Cursor {
                last: Some(last.key.clone()),
                passed: under.cursor.passed + part.len() as u64,
                ..under.cursor.clone()
            };
            match follower.load(&images, &under.cursor, &to).await? {
                Loaded::Yes => {
                    (under.cursor, under.rest) = (to, rest);
                    most = most.saturating_mul(2);
                }
                Loaded::Elsewhere => return Ok(false),
                Loaded::Refused(refused) if refused.is_empty() && part.len() > 1 => {
                    most = part.len() / 2;
                }
                Loaded::Refused(refused) => {
                    answered("follower", "loading one key", 1, refused.len().min(1))?;
                    for (key, hold) in refused {
                        self.hold(key, &hold, under).await?;
                    }
                }
            }
        }
        Ok(true)
    }

    /// What of a part is to be loaded: keys that were never stamped and have an image. Copies bring
    /// the others, which are dirty, or on the follower.
    async fn loadable<'p>(
        &self,
        part: &'p [Stamped],
        under: &mut Under<'_>,
    ) -> Result<Cow<'p, [Stamped]>, StoreError> {
        let left_out = |one: &Stamped, under: &Under<'_>| {
            one.version > under.cursor.base || under.held.contains(&one.key)
        };
        if (part.iter()).all(|one| one.image.is_ok() && !left_out(one, under)) {
            return Ok(Cow::Borrowed(part));
        }
        let mut images = Vec::with_capacity(part.len());
        for one in part {
            if left_out(one, under) {
                continue;
            }
            match &one.image {
                Ok(_) => images.push(one.clone()),
                Err(reason) => {
                    let hold = Hold {
                        kind: HoldKind::Blocked,
                        reason: reason.clone(),
                    };
                    self.hold(one.key.clone(), &hold, under).await?;
                }
            }
        }
        Ok(Cow::Owned(images))
    }

    /// Holds a key at the authority, before the cursor passes it: at a version of its own, since the
    /// follower will have the base's of every key without one.
    async fn hold(&self, key: Key, hold: &Hold, under: &mut Under<'_>) -> Result<(), StoreError> {
        let (authority, keys) = (self.copier.authority(), [key]);
        authority.touch(&keys).await?;
        let versions = authority.versions(&keys).await?;
        answered("authority", "reading versions", 1, versions.len())?;
        for (key, version) in keys.iter().zip(versions) {
            authority.hold(key, version, hold).await?;
        }
        under.held.extend(keys);
        Ok(())
    }
}
