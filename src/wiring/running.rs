//! The worker inside the application: [`Running`].

use std::sync::Arc;
use std::time::Duration;

use changeover_flags::Stage;
use changeover_proxy::Handle;
use changeover_sync_worker::backfill::{BackfillControl, BackfillOptions};
use changeover_sync_worker::check::{CheckOptions, OwnCheck};
use changeover_sync_worker::drain::{Drain, DrainOptions};
use changeover_sync_worker::migration::MigrationError;
use changeover_sync_worker::pace::Signals;
use changeover_sync_worker::store::StoreError;
use changeover_sync_worker::verify::{Recorded, VerifyOptions};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::Wiring;
use crate::causes::Causes;

/// How the worker goes about it.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// How often the stage is asked for, and the stored flags are read.
    pub watch_every: Duration,
    /// How long the backfill or the verify rests after it failed, or found differences.
    pub retry_after: Duration,
    /// How often both sides are compared once the new side is ready. A difference, or a key that is
    /// held, takes the readiness away: reads go to legacy, and the percentage is 0 until somebody
    /// raises it again after a clean comparison.
    pub verify_every: Duration,
    /// How long a layer has to end before the worker is stopped.
    pub stop_within: Duration,
    /// The loop over dirty keys.
    pub drain: DrainOptions,
    /// The sweep over history; its pace is adaptive unless told otherwise.
    pub backfill: BackfillOptions,
    /// What holds the sweep and the comparison back, the latter beside what its own options say: the
    /// application's own latency, say. None unless told otherwise.
    pub signals: Signals,
    /// The comparison that lets percentages rise.
    pub verify: VerifyOptions,
    /// How the consistency checks are run once the new side is ready; `None` for none of them. They
    /// change nothing: what they find is logged, counted, and in
    /// [`last_checks`](Wiring::last_checks).
    pub checks: Option<CheckOptions>,
    /// Consistency checks of one's own.
    pub own_checks: Vec<OwnCheck>,
}

impl Default for RunOptions {
    /// [`Wiring::WATCH_EVERY`], retries after 30 s, a verify and the built-in checks each hour, 10 s to end, and each part's own default.
    fn default() -> RunOptions {
        RunOptions {
            watch_every: Wiring::WATCH_EVERY,
            retry_after: Duration::from_secs(30),
            verify_every: Duration::from_secs(3600),
            stop_within: Duration::from_secs(10),
            drain: DrainOptions::default(),
            backfill: BackfillOptions::default(),
            signals: Signals::default(),
            verify: VerifyOptions::default(),
            checks: Some(CheckOptions::default()),
            own_checks: Vec::new(),
        }
    }
}

/// The worker, in the background. Dropping it tells the worker to stop, without waiting.
#[derive(Debug)]
#[must_use = "dropping it stops the worker"]
pub struct Running {
    layers: Vec<Handle>,
    stop_within: Duration,
    tasks: TaskTracker,
    stop: DropGuard,
}

impl Running {
    /// Lets the writes and copies of `layer` that are under way end first when the worker is
    /// stopped, within [`RunOptions::stop_within`].
    pub fn after(mut self, layer: Handle) -> Running {
        self.layers.push(layer);
        self
    }

    /// Stops the worker and waits until it has. Stop the callers first. What is not finished is
    /// dirty by its own commit, or behind the backfill's cursor, and is found there at the next
    /// start.
    pub async fn stop(self) {
        for layer in &self.layers {
            let left = layer.close_and_wait(self.stop_within).await;
            tracing::info!(entity = %layer.entity(), ?left, "the layer has ended");
        }
        drop(self.stop);
        self.tasks.wait().await;
    }
}

impl Wiring {
    /// How often [`until_ready`](Wiring::until_ready) looks at the flags of this process.
    const LOOK_EVERY: Duration = Duration::from_millis(20);

