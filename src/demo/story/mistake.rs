//! A mapping that is wrong in one field: shadow reads find it, and a new revision mends it.
//!
//! No verify could: it compares the new rows with what the mapping makes of the old ones.

use std::pin::pin;
use std::time::{Duration, Instant};

use changeover_flags::Percent;

use super::copying::hurried;
use super::reading::SAMPLE;
use super::scene::Scene;
use super::{PATIENCE, Story, failed};
use crate::demo::DemoError;
use crate::demo::summary::Mistake;

/// Confirmed differences that are enough to look at them.
const ENOUGH: u64 = 10;
/// The one field that revision 1 of the mapping gets wrong.
const FIELD: &str = "price_cents";

impl Story<'_> {
    /// Begins to copy history and compares some reads meanwhile, until enough of them differ.
    pub(super) async fn find_the_mistake(&mut self, scene: &Scene) -> Result<(), DemoError> {
        let sample = Percent::new(SAMPLE).map_err(failed("sampling"))?;
        scene
            .wiring
            .flags()
            .set_sample(sample)
            .map_err(failed("sampling"))?;
        let handle = scene.town.handle();
        let began = Instant::now();
        let rows = self.options.rows.unsigned_abs();
        let bar = self.screen.bar("backfill", rows);
        let backfill = scene.migration.backfill(hurried());
        let mut copying = pin!(backfill.run(|progress| bar.at(progress.passed)));
        let mut copied = false;
        while handle.compared().confirmed() < ENOUGH {
            if began.elapsed() > PATIENCE {
                return Err(DemoError::Gate(format!(
                    "shadow reads do not find the wrong mapping: {:?}",
                    handle.compared()
                )));
            }
            tokio::select! {
                swept = &mut copying, if !copied => {
                    swept.map_err(failed("copying history"))?;
                    copied = true;
                }
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
        let found_after_seconds = began.elapsed().as_secs_f64();
        let (totals, samples) = (handle.compared(), handle.samples());
        let (confirmed, compared) = (totals.confirmed(), totals.compared());
        self.screen.say(format!(
            "shadow reads: {confirmed} of {compared} differ, found after {found_after_seconds:.1} s"
        ));
        for field in &samples.fields {
            self.screen
                .say(format!("  {} times in {}", field.seen, field.path));
            for evidence in field.kept.iter().take(2) {
                self.screen.say(format!("    {evidence}"));
            }
        }
        let elsewhere = |path: &str| path.rsplit('.').next() != Some(FIELD);
        if let Some(other) = samples.fields.iter().find(|one| elsewhere(&one.path)) {
            return Err(DemoError::Gate(format!(
                "shadow reads differ in {}, which nobody got wrong",
                other.path
            )));
        }
        self.summary.mistake = Mistake {
            field: FIELD,
            found_after_seconds,
            confirmed,
            compared,
        };
        Ok(())
    }

    /// Raises the mapping's revision and deploys the application with it.
    pub(super) async fn mend_the_mistake(&mut self, scene: &mut Scene) -> Result<(), DemoError> {
        let migration = self.mended().await?;
        migration
            .raise_revision()
            .await
            .map_err(failed("raising the mapping's revision"))?;
        self.deploy(scene, migration).await?;
        self.screen
            .say("revision 2 of the mapping: copies of revision 1 are refused, all rows are copied again");
        Ok(())
    }
}
