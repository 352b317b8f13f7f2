//! What sets MariaDB apart as the follower: each trap of its own is refused, covered, or named.

use changeover::worker::dialect::session::Database;
use changeover::worker::migration::Migration;
use changeover::worker::verify::Class;

use super::mariadb::refused;
use super::market::{MAPPING, Market, Topology, backfill, drain, verify};
use super::races::settle;
use crate::support::{self, mariadb::Mariadb};

/// A market whose photos are told apart by a text under this collation.
async fn tagged(collation: &str) -> (Market, Migration) {
    let market = Market::start(Topology::SqliteToMariadb).await;
    let table = format!(
        "CREATE TABLE tags (listing bigint NOT NULL, tag varchar(40) COLLATE {collation} NOT NULL, photo bigint, \
         PRIMARY KEY (listing, tag))"
    );
    market.new.run(&table).await;
    let mapping = r#"
        revision = 1
        root = { table = "listings", key = ["id"] }
        [source.photos]
        key = ["listing_id"]
        [[target]]
        name = "tag"
        table = "tags"
        owned_by = { key = ["listing"] }
        identity = ["listing", "tag"]
        from = "photos"
        key = ["listing_id"]
        columns = { listing = "listing_id", tag = "url", photo = "id" }
    "#;
    market.fill(2).await;
    market
        .legacy
        .run("INSERT INTO photos VALUES (10, 1, 'a'), (20, 2, 'a')")
        .await;
    let migration = market.installed_with(mapping).await;
    backfill(&migration).await;
    (market, migration)
}

/// An `UPDATE` changes a row once, however many rows it is joined to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_rows_that_the_database_takes_for_one_are_held() {
    for (collation, second) in [
        ("utf8mb4_general_ci", "A"),
        ("utf8mb4_bin", "a "),
        ("utf8mb4_nopad_bin", "a"),
    ] {
        let (market, migration) = tagged(collation).await;
        let again = format!("INSERT INTO photos VALUES (11, 1, '{second}')");
        market.legacy.run(&again).await;
        drain(&migration).await;
        let dirty = market.dirty().await;
        assert!(
            dirty.len() == 1 && dirty[0].starts_with("1 blocked "),
            "{collation}: {dirty:?}"
        );
        assert!(!verify(&migration).await.clean(), "{collation}");
        market.legacy.run("DELETE FROM photos WHERE id = 10").await;
        drain(&migration).await;
        assert_eq!(market.dirty().await, Vec::<String>::new(), "{collation}");
        let tags = "SELECT tag || photo FROM tags ORDER BY listing";
        let tags = market.new.texts(tags).await;
        assert_eq!(tags, [format!("{second}11"), "a20".to_owned()]);
        assert!(verify(&migration).await.clean(), "{collation}");
    }
}

/// A row that came past the guards by the table's own count has the id that the sequence gives next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_id_changes_nobodys_row() {
    let market = Market::start(Topology::SqliteToMariadb).await;
    let migration = market.installed().await;
    market
        .new
        .force("INSERT INTO service_listings (legacy_id, provider_id, status, title) VALUES (4711, 101, 'x', 'mine')")
        .await;
    market.fill(3).await;
    for _ in 0..3 {
        drain(&migration).await;
    }
    let mine = "SELECT title FROM service_listings WHERE legacy_id = 4711";
    assert_eq!(market.new.text(mine).await, "mine");
    market
        .new
        .force("DELETE FROM service_listings WHERE legacy_id = 4711")
        .await;
    settle(&market, &migration).await;
}

/// The server hangs up on a message that is too long, as if the network had failed: fewer rows are sent,
/// and a row that is too long by itself says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_more_than_a_message_takes_come_in_parts() {
    let server = Mariadb::start();
    server.create_database("shop").await;
    let topology = Topology::SqliteToMariadb;
    let (folder, legacy, _) = topology.databases().await;
    let market = Market::on(topology, legacy, server.url("shop"), folder).await;
    let narrow = "SET GLOBAL max_allowed_packet = 1048576; ALTER TABLE service_listings MODIFY title longtext";
    market.new.run(narrow).await;
    market.fill(40).await;
    let wide = "UPDATE listings SET title = id || replace(hex(zeroblob(40000)), '0', 'x')";
    market.legacy.run(wide).await;
    let long = "UPDATE listings SET title = replace(hex(zeroblob(600000)), '0', 'x') WHERE id = 7";
    market.legacy.run(long).await;
    let migration = market.installed().await;
    backfill(&migration).await;
    market
        .legacy
        .run("UPDATE listings SET stock = stock + 1")
        .await;
    drain(&migration).await;
    let dirty = market.dirty().await;
    assert!(
        dirty.len() == 1
            && dirty[0].starts_with("7 blocked ")
            && dirty[0].contains("max_allowed_packet"),
        "{dirty:?}"
    );
    assert!(!verify(&migration).await.clean());
    let mended = "UPDATE listings SET title = 'short' WHERE id = 7";
    market.legacy.run(mended).await;
    settle(&market, &migration).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_copy_could_find_is_refused() {
    let market = Market::start(Topology::SqliteToMariadb).await;
    market
        .new
        .run(
            "CREATE TABLE folded (id bigint PRIMARY KEY, code varchar(40) COLLATE utf8mb4_general_ci NOT NULL UNIQUE);
             CREATE TABLE latin (listing varchar(40) CHARACTER SET latin1 COLLATE latin1_nopad_bin PRIMARY KEY)",
        )
        .await;
    let looked_up = MAPPING.replace(
        "table = \"providers\"\nby = \"tenant_id\"",
        "table = \"folded\"\nby = \"code\"",
    );
    assert_ne!(looked_up, MAPPING);
    let latin = "revision = 1\nroot = { table = 'listings', key = ['id'] }\n[[target]]\ntable = 'latin'\n\
                 owned_by.key = ['listing']\nidentity = ['listing']\ncolumns = { listing = 'id' }";
    for (mapping, why) in [
        (looked_up.as_str(), "takes texts that differ for equal"),
        (latin, "give it the character set utf8mb4"),
    ] {
        let [legacy, new] =
            [&market.legacy_url, &market.new_url].map(|url| Database::open(url).unwrap());
        let opened = Migration::open(Market::entity(), Market::mapping(mapping), legacy, new).await;
        let error = opened.expect_err("it was not refused");
        let source = std::error::Error::source(&error).map(ToString::to_string);
        let said = format!("{error}; {}", source.unwrap_or_default());
        assert!(said.contains(why), "{said}");
    }
}

