//! What a mapping must keep, tried on a team's own rows: [`Contract`].
//!
//! The checks write: they copy keys into the new tables, delete and bring back what they copied, and
//! change rows of the legacy tables in transactions that are rolled back. They are for scratch
//! databases alone, with nobody else at work in them.
//!
//! | check | rules |
//! | --- | --- |
//! | [`images`](Contract::images) | deterministic |
//! | [`copies`](Contract::copies) | total, round trip, deletes |
//! | [`stamps`](Contract::stamps) | stamps |
//!
//! # Not promised
//!
//! That a mapping keeps a rule on rows that the checks have not seen. A clock that moves by the day
//! looks the same in two readings (where SQL names one, that is told); an image that depends on a table through a row which no change
//! reached looks as if it did not.

mod clock;
mod images;
mod report;
mod stamps;

use std::collections::BTreeSet;

use changeover_flags::Key;
use changeover_shadow::{FieldDiff, Redaction, Rules, Value, diff};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::drain::DrainOptions;
use crate::migration::Migration;
use crate::store::{Authority as _, Lag, StoreError};
use crate::sum::Span;
use crate::verify::{Verify, VerifyOptions, VerifyReport};
pub use report::{Finding, NotTried, Report, Rule};

/// How much the checks look at.
#[derive(Debug, Clone)]
pub struct ContractOptions {
    /// At most this many keys, a random sample of all; `None` takes every key. 1,000 unless told
    /// otherwise.
    pub keys: Option<u32>,
    /// Rows that are changed in each table, column by column. 4 unless told otherwise.
    pub rows_per_table: u32,
    /// At most this many of the keys are watched while rows are changed: all of their images are
    /// read after each change. 200 unless told otherwise.
    pub watched: u32,
    /// Draws the sample: the same seed draws the same keys of the same table. 0 unless told
    /// otherwise.
    pub seed: u64,
    /// What findings may show of values. Kinds and lengths unless told otherwise.
    pub redaction: Redaction,
}

impl Default for ContractOptions {
    fn default() -> ContractOptions {
        ContractOptions {
            keys: Some(1_000),
            rows_per_table: 4,
            watched: 200,
            seed: 0,
            redaction: Redaction::default(),
        }
    }
}

/// The checks of one migration that is installed in scratch databases, and copies.
#[derive(Debug, Clone)]
pub struct Contract {
    migration: Migration,
    options: ContractOptions,
}

/// Keys that are checked, and how many there are of them.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// The keys, in the order of the key columns.
    pub keys: Vec<Key>,
    /// How many keys the root table has.
    pub of: u64,
}

impl Contract {
    /// Keys per statement.
    const PAGE: usize = 200;

    /// Keys per page where only keys are read.
    const KEY_PAGE: u32 = 5_000;

    /// The checks of `migration`.
    #[must_use]
    pub fn new(migration: Migration, options: ContractOptions) -> Contract {
        Contract { migration, options }
    }

    /// Draws the keys: all of them, or a sample without bias.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when a database did not answer, here and in every other check.
    pub async fn sample(&self) -> Result<Sample, StoreError> {
        let limit = self.options.keys.map(|keys| keys.max(1) as usize);
        let mut random = SmallRng::seed_from_u64(self.options.seed);
        let mut kept: Vec<(u64, Key)> = Vec::new();
        let (mut of, mut rest) = (0u64, Span::default());
        loop {
            let page = self.migration.authority.keys(&rest, Self::KEY_PAGE).await?;
            let Some(last) = page.last() else { break };
            rest.after = Some(last.clone());
            for key in page {
                of += 1;
                if limit.is_none_or(|limit| kept.len() < limit) {
                    kept.push((of, key));
                    continue;
                }
                let at = random.random_range(0..of);
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                if let Some(slot) = kept.get_mut(at) {
                    *slot = (of, key);
                }
            }
        }
        kept.sort_unstable();
        let keys = kept.into_iter().map(|(_, key)| key).collect();
        Ok(Sample { keys, of })
    }

