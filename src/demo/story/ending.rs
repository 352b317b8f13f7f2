//! The end: what is under way ends, what is dirty is copied, and the result is proved.

use std::sync::atomic::Ordering;

use changeover_sync_worker::verify::Class;

use super::reading::answered;
use super::scene::Scene;
use super::{PATIENCE, Story, failed};
use crate::demo::load::Seen;
use crate::demo::{DemoError, check};

impl Story<'_> {
    /// The callers have gone: what is under way ends, what is dirty is copied.
    pub(super) async fn come_to_rest(&mut self, scene: &Scene) -> Result<(), DemoError> {
        let drained = scene.town.handle().close_and_wait(PATIENCE).await;
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
    pub(super) async fn prove(&mut self, scene: &Scene) -> Result<(), DemoError> {
        let report = self.verify(scene, "at rest").await?;
        scene.stop().await;
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
        summary.follows = series
            .by("changeover_follows_total", &["outcome"])
            .into_iter()
            .collect();
        summary.shadow_reads = scene
            .town
            .handle()
            .compared()
            .by_class()
            .filter(|(_, count)| *count > 0)
            .map(|(class, count)| (class.to_string(), count))
            .collect();
        summary.own_writes_not_seen = Seen::count(&scene.town.seen.stale);
        summary.ledger = Some(scene.town.ledger.written());
    }
}
