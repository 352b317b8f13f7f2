//! The new side fails while it answers every read, and the kill switch.

use std::time::{Duration, Instant};

use super::scene::Scene;
use super::{PATIENCE, Story, failed};
use crate::demo::DemoError;

impl Story<'_> {
    /// New fails at 100 %; callers must not notice. Then the kill switch.
    pub(super) async fn outage(&mut self, scene: &Scene) -> Result<(), DemoError> {
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
        let cleared = Instant::now();
        let mut share = self.routed("kill cleared").await;
        // On a busy machine a step can pass with reads alone that had waited for the outage.
        while share <= 0.0 && cleared.elapsed() < PATIENCE {
            share = self.routed("kill cleared").await;
        }
        if now != ramp || share <= 0.0 {
            return Err(DemoError::Gate(format!("reading did not return to {ramp}")));
        }
        Ok(())
    }
}
