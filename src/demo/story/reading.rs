//! Who answers reads: shadow reads first, then a growing share by the new side.

use changeover_flags::Percent;

use super::scene::Scene;
use super::{Story, failed};
use crate::demo::DemoError;
use crate::demo::counted::Series;
use crate::demo::summary::Ramped;

/// The share of reads that are compared.
pub(super) const SAMPLE: f64 = 25.0;
/// The most confirmed differences, by shadow reads compared, at which the ramp begins.
const MISMATCHES: f64 = 0.001;

impl Story<'_> {
    /// Reads are still answered by legacy; some are compared with new.
    pub(super) async fn shadow(&mut self, scene: &Scene) -> Result<(), DemoError> {
        let sample = Percent::new(SAMPLE).map_err(failed("sampling"))?;
        scene
            .wiring
            .flags()
            .set_sample(sample)
            .map_err(failed("sampling"))?;
        self.routed("shadow reads").await;
        let totals = scene.town.handle().compared();
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
                scene.town.handle().samples()
            ))),
            Some(_) => Ok(()),
        }
    }

    pub(super) fn set(&self, scene: &Scene, percent: f64) -> Result<(), DemoError> {
        let percent = Percent::new(percent).map_err(failed("setting the read percentage"))?;
        scene
            .wiring
            .flags()
            .set_read_new(percent)
            .map_err(failed("setting the read percentage"))
    }

    /// Watches for one step who answers; the share of new, in percent.
    pub(super) async fn routed(&mut self, step: &str) -> f64 {
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
}

/// Reads answered by new, and all reads.
pub(super) fn answered(series: &Series) -> (u64, u64) {
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