    /// Runs the worker in this process until it is stopped:
    ///
    /// 1. the stage is learnt, and edits of the flags file (percentage, kill switch) are taken up;
    /// 2. dirty keys are drained, in the stages that copy;
    /// 3. while the new side is not ready: backfill, then verify, both recorded. Until then a
    ///    percentage above 0 is refused;
    /// 4. once it is ready: verify, and the consistency checks, from time to time.
    ///
    /// Any number of processes may run it: they waste work, nothing else.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn run(&self, options: RunOptions) -> Running {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let drain = Arc::new(self.migration.drain(options.drain));
        self.follow_stage(&drain);
        let until = stop.clone();
        let draining = Arc::clone(&drain);
        tasks.spawn(async move { draining.run(until.cancelled()).await });
        let (every, stop_within) = (options.watch_every, options.stop_within);
        let wiring = self.clone();
        let watch = async move {
            let follow = || wiring.follow_stage(&drain);
            tokio::join!(wiring.watch_stage(every, follow), wiring.watch_flags(every));
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(watch));
        let wiring = self.clone();
        let history = async move {
            let checks = wiring.check_from_time_to_time(&options);
            tokio::join!(wiring.bring_history(&options), checks)
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(history));
        tasks.close();
        Running {
            layers: Vec::new(),
            stop_within,
            tasks,
            stop: stop.drop_guard(),
        }
    }

    /// Waits until a backfill and a clean verify are on record, as a [worker](Wiring::run) here or
    /// elsewhere brings them about, and this process knows: for ever, where none does. What stands in
    /// the way is in the worker's log, and in [`last_verify`](Wiring::last_verify).
    ///
    /// Cancellation safe: it only looks.
    pub async fn until_ready(&self) {
        while !self.flags.load().ready {
            tokio::time::sleep(Self::LOOK_EVERY).await;
        }
    }

    /// Copies are made in the stages that copy, and in no other: whoever stopped them means it.
    fn follow_stage(&self, drain: &Drain) {
        match self.flags.load().serving() {
            Ok(stage) if stage.copies() => drain.resume(),
            _ => drain.pause(),
        }
    }

    /// Brings the new side to readiness whenever it is not ready: at first, after the mapping
    /// revision was raised, and after a verify that found a difference. While it is ready, sees to
    /// it that it still deserves to be.
    async fn bring_history(&self, options: &RunOptions) {
        let mut verified = Instant::now();
        loop {
            let mut pause = options.watch_every;
            let flags = self.flags.load();
            let due = !flags.ready || verified.elapsed() >= options.verify_every;
            if due && flags.serving().is_ok_and(|stage| stage == Stage::DualWrite) {
                match self.backfill_and_verify(options).await {
                    Ok(true) => verified = Instant::now(),
                    Ok(false) => pause = options.retry_after,
                    Err(error) => {
                        tracing::warn!(error = %Causes(&error), "backfill and verify will be tried again");
                        pause = options.retry_after;
                    }
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Whether the new side is ready.
    async fn backfill_and_verify(&self, options: &RunOptions) -> Result<bool, MigrationError> {
        let epoch = self.migration.epoch().await?;
        if !epoch.backfilled {
            let backfill = self.migration.backfill(options.backfill.at(&epoch));
            let backfill = backfill.with_signals(options.signals.clone());
            let underway = Underway::of(self, backfill.control());
            let swept = backfill.run(|_| {}).await;
            drop(underway);
            let swept = swept.map_err(|error: StoreError| MigrationError::Store(error))?;
            tracing::info!(entity = %self.migration.entity(), keys = swept.passed, "backfilled");
            self.migration.record_backfill(&epoch).await?;
        }
        let verify = VerifyOptions {
            signals: options.verify.signals.clone().and(options.signals.clone()),
            ..options.verify.clone()
        };
        let report = self.verify(verify).await?;
        if let Some(why_not) = report.recorded.why_not() {
            tracing::warn!(entity = %self.migration.entity(), why_not, "the verify is not on record");
        }
        if report.clean() {
            tracing::info!(entity = %self.migration.entity(), keys = report.compared, "verified without a difference");
        } else {
            tracing::warn!(entity = %self.migration.entity(), ?report, "verified with differences");
        }
        Ok(report.clean() && report.recorded == Recorded::Yes)
    }
}

/// The sweep that runs at the moment, until this is dropped.
struct Underway<'a>(&'a Wiring);

impl Underway<'_> {
    fn of(wiring: &Wiring, control: BackfillControl) -> Underway<'_> {
        wiring.set_backfill(Some(control));
        Underway(wiring)
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        self.0.set_backfill(None);
    }
}
