//! Copying history: [`Backfill`], a sweep over the authority's keys in pages.
//!
//! A page is a copy like any other, so live writes and deletes need no lock: a row that was never
//! stamped carries the lowest version, and every write outranks it.
//!
//! # Loading
//!
//! A copy leaves a row of the product's beside each key, which is as much to write as the data itself.
//! The first sweep of an installation therefore [loads](crate::store::Follower::load), unless
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
//! # Parts
//!
//! A sweep may be divided into [parts](BackfillOptions::parts) of about as many keys each, by any run that finds it
//! whole; a load, only by one that finds it between two pages of others. Each part has a cursor of its own;
//! several [workers](BackfillOptions::workers) of one process work on one each, and so do other processes that
//! are started beside it. Who meets somebody else at a part leaves it to them, and comes back to a part that
//! does not move for five seconds. A row that points at one of a part of a load that is not there yet is held,
//! and copied after the load.
//!
//! # Rules
//!
//! 1. A page's place is the last key *read*; a page with fewer rows *read* than asked for ends the
//!    sweep. How many of them were changed decides nothing.
//! 2. The cursor passes a page only when each of its keys is on the follower or held at the
//!    authority. It is committed with the data of the *next* page, or by itself after a page of
//!    which keys were held, or of a part: they are held before the cursor passes them. A crash
//!    repeats at most one page.
//! 3. What cannot be settled now (a store that does not answer, an authority whose base is not
//!    raised yet) is tried again, from reading on, after a pause.
//! 4. Any number of backfills may run: at most they waste work. A sweep that is divided into
//!    [parts](BackfillOptions::parts) is shared by them: who finds that somebody else has moved a part's
//!    cursor goes on with another part, and comes back to one that does not move any more. Who copies a
//!    sweep as a whole looks, once a second, whether others have divided it or come further.
//! 5. Rows whose key has none in the root table are in no page. Before the cursor says that a part is done,
//!    those of its keys are made dirty: copies bring them, or hold them and say why. It is one anti-join of each
//!    query that may have such rows (by text keys, one for each part), in the turn of the part's last page. More
//!    than ten thousand such keys take more turns, of which only the metrics say what they wait for.
//! 6. Before each page it waits for its turn, as [`pace`](crate::pace) says: it may be dropped there as
//!    anywhere, and says what it waits for.
//!
//! Speed, pause, the number of workers and the range are changed through [`BackfillControl`] while it runs.
//! A range begins where the sweep stands, and ends with a key: what lies beyond is not read, and while there is
//! something the sweep is not done, and waits there.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::copy::{Copier, CopySource};
use crate::pace::{Backoff, Reason, Signals};
use crate::store::{Cursor, Page, StoreError};
use crate::turns::{Turns, Work};

mod control;
mod load;
mod options;
mod orphans;
mod page;
mod parts;
mod range;
mod raw;
mod run;
mod worker;

pub use control::BackfillControl;
pub use options::BackfillOptions;
use range::{Range, Reach};
use raw::most;
use run::Run;

/// How far a backfill has come.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Keys passed, earlier runs included.
    pub passed: u64,
    /// Keys in the root table: exact or an estimate, so `passed` may end above or below it.
    pub estimate: u64,
    /// Keys that this run has passed itself: others may share the sweep.
    pub rows: u64,
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

/// The sweep that copies every key once.
#[derive(Debug)]
pub struct Backfill {
    copier: Copier,
    options: BackfillOptions,
    turns: Turns,
    workers: Arc<watch::Sender<u32>>,
    range: Arc<Range>,
    /// Why the last page was not passed.
    failed: Arc<watch::Sender<Option<Reason>>>,
}

/// What one page did.
struct Passed {
    /// The new cursor.
    cursor: Cursor,
    rows: u64,
    held: u64,
    /// Whether what is left of the part lies beyond the range.
    beyond: bool,
}

impl Backfill {
    /// A page that was read ahead longer ago than this is read again.
    const FRESH: Duration = Duration::from_secs(1);

    /// A backfill through `copier`.
    #[must_use]
    pub fn new(copier: Copier, options: BackfillOptions) -> Backfill {
        let turns = turns(&copier, options, Signals::default());
        let (workers, _) = watch::channel(options.workers.max(1));
        Backfill {
            copier,
            options,
            turns,
            workers: Arc::new(workers),
            range: Arc::new(Range::new()),
            failed: Arc::new(watch::channel(None).0),
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
            workers: Arc::clone(&self.workers),
            range: Arc::clone(&self.range),
            failed: Arc::clone(&self.failed),
        }
    }

