//! What MariaDB does to a follower's rows without firing a trigger, and what a second unique key does to
//! an upsert.

use changeover::worker::verify::Class;

use super::mariadb::refused;
use super::market::{Engine, MAPPING, Market, Topology, backfill, drain, verify};

/// `TRUNCATE` fires no trigger, so the guard does not refuse it: a verify names every key that it took, and
/// a repair brings them back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_table_that_is_truncated_is_found_and_repaired() {
    for topology in [Topology::PostgresToMariadb, Topology::MariadbTwoDatabases] {
        let market = Market::start(topology).await;
        market.fill(20).await;
        let migration = market.installed().await;
        backfill(&migration).await;
        assert!(verify(&migration).await.clean());
        market.new.run("TRUNCATE TABLE variants").await;
        let report = verify(&migration).await;
        assert_eq!(report.count(Class::Divergent), 20, "{report:?}");
        let truncate = "SET foreign_key_checks = 0; TRUNCATE TABLE service_listings; \
                        TRUNCATE TABLE pictures; SET foreign_key_checks = 1";
        market.new.run(truncate).await;
        let report = verify(&migration).await;
        // Keys whose shared address is left are not missing as a whole.
        let (missing, some) = (report.count(Class::Missing), report.count(Class::Divergent));
        assert_eq!((missing, some), (6, 14), "{report:?}");
        let keys: Vec<_> = (1..=20_i64).map(changeover::flags::Key::from).collect();
        migration.repair(false).run(&keys).await.unwrap();
        drain(&migration).await;
        market.assert_equal().await;
        assert!(verify(&migration).await.clean());
    }
}

/// A referenced row that goes changes a row of the authority that no trigger stamps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rule_that_writes_on_the_authority_is_refused() {
    for rule in [
        "ON DELETE CASCADE",
        "ON DELETE SET NULL",
        "ON UPDATE CASCADE",
        "ON UPDATE SET NULL",
        "ON DELETE RESTRICT ON UPDATE CASCADE",
    ] {
        let market = Market::start(Topology::MariadbToPostgres).await;
        let refers = format!(
            "ALTER TABLE photos MODIFY listing_id bigint NULL, \
             ADD FOREIGN KEY (listing_id) REFERENCES listings (id) {rule}"
        );
        market.legacy.run(&refers).await;
        let why = refused(&market, MAPPING).await;
        assert!(
            why.contains("foreign key of photos on (listing_id)")
                && why.contains("fires no trigger on MariaDB"),
            "{rule}: {why}"
        );
    }
    let market = Market::start(Topology::MariadbToPostgres).await;
    let refers = "ALTER TABLE photos ADD FOREIGN KEY (listing_id) REFERENCES listings (id) \
                  ON DELETE NO ACTION ON UPDATE RESTRICT";
    market.legacy.run(refers).await;
    market.open().await;
}

/// On the follower a rule from the copied row to its own parts is a copy's own doing; any other one changes
/// rows behind the fence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_that_write_on_the_follower_are_refused_but_within_an_aggregate() {
    for rule in ["ON DELETE SET NULL", "ON UPDATE CASCADE"] {
        let market = Market::start(Topology::PostgresToMariadb).await;
        let shared = format!(
            "ALTER TABLE service_listings ADD CONSTRAINT ruled FOREIGN KEY (address_id) \
             REFERENCES addresses (id) {rule}"
        );
        market.new.run(&shared).await;
        let why = refused(&market, MAPPING).await;
        let said = "service_listings changes when rows of addresses go";
        assert!(why.contains(said), "{rule}: {why}");
        let market = Market::start(Topology::PostgresToMariadb).await;
        let others = format!(
            "CREATE TABLE reviews (id bigint PRIMARY KEY, of bigint, \
             FOREIGN KEY (of) REFERENCES service_listings (id) {rule})"
        );
        market.new.run(&others).await;
        let why = refused(&market, MAPPING).await;
        let said = "rows of reviews, which this mapping does not write, change when rows of service_listings go";
        assert!(why.contains(said), "{rule}: {why}");
    }
    let market = Market::start(Topology::PostgresToMariadb).await;
    market
        .new
        .run(
            "ALTER TABLE pictures ADD CONSTRAINT within FOREIGN KEY (listing_id) \
             REFERENCES service_listings (id) ON DELETE CASCADE ON UPDATE CASCADE",
        )
        .await;
    market.fill(16).await;
    let migration = market.installed().await;
    backfill(&migration).await;
    market
        .legacy
        .run("DELETE FROM photos WHERE listing_id IN (4, 8); DELETE FROM listings WHERE id = 8")
        .await;
    drain(&migration).await;
    market.assert_equal().await;
    assert!(verify(&migration).await.clean());
}

