//! The built-in consistency checks: what each of them finds, and that lag is nothing to be found.

use std::collections::BTreeMap;

use changeover::worker::check::{CheckOptions, Checks, Outcome};
use changeover::worker::dialect::session::Database;
use changeover::worker::migration::Migration;

use super::command::forge;
use crate::protocol::market::{Engine, Market, Plain, Topology, backfill, drain};
use crate::support::postgres::Postgres;

/// What each check says: `clean`, or what it found, or why it could not.
async fn said(checks: &Checks) -> BTreeMap<String, String> {
    let report = checks.run(|_| ()).await;
    let said = report.checks.into_iter().map(|one| {
        let text = match one.outcome {
            Outcome::Clean => "clean".to_owned(),
            Outcome::Found { rows, samples, .. } => format!("{rows}: {}", samples.join(", ")),
            Outcome::NotYet { reason } => format!("not yet: {reason}"),
            Outcome::Failed { reason } => format!("failed: {reason}"),
        };
        (one.check, text)
    });
    said.collect()
}

/// Those that are not clean.
async fn unclean(migration: &Migration) -> BTreeMap<String, String> {
    let mut said = said(&migration.checks(Vec::new(), CheckOptions::default())).await;
    said.retain(|_, text| text != "clean");
    said
}

fn map<const N: usize>(of: [(&str, &str); N]) -> BTreeMap<String, String> {
    let of = of.map(|(name, text)| (name.to_owned(), text.to_owned()));
    BTreeMap::from(of)
}

