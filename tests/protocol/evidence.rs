//! What is on record, and what it takes to put it there.

use std::sync::mpsc;

use changeover::flags::{Epoch, Flags, Percent};
use changeover::wiring::Wiring;
use changeover::worker::verify::{Class, Recorded, VerifyOptions};

use tokio::sync::mpsc::unbounded_channel;
use tokio::task::block_in_place;

use super::lifecycle::everywhere_and_on_pairs;
use super::market::{Market, Topology, verify};
use super::races::{ready, settle};

everywhere_and_on_pairs!(
    a_verify_by_which_nothing_has_arrived_proves_nothing,
    a_verify_that_began_before_a_difference_was_found_does_not_outrank_it,
    a_database_that_went_back_takes_readiness_along,
);

mod scenario {
    use super::*;

    /// Stopped for a week, and begun again: everything lags, and was never tried.
    pub(super) async fn a_verify_by_which_nothing_has_arrived_proves_nothing(topology: Topology) {
        let (market, migration) = ready(topology, 6).await;
        migration.stop_copying().await.unwrap();
        market
            .legacy
            .run("UPDATE listings SET title = 'a week later'")
            .await;
        migration.start_copying().await.unwrap();
        let report = verify(&migration).await;
        assert_eq!(report.count(Class::Lagging), 6, "{report:?}");
        assert!(report.clean() && report.recorded == Recorded::Lagging);
        assert!(!migration.epoch().await.unwrap().ready());
        settle(&market, &migration).await;
        // Some that lag are usual.
        market
            .legacy
            .run("UPDATE listings SET stock = 9 WHERE id < 4")
            .await;
        let report = verify(&migration).await;
        assert_eq!(report.count(Class::Lagging), 3, "{report:?}");
        assert_eq!(report.recorded, Recorded::Yes);
        assert!(migration.epoch().await.unwrap().ready());
    }

    pub(super) async fn a_verify_that_began_before_a_difference_was_found_does_not_outrank_it(
        topology: Topology,
    ) {
        let (market, migration) = ready(topology, 6).await;
        let options = VerifyOptions {
            page: 3,
            ..VerifyOptions::default()
        };
        // The first page is equal. Then one of its keys is forged, and somebody else verifies.
        let (passed, mut seen) = unbounded_channel();
        let (release, released) = mpsc::channel::<()>();
        let early = migration.clone();
        let early = tokio::spawn(async move {
            let mut released = Some(released);
            early
                .verify_telling(options, |progress| {
                    let _ = passed.send(progress.compared);
                    if let Some(released) = released.take() {
                        let _ = block_in_place(|| released.recv());
                    }
                })
                .await
        });
        assert_eq!(seen.recv().await, Some(3));
        let forge = "UPDATE service_listings SET title = 'forged' WHERE legacy_id = 1";
        market.new.force(forge).await;
        assert!(!verify(&migration).await.clean());
        drop(release);
        let report = early.await.unwrap().unwrap();
        assert!(report.clean(), "{report:?}");
        assert_eq!(report.recorded, Recorded::Moved);
        assert!(!migration.epoch().await.unwrap().verified);
    }

    /// Both sides restored together, as by a backup of one database: numbers are lower, and what
    /// the instance knew to be proved is not.
    pub(super) async fn a_database_that_went_back_takes_readiness_along(topology: Topology) {
        let (market, migration) = ready(topology, 4).await;
        let backup = migration.epoch().await.unwrap();
        migration.stop_copying().await.unwrap();
        migration.start_copying().await.unwrap();
        settle(&market, &migration).await;
        let flags = Flags::memory(Market::entity());
        let wiring = Wiring::new(migration.clone(), flags.clone()).await.unwrap();
        flags.set_read_new(Percent::HUNDRED).unwrap();
        market
            .legacy
            .run(&format!(
                "UPDATE changeover_epoch SET epoch = {}, verified = false WHERE place = 'legacy'",
                backup.number
            ))
            .await;
        wiring.learn().await.unwrap();
        let now = flags.load();
        assert!(!now.ready && now.read_new == Percent::ZERO, "{now:?}");
        assert_eq!(now.epoch, backup.number);
        // From here on the row counts, whatever it says.
        let stopped: Epoch = migration.stop_copying().await.unwrap();
        wiring.learn().await.unwrap();
        assert_eq!(flags.load().epoch, stopped.number);
    }
}
