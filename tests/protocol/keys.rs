//! Keys that one engine has and another has not.

use changeover::worker::backfill::BackfillOptions;
use changeover::worker::verify::Class;

use super::market::{Market, Topology, backfill, drain, verify};

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
    let mapping = "revision = 1\nroot = { table = 'codes', key = ['code'] }\n[[target]]\nname = 'label'\n\
        table = 'labels'\nowned_by = { key = ['code'] }\nidentity = ['code']\ncolumns = { code = 'code', label = 'label' }";
    let migration = market.installed_with(mapping).await;
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
