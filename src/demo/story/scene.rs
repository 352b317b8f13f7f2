//! The application with the layer around it, as it is before anything is installed.

use std::str::FromStr as _;
use std::sync::Arc;

use changeover_flags::{Entity, Epoch, Flags, Place, Version};
use changeover_proxy::{Changeover, Handle};
use changeover_sync_worker::dialect::session::Database;
use changeover_sync_worker::drain::{Drain, DrainOptions};
use changeover_sync_worker::mapping::toml::TomlMapping;
use changeover_sync_worker::migration::Migration;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::Layer as _;

use super::{Story, failed};
use crate::demo::DemoError;
use crate::demo::ledger::Ledger;
use crate::demo::load::{Seen, Town};
use crate::demo::market::{self, Legacy, New};
use crate::wiring::Wiring;

/// The migration and the application around it, once both exist.
pub(super) struct Scene {
    pub(super) migration: Migration,
    pub(super) wiring: Wiring,
    pub(super) handle: Handle,
    pub(super) town: Arc<Town>,
    pub(super) drain: Drain,
    /// Ends the drain and the watch over the stage.
    pub(super) workers: CancellationToken,
    pub(super) tasks: Vec<JoinHandle<()>>,
    _ends_with_the_scene: DropGuard,
}

impl Story<'_> {
    /// The application with the layer around it, before anything is installed.
    pub(super) async fn scene(&self) -> Result<Scene, DemoError> {
        let entity = Entity::new("listings").map_err(failed("naming the entity"))?;
        let mapping = TomlMapping::from_str(include_str!("../marketplace.toml"))
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
