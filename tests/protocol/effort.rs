//! What a copy costs the servers, counted by themselves in rows, never in time.

use changeover::flags::Key;
use changeover::worker::copy::CopySource;

use super::market::{Market, Topology, backfill};

/// No statistics were ever taken of the authority's keys: the planner takes an entity for one row.
/// A copy of one key must look that key up all the same, and not walk through all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_one_key_does_not_read_the_others() {
    const KEYS: u64 = 1_500;
    const COPIES: u64 = 20;
    let market = Market::start(Topology::PostgresTwoDatabases).await;
    market.fill(KEYS as u32).await;
    let migration = market.installed().await;
    market
        .legacy
        .run("ALTER TABLE changeover_key SET (autovacuum_enabled = false)")
        .await;
    backfill(&migration).await;
    market
        .legacy
        .run("UPDATE listings SET title = 'stamped'")
        .await;
    drop(migration);
    let before = read(&market).await;
    let migration = market.open().await;
    for id in 1..=COPIES {
        let keys = [Key::from(id as i64)];
        let report = migration
            .copier()
            .copy(&keys, CopySource::Inline)
            .await
            .unwrap();
        assert_eq!((report.applied, report.unmarked), (1, 0));
    }
    drop(migration);
    let each = (read(&market).await - before) / COPIES;
    assert!(each > 0, "nothing was counted");
    assert!(each < KEYS / 50, "{each} of {KEYS} keys for each copy");
}

/// How many rows of the authority's keys were read so far. A server counts what a session did when
/// the session has ended.
async fn read(market: &Market) -> u64 {
    let others = "SELECT CAST(count(*) AS text) FROM pg_stat_activity \
                  WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'changeover'";
    while market.legacy.text(others).await != "0" {
        tokio::task::yield_now().await;
    }
    let read = "SELECT CAST(seq_tup_read + coalesce(idx_tup_fetch, 0) AS text) FROM pg_stat_user_tables \
                WHERE relname = 'changeover_key'";
    market.legacy.text(read).await.parse().unwrap()
}
