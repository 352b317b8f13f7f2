//! Triggers that are gone, are another table's, or are switched off: writes leave no stamp, nothing refuses
//! them, and whoever asks is told.

use changeover::worker::dialect::session::Database;
use changeover::worker::migration::{Migration, MigrationError};
use changeover::worker::verify::Class;

use super::market::{Engine, MAPPING, Market, Topology, backfill, drain, verify};
use super::races::{ready, settle};
use crate::operate::command::Desk;

/// The ways to lose triggers on the legacy side, and what is said of them.
fn losses(engine: Engine) -> Vec<(&'static str, &'static str)> {
    const COPIED: &str = "CREATE TABLE photos_2 (id bigint PRIMARY KEY NOT NULL, listing_id bigint NOT NULL, url text NOT NULL); \
         INSERT INTO photos_2 SELECT * FROM photos; CREATE INDEX photos_of_2 ON photos_2 (listing_id); ";
    let swap = match engine {
        // As pt-online-schema-change and gh-ost do it.
        Engine::Mariadb => "RENAME TABLE photos TO photos_1, photos_2 TO photos",
        _ => "ALTER TABLE photos RENAME TO photos_1; ALTER TABLE photos_2 RENAME TO photos",
    };
    let swapped: &'static str = format!("{COPIED}{swap}").leak();
    let mut losses = vec![(swapped, "photos (legacy)")];
    match engine {
        Engine::Mariadb => losses.extend([
            (
                // With its triggers.
                "DROP TABLE photos_1; CREATE TABLE photos_2 LIKE photos; INSERT INTO photos_2 SELECT * FROM photos; \
                 DROP TABLE photos; RENAME TABLE photos_2 TO photos",
                "photos (legacy)",
            ),
            (
                "BEGIN NOT ATOMIC DECLARE t varchar(64); SELECT trigger_name INTO t FROM information_schema.triggers \
                   WHERE trigger_schema = database() AND event_object_table = 'listings' AND event_manipulation = 'UPDATE'; \
                 EXECUTE IMMEDIATE concat('DROP TRIGGER ', t); END",
                "listings (legacy)",
            ),
            (
                "DELETE FROM changeover_guard",
                "listings (legacy), photos (legacy), tenants (legacy)",
            ),
        ]),
        Engine::Postgres => losses.extend([
            (
                "ALTER TABLE listings DISABLE TRIGGER USER",
                "listings (legacy)",
            ),
            (
                "DROP TRIGGER changeover_stamp_legacy_listings_0 ON listings",
                "listings (legacy)",
            ),
            // Enabled again: not in sessions that play a replica.
            (
                "ALTER TABLE tenants DISABLE TRIGGER USER; ALTER TABLE tenants ENABLE TRIGGER USER",
                "tenants (legacy)",
            ),
        ]),
        Engine::Sqlite => losses.push((
            "DROP TRIGGER changeover_stamp_legacy_listings_0_update",
            "listings (legacy)",
        )),
    }
    losses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_triggers_are_told_and_put_back_on_sqlite() {
    lost_triggers_are_told_and_put_back(Topology::SqliteTwoFiles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_triggers_are_told_and_put_back_on_postgres() {
    lost_triggers_are_told_and_put_back(Topology::PostgresTwoDatabases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_triggers_are_told_and_put_back_on_mariadb() {
    lost_triggers_are_told_and_put_back(Topology::MariadbToPostgres).await;
}

async fn lost_triggers_are_told_and_put_back(topology: Topology) {
    let (market, migration) = ready(topology, 12).await;
    assert!(verify(&migration).await.clean());
    let mut extra = 12;
    for (sql, tables) in losses(market.legacy.engine()) {
        let before = migration.epoch().await.unwrap();
        assert!(before.ready(), "{before:?}");
        market.legacy.run(sql).await;
        // A process that was there before is told as well as one that starts now.
        for migration in [&migration, &market.open().await] {
            assert_eq!(
                migration.bare_tables().await.unwrap().join(", "),
                tables,
                "{sql}"
            );
            let report = verify(migration).await;
            assert!(!report.clean() && report.bare_tables.join(", ") == tables);
            assert_eq!(report.count(Class::Equal), report.compared, "{report:?}");
            let refused = migration.record_backfill(&before).await.unwrap_err();
            assert!(matches!(refused, MigrationError::Triggers { .. }));
            assert!(refused.to_string().contains(tables), "{refused}");
        }
        // Reads have gone home.
        assert!(!migration.epoch().await.unwrap().ready());
        migration.stop_copying().await.unwrap();
        let refused = migration.start_copying().await.unwrap_err();
        assert!(
            matches!(refused, MigrationError::Triggers { .. }),
            "{refused}"
        );

        // Whatever of this leaves no stamp is found in the end.
        market
            .legacy
            .run(&format!(
                "UPDATE listings SET title = 'unseen' WHERE id = 2; UPDATE photos SET url = 'unseen' WHERE listing_id = 4; \
                 UPDATE tenants SET name = name || '!' WHERE id = 2; DELETE FROM photos WHERE listing_id = {extra}; \
                 DELETE FROM listings WHERE id = {extra}"
            ))
            .await;
        let again = market.open().await;
        again.install().await.unwrap();
        let after = again.epoch().await.unwrap();
        assert!(
            after.base > before.base && !after.ready(),
            "{sql}: {after:?}"
        );
        assert_eq!(again.bare_tables().await.unwrap(), Vec::<String>::new());
        again.start_copying().await.unwrap();
        backfill(&again).await;
        drain(&again).await;
        // Which keys are no more, a sweep of those that are cannot tell.
        let report = verify(&again).await;
        let gone: Vec<_> = report
            .samples
            .iter()
            .map(|one| (one.class, one.key.clone().into()))
            .collect();
        assert!(
            gone.iter().all(|(class, _)| *class == Class::Extra),
            "{report:?}"
        );
        let gone: Vec<_> = gone.into_iter().map(|(_, key)| key).collect();
        again.repair(false).run(&gone).await.unwrap();
        settle(&market, &again).await;
        market
            .legacy
            .run("UPDATE photos SET url = 'seen' WHERE listing_id = 8; UPDATE listings SET title = 'seen' WHERE id = 3")
            .await;
        assert_eq!(market.dirty().await.len(), 2, "{sql}");
        settle(&market, &again).await;
        extra -= 1;
    }
}

/// The new side's tables refuse whoever is no copier, as long as their triggers are there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_side_without_its_guards_is_told_and_put_back() {
    for (topology, bare, sql) in [
        (
            Topology::PostgresTwoDatabases,
            1,
            "ALTER TABLE variants DISABLE TRIGGER USER",
        ),
        (
            Topology::SqliteTwoFiles,
            1,
            "DROP TRIGGER changeover_reject_new_listings_2_update",
        ),
        // They are all there, and switched off.
        (
            Topology::MariadbTwoDatabases,
            5,
            "UPDATE changeover_guard SET incarnation = -1 WHERE place = 'new'",
        ),
        // A copy of it takes its place, without its triggers.
        (
            Topology::MariadbTwoDatabases,
            1,
            "CREATE TABLE twin LIKE variants; INSERT INTO twin SELECT * FROM variants;
             ALTER TABLE twin ADD FOREIGN KEY (listing_id) REFERENCES service_listings (id);
             RENAME TABLE variants TO former, twin TO variants; DROP TABLE former",
        ),
    ] {
        let (market, migration) = ready(topology, 6).await;
        market.new.run(sql).await;
        let report = verify(&migration).await;
        assert!(report.bare_tables.contains(&"variants (new)".to_owned()));
        assert_eq!(report.bare_tables.len(), bare, "{:?}", report.bare_tables);
        market.new.run("UPDATE variants SET stock = 99").await;
        migration.install().await.unwrap();
        backfill(&migration).await;
        settle(&market, &migration).await;
        let refused = market.new.try_run("UPDATE variants SET stock = 98").await;
        assert!(refused.is_err());
    }
}

/// By command: what an operator is told, and what ends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_is_told_of_lost_triggers() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    market.fill(12).await;
    let desk = Desk::of(&market);
    desk.run("install").await.with(0);
    desk.run("backfill").await.with(0);
    desk.run("verify").await.with(0);
    market
        .legacy
        .run("DROP TRIGGER changeover_stamp_legacy_listings_0_update; UPDATE listings SET title = 'unseen'")
        .await;
    assert_eq!(desk.status().await["bare_tables"][0], "listings (legacy)");
    let told = desk.run("status").await.with(0).out;
    assert!(told.contains("TRIGGERS ARE GONE"), "{told}");
    let refused = desk.run("backfill").await.with(1).err;
    assert!(refused.contains("changeover install"), "{refused}");
    let warned = desk.run("drain").await.with(0).err;
    assert!(warned.contains("warning: the triggers"), "{warned}");
    let verified = desk.run("verify").await.with(1).out;
    assert!(
        verified.contains("NOT clean") && verified.contains("on listings (legacy)"),
        "{verified}"
    );
    for line in ["install", "backfill", "drain", "verify"] {
        desk.run(line).await.with(0);
    }
    assert!(
        desk.status().await["bare_tables"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    market.assert_equal().await;
}

/// Without the right to create triggers one sees that they are there. To take them for lost would raise
/// the base at every start of an application.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_may_only_write_does_not_miss_the_triggers() {
    let market = Market::start(Topology::MariadbToSqlite).await;
    let migration = market.installed().await;
    let before = migration.epoch().await.unwrap();
    let database = market.legacy.text("SELECT database()").await;
    let user = format!("app_{database}");
    market
        .legacy
        .run(&format!(
            "CREATE USER {user}; GRANT PROCESS ON *.* TO {user}; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON {database}.* TO {user}"
        ))
        .await;
    let url = market.legacy_url.replace("root@", &format!("{user}@"));
    let [legacy, new] = [&url, &market.new_url].map(|url| Database::open(url).unwrap());
    let app = Migration::open(Market::entity(), Market::mapping(MAPPING), legacy, new).await;
    let app = app.unwrap();
    app.install().await.unwrap();
    app.triggers_stand().await.unwrap();
    assert_eq!(migration.epoch().await.unwrap(), before);
}
