//! Pages and keys with more rows than one statement of SQLite can bind.

use super::market::{Market, Topology, backfill, drain, verify};

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
