//! Row counts both ways: as many rows of each key in the new tables as the mapping makes.
//!
//! The authority's pages say how many rows of each target a key has; the follower counts its own.
//! Then the follower's keys are asked for, and those of which the root has no row. Where the counts
//! differ the key may lag: a [`Verify`] of these keys alone tells.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use changeover_flags::Key;

use super::{CheckOptions, Checks, Outcome};
use crate::copy::Copier;
use crate::dialect::authority::SqlAuthority;
use crate::dialect::follower::SqlFollower;
use crate::migration::Migration;
use crate::store::{Authority as _, Follower as _, StoreError};
use crate::sum::Span;
use crate::verify::{Class, Verify, VerifyOptions};

/// Keys per page.
const PAGE: u32 = 500;

pub(super) struct Rows {
    authority: SqlAuthority,
    follower: SqlFollower,
    verify: Verify,
    timeout: Duration,
    samples: usize,
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rows")
    }
}

/// What was found so far.
#[derive(Default)]
struct Found {
    rows: u64,
    samples: Vec<String>,
}

impl Rows {
    pub(super) fn new(migration: &Migration, options: &CheckOptions) -> Rows {
        let authority = migration.authority.on(migration.legacy.aside());
        let follower = migration.follower.on(migration.new.aside());
        let copier = Copier::with_meters(
            Arc::clone(migration.copier().meters()),
            Arc::new(authority.clone()),
            Arc::new(follower.clone()),
        );
        let verify = VerifyOptions {
            samples: options.samples,
            rules: options.rules.clone(),
            ..VerifyOptions::default()
        };
        Rows {
            authority,
            follower,
            verify: Verify::new(copier, verify),
            timeout: options.timeout,
            samples: options.samples,
        }
    }

    pub(super) async fn ask(&self) -> Outcome {
        match self.sweep().await {
            Ok(None) => Outcome::NotYet {
                reason: "no finished backfill is known: what is not there yet is pending".into(),
            },
            Ok(Some(Found { rows: 0, .. })) => Outcome::Clean,
            Ok(Some(Found { rows, samples })) => Outcome::Found {
                rows,
                more: rows > Checks::MAX_ROWS as u64,
                samples,
            },
            Err(Stopped::Late) => Outcome::Failed {
                reason: format!(
                    "a page did not come within {:?}, and was stopped",
                    self.timeout
                ),
            },
            Err(Stopped::Store(error @ StoreError::NotInstalled { .. })) => Outcome::NotYet {
                reason: error.to_string(),
            },
            Err(Stopped::Store(error)) => Outcome::Failed {
                reason: match std::error::Error::source(&error) {
                    Some(source) => format!("{error}: {source}"),
                    None => error.to_string(),
                },
            },
        }
    }

    /// None before a backfill has ended.
    async fn sweep(&self) -> Result<Option<Found>, Stopped> {
        if !self.within(self.follower.cursor()).await?.done {
            return Ok(None);
        }
        let mut found = Found::default();
        let mut rest = Span::default();
        while found.rows <= Checks::MAX_ROWS as u64 {
            let page = self.authority.page(&rest, PAGE);
            let page = self.within(page).await?;
            let Some(last) = page.last else { break };
            rest = Span::above(Some(last));
            let images = page.stamped.into_iter();
            let counts = images.filter_map(|one| {
                // One without an image is blocked, and says so.
                let rows = one.image.ok()?;
                Some((one.key, rows.targets.iter().map(Vec::len).collect()))
            });
            self.compare(counts.collect(), &mut found).await?;
        }
        let mut after: Option<Key> = None;
        while found.rows <= Checks::MAX_ROWS as u64 {
            let held = self.follower.held_keys(after.as_ref(), PAGE);
            let held = self.within(held).await?;
            let Some(last) = held.last() else { break };
            after = Some(last.clone());
            self.compare_gone(&held, &mut found).await?;
        }
        for target in 0..self.follower.owned().len() {
            after = None;
            while found.rows <= Checks::MAX_ROWS as u64 {
                let held = self.follower.unfenced(target, after.as_ref(), PAGE);
                let held = self.within(held).await?.unwrap_or_default();
                let Some(last) = held.last() else { break };
                after = Some(last.clone());
                self.compare_gone(&held, &mut found).await?;
            }
        }
        Ok(Some(found))
    }

    /// Those of these keys that have no row in the root table.
    async fn compare_gone(&self, held: &[Key], found: &mut Found) -> Result<(), Stopped> {
        let gone = self.within(self.authority.rootless(held)).await?;
        let none = gone.into_iter().map(|key| (key, Vec::new()));
        self.compare(none.collect(), found).await
    }

    /// Keys by the rows that they should have of each target; of none where the list is shorter.
    async fn compare(
        &self,
        should: Vec<(Key, Vec<usize>)>,
        found: &mut Found,
    ) -> Result<(), Stopped> {
        let (keys, should): (Vec<Key>, Vec<Vec<usize>>) = should.into_iter().unzip();
        if keys.is_empty() {
            return Ok(());
        }
        let counted = self.within(self.follower.row_counts(&keys)).await?;
        let targets = &self.follower.owned();
        let differ = |should: &[usize], counted: &[usize]| {
            let pairs = targets.iter().zip(counted).enumerate();
            let mut owned = pairs.filter(|(_, (owned, _))| **owned);
            owned.any(|(index, (_, counted))| should.get(index).unwrap_or(&0) != counted)
        };
        let pairs = keys.into_iter().zip(should).zip(counted);
        let suspects = pairs.filter(|((_, should), counted)| differ(should, counted));
        let suspects: Vec<Key> = suspects.map(|((key, _), _)| key).collect();
        if suspects.is_empty() {
            return Ok(());
        }
        // Lag or a hold, neither is found: nobody has to be asked which.
        let judged = self.verify.keys_but_not_holds(&suspects);
        let judged = self.within(judged).await?;
        found.rows += CERTAIN
            .iter()
            .map(|class| judged.count(*class))
            .sum::<u64>();
        for sample in judged.samples {
            if CERTAIN.contains(&sample.class) && found.samples.len() < self.samples {
                let class = sample.class.as_str();
                found.samples.push(format!("{} ({class})", sample.key));
            }
        }
        Ok(())
    }

    async fn within<T>(
        &self,
        asked: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Stopped> {
        let answer = tokio::time::timeout(self.timeout, asked).await;
        answer.map_err(|_| Stopped::Late)?.map_err(Stopped::Store)
    }
}

/// What neither lag nor a hold explains.
const CERTAIN: [Class; 5] = [
    Class::Divergent,
    Class::Missing,
    Class::Extra,
    Class::FollowerAhead,
    Class::Unrecorded,
];

enum Stopped {
    Late,
    Store(StoreError),
}
