//! What all clones of a layer share, whatever the type of their calls: [`Handle`].

mod budget;
mod call;
mod drain;
mod instrument;
mod keys;
mod places;
mod slow;
mod sweep;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use changeover_flags::{Entity, Flags, InForce, Key, Percent, Place, Role, Snapshot};
use changeover_shadow::{LatencyCounts, Redaction, Reservoir, Rules, Samples, Tally, Totals};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

pub(crate) use budget::{Budget, PoolWaiting};
pub(crate) use call::Call;
pub use drain::Drained;
pub(crate) use instrument::Instrument;
pub(crate) use keys::Spelled;
pub(crate) use places::{Held, Places};
pub(crate) use slow::Slow;

use crate::call::{Kind, Operation, Touched};
use crate::limits::Limits;
use crate::metrics::{Cohorts, CopyEnd, Metrics, Shed};
use crate::pins::{PinCount, Pins, Ticket};
use crate::port::{BoxError, Ended, Followed, Versions};
use crate::shadow_read::Starting;
use crate::token::Token;
use crate::unit::Home;

/// Follows keys without a request: what a unit of work and the sweeper do.
pub(crate) type FollowKeys =
    Box<dyn Fn(Touched, Ended) -> BoxFuture<'static, Followed> + Send + Sync>;

/// The handle of one entity's layer: tokens, units of work, what was counted, the drain. Clones
/// share it, with all clones of the layer.
#[derive(Clone)]
pub struct Handle {
    pub(crate) desk: Arc<Desk>,
}

pub(crate) struct Desk {
    pub(crate) flags: Flags,
    pub(crate) spelled: Spelled,
    pub(crate) pins: Arc<Pins>,
    pub(crate) versions: Box<dyn Versions>,
    /// Whom shadow reads ask instead, if they have a port of their own.
    pub(crate) probe_versions: Option<Box<dyn Versions>>,
    pub(crate) follow_keys: FollowKeys,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    pub(crate) rules: Rules,
    pub(crate) redaction: Redaction,
    pub(crate) tally: Arc<Tally>,
    pub(crate) reservoir: Reservoir,
    pub(crate) instrument: Instrument,
    pub(crate) budget: Budget,
    pub(crate) slow: Slow,
    pub(crate) seed: u64,
    pub(crate) draws: AtomicU64,
    pub(crate) write_room: Arc<Semaphore>,
    pub(crate) writes: TaskTracker,
    pub(crate) copies: Arc<Places>,
    pub(crate) shadows: Arc<Places>,
    pub(crate) starting: Arc<Starting>,
    pub(crate) sweeping: AtomicBool,
}

/// No token could be made: the authority did not tell its versions.
#[derive(Debug, Error)]
#[error("asking the authority for the versions of a token")]
pub struct NoToken {
    source: BoxError,
}

/// The freshness port did not answer as it should.
#[derive(Debug, Clone, Copy, Error)]
enum Unanswered {
    #[error("no answer in time")]
    Slow,
    #[error("the freshness port panicked")]
    Panicked,
    #[error("the freshness port answered for other keys than it was asked")]
    Miscounted,
}

impl Handle {
    /// The entity.
    #[must_use]
    pub fn entity(&self) -> &Entity {
        self.desk.flags.entity()
    }

    /// The flags by which its calls are routed.
    #[must_use]
    pub fn flags(&self) -> &Flags {
        &self.desk.flags
    }

    /// A token for what was just written to or read from the authority: a read that carries it is
    /// not older. One of no keys, or of too many, sends reads to the authority.
    ///
    /// Cancellation safe: it only asks.
    ///
    /// # Errors
    ///
    /// [`NoToken`] when the authority does not tell its versions within
    /// [`Limits::ask_time`](crate::Limits::ask_time).
    pub async fn token(&self, keys: impl IntoIterator<Item = Key>) -> Result<Token, NoToken> {
        let keys = keys.into_iter().take(Token::MAX_KEYS + 1);
        let keys: Vec<Key> = keys.map(|key| self.desk.key(&key)).collect();
        if keys.is_empty() || keys.len() > Token::MAX_KEYS {
            return Ok(Token::everything(self.entity().clone()));
        }
        let asked = keys.clone();
        let held = self
            .desk
            .ask(|versions| versions.held(Role::Authority, asked))
            .await;
        match held {
            Ok(held) if held.len() == keys.len() => Ok(Token::new(
                self.entity().clone(),
                keys.into_iter()
                    .zip(held.into_iter().map(Option::unwrap_or_default)),
            )),
            Ok(_) => Err(NoToken {
                source: Unanswered::Miscounted.into(),
            }),
            Err(source) => Err(NoToken { source }),
        }
    }

