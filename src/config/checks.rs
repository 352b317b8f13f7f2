//! `[entity.NAME.checks]` and `[[entity.NAME.check]]`: consistency checks.

use std::num::NonZeroU32;
use std::time::Duration;

use changeover_flags::Place;
use changeover_shadow::Rules;
use changeover_sync_worker::check::{CheckOptions, OwnCheck};
use serde::Deserialize;

/// `[entity.NAME.checks]`. What is not set is [`CheckOptions`]' default.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Checking {
    /// Checks at a time.
    pub concurrency: Option<NonZeroU32>,
    /// The longest that one statement of a check may run.
    pub timeout_seconds: Option<NonZeroU32>,
    /// The most rows that are shown of a check.
    pub samples: Option<usize>,
    /// How often the built-in checks run on a schedule.
    pub every_seconds: Option<NonZeroU32>,
}

/// `[[entity.NAME.check]]`: one of one's own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Own {
    /// Its name in reports and metrics.
    pub name: String,
    /// Whom it asks.
    pub place: Place,
    /// One query, expected to answer no rows. Its first column names the row, and is shown.
    pub sql: String,
    /// How often it runs on a schedule; hourly unless set.
    pub every_seconds: Option<NonZeroU32>,
}

impl Checking {
    /// As the worker takes it; `rules` are those of the verify.
    #[must_use]
    pub fn options(&self, rules: &Rules) -> CheckOptions {
        let default = CheckOptions::default();
        let seconds = |set: Option<NonZeroU32>, default| set.map_or(default, duration);
        CheckOptions {
            concurrency: self
                .concurrency
                .map_or(default.concurrency, |number| number.get() as usize),
            timeout: seconds(self.timeout_seconds, default.timeout),
            samples: self.samples.unwrap_or(default.samples),
            every: seconds(self.every_seconds, default.every),
            rules: rules.clone(),
        }
    }
}

impl Own {
    /// As the worker takes it.
    #[must_use]
    pub fn check(&self) -> OwnCheck {
        OwnCheck {
            name: self.name.clone(),
            place: self.place,
            sql: self.sql.clone(),
            every: self.every_seconds.map_or(OwnCheck::EVERY, duration),
        }
    }
}

fn duration(seconds: NonZeroU32) -> Duration {
    Duration::from_secs(seconds.get().into())
}
