//! One copy under way: apply, follow unique values, mark, hold, count.

use std::collections::{BTreeMap, BTreeSet};

use changeover_flags::{Key, Version};
use tokio::time::Instant;

use super::{Copier, CopyReport, CopySource, answered};
use crate::metrics::Outcome;
use crate::store::{Applied, Cursor, Hold, HoldKind, Stamped, StoreError};

/// One copy under way. However it ends, dropped included, each of its keys is counted once.
pub(super) struct Run<'a> {
    copier: &'a Copier,
    source: CopySource,
    begun: Instant,
    /// The keys that were asked for; the others hold a unique value of one of these.
    asked: BTreeSet<Key>,
    /// `None` until the key is settled.
    keys: BTreeMap<Key, Option<Settled>>,
}

struct Settled {
    outcome: Outcome,
    version: Version,
    reason: String,
}

impl<'a> Run<'a> {
    pub(super) fn new(copier: &'a Copier, source: CopySource, keys: &[Key]) -> Run<'a> {
        Run {
            copier,
            source,
            begun: Instant::now(),
            asked: keys.iter().cloned().collect(),
            keys: keys.iter().map(|key| (key.clone(), None)).collect(),
        }
    }

    pub(super) async fn copy(
        mut self,
        stamped: Vec<Stamped>,
        cursor: Option<&Cursor>,
    ) -> Result<CopyReport, StoreError> {
        let images = self.take_images(stamped);
        let copied = match self.write(images, cursor).await {
            Ok(()) => self.find_ahead().await,
            failed => failed,
        };
        // What was confirmed, and what can have no image, is told even if the rest failed.
        let unmarked = self.mark(copied.is_ok()).await;
        self.hold().await?;
        copied?;
        Ok(self.report(unmarked))
    }

    /// Writes images to the follower and settles each of their keys, unless a store fails.
    async fn write(
        &mut self,
        images: Vec<Stamped>,
        cursor: Option<&Cursor>,
    ) -> Result<(), StoreError> {
        let follower = &self.copier.follower;
        if images.is_empty() {
            return match cursor {
                Some(cursor) => follower.save_cursor(cursor).await.map(drop),
                None => Ok(()),
            };
        }
        let answers = follower.apply(&images, cursor).await?;
        answered("follower", "copying", images.len(), answers.len())?;
        let mut conflicts = Vec::new();
        for (copy, answer) in images.into_iter().zip(answers) {
            if let Some(holders) = self.settle(&copy.key, copy.version, answer) {
                conflicts.push((copy.key, copy.version, holders));
            }
        }
        let known: BTreeMap<Key, Vec<Key>> = conflicts
            .iter()
            .map(|(key, _, holders)| (key.clone(), holders.clone()))
            .collect();
        for (key, version, _) in conflicts {
            // An earlier group may have taken this key along.
            if self.is_open(&key) {
                let group = chain(&key, &known);
                self.copy_group(key, version, group).await?;
            }
        }
        Ok(())
    }

    /// Stale can also mean that the follower holds what the authority has lost: after a failover
    /// that forgot commits. Such a key must never count as synced.
    async fn find_ahead(&mut self) -> Result<(), StoreError> {
        let stale: Vec<(Key, Version)> = self
            .settled()
            .filter(|(_, settled)| settled.outcome == Outcome::Stale)
            .map(|(key, settled)| (key.clone(), settled.version))
            .collect();
        if stale.is_empty() {
            return Ok(());
        }
        let keys: Vec<Key> = stale.iter().map(|(key, _)| key.clone()).collect();
        // The follower first: asked the other way round, a copy in between would look ahead.
        let held = self.copier.follower.versions(&keys).await?;
        answered("follower", "reading versions", keys.len(), held.len())?;
        let current = self.copier.authority.versions(&keys).await?;
        answered("authority", "reading versions", keys.len(), current.len())?;
        for (((key, version), held), current) in stale.iter().zip(held).zip(current) {
            if held.is_some_and(|held| held > current) {
                let reason = "the follower holds a newer version than the authority, which lost \
                              commits: compare both by hand, then repair";
                self.set(key, *version, Outcome::Blocked, reason.to_owned());
            }
        }
        Ok(())
    }

    /// Sorts out the keys that can have no image.
    fn take_images(&mut self, stamped: Vec<Stamped>) -> Vec<Stamped> {
        let (images, without): (Vec<_>, Vec<_>) =
            stamped.into_iter().partition(|one| one.image.is_ok());
        for one in without {
            if let Err(reason) = one.image {
                let held = Applied::Held(Hold {
                    kind: HoldKind::Blocked,
                    reason,
                });
                self.settle(&one.key, one.version, held);
            }
        }
        images
    }

    /// Follows the unique values of `key` to their holders, from `group` on, and writes them all
    /// together.
    async fn copy_group(
        &mut self,
        key: Key,
        version: Version,
        mut group: BTreeSet<Key>,
    ) -> Result<(), StoreError> {
        let mut open = vec![(key, version)];
        let mut before = Vec::new();
        let mut rounds = 0;
        // A round that finds new holders is progress, of which the group's size is the limit.
        while rounds < Copier::MAX_ROUNDS && group.len() <= Copier::MAX_GROUP {
            let keys: Vec<Key> = group.iter().cloned().collect();
            for key in &keys {
                self.keys.entry(key.clone()).or_insert(None);
            }
            let stamped = self.copier.read(&keys).await?;
            let versions: Vec<Version> = stamped.iter().map(|one| one.version).collect();
            let images = self.take_images(stamped);
            let answers = self.copier.follower.apply_group(&images).await?;
            answered("follower", "copying a group", images.len(), answers.len())?;
            let mut refused = Vec::new();
            for (copy, answer) in images.into_iter().zip(answers) {
                if let Some(holders) = self.settle(&copy.key, copy.version, answer) {
                    refused.push((copy.key, copy.version, holders));
                }
            }
            let known = group.len();
            group.extend(refused.iter().flat_map(|(_, _, holders)| holders).cloned());
            if group.len() == known && versions == before {
                // The same images were refused twice, next to those of every holder.
                // All are judged before any is settled: keys that claim one value between them
                // must not each seem to wait for the other.
                let judged: Vec<_> = refused
                    .into_iter()
                    .map(|(key, version, holders)| (key, version, self.standoff(&holders)))
                    .collect();
                for (key, version, (outcome, reason)) in judged {
                    let asked = self.asked.contains(&key);
                    let outcome = if asked { outcome } else { Outcome::Conflict };
                    self.set(&key, version, outcome, reason.to_owned());
                }
                return Ok(());
            }
            open = refused
                .into_iter()
                .map(|(key, version, _)| (key, version))
                .collect();
            if open.is_empty() {
                return Ok(());
            }
            before = if group.len() == known {
                rounds += 1;
                versions
            } else {
                Vec::new()
            };
        }
        let reason =
            "its unique values change hands faster, or between more keys, than a copy follows";
        for (key, version) in open {
            self.set(&key, version, Outcome::Conflict, reason.to_owned());
        }
        Ok(())
    }

    /// Why a key cannot have a unique value although its holders were written with it.
    fn standoff(&self, holders: &[Key]) -> (Outcome, &'static str) {
        let held = |key: &Key| {
            let outcome = self
                .keys
                .get(key)
                .and_then(|key| key.as_ref())
                .map(|key| key.outcome);
            matches!(
                outcome,
                Some(Outcome::Waiting | Outcome::Blocked | Outcome::BehindBase | Outcome::Loading)
            )
        };
        if holders.iter().any(held) {
            let reason = "a unique value of its image still belongs to a key that is held itself";
            return (Outcome::Waiting, reason);
        }
        (
            Outcome::Blocked,
            "a unique value of its image also belongs to another key of the authority",
        )
    }

    /// Notes an answer; hands back the holders of a conflict, which is no end yet.
    fn settle(&mut self, key: &Key, version: Version, answer: Applied) -> Option<Vec<Key>> {
        let (outcome, reason) = match answer {
            Applied::Applied => (Outcome::Applied, String::new()),
            Applied::Stale => (Outcome::Stale, String::new()),
            Applied::BehindBase => {
                let reason = "its version lies below the follower's base: raise the authority's";
                (Outcome::BehindBase, reason.to_owned())
            }
            Applied::Loading => {
                let reason = "history is being loaded: it is copied when that is done";
                (Outcome::Loading, reason.to_owned())
            }
            Applied::Held(hold) => match hold.kind {
                HoldKind::Waiting => (Outcome::Waiting, hold.reason),
                HoldKind::Blocked => (Outcome::Blocked, hold.reason),
            },
            Applied::Conflict(holders) => return Some(holders),
        };
        self.set(key, version, outcome, reason);
        None
    }

    fn set(&mut self, key: &Key, version: Version, outcome: Outcome, reason: String) {
        let before = self
            .keys
            .get(key)
            .and_then(Option::as_ref)
            .map(|key| key.outcome);
        // A later round finds what an earlier one wrote: that key was applied.
        let outcome = match (before, outcome) {
            (Some(Outcome::Applied), Outcome::Stale) => Outcome::Applied,
            (_, outcome) => outcome,
        };
        self.keys.insert(
            key.clone(),
            Some(Settled {
                outcome,
                version,
                reason,
            }),
        );
    }

    fn is_open(&self, key: &Key) -> bool {
        matches!(self.keys.get(key), Some(None))
    }

    /// Tells the authority what arrived; answers how many of these keys stay dirty for nothing. What was stale
    /// has arrived once [`find_ahead`](Run::find_ahead) has looked at it: `sorted`.
    async fn mark(&self, sorted: bool) -> usize {
        let copied = |settled: &Settled| match settled.outcome {
            Outcome::Applied => true,
            Outcome::Stale => sorted,
            _ => false,
        };
        let marks: Vec<(Key, Version)> = self
            .settled()
            .filter(|(_, settled)| copied(settled))
            .map(|(key, settled)| (key.clone(), settled.version))
            .collect();
        if marks.is_empty() {
            return 0;
        }
        match self.copier.authority.mark_synced(&marks).await {
            Ok(()) => 0,
            Err(error) => {
                let keys = marks.len();
                self.copier.meters.mark_failures.increment(keys as u64);
                tracing::warn!(%error, keys, "copied keys stay dirty, since marking them failed");
                keys
            }
        }
    }

    /// Records at the authority which keys were refused, and why.
    async fn hold(&self) -> Result<(), StoreError> {
        for (key, settled) in self.settled() {
            let kind = match settled.outcome {
                // It was copied along; whether it can stand is for a copy of its own to say.
                Outcome::Conflict if !self.asked.contains(key) => continue,
                Outcome::Waiting | Outcome::Conflict => HoldKind::Waiting,
                Outcome::Blocked => HoldKind::Blocked,
                Outcome::Applied
                | Outcome::Stale
                | Outcome::BehindBase
                | Outcome::Loading
                | Outcome::Error => continue,
            };
            let hold = Hold {
                kind,
                reason: settled.reason.clone(),
            };
            self.copier
                .authority
                .hold(key, settled.version, &hold)
                .await?;
        }
        Ok(())
    }

    fn settled(&self) -> impl Iterator<Item = (&Key, &Settled)> {
        self.keys
            .iter()
            .filter_map(|(key, settled)| Some((key, settled.as_ref()?)))
    }

    fn report(&self, unmarked: usize) -> CopyReport {
        let mut report = CopyReport {
            unmarked,
            ..CopyReport::default()
        };
        for (key, settled) in self.settled() {
            match settled.outcome {
                Outcome::Applied => report.applied += 1,
                Outcome::Stale => report.stale += 1,
                outcome => {
                    let unrecorded = matches!(outcome, Outcome::BehindBase | Outcome::Loading);
                    report.unrecorded += usize::from(unrecorded);
                    report.loading |= outcome == Outcome::Loading;
                    report.left.push((key.clone(), settled.reason.clone()));
                }
            }
        }
        report
    }
}

/// `key`, the holders of its unique values, their holders, and so on as far as is known.
fn chain(key: &Key, holders: &BTreeMap<Key, Vec<Key>>) -> BTreeSet<Key> {
    let mut group = BTreeSet::from([key.clone()]);
    let mut open = vec![key];
    while let Some(key) = open.pop() {
        for holder in holders.get(key).into_iter().flatten() {
            if group.insert(holder.clone()) {
                open.push(holder);
            }
        }
    }
    group
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let meters = &self.copier.meters;
        for outcome in Outcome::ALL {
            let keys = self.keys.values().filter(|settled| {
                settled
                    .as_ref()
                    .map_or(Outcome::Error, |settled| settled.outcome)
                    == outcome
            });
            let keys = keys.count() as u64;
            if keys > 0 {
                meters.copied(self.source, outcome, keys);
            }
        }
        meters.copy_took(self.source, self.begun.elapsed());
    }
}
