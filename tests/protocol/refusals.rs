//! What the follower refuses: it waits or is blocked, says why, and heals.

use changeover::flags::Key;
use changeover::worker::backfill::BackfillOptions;
use changeover::worker::copy::CopySource;
use changeover::worker::preview::{Obstacle, PreviewOptions};
use changeover::worker::store::HoldKind;
use changeover::worker::verify::Class;

use super::lifecycle::everywhere_and_on_pairs;
use super::market::{Market, Topology, backfill, drain, verify};
use super::races::{key, ready, settle};

everywhere_and_on_pairs!(
    a_child_waits_for_its_lookup,
    a_refused_image_is_blocked_and_says_why,
    an_orphan_is_blocked_and_says_why,
    orphans_of_before_the_installation_are_found,
    orphans_of_before_are_found_in_each_part,
    unique_values_change_hands,
    a_value_claimed_twice_blocks_one_key,
    unmapped_columns_survive,
    unmapped_columns_survive_beside_any_identity,
);

mod scenario {
    use super::*;

    pub(super) async fn a_child_waits_for_its_lookup(topology: Topology) {
        let (market, migration) = ready(topology, 4).await;
        market.legacy.run("INSERT INTO tenants VALUES (9, 'Nina'); INSERT INTO listings (id, tenant_id, title, status) VALUES (50, 9, 'early', 'ACTIVE')").await;
        drain(&migration).await;
        let dirty = market.dirty().await;
        assert!(
            dirty.len() == 1
                && dirty[0].starts_with("50 waiting waits for an answer of lookup provider"),
            "{dirty:?}"
        );
        let report = verify(&migration).await;
        assert_eq!(report.count(Class::Waiting), 1, "{report:?}");
        market
            .new
            .run("INSERT INTO providers VALUES (109, 9)")
            .await;
        settle(&market, &migration).await;
    }

    pub(super) async fn a_refused_image_is_blocked_and_says_why(topology: Topology) {
        let (market, migration) = ready(topology, 8).await;
        market.legacy.run("UPDATE listings SET status = 'FORBIDDEN' WHERE id = 2; UPDATE listings SET title = 'fine' WHERE id IN (1, 3)").await;
        let report = migration
            .copier()
            .copy(&["1", "2", "3"].map(Key::from), CopySource::Inline)
            .await
            .unwrap();
        assert_eq!((report.applied, report.left.len()), (2, 1), "{report:?}");
        let dirty = market.dirty().await;
        assert!(
            dirty.len() == 1
                && dirty[0].starts_with("2 blocked a check constraint refuses the row"),
            "{dirty:?}"
        );
        let listed = migration
            .copier()
            .authority()
            .dirty(None, 10)
            .await
            .unwrap();
        assert_eq!(
            listed[0].hold.as_ref().map(|hold| hold.kind),
            Some(HoldKind::Blocked)
        );
        let report = verify(&migration).await;
        assert_eq!(report.count(Class::Blocked), 1, "{report:?}");
        // A write of the application unblocks it.
        market
            .legacy
            .run("UPDATE listings SET status = 'SOLD' WHERE id = 2")
            .await;
        settle(&market, &migration).await;
    }

    pub(super) async fn an_orphan_is_blocked_and_says_why(topology: Topology) {
        let (market, migration) = ready(topology, 8).await;
        market.legacy.run("DELETE FROM listings WHERE id = 4").await;
        drain(&migration).await;
        let dirty = market.dirty().await;
        assert!(
            dirty.len() == 1
                && dirty[0].starts_with("4 blocked a row of picture belongs to a row of listing"),
            "{dirty:?}"
        );
        market
            .legacy
            .run("DELETE FROM photos WHERE listing_id = 4")
            .await;
        settle(&market, &migration).await;
    }

    /// Nobody stamps them, and no page shows them.
    pub(super) async fn orphans_of_before_the_installation_are_found(topology: Topology) {
        orphans_of_before(topology, BackfillOptions::default()).await;
    }

