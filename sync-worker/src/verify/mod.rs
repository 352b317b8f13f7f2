//! Proving that both sides agree: [`Verify`], by sums where they say it, key by key where they do not.
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
//! # Sums
//!
//! Where the mapping lets it ([`Authority::unsummed`](crate::store::Authority::unsummed) says where not,
//! and why), each side sums its rows in its own database, over spans of [`VerifyOptions::range`] keys: one
//! statement answers a sum for each of up to 64 parts, of about a page of keys each. Equal sums: the part agrees.
//! Different ones: it is divided, and what is left at last, few keys, is compared key by key. A part with keys
//! that are dirty differs as a rule, and goes that way.
//!
//! The two sums of a span are of two instants, with writes and copies between them. They say the same as
//! the first look at each of its keys would:
//!
//! 1. A row is hashed with the version of its key as it was at the same instant. So equal sums mean: the
//!    same keys have rows, each key's rows are the same, *and its version is*, at the authority's instant
//!    and at the follower's.
//! 2. A version names one state of a key on the authority. What the follower holds at that version is
//!    what it should hold at that version, however many versions the authority has given since.
//! 3. Whatever came after is dirty by its own commit, and is copied. A copy that goes wrong, or a row
//!    that is tampered with, after its instant is found by the next verify, as it is after a first look.
//!    Nothing that stood wrong while its span was summed can have an equal sum, whichever side was
//!    first: the other side has another version, or other rows.
//! 4. A key's rows change under its version only where a lookup's change waits for its second stamp
//!    (`Dirt::Noted`). Before that stamp both sides hold what the version meant, or the sums differ.
//!
//! Rows that belong to a row which is gone are in no span. A verify of all keys lists theirs at its end, a sample
//! does not.
//!
//! A key of a span whose sums are equal counts as `equal`; `lagging` keys are always looked at one by
//! one. So [`VerifyReport::conclusive`] weighs the same two numbers as without sums.
//!
//! # Sweeps
//!
//! Five: the authority's keys; keys that have rows there, and none in the root table; keys that were stamped
//! and have no rows any more; keys that the follower has a version of and the authority no rows; and those it
//! has rows of. With sums the first one finds all that has rows on either side, and the others compare the
//! versions of what has none. A key without an image may be counted by more than one of them.
//!
//! Before each page and each sum it waits for its turn, as [`pace`](crate::pace) says. Whatever comes
//! between two looks, a difference is reported only when it was there while neither version moved.
//!
//! A verify that compared nothing is not clean unless both sides are empty: a blind instrument
//! reads zero, too.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use changeover_flags::{Key, Percent};
use changeover_shadow::{Redaction, Rules};

mod judge;
mod look;
mod ranges;
mod report;
mod sample;
mod sweeps;

pub use report::{Class, PartReport, Recorded, Sample, SumsReport, VerifyReport};

use tokio::time::Instant;

use crate::copy::Copier;
use crate::pace::{Pacing, Reason, RowsPerSecond, Signals};
use crate::store::{Hold, StoreError};
use crate::sum::Unsummed;
use crate::turns::{Turns, Work};

/// How a verify goes about it.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Keys per page, at least 1: so many are compared one by one at a time.
    pub page: u32,
    /// Keys per statement that sums rows, at least a page; 0: nothing is summed. Where an engine has
    /// no hash of its own (SQLite), the rows of a span are in memory at once, and it has 4,096 keys, or a page, at
    /// most.
    pub range: u32,
    /// The most samples kept per class.
    pub samples: usize,
    /// How often a key that keeps moving is looked at again before it counts as lagging.
    pub looks: u32,
    /// What counts as equal. The left side of a rule is what should be there.
    pub rules: Rules,
    /// What samples may show of values. Nothing by default.
    pub redaction: Redaction,
    /// How much of the keys is looked at.
    pub part: Part,
    /// The salt of the sums, and what a sample is drawn by.
    pub seed: u64,
    /// How fast it goes. The rate is of keys that are compared, by equal sums or one by one; pages and spans
    /// have no more than a second of it, and no fewer keys than that because a statement takes long. There is
    /// no budget of bytes.
    pub pacing: Pacing,
    /// What holds it back too. They are read while it runs.
    pub signals: Signals,
    /// Whether it is recorded that both sides agree, or that they do not. The verdict is the same. Which keys
    /// are dirty is asked all the same, and marks in the product's own tables what a written row reaches.
    pub record: bool,
}

