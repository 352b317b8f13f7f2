//! The proxy's ports, answered by the worker's copy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use changeover_flags::{Key, Role, Version};
use changeover_proxy::{BoxError, Copied, CopyKeys, Versions};
use changeover_sync_worker::copy::{Copier, CopySource, Together};
use changeover_sync_worker::store::StoreError;
use futures_util::future::BoxFuture;

/// The worker's copy as the proxy's port: of all writes that end at about the same time together.
#[derive(Debug, Clone)]
pub struct Copies(Together);

impl Copies {
    pub(super) fn new(copier: Copier) -> Copies {
        Copies(Together::new(copier, CopySource::Inline))
    }
}

impl CopyKeys for Copies {
    fn copy(&self, keys: Vec<Key>) -> BoxFuture<'static, Result<Copied, BoxError>> {
        let copies = self.0.clone();
        Box::pin(async move {
            let left = copies.copy(&keys).await?;
            let asked: BTreeSet<&Key> = keys.iter().collect();
            Ok(Copied {
                applied: asked.len().saturating_sub(left.len()),
                left,
            })
        })
    }
}

/// The worker's two databases as the proxy's port.
#[derive(Debug, Clone)]
pub struct KnownVersions(Copier);

impl KnownVersions {
    pub(super) fn new(copier: Copier) -> KnownVersions {
        KnownVersions(copier)
    }
}

impl Versions for KnownVersions {
    fn canonical(&self, key: &Key) -> Key {
        self.0.authority().canonical(key)
    }

    fn dirty(&self, keys: Vec<Key>) -> BoxFuture<'static, Result<Vec<Key>, BoxError>> {
        let authority = Arc::clone(self.0.authority());
        Box::pin(async move { Ok(authority.dirty_among(&keys).await?.into_keys().collect()) })
    }

    fn any_dirty(&self) -> BoxFuture<'static, Result<bool, BoxError>> {
        let copier = self.0.clone();
        Box::pin(async move {
            let dirty = copier.authority().lag().await?.dirty > 0;
            Ok(dirty || !copier.follower().cursor().await?.done)
        })
    }

    fn held(
        &self,
        role: Role,
        keys: Vec<Key>,
    ) -> BoxFuture<'static, Result<Vec<Option<Version>>, BoxError>> {
        let copier = self.0.clone();
        Box::pin(async move {
            Ok(match role {
                Role::Authority => {
                    let held = copier.authority().versions(&keys).await?;
                    held.into_iter().map(Some).collect()
                }
                Role::Follower => held_by_follower(&copier, &keys).await?,
            })
        })
    }

    fn dirty_keys(&self, limit: usize) -> BoxFuture<'static, Result<Option<Vec<Key>>, BoxError>> {
        let authority = Arc::clone(self.0.authority());
        let asked = u32::try_from(limit).unwrap_or(u32::MAX).saturating_add(1);
        Box::pin(async move {
            let dirty = authority.dirty(None, asked).await?;
            // Where more are counted than listed, the keys that depend on a changed lookup are not
            // known one by one yet.
            let counted = authority.lag().await?.dirty;
            let all = dirty.len() <= limit && counted <= dirty.len() as u64;
            Ok(all.then(|| dirty.into_iter().map(|one| one.key).collect()))
        })
    }
}

/// The follower's versions. A key that never came is told at the authority's once the backfill has
/// passed it and nothing says that it is dirty.
async fn held_by_follower(
    copier: &Copier,
    keys: &[Key],
) -> Result<Vec<Option<Version>>, StoreError> {
    let mut held = copier.follower().versions(keys).await?;
    let never: Vec<Key> = keys
        .iter()
        .zip(&held)
        .filter(|(_, held)| held.is_none())
        .map(|(key, _)| key.clone())
        .collect();
    if never.is_empty() || !copier.follower().cursor().await?.done {
        return Ok(held);
    }
    let dirty = copier.authority().dirty_among(&never).await?;
    let versions = copier.authority().versions(&never).await?;
    let due: BTreeMap<Key, Version> = never
        .into_iter()
        .zip(versions)
        .filter(|(key, _)| !dirty.contains_key(key))
        .collect();
    for (key, held) in keys.iter().zip(&mut held) {
        *held = held.or_else(|| due.get(key).copied());
    }
    Ok(held)
}