/// An `ON DUPLICATE KEY UPDATE` would overwrite the row that holds the email, whoever's it is, without an
/// error: here nobody's row but the key's own is changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_unique_key_overwrites_nobodys_row() {
    for topology in [
        Topology::SqliteToMariadb,
        Topology::PostgresToMariadb,
        Topology::MariadbTwoDatabases,
        Topology::MariadbOneDatabase,
    ] {
        a_second_unique_key(topology).await;
    }
}

async fn a_second_unique_key(topology: Topology) {
    let market = Market::start(topology).await;
    let schema = |engine: Engine, sql: &str| engine.schema(sql);
    let legacy = "CREATE TABLE people (id bigint PRIMARY KEY NOT NULL, email {exact})";
    market
        .legacy
        .run(&schema(topology.legacy_engine(), legacy))
        .await;
    let new = "CREATE TABLE members (id bigint PRIMARY KEY NOT NULL, email {exact} UNIQUE, \
               note {word} NOT NULL DEFAULT 'none')";
    market.new.run(&schema(topology.new_engine(), new)).await;
    market
        .legacy
        .run("INSERT INTO people VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, NULL), (5, NULL)")
        .await;
    let mapping = "revision = 1\nroot = { table = 'people', key = ['id'] }\n[[target]]\nname = 'member'\n\
        table = 'members'\nowned_by = { key = ['id'] }\nidentity = ['id']\ncolumns = { id = 'id', email = 'email' }";
    let migration = market.installed_with(mapping).await;
    backfill(&migration).await;
    let noted =
        "UPDATE members SET note = CASE id WHEN 1 THEN 'one' WHEN 2 THEN 'two' ELSE note END";
    market.new.force(noted).await;
    let members = async || {
        let sql = "SELECT CAST(id AS text) || ' ' || coalesce(email, '-') || ' ' || note FROM members ORDER BY id";
        market.new.texts(sql).await
    };
    let at_first = ["1 a one", "2 b two", "3 c none", "4 - none", "5 - none"];
    assert_eq!(members().await, at_first, "{topology:?}");
    // Two new rows and an old one want the email of row 1.
    market
        .legacy
        .run("INSERT INTO people VALUES (6, 'a'), (7, 'a'); UPDATE people SET email = 'a' WHERE id = 2")
        .await;
    drain(&migration).await;
    assert_eq!(members().await, at_first, "{topology:?}");
    let report = verify(&migration).await;
    assert_eq!(report.count(Class::Blocked), 3, "{topology:?}: {report:?}");
    let dirty = market.dirty().await;
    let reasons = dirty.iter().all(|line| line.contains("a unique value"));
    assert!(dirty.len() == 3 && reasons, "{dirty:?}");
    // The email goes on, and around in a ring; one row takes it.
    market
        .legacy
        .run(
            "DELETE FROM people WHERE id IN (6, 7); UPDATE people SET email = 'z' WHERE id = 1; \
             UPDATE people SET email = 'b' WHERE id = 3; UPDATE people SET email = 'c' WHERE id = 1; \
             INSERT INTO people VALUES (8, 'd')",
        )
        .await;
    drain(&migration).await;
    let after = [
        "1 c one", "2 a two", "3 b none", "4 - none", "5 - none", "8 d none",
    ];
    assert_eq!(members().await, after, "{topology:?}");
    assert_eq!(market.dirty().await, Vec::<String>::new());
    assert!(verify(&migration).await.clean());
}
