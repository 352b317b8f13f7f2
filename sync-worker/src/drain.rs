//! Copying what is dirty: [`Drain`], passes over the authority's dirty keys.
//!
//! Whatever a crash, a dropped call, a full queue or an out-of-band write left behind is dirty by
//! the commit that caused it, and the drain copies it.
//!
//! # Rules
//!
//! 1. A pass goes by key from the first dirty key to the last and then starts again, so keys that
//!    are held or fail never keep others from their turn.
//! 2. Keys are copied in batches, several at a time. A batch that fails for a reason that may lie
//!    in one key is tried again key by key.
//! 3. Held keys are retried at a slower pace than others, but always retried.
//! 4. Any number of drains may run: they waste work, nothing else.
//! 5. While history is [loaded](crate::backfill), a pass ends with its first page.
//! 6. Before each page it waits for its turn, as [`pace`](crate::pace) says. It is held back by nothing
//!    unless told so: while it is, keys stay dirty, and what is dirty is read from legacy.

mod options;
mod report;

pub use options::DrainOptions;
pub use report::DrainReport;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use changeover_flags::Key;
use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use crate::copy::{Copier, CopyReport, CopySource};
use crate::pace::{Backoff, Reason, RowsPerSecond, Signals};
use crate::store::{Dirty, HoldKind, Lag, StoreError};
use crate::turns::{Turns, Work};

/// What a drain that goes on tells.
#[derive(Debug)]
pub enum DrainEvent {
    /// A pass ended, and failed in nothing.
    Passed,
    /// A pass failed, in part at least. It is tried again.
    Failed(StoreError),
    /// It is held back: by a pause, a signal, or what takes longer than a second. `None`: it is so no more.
    /// Said again when a signal reads another number.
    Held(Option<Reason>),
}

/// Who hears of it.
type Told<'t> = &'t mut (dyn FnMut(DrainEvent) + Send);

/// Which held keys a pass tries.
#[derive(Debug, Clone, Copy)]
struct Tries {
    waiting: bool,
    blocked: bool,
}

impl Tries {
    const ALL: Tries = Tries {
        waiting: true,
        blocked: true,
    };

    fn includes(self, dirty: &Dirty) -> bool {
        match dirty.hold.as_ref().map(|hold| hold.kind) {
            None => true,
            Some(HoldKind::Waiting) => self.waiting,
            Some(HoldKind::Blocked) => self.blocked,
        }
    }
}

/// When held keys were last tried.
#[derive(Debug, Clone, Copy, Default)]
struct Tried {
    waiting: Option<Instant>,
    blocked: Option<Instant>,
}

/// Copies dirty keys. A clone is the same drain: pausing one pauses all.
#[derive(Debug, Clone)]
pub struct Drain {
    copier: Copier,
    options: DrainOptions,
    turns: Turns,
    tried: Arc<Mutex<Tried>>,
}

impl Drain {
    /// A drain through `copier`.
    #[must_use]
    pub fn new(copier: Copier, options: DrainOptions) -> Drain {
        let turns = turns(&copier, options, Signals::default());
        Drain {
            copier,
            options,
            turns,
            tried: Arc::default(),
        }
    }

    /// The same, held back by `signals` too, which are read while it is at work. To be called before it is
    /// cloned.
    #[must_use]
    pub fn with_signals(mut self, signals: Signals) -> Drain {
        self.turns = turns(&self.copier, self.options, signals);
        self
    }

    /// Stops before the next page of dirty keys.
    pub fn pause(&self) {
        self.turns.pacer().pause();
    }

    /// Goes on.
    pub fn resume(&self) {
        self.turns.pacer().resume();
    }

