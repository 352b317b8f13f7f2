//! Two deployments with different mappings.

use std::time::Duration;

use changeover::flags::Key;
use changeover::worker::copy::CopySource;
use changeover::worker::dialect::home::Evidence;
use changeover::worker::dialect::install::Patience;
use changeover::worker::migration::MigrationError;
use changeover::worker::store::StoreError;
use changeover::worker::verify::{Class, VerifyOptions};

use super::installers::{ONE_TRY, holding};
use super::lifecycle::{everywhere, on_pairs};
use super::market::{Engine, MAPPING, Market, Topology, backfill, drain, verify};
use super::races::{key, ready, settle};

everywhere!(
    a_revision_lets_go_of_what_it_no_longer_names,
    an_older_revision_is_refused,
    a_mapping_changed_under_its_revision_is_refused,
    of_two_mappings_that_raise_to_one_revision_one_stands,
    a_new_revision_copies_everything_again,
    evidence_of_an_older_revision_does_not_count,
    keys_without_rows_are_copied_again,
    a_key_held_after_the_raise_stays_dirty,
);

on_pairs!(
    a_revision_lets_go_of_what_it_no_longer_names,
    a_new_revision_copies_everything_again,
    keys_without_rows_are_copied_again,
);

/// Raising waits for no key, and rewrites none: whoever holds one up does not hold up the raise,
/// and with it the writers of all others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raising_waits_for_no_key_and_rewrites_none() {
    for topology in [
        Topology::PostgresTwoDatabases,
        Topology::PostgresOneDatabase,
    ] {
        let (market, old) = ready(topology, 30).await;
        market.legacy.run("UPDATE listings SET stock = 4").await;
        settle(&market, &old).await;
        let one = "SELECT FROM changeover_key WHERE place = 'legacy' AND key = '1' FOR UPDATE";
        let held = holding(&market.legacy_url, one).await;
        let stamps = "SELECT xmin::text || ' ' || ctid::text || ' ' || version FROM changeover_key \
             WHERE place = 'legacy' ORDER BY key";
        let before = market.legacy.texts(stamps).await;
        let next = MAPPING.replace("revision = 1", "revision = 2");
        let new = market.open_with(Market::mapping(&next)).await;
        let hasty = Patience {
            lock_timeout: Duration::from_millis(900),
            ..ONE_TRY
        };
        new.clone()
            .with_patience(hasty)
            .raise_revision()
            .await
            .unwrap();
        assert_eq!(market.legacy.texts(stamps).await, before);
        // Nobody waits for the one that is held but who writes it.
        market
            .legacy
            .run("BEGIN; SET LOCAL lock_timeout = '5s'; UPDATE listings SET stock = 5 WHERE id <> 1; COMMIT")
            .await;
        backfill(&new).await;
        drain(&new).await;
        drop(held);
        settle(&market, &new).await;
    }
}

mod scenario {
    use super::*;

    /// Objects are numbered; a mapping with fewer tables must leave none of the older ones behind.
    pub(super) async fn a_revision_lets_go_of_what_it_no_longer_names(topology: Topology) {
        let (market, _) = ready(topology, 8).await;
        let pictures = MAPPING.find("[[target]]\nname = \"picture\"").unwrap();
        let less = MAPPING[..pictures]
            .replace("revision = 1", "revision = 2")
            .replace("[source.photos]\nkey = [\"listing_id\"]\n", "");
        let new = market.open_with(Market::mapping(&less)).await;
        new.raise_revision().await.unwrap();
        // Tables that nobody names any more are free; those that are named still stamp.
        market
            .legacy
            .run("UPDATE photos SET url = 'free'; UPDATE tenants SET name = 'Bo II' WHERE id = 2")
            .await;
        market
            .new
            .run("INSERT INTO pictures (listing_id, url) SELECT id, 'free' FROM service_listings; UPDATE pictures SET url = 'gone'; DELETE FROM pictures")
            .await;
        let mut installed = market
            .legacy
            .texts(market.legacy.engine().installed())
            .await;
        installed.retain(|one| one.starts_with("trigger changeover_stamp_legacy_listings_"));
        if market.legacy.engine() == Engine::Mariadb {
            // One for each event of each of the two tables.
            assert_eq!(installed.len(), 6, "{installed:?}");
        } else {
            let of = |name| installed.iter().any(|one: &String| one.contains(name));
            assert!(of("listings_1") && !of("listings_2"), "{installed:?}");
        }
        assert!(market.new.try_run("DELETE FROM variants").await.is_err());
        backfill(&new).await;
        drain(&new).await;
        assert_eq!(market.dirty().await, Vec::<String>::new());
        let names = market
            .new
            .texts("SELECT DISTINCT provider_name FROM service_listings ORDER BY 1")
            .await;
        assert_eq!(names, ["Ada", "Bo II"]);
        assert!(verify(&new).await.clean());
    }