    /// Counts a page that has passed, and answers where its part stands now.
    fn passed<F: FnMut(Progress) + Send>(&self, page: Passed, run: &Run<F>) -> Cursor {
        self.recovered(run);
        run.passed(page)
    }

    /// No failure holds it back any more.
    fn recovered<F: FnMut(Progress) + Send>(&self, run: &Run<F>) {
        if self
            .failed
            .send_if_modified(|failed| failed.take().is_some())
        {
            run.held_back(None);
        }
    }

    /// Sweeps from where the follower's cursor stands to the end, and tells `report` after each
    /// page, and when something begins or ceases to hold it back. Returns at once when the cursor
    /// says done.
    ///
    /// Cancellation safe: dropped at any await, the next run resumes from the cursor. A page that is being read ahead
    /// has a task of its own, which only reads, and ends where it awaits next.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when a store refuses for a reason that waiting does not mend, or when a page
    /// has failed [`BackfillOptions::attempts`] times in a row.
    pub async fn run(&self, report: impl FnMut(Progress) + Send) -> Result<Progress, StoreError> {
        self.turns.during(self.sweep(report)).await
    }

    async fn sweep(&self, report: impl FnMut(Progress) + Send) -> Result<Progress, StoreError> {
        let mut backoff = self.backoff(0);
        let run = Run::new(self.copier.meters(), self.options.seed, report);
        let parts = self.asked(&mut backoff, false, &run).await?;
        let estimate = self.copier.authority().estimate().await.unwrap_or(0);
        run.goes_on_from(&parts, estimate);
        if !run.is_over() {
            // Nor does a load, beside which nothing is copied, begin while the sweep may not go on, or
            // while it is looked for its parts.
            self.turn(&run).await;
            let parts = match self.options.load {
                true => parts,
                false => self.asked(&mut backoff, true, &run).await?,
            };
            let cuts = self.cuts(&parts, estimate).await;
            let parts = self.asked(&mut backoff, true, &run).await?;
            self.divide(cuts.clone()).await;
            // Those of them that are not wanted wait, and may be.
            let parts = parts.len().max(cuts.len() + 1);
            let workers = (0..BackfillOptions::MOST_WORKERS).take(parts);
            let workers = workers.map(|index| self.work(index, &run));
            let mut workers: FuturesUnordered<_> = workers.collect();
            // Each ends with the sweep, or fails. The others may be dropped at any await.
            workers.next().await.transpose()?;
        }
        Ok(run.ended())
    }

    fn backoff(&self, worker: u32) -> Backoff {
        let BackfillOptions {
            first_pause,
            longest_pause,
            seed,
            ..
        } = self.options;
        Backoff::new(first_pause, longest_pause, seed.wrapping_add(worker.into()))
    }

    /// Where the sweep stands, tried until it is known; with `begin`, ready to go on from there.
    async fn asked<F: FnMut(Progress) + Send>(
        &self,
        backoff: &mut Backoff,
        begin: bool,
        run: &Run<F>,
    ) -> Result<Vec<Cursor>, StoreError> {
        let mut failed = false;
        loop {
            let parts = match begin {
                true => self.begin().await,
                false => self.copier.follower().cursors().await,
            };
            match parts {
                Ok(parts) => {
                    // Of a failure of another worker this says nothing.
                    if failed {
                        self.recovered(run);
                    }
                    return Ok(parts);
                }
                Err(error) => self.wait(backoff, error, run).await?,
            }
            failed = true;
        }
    }

    /// Where the sweep stands, and whether it loads; recorded if it is at its beginning.
    async fn begin(&self) -> Result<Vec<Cursor>, StoreError> {
        let follower = self.copier.follower();
        let parts = follower.cursors().await?;
        let sweep = Cursor::together(&parts);
        let begins = sweep.passed == 0 && !sweep.done;
        match (self.options.load, sweep.loading && !sweep.done) {
            (true, false) if begins && follower.start_loading().await? => follower.cursors().await,
            (false, true) => {
                tracing::warn!("the load is given up: history is swept from its beginning");
                follower.give_up_loading().await?;
                follower.cursors().await
            }
            (_, false) if begins => {
                follower.save_cursor(&sweep).await?;
                Ok(parts)
            }
            _ => Ok(parts),
        }
    }