/// How much of the keys a verify looks at. What only looked at a part proves nothing of the whole: it is
/// not recorded that both sides agree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Part {
    /// All.
    #[default]
    All,
    /// Those behind this one, in the order of the key columns, and what has no rows: the rest of a verify
    /// that was broken off.
    Above(Key),
    /// Spans drawn by chance. Keys that have no rows are not among them.
    Sample(Sampled),
}

/// How many spans are drawn, of up to [`range`](VerifyOptions::range) keys, or 8,192, or a page: at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampled {
    /// This share of them.
    Share(Percent),
    /// So many.
    Ranges(u32),
}

impl Default for VerifyOptions {
    /// Pages of 500, spans of 32,768, 20 samples per class, 3 looks, no rules, no values, all
    /// keys, a random seed, as fast as it goes.
    fn default() -> VerifyOptions {
        VerifyOptions {
            page: 500,
            range: 32_768,
            samples: 20,
            looks: 3,
            rules: Rules::default(),
            redaction: Redaction::default(),
            part: Part::All,
            seed: rand::random(),
            pacing: Pacing::UNLIMITED,
            signals: Signals::default(),
            record: true,
        }
    }
}

/// Compares every key of both sides.
#[derive(Debug, Clone)]
pub struct Verify {
    copier: Copier,
    options: VerifyOptions,
}

/// Why keys are held, and when that was asked.
type Holds = (BTreeMap<Key, Hold>, Instant);

/// A verify under way.
struct Sweep<'a> {
    report: VerifyReport,
    /// `None` where nobody asks for them: held keys count as lagging.
    holds: Option<Holds>,
    /// Keys without a row in the root table that were compared.
    gone: BTreeSet<Key>,
    /// The last key of the root table up to which all were compared.
    reached: Option<Key>,
    turns: Turns,
    /// When the turn began.
    turn: Instant,
    told: &'a mut (dyn FnMut(VerifyProgress) + Send),
}

/// How far a verify has come.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VerifyProgress {
    /// Keys compared so far.
    pub compared: u64,
    /// Of them, those that no lag explains.
    pub unclean: u64,
    /// Up to this key of the root table everything was compared: [`Part::Above`] goes on behind it.
    pub reached: Option<Key>,
    /// What holds it back at the moment: a pause, a signal, or what takes longer than a second.
    pub held_back_by: Option<Reason>,
}

impl Sweep<'_> {
    fn progress(&self) -> VerifyProgress {
        let classes = self.report.classes.iter();
        let unclean = classes.filter(|(class, _)| !class.is_clean());
        VerifyProgress {
            compared: self.report.compared,
            unclean: unclean.map(|(_, keys)| keys).sum(),
            reached: self.reached.clone(),
            held_back_by: None,
        }
    }

    fn tell(&mut self) {
        let progress = self.progress();
        (self.told)(progress);
    }

    /// Waits until the next page or span may be looked at, as the pace says after what was, and answers for
    /// how long.
    async fn turn(&mut self) -> Duration {
        self.turns.pacer().passed(0, 0, self.turn.elapsed());
        let progress = self.progress();
        let told = &mut self.told;
        let turn = self.turns.next(|held_back_by| {
            told(VerifyProgress {
                held_back_by,
                ..progress.clone()
            });
        });
        let waited = turn.await;
        self.turn = Instant::now();
        waited
    }

    /// Counts keys that are compared.
    fn look(&self, keys: usize) {
        self.turns.pacer().spend(keys as u64, 0);
    }

    fn reach(&mut self, key: Option<Key>) {
        self.reached = key.or(self.reached.take());
        self.tell();
    }
}

impl Verify {
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

