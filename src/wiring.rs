//! Where the layers meet the worker: the proxy's ports answered by a [`Migration`].
//!
//! `proxy` knows no SQL and `sync-worker` knows no Tower; this module is the only place that knows
//! both. [`Wiring`] is what an application asks for: it hands the layer's builder its two ports
//! and keeps the process's [`Flags`] in step with the epoch row.

use std::sync::Arc;
use std::time::Duration;

use changeover_flags::{Flags, Key, Role, Version};
use changeover_proxy::{BoxError, Copied, CopyKeys, FencedCopy, Versions};
use changeover_sync_worker::copy::{Copier, CopySource};
use changeover_sync_worker::migration::{Migration, MigrationError};
use futures_util::future::BoxFuture;

/// One migration as the layers see it. A clone shares everything.
#[derive(Debug, Clone)]
pub struct Wiring {
    migration: Migration,
    flags: Flags,
}

impl Wiring {
    /// How often [`watch`](Wiring::watch) asks for the epoch row unless told otherwise.
    pub const WATCH_EVERY: Duration = Duration::from_secs(1);

    /// Joins a migration and the flags of its entity, and learns the stage once.
    ///
    /// # Errors
    ///
    /// [`MigrationError`] when the stage cannot be learnt and the flags do not know one either.
    pub async fn new(migration: Migration, flags: Flags) -> Result<Wiring, MigrationError> {
        let wiring = Wiring { migration, flags };
        match wiring.learn().await {
            Err(error) if !wiring.flags.load().known => Err(error),
            _ => Ok(wiring),
        }
    }

    /// The migration.
    #[must_use]
    pub fn migration(&self) -> &Migration {
        &self.migration
    }

    /// The flags.
    #[must_use]
    pub fn flags(&self) -> &Flags {
        &self.flags
    }

    /// The follower write for the layer's builder: the fenced copy.
    #[must_use]
    pub fn follow(&self) -> FencedCopy<Copies> {
        FencedCopy::new(Copies(self.migration.copier().clone()))
    }

    /// What the databases know about versions, for the layer's builder.
    #[must_use]
    pub fn versions(&self) -> KnownVersions {
        KnownVersions(self.migration.copier().clone())
    }

    /// Asks for the epoch row once.
    ///
    /// # Errors
    ///
    /// [`MigrationError`] when the database does not answer or the entity is not installed: the
    /// flags keep what they knew.
    pub async fn learn(&self) -> Result<(), MigrationError> {
        let epoch = self.migration.epoch().await?;
        if let Err(error) = self.flags.learn(&epoch) {
            tracing::warn!(%error, "the stage is in force but could not be kept for a restart");
        }
        Ok(())
    }

    /// Asks for the epoch row again and again, until dropped. A database that does not answer
    /// changes nothing: the last known state stands.
    pub async fn watch(&self, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            if let Err(error) = self.learn().await {
                tracing::warn!(%error, "the stage could not be asked for, the last known one stands");
            }
        }
    }
}

/// The worker's copy as the proxy's port.
#[derive(Debug, Clone)]
pub struct Copies(Copier);

impl CopyKeys for Copies {
    fn copy(&self, keys: Vec<Key>) -> BoxFuture<'static, Result<Copied, BoxError>> {
        let copier = self.0.clone();
        Box::pin(async move {
            let report = copier.copy(&keys, CopySource::Inline).await?;
            Ok(Copied {
                applied: report.applied + report.stale,
                left: report.left,
            })
        })
    }
}

/// The worker's two databases as the proxy's port.
#[derive(Debug, Clone)]
pub struct KnownVersions(Copier);

impl Versions for KnownVersions {
    fn dirty(&self, keys: Vec<Key>) -> BoxFuture<'static, Result<Vec<Key>, BoxError>> {
        let authority = Arc::clone(self.0.authority());
        Box::pin(async move { Ok(authority.dirty_among(&keys).await?) })
    }

    fn any_dirty(&self) -> BoxFuture<'static, Result<bool, BoxError>> {
        let authority = Arc::clone(self.0.authority());
        Box::pin(async move { Ok(!authority.dirty(None, 1).await?.is_empty()) })
    }

    fn held(
        &self,
        role: Role,
        keys: Vec<Key>,
    ) -> BoxFuture<'static, Result<Vec<Version>, BoxError>> {
        let copier = self.0.clone();
        Box::pin(async move {
            Ok(match role {
                Role::Authority => copier.authority().versions(&keys).await?,
                Role::Follower => copier
                    .follower()
                    .versions(&keys)
                    .await?
                    .into_iter()
                    .map(Option::unwrap_or_default)
                    .collect(),
            })
        })
    }

    fn dirty_keys(&self, limit: usize) -> BoxFuture<'static, Result<Option<Vec<Key>>, BoxError>> {
        let authority = Arc::clone(self.0.authority());
        let asked = u32::try_from(limit).unwrap_or(u32::MAX).saturating_add(1);
        Box::pin(async move {
            let dirty = authority.dirty(None, asked).await?;
            Ok((dirty.len() <= limit).then(|| dirty.into_iter().map(|one| one.key).collect()))
        })
    }
}
