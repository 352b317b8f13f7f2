//! SQL mutants on the real servers: each removes one thing that the protocol rests on from the
//! SQL that is shipped, and is found by the scenarios that pass without it.

use std::future::Future;

use changeover::flags::Key;
use changeover::worker::copy::CopySource;
use changeover::worker::migration::Migration;
use changeover::worker::store::{Applied, StoreError};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};

use crate::protocol::lifecycle::everywhere;
use crate::protocol::market::{MAPPING, Market, Plain, Topology, backfill, drain, verify};
use crate::protocol::plain::on_pool;

mod dialect;
mod mariadb;
mod rewrites;
mod sums;

use dialect::Rewrite;
use rewrites::*;

/// What is changed on (the legacy side, the new side).
type Rewrites = (Rewrite, Rewrite);

/// A marketplace whose migration sends changed SQL, with history copied.
async fn ready(topology: Topology, rewrite: Rewrites) -> (Market, Migration) {
    let market = Market::start(topology).await;
    market.fill(8).await;
    let migration = open(&market, rewrite, MAPPING).await;
    migration.install().await.unwrap();
    migration.start_copying().await.unwrap();
    backfill(&migration).await;
    (market, migration)
}

async fn open(market: &Market, rewrite: Rewrites, mapping: &str) -> Migration {
    Migration::open(
        Market::entity(),
        Market::mapping(mapping),
        dialect::database(&market.legacy_url, rewrite.0),
        dialect::database(&market.new_url, rewrite.1),
    )
    .await
    .unwrap()
}

/// The scenario holds with the shipped SQL and does not with the mutant's.
async fn found<F>(scenario: impl Fn(Rewrites) -> F, mutant: Rewrites)
where
    F: Future<Output = Result<(), String>>,
{
    assert_eq!(
        scenario((no_change, no_change)).await,
        Ok(()),
        "the shipped SQL must pass"
    );
    let verdict = scenario(mutant).await;
    assert!(verdict.is_err(), "the mutant was not found");
}

/// The base read from a table: a writer with an old snapshot stamps below the raised base.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_base_in_a_table_is_found() {
    async fn old_snapshot(rewrite: Rewrites) -> Result<(), String> {
        let (market, _) = ready(Topology::PostgresTwoDatabases, rewrite).await;
        let mut old = PgConnection::connect(&market.legacy_url).await.unwrap();
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            .await
            .unwrap();
        old.execute("SELECT count(*) FROM tenants").await.unwrap();
        let next = MAPPING.replace("revision = 1", "revision = 2");
        let migration = open(&market, rewrite, &next).await;
        migration.raise_revision().await.unwrap();
        backfill(&migration).await;
        drain(&migration).await;
        old.execute("UPDATE listings SET title = 'from the past' WHERE id = 5")
            .await
            .unwrap();
        old.execute("COMMIT").await.unwrap();
        agree(&market, &migration).await
    }
    found(old_snapshot, (base_in_a_table, no_change)).await;
}

/// A dependant born during its lookup's change, with nobody looking again after the commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lookup_that_is_not_looked_at_again_is_found() {
    async fn born_during(rewrite: Rewrites) -> Result<(), String> {
        let (market, migration) = ready(Topology::PostgresTwoDatabases, rewrite).await;
        let mut change = PgConnection::connect(&market.legacy_url).await.unwrap();
        change
            .execute("BEGIN; UPDATE tenants SET name = 'renamed' WHERE id = 1")
            .await
            .unwrap();
        market.legacy.run("INSERT INTO listings (id, tenant_id, title, status) VALUES (80, 1, 'born', 'ACTIVE')").await;
        drain(&migration).await;
        change.execute("COMMIT").await.unwrap();
        agree(&market, &migration).await
    }
    found(born_during, (not_looked_at_again, no_change)).await;
}

everywhere!(
    a_removed_fence_is_found,
    a_fence_for_equal_versions_is_found,
    a_fence_row_that_goes_with_its_row_is_found,
    a_mark_without_a_version_is_found,
    an_unchecked_revision_is_found,
    an_unchecked_fingerprint_is_found,
    a_missing_stamp_is_found,
    a_version_that_restarts_is_found,
    forgotten_stamps_below_the_base_are_found,
    a_base_that_is_settled_unseen_is_found,
    an_image_read_inside_the_write_is_found,
);

