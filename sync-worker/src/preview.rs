//! Finding out before the copy what cannot be carried: [`Preview`], the copy itself, rolled back.
//!
//! Each page of the authority is copied to the follower by the shipped code, constraints and triggers
//! included, and its transaction is rolled back. What the follower would refuse is counted by reason,
//! with some of the keys. Rows whose key has none in the root table are tried after the pages.
//!
//! # What it changes, and what it does not see
//!
//! 1. No row changes. Ids that a sequence gives are used up, and the rows of a page are locked while
//!    it is tried, so it belongs before the first copy, or between copies.
//! 2. It needs the installation (`install --stamps-only` will do): the follower's own tables are
//!    part of a copy.
//! 3. A key is tried beside those of its page alone. Two keys that want one unique value, or a row
//!    whose parent is another key's, are told by the copy, which holds them until that is settled. So
//!    are foreign keys of SQLite that are declared deferred.

use std::collections::BTreeMap;

use changeover_flags::Key;
use serde::Serialize;

use crate::copy::answered;
use crate::dialect::authority::SqlAuthority;
use crate::dialect::follower::SqlFollower;
use crate::migration::{Migration, MigrationError};
use crate::store::{Applied, Authority as _, Follower as _, HoldKind, Stamped, StoreError};
use crate::sum::Span;

/// How a preview goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreviewOptions {
    /// Keys per page, at least 1.
    pub page: u32,
    /// The most keys that are tried, from the first on; `None` is all of them.
    pub keys: Option<u64>,
    /// The most keys kept per reason.
    pub samples: usize,
}

impl Default for PreviewOptions {
    /// Pages of 500, all keys, 20 samples per reason.
    fn default() -> PreviewOptions {
        PreviewOptions {
            page: 500,
            keys: None,
            samples: 20,
        }
    }
}

/// Why some keys cannot be carried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    /// What the mapping or the follower says, without values.
    pub reason: String,
    /// Whether it passes when something else arrives: a lookup's answer, a parent.
    pub waits: bool,
    /// How many keys.
    pub keys: u64,
    /// Some of them, as they are: without them nobody could look.
    pub samples: Vec<String>,
    /// What to do about it.
    pub remedy: &'static str,
}

const WAIT: &str =
    "it waits for another row: a lookup's answer, a parent, a unique value that gets free";
const CHANGE: &str =
    "change the mapping's expression, the legacy rows, or what the new column takes";

/// What a preview found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct PreviewReport {
    /// Keys tried.
    pub tried: u64,
    /// Of these, keys that the follower takes, or holds already.
    pub carried: u64,
    /// Why the others are not carried, the most frequent first.
    pub obstacles: Vec<Obstacle>,
    /// Keys whose reason found no room: beyond [`PreviewReport::REASONS`].
    pub other: u64,
}

impl PreviewReport {
    /// The most reasons that a report tells apart.
    pub const REASONS: usize = 500;

    /// Whether every key that was tried can be carried.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.carried == self.tried
    }
}

/// A copy that is rolled back.
#[derive(Debug)]
pub struct Preview {
    authority: SqlAuthority,
    follower: SqlFollower,
    options: PreviewOptions,
    found: BTreeMap<(String, bool), (u64, Vec<String>)>,
    report: PreviewReport,
}

impl Migration {
    /// Tries what a backfill would copy, rolls it back, and answers what cannot be carried. `told` hears
    /// after each page how many keys were tried so far.
    ///
    /// Cancellation safe: it changes nothing.
    ///
    /// # Errors
    ///
    /// [`MigrationError::NotInstalled`], [`MigrationError::Revision`], or what the databases say.
    pub async fn preview(
        &self,
        options: PreviewOptions,
        mut told: impl FnMut(u64) + Send,
    ) -> Result<PreviewReport, MigrationError> {
        self.epoch_of_mine().await?;
        let mut preview = Preview {
            authority: self.authority.clone(),
            follower: self.follower.rehearsing(),
            options,
            found: BTreeMap::new(),
            report: PreviewReport::default(),
        };
        let mut after: Option<Key> = None;
        loop {
            let read = preview.page(after.as_ref()).await?;
            told(preview.report.tried);
            match read {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        let mut rest = Span::default();
        loop {
            let read = preview.orphans(&rest).await?;
            told(preview.report.tried);
            match read {
                Some(last) if rest.after.as_ref() != Some(&last) => rest.after = Some(last),
                _ => return Ok(preview.report()),
            }
        }
    }
}

impl Preview {
    /// Tries the next page; answers where the one after it begins.
    async fn page(&mut self, after: Option<&Key>) -> Result<Option<Key>, StoreError> {
        let limit = self.limit();
        if limit == 0 {
            return Ok(None);
        }
        let page = self
            .authority
            .page(&Span::above(after.cloned()), limit)
            .await?;
        self.tried(&page.stamped).await?;
        let more = page.stamped.len() >= limit as usize;
        Ok(page.last.filter(|_| more))
    }

    /// Tries the next keys that have rows, and that no page shows; answers where those after them begin.
    async fn orphans(&mut self, rest: &Span) -> Result<Option<Key>, StoreError> {
        let limit = self.limit();
        if limit == 0 {
            return Ok(None);
        }
        let keys = self.authority.orphans(rest, limit).await?;
        let stamped = self.authority.read(&keys).await?;
        self.tried(&stamped).await?;
        let more = keys.len() >= limit as usize;
        Ok(keys.last().filter(|_| more).cloned())
    }

    /// How many keys are tried next.
    fn limit(&self) -> u32 {
        let left = self
            .options
            .keys
            .map_or(u64::MAX, |keys| keys.saturating_sub(self.report.tried));
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        left.min(self.options.page.max(1))
    }

    async fn tried(&mut self, copies: &[Stamped]) -> Result<(), StoreError> {
        let outcomes = self.follower.apply(copies, None).await?;
        answered("follower", "trying copies", copies.len(), outcomes.len())?;
        for (copy, outcome) in copies.iter().zip(outcomes) {
            self.note(copy, outcome);
        }
        Ok(())
    }

    fn note(&mut self, copy: &Stamped, outcome: Applied) {
        self.report.tried += 1;
        let (reason, waits) = match outcome {
            Applied::Applied | Applied::Stale | Applied::BehindBase | Applied::Loading => {
                self.report.carried += 1;
                return;
            }
            Applied::Conflict(_) => {
                let reason = "a unique value belongs to another key's row";
                (reason.to_owned(), true)
            }
            Applied::Held(hold) => (hold.reason, hold.kind == HoldKind::Waiting),
        };
        let full = self.found.len() >= PreviewReport::REASONS;
        let known = (reason, waits);
        if full && !self.found.contains_key(&known) {
            self.report.other += 1;
            return;
        }
        let (keys, samples) = self.found.entry(known).or_default();
        *keys += 1;
        if samples.len() < self.options.samples {
            samples.push(copy.key.to_string());
        }
    }

    fn report(mut self) -> PreviewReport {
        let found = self.found.into_iter();
        self.report.obstacles = found
            .map(|((reason, waits), (keys, samples))| Obstacle {
                reason,
                waits,
                keys,
                samples,
                remedy: if waits { WAIT } else { CHANGE },
            })
            .collect();
        self.report
            .obstacles
            .sort_by_key(|obstacle| std::cmp::Reverse(obstacle.keys));
        self.report
    }
}
