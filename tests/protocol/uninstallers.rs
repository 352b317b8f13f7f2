//! Taking an entity out, while others copy and install, and beginning above it.

use changeover::flags::{Place, Version};
use changeover::worker::dialect::install::Side;
use changeover::worker::dialect::session::Database;
use changeover::worker::store::StoreError;
use sqlx::Executor;

use super::installers::{COPY, ONE_TRY, holding, tables, waiting};
use super::lifecycle::everywhere;
use super::market::{MAPPING, Market, Topology, backfill};
use super::races::{ready, settle};

everywhere!(
    an_incarnation_is_not_given_out_twice,
    a_raise_begins_above_what_was_taken_out,
);

mod scenario {
    use super::*;

    /// An installer that has found no past waits for a lock, while another installs, copies and
    /// uninstalls.
    pub(super) async fn an_incarnation_is_not_given_out_twice(topology: Topology) {
        let market = Market::start(topology).await;
        let legacy = Database::open(&market.legacy_url).unwrap();
        let (entity, mapping) = (Market::entity(), Market::mapping(MAPPING));
        let sources = tables(&legacy, &["listings", "photos", "tenants"]).await;
        let side = Side {
            database: &legacy,
            entity: &entity,
            place: Place::Legacy,
            shape: mapping.shape(),
            tables: &sources,
        };
        let script = side.authority_script(Version(0));
        market.installed().await.uninstall().await.unwrap();
        let refused = side.install(&script, Version(0), ONE_TRY).await;
        let Err(StoreError::Refused { advice, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert!(advice.contains("install again"), "{advice}");
        let migration = market.open().await;
        migration.install().await.unwrap();
        assert_eq!(migration.epoch().await.unwrap().base, Version::base(1));
    }

    /// The new side comes back from before the uninstallations that the legacy side knows of.
    pub(super) async fn a_raise_begins_above_what_was_taken_out(topology: Topology) {
        let (market, migration) = ready(topology, 4).await;
        let past = "INSERT INTO changeover_past VALUES ('listings', 'legacy', 4)";
        migration.uninstall().await.unwrap();
        market.legacy.run("DELETE FROM changeover_past").await;
        market
            .new
            .run("DELETE FROM pictures; DELETE FROM variants; DELETE FROM service_listings")
            .await;
        migration.install().await.unwrap();
        let lost = "DELETE FROM changeover_epoch WHERE place = 'legacy'";
        market.legacy.run(&format!("{lost}; {past}")).await;
        migration.install().await.unwrap();
        assert_eq!(migration.epoch().await.unwrap().base, Version::base(5));
        migration.start_copying().await.unwrap();
        backfill(&migration).await;
        settle(&market, &migration).await;
    }
}

/// A copy that has passed its checks may still write: the guards stay until it has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_uninstallation_waits_for_copies() {
    let (market, migration) = ready(Topology::PostgresTwoDatabases, 4).await;
    // As long as another entity is installed, the tables that a copy needs stay.
    let another = "INSERT INTO changeover_epoch SELECT 'another', place, epoch, authority, moving_to, \
         copying, incarnation, revision, mapping, backfilled, verified FROM changeover_epoch";
    market.new.run(another).await;
    let copy = holding(&market.new_url, COPY).await;
    let leaving = migration.clone().with_patience(ONE_TRY);
    let leaving = tokio::spawn(async move { leaving.uninstall().await });
    waiting(&market.new, "locktype = 'advisory'").await;
    let refused = market.new.try_run("DELETE FROM variants").await;
    refused.expect_err("a copy is in flight, and the guards are gone");
    drop(copy);
    leaving.await.unwrap().unwrap();
    market.new.run("DELETE FROM variants").await;
}

/// The tables go with the last entity: one that is being installed is not seen yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_uninstallation_waits_for_installers() {
    let (market, migration) = ready(Topology::PostgresTwoDatabases, 4).await;
    // What is created after it is granted to everybody, who may not read the past either.
    let mut another = holding(
        &market.legacy_url,
        "SELECT pg_advisory_xact_lock(hashtextextended('changeover/install', 0)); \
         ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC; \
         INSERT INTO changeover_epoch SELECT 'another', place, epoch, authority, moving_to, \
         copying, incarnation, revision, mapping, backfilled, verified FROM changeover_epoch",
    )
    .await;
    let leaving = migration.clone().with_patience(ONE_TRY);
    let leaving = tokio::spawn(async move { leaving.uninstall().await });
    waiting(&market.legacy, "true").await;
    another.execute("COMMIT").await.unwrap();
    leaving.await.unwrap().unwrap();
    let past = "SELECT incarnation::text FROM changeover_past \
         WHERE NOT has_table_privilege('public', 'changeover_past', 'SELECT')";
    assert_eq!(market.legacy.texts(past).await, ["0"]);
    let left = "SELECT entity FROM changeover_epoch";
    assert_eq!(market.legacy.texts(left).await, ["another"]);
}
