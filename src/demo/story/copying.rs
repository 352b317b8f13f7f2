//! How the new side gets to hold what legacy holds: install, dual write, backfill, verify.

use std::collections::BTreeMap;
use std::time::Instant;

use changeover_sync_worker::backfill::BackfillOptions;
use changeover_sync_worker::pace::Pacing;
use changeover_sync_worker::verify::{VerifyOptions, VerifyProgress, VerifyReport};

use super::scene::Scene;
use super::{Story, failed};
use crate::demo::DemoError;
use crate::demo::summary::{Swept, Verified};

/// Without pauses: nobody's application is in the way.
pub(super) fn hurried() -> BackfillOptions {
    BackfillOptions {
        pacing: Pacing::UNLIMITED,
        ..BackfillOptions::default()
    }
}

impl Story<'_> {
    pub(super) async fn install(&self, scene: &mut Scene) -> Result<(), DemoError> {
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
        scene.work();
        self.screen.say("stage dual-write: every write is copied");
        Ok(())
    }

    pub(super) async fn backfill(&mut self, scene: &Scene) -> Result<(), DemoError> {
        let epoch = scene
            .migration
            .epoch()
            .await
            .map_err(failed("asking for the stage"))?;
        let bar = self
            .screen
            .bar("backfill", self.options.rows.unsigned_abs());
        let began = Instant::now();
        let backfill = scene.migration.backfill(hurried());
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

    pub(super) async fn verify(
        &mut self,
        scene: &Scene,
        when: &'static str,
    ) -> Result<VerifyReport, DemoError> {
        let bar = self.screen.bar("verify", self.options.rows.unsigned_abs());
        let began = Instant::now();
        let told = |progress: VerifyProgress| bar.at(progress.compared);
        let report = scene
            .migration
            .verify_telling(VerifyOptions::default(), told)
            .await;
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

    pub(super) async fn lag(&mut self, scene: &Scene) -> Result<u64, DemoError> {
        let lag = scene.migration.copier().authority().lag().await;
        let dirty = lag.map_err(failed("counting dirty keys"))?.dirty;
        self.summary.dirty_keys_at_most = self.summary.dirty_keys_at_most.max(dirty);
        self.screen.say(format!("  {dirty} dirty keys"));
        Ok(dirty)
    }
}
