//! Proving that both sides agree: [`Verify`], key by key, with a second look.
//!
//! A verify runs while writes go on. What a first look finds unequal is looked at again, in an
//! order that makes the answer certain: a difference is reported only when it was there while
//! neither version moved.
//!
//! # What a key can be
//!
//! | class | means | clean |
//! | --- | --- | --- |
//! | `equal` | equal versions, equal data | yes |
//! | `lagging` | the authority is newer and says so (dirty), its lookup has just changed, or it is being written all the time | yes |
//! | `waiting` | dirty and held, with the reason beside the key | no |
//! | `blocked` | the same for good, or dirty without an image that the follower can hold | no |
//! | `pending` | history that no finished backfill has passed | no |
//! | `divergent` | equal versions, different data: a defect, or a write past every guard | no |
//! | `missing` | equal versions (or a finished backfill and no dirt), and its rows are not there | no |
//! | `extra` | the follower holds rows where the authority has none, and no lag explains it | no |
//! | `follower_ahead` | the follower's version is above the authority's: commits were lost | no |
//! | `unrecorded` | the authority is newer and does not say so: a defect of the protocol | no |
//!
//! # Sweeps
//!
//! Three: the authority's keys; keys that were stamped and have no rows any more; keys that the
//! follower holds and the authority has no rows of. A key without an image may be counted by more
//! than one of them.
//!
//! A verify that compared nothing is not clean unless both sides are empty: a blind instrument
//! reads zero, too.

mod judge;
mod report;

use std::collections::BTreeMap;

use changeover_flags::{Key, Version};
use changeover_shadow::{FieldDiff, Redaction, Rules, diff};

use crate::copy::{Copier, answered};
use judge::judge;
pub use report::{Class, Recorded, Sample, VerifyReport};

use crate::store::{Hold, HoldKind, Observed, Page, Stamped, StoreError};

/// How a verify goes about it.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Keys per page, at least 1.
    pub page: u32,
    /// The most samples kept per class.
    pub samples: usize,
    /// How often a key that keeps moving is looked at again before it counts as lagging.
    pub looks: u32,
    /// What counts as equal. The left side of a rule is what should be there.
    pub rules: Rules,
    /// What samples may show of values. Nothing by default.
    pub redaction: Redaction,
}

impl Default for VerifyOptions {
    /// Pages of 500, 20 samples per class, 3 looks, no rules, no values.
    fn default() -> VerifyOptions {
        VerifyOptions {
            page: 500,
            samples: 20,
            looks: 3,
            rules: Rules::default(),
            redaction: Redaction::default(),
        }
    }
}

/// Compares every key of both sides.
#[derive(Debug, Clone)]
pub struct Verify {
    copier: Copier,
    options: VerifyOptions,
}

/// A verify under way.
struct Sweep<'a> {
    report: VerifyReport,
    holds: BTreeMap<Key, Hold>,
    /// Hears how many keys were compared so far.
    told: &'a mut (dyn FnMut(u64) + Send),
}

/// What a look at one key found, with all that a report tells of it.
struct Found {
    key: Key,
    class: Class,
    authority: Version,
    follower: Option<Version>,
    fields: Vec<FieldDiff>,
    reason: Option<String>,
}

impl Verify {
    /// The most held keys that are told from lagging ones.
    const MAX_HOLDS: usize = 100_000;

    /// A verify of the two sides of `copier`. It copies nothing.
    #[must_use]
    pub fn new(copier: Copier, options: VerifyOptions) -> Verify {
        Verify { copier, options }
    }

    /// Sweeps both sides. Cancellation safe: it changes nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when a store did not answer. What was found until then is lost: an unfinished
    /// verify proves nothing.
    pub async fn run(&self) -> Result<VerifyReport, StoreError> {
        self.run_telling(|_| ()).await
    }

    /// The same; `told` hears after each page how many keys were compared so far.
    ///
    /// # Errors
    ///
    /// As [`run`](Verify::run).
    pub async fn run_telling(
        &self,
        mut told: impl FnMut(u64) + Send,
    ) -> Result<VerifyReport, StoreError> {
        let backfilled = self.copier.follower().cursor().await?.done;
        let report = VerifyReport {
            backfilled,
            ..VerifyReport::default()
        };
        let mut sweep = Sweep {
            report,
            holds: self.holds().await?,
            told: &mut told,
        };
        let mut keys = self.sweep_authority(&mut sweep).await?;
        keys += self.sweep_deleted(&mut sweep).await?;
        keys += self.sweep_follower(&mut sweep).await?;
        sweep.report.empty = keys == 0;
        Ok(sweep.report)
    }