    /// How many pins are held.
    #[must_use]
    pub fn pins(&self) -> PinCount {
        self.desk.pins.count()
    }

    /// What became of reads, by the side that they were sent to.
    #[must_use]
    pub fn cohorts(&self) -> Cohorts {
        self.desk.metrics.cohorts()
    }

    /// How long the reads took that were sent to one side, as [`cohorts`](Handle::cohorts) counts them:
    /// the difference of two answers is what happened between them. Every read that waited is among them.
    #[must_use]
    pub fn took(&self, place: Place) -> LatencyCounts {
        self.desk.metrics.took(place)
    }

    /// What shadow reads found so far.
    #[must_use]
    pub fn compared(&self) -> Totals {
        self.desk.tally.snapshot()
    }

    /// Redacted examples of what differs, by field.
    #[must_use]
    pub fn samples(&self) -> Samples {
        self.desk.reservoir.samples()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("entity", self.entity())
            .finish_non_exhaustive()
    }
}

impl Desk {
    /// What a call decides by, its lists in the spelling of its keys.
    #[inline]
    pub(crate) fn in_force(&self) -> InForce {
        let mut flags = self.flags.in_force();
        self.metrics.believe(&flags.snapshot);
        flags.exceptions = flags.exceptions.map(|listed| self.spelled(listed));
        flags
    }

    /// The flags at this instant.
    #[inline]
    pub(crate) fn snapshot(&self) -> Snapshot {
        let snapshot = self.flags.load();
        self.metrics.believe(&snapshot);
        snapshot
    }

    /// Publishes the gauges that change seldom, so that they are there from the start.
    pub(crate) fn publish(&self) {
        self.snapshot();
        self.metrics.sample_share(self.budget.share());
    }

    /// Whether the kill switch is thrown: nothing is compared, nor asked for it, any more.
    pub(crate) fn is_killed(&self) -> bool {
        self.snapshot().kill
    }

    /// Whether this process knows that what is read is ahead of the follower.
    pub(crate) fn pinned(&self, operation: &Operation) -> bool {
        let tolerant = operation.kind == Kind::List && operation.lag_tolerant;
        !tolerant
            && self
                .pins
                .holds(&operation.touched, operation.routing.as_deref())
    }

    /// Whether a fresh draw falls into `percent`. Lock-free, and the same in every run of a seed.
    pub(crate) fn draw(&self, percent: Percent) -> bool {
        if percent == Percent::ZERO || percent == Percent::HUNDRED {
            return percent == Percent::HUNDRED;
        }
        let mut random = SmallRng::seed_from_u64(self.number());
        percent.draw(random.random_range(0..10_000))
    }

    /// A number that is not given twice, from the seed on.
    pub(crate) fn number(&self) -> u64 {
        self.seed
            .wrapping_add(self.draws.fetch_add(1, Ordering::Relaxed))
    }

    /// Asks the freshness port, within the time that a caller can wait for it.
    pub(crate) async fn ask<T>(
        &self,
        question: impl FnOnce(&dyn Versions) -> BoxFuture<'static, Result<T, BoxError>>,
    ) -> Result<T, BoxError> {
        self.ask_within(self.limits.ask_time, question).await
    }

    /// Asks the freshness port, within `time`.
    pub(crate) async fn ask_within<T>(
        &self,
        time: Duration,
        question: impl FnOnce(&dyn Versions) -> BoxFuture<'static, Result<T, BoxError>>,
    ) -> Result<T, BoxError> {
        answered(self.versions.as_ref(), time, question).await
    }

