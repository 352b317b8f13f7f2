//! Pages of many keys, and pages and keys with more rows than one statement of SQLite can bind.

use changeover::flags::{Key, Version};
use changeover::worker::store::Stamped;
use changeover::worker::sum::Span;

use super::lifecycle::{everywhere, within_mariadb};
use super::market::{Market, Topology, backfill, drain, verify};
use super::stock::Stock;

everywhere!(a_large_page_has_the_versions_of_small_ones);
within_mariadb!(a_large_page_has_the_versions_of_small_ones);

mod scenario {
    use super::*;

    /// Whether few of its keys were ever stamped, or most.
    pub(super) async fn a_large_page_has_the_versions_of_small_ones(topology: Topology) {
        const KEYS: u32 = 600;
        let stock = Stock::start(topology).await;
        stock.fill(KEYS.into()).await;
        let migration = stock.copying().await;
        let authority = migration.copier().authority();
        for (condition, stamped) in [("id % 100 = 7", 6), ("id < 500", 500)] {
            let write = format!("UPDATE things SET num = num + 1 WHERE {condition}");
            stock.market.legacy.run(&write).await;
            let page = authority.page(&Span::default(), KEYS).await.unwrap();
            let keys: Vec<Key> = page.stamped.iter().map(|one| one.key.clone()).collect();
            let found: Vec<Version> = page.stamped.iter().map(|one| one.version).collect();
            let mut expected = Vec::new();
            for keys in keys.chunks(50) {
                expected.extend(authority.versions(keys).await.unwrap());
            }
            assert_eq!(found, expected, "{topology:?}");
            let base = found.iter().min();
            let above = |one: &&Stamped| Some(&one.version) > base;
            assert_eq!(page.stamped.iter().filter(above).count(), stamped);
        }
    }
}

const PHOTOS: &str = "INSERT INTO photos
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < 40000)
SELECT 100000 + i, 1 + i % 4, 'u' || i FROM n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_with_more_rows_than_can_be_bound_is_halved() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    market.fill(5).await;
    market.legacy.run(PHOTOS).await;
    let migration = market.installed().await;
    backfill(&migration).await;
    let agree = async || {
        let (legacy, new) = market.both().await;
        legacy.len() > 40_000 && legacy == new
    };
    assert!(agree().await);
    assert_eq!(market.dirty().await, Vec::<String>::new());
    // All of them in one key: it cannot be halved. It is held, says why, and holds up nobody.
    market
        .legacy
        .run("UPDATE photos SET listing_id = 1; UPDATE listings SET title = 'x' WHERE id = 5")
        .await;
    drain(&migration).await;
    let dirty = market.dirty().await;
    assert!(
        dirty.len() == 1 && dirty[0].starts_with("1 blocked the key has more rows than"),
        "{dirty:?}"
    );
    market
        .legacy
        .run("UPDATE photos SET listing_id = 1 + id % 4")
        .await;
    drain(&migration).await;
    assert!(agree().await);
    assert!(verify(&migration).await.clean());
}
