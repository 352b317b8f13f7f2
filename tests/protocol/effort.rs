//! What a copy costs the servers, counted by themselves in rows, never in time.

use changeover::flags::Key;
use changeover::worker::copy::CopySource;
use changeover::worker::sum::Span;

use super::market::{Market, Topology, backfill};

/// No statistics were ever taken of the authority's keys: the planner takes an entity for one row.
/// A copy must look its keys up all the same, and not walk through all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_one_key_does_not_read_the_others() {
    let each = read_by_a_copy_of(1, 20).await;
    assert!(each < KEYS / 50, "{each} of {KEYS} keys for each copy");
}

/// The same of a drain's page, whose keys a join would hold against all others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_some_keys_does_not_read_the_others() {
    let each = read_by_a_copy_of(40, 3).await;
    assert!(each < KEYS / 5, "{each} of {KEYS} keys for each copy of 40");
}

const KEYS: u64 = 1_500;

/// How many rows of the authority's keys one copy of so many of them reads.
async fn read_by_a_copy_of(some: u64, copies: u64) -> u64 {
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
    for copy in 0..copies {
        let keys: Vec<Key> = (1..=some)
            .map(|n| Key::from((copy * some + n) as i64))
            .collect();
        let report = migration
            .copier()
            .copy(&keys, CopySource::Inline)
            .await
            .unwrap();
        assert_eq!((report.applied as u64, report.unmarked), (some, 0));
    }
    drop(migration);
    let each = (read(&market).await - before) / copies;
    assert!(each > 0, "nothing was counted");
    each
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

/// By a comparison of rows alone, each page of composite keys would read all that lie before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_composite_keys_reads_no_other() {
    let (_server, market) = super::mariadb::apart().await;
    let table =
        "CREATE TABLE pairs (a bigint NOT NULL, b bigint NOT NULL, v text, PRIMARY KEY (a, b))";
    market.legacy.run(table).await;
    market.new.run(table).await;
    let rows = "INSERT INTO pairs SELECT seq, seq, 'v' FROM seq_1_to_5000; ANALYZE TABLE pairs";
    market.legacy.run(rows).await;
    let mapping = r#"
        revision = 1
        root = { table = "pairs", key = ["a", "b"] }
        [[target]]
        table = "pairs"
        owned_by = { key = ["a", "b"] }
        identity = ["a", "b"]
        columns = { a = "a", b = "b", v = "v" }
    "#;
    let migration = market.installed_with(mapping).await;
    let read = "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'HANDLER_READ_NEXT'";
    let read = async || market.legacy.text(read).await.parse::<u64>().unwrap();
    let (copier, before) = (migration.copier(), read().await);
    let span = Span::above(Some(Key::composite(["4900", "4900"])));
    let keys = copier.authority().keys(&span, 10).await.unwrap();
    assert_eq!(keys.first(), Some(&Key::composite(["4901", "4901"])));
    assert_eq!(keys.len(), 10);
    let read = read().await - before;
    assert!(read < 1_000, "{read} entries of an index for 10 keys");
}