    /// Asks for a shadow read: a port for which no caller waits, if there is one. After a kill nobody is asked.
    pub(crate) async fn ask_aside<T>(
        &self,
        question: impl FnOnce(&dyn Versions) -> BoxFuture<'static, Result<T, BoxError>>,
    ) -> Result<T, BoxError> {
        if self.is_killed() {
            return Err("the kill switch is on".into());
        }
        let versions = self.probe_versions.as_ref().unwrap_or(&self.versions);
        answered(versions.as_ref(), self.limits.shadow_time, question).await
    }

    /// `place` took so long for a call of a shadow read; `None` if it was not waited for any longer.
    pub(crate) fn shadow_took(&self, place: Place, took: Option<Duration>) {
        let serving = self.flags.load().serving();
        let authority = serving.is_ok_and(|stage| stage.authority() == place);
        let slow = took.is_none_or(|took| took > self.limits.shed_over);
        self.slow.answered(place, authority, slow);
    }

    /// Where an abandoned write goes on, and the room for all writes.
    pub(crate) fn home(&self) -> Home {
        Home {
            runtime: tokio::runtime::Handle::try_current().ok(),
            tracker: self.writes.clone(),
            limit: self.limits.write_time,
            room: Arc::clone(&self.write_room),
            abandoned: self.metrics.abandoned.clone(),
        }
    }

    /// Follows a write that has ended, in the background; its pins stay if there is no room.
    pub(crate) fn copy(
        self: &Arc<Self>,
        mut ticket: Ticket,
        follow: impl FnOnce() -> BoxFuture<'static, Followed>,
    ) {
        ticket.end();
        let count = self.metrics.copy();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            self.metrics.shed(Shed::NoRuntime);
            return count.end(self.metrics.copy_counter(CopyEnd::Skipped));
        };
        let Some(place) = self.copies.take() else {
            self.metrics.shed(Shed::Copies);
            count.end(self.metrics.copy_counter(CopyEnd::Skipped));
            return self.sweep_soon(&runtime);
        };
        // Taken before the port is called: what it reads from here on is what this write left.
        let began = self.pins.now();
        let following = catch_unwind(AssertUnwindSafe(follow));
        let desk = Arc::clone(self);
        let task = async move {
            let end = desk.followed(following).await;
            match end {
                CopyEnd::Applied => ticket.copied(began),
                CopyEnd::Replayed => ticket.replayed(),
                _ => {
                    drop(ticket);
                    desk.sweep_soon(&tokio::runtime::Handle::current());
                }
            }
            desk.metrics.pins(desk.pins.count());
            count.end(desk.metrics.copy_counter(end));
            drop(place);
        };
        drop(runtime.spawn(task));
    }

    async fn followed(
        &self,
        following: std::thread::Result<BoxFuture<'static, Followed>>,
    ) -> CopyEnd {
        let Ok(following) = following else {
            return CopyEnd::Panic;
        };
        let following = AssertUnwindSafe(following).catch_unwind();
        match tokio::time::timeout(self.limits.copy_time, following).await {
            Ok(Ok(Followed::Applied)) => CopyEnd::Applied,
            Ok(Ok(Followed::Replayed)) => CopyEnd::Replayed,
            Ok(Ok(Followed::Left(why))) => {
                tracing::debug!(entity = %self.flags.entity(), why, "copy left to the worker");
                CopyEnd::Left
            }
            Ok(Err(_panic)) => CopyEnd::Panic,
            Err(_elapsed) => CopyEnd::Timeout,
        }
    }
}

/// What `versions` answers to `question` within `time`.
async fn answered<T>(
    versions: &dyn Versions,
    time: Duration,
    question: impl FnOnce(&dyn Versions) -> BoxFuture<'static, Result<T, BoxError>>,
) -> Result<T, BoxError> {
    let asked = catch_unwind(AssertUnwindSafe(|| question(versions)));
    let Ok(asked) = asked else {
        return Err(Unanswered::Panicked.into());
    };
    let asked = AssertUnwindSafe(asked).catch_unwind();
    match tokio::time::timeout(time, asked).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_panic)) => Err(Unanswered::Panicked.into()),
        Err(_elapsed) => Err(Unanswered::Slow.into()),
    }
}
