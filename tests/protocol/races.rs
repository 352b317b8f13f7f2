//! Orders of events that break other tools, forced one by one with the product's own stores.

use changeover::flags::{Key, Version};
use changeover::worker::copy::CopySource;
use changeover::worker::migration::Migration;
use changeover::worker::store::{Applied, Cursor};
use changeover::worker::sum::Span;

use super::lifecycle::everywhere_and_on_pairs;
use super::market::{Market, Topology, backfill, drain, verify};

everywhere_and_on_pairs!(
    a_delete_outranks_an_earlier_page,
    a_reinsert_outranks_a_late_copy,
    two_writers_finish_in_either_order,
    a_duplicate_copy_changes_nothing,
    a_mark_never_outruns_its_version,
    a_key_in_another_spelling_is_the_same_key,
    a_late_copy_takes_no_row_from_another_key,
    one_row_cannot_belong_to_two_keys,
    a_late_cursor_sends_no_sweep_back,
    ids_outlive_their_rows,
);

pub(super) async fn ready(topology: Topology, rows: u32) -> (Market, Migration) {
    let market = Market::start(topology).await;
    market.fill(rows).await;
    let migration = market.installed().await;
    backfill(&migration).await;
    (market, migration)
}

pub async fn settle(market: &Market, migration: &Migration) {
    drain(migration).await;
    market.assert_equal().await;
    assert_eq!(market.dirty().await, Vec::<String>::new());
    let report = verify(migration).await;
    assert!(report.clean(), "{report:?}");
}

pub(super) fn key(text: &str) -> Vec<Key> {
    vec![Key::from(text)]
}

/// Where a database takes two texts for one, a row is found by either, and holds the last one written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_that_changes_in_case_alone_is_followed() {
    for (topology, word) in [
        (Topology::SqliteTwoFiles, "text COLLATE NOCASE"),
        (Topology::PostgresTwoDatabases, "text COLLATE folded"),
        (
            Topology::MariadbTwoDatabases,
            "varchar(190) COLLATE utf8mb4_general_ci",
        ),
    ] {
        let market = Market::start(topology).await;
        if topology.is_postgres() {
            let folded = "CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false)";
            market.new.run(folded).await;
        }
        let slugs = format!(
            "CREATE TABLE slugs (slug {word} PRIMARY KEY NOT NULL, listing bigint NOT NULL, stock bigint); \
             CREATE INDEX slugs_of ON slugs (listing)"
        );
        market.new.run(&slugs).await;
        let mapping = r#"
            revision = 1
            root = { table = "listings", key = ["id"] }
            [[target]]
            table = "slugs"
            owned_by.key = ["listing"]
            identity = ["slug"]
            columns = { slug = "title", listing = "id", stock = "stock" }
        "#;
        market.fill(3).await;
        let titled = "UPDATE listings SET title = 'Title ' || id";
        market.legacy.run(titled).await;
        let migration = market.installed_with(mapping).await;
        backfill(&migration).await;
        market
            .legacy
            .run("UPDATE listings SET title = 'TITLE 2', stock = 7 WHERE id = 2")
            .await;
        drain(&migration).await;
        assert_eq!(market.dirty().await, Vec::<String>::new(), "{topology:?}");
        let slugs = "SELECT slug || ' ' || stock FROM slugs WHERE listing = 2";
        assert_eq!(market.new.texts(slugs).await, ["TITLE 2 7"], "{topology:?}");
        let report = verify(&migration).await;
        assert!(report.clean(), "{topology:?}: {report:?}");
    }
}

mod scenario {
    use super::*;

    pub(super) async fn a_delete_outranks_an_earlier_page(topology: Topology) {
        let market = Market::start(topology).await;
        market.fill(10).await;
        let migration = market.installed().await;
        let (authority, follower) = (
            migration.copier().authority(),
            migration.copier().follower(),
        );
        let page = authority.page(&Span::default(), 100).await.unwrap();
        assert_eq!(page.stamped.len(), 10);
        market.legacy.run("DELETE FROM listings WHERE id = 3; UPDATE listings SET title = 'newer' WHERE id = 4").await;
        migration
            .copier()
            .copy(&[Key::from("3"), Key::from("4")], CopySource::Inline)
            .await
            .unwrap();
        let outcomes = follower.apply(&page.stamped, None).await.unwrap();
        for (copy, outcome) in page.stamped.iter().zip(&outcomes) {
            let late = ["3", "4"].contains(&copy.key.as_str());
            let expected = if late {
                Applied::Stale
            } else {
                Applied::Applied
            };
            assert_eq!(*outcome, expected, "key {}", copy.key);
        }
        let (_, new) = market.both().await;
        assert!(
            !new.iter().any(|row| row.starts_with("l 3|")),
            "the deleted row came back"
        );
        settle(&market, &migration).await;
    }

