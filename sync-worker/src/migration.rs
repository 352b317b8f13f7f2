//! [`Migration`]: one entity between its two databases, checked and ready to be worked on.
//!
//! ```text
//! open ── checks everything, writes nothing
//!   install ── triggers and tables on both sides; stage `legacy`
//!     start_copying ── stage `dual-write`: writes are copied from now on
//!       backfill ── history        drain ── what is dirty
//!         verify ── compares; recorded when clean: percentages may rise
//!     stop_copying ── back to `legacy`; stamping goes on, so returning needs a drain
//!   uninstall ── takes everything out again
//! ```

mod error;
mod evidence;

use std::sync::Arc;

use changeover_flags::{Entity, Epoch, IllegalMove, Place, Stage, Version};
pub use error::MigrationError;

use crate::backfill::{Backfill, BackfillOptions};
use crate::copy::Copier;
use crate::dialect::authority::SqlAuthority;
use crate::dialect::follower::SqlFollower;
use crate::dialect::held_mapping::HeldMapping;
use crate::dialect::home::{Home, Row};
use crate::dialect::install::{Patience, Side};
use crate::dialect::raise::{raise, raise_anew, row_of};
use crate::dialect::session::Database;
use crate::dialect::sums::Sums;
use crate::dialect::uninstall::unused_base;
use crate::drain::{Drain, DrainOptions};
use crate::mapping::Mapping;
use crate::preflight::{self, Catalog, PreflightError};
use crate::repair::Repair;
use crate::store::StoreError;

/// One entity between its two databases.
#[derive(Clone)]
pub struct Migration {
    entity: Entity,
    pub(crate) mapping: Arc<dyn Mapping>,
    pub(crate) legacy: Database,
    pub(crate) new: Database,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) authority: SqlAuthority,
    pub(crate) follower: SqlFollower,
    copier: Copier,
    home: Home,
    patience: Patience,
}

impl std::fmt::Debug for Migration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Migration")
            .field("entity", &self.entity)
            .field("legacy", &self.legacy)
            .field("new", &self.new)
            .finish_non_exhaustive()
    }
}

impl Migration {
    /// Opens the migration of `entity` from `legacy` to `new`: checks the mapping against both
    /// databases and writes nothing.
    ///
    /// # Errors
    ///
    /// [`PreflightError`] with every problem found.
    pub async fn open(
        entity: Entity,
        mapping: Arc<dyn Mapping>,
        legacy: Database,
        new: Database,
    ) -> Result<Migration, PreflightError> {
        let catalog = preflight::check(
            &entity,
            &mapping,
            (Place::Legacy, &legacy),
            (Place::New, &new),
        )
        .await?;
        let missing = || {
            PreflightError::Store(StoreError::Refused {
                store: "the mapping".into(),
                doing: format!("opening {entity}"),
                advice: "it names no tables".into(),
                source: None,
            })
        };
        let sums = Sums::new(&entity, &*mapping, &catalog, &legacy, (Place::New, &new));
        let sums = Arc::new(sums);
        let authority = SqlAuthority::new(
            legacy.clone(),
            entity.clone(),
            Place::Legacy,
            Arc::clone(&mapping),
            catalog.authority.first().ok_or_else(missing)?,
            catalog.types.clone(),
        )
        .moving_into(&catalog)
        .summing(&sums);
        let follower = SqlFollower::new(
            new.clone(),
            entity.clone(),
            Place::New,
            Arc::clone(&mapping),
            &catalog.follower,
        )
        .ok_or_else(missing)?
        .summing(&sums);
        Ok(Migration {
            copier: Copier::new(
                &entity,
                Arc::new(authority.clone()),
                Arc::new(follower.clone()),
            ),
            authority,
            follower,
            home: Home::new(legacy.clone(), entity.clone()),
            catalog: Arc::new(catalog),
            patience: Patience::default(),
            entity,
            mapping,
            legacy,
            new,
        })
    }

    /// The same, waiting for locks as `patience` says.
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Migration {
        self.patience = patience;
        self
    }

    /// The entity.
    #[must_use]
    pub fn entity(&self) -> &Entity {
        &self.entity
    }

    /// The copy operation.
    #[must_use]
    pub fn copier(&self) -> &Copier {
        &self.copier
    }

    /// The epoch row.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The copy operation through connections of its own, at most `connections` to each side. What
    /// an application's calls wait for must not wait for a backfill, nor the other way round.
    #[must_use]
    pub fn copier_apart(&self, connections: usize) -> Copier {
        Copier::with_meters(
            Arc::clone(self.copier.meters()),
            Arc::new(self.authority.apart(connections)),
            Arc::new(self.follower.apart(connections)),
        )
    }

