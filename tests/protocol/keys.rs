//! Keys that one engine has and another has not.

use changeover::worker::backfill::BackfillOptions;
use changeover::worker::preview::PreviewOptions;
use changeover::worker::verify::Class;

use super::market::{Market, Topology, backfill, drain, verify};

/// A mapping of codes to labels, by code.
pub(super) const CODES: &str = "revision = 1\nroot = { table = 'codes', key = ['code'] }\n[[target]]\nname = 'label'\n\
    table = 'labels'\nowned_by = { key = ['code'] }\nidentity = ['code']\ncolumns = { code = 'code', label = 'label' }";

/// PostgreSQL has no text with a NUL in it, so no fence either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_the_new_side_has_no_text_for_stops_nobody() {
    let market = Market::start(Topology::SqliteToPostgres).await;
    market
        .legacy
        .run("CREATE TABLE codes (code text PRIMARY KEY NOT NULL, label text); INSERT INTO codes VALUES ('8', 'x'), ('9', 'y'), ('a', 'one'), ('a' || char(0), 'none'), ('b', 'two')")
        .await;
    market
        .new
        .run("CREATE TABLE labels (code text PRIMARY KEY NOT NULL, label text)")
        .await;
    let migration = market.installed_with(CODES).await;
    // Where it is the last of a page, here the fourth, the sweep cannot keep how far it has come.
    let narrow = BackfillOptions {
        page: 4 / BackfillOptions::LOADED,
        ..BackfillOptions::default()
    };
    let stopped = migration.backfill(narrow).run(|_| {}).await.unwrap_err();
    assert!(stopped.to_string().contains("a NUL"), "{stopped}");
    backfill(&migration).await;
    let labels = "SELECT code || ' ' || label FROM labels ORDER BY 1";
    assert_eq!(
        market.new.texts(labels).await,
        ["8 x", "9 y", "a one", "b two"]
    );
    let report = verify(&migration).await;
    assert_eq!(report.count(Class::Blocked), 1, "{report:?}");
    assert_eq!(report.count(Class::Equal), 4, "{report:?}");
    market.legacy.run("UPDATE codes SET label = 'new'").await;
    drain(&migration).await;
    assert_eq!(
        market.new.texts(labels).await,
        ["8 new", "9 new", "a new", "b new"]
    );
    let dirty = market.dirty().await;
    assert!(dirty.len() == 1 && dirty[0].contains("a NUL"), "{dirty:?}");
    market
        .legacy
        .run("UPDATE codes SET code = 'c' WHERE code = 'a' || char(0)")
        .await;
    drain(&migration).await;
    assert_eq!(
        market.new.texts(labels).await,
        ["8 new", "9 new", "a new", "b new", "c new"]
    );
    assert_eq!(market.dirty().await, Vec::<String>::new());
    let report = verify(&migration).await;
    assert!(report.clean(), "{report:?}");
}

/// SQLite keeps bytes in a column of text, sorts them behind every text, and finds them by no text.
async fn a_key_of_bytes_is_blocked_and_stops_nobody(topology: Topology) {
    let market = Market::start(topology).await;
    market
        .legacy
        .run(
            "CREATE TABLE codes (code text PRIMARY KEY NOT NULL, label text);
             WITH RECURSIVE n(n) AS (SELECT 10 UNION ALL SELECT n + 1 FROM n WHERE n < 39)
             INSERT INTO codes SELECT CAST('k' || n AS BLOB), 'bytes' FROM n;
             INSERT INTO codes VALUES ('a', 'text'), ('b', 'text'), ('z', 'text')",
        )
        .await;
    market
        .new
        .run("CREATE TABLE labels (code text PRIMARY KEY NOT NULL, label text)")
        .await;
    let migration = market.installed_with(CODES).await;
    let narrow = PreviewOptions {
        page: 4,
        ..PreviewOptions::default()
    };
    let preview = migration.preview(narrow, |_| {}).await.unwrap();
    let found = preview.obstacles.first();
    let found = found.unwrap_or_else(|| panic!("{preview:?}"));
    assert!(found.reason.contains("stored as bytes"), "{preview:?}");
    assert_eq!((preview.carried, found.keys), (3, 30), "{preview:?}");
    // Smaller than what would come again and again.
    let narrow = BackfillOptions {
        page: 4 / BackfillOptions::LOADED,
        ..BackfillOptions::default()
    };
    migration.backfill(narrow).run(|_| {}).await.unwrap();
    drain(&migration).await;
    let labels = "SELECT code || ' ' || label FROM labels ORDER BY 1";
    assert_eq!(
        market.new.texts(labels).await,
        ["a text", "b text", "z text"]
    );
    market.legacy.run("UPDATE codes SET label = 'now'").await;
    drain(&migration).await;
    let dirty = market.dirty().await;
    assert_eq!(dirty.len(), 30, "{dirty:?}");
    assert!(dirty[0].starts_with("k10 blocked its key is stored as bytes"));
    let report = verify(&migration).await;
    assert_eq!(report.count(Class::Blocked), 30, "{report:?}");
    assert_eq!(report.count(Class::Equal), 3, "{report:?}");
    market
        .legacy
        .run("DELETE FROM codes WHERE code = CAST('k10' AS BLOB); UPDATE codes SET code = CAST(code AS text)")
        .await;
    drain(&migration).await;
    assert_eq!(market.dirty().await, Vec::<String>::new());
    assert_eq!(market.new.texts(labels).await.len(), 32);
    let report = verify(&migration).await;
    assert!(report.clean(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_bytes_is_blocked_and_stops_nobody_on_sqlite() {
    a_key_of_bytes_is_blocked_and_stops_nobody(Topology::SqliteTwoFiles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_bytes_is_blocked_and_stops_nobody_to_postgres() {
    a_key_of_bytes_is_blocked_and_stops_nobody(Topology::SqliteToPostgres).await;
}