    pub(super) async fn a_reinsert_outranks_a_late_copy(topology: Topology) {
        let (market, migration) = ready(topology, 6).await;
        let copier = migration.copier();
        market
            .legacy
            .run("UPDATE listings SET title = 'late' WHERE id = 2")
            .await;
        let late = copier.authority().read(&key("2")).await.unwrap();
        market.legacy.run("DELETE FROM listings WHERE id = 2").await;
        let gone = copier.authority().read(&key("2")).await.unwrap();
        assert!(gone[0].image.as_ref().unwrap().is_empty());
        market.legacy.run("INSERT INTO listings (id, tenant_id, title, status) VALUES (2, 1, 'again', 'ACTIVE')").await;
        let again = copier.authority().read(&key("2")).await.unwrap();
        assert!(late[0].version < gone[0].version && gone[0].version < again[0].version);
        // The newest arrives first, then the zombies.
        assert_eq!(
            copier.follower().apply(&again, None).await.unwrap(),
            [Applied::Applied]
        );
        assert_eq!(
            copier.follower().apply(&gone, None).await.unwrap(),
            [Applied::Stale]
        );
        assert_eq!(
            copier.follower().apply(&late, None).await.unwrap(),
            [Applied::Stale]
        );
        settle(&market, &migration).await;
    }

    pub(super) async fn two_writers_finish_in_either_order(topology: Topology) {
        let (market, migration) = ready(topology, 4).await;
        let copier = migration.copier();
        for newest_first in [true, false] {
            market
                .legacy
                .run("UPDATE listings SET title = 'one' WHERE id = 1")
                .await;
            let one = copier.authority().read(&key("1")).await.unwrap();
            market
                .legacy
                .run("UPDATE listings SET title = 'two' WHERE id = 1")
                .await;
            let two = copier.authority().read(&key("1")).await.unwrap();
            let (first, second) = if newest_first {
                (&two, &one)
            } else {
                (&one, &two)
            };
            copier.follower().apply(first, None).await.unwrap();
            copier.follower().apply(second, None).await.unwrap();
            let title = market
                .new
                .text("SELECT title FROM service_listings WHERE legacy_id = 1")
                .await;
            assert_eq!(title, "two");
        }
        settle(&market, &migration).await;
    }

    pub(super) async fn a_duplicate_copy_changes_nothing(topology: Topology) {
        let (market, migration) = ready(topology, 4).await;
        let copier = migration.copier();
        market
            .legacy
            .run("UPDATE listings SET title = 'once' WHERE id = 1")
            .await;
        let copy = copier.authority().read(&key("1")).await.unwrap();
        assert_eq!(
            copier.follower().apply(&copy, None).await.unwrap(),
            [Applied::Applied]
        );
        assert_eq!(
            copier.follower().apply(&copy, None).await.unwrap(),
            [Applied::Stale]
        );
        settle(&market, &migration).await;
    }

    /// The fence, the mark and the lag of `007` are those of `7`.
    pub(super) async fn a_key_in_another_spelling_is_the_same_key(topology: Topology) {
        let (market, migration) = ready(topology, 8).await;
        market
            .legacy
            .run("UPDATE listings SET title = 'agent' WHERE id = 7")
            .await;
        let report = migration
            .copier()
            .copy(&key("007"), CopySource::Inline)
            .await
            .unwrap();
        assert_eq!((report.applied, report.left.len()), (1, 0), "{report:?}");
        let phantom = "SELECT \"key\" FROM changeover_key WHERE \"key\" = '007'";
        assert_eq!(market.new.texts(phantom).await, Vec::<String>::new());
        assert_eq!(market.dirty().await, Vec::<String>::new());
        settle(&market, &migration).await;
    }

    /// A child row moves to another key; a copy of its old key, read before, arrives after.
    pub(super) async fn a_late_copy_takes_no_row_from_another_key(topology: Topology) {
        let market = Market::start(topology).await;
        market
            .new
            .run("CREATE TABLE shots (id bigint PRIMARY KEY NOT NULL, listing bigint NOT NULL, url text); CREATE INDEX shots_of ON shots (listing)")
            .await;
        let mapping = r#"
            revision = 1
            root = { table = "listings", key = ["id"] }
            source.photos.key = ["listing_id"]
            [[target]]
            table = "shots"
            owned_by.key = ["listing"]
            identity = ["id"]
            from = "photos"
            key = ["listing_id"]
            columns = { id = "id", listing = "listing_id", url = "url" }
        "#;
        market.fill(8).await;
        let migration = market.installed_with(mapping).await;
        backfill(&migration).await;
        let copier = migration.copier();
        // The photo of 4 is written, so that a copy of 4 is newer than the follower's.
        market
            .legacy
            .run("UPDATE photos SET url = 'newer' WHERE listing_id = 4")
            .await;
        let late = copier.authority().read(&key("4")).await.unwrap();
        market
            .legacy
            .run("UPDATE photos SET listing_id = 5 WHERE listing_id = 4")
            .await;
        copier.copy(&key("5"), CopySource::Inline).await.unwrap();
        let outcome = copier.follower().apply(&late, None).await.unwrap();
        // Taking the photo over meant copying its old key with it, so the late copy is stale.
        assert_eq!(outcome, [Applied::Stale]);
        let owner = "SELECT CAST(listing AS text) FROM shots WHERE url = 'newer'";
        assert_eq!(market.new.texts(owner).await, ["5"]);
        drain(&migration).await;
        assert_eq!(market.dirty().await, Vec::<String>::new());
        assert_eq!(market.new.texts(owner).await, ["5"]);
        assert!(verify(&migration).await.clean());
    }

