//! What the databases, or this process, know about versions, asked after a look.

use std::collections::BTreeMap;

use changeover_flags::{Key, Role, Version};
use changeover_shadow::{ListDiff, ListLook};

use crate::call::{Operation, Touched};
use crate::desk::Desk;
use crate::port::{BoxError, NotKept};

/// The databases keep versions and did not tell them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Untold;

/// The versions on the authority and on the follower, if any are kept. For a list, which has none,
/// whether anything is dirty: the follower is then said to be behind.
pub(super) async fn versions(
    desk: &Desk,
    operation: &Operation,
) -> Result<Option<(i64, i64)>, Untold> {
    let [key] = operation.touched.as_keys() else {
        let dirty = desk.ask_aside(|versions| versions.any_dirty());
        return kept(dirty.await.map(|dirty| (i64::from(dirty), 0)));
    };
    let held = held(desk, vec![key.clone()]).await?;
    Ok(held.and_then(|held| held.first().copied()))
}

/// A look at a list, with what is known of the keys that differ. Where no versions are kept, pins
/// alone say what is in motion.
pub(super) async fn motion(
    desk: &Desk,
    operation: &Operation,
    found: ListDiff,
) -> (ListLook, Result<(), Untold>) {
    let keys: Vec<Key> = found
        .elements
        .keys()
        .map(|key| key.as_str().into())
        .collect();
    let mut look = ListLook {
        found,
        versions: BTreeMap::new(),
        quiet: false,
    };
    let held = match held(desk, keys.clone()).await {
        Ok(held) => held.unwrap_or_else(|| vec![(0, 0); keys.len()]),
        Err(untold) => return (look, Err(untold)),
    };
    let dirty = desk.ask_aside(|versions| versions.any_dirty());
    let dirty = match kept(dirty.await) {
        Ok(dirty) => dirty.unwrap_or(false),
        Err(untold) => return (look, Err(untold)),
    };
    let pinned = |touched: &Touched| desk.pins.holds(touched, operation.routing.as_deref());
    look.quiet = !dirty && !pinned(&Touched::None);
    let told = keys.into_iter().zip(held);
    // A pinned key is not told: it is in motion.
    let told = told.filter(|(key, _)| !pinned(&Touched::Key(key.clone())));
    look.versions = told
        .map(|(key, held)| (key.as_str().to_owned(), held))
        .collect();
    (look, Ok(()))
}

/// Authority and follower, for each key.
async fn held(desk: &Desk, keys: Vec<Key>) -> Result<Option<Vec<(i64, i64)>>, Untold> {
    if keys.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let ask = async |role: Role| {
        let asked = keys.clone();
        let held = desk.ask_aside(|versions| versions.held(role, asked));
        match kept(held.await)? {
            Some(held) if held.len() != keys.len() => Err(Untold),
            held => Ok(held),
        }
    };
    // The follower first: a copy between the two questions must not make it look ahead.
    let Some(follower) = ask(Role::Follower).await? else {
        return Ok(None);
    };
    let authority = ask(Role::Authority).await?;
    Ok(authority.map(|authority| {
        // A key that may still come is behind whatever the authority holds.
        let number = |version: Option<Version>| version.map_or(-1, |version| version.0);
        let both = authority.into_iter().zip(follower);
        both.map(|(authority, follower)| (number(authority), number(follower)))
            .collect()
    }))
}

fn kept<T>(told: Result<T, BoxError>) -> Result<Option<T>, Untold> {
    match told {
        Ok(told) => Ok(Some(told)),
        Err(error) if error.is::<NotKept>() => Ok(None),
        Err(_) => Err(Untold),
    }
}