/// Both sides agree after a drain, by plain SQL and by verify.
async fn agree(market: &Market, migration: &Migration) -> Result<(), String> {
    drain(migration).await;
    let (legacy, new) = market.both().await;
    let dirty = market.dirty().await;
    let clean = verify(migration).await.clean();
    if legacy == new && dirty.is_empty() && clean {
        Ok(())
    } else {
        Err(format!(
            "equal {}, dirty {dirty:?}, clean {clean}",
            legacy == new
        ))
    }
}

/// Copies that arrive in the order `order` of the versions in which they were read.
async fn late_copies(topology: Topology, rewrite: Rewrites) -> Result<(), String> {
    let (market, migration) = ready(topology, rewrite).await;
    let (authority, follower) = (
        migration.copier().authority(),
        migration.copier().follower(),
    );
    let key: [Key; 1] = ["2".into()];
    market
        .legacy
        .run("UPDATE listings SET title = 'late' WHERE id = 2")
        .await;
    let late = authority.read(&key).await.unwrap();
    market
        .legacy
        .run("DELETE FROM photos WHERE listing_id = 2; DELETE FROM listings WHERE id = 2")
        .await;
    migration
        .copier()
        .copy(&key, CopySource::Inline)
        .await
        .unwrap();
    follower.apply(&late, None).await.unwrap();
    agree(&market, &migration).await?;
    // Twice the same copy: the second is stale.
    market
        .legacy
        .run("UPDATE listings SET title = 'twice' WHERE id = 3")
        .await;
    let twice = authority.read(&["3".into()]).await.unwrap();
    follower.apply(&twice, None).await.unwrap();
    let second = follower.apply(&twice, None).await.unwrap();
    if second == [Applied::Stale] {
        Ok(())
    } else {
        Err(format!("{second:?}"))
    }
}

async fn early_mark(topology: Topology, rewrite: Rewrites) -> Result<(), String> {
    let (market, migration) = ready(topology, rewrite).await;
    let copier = migration.copier();
    market
        .legacy
        .run("UPDATE listings SET title = 'one' WHERE id = 1")
        .await;
    let one = copier.authority().read(&["1".into()]).await.unwrap();
    copier.follower().apply(&one, None).await.unwrap();
    market
        .legacy
        .run("UPDATE listings SET title = 'two' WHERE id = 1")
        .await;
    copier
        .authority()
        .mark_synced(&[(one[0].key.clone(), one[0].version)])
        .await
        .unwrap();
    agree(&market, &migration).await
}

