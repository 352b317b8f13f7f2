//! PostgreSQL's partitioned tables as sources: writes are stamped in every partition, and rows that
//! come and go with a whole partition, which fires no trigger, are found by the next verify.

use changeover::flags::Key;
use changeover::worker::migration::Migration;
use changeover::worker::verify::{Class, VerifyReport};

use super::market::{Market, Topology, backfill, drain, verify};
use super::races::settle;

const PARTITIONED: &str = "
DROP TABLE listings; DROP TABLE photos; CREATE SEQUENCE ids;
CREATE TABLE listings (
  id bigint NOT NULL DEFAULT nextval('ids') PRIMARY KEY, tenant_id bigint NOT NULL, title text,
  status text NOT NULL, house text, price decimal(12,2), stock bigint NOT NULL DEFAULT 0, sku text)
  PARTITION BY RANGE (id);
CREATE TABLE listings_low PARTITION OF listings FOR VALUES FROM (0) TO (10);
CREATE TABLE listings_mid PARTITION OF listings FOR VALUES FROM (10) TO (20);
CREATE TABLE listings_high PARTITION OF listings FOR VALUES FROM (20) TO (1000);
CREATE TABLE photos (id bigint NOT NULL, listing_id bigint NOT NULL, url text NOT NULL) PARTITION BY RANGE (listing_id);
CREATE TABLE photos_low PARTITION OF photos FOR VALUES FROM (0) TO (10);
CREATE TABLE photos_high PARTITION OF photos FOR VALUES FROM (10) TO (1000);";

async fn ready(topology: Topology) -> (Market, Migration) {
    let market = Market::start(topology).await;
    market.legacy.run(PARTITIONED).await;
    market.fill(30).await;
    let migration = market.installed().await;
    backfill(&migration).await;
    settle(&market, &migration).await;
    (market, migration)
}

/// Everything that a verify found, mended by a repair of these keys.
async fn found_and_mended(market: &Market, migration: &Migration, keys: &[u32], classes: &[Class]) {
    assert_eq!(
        market.dirty().await,
        Vec::<String>::new(),
        "no trigger fires"
    );
    let report: VerifyReport = verify(migration).await;
    assert!(!report.clean(), "{report:?}");
    let differing = report.compared - report.count(Class::Equal);
    let of_class: u64 = classes.iter().map(|class| report.count(*class)).sum();
    let all = keys.len() as u64;
    assert_eq!((of_class, differing), (all, all), "{report:?}");
    let found: Vec<Key> = report
        .samples
        .iter()
        .map(|sample| Key::from(sample.key.as_str()))
        .collect();
    let mut expected: Vec<Key> = keys
        .iter()
        .map(|key| Key::from(key.to_string().as_str()))
        .collect();
    expected.sort();
    let mut sorted = found.clone();
    sorted.sort();
    assert_eq!(sorted, expected);
    migration.repair(false).run(&found).await.unwrap();
    settle(market, migration).await;
}

async fn whole_partitions(topology: Topology) {
    let (market, migration) = ready(topology).await;
    for sql in [
        "UPDATE listings SET title = 'changed' WHERE id IN (3, 13, 23)",
        "UPDATE listings SET id = 500 WHERE id = 5",
        "INSERT INTO listings_mid (id, tenant_id, status) SELECT 11, 1, 'SOLD' WHERE false; UPDATE listings_mid SET title = 'direct' WHERE id = 14",
        "DELETE FROM listings WHERE id IN (6, 7, 26)",
    ] {
        market.legacy.run(sql).await;
        assert_ne!(
            market.dirty().await,
            Vec::<String>::new(),
            "{sql} left no stamp"
        );
        drain(&migration).await;
        settle(&market, &migration).await;
    }
    // Rows with photos elsewhere would be orphans: those go first.
    market
        .legacy
        .run("DELETE FROM photos WHERE listing_id >= 10")
        .await;
    settle(&market, &migration).await;
    let mid = [10, 11, 12, 13, 14, 15, 16, 17, 18, 19];
    market
        .legacy
        .run("ALTER TABLE listings DETACH PARTITION listings_mid")
        .await;
    found_and_mended(&market, &migration, &mid, &[Class::Extra]).await;
    market
        .legacy
        .run("ALTER TABLE listings ATTACH PARTITION listings_mid FOR VALUES FROM (10) TO (20)")
        .await;
    // What was shared of them stands there still.
    found_and_mended(
        &market,
        &migration,
        &mid,
        &[Class::Missing, Class::Divergent],
    )
    .await;
    let truncated = market.legacy.try_run("TRUNCATE listings").await;
    assert!(truncated.is_err(), "the whole table is guarded");
    market.legacy.run("TRUNCATE listings_mid").await;
    found_and_mended(&market, &migration, &mid, &[Class::Extra]).await;
    market
        .legacy
        .run("ALTER TABLE photos DETACH PARTITION photos_low")
        .await;
    found_and_mended(&market, &migration, &[4, 8], &[Class::Divergent]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_partitions_of_two_databases() {
    whole_partitions(Topology::PostgresTwoDatabases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_partitions_of_one_database() {
    whole_partitions(Topology::PostgresOneDatabase).await;
}
