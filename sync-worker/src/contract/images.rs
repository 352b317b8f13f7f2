//! Images: read twice, copied, found again, deleted and brought back.

use std::time::Duration;

use changeover_flags::Key;
use changeover_shadow::Value;
use tokio::time::Instant;

use super::{Contract, Finding, Report, Rule, Sample};
use crate::copy::CopySource;
use crate::image::Image;
use crate::store::{Applied, Authority as _, HoldKind, Observed, Stamped, StoreError};
use crate::verify::Class;

/// SQLite's clock shows whole seconds.
const BETWEEN_READINGS: Duration = Duration::from_millis(1_100);

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
        let (first, second) = (
            self.migration.authority.apart(1),
            self.migration.authority.apart(1),
        );
        let began = Instant::now();
        let mut readings = Vec::new();
        for keys in sample.keys.chunks(Self::PAGE) {
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
        Ok(Sample {
            keys: resting,
            of: sample.of,
        })
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
        let copier = self.migration.copier();
        for _ in 0..PASSES {
            let mut left = 0;
            for keys in sample.keys.chunks(Self::PAGE) {
                left += copier.copy(keys, CopySource::Backfill).await?.left.len();
            }
            if left == 0 {
                break;
            }
        }
        report.try_on(Rule::Total, sample.keys.len());
        let mut copied = Vec::new();
        for keys in sample.keys.chunks(Self::PAGE) {
            let held = self.held(keys, sample, report).await?;
            copied.extend(keys.iter().filter(|key| !held.contains(key)).cloned());
        }
        self.compare(&copied, Rule::RoundTrip, report).await?;
        for keys in copied.chunks(Self::PAGE) {
            self.delete_and_bring_back(keys, report).await?;
        }
        self.compare(&copied, Rule::Deletes, report).await?;
        Ok(copied)
    }

    /// Those of `keys` that the new tables do not take, told.
    async fn held(
        &self,
        keys: &[Key],
        sample: &Sample,
        report: &mut Report,
    ) -> Result<Vec<Key>, StoreError> {
        let authority = self.migration.copier().authority();
        let mut held = Vec::new();
        let dirty = authority.dirty_among(keys).await?;
        if dirty.is_empty() {
            return Ok(held);
        }
        let holds = authority.dirty(None, u32::MAX >> 1).await?;
        for one in holds.into_iter().filter(|one| keys.contains(&one.key)) {
            let Some(hold) = one.hold else { continue };
            held.push(one.key.clone());
            let waits = hold.kind == HoldKind::Waiting;
            if waits && (sample.keys.len() as u64) < sample.of {
                let what = format!("key {}", one.key);
                let why = format!(
                    "it waits for a key that is not in the sample: {}",
                    hold.reason
                );
                report.add_not_tried(Rule::Total, what, why);
                continue;
            }
            let remedy = if waits {
                "bring the parents or the lookup's rows that it waits for to the new side, or map to what is there"
            } else {
                "map every row to what the new tables allow, or correct the row"
            };
            report.add(Finding {
                rule: Rule::Total,
                key: Some(one.key.to_string()),
                found: format!(
                    "it is {} and cannot be copied: {}",
                    hold.kind.as_str(),
                    hold.reason
                ),
                remedy: remedy.into(),
            });
        }
        Ok(held)
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

    /// A delete is a copy of an image without rows. It is written at a version of its own, and so
    /// is the image that follows.
    async fn delete_and_bring_back(
        &self,
        keys: &[Key],
        report: &mut Report,
    ) -> Result<(), StoreError> {
        let copier = self.migration.copier();
        copier.authority().touch(keys).await?;
        let mut empty = copier.authority().read(keys).await?;
        for one in &mut empty {
            one.image = Ok(Image::empty(self.migration.mapping.shape().targets.len()));
        }
        let applied = copier.follower().apply(&empty, None).await?;
        let observed = copier.follower().observe(&empty).await?;
        for ((one, applied), seen) in empty.iter().zip(applied).zip(observed) {
            let found = match applied {
                Applied::Applied if !remains(&seen) => continue,
                Applied::Applied => "rows of it remain after its delete".to_owned(),
                Applied::Held(hold) if hold.kind == HoldKind::Blocked => {
                    format!("the new tables refuse its delete: {}", hold.reason)
                }
                Applied::Held(hold) => {
                    let why = format!("rows of other keys refer to it: {}", hold.reason);
                    report.add_not_tried(Rule::Deletes, format!("key {}", one.key), why);
                    continue;
                }
                other => {
                    let why = format!(
                        "its delete was not taken ({other:?}): somebody writes to these databases"
                    );
                    report.add_not_tried(Rule::Deletes, format!("key {}", one.key), why);
                    continue;
                }
            };
            report.add(Finding {
                rule: Rule::Deletes,
                key: Some(one.key.to_string()),
                found,
                remedy: "let every new table that refers to the key's rows be a target of the mapping, and let no trigger bring rows back".into(),
            });
        }
        copier.authority().touch(keys).await?;
        copier.copy(keys, CopySource::Repair).await?;
        Ok(())
    }
}

fn remains(seen: &Observed) -> bool {
    seen.expected
        .as_ref()
        .is_ok_and(|expected: &Value| *expected != seen.actual)
}
