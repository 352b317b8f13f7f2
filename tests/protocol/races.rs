//! Orders of events that break other tools, forced one by one with the product's own stores.

use super::lifecycle::everywhere;
use super::market::{MAPPING, Market, Topology, backfill, drain, verify};
use changeover::flags::Key;
use changeover::worker::copy::CopySource;
use changeover::worker::migration::Migration;
use changeover::worker::store::{Applied, Cursor, HoldKind, StoreError};
use changeover::worker::verify::Class;

everywhere!(
    a_delete_outranks_an_earlier_page,
    a_reinsert_outranks_a_late_copy,
    two_writers_finish_in_either_order,
    a_duplicate_copy_changes_nothing,
    a_mark_never_outruns_its_version,
    a_child_waits_for_its_lookup,
    a_refused_image_is_blocked_and_says_why,
    an_orphan_is_blocked_and_says_why,
    unique_values_change_hands,
    a_value_claimed_twice_blocks_one_key,
    an_older_revision_is_refused,
    a_late_cursor_sends_no_sweep_back,
    a_new_revision_copies_everything_again,
    ids_outlive_their_rows,
    unmapped_columns_survive,
);

async fn ready(topology: Topology, rows: u32) -> (Market, Migration) {
    let market = Market::start(topology).await;
    market.fill(rows).await;
    let migration = market.installed().await;
    backfill(&migration).await;
    (market, migration)
}

async fn settle(market: &Market, migration: &Migration) {
    drain(migration).await;
    market.assert_equal().await;
    assert_eq!(market.dirty().await, Vec::<String>::new());
    let report = verify(migration).await;
    assert!(report.clean(), "{report:?}");
}

fn key(text: &str) -> Vec<Key> {
    vec![Key::from(text)]
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
        let page = authority.page(None, 100).await.unwrap();
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
        let future = changeover::flags::Version(first.0 + 1000);
        authority
            .mark_synced(&[(Key::from("1"), future)])
            .await
            .unwrap();
        assert_eq!(market.dirty().await.len(), 1);
        settle(&market, &migration).await;
    }

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

    /// The legacy tables hold a child without its parent; the new ones cannot.
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

    pub(super) async fn an_older_revision_is_refused(topology: Topology) {
        let (market, old) = ready(topology, 12).await;
        let late = {
            market
                .legacy
                .run("UPDATE listings SET title = 'by the old mapping' WHERE id = 1")
                .await;
            old.copier().authority().read(&key("1")).await.unwrap()
        };
        let renamed = MAPPING
            .replace("revision = 1", "revision = 2")
            .replace("\"l.title\"", "\"upper(l.title)\"");
        let new = market.open_with(Market::mapping(&renamed)).await;
        new.raise_revision().await.unwrap();
        // The older deployment is refused, by its late copy too; the answer is an error that says so.
        let refused = old.copier().follower().apply(&late, None).await;
        assert!(
            matches!(refused, Err(StoreError::Revision { held: 2, mine: 1 })),
            "{refused:?}"
        );
        let refused = old.copier().follower().observe(&late).await;
        assert!(
            matches!(refused, Err(StoreError::Revision { .. })),
            "{refused:?}"
        );
        let refused = old.copier().copy(&key("1"), CopySource::Inline).await;
        assert!(
            matches!(refused, Err(StoreError::Revision { .. })),
            "{refused:?}"
        );
        // The older deployment still writes: its writes are stamped.
        market
            .legacy
            .run("UPDATE listings SET title = 'second' WHERE id = 2")
            .await;
        backfill(&new).await;
        drain(&new).await;
        assert_eq!(market.dirty().await, Vec::<String>::new());
        let title = market
            .new
            .text("SELECT title FROM service_listings WHERE legacy_id = 1")
            .await;
        assert_eq!(title, "BY THE OLD MAPPING");
        let report = verify(&new).await;
        assert!(report.clean() && report.compared >= 12, "{report:?}");
        let wrong = old.start_copying().await;
        assert!(wrong.is_err(), "an older revision must not move the stage");
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
        };
        follower.save_cursor(&cursor("4", 4, false)).await.unwrap();
        follower.save_cursor(&cursor("2", 2, false)).await.unwrap();
        assert_eq!(follower.cursor().await.unwrap(), cursor("4", 4, false));
        // The same, riding with a page that lands late.
        let page = migration.copier().authority().page(None, 2).await.unwrap();
        follower
            .apply(&page.stamped, Some(&cursor("2", 2, false)))
            .await
            .unwrap();
        assert_eq!(follower.cursor().await.unwrap(), cursor("4", 4, false));
        follower.save_cursor(&cursor("6", 6, true)).await.unwrap();
        follower.save_cursor(&cursor("6", 6, false)).await.unwrap();
        assert!(follower.cursor().await.unwrap().done);
    }

    pub(super) async fn a_new_revision_copies_everything_again(topology: Topology) {
        let (market, _) = ready(topology, 30).await;
        market
            .legacy
            .run("UPDATE listings SET stock = 77 WHERE id = 1; DELETE FROM listings WHERE id = 2")
            .await;
        let marked = MAPPING
            .replace("revision = 1", "revision = 2")
            .replace("\"l.title\"", "\"'v2 ' || l.id\"");
        let new = market.open_with(Market::mapping(&marked)).await;
        new.raise_revision().await.unwrap();
        new.raise_revision().await.unwrap();
        assert!(
            !new.epoch().await.unwrap().verified,
            "a verify of the older revision proves nothing"
        );
        backfill(&new).await;
        drain(&new).await;
        let titles = market
            .new
            .texts("SELECT DISTINCT substr(title, 1, 3) FROM service_listings")
            .await;
        assert_eq!(titles, ["v2 "]);
        assert!(verify(&new).await.clean());
        assert_eq!(market.dirty().await, Vec::<String>::new());
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

    pub(super) async fn unmapped_columns_survive(topology: Topology) {
        let (market, migration) = ready(topology, 6).await;
        let (open, close) = if topology.is_postgres() {
            ("BEGIN; SET LOCAL changeover.copy = 'on';", "COMMIT;")
        } else {
            (
                "BEGIN IMMEDIATE; INSERT INTO changeover_copying VALUES ('x');",
                "DELETE FROM changeover_copying; COMMIT;",
            )
        };
        market
            .new
            .run(&format!(
                "{open} UPDATE service_listings SET note = 'kept ' || legacy_id; {close}"
            ))
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
