//! [`Worker`]: what works on one part at a time.

use std::time::Duration;

use changeover_flags::Key;
use tokio::sync::watch;
use tokio::time::Instant;

use super::range::Standing;
use super::raw::Course;
use super::run::{Choice, LOOK, Run};
use super::{Backfill, Progress};
use crate::pace::Backoff;
use crate::store::{Cursor, Page, StoreError};

/// What a worker knows between its pages.
pub(super) struct Worker {
    pub(super) backoff: Backoff,
    /// Pauses after pages that were not where the sweep stood, which are no failures.
    pub(super) met: Backoff,
    /// The next page of images, with the rows it was asked for.
    pub(super) ahead: Option<(Page, u32)>,
    pub(super) course: Course,
    pub(super) wanted: Wanted,
    /// With which key the range ends.
    pub(super) range: watch::Receiver<Option<Key>>,
}

impl Worker {
    /// Forgets what was read ahead.
    pub(super) fn forget(&mut self) {
        self.ahead = None;
        self.course.forget();
    }
}

/// Whether a worker is one of those that are to work.
pub(super) struct Wanted {
    pub(super) index: u32,
    pub(super) workers: watch::Receiver<u32>,
}

impl Wanted {
    pub(super) fn is_still(&self) -> bool {
        self.index < *self.workers.borrow()
    }

    /// Waits until it is.
    pub(super) async fn again(&mut self) {
        let index = self.index;
        // Who could change it has not gone: the backfill holds it.
        let _ = self.workers.wait_for(|workers| index < *workers).await;
    }
}

impl Backfill {
    /// Works on one part after the other, until none is left.
    pub(super) async fn work<F: FnMut(Progress) + Send>(
        &self,
        index: u32,
        run: &Run<F>,
    ) -> Result<(), StoreError> {
        let mut worker = Worker {
            backoff: self.backoff(index),
            met: self.backoff(index),
            ahead: None,
            course: Course::default(),
            wanted: Wanted {
                index,
                workers: self.workers.subscribe(),
            },
            range: self.range.subscribe(),
        };
        let mut stands: Option<Standing<'_, F>> = None;
        loop {
            worker.wanted.again().await;
            // What is lost between answers is no failure of a page.
            let parts = self.asked(&mut self.backoff(index), true, run).await?;
            let range = worker.range.borrow_and_update().clone();
            let choice = run.choose(&parts, range.as_ref());
            stands = stands.filter(|at| matches!(&choice, Choice::Beyond(end) if at.is_at(end)));
            match choice {
                Choice::Over => return Ok(()),
                Choice::Beyond(end) => {
                    let at = stands.get_or_insert_with(|| self.stand(end, run));
                    at.wait(&mut worker).await;
                }
                Choice::Wait => tokio::time::sleep(LOOK).await,
                Choice::Part(part) => {
                    let number = part.part;
                    let swept = self.sweep_part(part, range, &mut worker, run).await;
                    run.give_back(number);
                    tokio::time::sleep(swept?).await;
                    if run.is_over() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Sweeps a part to its end, or until it is to be asked again who goes on with it, after a pause.
    async fn sweep_part<F: FnMut(Progress) + Send>(
        &self,
        mut cursor: Cursor,
        mut range: Option<Key>,
        worker: &mut Worker,
        run: &Run<F>,
    ) -> Result<Duration, StoreError> {
        worker.forget();
        let mut reach = match self.reach(&cursor, range.as_ref()).await {
            Ok(reach) => reach,
            Err(error) => {
                self.wait(&mut worker.backoff, error, run).await?;
                return Ok(Duration::ZERO);
            }
        };
        let mut looked = Instant::now();
        while !cursor.done && worker.wanted.is_still() {
            if !cursor.loading && !cursor.is_part() && looked.elapsed() > LOOK {
                if self.others_are_ahead(&cursor).await {
                    return Ok(Duration::ZERO);
                }
                looked = Instant::now();
            }
            // The wait comes before the read, so that what is copied was not read long ago.
            if self.turn(run).await > Self::FRESH {
                worker.forget();
            }
            // Its sender has not gone: the backfill holds it.
            if worker.range.has_changed().unwrap_or(false) {
                worker.forget();
                range = worker.range.borrow_and_update().clone();
                reach = match self.reach(&cursor, range.as_ref()).await {
                    Ok(reach) => reach,
                    Err(error) => {
                        self.wait(&mut worker.backoff, error, run).await?;
                        return Ok(Duration::ZERO);
                    }
                };
            }
            let Worker { ahead, course, .. } = worker;
            let page = async {
                match cursor.loading {
                    true => self.load(&cursor, &reach, ahead, course).await,
                    false => self.pass(&cursor, &reach, ahead).await,
                }
            };
            // Nothing is awaited between its end and its being counted.
            match run.page(page).await {
                Ok(Some(passed)) => {
                    worker.backoff.reset();
                    worker.met.reset();
                    let beyond = passed.beyond;
                    cursor = self.passed(passed, run);
                    if let Some(range) = range.as_ref().filter(|_| beyond) {
                        run.beyond(&cursor, range);
                        return Ok(Duration::ZERO);
                    }
                }
                Ok(None) => {
                    tracing::warn!(
                        part = cursor.part,
                        "the sweep stands elsewhere, or below the follower's base; the page is tried again"
                    );
                    run.stands_elsewhere(&cursor);
                    let pause = worker.met.next_pause();
                    let shared = cursor.loading || cursor.is_part();
                    let most = if shared { LOOK } else { pause };
                    return Ok(pause.min(most));
                }
                Err(error) => {
                    self.wait(&mut worker.backoff, error, run).await?;
                    if cursor.loading || cursor.is_part() {
                        // A page whose answer was lost has moved the cursor, or not.
                        return Ok(Duration::ZERO);
                    }
                }
            }
        }
        Ok(Duration::ZERO)
    }

    /// Whether others have divided what is copied as a whole, or come further.
    async fn others_are_ahead(&self, cursor: &Cursor) -> bool {
        match self.copier.follower().cursors().await.as_deref() {
            Ok([whole]) => whole.is_part() || whole.done || whole.passed > cursor.passed,
            Ok(_) => true,
            // The next page tells.
            Err(_) => false,
        }
    }
}