    pub(super) async fn a_mapping_changed_under_its_revision_is_refused(topology: Topology) {
        let (market, deployed) = ready(topology, 12).await;
        let title = [("\"l.title\"", "\"upper(l.title)\"")];
        let changed = |revision: i64| {
            let [(from, to)] = title;
            Market::mapping(
                &MAPPING
                    .replace(from, to)
                    .replace("revision = 1", &format!("revision = {revision}")),
            )
        };
        let mine = market.open_with(changed(1)).await;
        let images = mine.copier().authority().read(&key("1")).await.unwrap();
        // Nothing is copied, compared, decided or raised by it.
        let refused = [
            mine.copier().follower().apply(&images, None).await.err(),
            mine.copier().follower().apply_group(&images).await.err(),
            mine.copier().follower().observe(&images).await.err(),
            mine.copier()
                .copy(&key("1"), CopySource::Inline)
                .await
                .err(),
        ];
        for error in refused {
            assert!(
                matches!(error, Some(StoreError::Mapping { revision: 1, .. })),
                "{error:?}"
            );
        }
        for refused in [
            mine.install().await.err(),
            mine.stop_copying().await.err(),
            mine.verify(VerifyOptions::default()).await.err(),
        ] {
            assert!(
                matches!(refused, Some(MigrationError::Mapping { revision: 1, .. })),
                "{refused:?}"
            );
        }
        let refused = mine.raise_revision().await;
        assert!(
            matches!(
                refused,
                Err(MigrationError::Store(StoreError::Mapping { .. }))
            ),
            "{refused:?}"
        );
        assert!(verify(&deployed).await.clean());
        // What only looks otherwise is the same.
        let same = format!(
            "# a comment\n{}",
            MAPPING.replace("revision = 1", "revision  =  1")
        );
        let same = market.open_with(Market::mapping(&same)).await;
        same.install().await.unwrap();
        same.copier()
            .copy(&key("1"), CopySource::Inline)
            .await
            .unwrap();
        // Raised, it is the one that stands.
        let raised = market.open_with(changed(2)).await;
        raised.raise_revision().await.unwrap();
        backfill(&raised).await;
        assert!(verify(&raised).await.clean());
        let back = market
            .open_with(Market::mapping(
                &MAPPING.replace("revision = 1", "revision = 2"),
            ))
            .await;
        let refused = back.copier().copy(&key("1"), CopySource::Inline).await;
        assert!(
            matches!(refused, Err(StoreError::Mapping { revision: 2, .. })),
            "{refused:?}"
        );
    }

