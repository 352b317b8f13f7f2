//! Sides that come back from a backup: without their installation, or older than the other side.

use changeover::flags::{Flags, Percent, Place, Stage, Version};
use changeover::worker::dialect::install::{Patience, Side};
use changeover::worker::dialect::session::Database;
use changeover::worker::migration::{Migration, MigrationError};
use changeover::worker::store::Cursor;
use changeover::worker::verify::{Class, VerifyReport};

use super::installers::{revision, tables};
use super::lifecycle::{everywhere, on_pairs};
use super::market::{MAPPING, Market, Topology, backfill, drain, verify};
use super::races::{key, ready, settle};

everywhere!(
    a_legacy_side_from_before_its_installation,
    a_legacy_side_from_before_a_revision,
    a_legacy_side_at_a_lower_incarnation_overwrites_nothing,
    a_new_side_from_before_it_was_filled_again,
    stamps_outlive_their_row,
    a_sweep_from_below_the_base_keeps_no_cursor,
    what_came_between_two_halves_of_an_installation_is_seen,
);

on_pairs!(
    a_legacy_side_from_before_its_installation,
    a_legacy_side_at_a_lower_incarnation_overwrites_nothing,
    a_new_side_from_before_it_was_filled_again,
    stamps_outlive_their_row,
);

/// Takes out of one side what was installed there, as a backup from before does.
async fn lose(market: &Market, place: Place) {
    let url = match place {
        Place::Legacy => &market.legacy_url,
        Place::New => &market.new_url,
    };
    let (entity, mapping) = (Market::entity(), Market::mapping(MAPPING));
    let side = Side {
        database: &Database::open(url).unwrap(),
        entity: &entity,
        place,
        shape: mapping.shape(),
        tables: &[],
    };
    side.uninstall(Patience::default()).await.unwrap();
    let side = match place {
        Place::Legacy => &market.legacy,
        Place::New => &market.new,
    };
    side.forget_past().await;
}

/// Everything is equal but what is told by `class`.
fn unequal(report: &VerifyReport, class: Class) -> u64 {
    let count = report.count(class);
    assert_eq!(
        report.count(Class::Equal) + count,
        report.compared,
        "{report:?}"
    );
    count
}

mod scenario {
    use super::*;

    pub(super) async fn a_legacy_side_from_before_its_installation(topology: Topology) {
        let (market, migration) = ready(topology, 20).await;
        // What the backup does not have: writes, a delete, and two rows.
        market
            .legacy
            .run("UPDATE listings SET title = 'lost' WHERE id < 9; DELETE FROM photos WHERE listing_id = 4; DELETE FROM listings WHERE id = 4")
            .await;
        settle(&market, &migration).await;
        let before = migration.epoch().await.unwrap();
        let flags = Flags::memory(Market::entity());
        flags.learn(&before).unwrap();
        flags.set_read_new(Percent::HUNDRED).unwrap();
        drop(migration);
        lose(&market, Place::Legacy).await;
        market
            .legacy
            .run(
                "UPDATE listings SET title = 'from the backup' WHERE id < 6; \
                 DELETE FROM photos WHERE listing_id IN (19, 20); DELETE FROM listings WHERE id IN (19, 20); \
                 INSERT INTO listings (id, tenant_id, title, status) VALUES (4, 1, 'is there', 'ACTIVE')",
            )
            .await;

        let migration = market.open().await;
        migration.install().await.unwrap();
        let after = migration.epoch().await.unwrap();
        assert!(after.base > before.base && !after.ready(), "{after:?}");
        flags.learn(&after).unwrap();
        assert_eq!(flags.load().read_new, Percent::ZERO);
        assert!(flags.set_read_new(Percent::HUNDRED).is_err());
        // Evidence of a process that began before counts no more.
        assert!(!migration.record_backfill(&before).await.unwrap());

        migration.start_copying().await.unwrap();
        let report = verify(&migration).await;
        let counts = (report.count(Class::Pending), report.count(Class::Extra));
        assert_eq!((counts, report.compared), ((18, 2), 20), "{report:?}");
        market
            .legacy
            .run("UPDATE listings SET title = 'written since' WHERE id = 7")
            .await;
        backfill(&migration).await;
        drain(&migration).await;
        // What the backup does not know is nobody's lag: a human decides, and repair removes it.
        let report = verify(&migration).await;
        assert_eq!(unequal(&report, Class::Extra), 2, "{report:?}");
        assert!(!migration.epoch().await.unwrap().ready());
        let extra = ["19".into(), "20".into()];
        migration.repair(false).run(&extra).await.unwrap();
        settle(&market, &migration).await;
        let proved = migration.epoch().await.unwrap();
        assert!(proved.ready(), "{proved:?}");
        migration.install().await.unwrap();
        assert_eq!(migration.epoch().await.unwrap(), proved);
    }

