//! Images: read twice, copied, found again, deleted and brought back.

use std::collections::BTreeSet;
use std::time::Duration;

use changeover_flags::Key;
use changeover_shadow::Value;
use tokio::time::Instant;

use super::{Contract, Finding, Report, Rule, Sample, clock};
use crate::copy::CopySource;
use crate::image::Image;
use crate::store::{Applied, Authority as _, Hold, HoldKind, Observed, Stamped, StoreError};
use crate::verify::Class;

/// SQLite's clock shows whole seconds.
const BETWEEN_READINGS: Duration = Duration::from_millis(1_100);

/// Pages whose images are kept between the readings.
const PAGES_BETWEEN_READINGS: usize = 50;

/// Passes in which keys that wait for their parents are tried again.
const PASSES: usize = 3;

const PURE: &str = "an image is a function of the key's own rows: take clocks, random numbers and session settings out of the mapping; let a column of the row carry the value";

impl Contract {
    /// Reads every image twice, from two connections and at two times, and compares. Answers the
    /// keys whose images rest, for the other checks.
    ///
    /// # Errors
    ///
    /// As [`sample`](Contract::sample).
    pub async fn images(&self, sample: &Sample, report: &mut Report) -> Result<Sample, StoreError> {
        let mut resting = Vec::new();
        // A part at a time: its images stay in memory between the readings.
        for keys in sample.keys.chunks(Self::PAGE * PAGES_BETWEEN_READINGS) {
            resting.extend(self.read_twice(keys, report).await?);
        }
        for word in clock::by_day(self.migration.mapping.shape()) {
            let why = "it moves by the day, or tells sessions apart: two readings within seconds do not show it; take it out of the mapping";
            report.add_not_tried(Rule::Deterministic, word, why);
        }
        Ok(Sample {
            keys: resting,
            of: sample.of,
        })
    }

    async fn read_twice(&self, keys: &[Key], report: &mut Report) -> Result<Vec<Key>, StoreError> {
        let (first, second) = (
            self.migration.authority.apart(1),
            self.migration.authority.apart(1),
        );
        let began = Instant::now();
        let mut readings = Vec::new();
        for keys in keys.chunks(Self::PAGE) {
            readings.push(first.read(keys).await?);
        }
        tokio::time::sleep_until(began + BETWEEN_READINGS).await;
        let mut resting = Vec::new();
        for reading in readings {
            let keys: Vec<Key> = reading.iter().map(|one| one.key.clone()).collect();
            for (before, after) in reading.into_iter().zip(second.read(&keys).await?) {
                if before.version != after.version {
                    let why = "its version moved between the readings: somebody writes to these databases";
                    report.add_not_tried(Rule::Deterministic, format!("key {}", after.key), why);
                    continue;
                }
                report.try_on(Rule::Deterministic, 1);
                match self.moved(&before, &after) {
                    Some(found) => report.add(Finding {
                        rule: Rule::Deterministic,
                        key: Some(after.key.to_string()),
                        found: format!("two readings of one version differ in {found}"),
                        remedy: PURE.into(),
                    }),
                    None => resting.push(after.key),
                }
            }
        }
        Ok(resting)
    }

    fn moved(&self, before: &Stamped, after: &Stamped) -> Option<String> {
        let shape = self.migration.mapping.shape();
        match (&before.image, &after.image) {
            (Ok(before), Ok(after)) => {
                self.differences(&before.to_value(shape), &after.to_value(shape))
            }
            (Err(before), Err(after)) if before == after => None,
            _ => Some("whether there is an image".to_owned()),
        }
    }

    /// Copies every key and finds it again; then deletes it on the new side, as if its rows were
    /// gone, and copies it once more. Answers the keys that the new side holds.
    ///
    /// # Errors
    ///
    /// As [`sample`](Contract::sample).
    pub async fn copies(
        &self,
        sample: &Sample,
        report: &mut Report,
    ) -> Result<Vec<Key>, StoreError> {
        self.copy(&sample.keys).await?;
        report.try_on(Rule::Total, sample.keys.len());
        let held = self.held(sample, report).await?;
        let taken = sample.keys.iter().filter(|key| !held.contains(*key));
        let copied: Vec<Key> = taken.cloned().collect();
        self.compare(&copied, Rule::RoundTrip, report).await?;
        self.delete(&copied, sample, report).await?;
        self.migration.copier().authority().touch(&copied).await?;
        self.copy(&copied).await?;
        self.compare(&copied, Rule::Deletes, report).await?;
        Ok(copied)
    }

    /// Those of the sample's keys that the new tables do not take, told.
    async fn held(
        &self,
        sample: &Sample,
        report: &mut Report,
    ) -> Result<BTreeSet<Key>, StoreError> {
        let authority = self.migration.copier().authority();
        let sampled: BTreeSet<&Key> = sample.keys.iter().collect();
        let mut held = BTreeSet::new();
        let mut after = None;
        loop {
            let page = authority.dirty(after.as_ref(), Self::KEY_PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(held);
            };
            after = Some(last.key.clone());
            for one in page.into_iter().filter(|one| sampled.contains(&one.key)) {
                let Some(hold) = one.hold else { continue };
                tell_held(&one.key, &hold, sample, report);
                held.insert(one.key);
            }
        }
    }