    /// Two legacy rows that the mapping makes one new row: the second is blocked, the first keeps
    /// its own.
    pub(super) async fn one_row_cannot_belong_to_two_keys(topology: Topology) {
        let market = Market::start(topology).await;
        let slugs = "CREATE TABLE slugs (slug {word} PRIMARY KEY NOT NULL, listing bigint NOT NULL); CREATE INDEX slugs_of ON slugs (listing)";
        market.new.run(&market.new.engine().schema(slugs)).await;
        let mapping = r#"
            revision = 1
            root = { table = "listings", key = ["id"] }
            [[target]]
            table = "slugs"
            owned_by.key = ["listing"]
            identity = ["slug"]
            columns = { slug = "lower(title)", listing = "id" }
        "#;
        market.fill(3).await;
        market
            .legacy
            .run("UPDATE listings SET title = 't' || id")
            .await;
        let migration = market.installed_with(mapping).await;
        backfill(&migration).await;
        market
            .legacy
            .run("UPDATE listings SET title = 'T1' WHERE id = 2")
            .await;
        drain(&migration).await;
        let dirty = market.dirty().await;
        assert!(
            dirty.len() == 1 && dirty[0].starts_with("2 blocked"),
            "{dirty:?}"
        );
        let owners = "SELECT slug || ' ' || listing FROM slugs ORDER BY 1";
        let owners = market.new.texts(owners).await;
        assert!(owners.contains(&"t1 1".to_owned()), "{owners:?}");
        market
            .legacy
            .run("UPDATE listings SET title = 'free' WHERE id = 1")
            .await;
        drain(&migration).await;
        assert_eq!(market.dirty().await, Vec::<String>::new());
        assert!(verify(&migration).await.clean());
    }

    pub(super) async fn a_mark_never_outruns_its_version(topology: Topology) {
        let (market, migration) = ready(topology, 4).await;
        let authority = migration.copier().authority();
        market
            .legacy
            .run("UPDATE listings SET title = 'a' WHERE id = 1")
            .await;
        let first = authority.read(&key("1")).await.unwrap()[0].version;
        market
            .legacy
            .run("UPDATE listings SET title = 'b' WHERE id = 1")
            .await;
        // A late mark of an older version leaves the key dirty; so does one from the future.
        authority
            .mark_synced(&[(Key::from("1"), first)])
            .await
            .unwrap();
        assert_eq!(market.dirty().await.len(), 1);
        let future = Version(first.0 + 1000);
        authority
            .mark_synced(&[(Key::from("1"), future)])
            .await
            .unwrap();
        assert_eq!(market.dirty().await.len(), 1);
        settle(&market, &migration).await;
    }

    pub(super) async fn a_late_cursor_sends_no_sweep_back(topology: Topology) {
        let market = Market::start(topology).await;
        market.fill(6).await;
        let migration = market.installed().await;
        let follower = migration.copier().follower();
        let cursor = |last: &str, passed, done| Cursor {
            last: Some(Key::from(last)),
            passed,
            done,
            ..Cursor::default()
        };
        // A sweep whose row is gone: the new side was lost under it, and what it passed is not there.
        follower.save_cursor(&cursor("4", 4, false)).await.unwrap();
        assert_eq!(follower.cursor().await.unwrap(), Cursor::default());
        follower.save_cursor(&Cursor::default()).await.unwrap();
        follower.save_cursor(&cursor("4", 4, false)).await.unwrap();
        follower.save_cursor(&cursor("2", 2, false)).await.unwrap();
        assert_eq!(follower.cursor().await.unwrap(), cursor("4", 4, false));
        // The same, riding with a page that lands late.
        let page = migration
            .copier()
            .authority()
            .page(&Span::default(), 2)
            .await
            .unwrap();
        follower
            .apply(&page.stamped, Some(&cursor("2", 2, false)))
            .await
            .unwrap();
        assert_eq!(follower.cursor().await.unwrap(), cursor("4", 4, false));
        follower.save_cursor(&cursor("6", 6, true)).await.unwrap();
        follower.save_cursor(&cursor("6", 6, false)).await.unwrap();
        assert!(follower.cursor().await.unwrap().done);
    }

    pub(super) async fn ids_outlive_their_rows(topology: Topology) {
        let (market, migration) = ready(topology, 4).await;
        let id = "SELECT CAST(id AS text) FROM service_listings WHERE legacy_id = 3";
        let before = market.new.text(id).await;
        market.legacy.run("DELETE FROM listings WHERE id = 3").await;
        drain(&migration).await;
        assert_eq!(market.new.text(id).await, "");
        market.legacy.run("INSERT INTO listings (id, tenant_id, title, status) VALUES (3, 1, 'back', 'ACTIVE'), (60, 1, 'next', 'ACTIVE')").await;
        settle(&market, &migration).await;
        assert_eq!(
            market.new.text(id).await,
            before,
            "a re-inserted row keeps its id"
        );
    }
}