    pub(super) async fn a_legacy_side_from_before_a_revision(topology: Topology) {
        let (market, old) = ready(topology, 8).await;
        let titles =
            |n: u32| format!("SELECT DISTINCT substr(title, 1, {n}) FROM service_listings");
        let before = old.epoch().await.unwrap();
        let new = market.open_with(Market::mapping(&revision(2))).await;
        new.raise_revision().await.unwrap();
        market.legacy.run("UPDATE listings SET stock = 70").await;
        backfill(&new).await;
        drain(&new).await;
        let raised = new.epoch().await.unwrap();
        drop((old, new));

        back_at(&market, before.base).await;
        market.legacy.run("UPDATE listings SET stock = 7").await;
        let new = market.open_with(Market::mapping(&revision(2))).await;
        let refused = new.install().await;
        assert!(
            matches!(refused, Err(MigrationError::Revision { mine: 2, .. })),
            "{refused:?}"
        );
        new.raise_revision().await.unwrap();
        let again = new.epoch().await.unwrap();
        assert!(
            again.base > raised.base && again.number > raised.number && !again.ready(),
            "{raised:?} {again:?}"
        );
        // The new side may hold what the backup does not: no start of an application copies.
        assert!(again.stage() == Stage::Legacy && !again.is_untouched());
        new.start_copying().await.unwrap();
        backfill(&new).await;
        drain(&new).await;
        assert_eq!(market.new.texts(&titles(3)).await, ["v2 "]);
        let stocks = "SELECT DISTINCT CAST(stock AS text) FROM variants";
        assert_eq!(market.new.texts(stocks).await, ["7"]);
        let report = verify(&new).await;
        assert!(report.clean() && unequal(&report, Class::Lagging) == 0);
    }

    /// What was written after the backup stands on the new side alone: nobody overwrites it before
    /// somebody said so, also where the start that found it died between the steps of its raise.
    pub(super) async fn a_legacy_side_at_a_lower_incarnation_overwrites_nothing(
        topology: Topology,
    ) {
        for died in [false, true] {
            let (market, migration) = ready(topology, 6).await;
            let before = migration.epoch().await.unwrap();
            let raised = |incarnation: u32| {
                format!(
                    "UPDATE changeover_epoch SET incarnation = {incarnation} WHERE place = 'new'"
                )
            };
            market.new.run(&raised(1)).await;
            migration.install().await.unwrap();
            let since = "UPDATE listings SET title = 'since the backup'";
            market.legacy.run(since).await;
            backfill(&migration).await;
            settle(&market, &migration).await;
            let held = migration.epoch().await.unwrap();
            assert!(held.ready() && held.stage() == Stage::DualWrite, "{held:?}");
            drop(migration);

            back_at(&market, before.base).await;
            let backup = "UPDATE listings SET title = 'from the backup'";
            market.legacy.run(backup).await;
            if died {
                market.new.run(&raised(3)).await;
            }
            let migration = market.open().await;
            migration.install().await.unwrap();
            let now = migration.epoch().await.unwrap();
            assert!(now.base > held.base && now.number > held.number && !now.ready());
            let waits = now.stage() == Stage::Legacy && !now.is_untouched();
            assert!(waits, "{died}: {now:?}");
            // Found once: starting again changes nothing.
            migration.install().await.unwrap();
            assert_eq!(migration.epoch().await.unwrap(), now);

            migration.start_copying().await.unwrap();
            backfill(&migration).await;
            settle(&market, &migration).await;
            migration.install().await.unwrap();
            assert!(migration.epoch().await.unwrap().ready());
        }
    }

    /// The legacy side has lost its row alone. A deleted key that was synced is dirty again, and the
    /// drain finds it.
    pub(super) async fn stamps_outlive_their_row(topology: Topology) {
        let (market, migration) = ready(topology, 4).await;
        let changes = "DELETE FROM photos WHERE listing_id = 3; DELETE FROM listings WHERE id = 3";
        market.legacy.run(changes).await;
        settle(&market, &migration).await;
        let lost = "DELETE FROM changeover_epoch WHERE place = 'legacy'";
        market.legacy.run(lost).await;
        migration.install().await.unwrap();
        migration.start_copying().await.unwrap();
        let authority = migration.copier().authority();
        let among = authority.dirty_among(&key("3")).await.unwrap();
        let listed = authority.dirty(None, 100).await.unwrap();
        assert!(among.len() == 1 && listed.iter().any(|dirty| dirty.key == key("3")[0]));
        backfill(&migration).await;
        drain(&migration).await;
        let among = authority.dirty_among(&key("3")).await.unwrap();
        assert!(among.is_empty(), "{among:?}");
        settle(&market, &migration).await;
    }

