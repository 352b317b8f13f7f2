//! The migration, step by step, as a team would take it.

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use changeover_flags::{Entity, Epoch, Flags, Percent, Place, Version};
use changeover_proxy::{Changeover, Handle};
use changeover_sync_worker::backfill::BackfillOptions;
use changeover_sync_worker::dialect::session::Database;
use changeover_sync_worker::drain::{Drain, DrainOptions};
use changeover_sync_worker::mapping::toml::TomlMapping;
use changeover_sync_worker::migration::Migration;
use changeover_sync_worker::verify::{Class, VerifyOptions, VerifyReport};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::Layer as _;

use super::counted::{Counted, Series};
use super::database::Databases;
use super::ledger::Ledger;
use super::load::{Load, Seen, Town};
use super::market::{self, Health, Legacy, New};
use super::screen::Screen;
use super::summary::{Calls, Ramped, Summary, Swept, Verified};
use super::{DemoError, DemoOptions, check, mess};
use crate::wiring::Wiring;

/// The share of reads that are compared.
const SAMPLE: f64 = 25.0;
/// The most confirmed differences, by shadow reads compared, at which the ramp begins.
const MISMATCHES: f64 = 0.001;
/// How long what is left may take when the callers have gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// A demo under way.
pub(super) struct Story<'a> {
    options: &'a DemoOptions,
    screen: Screen,
    counted: Counted,
    databases: &'a Databases,
    health: Health,
    summary: Summary,
}

/// The migration and the application around it, once both exist.
struct Scene {
    migration: Migration,
    wiring: Wiring,
    handle: Handle,
    town: Arc<Town>,
    drain: Drain,
    /// Ends the drain and the watch over the stage.
    workers: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    _ends_with_the_scene: DropGuard,
}

fn failed<E>(doing: &'static str) -> impl FnOnce(E) -> DemoError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    DemoError::environment(
        doing,
        "set CHANGEOVER_LOG=info to see more, and --keep to look at the databases",
    )
}