    /// Compares `keys` alone, rows or no rows. Cancellation safe: it changes nothing.
    ///
    /// # Errors
    ///
    /// As [`run`](Verify::run).
    pub async fn keys(&self, keys: &[Key]) -> Result<VerifyReport, StoreError> {
        let backfilled = self.copier.follower().cursor().await?.done;
        let mut sweep = Sweep {
            report: VerifyReport {
                backfilled,
                empty: keys.is_empty(),
                ..VerifyReport::default()
            },
            holds: self.holds().await?,
            told: &mut |_| (),
        };
        for keys in keys.chunks(self.page() as usize) {
            let stamped = self.read(keys).await?;
            self.compare(stamped, &mut sweep).await?;
        }
        Ok(sweep.report)
    }

    async fn sweep_authority(&self, sweep: &mut Sweep<'_>) -> Result<u64, StoreError> {
        let authority = self.copier.authority();
        let mut page = authority.page(None, self.page()).await?;
        let mut keys = 0;
        while let Some(last) = page.last {
            let read = page.stamped.len();
            keys += read as u64;
            // Rows that came later are stamped, and found among the stamped keys or as lag.
            let full = read >= self.page() as usize;
            let next = async {
                match full {
                    true => authority.page(Some(&last), self.page()).await,
                    false => Ok(Page::default()),
                }
            };
            // One side reads the next page while the other one answers for this one.
            (page, ()) = tokio::try_join!(next, self.compare(page.stamped, sweep))?;
        }
        Ok(keys)
    }

    /// Deleted keys that the follower never heard of; those it did are in the next sweep.
    async fn sweep_deleted(&self, sweep: &mut Sweep<'_>) -> Result<u64, StoreError> {
        let mut after: Option<Key> = None;
        let mut seen = 0;
        loop {
            let keys = self
                .copier
                .authority()
                .stamped_keys(after.as_ref(), self.page())
                .await?;
            let Some(last) = keys.last() else {
                return Ok(seen);
            };
            after = Some(last.clone());
            seen += keys.len() as u64;
            let held = self.copier.follower().versions(&keys).await?;
            answered("follower", "reading versions", keys.len(), held.len())?;
            let unheld = keys
                .into_iter()
                .zip(held)
                .filter(|(_, held)| held.is_none());
            let unheld: Vec<Key> = unheld.map(|(key, _)| key).collect();
            self.compare_gone(&unheld, sweep).await?;
        }
    }

    async fn sweep_follower(&self, sweep: &mut Sweep<'_>) -> Result<u64, StoreError> {
        let mut after: Option<Key> = None;
        let mut seen = 0;
        loop {
            let keys = self
                .copier
                .follower()
                .held_keys(after.as_ref(), self.page())
                .await?;
            let Some(last) = keys.last() else {
                return Ok(seen);
            };
            after = Some(last.clone());
            seen += keys.len() as u64;
            self.compare_gone(&keys, sweep).await?;
        }
    }

    /// Compares those of `keys` that are in no page: the first sweep has seen the others.
    async fn compare_gone(&self, keys: &[Key], sweep: &mut Sweep<'_>) -> Result<(), StoreError> {
        if keys.is_empty() {
            return Ok(());
        }
        let gone = self.copier.authority().rootless(keys).await?;
        if gone.is_empty() {
            return Ok(());
        }
        let gone = self.read(&gone).await?;
        self.compare(gone, sweep).await
    }

    /// The first look, and a second one at whatever is not equal.
    async fn compare(
        &self,
        stamped: Vec<Stamped>,
        sweep: &mut Sweep<'_>,
    ) -> Result<(), StoreError> {
        let (images, without): (Vec<_>, Vec<_>) =
            stamped.into_iter().partition(|one| one.image.is_ok());
        let mut again: Vec<Key> = without.into_iter().map(|one| one.key).collect();
        for (one, observed) in images.iter().zip(self.observe(&images).await?) {
            let equal = observed.version == Some(one.version)
                && observed.expected.is_ok()
                && self.differences(&observed).is_empty();
            if equal {
                self.count(Class::Equal, &mut sweep.report);
            } else {
                again.push(one.key.clone());
            }
        }
        let mut found = Vec::new();
        for look in 1..=self.options.looks.max(1) {
            if again.is_empty() {
                break;
            }
            let last = look == self.options.looks.max(1);
            found.extend(
                self.look_again(&mut again, sweep.report.backfilled, last)
                    .await?,
            );
        }
        for one in found {
            self.note(one, sweep);
        }
        (sweep.told)(sweep.report.compared);
        Ok(())
    }

