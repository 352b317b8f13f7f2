use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use changeover_flags::{Flags, Percent};
use changeover_shadow::{BadRule, Observe, Redaction, Report, Reservoir, Rules, Tally};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::ChangeoverLayer;
use crate::call::{Ack, Classify, Duplicate, Failure, KeylessReads, Outcome};
use crate::desk::{Budget, Desk, Instrument, Places, PoolWaiting, Slow, Spelled};
use crate::dual_write::DualWriteLayer;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::pins::Pins;
use crate::plan::{ErrorClass, Found, Plan, eye};
use crate::port::{Follow, NoFollow, NoVersions, Versions, Written};
use crate::served::Mark;
use crate::shadow_read::{Probe, ShadowReadLayer};

/// The share of control reads, in ten thousandths.
const CONTROL: u16 = 100;

/// What a layer is built from. What is not said: nothing follows a write
/// ([`NoFollow`]), nobody keeps versions ([`NoVersions`]), every error of a write is unknown,
/// keyless reads ask the authority, nothing is strict, [`Limits::default`].
pub struct Builder<N, Req, Res, E> {
    flags: Flags,
    new: N,
    classify: Option<Box<dyn Classify<Req, Res>>>,
    observe: Option<Arc<dyn Observe<Res>>>,
    pub(super) copy: Option<fn(&Res) -> Res>,
    found: Option<Found<Res>>,
    follow: Arc<dyn Follow<Req>>,
    versions: Box<dyn Versions>,
    pub(super) probe_versions: Option<Box<dyn Versions>>,
    duplicate: Arc<dyn Duplicate<Req>>,
    outcome: Box<dyn Outcome<E>>,
    pub(super) error_class: Box<ErrorClass<E>>,
    pub(super) rules: Rules,
    pub(super) redaction: Redaction,
    pub(super) control: Percent,
    pub(super) report: Option<Box<dyn Report>>,
    pub(super) mark: Option<Arc<Mark<Res>>>,
    pub(super) hedge: Option<Duration>,
    pub(super) probe: Option<Probe<Req, Res, E>>,
    pub(super) pool_waiting: Option<PoolWaiting>,
    limits: Limits,
    operations: Vec<&'static str>,
    keyless: KeylessReads,
    strict: bool,
    ack: Ack,
    seed: Option<u64>,
}

