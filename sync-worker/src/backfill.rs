//! Copying history: [`Backfill`], a sweep over the authority's keys in pages.
//!
//! A page is a copy like any other, so live writes and deletes need no lock: a row that was never
//! stamped carries the lowest version, and every write outranks it.
//!
//! # Loading
//!
//! A copy leaves a row of the product's beside each key, which is as much to write as the data itself.
//! The first sweep of an installation therefore [loads](Follower::load), unless
//! [`BackfillOptions::load`] says otherwise: while it lasts, its pages are the only ones that write to
//! the follower, and need no such rows. Writes of the application are not held up; they stay dirty,
//! and are copied when the load is over. Since nothing but the one page at the cursor's place can
//! write, none can bring back a deleted row or an older one; what was stamped is left to the copies.
//! A load that was interrupted goes on from its cursor, also in another process.
//!
//! It is no way to start again: where the base was raised, or a load was given up, history is swept by
//! copies. The scheme comes from `tests/model/door`, where every order of a few steps is tried, for ranges
//! of one page each; `tests/simulation` runs this loop, of many pages, under faults and seeded bugs.
//!
//! # Rules
//!
//! 1. A page's place is the last key *read*; a page with fewer rows *read* than asked for ends the
//!    sweep. How many of them were changed decides nothing.
//! 2. The cursor passes a page only when each of its keys is on the follower or held at the
//!    authority. It is committed with the data of the *next* page, or by itself after a page of
//!    which keys were held: they are held before the cursor passes them. A crash repeats at most
//!    one page.
//! 3. What cannot be settled now (a store that does not answer, an authority whose base is not
//!    raised yet) is tried again, from reading on, after a pause.
//! 4. Any number of backfills may run: they waste work, nothing else.
//!
//! 5. Before each page it waits for its turn, as [`pace`](crate::pace) says: it may be dropped there as
//!    anywhere, and says what it waits for.
//!
//! Speed and pause are changed through [`BackfillControl`] while it runs.

use std::sync::Arc;
use std::time::Duration;

use changeover_flags::Key;
use tokio::time::Instant;

use crate::copy::{Copier, CopySource};
use crate::pace::{Backoff, Pacer, Reason, RowsPerSecond, Signals};
use crate::store::{Cursor, Page, StoreError};
use crate::turns::{Turns, Work};

mod load;
mod options;
mod raw;

pub use options::BackfillOptions;
use raw::{Course, most};

/// How far a backfill has come.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Keys passed, earlier runs included.
    pub passed: u64,
    /// Keys in the root table: exact or an estimate, so `passed` may end above or below it.
    pub estimate: u64,
    /// Keys per second of this run so far, 0 before the first page.
    pub rows_per_second: f64,
    /// Keys of this run that were held back.
    pub held: u64,
    /// What holds the sweep itself back at the moment: a pause, a signal, or what takes longer than
    /// a second.
    pub held_back_by: Option<Reason>,
    /// Whether the sweep reached the end.
    pub done: bool,
}

/// Changes a backfill while it runs. A clone controls the same one.
#[derive(Debug, Clone)]
pub struct BackfillControl {
    pacer: Arc<Pacer>,
}

impl BackfillControl {
    /// Stops before the next page.
    pub fn pause(&self) {
        self.pacer.pause();
    }

    /// Goes on.
    pub fn resume(&self) {
        self.pacer.resume();
    }

    /// Whether it is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.pacer.is_paused()
    }

    /// Changes the rate, also for a page that waits already. `None` is unlimited.
    pub fn set_rate(&self, rate: Option<RowsPerSecond>) {
        self.pacer.set_rate(rate);
    }

    /// The rate at the moment.
    #[must_use]
    pub fn rate(&self) -> Option<RowsPerSecond> {
        self.pacer.rate()
    }

    /// What would hold the next page back at this moment.
    #[must_use]
    pub fn held_back_by(&self) -> Option<Reason> {
        self.pacer.held().map(|held| held.reason)
    }
}

/// The sweep that copies every key once.
#[derive(Debug)]
pub struct Backfill {
    copier: Copier,
    options: BackfillOptions,
    turns: Turns,
}

/// What one page did.
struct Passed {
    /// The new cursor.
    cursor: Cursor,
    rows: u64,
    held: u64,
}

impl Backfill {
    /// A page that was read ahead longer ago than this is read again.
    const FRESH: Duration = Duration::from_secs(1);

    /// A backfill through `copier`.
    #[must_use]
    pub fn new(copier: Copier, options: BackfillOptions) -> Backfill {
        let turns = turns(&copier, options, Signals::default());
        Backfill {
            copier,
            options,
            turns,
        }
    }

