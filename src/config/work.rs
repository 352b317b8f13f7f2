//! `[entity.NAME.backfill]`, `.drain` and `.verify`: how each goes about it.

use changeover_shadow::Rules;
use changeover_sync_worker::backfill::BackfillOptions;
use changeover_sync_worker::drain::DrainOptions;
use changeover_sync_worker::pace::{Pacing, RowsPerSecond};
use changeover_sync_worker::verify::VerifyOptions;
use serde::Deserialize;

use super::pace::{Pace, pace_of};

/// `[entity.NAME.backfill]`. What is not set is [`BackfillOptions`]' default, but for `attempts`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backfilling {
    /// Keys per page, at least 1.
    pub page: Option<u32>,
    /// Keys per page of a load whose rows are read, at least 1.
    pub load_page: Option<u32>,
    /// Keys per second, at least 1, instead of [`Pace::rows_per_second`].
    pub rows_per_second: Option<u32>,
    /// Whether the first sweep loads, which is quicker, and beside which nothing is copied.
    pub load: Option<bool>,
    /// Into how many parts a sweep is divided, at least 1 and as many as `workers`.
    pub parts: Option<u32>,
    /// How many of them one process works on at a time, at least 1.
    pub workers: Option<u32>,
    /// The last key to be swept, in the order of the key columns; not set is every key.
    pub upto: Option<String>,
    /// How often in a row a page may fail before the verb gives up; 10 unless set.
    pub attempts: u32,
}

impl Default for Backfilling {
    fn default() -> Backfilling {
        Backfilling {
            page: None,
            load_page: None,
            rows_per_second: None,
            load: None,
            parts: None,
            workers: None,
            upto: None,
            attempts: 10,
        }
    }
}

/// `[entity.NAME.drain]`. What is not set is [`DrainOptions`]' default.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Draining {
    /// Keys per copy, at least 1.
    pub batch: Option<u32>,
    /// Copies at a time, at least 1.
    pub concurrency: Option<u32>,
    /// Keys per second, at least 1; not set is unlimited.
    pub rows_per_second: Option<u32>,
    /// Which share of the time it is at work, from 1 to 100; not set is all of it.
    pub duty_percent: Option<u8>,
}

/// `[entity.NAME.verify]`. What is not set is [`VerifyOptions`]' default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Verifying {
    /// Keys per page, at least 1.
    pub page: Option<u32>,
    /// Keys per span whose rows are summed; 0: none are.
    pub range: Option<u32>,
    /// The most samples kept per class.
    pub samples: Option<usize>,
    /// How often a key that keeps moving is looked at again.
    pub looks: Option<u32>,
    /// Keys per second; not set is unlimited.
    pub rows_per_second: Option<u32>,
    /// Which share of the time it is at work, from 1 to 100; not set is all of it.
    pub duty_percent: Option<u8>,
    /// What counts as equal.
    pub rules: Rules,
}

impl Backfilling {
    /// As the worker takes it, at the pace of the file.
    #[must_use]
    pub fn options(&self, pace: &Pace) -> BackfillOptions {
        let (default, pacing) = (BackfillOptions::default(), pace.pacing());
        BackfillOptions {
            page: self.page.unwrap_or(default.page),
            load_page: self.load_page,
            pacing: Pacing {
                rows_per_second: self
                    .rows_per_second
                    .and_then(RowsPerSecond::new)
                    .or(pacing.rows_per_second),
                ..pacing
            },
            load: self.load.unwrap_or(default.load),
            parts: self.parts.unwrap_or(default.parts),
            workers: self.workers.unwrap_or(default.workers),
            attempts: Some(self.attempts),
            ..default
        }
    }
}

impl Draining {
    /// As the worker takes it.
    #[must_use]
    pub fn options(&self) -> DrainOptions {
        let default = DrainOptions::default();
        DrainOptions {
            batch: self.batch.unwrap_or(default.batch),
            concurrency: self.concurrency.unwrap_or(default.concurrency),
            pacing: pace_of(self.rows_per_second, self.duty_percent),
            ..default
        }
    }
}

impl Verifying {
    /// As the worker takes it.
    #[must_use]
    pub fn options(&self) -> VerifyOptions {
        let default = VerifyOptions::default();
        VerifyOptions {
            page: self.page.unwrap_or(default.page),
            range: self.range.unwrap_or(default.range),
            samples: self.samples.unwrap_or(default.samples),
            looks: self.looks.unwrap_or(default.looks),
            rules: self.rules.clone(),
            pacing: pace_of(self.rows_per_second, self.duty_percent),
            ..default
        }
    }
}