    fn authority_side(&self) -> Side<'_> {
        Side {
            database: &self.legacy,
            entity: &self.entity,
            place: Place::Legacy,
            shape: self.mapping.shape(),
            tables: &self.catalog.authority,
        }
    }

    fn follower_side(&self) -> Side<'_> {
        Side {
            database: &self.new,
            entity: &self.entity,
            place: Place::New,
            shape: self.mapping.shape(),
            tables: &self.catalog.follower,
        }
    }

    /// What [`install`](Migration::install) would run: (place, statements).
    #[must_use]
    pub fn plan(&self) -> Vec<(Place, Vec<String>)> {
        let mut authority = self.legacy.dialect().create_tables();
        authority.extend(self.authority_side().authority_script(Version(0)));
        let mut follower = self.new.dialect().create_tables();
        follower.extend(self.follower_side().follower_script());
        vec![(Place::Legacy, authority), (Place::New, follower)]
    }

    /// What [`uninstall`](Migration::uninstall) would run, in its order, beside the row that stays: (place, statements);
    /// none where nothing is installed.
    ///
    /// # Errors
    ///
    /// What the databases say.
    pub async fn uninstall_plan(&self) -> Result<Vec<(Place, Vec<String>)>, MigrationError> {
        let (authority, follower) = (self.authority_side(), self.follower_side());
        Ok(vec![
            (Place::New, follower.uninstall_plan().await?),
            (Place::Legacy, authority.uninstall_plan().await?),
        ])
    }

    /// Installs tables and triggers on both sides. Installing again changes nothing, unless one side
    /// has lost what it held, triggers included, or came back from before the other's last incarnation: then every
    /// key is copied again, and no evidence stands. An entity whose legacy side came back from a
    /// backup, without its installation or from before copies that the new side holds, is in stage
    /// `legacy` again, until somebody starts the copying.
    ///
    /// # Errors
    ///
    /// [`MigrationError::Revision`] when another revision is installed already,
    /// [`MigrationError::Occupied`] when the new tables are not ready, else what the
    /// databases say. A first installation that fails leaves nothing behind, unless a database
    /// stops answering in between or another installer went on from there; calling again
    /// continues.
    pub async fn install(&self) -> Result<(), MigrationError> {
        let (authority, follower) = (self.authority_side(), self.follower_side());
        // The follower's row is put in last and taken out first: one that stands alone tells that
        // the authority's was lost.
        let mut held = row_of(&follower).await?;
        let led = row_of(&authority).await?;
        if held.is_none() && led.is_some() {
            // Another installer may have put in both between the two questions.
            held = row_of(&follower).await?;
        }
        for row in led.iter().chain(&held) {
            self.same_mapping(row.held)?;
        }
        match (led, held) {
            // Every start of an application comes here: it takes no lock that writers wait for.
            (Some(led), Some(held)) if led.epoch.base == held.epoch.base => {
                let bare = self.bare_tables().await?;
                if bare.is_empty() {
                    return Ok(());
                }
                let (entity, tables) = (&self.entity, bare.join(", "));
                tracing::warn!(%entity, tables, "triggers were gone or switched off: every key is copied again");
                Ok(raise_anew(&authority, &follower, self.patience).await?)
            }
            (_, Some(_)) => {
                let entity = &self.entity;
                tracing::warn!(%entity, "a side has lost what it held: every key is copied again");
                Ok(raise(&authority, &follower, self.patience).await?)
            }
            (led, None) => self.install_from(led.map(|row| row.epoch)).await,
        }
    }

    /// Installs where the new side has nothing.
    async fn install_from(&self, led: Option<Epoch>) -> Result<(), MigrationError> {
        let (authority, follower) = (self.authority_side(), self.follower_side());
        if let Some(table) = follower.occupied().await? {
            return Err(MigrationError::Occupied { table });
        }
        let unused = unused_base(&authority, &follower).await?;
        let base = led.map_or(unused, |epoch| epoch.base);
        authority
            .install(&authority.authority_script(base), base, self.patience)
            .await?;
        // Nothing is copied before the first move, and nobody moves before both sides stand. After
        // it, what was marked as synced is gone with the row.
        let lost = led.is_some_and(|epoch| !epoch.is_untouched() || epoch.base < unused);
        let follower_base = match lost {
            true => unused.max(Version(base.0 + Version::base(1).0)),
            false => base,
        };
        let done = follower
            .install(&follower.follower_script(), follower_base, self.patience)
            .await;
        if done.is_err() && led.is_none() && matches!(row_of(&follower).await, Ok(None)) {
            // Half an installation stamps every write for nobody; what another installer has
            // finished stays. An error here adds nothing to the one that the operator must act on:
            // installing again continues from any state.
            if let Err(error) = authority.take_back(base, self.patience).await {
                tracing::warn!(entity = %self.entity, %error, "the legacy side stays installed");
            }
        }
        done?;
        if lost {
            raise(&authority, &follower, self.patience).await?;
        }
        Ok(())
    }

    /// Takes triggers, tables and everything recorded out of both sides. Application data stays, and
    /// of `changeover_past` one row per side: the highest incarnation used there, above which a new
    /// installation begins. So no instance, copier or verify of the old one, however late, passes for
    /// one of the new.
    ///
    /// # Errors
    ///
    /// [`StoreError`] as the databases say. Calling again continues.
    pub async fn uninstall(&self) -> Result<(), MigrationError> {
        self.follower_side().uninstall(self.patience).await?;
        self.authority_side().uninstall(self.patience).await?;
        Ok(())
    }

    /// Makes the databases hold this process's mapping revision: copiers of an older one are
    /// refused from now on, and every key is copied again. No stamp is rewritten, and writers wait
    /// no longer than for an installation.
    ///
    /// # Errors
    ///
    /// [`StoreError::Revision`] when a newer revision is held. Calling again continues.
    pub async fn raise_revision(&self) -> Result<(), MigrationError> {
        let follower = self.follower_side();
        raise(&self.authority_side(), &follower, self.patience).await?;
        Ok(())
    }

    async fn row(&self) -> Result<Row, MigrationError> {
        row_of(&self.authority_side())
            .await?
            .ok_or_else(|| MigrationError::NotInstalled {
                entity: self.entity.clone(),
            })
    }

    fn same_mapping(&self, held: HeldMapping) -> Result<(), MigrationError> {
        let entity = || self.entity.clone();
        held.admits(self.mapping.shape())
            .map_err(|error| match error {
                StoreError::Revision { held, mine } => MigrationError::Revision {
                    entity: entity(),
                    held,
                    mine,
                },
                StoreError::Mapping {
                    revision,
                    held,
                    mine,
                } => MigrationError::Mapping {
                    entity: entity(),
                    revision,
                    held,
                    mine,
                },
                error => error.into(),
            })
    }

    /// The epoch row.
    ///
    /// # Errors
    ///
    /// [`MigrationError::NotInstalled`] when there is none.
    pub async fn epoch(&self) -> Result<Epoch, MigrationError> {
        Ok(self.row().await?.epoch)
    }

    /// The epoch row, if the databases hold this process's mapping.
    pub(crate) async fn epoch_of_mine(&self) -> Result<Epoch, MigrationError> {
        let row = self.row().await?;
        self.same_mapping(row.held)?;
        Ok(row.epoch)
    }

    /// Moves one step: `legacy` ↔ `dual-write`. Being there already is not an error.
    ///
    /// # Errors
    ///
    /// [`MigrationError::Illegal`] for every other move, [`MigrationError::Triggers`] where copying would
    /// begin while writes leave no stamp.
    pub async fn step(&self, to: Stage) -> Result<Epoch, MigrationError> {
        let from = self.epoch_of_mine().await?;
        let next = match from.step(to) {
            Ok(next) => next,
            Err(IllegalMove::AlreadyThere { .. }) => return Ok(from),
            Err(error) => return Err(error.into()),
        };
        if next.copying {
            self.triggers_stand().await?;
        }
        if self.home.replace(&from, &next).await? {
            Ok(next)
        } else {
            Err(MigrationError::Moved {
                entity: self.entity.clone(),
            })
        }
    }

    /// Stage `dual-write`: from now on writes are copied.
    ///
    /// # Errors
    ///
    /// As [`step`](Migration::step).
    pub async fn start_copying(&self) -> Result<Epoch, MigrationError> {
        self.step(Stage::DualWrite).await
    }

    /// Back to stage `legacy`: copying ends, stamping goes on.
    ///
    /// # Errors
    ///
    /// As [`step`](Migration::step).
    pub async fn stop_copying(&self) -> Result<Epoch, MigrationError> {
        self.step(Stage::Legacy).await
    }

    /// The sweep over history.
    #[must_use]
    pub fn backfill(&self, options: BackfillOptions) -> Backfill {
        Backfill::new(self.copier.clone(), options)
    }

    /// The loop over dirty keys.
    #[must_use]
    pub fn drain(&self, options: DrainOptions) -> Drain {
        Drain::new(self.copier.clone(), options)
    }

    /// Touch and copy.
    #[must_use]
    pub fn repair(&self, dry_run: bool) -> Repair {
        Repair::new(self.copier.clone(), dry_run)
    }
}