    /// Waits for the next page's turn, and answers for how long.
    async fn turn<F: FnMut(Progress) + Send>(&self, run: &Run<F>) -> Duration {
        self.turns.next(|reason| run.held_back(reason)).await
    }

    /// Passes one page; `None` when some of its keys could neither be copied nor held. `ahead` is
    /// the page itself with the rows it was asked for, when it was read while the one before was
    /// written, and then the next one.
    async fn pass(
        &self,
        cursor: &Cursor,
        reach: &Reach,
        ahead: &mut Option<(Page, u32)>,
    ) -> Result<Option<Passed>, StoreError> {
        let (meters, pacer) = (self.copier.meters(), self.turns.pacer());
        let begun = Instant::now();
        let (page, asked) = self.page(cursor, reach, ahead, u32::MAX).await?;
        let (rows, bytes) = (page.stamped.len() as u64, page.bytes());
        let Some(last) = page.last else {
            let to = Cursor {
                done: reach.is_whole(),
                ..cursor.clone()
            };
            if to.done {
                self.touch_orphans(cursor).await?;
            }
            if !self.keep(cursor, &to).await? && to.done {
                return Ok(None);
            }
            return Ok(Some(Passed {
                beyond: !to.done,
                cursor: to,
                rows: 0,
                held: 0,
            }));
        };
        // Rows read are rows paid for, whatever becomes of them: the wait is the next page's.
        pacer.spend(rows, bytes);
        // What is inserted after the last page was read is stamped, hence dirty: a sweep that went
        // on until nothing more was found would chase a busy application for ever.
        let ended = rows < u64::from(asked);
        let (passed, done) = (cursor.passed + rows, ended && reach.is_whole());
        let to = Cursor {
            last: Some(last),
            passed,
            done,
            ..cursor.clone()
        };
        let next = self.read_ahead(&to, reach, ended);
        let beside = (!cursor.is_part()).then_some(cursor);
        let copy = self
            .copier
            .copy_stamped(page.stamped, beside, CopySource::Backfill);
        let (next, copied) = tokio::join!(next, copy);
        let copied = copied?;
        if copied.unrecorded > 0 {
            meters.pages_retried.increment(1);
            return Ok(None);
        }
        let took = begun.elapsed();
        pacer.passed(rows, bytes, took);
        tracing::debug!(rows, bytes, ?took, next = pacer.page(), "a page has passed");
        let held = copied.left.len() as u64;
        // A follower may keep no cursor beside copies that it refuses: if every page held some key,
        // nothing else would ever record how far this has come. And who shares the parts learns here
        // whether somebody else works on this one.
        let saves = held > 0 || ended || cursor.is_part();
        if done {
            self.touch_orphans(cursor).await?;
        }
        if saves && !self.keep(cursor, &to).await? {
            meters.pages_retried.increment(1);
            return Ok(None);
        }
        meters.pages_copied.increment(1);
        meters.rows_held.increment(held);
        meters.rows_copied.increment(rows.saturating_sub(held));
        // Not sooner: what fails is tried again from this page on.
        *ahead = next;
        Ok(Some(Passed {
            cursor: to,
            rows,
            held,
            beyond: ended && !done,
        }))
    }

    /// Keeps how far a sweep by copies has come; answers whether nobody else has kept that.
    async fn keep(&self, from: &Cursor, to: &Cursor) -> Result<bool, StoreError> {
        let follower = self.copier.follower();
        match from.is_part() {
            true => follower.advance(from, to).await,
            false => follower.save_cursor(to).await,
        }
    }

    /// Pauses after a failure, or gives up with it.
    async fn wait<F: FnMut(Progress) + Send>(
        &self,
        backoff: &mut Backoff,
        error: StoreError,
        run: &Run<F>,
    ) -> Result<(), StoreError> {
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
        let reason = Reason::Failure(error.to_string().into());
        let meters = self.copier.meters();
        let _held = meters.held_back(Work::Backfill, reason.label());
        run.held_back(Some(reason.clone()));
        self.failed.send_replace(Some(reason));
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

fn turns(copier: &Copier, options: BackfillOptions, signals: Signals) -> Turns {
    let (pace, most) = ((options.pacing, signals), most(copier, options));
    Turns::new(Work::Backfill, pace, most, copier.meters())
}

#[cfg(test)]
mod tests;
