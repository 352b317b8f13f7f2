//! Two deployments with different mappings.

use changeover::worker::copy::CopySource;
use changeover::worker::dialect::home::Evidence;
use changeover::worker::migration::MigrationError;
use changeover::worker::store::StoreError;
use changeover::worker::verify::VerifyOptions;

use super::lifecycle::everywhere;
use super::market::{MAPPING, Market, Topology, backfill, drain, verify};
use super::races::{key, ready};

everywhere!(
    a_revision_lets_go_of_what_it_no_longer_names,
    an_older_revision_is_refused,
    a_new_revision_copies_everything_again,
    evidence_of_an_older_revision_does_not_count,
);

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
        let last = "changeover_stamp_legacy_listings_2%";
        let left = if topology.is_postgres() {
            format!("SELECT tgname::text FROM pg_trigger WHERE tgname LIKE '{last}'")
        } else {
            format!("SELECT name FROM sqlite_schema WHERE name LIKE '{last}'")
        };
        assert_eq!(market.legacy.texts(&left).await, Vec::<String>::new());
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
        for evidence in [Evidence::Backfilled, Evidence::Verified] {
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
