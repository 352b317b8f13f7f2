//! The application with the layer around it, and the worker beside it.

use std::str::FromStr as _;
use std::sync::Arc;

use changeover_flags::{Entity, Epoch, Flags, Place, Version};
use changeover_proxy::Changeover;
use changeover_sync_worker::dialect::session::Database;
use changeover_sync_worker::drain::{Drain, DrainOptions};
use changeover_sync_worker::mapping::toml::TomlMapping;
use changeover_sync_worker::migration::Migration;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tower::Layer as _;

use super::{PATIENCE, Story, failed};
use crate::demo::DemoError;
use crate::demo::load::{Market, Town};
use crate::demo::market::{self, Legacy, New};
use crate::wiring::Wiring;

/// The mapping, in its last revision.
const MAPPING: &str = include_str!("../marketplace.toml");

/// The migration and the application around it, once both exist.
pub(super) struct Scene {
    pub(super) migration: Migration,
    pub(super) wiring: Wiring,
    pub(super) town: Arc<Town>,
    pub(super) drain: Drain,
    /// Ends the drain and the watch over the stage.
    workers: CancellationToken,
    tasks: TaskTracker,
    _ends_with_the_scene: DropGuard,
}

impl Story<'_> {
    /// The application with the layer around it, before anything is installed.
    pub(super) async fn scene(&self) -> Result<Scene, DemoError> {
        let flags = Flags::memory(entity()?);
        flags
            .learn(&before_the_installation())
            .map_err(failed("keeping the flags"))?;
        let migration = self.migration(&mistaken()).await?;
        let wiring = wire(&migration, flags).await?;
        let legacy = self.databases.legacy.clone();
        let (rows, seed) = (self.options.rows, self.options.seed);
        let town = Town::new(self.market(&wiring)?, legacy, rows, seed);
        let workers = CancellationToken::new();
        Ok(Scene {
            drain: migration.drain(DrainOptions::default()),
            migration,
            wiring,
            town: Arc::new(town),
            _ends_with_the_scene: workers.clone().drop_guard(),
            workers,
            tasks: TaskTracker::new(),
        })
    }

    /// The migration by the last revision of the mapping.
    pub(super) async fn mended(&self) -> Result<Migration, DemoError> {
        self.migration(MAPPING).await
    }

    async fn migration(&self, mapping: &str) -> Result<Migration, DemoError> {
        let mapping = TomlMapping::from_str(mapping).map_err(failed("reading marketplace.toml"))?;
        let open = |url: &str| Database::open(url).map_err(failed("opening the databases"));
        let (legacy, new) = (
            open(&self.databases.legacy_url)?,
            open(&self.databases.new_url)?,
        );
        Migration::open(entity()?, Arc::new(mapping), legacy, new)
            .await
            .map_err(failed("checking the mapping"))
    }

    /// The application with the layer around it.
    fn market(&self, wiring: &Wiring) -> Result<Market, DemoError> {
        let layer = Changeover::builder(wiring.flags().clone())
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
        Ok(layer.layer(Legacy {
            store: self.databases.legacy.clone(),
        }))
    }

    /// Puts the application that uses `migration` in the place of the one before, whose calls and
    /// copies end.
    pub(super) async fn deploy(
        &self,
        scene: &mut Scene,
        migration: Migration,
    ) -> Result<(), DemoError> {
        let wiring = wire(&migration, scene.wiring.flags().clone()).await?;
        let before = scene.town.handle();
        scene.town.deploy(self.market(&wiring)?);
        let left = before.close_and_wait(PATIENCE).await;
        if !left.is_complete() {
            return Err(DemoError::Gate(format!("work did not end: {left:?}")));
        }
        scene.stop().await;
        scene.drain = migration.drain(DrainOptions::default());
        (scene.migration, scene.wiring) = (migration, wiring);
        scene.work();
        Ok(())
    }
}

impl Scene {
    /// Lets the worker of this process begin: dirty keys are drained, the stage is watched.
    pub(super) fn work(&mut self) {
        self.workers = CancellationToken::new();
        self._ends_with_the_scene = self.workers.clone().drop_guard();
        let (drain, stop) = (self.drain.clone(), self.workers.clone());
        self.tasks
            .spawn(async move { drain.run(stop.cancelled_owned()).await });
        let (wiring, stop) = (self.wiring.clone(), self.workers.clone());
        self.tasks.spawn(async move {
            let watch = wiring.watch(Wiring::WATCH_EVERY);
            stop.run_until_cancelled(watch).await;
        });
        self.tasks.close();
    }

    /// Ends the worker.
    pub(super) async fn stop(&self) {
        self.workers.cancel();
        self.tasks.wait().await;
    }
}

fn entity() -> Result<Entity, DemoError> {
    Entity::new("listings").map_err(failed("naming the entity"))
}

async fn wire(migration: &Migration, flags: Flags) -> Result<Wiring, DemoError> {
    Wiring::new(migration.clone(), flags)
        .await
        .map_err(failed("asking for the stage"))
}

/// The mapping as it was at first: the cents of a price are dropped.
fn mistaken() -> String {
    MAPPING
        .replace("revision = 2", "revision = 1")
        .replace("= \"price_cents\"", "= \"price_cents / 100 * 100\"")
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