    /// The same, held back by `signals` too. They are read while it runs. To be called before
    /// [`control`](Backfill::control).
    #[must_use]
    pub fn with_signals(mut self, signals: Signals) -> Backfill {
        self.turns = turns(&self.copier, self.options, signals);
        self
    }

    /// What changes this backfill while it runs.
    #[must_use]
    pub fn control(&self) -> BackfillControl {
        BackfillControl {
            pacer: Arc::clone(self.turns.pacer()),
        }
    }

    /// Sweeps from where the follower's cursor stands to the end, and tells `report` after each
    /// page, and when something begins or ceases to hold it back. Returns at once when the cursor
    /// says done.
    ///
    /// Cancellation safe: dropped at any await, the next run resumes from the cursor.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when a store refuses for a reason that waiting does not mend, or when a page
    /// has failed [`BackfillOptions::attempts`] times in a row.
    pub async fn run(&self, report: impl FnMut(Progress) + Send) -> Result<Progress, StoreError> {
        self.turns.during(self.sweep(report)).await
    }

    async fn sweep(&self, mut report: impl FnMut(Progress) + Send) -> Result<Progress, StoreError> {
        let BackfillOptions {
            first_pause,
            longest_pause,
            seed,
            ..
        } = self.options;
        let mut backoff = Backoff::new(first_pause, longest_pause, seed);
        let mut cursor = self.asked(&mut backoff, false).await?;
        let begun = Instant::now();
        let mut progress = Progress {
            passed: cursor.passed,
            estimate: self.copier.authority().estimate().await.unwrap_or(0),
            rows_per_second: 0.0,
            held: 0,
            held_back_by: None,
            done: cursor.done,
        };
        let mut rows = 0;
        let mut ahead = None;
        let mut course = Course::default();
        let mut began = false;
        while !cursor.done {
            // The wait comes before the read, so that what is copied was not read long ago.
            if self.turn(&mut progress, &mut report).await > Self::FRESH {
                ahead = None;
                course.forget();
            }
            // Nor does a load, beside which nothing is copied, begin while the sweep may not go on.
            if !std::mem::replace(&mut began, true) {
                cursor = self.asked(&mut backoff, true).await?;
                continue;
            }
            let passed = match cursor.loading {
                true => self.load(&cursor, &mut ahead, &mut course).await,
                false => self.pass(&cursor, &mut ahead).await,
            };
            match passed {
                Ok(Some(passed)) => {
                    backoff.reset();
                    rows += passed.rows;
                    progress.held += passed.held;
                    cursor = passed.cursor;
                }
                Ok(None) => {
                    tracing::warn!(
                        "the sweep stands elsewhere, or below the follower's base; the page is tried again"
                    );
                    tokio::time::sleep(backoff.next_pause()).await;
                    cursor = self.asked(&mut backoff, true).await?;
                    ahead = None;
                    course.forget();
                    continue;
                }
                Err(error) => {
                    self.wait(&mut backoff, error).await?;
                    if cursor.loading {
                        // A page whose answer was lost has moved the cursor, or not.
                        cursor = self.asked(&mut backoff, true).await?;
                        ahead = None;
                        course.forget();
                    }
                    continue;
                }
            }
            progress.passed = cursor.passed;
            progress.done = cursor.done;
            let seconds = begun.elapsed().as_secs_f64();
            progress.rows_per_second = if seconds > 0.0 {
                rows as f64 / seconds
            } else {
                0.0
            };
            self.show(&progress);
            report(progress.clone());
        }
        // Another one may have gone the last steps.
        (progress.passed, progress.done) = (cursor.passed, cursor.done);
        self.show(&progress);
        Ok(progress)
    }

    /// Where the sweep stands, tried until it is known; with `begin`, ready to go on from there.
    async fn asked(&self, backoff: &mut Backoff, begin: bool) -> Result<Cursor, StoreError> {
        loop {
            let cursor = match begin {
                true => self.begin().await,
                false => self.copier.follower().cursor().await,
            };
            match cursor {
                Ok(cursor) => return Ok(cursor),
                Err(error) => self.wait(backoff, error).await?,
            }
        }
    }

    /// Where the sweep stands, and whether it loads; recorded if it is at its beginning.
    async fn begin(&self) -> Result<Cursor, StoreError> {
        let follower = self.copier.follower();
        let cursor = follower.cursor().await?;
        let begins = cursor.passed == 0 && !cursor.done;
        match (self.options.load, cursor.loading && !cursor.done) {
            (true, false) if begins && follower.start_loading().await? => follower.cursor().await,
            (false, true) => {
                tracing::warn!("the load is given up: history is swept from its beginning");
                follower.give_up_loading().await?;
                follower.cursor().await
            }
            (_, false) if begins => {
                follower.save_cursor(&cursor).await?;
                Ok(cursor)
            }
            _ => Ok(cursor),
        }
    }