/// Changes the new side past its guards and its foreign keys.
async fn forge_without_keys(market: &Market, sql: &str) {
    match market.new.engine() {
        Engine::Postgres => {
            let off = "SET LOCAL session_replication_role = 'replica'";
            forge(market, &format!("{off}; {sql}")).await;
        }
        Engine::Mariadb => {
            let forced = Engine::Mariadb.forced(sql);
            let sql = format!("SET foreign_key_checks = 0; {forced}; SET foreign_key_checks = 1");
            market.new.run(&sql).await;
        }
        Engine::Sqlite => {
            let sql = format!(
                "PRAGMA foreign_keys = OFF; BEGIN IMMEDIATE; INSERT INTO changeover_copying VALUES ('x'); \
                 {sql}; DELETE FROM changeover_copying; COMMIT; PRAGMA foreign_keys = ON"
            );
            market.new.run(&sql).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn built_in_checks_find_what_they_name_and_nothing_else_on_sqlite() {
    built_in_checks_find_what_they_name_and_nothing_else(Topology::SqliteTwoFiles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn built_in_checks_find_what_they_name_and_nothing_else_on_postgres() {
    built_in_checks_find_what_they_name_and_nothing_else(Topology::PostgresTwoDatabases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn built_in_checks_find_what_they_name_and_nothing_else_between_engines() {
    for topology in [
        Topology::PostgresToSqlite,
        Topology::SqliteToPostgres,
        Topology::MariadbToPostgres,
    ] {
        built_in_checks_find_what_they_name_and_nothing_else(topology).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn built_in_checks_find_what_they_name_and_nothing_else_on_mariadb() {
    built_in_checks_find_what_they_name_and_nothing_else(Topology::MariadbTwoDatabases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn built_in_checks_find_what_they_name_and_nothing_else_to_mariadb() {
    built_in_checks_find_what_they_name_and_nothing_else(Topology::PostgresToMariadb).await;
}

async fn built_in_checks_find_what_they_name_and_nothing_else(topology: Topology) {
    let market = Market::start(topology).await;
    market.fill(1_100).await;
    let migration = market.installed().await;
    let early = unclean(&migration).await;
    assert!(early["rows"].starts_with("not yet: "), "{early:?}");
    assert_eq!(early.len(), 1, "{early:?}");
    backfill(&migration).await;
    let all = said(&migration.checks(Vec::new(), CheckOptions::default())).await;
    let names: Vec<&str> = all.keys().map(String::as_str).collect();
    let expected = [
        "orphan:pictures.listing_id",
        "orphan:service_listings.address_id",
        "orphan:service_listings.provider_id",
        "orphan:variants.listing_id",
        "rows",
        "sequence:addresses.id",
        "sequence:pictures.id",
        "sequence:service_listings.id",
    ];
    assert_eq!(names, expected);
    assert!(all.values().all(|text| text == "clean"), "{all:?}");

    // Lag is no difference, in either direction.
    market
        .legacy
        .run(
            "INSERT INTO listings (tenant_id, title, status, sku) VALUES (1, 'late', 'active', 'late'); \
             DELETE FROM photos WHERE listing_id = 12; DELETE FROM listings WHERE id = 12; \
             INSERT INTO photos VALUES (9000, 13, 'late')",
        )
        .await;
    assert_eq!(unclean(&migration).await, map([]));
    drain(&migration).await;
    assert_eq!(unclean(&migration).await, map([]));

    // Rows that one side alone has, of a key whose other rows are there, and of one that is not.
    forge(
        &market,
        "DELETE FROM pictures WHERE listing_id = (SELECT id FROM service_listings WHERE legacy_id = 8); \
         INSERT INTO service_listings (legacy_id, provider_id, status) VALUES (4711, 101, 'forged')",
    )
    .await;
    let rows = map([("rows", "2: 8 (divergent), 4711 (extra)")]);
    assert_eq!(unclean(&migration).await, rows);
    forge(
        &market,
        "DELETE FROM service_listings WHERE legacy_id = 4711; \
         DELETE FROM variants WHERE listing_id = (SELECT id FROM service_listings WHERE legacy_id = 1002); \
         DELETE FROM service_listings WHERE legacy_id = 1002",
    )
    .await;
    let rows = map([("rows", "2: 8 (divergent), 1002 (missing)")]);
    assert_eq!(unclean(&migration).await, rows);
    let keys = ["8", "1002"].map(changeover::flags::Key::from);
    migration.repair(false).run(&keys).await.unwrap();
    assert_eq!(unclean(&migration).await, map([]));

    // A reference to nothing.
    let lost = "UPDATE service_listings SET provider_id = 999 WHERE legacy_id = 7";
    forge_without_keys(&market, lost).await;
    let id = "SELECT CAST(id AS text) FROM service_listings WHERE legacy_id = 7";
    let id = market.new.text(id).await;
    let orphan = map([(
        "orphan:service_listings.provider_id",
        format!("1: {id}").as_str(),
    )]);
    assert_eq!(unclean(&migration).await, orphan);
    let id = "SELECT CAST(max(id) AS text) FROM service_listings";
    let greatest: i64 = market.new.text(id).await.parse().unwrap();
    if market.new.is_postgres() {
        let back = format!("ALTER TABLE service_listings ALTER COLUMN id RESTART WITH {greatest}");
        market.new.run(&back).await;
        let found = unclean(&migration).await;
        let behind = format!("1: the next id is {greatest}, and {greatest} is taken");
        assert_eq!(found["sequence:service_listings.id"], behind);
        let front =
            format!("SELECT setval(pg_get_serial_sequence('service_listings', 'id'), {greatest})");
        market.new.run(&front).await;
        assert_eq!(unclean(&migration).await, orphan);
    }
}

/// Whether a key of another count lags is asked for that key: a walk through all dirty keys for each page that
/// has one would be hours where many are dirty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_counts_walk_through_no_dirty_keys() {
    // Its own: the shared one is asked by others.
    let server = Postgres::start();
    for side in ["legacy", "new"] {
        server.create_database(side).await;
    }
    let urls = (server.url("legacy"), server.url("new"));
    let market = Market::on(Topology::PostgresTwoDatabases, urls.0, urls.1, None).await;
    market.fill(1_200).await;
    let migration = market.installed().await;
    backfill(&migration).await;
    let late =
        "UPDATE listings SET stock = stock + 1; DELETE FROM photos WHERE listing_id % 100 = 0";
    market.legacy.run(late).await;
    let log = "ALTER DATABASE legacy SET log_statement = 'all'";
    market.legacy.run(log).await;
    assert_eq!(unclean(&migration).await, map([]));
    let asked = || server.log().matches(", state, reason FROM").count();
    assert!(server.log().contains("changeover_key"), "nothing is logged");
    assert_eq!(asked(), 0);
    drain(&market.open().await).await;
    assert!(asked() > 2, "that is how they are asked for");
}

const UNKEPT: &str = r#"
revision = 1
root = { table = "items", key = ["id"] }
[lookup.kind]
table = "kinds"
by = "code"
value = "id"
[[target]]
table = "goods"
owned_by.key = ["legacy_id"]
id = "id"
columns = { legacy_id = "id", kind_id = { lookup = "kind", by = "kind" } }
"#;

/// A reference of the mapping without a foreign key, and ids that a sequence gives.
async fn unkept(topology: Topology) {
    let (_folder, legacy_url, new_url) = topology.databases().await;
    let engine = topology.new_engine();
    let (legacy, new) = (Plain::open(&legacy_url).await, Plain::open(&new_url).await);
    legacy
        .run(
            "CREATE TABLE items (id bigint PRIMARY KEY NOT NULL, kind text); \
             INSERT INTO items VALUES (1, 'a'), (2, 'a'), (3, NULL), (4, 'b')",
        )
        .await;
    let id = match engine {
        Engine::Postgres => "serial PRIMARY KEY",
        Engine::Sqlite => "INTEGER PRIMARY KEY AUTOINCREMENT",
        Engine::Mariadb => "int AUTO_INCREMENT PRIMARY KEY",
    };
    new.run(&engine.schema(&format!(
        "CREATE TABLE kinds (id bigint PRIMARY KEY NOT NULL, code {{exact}} NOT NULL UNIQUE); \
         CREATE TABLE goods (id {id}, legacy_id bigint NOT NULL UNIQUE, kind_id bigint); \
         CREATE TABLE offers (number bigint NOT NULL, goods_id int REFERENCES goods (id)); \
         INSERT INTO kinds VALUES (11, 'a'), (12, 'b')"
    )))
    .await;
    let (old, to) = (Database::open(&legacy_url), Database::open(&new_url));
    let mapping = Market::mapping(UNKEPT);
    let migration = Migration::open(Market::entity(), mapping, old.unwrap(), to.unwrap());
    let migration = migration.await.unwrap();
    migration.install().await.unwrap();
    migration.start_copying().await.unwrap();
    backfill(&migration).await;
    assert_eq!(unclean(&migration).await, map([]));

    let mut forged = "UPDATE goods SET kind_id = 13 WHERE legacy_id IN (1, 2)".to_owned();
    forged = match engine {
        Engine::Mariadb => format!(
            "SET foreign_key_checks = 0; SET @changeover_copy = 1; START TRANSACTION; {forged}; \
             INSERT INTO offers VALUES (1, 77), (2, NULL); COMMIT; SET @changeover_copy = NULL; \
             SET foreign_key_checks = 1"
        ),
        Engine::Postgres => format!(
            "BEGIN; SET LOCAL changeover.copy = 'on'; SET LOCAL session_replication_role = 'replica'; \
             {forged}; INSERT INTO offers VALUES (1, 77), (2, NULL); COMMIT; SELECT setval('goods_id_seq', 3)"
        ),
        Engine::Sqlite => format!(
            "PRAGMA foreign_keys = OFF; BEGIN; INSERT INTO changeover_copying VALUES ('x'); {forged}; \
             INSERT INTO offers VALUES (1, 77), (2, NULL); DELETE FROM changeover_copying; COMMIT; \
             UPDATE sqlite_sequence SET seq = 3 WHERE name = 'goods'; PRAGMA foreign_keys = ON"
        ),
    };
    new.run(&forged).await;
    let mut expected = map([
        ("orphan:goods.kind_id", "2: 1, 2"),
        // The mapping does not name the table: what it refers to tells the row.
        ("orphan:offers.goods_id", "1: 77"),
        ("sequence:goods.id", "1: the next id is 4, and 4 is taken"),
    ]);
    if engine == Engine::Mariadb {
        // A column counts on from its greatest id, whatever it is told.
        new.run("ALTER TABLE goods AUTO_INCREMENT = 1").await;
        expected.remove("sequence:goods.id");
    }
    assert_eq!(unclean(&migration).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn references_without_a_foreign_key_and_sequences_are_looked_at_on_sqlite() {
    unkept(Topology::SqliteTwoFiles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn references_without_a_foreign_key_and_sequences_are_looked_at_on_postgres() {
    unkept(Topology::PostgresTwoDatabases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn references_without_a_foreign_key_are_looked_at_on_mariadb() {
    unkept(Topology::MariadbTwoDatabases).await;
    unkept(Topology::SqliteToMariadb).await;
}

/// A row may stand in any partition: the parts of such a foreign key are not looked at one by one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reference_into_a_partitioned_table_is_one_reference() {
    let market = Market::start(Topology::PostgresTwoDatabases).await;
    market.fill(10).await;
    market
        .new
        .run(
            "CREATE TABLE regions (id bigint PRIMARY KEY) PARTITION BY LIST (id); \
             CREATE TABLE regions_1 PARTITION OF regions FOR VALUES IN (1); \
             CREATE TABLE regions_2 PARTITION OF regions FOR VALUES IN (2); \
             INSERT INTO regions VALUES (1), (2); \
             ALTER TABLE service_listings ADD COLUMN region bigint DEFAULT 2 REFERENCES regions",
        )
        .await;
    let migration = market.installed().await;
    backfill(&migration).await;
    assert_eq!(unclean(&migration).await, map([]));
    forge_without_keys(
        &market,
        "UPDATE service_listings SET region = 3 WHERE legacy_id = 1",
    )
    .await;
    let found = unclean(&migration).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found["orphan:service_listings.region"].starts_with("1: "));
}
