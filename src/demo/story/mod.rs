//! The migration, step by step, as a team would take it.
//!
//! | file | what it tells |
//! | --- | --- |
//! | [`scene`] | the application, and the layer around it |
//! | [`copying`] | install, dual write, backfill, verify |
//! | [`mistake`] | shadow reads find a wrong mapping, a new revision mends it |
//! | [`reading`] | shadow reads, and the ramp |
//! | [`outage`] | the new side fails; the kill switch |
//! | [`ending`] | the callers go, what is left is drained, the result is proved |

mod copying;
mod ending;
mod mistake;
mod outage;
mod reading;
mod scene;

use std::time::{Duration, Instant};

use super::counted::Counted;
use super::database::Databases;
use super::load::{Load, Seen};
use super::market::Health;
use super::summary::{Calls, Summary};
use super::{DemoError, DemoOptions, mess};
use crate::screen::Screen;

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
        self.find_the_mistake(&scene).await?;
        self.mend_the_mistake(&mut scene).await?;
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