/// What a column of decimals holds is found however it is written, and by nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decimal_that_does_not_fit_finds_no_row() {
    let market = Market::start(Topology::SqliteToMariadb).await;
    market
        .new
        .run(
            "CREATE TABLE rates (rate decimal(5,2) PRIMARY KEY, provider bigint NOT NULL);
             INSERT INTO rates VALUES (999.99, 101), (1.01, 102), (5, 101)",
        )
        .await;
    let mapping = MAPPING.replace(
        "table = \"providers\"\nby = \"tenant_id\"\nvalue = \"id\"",
        "table = \"rates\"\nby = \"rate\"\nvalue = \"provider\"",
    );
    assert_ne!(mapping, MAPPING);
    let migration = market.installed_with(&mapping).await;
    market
        .legacy
        .run(
            "INSERT INTO listings (id, tenant_id, status, house) VALUES \
             (1, 12345, 'active', NULL), (5, 5, 'active', NULL)",
        )
        .await;
    drain(&migration).await;
    let dirty = market.dirty().await;
    assert!(
        dirty.len() == 1 && dirty[0].starts_with("1 waiting "),
        "{dirty:?}"
    );
    let found = "SELECT legacy_id || ' ' || provider_id FROM service_listings";
    assert_eq!(market.new.texts(found).await, ["5 101"]);
}

/// Whatever the database of the table that refers, and however MariaDB writes its name on disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_databases_cascade_is_seen() {
    let market = Market::start(Topology::SqliteToMariadb).await;
    let other = support::mariadb::fresh_one().await;
    let [ours, other] = [&market.new_url, &other].map(|url| {
        let path = url.rsplit('/').next().unwrap();
        path.split('?').next().unwrap().to_owned()
    });
    let table = |rule: &str| {
        format!(
            "CREATE OR REPLACE TABLE {other}.`Ärger-2.x` \
             (of bigint, FOREIGN KEY (of) REFERENCES {ours}.service_listings (id) {rule})"
        )
    };
    market.new.run(&table("")).await;
    market.open().await;
    market.new.run(&table("ON DELETE SET NULL")).await;
    let why = refused(&market, MAPPING).await;
    assert!(why.contains("rows of Ärger-2.x, which this"), "{why}");
    assert_eq!(why.matches("Ärger").count(), 1, "{why}");
}

/// What is too long for a message becomes NULL, with a warning: no sum takes two such rows for equal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_more_than_a_message_takes_are_not_summed() {
    let server = Mariadb::start();
    server.create_database("shop").await;
    let url = server.url("shop");
    let market = Market::on(Topology::MariadbOneDatabase, url.clone(), url, None).await;
    let tables = ["wide", "copy"].map(|name| {
        format!("CREATE TABLE {name} (id bigint PRIMARY KEY, a longtext, b longtext);")
    });
    market.legacy.run(&tables.concat()).await;
    market
        .legacy
        .run("INSERT INTO wide SELECT seq, repeat('a', 40000), repeat('b', 40000) FROM seq_1_to_3")
        .await;
    let mapping = r#"
        revision = 1
        root = { table = "wide", key = ["id"] }
        [[target]]
        table = "copy"
        owned_by = { key = ["id"] }
        identity = ["id"]
        columns = { id = "id", a = "a", b = "b" }
    "#;
    let migration = market.installed_with(mapping).await;
    backfill(&migration).await;
    let report = verify(&migration).await;
    assert!(report.clean() && report.sums.ranges > 0, "{report:?}");
    market
        .new
        .force("UPDATE copy SET b = repeat('c', 40000) WHERE id = 2")
        .await;
    let narrow = "SET GLOBAL max_allowed_packet = 65536";
    market.new.run(narrow).await;
    let migration = market.open_with(Market::mapping(mapping)).await;
    let report = verify(&migration).await;
    let why = &report.samples[0].reason;
    assert!(
        report.count(Class::Divergent) == 3 && why.as_ref().unwrap().contains("max_allowed_packet"),
        "{report:?}"
    );
}