    /// The same; `told` hears after each page and span how far it has come.
    ///
    /// # Errors
    ///
    /// As [`run`](Verify::run).
    pub async fn run_telling(
        &self,
        mut told: impl FnMut(VerifyProgress) + Send,
    ) -> Result<VerifyReport, StoreError> {
        let backfilled = self.copier.follower().cursor().await?.done;
        let unsummed = self.unsummed();
        let report = VerifyReport {
            backfilled,
            unsummed: unsummed.clone().unwrap_or_default(),
            ..VerifyReport::default()
        };
        let mut sweep = Sweep {
            report,
            holds: None,
            gone: BTreeSet::new(),
            reached: None,
            turns: self.turns(self.options.pacing, self.options.signals.clone()),
            turn: Instant::now(),
            told: &mut told,
        };
        let turns = sweep.turns.clone();
        turns.during(self.sweep(unsummed, &mut sweep)).await?;
        Ok(sweep.report)
    }

    /// All of it, or the part that was asked for.
    async fn sweep(
        &self,
        unsummed: Option<Vec<Unsummed>>,
        sweep: &mut Sweep<'_>,
    ) -> Result<(), StoreError> {
        sweep.turn().await;
        self.ask_holds(sweep).await?;
        let after = match &self.options.part {
            Part::Above(key) => Some(self.copier.authority().canonical(key)),
            _ => None,
        };
        sweep.report.part = after.as_ref().map(|key| PartReport::Above(key.to_string()));
        let keys = match (&self.options.part, unsummed) {
            (Part::Sample(sampled), unsummed) => {
                let summed = unsummed.is_none();
                self.sweep_sample(*sampled, summed, sweep).await?
            }
            (_, None) => self.sweep_spans(after, sweep).await?,
            (_, Some(_)) => self.sweep_keys(after.as_ref(), sweep).await?,
        };
        sweep.report.empty = keys == 0;
        Ok(())
    }

    /// Compares `keys` alone, rows or no rows, as fast as it goes. Cancellation safe: it changes nothing.
    ///
    /// # Errors
    ///
    /// As [`run`](Verify::run).
    pub async fn keys(&self, keys: &[Key]) -> Result<VerifyReport, StoreError> {
        let holds = self.holds().await?;
        self.these(keys, Some(holds)).await
    }

    /// The same, but keys that are held count as lagging: to tell them apart takes a walk through all dirty
    /// keys, for however few `keys`.
    ///
    /// # Errors
    ///
    /// As [`run`](Verify::run).
    pub(crate) async fn keys_but_not_holds(
        &self,
        keys: &[Key],
    ) -> Result<VerifyReport, StoreError> {
        self.these(keys, None).await
    }

    async fn these(&self, keys: &[Key], holds: Option<Holds>) -> Result<VerifyReport, StoreError> {
        let backfilled = self.copier.follower().cursor().await?.done;
        let mut sweep = Sweep {
            report: VerifyReport {
                backfilled,
                empty: keys.is_empty(),
                ..VerifyReport::default()
            },
            holds,
            gone: BTreeSet::new(),
            reached: None,
            turns: self.turns(Pacing::UNLIMITED, Signals::default()),
            turn: Instant::now(),
            told: &mut |_| (),
        };
        for keys in keys.chunks(self.page() as usize) {
            let stamped = self.read(keys).await?;
            self.compare(stamped, &mut sweep).await?;
        }
        Ok(sweep.report)
    }

    /// What is compared key by key whatever sums would say, and why; `None` if nothing is.
    fn unsummed(&self) -> Option<Vec<Unsummed>> {
        if self.options.range == 0 {
            let (target, why) = ("the verify", "it was told to sum nothing");
            return Some(vec![Unsummed {
                target: target.to_owned(),
                why: why.to_owned(),
            }]);
        }
        self.copier.authority().unsummed()
    }

    /// Keys that are compared one by one at a time.
    fn page(&self) -> u32 {
        self.options.page.min(self.second()).max(1)
    }

    /// The keys of a second, at a fixed rate.
    fn second(&self) -> u32 {
        let rate = self.options.pacing.rows_per_second;
        rate.map_or(u32::MAX, RowsPerSecond::get)
    }

    fn turns(&self, pacing: Pacing, signals: Signals) -> Turns {
        let meters = self.copier.meters();
        Turns::new(Work::Verify, (pacing, signals), self.range(), meters)
    }
}

#[cfg(test)]
mod tests;