    /// Looks at `keys` so that what is found is certain, and leaves in `keys` those that moved
    /// meanwhile; on the `last` look these are called lagging.
    ///
    /// The order proves it. A follower version read *before* the authority's and above it is
    /// ahead. A key that was clean at a version that did not move must be on the follower when it
    /// is observed *afterwards*.
    async fn look_again(
        &self,
        keys: &mut Vec<Key>,
        backfilled: bool,
        last: bool,
    ) -> Result<Vec<Found>, StoreError> {
        let before = self.copier.follower().versions(keys).await?;
        answered("follower", "reading versions", keys.len(), before.len())?;
        let stamped = self.read(keys).await?;
        let dirty = self.copier.authority().dirty_among(keys).await?;
        let images: Vec<Stamped> = stamped
            .iter()
            .filter(|one| one.image.is_ok())
            .cloned()
            .collect();
        let observed = self.observe(&images).await?;
        let mut observed: BTreeMap<Key, Observed> = observed
            .into_iter()
            .map(|one| (one.key.clone(), one))
            .collect();
        let after = self.copier.authority().versions(keys).await?;
        answered("authority", "reading versions", keys.len(), after.len())?;
        let mut found = Vec::new();
        keys.clear();
        for ((one, before), after) in stamped.into_iter().zip(before).zip(after) {
            let dirt = dirty.get(&one.key).copied();
            let seen = observed.remove(&one.key);
            let follower = seen.as_ref().map_or(before, |seen| seen.version);
            let fields = seen
                .as_ref()
                .map(|seen| self.differences(seen))
                .unwrap_or_default();
            let moved = one.version != after;
            let class = if before.is_some_and(|before| before > one.version) {
                Some(Class::FollowerAhead)
            } else if moved {
                last.then_some(Class::Lagging)
            } else {
                Some(judge(&one, seen.as_ref(), &fields, dirt, backfilled))
            };
            let Some(class) = class else {
                keys.push(one.key);
                continue;
            };
            let reason = one
                .image
                .err()
                .or(seen.and_then(|seen| seen.expected.err()));
            found.push(Found {
                key: one.key,
                class,
                authority: one.version,
                follower,
                fields,
                reason,
            });
        }
        Ok(found)
    }

    /// The keys that are held as the verify begins, and why: one pass over the dirty keys, since
    /// asking per page would cost one per page.
    async fn holds(&self) -> Result<BTreeMap<Key, Hold>, StoreError> {
        let mut holds = BTreeMap::new();
        let mut after: Option<Key> = None;
        loop {
            let page = self
                .copier
                .authority()
                .dirty(after.as_ref(), self.page())
                .await?;
            let Some(last) = page.last() else {
                return Ok(holds);
            };
            after = Some(last.key.clone());
            holds.extend(
                page.into_iter()
                    .filter_map(|dirty| Some((dirty.key, dirty.hold?))),
            );
            if holds.len() >= Self::MAX_HOLDS {
                return Ok(holds);
            }
        }
    }

    async fn observe(&self, images: &[Stamped]) -> Result<Vec<Observed>, StoreError> {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let observed = self.copier.follower().observe(images).await?;
        answered("follower", "observing", images.len(), observed.len())?;
        Ok(observed)
    }

    async fn read(&self, keys: &[Key]) -> Result<Vec<Stamped>, StoreError> {
        let stamped = self.copier.authority().read(keys).await?;
        answered("authority", "reading images", keys.len(), stamped.len())?;
        Ok(stamped)
    }

    fn differences(&self, observed: &Observed) -> Vec<FieldDiff> {
        match &observed.expected {
            Ok(expected) if *expected != observed.actual => {
                diff(expected, &observed.actual, &self.options.rules)
            }
            _ => Vec::new(),
        }
    }

    fn count(&self, class: Class, report: &mut VerifyReport) {
        self.copier.meters().verified(class);
        report.compared += 1;
        *report.classes.entry(class).or_default() += 1;
    }

    fn note(&self, mut found: Found, sweep: &mut Sweep<'_>) {
        if found.class == Class::Lagging
            && let Some(hold) = sweep.holds.get(&found.key)
        {
            found.class = match hold.kind {
                HoldKind::Waiting => Class::Waiting,
                HoldKind::Blocked => Class::Blocked,
            };
            found.reason = Some(hold.reason.clone());
        }
        let report = &mut sweep.report;
        self.count(found.class, report);
        let full = report.count(found.class) > self.options.samples as u64;
        if found.class == Class::Equal || full {
            return;
        }
        report.samples.push(Sample {
            key: found.key.to_string(),
            class: found.class,
            authority: found.authority.0,
            follower: found.follower.map(|version| version.0),
            fields: found
                .fields
                .iter()
                .map(|field| self.options.redaction.field(field))
                .collect(),
            reason: found.reason,
        });
    }

    fn page(&self) -> u32 {
        self.options.page.max(1)
    }
}

#[cfg(test)]
mod tests;