    /// Whether it is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.turns.pacer().is_paused()
    }

    /// What would hold the next page back at this moment.
    #[must_use]
    pub fn held_back_by(&self) -> Option<Reason> {
        self.turns.pacer().held().map(|held| held.reason)
    }

    /// One pass over every dirty key, held ones included. Copies that fail are counted in the
    /// report. Cancellation safe.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the dirty keys could not be listed.
    pub async fn once(&self) -> Result<DrainReport, StoreError> {
        self.turns.during(self.pass(Tries::ALL, &mut |_| ())).await
    }

    /// Passes until the authority counts no dirty key, or until `within` has passed; answers what
    /// it counted last. Without a limit this waits for held keys as long as it takes.
    /// Cancellation safe.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when a store refuses for a reason that waiting does not mend.
    pub async fn until_clean(&self, within: Option<Duration>) -> Result<Lag, StoreError> {
        let last = Mutex::new(Lag {
            dirty: u64::MAX,
            ..Lag::default()
        });
        let passes = self.turns.during(self.pass_until_clean(&last));
        match within {
            None => passes.await,
            Some(within) => match tokio::time::timeout(within, passes).await {
                Ok(ended) => ended,
                Err(_) => Ok(*last.lock().unwrap_or_else(PoisonError::into_inner)),
            },
        }
    }

    async fn pass_until_clean(&self, last: &Mutex<Lag>) -> Result<Lag, StoreError> {
        let mut backoff = self.backoff();
        loop {
            let passed = self.pass(self.due(), &mut |_| ()).await;
            let lag = match self.lag().await {
                Ok(lag) => lag,
                Err(error) if error.is_transient() => {
                    tokio::time::sleep(backoff.next_pause()).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            *last.lock().unwrap_or_else(PoisonError::into_inner) = lag;
            if lag.dirty == 0 {
                return Ok(lag);
            }
            match passed {
                Ok(DrainReport {
                    error: Some(error), ..
                })
                | Err(error) => {
                    if !error.is_transient() {
                        return Err(error);
                    }
                    tokio::time::sleep(backoff.next_pause()).await;
                }
                Ok(report) if report.copied > report.unmarked => backoff.reset(),
                // Nothing moved: the next pass would find the same keys.
                Ok(_) => {
                    let pause = self.options.idle_pause.min(self.options.waiting_pause);
                    tokio::time::sleep(backoff.jitter(pause)).await;
                }
            }
        }
    }

    /// Passes for ever, until `stop` ends. Failures are logged, counted, and followed by a pause
    /// that grows. Stopping drops the copies under way, which is safe.
    pub async fn run(&self, stop: impl Future<Output = ()> + Send) {
        self.run_telling(stop, |_| ()).await;
    }

    /// The same; `told` hears after each pass how it failed, or that it did not, and what holds it back.
    pub async fn run_telling(
        &self,
        stop: impl Future<Output = ()> + Send,
        mut told: impl FnMut(DrainEvent) + Send,
    ) {
        tokio::select! {
            biased;
            () = stop => {}
            () = self.turns.during(self.forever(&mut told)) => {}
        }
    }

    async fn forever(&self, told: Told<'_>) {
        let mut backoff = self.backoff();
        loop {
            let passed = self.pass(self.due(), told).await;
            // Gauges only: a lag that cannot be asked shows as a pass that fails, soon.
            let _ = self.lag().await;
            let pause = match passed {
                Ok(DrainReport {
                    error: Some(error), ..
                })
                | Err(error) => {
                    let pause = backoff.next_pause();
                    tracing::warn!(%error, ?pause, "a pass over the dirty keys failed in part");
                    told(DrainEvent::Failed(error));
                    pause
                }
                Ok(report) if report.loading => {
                    told(DrainEvent::Failed(StoreError::Loading));
                    self.options.waiting_pause
                }
                Ok(report) if report.unmarked > 0 => backoff.next_pause(),
                Ok(report) => {
                    told(DrainEvent::Passed);
                    backoff.reset();
                    // Without progress the next pass would find the same keys. After little of it
                    // too, or new ones, which the copies made with their writes are at.
                    if report.copied >= u64::from(self.options.batch) {
                        Duration::ZERO
                    } else {
                        self.options.idle_pause
                    }
                }
            };
            // A pause of nothing must still let others run.
            if pause.is_zero() {
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(backoff.jitter(pause)).await;
            }
        }
    }

    async fn pass(&self, tries: Tries, told: Told<'_>) -> Result<DrainReport, StoreError> {
        let meters = self.copier.meters();
        let passed = self.pass_pages(tries, told).await;
        let failed = passed.as_ref().map_or(true, |report| report.failed > 0);
        if failed {
            &meters.passes_failed
        } else {
            &meters.passes_complete
        }
        .increment(1);
        passed
    }

    async fn pass_pages(&self, tries: Tries, told: Told<'_>) -> Result<DrainReport, StoreError> {
        let batch = self.options.batch.max(1);
        let concurrency = self.options.concurrency.max(1);
        let pacer = self.turns.pacer();
        let mut report = DrainReport::default();
        let mut after: Option<Key> = None;
        loop {
            // Every copy of the page before has ended: nothing that holds a connection waits here.
            self.turns.next(|held| told(DrainEvent::Held(held))).await;
            let second = pacer.rate().map_or(u32::MAX, RowsPerSecond::get);
            let (began, limit) = (Instant::now(), self.options.page().min(second));
            let page = self.copier.authority().dirty(after.as_ref(), limit).await?;
            let Some(last) = page.last() else {
                return Ok(report);
            };
            after = Some(last.key.clone());
            report.seen += page.len() as u64;
            let keys: Vec<Key> = page
                .iter()
                .filter(|key| tries.includes(key))
                .map(|key| key.key.clone())
                .collect();
            report.skipped += (page.len() - keys.len()) as u64;
            let tried = keys.len() as u64;
            pacer.spend(tried, 0);
            let batches: Vec<Vec<Key>> = keys.chunks(batch as usize).map(<[Key]>::to_vec).collect();
            let mut copies = stream::iter(batches)
                .map(|keys| self.copy(keys))
                .buffer_unordered(concurrency as usize);
            while let Some(copied) = copies.next().await {
                for (keys, copied) in copied {
                    report.add(keys, copied);
                }
            }
            drop(copies);
            pacer.passed(tried, 0, began.elapsed());
            if report.loading {
                return Ok(report);
            }
        }
    }

    /// Copies a batch; key by key if the batch is refused, so that one key does not cost the rest.
    async fn copy(&self, keys: Vec<Key>) -> Vec<(usize, Result<CopyReport, StoreError>)> {
        let copied = self.copier.copy(&keys, CopySource::Drain).await;
        let one_key_may_be_at_fault = matches!(
            copied,
            Err(StoreError::Refused { .. } | StoreError::Busy { .. })
        );
        if keys.len() < 2 || !one_key_may_be_at_fault {
            return vec![(keys.len(), copied)];
        }
        let mut each = Vec::new();
        for key in keys {
            let copied = self
                .copier
                .copy(std::slice::from_ref(&key), CopySource::Drain)
                .await;
            each.push((1, copied));
        }
        each
    }

    /// Which held keys have rested long enough. Asking notes that they are tried now.
    fn due(&self) -> Tries {
        let now = Instant::now();
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let due = |last: &mut Option<Instant>, pause: Duration| {
            let due = last.is_none_or(|last| now - last >= pause);
            if due {
                *last = Some(now);
            }
            due
        };
        Tries {
            waiting: due(&mut tried.waiting, self.options.waiting_pause),
            blocked: due(&mut tried.blocked, self.options.blocked_pause),
        }
    }

    async fn lag(&self) -> Result<Lag, StoreError> {
        let lag = self.copier.authority().lag().await?;
        let meters = self.copier.meters();
        meters.dirty.set(lag.dirty as f64);
        meters.waiting.set(lag.waiting as f64);
        meters.blocked.set(lag.blocked as f64);
        Ok(lag)
    }

    fn backoff(&self) -> Backoff {
        let DrainOptions {
            first_pause,
            longest_pause,
            seed,
            ..
        } = self.options;
        Backoff::new(first_pause, longest_pause, seed)
    }
}

fn turns(copier: &Copier, options: DrainOptions, signals: Signals) -> Turns {
    let pace = (options.pacing, signals);
    Turns::new(Work::Drain, pace, options.page(), copier.meters())
}

#[cfg(test)]
mod tests;
