//! Writes that bypass the application, by plain SQL, on both sides.

use super::lifecycle::everywhere_and_on_pairs;
use super::market::{Market, Topology, backfill, drain, verify};
use super::stock::Stock;
use changeover::flags::Key;
use changeover::worker::verify::Class;

everywhere_and_on_pairs!(
    a_follower_that_is_ahead_is_never_called_synced,
    a_new_side_that_was_lost_is_filled_again,
    the_follower_refuses_all_but_copies,
    a_forced_difference_is_known
);

/// Neither an insert that adds no row, nor rows that come through another table's statement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_to_insert_is_refused() {
    let stock = Stock::start(Topology::PostgresTwoDatabases).await;
    stock.fill(3).await;
    let migration = stock.ready().await;
    let new = &stock.market.new;
    new.run(
        "CREATE TABLE whole (LIKE good_tags INCLUDING ALL) PARTITION BY RANGE (thing_id);
         ALTER TABLE whole ATTACH PARTITION good_tags FOR VALUES FROM (0) TO (100)",
    )
    .await;
    for sql in [
        "INSERT INTO good_tags VALUES (9, 1, 'x')",
        "INSERT INTO good_tags VALUES (1, 1, 'x') ON CONFLICT DO NOTHING",
        "INSERT INTO good_tags VALUES (1, 1, 'x') ON CONFLICT (thing_id, position) DO UPDATE SET tag = 'x'",
        "INSERT INTO whole VALUES (9, 1, 'x')",
        "UPDATE whole SET thing_id = 9 WHERE thing_id = 1",
        "SET session_replication_role = replica; INSERT INTO good_tags VALUES (9, 1, 'x')",
        "SET session_replication_role = replica; INSERT INTO whole VALUES (9, 1, 'x')",
    ] {
        let error = new.try_run(sql).await.expect_err(sql).to_string();
        assert!(error.contains("takes copies alone"), "{sql}: {error}");
    }
    assert!(verify(&migration).await.clean());
}

mod scenario {
    use super::*;

    pub(super) async fn the_follower_refuses_all_but_copies(topology: Topology) {
        let market = Market::start(topology).await;
        market.fill(20).await;
        let migration = market.installed().await;
        backfill(&migration).await;
        let mut refused = vec![
            "UPDATE service_listings SET title = 'x' WHERE legacy_id = 1",
            "DELETE FROM variants",
            "INSERT INTO pictures (listing_id, url) SELECT id, 'x' FROM service_listings",
            "UPDATE addresses SET house = 'moved' WHERE house = 'House 1'",
            "UPDATE providers SET tenant_id = 7 WHERE id = 101",
        ];
        if market.new.is_postgres() {
            refused.push("TRUNCATE variants");
        }
        for sql in refused {
            let error = market.new.try_run(sql).await.expect_err(sql).to_string();
            assert!(error.contains("changeover"), "{sql}: {error}");
        }
        market
            .new
            .run("INSERT INTO providers VALUES (103, 3)")
            .await;
        market
            .new
            .run("INSERT INTO addresses (house) VALUES ('House of somebody else')")
            .await;
        if market.legacy.is_postgres() {
            let error = market
                .legacy
                .try_run("TRUNCATE listings")
                .await
                .expect_err("no stamps");
            assert!(
                error.to_string().contains("DELETE") || error.to_string().contains("stamps"),
                "{error}"
            );
        }
        drain(&migration).await;
        market.assert_equal().await;
        assert!(verify(&migration).await.clean());
    }

    /// The authority came back without its last commits, and is written again.
    pub(super) async fn a_follower_that_is_ahead_is_never_called_synced(topology: Topology) {
        let market = Market::start(topology).await;
        market.fill(6).await;
        let migration = market.installed().await;
        backfill(&migration).await;
        market.new.run(&later(2)).await;
        market
            .legacy
            .run("UPDATE listings SET title = 'after the failover' WHERE id IN (3, 4)")
            .await;
        drain(&migration).await;
        let dirty = market.dirty().await;
        assert!(
            dirty.len() == 1 && dirty[0].starts_with("3 blocked the follower holds a newer"),
            "{dirty:?}"
        );
        assert!(!verify(&migration).await.clean());
    }