    pub(super) async fn orphans_of_before_are_found_in_each_part(topology: Topology) {
        let parts = BackfillOptions {
            load: false,
            parts: 3,
            page: 1,
            ..BackfillOptions::default()
        };
        orphans_of_before(topology, parts).await;
    }

    async fn orphans_of_before(topology: Topology, options: BackfillOptions) {
        let market = Market::start(topology).await;
        market.fill(8).await;
        let orphans = "DELETE FROM listings WHERE id IN (4, 8)";
        market.legacy.run(orphans).await;
        let migration = market.installed().await;
        let narrow = PreviewOptions {
            page: 1,
            ..PreviewOptions::default()
        };
        let preview = migration.preview(narrow, |_| {}).await.unwrap();
        assert_eq!((preview.tried, preview.carried), (8, 6), "{preview:?}");
        let [Obstacle { samples, .. }] = preview.obstacles.as_slice() else {
            panic!("{preview:?}");
        };
        assert_eq!(samples, &["4", "8"]);
        let before = verify(&migration).await;
        assert_eq!(before.count(Class::Pending), 8, "{before:?}");
        migration.backfill(options).run(|_| {}).await.unwrap();
        drain(&migration).await;
        let dirty = market.dirty().await;
        let why = "blocked a row of picture belongs to a row of listing";
        assert_eq!(dirty.len(), 2, "{dirty:?}");
        for (held, key) in dirty.iter().zip(["4", "8"]) {
            assert!(held.starts_with(&format!("{key} {why}")), "{dirty:?}");
        }
        let report = verify(&migration).await;
        assert_eq!(report.count(Class::Blocked), 2, "{report:?}");
        market
            .legacy
            .run("DELETE FROM photos WHERE listing_id IN (4, 8)")
            .await;
        settle(&market, &migration).await;
    }

    pub(super) async fn unique_values_change_hands(topology: Topology) {
        let (market, migration) = ready(topology, 6).await;
        market.new.try_run("SELECT 1").await.unwrap();
        // A swap: each key's image wants what the other still holds on the follower.
        market.legacy.run("UPDATE listings SET sku = 'parked' WHERE id = 1; UPDATE listings SET sku = 'sku-1' WHERE id = 2; UPDATE listings SET sku = 'sku-2' WHERE id = 1").await;
        let report = migration
            .copier()
            .copy(&key("1"), CopySource::Inline)
            .await
            .unwrap();
        assert!(report.left.is_empty(), "{report:?}");
        settle(&market, &migration).await;
        // A chain of three.
        market.legacy.run("UPDATE listings SET sku = NULL WHERE id = 3; UPDATE listings SET sku = 'sku-3' WHERE id = 4; UPDATE listings SET sku = 'sku-4' WHERE id = 5").await;
        migration
            .copier()
            .copy(&key("5"), CopySource::Inline)
            .await
            .unwrap();
        settle(&market, &migration).await;
    }

    pub(super) async fn a_value_claimed_twice_blocks_one_key(topology: Topology) {
        let market = Market::start(topology).await;
        market.fill(4).await;
        // The new side is stricter than the legacy one: addresses aside, titles are unique there.
        market
            .new
            .run("CREATE UNIQUE INDEX one_title ON service_listings (title)")
            .await;
        let migration = market.installed().await;
        backfill(&migration).await;
        market
            .legacy
            .run("UPDATE listings SET title = 'taken' WHERE id = 1")
            .await;
        drain(&migration).await;
        market
            .legacy
            .run("UPDATE listings SET title = 'taken' WHERE id = 2")
            .await;
        drain(&migration).await;
        let dirty = market.dirty().await;
        assert!(
            dirty.len() == 1 && dirty[0].starts_with("2 blocked"),
            "{dirty:?}"
        );
        market
            .legacy
            .run("UPDATE listings SET title = 'free' WHERE id = 1")
            .await;
        settle(&market, &migration).await;
    }