    /// A new side that was lost, filled again, and then restored from before it was lost: same
    /// revision, lower base, and everything is marked as synced.
    pub(super) async fn a_new_side_from_before_it_was_filled_again(topology: Topology) {
        let (market, migration) = ready(topology, 8).await;
        market
            .new
            .run("UPDATE changeover_epoch SET incarnation = 1 WHERE place = 'new'")
            .await;
        migration.install().await.unwrap();
        backfill(&migration).await;
        market
            .legacy
            .run("UPDATE listings SET title = 'synced' WHERE id < 6; DELETE FROM listings WHERE id = 7")
            .await;
        settle(&market, &migration).await;
        market
            .new
            .force(
                "UPDATE service_listings SET title = 'older'; \
                 INSERT INTO service_listings (legacy_id, provider_id, status) VALUES (7, 101, 'active'); \
                 UPDATE changeover_key SET version = 0, synced = 0 WHERE place = 'new'; \
                 UPDATE changeover_epoch SET incarnation = 0 WHERE place = 'new'",
            )
            .await;
        drop(migration);
        let migration = market.open().await;
        migration.install().await.unwrap();
        assert!(!migration.epoch().await.unwrap().ready());
        backfill(&migration).await;
        settle(&market, &migration).await;
    }

    /// A sweep that goes on in another process while the base is raised: where it has come to says
    /// nothing about what has to be copied again.
    pub(super) async fn a_sweep_from_below_the_base_keeps_no_cursor(topology: Topology) {
        let (market, migration) = ready(topology, 6).await;
        let follower = migration.copier().follower();
        let swept = follower.cursor().await.unwrap();
        assert!(swept.done && swept.passed == 6, "{swept:?}");
        market
            .new
            .run("UPDATE changeover_epoch SET incarnation = 1 WHERE place = 'new'")
            .await;
        migration.install().await.unwrap();
        let fresh = follower.cursor().await.unwrap();
        let base = migration.epoch().await.unwrap().base;
        assert_eq!(
            fresh,
            Cursor {
                base,
                ..Cursor::default()
            }
        );
        follower.save_cursor(&fresh).await.unwrap();
        let late = Cursor {
            done: false,
            ..swept
        };
        follower.save_cursor(&late).await.unwrap();
        let copy = migration.copier().authority().read(&key("1")).await;
        follower.apply(&copy.unwrap(), Some(&late)).await.unwrap();
        assert_eq!(follower.cursor().await.unwrap(), fresh);
        backfill(&migration).await;
        settle(&market, &migration).await;
    }

    /// Rows that somebody puts into the new tables before the new side's half is installed.
    pub(super) async fn what_came_between_two_halves_of_an_installation_is_seen(
        topology: Topology,
    ) {
        let market = Market::start(topology).await;
        market.fill(4).await;
        let migration = market.open().await;
        migration.install().await.unwrap();
        lose(&market, Place::New).await;
        market
            .new
            .run("INSERT INTO service_listings (legacy_id, provider_id, status) VALUES (1, 101, 'mine')")
            .await;
        let refused = migration.install().await;
        assert!(
            matches!(refused, Err(MigrationError::Occupied { .. })),
            "{refused:?}"
        );
        market.new.run("DELETE FROM service_listings").await;
        migration.install().await.unwrap();
        migration.start_copying().await.unwrap();
        backfill(&migration).await;
        settle(&market, &migration).await;
    }

    /// The legacy side as it was at revision 1 and `base`, all of it proved, before any stamp.
    async fn back_at(market: &Market, base: Version) {
        lose(market, Place::Legacy).await;
        let (entity, mapping) = (Market::entity(), Market::mapping(MAPPING));
        let legacy = Database::open(&market.legacy_url).unwrap();
        let side = Side {
            database: &legacy,
            entity: &entity,
            place: Place::Legacy,
            shape: mapping.shape(),
            tables: &tables(&legacy, &["listings", "photos", "tenants"]).await,
        };
        let script = side.authority_script(base);
        side.install(&script, base, Patience::default())
            .await
            .unwrap();
        market
            .legacy
            .run(
                "UPDATE changeover_epoch SET epoch = 2, copying = true, backfilled = true, \
                 verified = true WHERE place = 'legacy'",
            )
            .await;
    }
}

/// Instances that start together after a restore agree on what to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_that_start_together_find_a_lost_side_once() {
    for topology in [
        Topology::SqliteTwoFiles,
        Topology::PostgresTwoDatabases,
        Topology::PostgresOneDatabase,
    ] {
        let (market, migration) = ready(topology, 6).await;
        drop(migration);
        lose(&market, Place::Legacy).await;
        let starts = (0..5).map(|_| async {
            let migration: Migration = market.open().await;
            migration.install().await
        });
        for started in futures_util::future::join_all(starts).await {
            started.unwrap_or_else(|error| panic!("{topology:?}: {error:?}"));
        }
        let migration = market.open().await;
        migration.install().await.unwrap();
        migration.start_copying().await.unwrap();
        backfill(&migration).await;
        settle(&market, &migration).await;
    }
}