impl<'a> Story<'a> {
    pub(super) fn new(
        options: &'a DemoOptions,
        screen: Screen,
        counted: Counted,
        databases: &'a Databases,
    ) -> Story<'a> {
        let summary = Summary {
            databases: databases.describe(),
            legacy_rows: options.rows,
            seed: options.seed,
            ..Summary::default()
        };
        Story {
            options,
            screen,
            counted,
            databases,
            health: Health::default(),
            summary,
        }
    }

    /// The whole story.
    pub(super) async fn tell(&mut self) -> Result<Summary, DemoError> {
        let began = Instant::now();
        self.fill().await?;
        let mut scene = self.scene().await?;
        let load = Load::start(&scene.town);
        self.screen
            .say("callers read and write through the layer from now on");
        self.install(&mut scene).await?;
        self.backfill(&scene).await?;
        let report = self.verify(&scene, "under load").await?;
        if !report.clean() {
            return Err(DemoError::Gate(format!(
                "the verify is not clean: {:?}",
                report.classes
            )));
        }
        scene
            .wiring
            .learn()
            .await
            .map_err(failed("asking for the stage"))?;
        self.shadow(&scene).await?;
        for percent in [10.0, 25.0, 50.0, 100.0] {
            self.set(&scene, percent)?;
            self.routed(&format!("read_new {percent} %")).await;
        }
        self.outage(&scene).await?;
        let took = load.stop().await;
        self.summary.reads = Calls::of(took.reads, Seen::count(&scene.town.seen.read_errors));
        self.summary.writes = Calls::of(took.writes, 0);
        self.come_to_rest(&scene).await?;
        self.prove(&scene).await?;
        self.summary.seconds = began.elapsed().as_secs_f64();
        Ok(std::mem::take(&mut self.summary))
    }

    async fn fill(&self) -> Result<(), DemoError> {
        let (rows, seed) = (self.options.rows, self.options.seed);
        let bar = self.screen.bar("legacy rows", rows.unsigned_abs());
        let filled = mess::fill(self.databases, rows, seed, &bar).await;
        drop(bar);
        filled.map_err(failed("filling the legacy tables"))?;
        self.screen
            .say(format!("{rows} legacy listings made from seed {seed}"));
        Ok(())
    }

    /// The application with the layer around it, before anything is installed.
    async fn scene(&self) -> Result<Scene, DemoError> {
        let entity = Entity::new("listings").map_err(failed("naming the entity"))?;
        let mapping = TomlMapping::from_str(include_str!("marketplace.toml"))
            .map_err(failed("reading marketplace.toml"))?;
        let open = |url: &str| Database::open(url).map_err(failed("opening the databases"));
        let (legacy, new) = (
            open(&self.databases.legacy_url)?,
            open(&self.databases.new_url)?,
        );
        let migration = Migration::open(entity.clone(), Arc::new(mapping), legacy, new)
            .await
            .map_err(failed("checking the mapping"))?;
        let flags = Flags::memory(entity);
        flags
            .learn(&before_the_installation())
            .map_err(failed("keeping the flags"))?;
        let wiring = Wiring::new(migration.clone(), flags.clone())
            .await
            .map_err(failed("asking for the stage"))?;
        let layer = Changeover::builder(flags)
            .classify(market::classify())
            .observe(market::observe)
            .outcome(market::MarketError::failure)
            .operations(market::OPERATIONS)
            .new_service(New {
                store: self.databases.new.clone(),
                health: self.health.clone(),
            })
            .follow(wiring.follow())
            .versions(wiring.versions())
            .seed(self.options.seed)
            .build()
            .map_err(failed("building the layer"))?;
        let workers = CancellationToken::new();
        let town = Town {
            market: layer.layer(Legacy {
                store: self.databases.legacy.clone(),
            }),
            handle: layer.handle(),
            legacy: self.databases.legacy.clone(),
            ledger: Ledger::default(),
            rows: self.options.rows,
            seed: self.options.seed,
            seen: Seen::default(),
        };
        Ok(Scene {
            handle: layer.handle(),
            drain: migration.drain(DrainOptions::default()),
            migration,
            wiring,
            town: Arc::new(town),
            _ends_with_the_scene: workers.clone().drop_guard(),
            workers,
            tasks: Vec::new(),
        })
    }

    async fn install(&self, scene: &mut Scene) -> Result<(), DemoError> {
        let began = Instant::now();
        scene
            .migration
            .install()
            .await
            .map_err(failed("installing"))?;
        let took = began.elapsed().as_millis();
        self.screen.say(format!(
            "installed in {took} ms: every write of legacy stamps its key"
        ));
        scene
            .migration
            .start_copying()
            .await
            .map_err(failed("starting to copy"))?;
        scene
            .wiring
            .learn()
            .await
            .map_err(failed("asking for the stage"))?;
        let (drain, stop) = (scene.drain.clone(), scene.workers.clone());
        scene.tasks.push(tokio::spawn(async move {
            drain.run(stop.cancelled_owned()).await
        }));
        let (wiring, stop) = (scene.wiring.clone(), scene.workers.clone());
        scene.tasks.push(tokio::spawn(async move {
            let watch = wiring.watch(Wiring::WATCH_EVERY);
            stop.run_until_cancelled(watch).await;
        }));
        self.screen.say("stage dual-write: every write is copied");
        Ok(())
    }

    async fn backfill(&mut self, scene: &Scene) -> Result<(), DemoError> {
        let epoch = scene
            .migration
            .epoch()
            .await
            .map_err(failed("asking for the stage"))?;
        let bar = self
            .screen
            .bar("backfill", self.options.rows.unsigned_abs());
        let began = Instant::now();
        let backfill = scene.migration.backfill(BackfillOptions::default());
        let swept = backfill.run(|progress| bar.at(progress.passed)).await;
        drop(bar);
        let swept = swept.map_err(failed("copying history"))?;
        scene
            .migration
            .record_backfill(&epoch)
            .await
            .map_err(failed("recording the backfill"))?;
        let seconds = began.elapsed().as_secs_f64();
        let rows_per_second = swept.passed as f64 / seconds;
        self.summary.backfill = Swept {
            rows: swept.passed,
            seconds,
            rows_per_second,
        };
        self.screen.say(format!(
            "backfill: {} rows in {seconds:.1} s, {rows_per_second:.0} rows/s",
            swept.passed
        ));
        if swept.held > 0 {
            return Err(DemoError::Gate(format!(
                "{} rows of history are held back",
                swept.held
            )));
        }
        Ok(())
    }

    async fn verify(
        &mut self,
        scene: &Scene,
        when: &'static str,
    ) -> Result<VerifyReport, DemoError> {
        let compared = |series: Series| series.sum("changeover_verify_keys_total", &[]);
        let before = compared(self.counted.now());
        let bar = self.screen.bar("verify", self.options.rows.unsigned_abs());
        let began = Instant::now();
        let verify = scene.migration.verify(VerifyOptions::default());
        tokio::pin!(verify);
        let report = loop {
            tokio::select! {
                report = &mut verify => break report,
                () = tokio::time::sleep(Duration::from_millis(250)) => {
                    bar.at(compared(self.counted.now()) - before);
                }
            }
        };
        drop(bar);
        let report = report.map_err(failed("verifying"))?;
        let seconds = began.elapsed().as_secs_f64();
        let classes: BTreeMap<&'static str, u64> = report
            .classes
            .iter()
            .map(|(class, keys)| (class.as_str(), *keys))
            .collect();
        self.screen.say(format!(
            "verify {when}: {} keys in {seconds:.1} s, {}: {classes:?}",
            report.compared,
            if report.clean() { "clean" } else { "NOT clean" }
        ));
        self.summary.verifies.push(Verified {
            when,
            keys: report.compared,
            classes,
            seconds,
        });
        Ok(report)
    }

    /// Reads are still answered by legacy; some are compared with new.
    async fn shadow(&mut self, scene: &Scene) -> Result<(), DemoError> {
        let sample = Percent::new(SAMPLE).map_err(failed("sampling"))?;
        scene
            .wiring
            .flags()
            .set_sample(sample)
            .map_err(failed("sampling"))?;
        self.routed("shadow reads").await;
        let totals = scene.handle.compared();
        let verdicts: Vec<String> = totals
            .by_class()
            .filter(|(_, count)| *count > 0)
            .map(|(class, count)| format!("{count} {class}"))
            .collect();
        self.screen.say(format!(
            "shadow reads, {SAMPLE} % sampled: {}",
            verdicts.join(", ")
        ));
        match totals.mismatch_ratio() {
            None => Err(DemoError::Gate("no shadow read was compared".into())),
            Some(ratio) if ratio > MISMATCHES => Err(DemoError::Gate(format!(
                "{} of {} shadow reads differ: {:?}",
                totals.confirmed(),
                totals.compared(),
                scene.handle.samples()
            ))),
            Some(_) => Ok(()),
        }
    }

    fn set(&self, scene: &Scene, percent: f64) -> Result<(), DemoError> {
        let percent = Percent::new(percent).map_err(failed("setting the read percentage"))?;
        scene
            .wiring
            .flags()
            .set_read_new(percent)
            .map_err(failed("setting the read percentage"))
    }

    /// Watches for one step who answers; the share of new, in percent.
    async fn routed(&mut self, step: &str) -> f64 {
        // Reads that were routed before the step are let go first.
        tokio::time::sleep(self.options.step() / 5).await;
        let before = answered(&self.counted.now());
        tokio::time::sleep(self.options.step()).await;
        let after = answered(&self.counted.now());
        let (new, all) = (after.0 - before.0, after.1 - before.1);
        let percent_answered_by_new = 100.0 * new as f64 / (all.max(1)) as f64;
        self.screen.say(format!(
            "{step}: {percent_answered_by_new:.1} % of {all} reads answered by new"
        ));
        let step = step.to_owned();
        self.summary.ramp.push(Ramped {
            step,
            reads: all,
            percent_answered_by_new,
        });
        percent_answered_by_new
    }

    /// New fails at 100 %; callers must not notice. Then the kill switch.
    async fn outage(&mut self, scene: &Scene) -> Result<(), DemoError> {
        let flags = scene.wiring.flags().clone();
        let ramp = flags.load().read_new;
        self.health.fail();
        let outage = self
            .databases
            .fail_new()
            .await
            .map_err(failed("failing the new side"))?;
        self.screen
            .say("the new side fails: its reads are errors, its database takes no copies");
        self.routed("new fails").await;
        self.health.hang();
        self.screen.say("the new side hangs");
        self.routed("new hangs").await;
        self.lag(scene).await?;
        flags
            .kill("the new side does not answer")
            .map_err(failed("throwing the kill switch"))?;
        self.screen
            .say("kill switch thrown: all reads to legacy, none compared");
        let share = self.routed("kill switch").await;
        self.lag(scene).await?;
        outage.end().await.map_err(failed("mending the new side"))?;
        self.health.mend();
        self.screen
            .say("the new side is back; the worker copies what is dirty");
        if share > 0.0 {
            return Err(DemoError::Gate(format!(
                "{share} % of the reads passed the kill switch"
            )));
        }
        let caught_up = Instant::now();
        while self.lag(scene).await? > 100 && caught_up.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        flags
            .clear_kill()
            .map_err(failed("clearing the kill switch"))?;
        let now = flags.load().read_new;
        self.screen
            .say(format!("kill switch cleared: reading returns to {now}"));
        let share = self.routed("kill cleared").await;
        if now != ramp || share <= 0.0 {
            return Err(DemoError::Gate(format!("reading did not return to {ramp}")));
        }
        Ok(())
    }

    async fn lag(&mut self, scene: &Scene) -> Result<u64, DemoError> {
        let lag = scene.migration.copier().authority().lag().await;
        let dirty = lag.map_err(failed("counting dirty keys"))?.dirty;
        self.summary.dirty_keys_at_most = self.summary.dirty_keys_at_most.max(dirty);
        self.screen.say(format!("  {dirty} dirty keys"));
        Ok(dirty)
    }

    /// The callers have gone: what is under way ends, what is dirty is copied.
    async fn come_to_rest(&mut self, scene: &Scene) -> Result<(), DemoError> {
        let drained = scene.handle.close_and_wait(PATIENCE).await;
        if !drained.is_complete() {
            return Err(DemoError::Gate(format!("work did not end: {drained:?}")));
        }
        if let Some(sabotage) = self.options.sabotage.filter(|one| one.before_the_drain()) {
            sabotage
                .commit(self.databases)
                .await
                .map_err(failed("making a defect"))?;
        }
        let lag = scene
            .drain
            .until_clean(Some(PATIENCE))
            .await
            .map_err(failed("draining"))?;
        if lag.dirty > 0 {
            return Err(DemoError::Gate(format!(
                "{} keys stay dirty: {lag:?}",
                lag.dirty
            )));
        }
        self.screen.say("the callers have gone, nothing is dirty");
        Ok(())
    }

    /// The last verify, the numbers, and the check that shares no code with the product.
    async fn prove(&mut self, scene: &Scene) -> Result<(), DemoError> {
        let report = self.verify(scene, "at rest").await?;
        scene.workers.cancel();
        let unequal = report.compared - report.count(Class::Equal);
        if !report.clean() || unequal > 0 {
            return Err(DemoError::Gate(format!(
                "at rest {unequal} keys are not equal: {:?}",
                report.samples
            )));
        }
        if let Some(sabotage) = self.options.sabotage.filter(|one| !one.before_the_drain()) {
            sabotage
                .commit(self.databases)
                .await
                .map_err(failed("making a defect"))?;
        }
        self.count(scene);
        let town = &scene.town;
        let mut wrong = check::check(self.databases, &town.ledger, town.rows)
            .await
            .map_err(failed("running the independent check"))?;
        let errors = town.seen.read_errors.load(Ordering::Relaxed);
        if errors > 0 {
            let last = town.seen.last_error().unwrap_or_default();
            wrong.push(format!(
                "{errors} reads were errors for their callers, the last one: {last}"
            ));
        }
        let stale = self.summary.own_writes_not_seen;
        if stale > 0 {
            wrong.push(format!("{stale} callers did not see their own write"));
        }
        if !wrong.is_empty() {
            return Err(DemoError::Check(wrong));
        }
        self.screen.say("the independent check found nothing");
        Ok(())
    }

    fn count(&mut self, scene: &Scene) {
        let series = self.counted.now();
        let (new, all) = answered(&series);
        let summary = &mut self.summary;
        summary.reads_answered_by_new = new;
        summary.reads_answered_by_legacy = all - new;
        summary.fallbacks = series
            .by("changeover_fallbacks_total", &["reason"])
            .into_iter()
            .collect();
        summary.copies = series
            .by("changeover_copies_total", &["source", "outcome"])
            .into_iter()
            .collect();
        summary.shadow_reads = scene
            .handle
            .compared()
            .by_class()
            .filter(|(_, count)| *count > 0)
            .map(|(class, count)| (class.to_string(), count))
            .collect();
        summary.own_writes_not_seen = Seen::count(&scene.town.seen.stale);
        summary.ledger = Some(scene.town.ledger.written());
    }
}

/// Reads answered by new, and all reads.
fn answered(series: &Series) -> (u64, u64) {
    let calls = |labels: &[(&str, &str)]| -> u64 {
        ["get", "newest"]
            .iter()
            .map(|op| series.sum("changeover_calls_total", &[labels, &[("op", op)]].concat()))
            .sum()
    };
    (
        calls(&[("route", "follower"), ("outcome", "ok")]),
        calls(&[]),
    )
}

/// What the application knows before anything is installed: legacy serves.
fn before_the_installation() -> Epoch {
    Epoch {
        number: 0,
        authority: Place::Legacy,
        copying: false,
        moving_to: None,
        revision: 1,
        base: Version::base(0),
        backfilled: false,
        verified: false,
    }
}