    /// Keys that no row has, made of some of `keys`: a repository must say so, on both sides.
    ///
    /// # Errors
    ///
    /// As [`sample`](Contract::sample).
    pub async fn absent(&self, keys: &[Key]) -> Result<Vec<Key>, StoreError> {
        let width = self.migration.mapping.shape().root.key.len();
        let like = |key: &Key| {
            let mut parts = key.components(width)?;
            let last = parts.last_mut()?;
            *last = match last.parse::<i64>() {
                // Beyond any key of a sample, and within the smallest type that keys have.
                Ok(_) => 32_749.to_string(),
                Err(_) if last.len() == 36 => "c0c0c0c0-0000-4000-8000-000000000002".to_owned(),
                Err(_) => format!("{last}~"),
            };
            Some(Key::composite(parts))
        };
        let authority = self.migration.copier().authority();
        let keys: BTreeSet<Key> = keys
            .iter()
            .take(3)
            .filter_map(like)
            .map(|key| authority.canonical(&key))
            .collect();
        let keys: Vec<Key> = keys.into_iter().collect();
        authority.rootless(&keys).await
    }

    /// What `key`'s image is now, or why there is none.
    ///
    /// # Errors
    ///
    /// As [`sample`](Contract::sample).
    pub async fn image(&self, key: &Key) -> Result<Result<Value, String>, StoreError> {
        let keys = [self.migration.copier().authority().canonical(key)];
        let read = self.migration.copier().authority().read(&keys).await?;
        let shape = self.migration.mapping.shape();
        let image = read.into_iter().next().map(|one| one.image);
        Ok(image.map_or_else(
            || Err("the database does not answer for it".to_owned()),
            |image| image.map(|image| image.to_value(shape)),
        ))
    }

    /// One pass over what is dirty, held keys included; answers what is dirty still.
    ///
    /// # Errors
    ///
    /// As [`sample`](Contract::sample).
    pub async fn drain(&self) -> Result<Lag, StoreError> {
        let drain = self.migration.drain(DrainOptions::default());
        drain.once().await?;
        self.migration.copier().authority().lag().await
    }

    /// Compares `keys` on both sides.
    ///
    /// # Errors
    ///
    /// As [`sample`](Contract::sample).
    pub async fn verify(&self, keys: &[Key]) -> Result<VerifyReport, StoreError> {
        let options = VerifyOptions {
            redaction: self.options.redaction.clone(),
            ..VerifyOptions::default()
        };
        let authority = self.migration.copier().authority();
        let keys: Vec<Key> = keys.iter().map(|key| authority.canonical(key)).collect();
        let verify = Verify::new(self.migration.copier().clone(), options);
        verify.keys(&keys).await
    }

    /// Transactions of others that are open in the legacy database.
    ///
    /// # Errors
    ///
    /// As [`sample`](Contract::sample).
    pub async fn open_transactions(&self) -> Result<Vec<String>, StoreError> {
        self.migration.authority.open_transactions().await
    }

    fn differences(&self, expected: &Value, actual: &Value) -> Option<String> {
        let found = diff(expected, actual, &Rules::new());
        (!found.is_empty()).then(|| self.told(&found))
    }

    /// Some of the fields that differ, redacted.
    fn told(&self, fields: &[FieldDiff]) -> String {
        const SHOWN: usize = 3;
        let shown = fields.iter().take(SHOWN);
        let mut shown: Vec<String> = shown
            .map(|field| {
                let evidence = self.options.redaction.field(field);
                format!(
                    "{} ({}, then {})",
                    evidence.path, evidence.legacy, evidence.new
                )
            })
            .collect();
        if fields.len() > SHOWN {
            shown.push(format!("and {} more", fields.len() - SHOWN));
        }
        shown.join(", ")
    }
}