    /// The new tables come back empty: dropped and created again, or restored from before. What was
    /// marked as synced is not there any more, and the next start must know.
    pub(super) async fn a_new_side_that_was_lost_is_filled_again(topology: Topology) {
        let market = Market::start(topology).await;
        market.fill(20).await;
        let migration = market.installed().await;
        backfill(&migration).await;
        market
            .legacy
            .run("UPDATE listings SET title = 'synced' WHERE id < 9")
            .await;
        drain(&migration).await;
        assert!(verify(&migration).await.clean());
        let lost = ["key", "epoch", "id", "backfill"]
            .map(|table| format!("DELETE FROM changeover_{table} WHERE place = 'new'"));
        market
            .new
            .force(&format!(
                "DELETE FROM pictures; DELETE FROM variants; DELETE FROM service_listings; \
                 DELETE FROM addresses; {}",
                lost.join("; ")
            ))
            .await;
        drop(migration);
        let migration = market.open().await;
        migration.install().await.unwrap();
        assert!(!migration.epoch().await.unwrap().ready(), "old evidence");
        backfill(&migration).await;
        drain(&migration).await;
        market.assert_equal().await;
        assert!(verify(&migration).await.clean());
        // From then on a start changes nothing again.
        let epoch = migration.epoch().await.unwrap();
        migration.install().await.unwrap();
        assert_eq!(migration.epoch().await.unwrap(), epoch);
    }

    /// Someone who really wants to gets past the triggers: then the difference is found.
    pub(super) async fn a_forced_difference_is_known(topology: Topology) {
        let market = Market::start(topology).await;
        market.fill(20).await;
        let migration = market.installed().await;
        backfill(&migration).await;
        market
            .new
            .force("UPDATE service_listings SET title = 'forged' WHERE legacy_id = 1")
            .await;
        market.new.force("DELETE FROM variants WHERE listing_id = (SELECT id FROM service_listings WHERE legacy_id = 2)").await;
        market.new.force("INSERT INTO service_listings (legacy_id, provider_id, status) VALUES (777, 101, 'active')").await;
        market.new.run(&later(100)).await;
        let report = verify(&migration).await;
        assert!(!report.clean());
        assert_eq!(
            report.count(Class::Divergent) + report.count(Class::Missing),
            2,
            "{report:?}"
        );
        assert_eq!(report.count(Class::Extra), 1, "{report:?}");
        assert_eq!(report.count(Class::FollowerAhead), 1, "{report:?}");
        let epoch = migration.epoch().await.unwrap();
        assert!(
            !epoch.verified,
            "a verify that found a difference must not be recorded as clean"
        );
        // Repair is touch and copy; a key that is ahead needs a human.
        let keys: Vec<Key> = ["1", "2", "777"]
            .iter()
            .map(|key| Key::from(*key))
            .collect();
        migration.repair(false).run(&keys).await.unwrap();
        market.assert_equal().await;
        let report = verify(&migration).await;
        assert_eq!(report.count(Class::FollowerAhead), 1, "{report:?}");
        assert_eq!(
            report.count(Class::Divergent)
                + report.count(Class::Missing)
                + report.count(Class::Extra),
            0,
            "{report:?}"
        );
    }
}

/// The new side has key 3 at a version that is later than the one it was loaded at.
fn later(by: u32) -> String {
    let entity = Market::entity();
    format!(
        "INSERT INTO changeover_key (entity, place, \"key\", version) SELECT '{entity}', 'new', '3', 0 \
         WHERE NOT EXISTS (SELECT 1 FROM changeover_key WHERE place = 'new' AND \"key\" = '3'); \
         UPDATE changeover_key SET version = version + {by} WHERE place = 'new' AND \"key\" = '3'"
    )
}
