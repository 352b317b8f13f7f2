//! Looking at keys one by one, and again at what is not equal.

use std::collections::BTreeMap;
use std::time::Duration;

use changeover_flags::{Key, Version};
use changeover_shadow::{FieldDiff, Value, diff};
use tokio::time::Instant;

use super::judge::judge;
use super::{Class, Holds, Sample, Sweep, Verify, VerifyReport};
use crate::copy::answered;
use crate::store::{HoldKind, Observed, Stamped, StoreError};

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
    /// How long it is believed why keys are held. A key that was blocked meanwhile counts as lagging until
    /// then, and one that waits no more as waiting.
    const HOLDS_FRESH: Duration = Duration::from_secs(60);

    /// The most held keys that are told from lagging ones.
    const MAX_HOLDS: usize = 100_000;

    /// The first look, and a second one at whatever is not equal.
    pub(super) async fn compare(
        &self,
        stamped: Vec<Stamped>,
        sweep: &mut Sweep<'_>,
    ) -> Result<(), StoreError> {
        sweep.report.sums.singly += stamped.len() as u64;
        sweep.look(stamped.len());
        let asked = sweep.holds.as_ref().map(|(_, asked)| asked.elapsed());
        if asked.is_some_and(|ago| ago > Self::HOLDS_FRESH) {
            self.ask_holds(sweep).await?;
        }
        let (images, without): (Vec<_>, Vec<_>) =
            stamped.into_iter().partition(|one| one.image.is_ok());
        let mut again: Vec<Key> = without.into_iter().map(|one| one.key).collect();
        for (one, observed) in images.iter().zip(self.observe(&images).await?) {
            let equal = observed.version == Some(one.version)
                && observed.expected.is_ok()
                && self.differences(&observed).is_empty();
            if equal {
                self.count(Class::Equal, 1, &mut sweep.report);
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
        sweep.tell();
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
    pub(super) async fn ask_holds(&self, sweep: &mut Sweep<'_>) -> Result<(), StoreError> {
        sweep.holds = Some(self.holds().await?);
        Ok(())
    }

    pub(super) async fn holds(&self) -> Result<Holds, StoreError> {
        let mut holds = BTreeMap::new();
        let mut after: Option<Key> = None;
        loop {
            let page = self
                .copier
                .authority()
                .dirty(after.as_ref(), self.page())
                .await?;
            let Some(last) = page.last() else {
                return Ok((holds, Instant::now()));
            };
            after = Some(last.key.clone());
            holds.extend(
                page.into_iter()
                    .filter_map(|dirty| Some((dirty.key, dirty.hold?))),
            );
            if holds.len() >= Self::MAX_HOLDS {
                return Ok((holds, Instant::now()));
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

    pub(super) async fn read(&self, keys: &[Key]) -> Result<Vec<Stamped>, StoreError> {
        let stamped = self.copier.authority().read(keys).await?;
        answered("authority", "reading images", keys.len(), stamped.len())?;
        Ok(stamped)
    }

    fn differences(&self, observed: &Observed) -> Vec<FieldDiff> {
        match &observed.expected {
            Ok(expected) if !is_same(expected, &observed.actual) => {
                diff(expected, &observed.actual, &self.options.rules)
            }
            _ => Vec::new(),
        }
    }

    /// Counts keys that need no telling of.
    pub(super) fn count(&self, class: Class, keys: u64, report: &mut VerifyReport) {
        if keys == 0 {
            return;
        }
        self.copier.meters().verified(class, keys);
        report.compared += keys;
        *report.classes.entry(class).or_default() += keys;
    }

    fn note(&self, mut found: Found, sweep: &mut Sweep<'_>) {
        if found.class == Class::Lagging
            && let Some((holds, _)) = &sweep.holds
            && let Some(hold) = holds.get(&found.key)
        {
            found.class = match hold.kind {
                HoldKind::Waiting => Class::Waiting,
                HoldKind::Blocked => Class::Blocked,
            };
            found.reason = Some(hold.reason.clone());
        }
        let report = &mut sweep.report;
        self.count(found.class, 1, report);
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
}

/// Whether two values need no closer look. A number that is none is itself, and -0 is 0, whatever
/// stands beside them: sums say the same.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Float(one), Value::Float(other)) => {
            one.to_bits() == other.to_bits() || one == other
        }
        (Value::Record(one), Value::Record(other)) => {
            one.len() == other.len()
                && (one.iter().zip(other.iter()))
                    .all(|((name, one), (its, other))| name == its && is_same(one, other))
        }
        (one, other) => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_none_makes_nothing_beside_it_differ() {
        let row = |one: f64, other: f64| Value::record([("one", one), ("other", other)]);
        assert!(is_same(&row(f64::NAN, 0.0), &row(f64::NAN, -0.0)));
        assert!(!is_same(&row(f64::NAN, 0.0), &row(0.0, f64::NAN)));
        assert!(!is_same(&row(1.0, 2.0), &row(1.0, 3.0)));
        assert!(!is_same(&row(1.0, 2.0), &Value::record([("one", 1.0)])));
    }
}
