//! Copying history: [`Backfill`], a sweep over the authority's keys in pages.
//!
//! A page is a copy like any other, so live writes and deletes need no lock: a row that was never
//! stamped carries the lowest version, and every write outranks it.
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
//! Speed and pause are changed through [`BackfillControl`] while it runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::copy::{Copier, CopySource};
use crate::pace::{Backoff, Pace, RowsPerSecond};
use crate::store::{Cursor, Page, StoreError};

/// How a backfill goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackfillOptions {
    /// Keys per page, at least 1.
    pub page: u32,
    /// Keys per second; `None` is unlimited.
    pub rate: Option<RowsPerSecond>,
    /// How often in a row a page may fail before the backfill gives up; `None` is never.
    pub attempts: Option<u32>,
    /// The first pause after a failure; later ones double.
    pub first_pause: Duration,
    /// The longest pause after a failure.
    pub longest_pause: Duration,
    /// Seeds the jitter of pauses.
    pub seed: u64,
}

impl Default for BackfillOptions {
    /// Pages of 500, unlimited, never giving up, pauses from 100 ms to 30 s, a random seed.
    fn default() -> BackfillOptions {
        BackfillOptions {
            page: 500,
            rate: None,
            attempts: None,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(30),
            seed: rand::random(),
        }
    }
}

/// How far a backfill has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Keys passed, earlier runs included.
    pub passed: u64,
    /// Keys in the root table: exact or an estimate, so `passed` may end above or below it.
    pub estimate: u64,
    /// Keys per second of this run so far, 0 before the first page.
    pub rows_per_second: f64,
    /// Keys of this run that were held back.
    pub held: u64,
    /// Whether the sweep reached the end.
    pub done: bool,
}

/// Changes a backfill while it runs. A clone controls the same one.
#[derive(Debug, Clone)]
pub struct BackfillControl {
    pace: Arc<Pace>,
    paused: watch::Sender<bool>,
}

impl BackfillControl {
    /// Stops before the next page.
    pub fn pause(&self) {
        self.paused.send_replace(true);
    }

    /// Goes on.
    pub fn resume(&self) {
        self.paused.send_replace(false);
    }

    /// Whether it is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    /// Changes the rate, also for a page that waits already. `None` is unlimited.
    pub fn set_rate(&self, rate: Option<RowsPerSecond>) {
        self.pace.set(rate);
    }

    /// The rate at the moment.
    #[must_use]
    pub fn rate(&self) -> Option<RowsPerSecond> {
        self.pace.rate()
    }

    /// Waits while it is paused; answers whether it was.
    async fn not_paused(&self) -> bool {
        let mut paused = self.paused.subscribe();
        let was = *paused.borrow();
        // The sender lives in `self`: waiting cannot fail.
        let _ = paused.wait_for(|paused| !paused).await;
        was
    }
}

/// The sweep that copies every key once.
#[derive(Debug)]
pub struct Backfill {
    copier: Copier,
    options: BackfillOptions,
    control: BackfillControl,
}

/// What one page did.
struct Passed {
    /// The new cursor.
    cursor: Cursor,
    rows: u64,
    held: u64,
}

impl Backfill {
    /// A backfill through `copier`.
    #[must_use]
    pub fn new(copier: Copier, options: BackfillOptions) -> Backfill {
        let pace = Arc::new(Pace::new(options.rate));
        let control = BackfillControl {
            pace,
            paused: watch::Sender::new(false),
        };
        Backfill {
            copier,
            options,
            control,
        }
    }

    /// What changes this backfill while it runs.
    #[must_use]
    pub fn control(&self) -> BackfillControl {
        self.control.clone()
    }

    /// Sweeps from where the follower's cursor stands to the end, and tells `report` after each
    /// page. Returns at once when the cursor says done.
    ///
    /// Cancellation safe: dropped at any await, the next run resumes from the cursor.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when a store refuses for a reason that waiting does not mend, or when a page
    /// has failed [`BackfillOptions::attempts`] times in a row.
    pub async fn run(
        &self,
        mut report: impl FnMut(Progress) + Send,
    ) -> Result<Progress, StoreError> {
        let BackfillOptions {
            first_pause,
            longest_pause,
            seed,
            ..
        } = self.options;
        let mut backoff = Backoff::new(first_pause, longest_pause, seed);
        let mut cursor = loop {
            match self.begin().await {
                Ok(cursor) => break cursor,
                Err(error) => self.wait(&mut backoff, error).await?,
            }
        };
        let begun = Instant::now();
        let mut progress = Progress {
            passed: cursor.passed,
            estimate: self.copier.authority().estimate().await.unwrap_or(0),
            rows_per_second: 0.0,
            held: 0,
            done: cursor.done,
        };
        let mut rows = 0;
        let mut ahead = None;
        while !cursor.done {
            match self.pass(&cursor, &mut ahead).await {
                Ok(Some(passed)) => {
                    backoff.reset();
                    rows += passed.rows;
                    progress.held += passed.held;
                    cursor = passed.cursor;
                }
                Ok(None) => {
                    tracing::warn!("keys lie below the follower's base; the page is tried again");
                    tokio::time::sleep(backoff.next_pause()).await;
                    continue;
                }
                Err(error) => {
                    self.wait(&mut backoff, error).await?;
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
            report(progress);
        }
        self.show(&progress);
        Ok(progress)
    }

    /// Where the sweep stands, recorded if it is at its beginning.
    async fn begin(&self) -> Result<Cursor, StoreError> {
        let follower = self.copier.follower();
        let cursor = follower.cursor().await?;
        if cursor.passed == 0 && !cursor.done {
            follower.save_cursor(&cursor).await?;
        }
        Ok(cursor)
    }

    /// Passes one page; `None` when some of its keys could neither be copied nor held. `ahead` is
    /// the page itself, when it was read while the one before was written, and then the next one.
    async fn pass(
        &self,
        cursor: &Cursor,
        ahead: &mut Option<Page>,
    ) -> Result<Option<Passed>, StoreError> {
        if self.control.not_paused().await {
            *ahead = None;
        }
        let meters = self.copier.meters();
        // The wait comes before the read, so that what is copied was not read long ago.
        meters.throttled(self.control.pace.take(0).await);
        let (authority, limit) = (self.copier.authority(), self.options.page.max(1));
        let page = match ahead.take() {
            Some(page) => page,
            None => authority.page(cursor.last.as_ref(), limit).await?,
        };
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
        let rows = page.stamped.len() as u64;
        // Rows read are rows paid for, whatever becomes of them: the wait is the next page's.
        self.control
            .pace
            .spend(u32::try_from(rows).unwrap_or(u32::MAX));
        // What is inserted after the last page was read is stamped, hence dirty: a sweep that went
        // on until nothing more was found would chase a busy application for ever.
        let done = rows < u64::from(limit);
        let next = async {
            // At a fixed rate a page that waits for its turn would be an old one.
            match done || self.control.rate().is_some() {
                true => None,
                false => authority.page(Some(&last), limit).await.ok(),
            }
        };
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
        let held = copied.left.len() as u64;
        meters.pages_copied.increment(1);
        meters.rows_held.increment(held);
        meters.rows_copied.increment(rows.saturating_sub(held));
        let cursor = Cursor {
            last: Some(last),
            passed: cursor.passed + rows,
            done,
            base: cursor.base,
        };
        if held > 0 || done {
            // A follower may keep no cursor beside copies that it refuses. If every page held some
            // key, nothing else would ever record how far this has come.
            self.copier.follower().save_cursor(&cursor).await?;
        }
        Ok(Some(Passed { cursor, rows, held }))
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

#[cfg(test)]
mod tests;