    /// Waits for the next page's turn, and answers for how long.
    async fn turn(
        &self,
        progress: &mut Progress,
        report: &mut (impl FnMut(Progress) + Send),
    ) -> Duration {
        let turn = self.turns.next(|reason| {
            progress.held_back_by = reason;
            report(progress.clone());
        });
        turn.await
    }

    /// Passes one page; `None` when some of its keys could neither be copied nor held. `ahead` is
    /// the page itself with the rows it was asked for, when it was read while the one before was
    /// written, and then the next one.
    async fn pass(
        &self,
        cursor: &Cursor,
        ahead: &mut Option<(Page, u32)>,
    ) -> Result<Option<Passed>, StoreError> {
        let (meters, pacer) = (self.copier.meters(), self.turns.pacer());
        let begun = Instant::now();
        let (page, asked) = self.page(cursor, ahead, u32::MAX).await?;
        let (rows, bytes) = (page.stamped.len() as u64, page.bytes());
        let Some(last) = page.last else {
            let cursor = Cursor {
                done: true,
                ..cursor.clone()
            };
            self.copier.follower().save_cursor(&cursor).await?;
            return Ok(Some(Passed {
                cursor,
                rows: 0,
                held: 0,
            }));
        };
        // Rows read are rows paid for, whatever becomes of them: the wait is the next page's.
        pacer.spend(rows, bytes);
        // What is inserted after the last page was read is stamped, hence dirty: a sweep that went
        // on until nothing more was found would chase a busy application for ever.
        let done = rows < u64::from(asked);
        let next = self.read_ahead(&last, done);
        let copy = self
            .copier
            .copy_stamped(page.stamped, Some(cursor), CopySource::Backfill);
        let (copied, next) = tokio::join!(copy, next);
        let copied = copied?;
        if copied.unrecorded > 0 {
            meters.pages_retried.increment(1);
            return Ok(None);
        }
        *ahead = next;
        let took = begun.elapsed();
        pacer.passed(rows, bytes, took);
        tracing::debug!(rows, bytes, ?took, next = pacer.page(), "a page has passed");
        let held = copied.left.len() as u64;
        meters.pages_copied.increment(1);
        meters.rows_held.increment(held);
        meters.rows_copied.increment(rows.saturating_sub(held));
        let cursor = Cursor {
            last: Some(last),
            passed: cursor.passed + rows,
            done,
            ..cursor.clone()
        };
        if held > 0 || done {
            // A follower may keep no cursor beside copies that it refuses. If every page held some
            // key, nothing else would ever record how far this has come.
            self.copier.follower().save_cursor(&cursor).await?;
        }
        Ok(Some(Passed { cursor, rows, held }))
    }

    /// How many keys the next page of images has.
    fn asks(&self) -> u32 {
        self.turns.pacer().page().min(self.options.page.max(1))
    }

    /// The page at the cursor: the one that was read ahead, if there is one.
    async fn page(
        &self,
        cursor: &Cursor,
        ahead: &mut Option<(Page, u32)>,
        most: u32,
    ) -> Result<(Page, u32), StoreError> {
        if let Some(ahead) = ahead.take() {
            return Ok(ahead);
        }
        let asked = self.asks().min(most);
        let page = self.copier.authority().page(cursor.last.as_ref(), asked);
        Ok((page.await?, asked))
    }

    /// The page after `last`, read while the one before it is written.
    async fn read_ahead(&self, last: &Key, done: bool) -> Option<(Page, u32)> {
        // At a fixed rate a page that waits for its turn would be an old one.
        if done || self.turns.pacer().is_metered() {
            return None;
        }
        let asked = self.asks();
        let page = self.copier.authority().page(Some(last), asked);
        Some((page.await.ok()?, asked))
    }

    /// Pauses after a failure, or gives up with it.
    async fn wait(&self, backoff: &mut Backoff, error: StoreError) -> Result<(), StoreError> {
        self.copier.meters().pages_retried.increment(1);
        let spent = self
            .options
            .attempts
            .is_some_and(|most| backoff.failures() + 1 >= most);
        if spent || !error.is_transient() {
            return Err(error);
        }
        let pause = backoff.next_pause();
        tracing::warn!(%error, ?pause, "a page of the backfill failed and is tried again");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    fn show(&self, progress: &Progress) {
        let ratio = match (progress.done, progress.estimate) {
            (true, _) => 1.0,
            (false, 0) => 0.0,
            (false, estimate) => (progress.passed as f64 / estimate as f64).min(1.0),
        };
        self.copier.meters().cursor_ratio.set(ratio);
    }
}

fn turns(copier: &Copier, options: BackfillOptions, signals: Signals) -> Turns {
    let (pace, most) = ((options.pacing, signals), most(copier, options));
    Turns::new(Work::Backfill, pace, most, copier.meters())
}

#[cfg(test)]
mod tests;