    /// Rows are told apart by columns of any type, also while they are deleted and inserted again.
    pub(super) async fn unmapped_columns_survive_beside_any_identity(topology: Topology) {
        let market = Market::start(topology).await;
        market.legacy.run("CREATE TABLE doors (house bigint NOT NULL, front boolean NOT NULL, width double precision NOT NULL, sign varchar(9), PRIMARY KEY (house, front, width))").await;
        market.new.run("CREATE TABLE gates (house bigint NOT NULL, front boolean NOT NULL, width double precision NOT NULL, sign varchar(9) UNIQUE, note varchar(9) NOT NULL DEFAULT 'none', PRIMARY KEY (house, front, width))").await;
        let mapping = "revision = 1\nroot = { table = 'tenants', key = ['id'] }\n[source.doors]\nkey = ['house']\n[[target]]\n\
            table = 'gates'\nowned_by = { key = ['house'] }\nidentity = ['house', 'front', 'width']\nfrom = 'doors'\nkey = ['house']\n\
            columns = { house = 'house', front = 'front', width = 'width', sign = 'sign' }";
        market
            .legacy
            .run("INSERT INTO doors VALUES (1, true, 0.1, 'a'), (1, false, 2.0, 'b'), (2, true, 0.1, 'c')")
            .await;
        let migration = market.installed_with(mapping).await;
        backfill(&migration).await;
        market.new.force("UPDATE gates SET note = sign").await;
        // Two keys exchange a unique value, so their rows go and come back.
        market
            .legacy
            .run("UPDATE doors SET sign = 'd' WHERE sign = 'a'; UPDATE doors SET sign = 'a' WHERE sign = 'c'; UPDATE doors SET sign = 'c' WHERE sign = 'd'")
            .await;
        drain(&migration).await;
        assert_eq!(market.dirty().await, Vec::<String>::new());
        let signs = "SELECT sign || ' ' || note FROM gates ORDER BY 1";
        assert_eq!(market.new.texts(signs).await, ["a c", "b b", "c a"]);
        assert!(verify(&migration).await.clean());
    }

    pub(super) async fn unmapped_columns_survive(topology: Topology) {
        let (market, migration) = ready(topology, 6).await;
        market
            .new
            .force("UPDATE service_listings SET note = 'kept ' || legacy_id")
            .await;
        market
            .legacy
            .run("UPDATE listings SET title = 'changed' WHERE id = 1")
            .await;
        drain(&migration).await;
        // Also where rows are deleted and inserted again because unique values change hands.
        market.legacy.run("UPDATE listings SET sku = 'parked' WHERE id = 3; UPDATE listings SET sku = 'sku-3' WHERE id = 4; UPDATE listings SET sku = 'sku-4' WHERE id = 3").await;
        settle(&market, &migration).await;
        let notes = market
            .new
            .texts("SELECT note FROM service_listings ORDER BY legacy_id")
            .await;
        assert_eq!(
            notes,
            (1..=6).map(|n| format!("kept {n}")).collect::<Vec<_>>()
        );
    }
}

/// SQLite's columns take any value, but for those of a `STRICT` table: what one refuses depends on
/// the row, and blocks its key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_a_strict_table_refuses_blocks_its_key() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    market.fill(6).await;
    market
        .new
        .run("CREATE TABLE strict (id INTEGER PRIMARY KEY NOT NULL, title INTEGER) STRICT")
        .await;
    let mapping = r#"
        revision = 1
        root = { table = "listings", key = ["id"] }
        [[target]]
        table = "strict"
        owned_by.key = ["id"]
        identity = ["id"]
        columns = { id = "id", title = "CASE WHEN id = 3 THEN title ELSE '0' || id END" }
    "#;
    let migration = market.installed_with(mapping).await;
    backfill(&migration).await;
    let dirty = market.dirty().await;
    assert!(
        dirty.len() == 1 && dirty[0].starts_with("3 blocked the table refuses the value"),
        "{dirty:?}"
    );
    let rows = "SELECT CAST(title AS text) FROM strict";
    assert_eq!(market.new.texts(rows).await, ["1", "2", "4", "5", "6"]);
    assert_eq!(verify(&migration).await.count(Class::Blocked), 1);
}
