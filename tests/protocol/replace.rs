//! SQLite's `REPLACE`, which takes other rows out without a trigger: every key that loses a row is
//! stamped, whatever kind of unique index the row stood in.

use std::str::FromStr;

use changeover::worker::dialect::session::Database;
use changeover::worker::migration::Migration;
use changeover::worker::verify::Class;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Executor};

use super::market::{MAPPING, Market, Topology, backfill, verify};
use super::races::settle;

/// Unique indexes of every kind, on the root, on a child, and on a table whose keys are a query.
const INDEXES: &str = r#"
CREATE UNIQUE INDEX one_live ON listings (title) WHERE status = 'LIVE';
CREATE UNIQUE INDEX "one (lower" ON listings (/* of */ lower(sku) DESC, coalesce(tenant_id, -1) % 1);
CREATE UNIQUE INDEX one_house ON listings (house COLLATE NOCASE);
CREATE UNIQUE INDEX one_url ON photos (upper(url)) WHERE length(url) > 0 -- always
;
CREATE UNIQUE INDEX one_name ON tenants (name COLLATE NOCASE);
"#;

async fn ready(topology: Topology) -> (Market, Migration) {
    let market = Market::start(topology).await;
    market.fill(16).await;
    market.legacy.run(INDEXES).await;
    let migration = market.installed().await;
    backfill(&migration).await;
    (market, migration)
}

async fn every_kind_of_index(topology: Topology) {
    let (market, migration) = ready(topology).await;
    for (sql, displaced) in [
        (
            "UPDATE listings SET title = 'same', status = 'LIVE' WHERE id = 1; UPDATE listings SET title = 'same' WHERE id = 2",
            "1",
        ),
        // Row 2 was not in the partial index before.
        (
            "UPDATE OR REPLACE listings SET status = 'LIVE' WHERE id = 2",
            "1",
        ),
        (
            "INSERT OR REPLACE INTO listings (id, tenant_id, title, status) VALUES (50, 1, 'same', 'LIVE')",
            "2",
        ),
        (
            "INSERT OR REPLACE INTO listings (id, tenant_id, title, status, sku) VALUES (51, 1, 'x', 'SOLD', 'SKU-3')",
            "3",
        ),
        (
            "UPDATE OR REPLACE listings SET sku = 'Sku-3', id = 52 WHERE id = 5",
            "51",
        ),
        // Its own value was NULL before.
        (
            "INSERT INTO listings (id, tenant_id, status) VALUES (53, 1, 'SOLD')",
            "53",
        ),
        (
            "UPDATE OR REPLACE listings SET sku = 'SKU-7' WHERE id = 53",
            "7",
        ),
        (
            "INSERT OR REPLACE INTO listings (id, tenant_id, status, house) VALUES (54, 1, 'SOLD', ' HOUSE 10 ')",
            "10",
        ),
        (
            "REPLACE INTO photos (id, listing_id, url) VALUES (900, 6, 'U4')",
            "4",
        ),
        (
            "UPDATE OR REPLACE photos SET url = 'w8' WHERE id = 900",
            "8",
        ),
        (
            "UPDATE OR REPLACE tenants SET name = 'BO' WHERE id = 1",
            "9",
        ),
        ("INSERT INTO tenants VALUES (2, 'Bea')", "11"),
        ("REPLACE INTO tenants VALUES (7, 'bea')", "11"),
    ] {
        market.legacy.run(sql).await;
        let dirty = market.dirty().await;
        assert!(
            dirty.contains(&format!("{displaced} ok ")),
            "{sql}: {dirty:?}"
        );
        settle(&market, &migration).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_index_in_two_files() {
    every_kind_of_index(Topology::SqliteTwoFiles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_index_in_one_file() {
    every_kind_of_index(Topology::SqliteOneFile).await;
}

/// The triggers run at every write of the application: they search by the indexes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_in_the_way_are_searched_by_their_index() {
    let (market, _migration) = ready(Topology::SqliteTwoFiles).await;
    let triggers = market
        .legacy
        .texts(
            "SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND name LIKE '%replace_insert'",
        )
        .await;
    assert_eq!(triggers.len(), 3, "{triggers:?}");
    for trigger in triggers {
        let from = trigger.find("FROM (SELECT").unwrap() + "FROM (".len();
        let to = trigger.find(") d WHERE").unwrap();
        // The row that comes, as a table of one row.
        let select = trigger[from..to].replace("NEW.\"", "n.\"");
        let table = trigger.split(" ON \"").nth(1).unwrap();
        let table = &table[..table.find('"').unwrap()];
        let plan = format!(
            "EXPLAIN QUERY PLAN SELECT (SELECT count(*) FROM ({select})) FROM (SELECT * FROM {table} LIMIT 1) n"
        );
        let plan = market.legacy.plan(&plan).await;
        let scans: Vec<&String> = plan
            .iter()
            .filter(|step| {
                [
                    "SCAN listings",
                    "SCAN photos",
                    "SCAN tenants",
                    "SCAN changeover_r",
                ]
                .iter()
                .any(|scan| step.starts_with(scan))
            })
            .collect();
        assert!(plan.len() > 3 && scans.len() <= 1, "{plan:#?}\n{select}");
    }
}

/// Lookups and shared rows on the new side may be added to, so `REPLACE` cannot be told from an
/// insert there; what it takes away is found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_on_the_new_side_is_found() {
    for sql in [
        "REPLACE INTO providers VALUES (999, 1)",
        "REPLACE INTO addresses (id, house) VALUES (9999, 'House 1')",
    ] {
        let (market, migration) = ready(Topology::SqliteTwoFiles).await;
        let sql = format!("PRAGMA foreign_keys = OFF; {sql}; PRAGMA foreign_keys = ON");
        market.new.run(&sql).await;
        let report = verify(&migration).await;
        assert!(report.count(Class::Divergent) > 0, "{sql}: {report:?}");
    }
}

/// An index that the worker cannot evaluate, since its collation is the application's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_cannot_be_evaluated_is_refused() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    let mut own = SqliteConnectOptions::from_str(&market.legacy_url)
        .unwrap()
        .collation("backwards", |a, b| b.cmp(a))
        .connect()
        .await
        .unwrap();
    own.execute("CREATE UNIQUE INDEX one_sku ON listings (sku COLLATE backwards)")
        .await
        .unwrap();
    let open = |url: &str| Database::open(url).unwrap();
    let error = Migration::open(
        Market::entity(),
        Market::mapping(MAPPING),
        open(&market.legacy_url),
        open(&market.new_url),
    )
    .await
    .expect_err("nobody can tell which rows are in the way");
    let error = error.to_string();
    for word in [
        "root.table",
        "one_sku",
        "backwards",
        "drop it during the migration",
    ] {
        assert!(error.contains(word), "{word}: {error}");
    }
}
