//! The same on MariaDB, whose fence, snapshots and triggers are statements of their own.

use std::time::{Duration, Instant};

use changeover::flags::Key;
use sqlx::Executor as _;

use super::rewrites::*;
use super::{Rewrites, agree, found, late_copies, open, ready};
use crate::protocol::market::{MAPPING, Plain, Topology, backfill, drain};

const TOPOLOGY: Topology = Topology::MariadbTwoDatabases;

/// MariaDB has statements of its own for these.
macro_rules! on_mariadb {
    ($($name:ident),* $(,)?) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() { super::scenario::$name(TOPOLOGY).await }
    )* };
}

on_mariadb!(
    a_removed_fence_is_found,
    a_fence_for_equal_versions_is_found,
    a_fence_row_that_goes_with_its_row_is_found,
    a_mark_without_a_version_is_found,
    a_missing_stamp_is_found,
    a_version_that_restarts_is_found,
    an_image_read_inside_the_write_is_found,
);

/// How many sleep in the database, while they are asked for a version.
const ASLEEP: &str = "SELECT count(*) || '' FROM information_schema.processlist \
    WHERE db = database() AND state = 'User sleep'";

/// A write between MariaDB's reads of a version and of its image.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_is_newer_than_its_version_is_found() {
    async fn write_between(rewrite: Rewrites) -> Result<(), String> {
        let (market, migration) = ready(TOPOLOGY, (no_change, no_change)).await;
        let write = async |title: &str| {
            let sql = format!("UPDATE listings SET title = '{title}' WHERE id = 1");
            market.legacy.run(&sql).await;
        };
        write("before").await;
        let slow = open(&market, rewrite, MAPPING).await;
        let began = Instant::now();
        let key: [Key; 1] = ["1".into()];
        let (copy, ()) = tokio::join!(slow.copier().authority().read(&key), async {
            while market.legacy.text(ASLEEP).await == "0" {
                assert!(began.elapsed() < Duration::from_secs(30), "it never slept");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            write("after").await;
        });
        assert!(began.elapsed() > Duration::from_secs(3), "it was not slow");
        let follower = migration.copier().follower();
        follower.apply(&copy.unwrap(), None).await.unwrap();
        let title = "SELECT title FROM service_listings WHERE legacy_id = 1";
        let title = market.new.text(title).await;
        let dirty = market.dirty().await;
        if title != "before" || dirty.len() != 1 {
            return Err(format!(
                "the version of before stands with {title:?}, {dirty:?}"
            ));
        }
        agree(&market, &migration).await
    }
    let shipped = write_between((slow_versions, no_change)).await;
    assert_eq!(shipped, Ok(()), "the shipped SQL must pass");
    let mutant = write_between((slow_versions_without_a_snapshot, no_change)).await;
    assert!(mutant.is_err(), "the mutant was not found");
}

/// The rows are locked and asked for, and none is raised.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_that_is_not_raised_is_found() {
    found(
        |rewrite| late_copies(TOPOLOGY, rewrite),
        (no_change, fence_not_raised),
    )
    .await;
}

/// A writer whose snapshot is older than a raise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_base_of_the_snapshot_is_found() {
    found(old_snapshot, (base_of_the_snapshot, no_change)).await;
}

/// A transaction that has read before the base is raised, and writes after it.
async fn old_snapshot(rewrite: Rewrites) -> Result<(), String> {
    let (market, _) = ready(TOPOLOGY, rewrite).await;
    let Plain::Mariadb(pool) = &market.legacy else {
        panic!("not MariaDB");
    };
    // It reads no table: the raise's new triggers would wait for that.
    let mut old = pool.acquire().await.unwrap();
    let begin = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION WITH CONSISTENT SNAPSHOT";
    old.execute(sqlx::raw_sql(begin)).await.unwrap();
    let next = MAPPING.replace("revision = 1", "revision = 2");
    let migration = open(&market, rewrite, &next).await;
    migration.raise_revision().await.unwrap();
    backfill(&migration).await;
    drain(&migration).await;
    old.execute("UPDATE listings SET title = 'from the past' WHERE id = 5")
        .await
        .map_err(|error| error.to_string())?;
    old.execute("COMMIT").await.unwrap();
    agree(&market, &migration).await
}