    async fn compare(
        &self,
        keys: &[Key],
        rule: Rule,
        report: &mut Report,
    ) -> Result<(), StoreError> {
        let found = self.verify(keys).await?;
        report.try_on(rule, keys.len());
        for sample in found
            .samples
            .into_iter()
            .filter(|one| one.class != Class::Equal)
        {
            let fields: Vec<String> = sample
                .fields
                .iter()
                .map(|field| {
                    format!(
                        "{} (meant {}, found {})",
                        field.path, field.legacy, field.new
                    )
                })
                .collect();
            let reason = sample
                .reason
                .map(|reason| format!(": {reason}"))
                .unwrap_or_default();
            report.add(Finding {
                rule,
                key: Some(sample.key),
                found: format!("it is {} after a copy{reason} {}", sample.class.as_str(), fields.join(", ")).trim_end().to_owned(),
                remedy: "see to it that nothing but copies writes the mapped columns of the new tables: a trigger, a generated column or a default there changes what is copied, or the type does not hold it".into(),
            });
        }
        Ok(())
    }

    /// Copies `keys`, those that wait for others once more.
    async fn copy(&self, keys: &[Key]) -> Result<(), StoreError> {
        for _ in 0..PASSES {
            let mut left = 0;
            for keys in keys.chunks(Self::PAGE) {
                let copier = self.migration.copier();
                left += copier.copy(keys, CopySource::Backfill).await?.left.len();
            }
            if left == 0 {
                break;
            }
        }
        Ok(())
    }

    /// A delete is a copy of an image without rows, at a version of its own. Keys to whose rows others
    /// refer are tried again after those.
    async fn delete(
        &self,
        keys: &[Key],
        sample: &Sample,
        report: &mut Report,
    ) -> Result<(), StoreError> {
        for keys in keys.chunks(Self::PAGE) {
            self.migration.copier().authority().touch(keys).await?;
        }
        let mut waiting: Vec<(Key, String)> = Vec::new();
        for pass in 0..PASSES {
            let keys = match pass {
                0 => keys.to_vec(),
                _ => waiting.drain(..).map(|(key, _)| key).collect(),
            };
            for keys in keys.chunks(Self::PAGE) {
                waiting.extend(self.delete_page(keys, report).await?);
            }
        }
        for (key, reason) in waiting {
            if (sample.keys.len() as u64) < sample.of {
                let why = format!("rows that are not of the sample refer to it: {reason}");
                report.add_not_tried(Rule::Deletes, format!("key {key}"), why);
            } else {
                undeletable(
                    report,
                    &key,
                    format!("the new tables refuse its delete: {reason}"),
                );
            }
        }
        Ok(())
    }

    /// Answers the keys that have to wait, and why.
    async fn delete_page(
        &self,
        keys: &[Key],
        report: &mut Report,
    ) -> Result<Vec<(Key, String)>, StoreError> {
        let copier = self.migration.copier();
        let mut empty = copier.authority().read(keys).await?;
        for one in &mut empty {
            one.image = Ok(Image::empty(self.migration.mapping.shape().targets.len()));
        }
        let applied = copier.follower().apply(&empty, None).await?;
        let observed = copier.follower().observe(&empty).await?;
        let mut waiting = Vec::new();
        for ((one, applied), seen) in empty.iter().zip(applied).zip(observed) {
            match applied {
                Applied::Applied if remains(&seen) => {
                    undeletable(
                        report,
                        &one.key,
                        "rows of it remain after its delete".into(),
                    );
                }
                Applied::Applied => {}
                Applied::Held(hold) if hold.kind == HoldKind::Waiting => {
                    waiting.push((one.key.clone(), hold.reason));
                }
                Applied::Held(hold) => {
                    let found = format!("the new tables refuse its delete: {}", hold.reason);
                    undeletable(report, &one.key, found);
                }
                other => {
                    let why = format!(
                        "its delete was not taken ({other:?}): somebody writes to these databases"
                    );
                    report.add_not_tried(Rule::Deletes, format!("key {}", one.key), why);
                }
            }
        }
        Ok(waiting)
    }
}

fn undeletable(report: &mut Report, key: &Key, found: String) {
    report.add(Finding {
        rule: Rule::Deletes,
        key: Some(key.to_string()),
        found,
        remedy: "let every new table that refers to the key's rows be a target of the mapping, and let no trigger bring rows back".into(),
    });
}

fn remains(seen: &Observed) -> bool {
    seen.expected
        .as_ref()
        .is_ok_and(|expected: &Value| *expected != seen.actual)
}

fn tell_held(key: &Key, hold: &Hold, sample: &Sample, report: &mut Report) {
    let waits = hold.kind == HoldKind::Waiting;
    if waits && (sample.keys.len() as u64) < sample.of {
        let why = format!(
            "it waits for a key that is not in the sample: {}",
            hold.reason
        );
        report.add_not_tried(Rule::Total, format!("key {key}"), why);
        return;
    }
    let remedy = if waits {
        "bring the parents or the lookup's rows that it waits for to the new side, or map to what is there"
    } else {
        "map every row to what the new tables allow, or correct the row"
    };
    report.add(Finding {
        rule: Rule::Total,
        key: Some(key.to_string()),
        found: format!(
            "it is {} and cannot be copied: {}",
            hold.kind.as_str(),
            hold.reason
        ),
        remedy: remedy.into(),
    });
}