async fn old_revision(topology: Topology, rewrite: Rewrites) -> Result<(), String> {
    let (market, old) = ready(topology, rewrite).await;
    let next = MAPPING
        .replace("revision = 1", "revision = 2")
        .replace("\"l.title\"", "\"upper(l.title)\"");
    let new = open(&market, (no_change, no_change), &next).await;
    new.raise_revision().await.unwrap();
    market
        .legacy
        .run("UPDATE listings SET title = 'small' WHERE id = 1")
        .await;
    match old.copier().copy(&["1".into()], CopySource::Inline).await {
        Err(StoreError::Revision { .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

async fn another_mapping(topology: Topology, rewrite: Rewrites) -> Result<(), String> {
    let (market, _) = ready(topology, rewrite).await;
    let changed = MAPPING.replace("\"l.title\"", "\"upper(l.title)\"");
    let changed = open(&market, rewrite, &changed).await;
    match changed
        .copier()
        .copy(&["1".into()], CopySource::Inline)
        .await
    {
        Err(StoreError::Mapping { .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// A key that is gone when the base is raised: no sweep passes it.
async fn gone_before_a_raise(topology: Topology, rewrite: Rewrites) -> Result<(), String> {
    let (market, old) = ready(topology, rewrite).await;
    market.legacy.run("DELETE FROM listings WHERE id = 3").await;
    drain(&old).await;
    let next = MAPPING.replace("revision = 1", "revision = 2");
    let new = open(&market, rewrite, &next).await;
    new.raise_revision().await.unwrap();
    backfill(&new).await;
    agree(&market, &new).await?;
    let versions = (
        new.copier().authority().versions(&["3".into()]).await,
        new.copier().follower().versions(&["3".into()]).await,
    );
    match versions {
        (Ok(authority), Ok(follower)) if follower == [Some(authority[0])] => Ok(()),
        versions => Err(format!("{versions:?}")),
    }
}

async fn a_delete(topology: Topology, rewrite: Rewrites) -> Result<(), String> {
    let (market, migration) = ready(topology, rewrite).await;
    market.legacy.run("DELETE FROM listings WHERE id = 1").await;
    agree(&market, &migration).await
}

async fn many_writes(topology: Topology, rewrite: Rewrites) -> Result<(), String> {
    let (market, migration) = ready(topology, rewrite).await;
    for n in 0..3 {
        market
            .legacy
            .run(&format!("UPDATE listings SET title = 'n{n}' WHERE id = 1"))
            .await;
        drain(&migration).await;
    }
    agree(&market, &migration).await
}

/// A copy is read while a write is open that then rolls back; the next write takes the same
/// version. That a write which commits can have no other one between its stamp and its commit is
/// shown by `isolation::a_stamped_key_is_its_writers_until_the_commit`.
async fn rolled_back(topology: Topology, rewrite: Rewrites) -> Result<(), String> {
    let (market, migration) = ready(topology, (no_change, no_change)).await;
    let copier = open(&market, rewrite, MAPPING).await;
    let copier = copier.copier();
    let key: [Key; 1] = ["1".into()];
    let read = async || copier.authority().read(&key).await.unwrap();
    let copy = match &market.legacy {
        // The mutant's read is the writer itself, and would wait for another one.
        _ if (rewrite.0)("COMMIT") == "ROLLBACK" => read().await,
        plain => on_pool!(plain, |pool| {
            let mut writer = pool.begin().await.unwrap();
            sqlx::query(WRITE).execute(&mut *writer).await.unwrap();
            let copy = read().await;
            writer.rollback().await.unwrap();
            copy
        }),
    };
    copier.follower().apply(&copy, None).await.unwrap();
    market
        .legacy
        .run("UPDATE listings SET title = 'happened' WHERE id = 1")
        .await;
    agree(&market, &migration).await
}

mod scenario {
    use super::*;

    pub(super) async fn an_image_read_inside_the_write_is_found(topology: Topology) {
        found(
            |rewrite| rolled_back(topology, rewrite),
            (read_inside_the_write, no_change),
        )
        .await;
    }

    pub(super) async fn a_removed_fence_is_found(topology: Topology) {
        found(
            |rewrite| late_copies(topology, rewrite),
            (no_change, fence_removed),
        )
        .await;
    }

    pub(super) async fn a_fence_for_equal_versions_is_found(topology: Topology) {
        found(
            |rewrite| late_copies(topology, rewrite),
            (no_change, fence_takes_equal_versions),
        )
        .await;
    }

    pub(super) async fn a_fence_row_that_goes_with_its_row_is_found(topology: Topology) {
        found(
            |rewrite| late_copies(topology, rewrite),
            (no_change, fence_row_deleted_with_its_row),
        )
        .await;
    }

    pub(super) async fn a_mark_without_a_version_is_found(topology: Topology) {
        found(
            |rewrite| early_mark(topology, rewrite),
            (mark_without_version, mark_without_version),
        )
        .await;
    }

    pub(super) async fn an_unchecked_revision_is_found(topology: Topology) {
        found(
            |rewrite| old_revision(topology, rewrite),
            (revision_not_checked, revision_not_checked),
        )
        .await;
    }

    pub(super) async fn an_unchecked_fingerprint_is_found(topology: Topology) {
        found(
            |rewrite| another_mapping(topology, rewrite),
            (fingerprint_not_checked, fingerprint_not_checked),
        )
        .await;
    }

    pub(super) async fn a_missing_stamp_is_found(topology: Topology) {
        found(
            |rewrite| a_delete(topology, rewrite),
            (stamp_dropped, stamp_dropped),
        )
        .await;
    }

    pub(super) async fn forgotten_stamps_below_the_base_are_found(topology: Topology) {
        found(
            |rewrite| gone_before_a_raise(topology, rewrite),
            (stamps_below_the_base_forgotten, no_change),
        )
        .await;
    }

    pub(super) async fn a_base_that_is_settled_unseen_is_found(topology: Topology) {
        found(
            |rewrite| gone_before_a_raise(topology, rewrite),
            (settled_without_looking, no_change),
        )
        .await;
    }

    pub(super) async fn a_version_that_restarts_is_found(topology: Topology) {
        found(
            |rewrite| many_writes(topology, rewrite),
            (version_restarts, version_restarts),
        )
        .await;
    }
}