/// A layer that cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Incomplete {
    /// Something that has no default was not given.
    #[error("building a layer: call Builder::{0} first")]
    Missing(&'static str),
    /// A compare rule or a redaction names a path that is none.
    #[error("building a layer: the compare rules cannot be used")]
    Rules(#[from] BadRule),
}

impl<Req, Res, E> Builder<(), Req, Res, E>
where
    Req: Send + 'static,
    Res: Send + 'static,
    E: Send + 'static,
{
    /// Begins a layer whose requests are copied by `duplicate`;
    /// [`Changeover::builder`](super::Changeover::builder) clones them.
    pub fn new(flags: Flags, duplicate: impl Duplicate<Req>) -> Self {
        Builder {
            flags,
            new: (),
            classify: None,
            observe: None,
            copy: None,
            found: None,
            follow: Arc::new(NoFollow),
            versions: Box::new(NoVersions),
            probe_versions: None,
            duplicate: Arc::new(duplicate),
            outcome: Box::new(|_: &E| Failure::Unknown),
            error_class: Box::new(|_: &E| None),
            rules: Rules::new(),
            redaction: Redaction::new(),
            control: Percent::from_ten_thousandths(CONTROL).unwrap_or(Percent::ZERO),
            report: None,
            mark: None,
            hedge: None,
            probe: None,
            pool_waiting: None,
            limits: Limits::default(),
            operations: Vec::new(),
            keyless: KeylessReads::default(),
            strict: false,
            ack: Ack::default(),
            seed: None,
        }
    }

    /// The service of the new side.
    pub fn new_service<N>(self, new: N) -> Builder<N, Req, Res, E> {
        Builder {
            new,
            flags: self.flags,
            classify: self.classify,
            observe: self.observe,
            copy: self.copy,
            found: self.found,
            follow: self.follow,
            versions: self.versions,
            probe_versions: self.probe_versions,
            duplicate: self.duplicate,
            outcome: self.outcome,
            error_class: self.error_class,
            rules: self.rules,
            redaction: self.redaction,
            control: self.control,
            report: self.report,
            mark: self.mark,
            hedge: self.hedge,
            probe: self.probe,
            pool_waiting: self.pool_waiting,
            limits: self.limits,
            operations: self.operations,
            keyless: self.keyless,
            strict: self.strict,
            ack: self.ack,
            seed: self.seed,
        }
    }
}

impl<N, Req, Res, E> Builder<N, Req, Res, E>
where
    Req: Send + 'static,
    Res: Send + 'static,
    E: Send + 'static,
{
    /// What a call is, and which keys it touches. Required.
    #[must_use]
    pub fn classify(mut self, classify: impl Classify<Req, Res>) -> Self {
        self.classify = Some(Box::new(classify));
        self
    }

    /// How an answer is compared; `None` is *not found*. Required.
    #[must_use]
    pub fn observe(mut self, observe: impl Observe<Res> + 'static) -> Self {
        self.observe = Some(Arc::new(observe));
        self
    }

    /// Whether an answer shows the row that was asked for, where that is cheaper to say than to
    /// observe the answer. Asked for every answer of the follower to a read by key.
    #[must_use]
    pub fn found(mut self, found: impl Fn(&Res) -> bool + Send + Sync + 'static) -> Self {
        self.found = Some(Box::new(found));
        self
    }

    /// What follows a write: [`FencedCopy`](crate::FencedCopy) or [`Replay`](crate::Replay).
    #[must_use]
    pub fn follow(mut self, follow: impl Follow<Req>) -> Self {
        self.follow = Arc::new(follow);
        self
    }

    /// Who knows the versions. Shadow reads ask it, too, unless
    /// [`probe_versions`](Builder::probe_versions) names another.
    #[must_use]
    pub fn versions(mut self, versions: impl Versions) -> Self {
        self.versions = Box::new(versions);
        self
    }

    /// Which errors of a write are definite.
    #[must_use]
    pub fn outcome(mut self, outcome: impl Outcome<E>) -> Self {
        self.outcome = Box::new(outcome);
        self
    }

    /// How much, and for how long.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The names of the operations: each has its own series from the start. What is not named here
    /// is counted as [`OTHER`](crate::OTHER), and cannot have percentages of its own.
    #[must_use]
    pub fn operations(mut self, names: impl IntoIterator<Item = &'static str>) -> Self {
        self.operations.extend(names);
        self
    }

    /// What becomes of a read that has nothing to take the percentage of.
    #[must_use]
    pub fn keyless(mut self, keyless: KeylessReads) -> Self {
        self.keyless = keyless;
        self
    }

    /// Asks the authority whether the key is dirty before the follower answers: one indexed
    /// look-up per read, for answers that are never behind.
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// When a write is acknowledged.
    #[must_use]
    pub fn ack(mut self, ack: Ack) -> Self {
        self.ack = ack;
        self
    }

    /// The seed of every random draw, for runs that are to be repeated; else it is random.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The composed layer. Registers its metrics with the recorder in force.
    ///
    /// # Errors
    ///
    /// [`Incomplete`] names what is missing.
    pub fn build(self) -> Result<ChangeoverLayer<N, Req, Res, E>, Incomplete> {
        let (plan, new) = self.plan()?;
        Ok(ChangeoverLayer::new(new, plan))
    }

    /// The layer that compares alone.
    ///
    /// # Errors
    ///
    /// [`Incomplete`] names what is missing.
    pub fn build_shadow_read(self) -> Result<ShadowReadLayer<N, Req, Res, E>, Incomplete> {
        let (plan, new) = self.plan()?;
        Ok(ShadowReadLayer::new(new, plan))
    }

    /// The layer that writes to both sides alone; it observes nothing.
    ///
    /// # Errors
    ///
    /// [`Incomplete`] names what is missing.
    pub fn build_dual_write(mut self) -> Result<DualWriteLayer<Req, Res, E>, Incomplete> {
        self.observe.get_or_insert_with(|| Arc::new(|_: &Res| None));
        let (plan, _) = self.plan()?;
        Ok(DualWriteLayer::new(plan))
    }

    #[expect(
        clippy::type_complexity,
        reason = "a pair of the two things a layer holds"
    )]
    fn plan(self) -> Result<(Arc<Plan<Req, Res, E>>, N), Incomplete> {
        let classify = self.classify.ok_or(Incomplete::Missing("classify"))?;
        let observe = self.observe.ok_or(Incomplete::Missing("observe"))?;
        self.rules.check()?;
        self.redaction.check()?;
        let by_observing = Arc::clone(&observe);
        let found = self
            .found
            .unwrap_or_else(|| Box::new(move |answer| by_observing.observe(answer).is_some()));
        let (follow, limits) = (self.follow, self.limits);
        let seed = self.seed.unwrap_or_else(rand::random);
        let writes = limits.writes.clamp(1, Semaphore::MAX_PERMITS);
        let keys = Arc::clone(&follow);
        let metrics = Metrics::new(self.flags.entity(), &self.operations, limits.time_one_in);
        let desk = Desk {
            pins: Arc::new(Pins::new(limits.pins)),
            versions: self.versions,
            probe_versions: self.probe_versions,
            follow_keys: Box::new(move |touched, ended| {
                keys.follow(Written::new(touched, ended, None))
            }),
            rules: self.rules,
            redaction: self.redaction,
            tally: Arc::new(Tally::new()),
            reservoir: Reservoir::seeded(Reservoir::PER_PATH, Reservoir::PATHS, seed),
            instrument: Instrument::new(self.control, self.report),
            budget: Budget::new(
                limits.shadows_per_second,
                metrics.operations(),
                self.pool_waiting,
            ),
            slow: Slow::default(),
            seed,
            draws: AtomicU64::new(0),
            write_room: Arc::new(Semaphore::new(writes)),
            starting: Arc::default(),
            writes: TaskTracker::new(),
            copies: Places::new(limits.copies, metrics.copies_in_flight.clone()),
            shadows: Places::new(limits.shadows, metrics.shadows_in_flight.clone()),
            sweeping: AtomicBool::new(false),
            metrics,
            spelled: Spelled::default(),
            flags: self.flags,
            limits,
        };
        desk.flags.declare_operations(&self.operations);
        desk.publish();
        let eye = eye(observe, self.error_class);
        let plan = Plan {
            desk: Arc::new(desk),
            classify,
            probe: self.probe.map(|probe| probe(Arc::clone(&eye))),
            eye,
            copy: self.copy,
            found,
            mark: self.mark,
            hedge: self.hedge,
            follow,
            duplicate: self.duplicate,
            outcome: self.outcome,
            keyless: self.keyless,
            strict: self.strict,
            ack: self.ack,
        };
        Ok((Arc::new(plan), self.new))
    }
}

impl<N, Req, Res, E> fmt::Debug for Builder<N, Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Builder");
        debug
            .field("entity", self.flags.entity())
            .field("limits", &self.limits);
        debug.finish_non_exhaustive()
    }
}