    pub(super) async fn of_two_mappings_that_raise_to_one_revision_one_stands(topology: Topology) {
        let (market, _) = ready(topology, 6).await;
        let second = MAPPING.replace("revision = 1", "revision = 2");
        let upper = second.replace("\"l.title\"", "\"upper(l.title)\"");
        let lower = second.replace("\"l.title\"", "\"lower(l.title)\"");
        let upper = market.open_with(Market::mapping(&upper)).await;
        let lower = market.open_with(Market::mapping(&lower)).await;
        let (one, other) = tokio::join!(upper.raise_revision(), lower.raise_revision());
        let (won, lost) = match (&one, &other) {
            (Ok(()), Err(_)) => (upper, lower),
            (Err(_), Ok(())) => (lower, upper),
            _ => panic!("one stands, and one only: {one:?}, {other:?}"),
        };
        backfill(&won).await;
        assert!(verify(&won).await.clean());
        let refused = lost.copier().copy(&key("1"), CopySource::Inline).await;
        assert!(
            matches!(refused, Err(StoreError::Mapping { revision: 2, .. })),
            "{refused:?}"
        );
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

    /// No sweep passes a deleted key: it is dirty until the follower holds it at the new base.
    pub(super) async fn keys_without_rows_are_copied_again(topology: Topology) {
        let (market, old) = ready(topology, 8).await;
        market
            .legacy
            .run("DELETE FROM listings WHERE id = 3; UPDATE listings SET stock = 5 WHERE id = 2")
            .await;
        settle(&market, &old).await;
        let next = MAPPING.replace("revision = 1", "revision = 2");
        let new = market.open_with(Market::mapping(&next)).await;
        new.raise_revision().await.unwrap();
        backfill(&new).await;
        let (authority, follower) = (new.copier().authority(), new.copier().follower());
        let dirty = authority.dirty(None, 100).await.unwrap();
        let base = new.epoch().await.unwrap().base;
        assert!(dirty.len() == 1 && dirty[0].version == base, "{dirty:?}");
        assert_eq!(dirty[0].key, Key::from("3"));
        assert_eq!(authority.lag().await.unwrap().dirty, 1);
        assert_eq!(authority.dirty_among(&key("3")).await.unwrap().len(), 1);
        drain(&new).await;
        assert_eq!(follower.versions(&key("3")).await.unwrap(), [Some(base)]);
        assert!(authority.dirty(None, 100).await.unwrap().is_empty());
        assert_eq!(authority.lag().await.unwrap().dirty, 0);
        // From here on the index of dirty keys is enough.
        let open = "SELECT 'open' FROM changeover_backfill WHERE place = 'legacy' AND NOT done";
        assert_eq!(market.legacy.texts(open).await, Vec::<String>::new());
        settle(&market, &new).await;
    }

    /// Its stamp lies below the base, and equals what is marked: the hold must make it dirty.
    pub(super) async fn a_key_held_after_the_raise_stays_dirty(topology: Topology) {
        let (market, old) = ready(topology, 8).await;
        market.legacy.run("UPDATE listings SET stock = 5").await;
        settle(&market, &old).await;
        let next = MAPPING.replace("revision = 1", "revision = 2").replace(
            "\"lower(trim(l.status))\"",
            "\"CASE l.id WHEN 5 THEN 'forbidden' ELSE lower(trim(l.status)) END\"",
        );
        let new = market.open_with(Market::mapping(&next)).await;
        new.raise_revision().await.unwrap();
        backfill(&new).await;
        drain(&new).await;
        let open = "SELECT 'open' FROM changeover_backfill WHERE place = 'legacy' AND NOT done";
        assert_eq!(market.legacy.texts(open).await, Vec::<String>::new());
        let dirty = market.dirty().await;
        assert!(
            dirty.len() == 1 && dirty[0].starts_with("5 blocked"),
            "{dirty:?}"
        );
        let lag = new.copier().authority().lag().await.unwrap();
        assert_eq!((lag.dirty, lag.blocked), (1, 1));
        assert_eq!(verify(&new).await.count(Class::Blocked), 1);
    }

    /// A backfill and a verify that began before the revision was raised and end after it.
    pub(super) async fn evidence_of_an_older_revision_does_not_count(topology: Topology) {
        let market = Market::start(topology).await;
        market.fill(6).await;
        let old = market.installed().await;
        let began = old.epoch().await.unwrap();
        let next = MAPPING.replace("revision = 1", "revision = 2");
        let new = market.open_with(Market::mapping(&next)).await;
        new.raise_revision().await.unwrap();
        assert!(!old.record_backfill(&began).await.unwrap());
        for evidence in [Evidence::Backfilled, Evidence::Verified { doubts: 0 }] {
            assert!(!old.home().record(&began, evidence).await.unwrap());
        }
        let raised = new.epoch().await.unwrap();
        assert!(!raised.backfilled && !raised.verified, "{raised:?}");
        // With the row as it is now, the older process is refused, and the newer one counts.
        let refused = old.record_backfill(&raised).await;
        assert!(matches!(refused, Err(MigrationError::Revision { .. })));
        assert!(old.verify(VerifyOptions::default()).await.is_err());
        backfill(&new).await;
        assert!(verify(&new).await.clean());
        let proved = new.epoch().await.unwrap();
        assert!(proved.backfilled && proved.verified, "{proved:?}");
        // Nor does an older find of a difference take back what was proved since.
        let late = old.home().record(&began, Evidence::NotVerified).await;
        assert!(!late.unwrap() && new.epoch().await.unwrap().verified);
    }
}
