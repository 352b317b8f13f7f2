//! An entity that is taken out and installed again: what was known of it before counts no more.

use changeover::flags::{Epoch, Flags, Percent, Stage};
use changeover::wiring::Wiring;
use changeover::worker::dialect::home::Evidence;
use changeover::worker::migration::{Migration, MigrationError};
use changeover::worker::store::Applied;
use changeover::worker::verify::Recorded;

use super::lifecycle::{everywhere, on_pairs};
use super::market::{Market, Topology, backfill};
use super::races::{key, ready, settle};

everywhere!(
    an_instance_that_finds_no_installation_reads_from_legacy,
    a_new_installation_outranks_the_one_before,
    evidence_from_before_is_not_taken,
    a_copy_from_before_is_refused,
    what_was_verified_in_stage_legacy_counts_for_nothing,
);

on_pairs!(
    a_new_installation_outranks_the_one_before,
    a_copy_from_before_is_refused,
);

/// Flags of an instance that reads everything from new.
fn all_on_new(epoch: &Epoch) -> Flags {
    let flags = Flags::memory(Market::entity());
    flags.learn(epoch).unwrap();
    flags.set_read_new(Percent::HUNDRED).unwrap();
    flags
}

/// No rows with generated ids may stand in the new tables.
async fn install_again(market: &Market, migration: &Migration) -> Epoch {
    migration.uninstall().await.unwrap();
    begin_again(market, migration).await
}

async fn begin_again(market: &Market, migration: &Migration) -> Epoch {
    market
        .new
        .run("DELETE FROM pictures; DELETE FROM variants; DELETE FROM service_listings")
        .await;
    migration.install().await.unwrap();
    let begun = migration.epoch().await.unwrap();
    assert!(begun.stage() == Stage::Legacy && begun.is_untouched());
    migration.start_copying().await.unwrap()
}

mod scenario {
    use super::*;

    pub(super) async fn an_instance_that_finds_no_installation_reads_from_legacy(
        topology: Topology,
    ) {
        let (market, migration) = ready(topology, 4).await;
        settle(&market, &migration).await;
        let flags = all_on_new(&migration.epoch().await.unwrap());
        let wiring = Wiring::new(migration.clone(), flags.clone()).await.unwrap();
        // Somebody else takes it out; this instance hears nothing before.
        market.open().await.uninstall().await.unwrap();
        let told = wiring.learn().await;
        assert!(
            matches!(told, Err(MigrationError::NotInstalled { .. })),
            "{told:?}"
        );
        let now = flags.load();
        assert_eq!(now.serving().unwrap(), Stage::Legacy);
        assert_eq!((now.ready, now.read_new), (false, Percent::ZERO));
        assert!(flags.set_read_new(Percent::HUNDRED).is_err());
    }

    pub(super) async fn a_new_installation_outranks_the_one_before(topology: Topology) {
        let (market, migration) = ready(topology, 4).await;
        settle(&market, &migration).await;
        let mut before = migration.epoch().await.unwrap();
        for round in 0..2 {
            // This instance was cut off all the time.
            let flags = all_on_new(&before);
            migration.uninstall().await.unwrap();
            if round == 1 {
                // The legacy side comes back from before it was ever installed.
                let sql = "DELETE FROM changeover_past WHERE place = 'legacy'";
                market.legacy.run(sql).await;
            }
            let after = begin_again(&market, &migration).await;
            assert!(
                after.number > before.number && after.base > before.base,
                "{round}: {before:?} {after:?}"
            );
            flags.learn(&after).unwrap();
            let now = flags.load();
            assert_eq!((now.ready, now.read_new), (false, Percent::ZERO), "{round}");
            backfill(&migration).await;
            settle(&market, &migration).await;
            before = migration.epoch().await.unwrap();
            assert!(before.ready(), "{before:?}");
        }
    }

    pub(super) async fn evidence_from_before_is_not_taken(topology: Topology) {
        let (market, migration) = ready(topology, 4).await;
        let before = migration.epoch().await.unwrap();
        let after = install_again(&market, &migration).await;
        for evidence in [Evidence::Backfilled, Evidence::Verified { doubts: 0 }] {
            assert!(!migration.home().record(&before, evidence).await.unwrap());
        }
        assert_eq!(migration.epoch().await.unwrap(), after);
    }

    /// A copier that was stopped for as long as all this takes.
    pub(super) async fn a_copy_from_before_is_refused(topology: Topology) {
        let (market, migration) = ready(topology, 4).await;
        for title in ["one", "two", "three"] {
            let sql = format!("UPDATE listings SET title = '{title}' WHERE id = 1");
            market.legacy.run(&sql).await;
        }
        let late = migration.copier().authority().read(&key("1")).await;
        install_again(&market, &migration).await;
        market
            .legacy
            .run("UPDATE listings SET title = 'newest' WHERE id = 1")
            .await;
        let late = late.unwrap();
        let applied = migration.copier().follower().apply(&late, None).await;
        assert_eq!(applied.unwrap(), [Applied::BehindBase]);
        backfill(&migration).await;
        settle(&market, &migration).await;
        market.assert_equal().await;
    }

    pub(super) async fn what_was_verified_in_stage_legacy_counts_for_nothing(topology: Topology) {
        let (market, migration) = ready(topology, 4).await;
        let stopped = migration.stop_copying().await.unwrap();
        // Everything is equal, but nobody copies: the next write makes it untrue.
        let report = migration.verify(Default::default()).await.unwrap();
        assert!(report.clean(), "{report:?}");
        assert_eq!(report.recorded, Recorded::NotCopied);
        assert!(!migration.epoch().await.unwrap().verified);
        let home = migration.home();
        assert!(
            !home
                .record(&stopped, Evidence::Verified { doubts: 0 })
                .await
                .unwrap()
        );
        market.legacy.run("UPDATE listings SET title = 'x'").await;
        assert!(!migration.start_copying().await.unwrap().ready());
        settle(&market, &migration).await;
        assert!(migration.epoch().await.unwrap().ready());

        // Stopped and begun again while it runs, so that something may have been left out.
        let moving = migration.clone();
        let moved = async || {
            moving.stop_copying().await.unwrap();
            moving.start_copying().await.unwrap();
        };
        let mut once = Some(moved);
        let told = |_| {
            if let Some(moved) = once.take() {
                let here = tokio::runtime::Handle::current();
                tokio::task::block_in_place(|| here.block_on(moved()));
            }
        };
        let verified = migration.verify_telling(Default::default(), told).await;
        let report = verified.unwrap();
        assert!(report.clean() && report.recorded == Recorded::Moved);
        assert!(!migration.epoch().await.unwrap().ready());
        let report = migration.verify(Default::default()).await.unwrap();
        assert_eq!(report.recorded, Recorded::Yes);
    }
}
