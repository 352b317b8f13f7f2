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
             UPDATE codes SET code = x'00ff' WHERE code = CAST('k39' AS BLOB);
             INSERT INTO codes VALUES ('a', 'text'), ('b', 'text'), ('z', 'text'), ('x''6B31', 'text')",
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
    assert_eq!((preview.carried, found.keys), (4, 30), "{preview:?}");
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
        ["a text", "b text", "x'6B31 text", "z text"]
    );
    market.legacy.run("UPDATE codes SET label = 'now'").await;
    drain(&migration).await;
    let dirty = market.dirty().await;
    assert_eq!(dirty.len(), 30, "{dirty:?}");
    // The last one is no text at all.
    for (held, key) in [(&dirty[0], "x'00FF'"), (&dirty[1], "x'6B3130'")] {
        let why = format!("{key} blocked its key is stored as bytes");
        assert!(held.starts_with(&why), "{dirty:?}");
    }
    let report = verify(&migration).await;
    assert_eq!(report.count(Class::Blocked), 30, "{report:?}");
    assert_eq!(report.count(Class::Equal), 4, "{report:?}");
    market
        .legacy
        .run("DELETE FROM codes WHERE code IN (CAST('k10' AS BLOB), x'00ff'); UPDATE codes SET code = CAST(code AS text)")
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

/// A table without a foreign key may be of a wider type than the one that it belongs to.
async fn a_key_that_no_row_of_the_root_can_have_is_blocked(topology: Topology) {
    let market = Market::start(topology).await;
    market
        .legacy
        .run(
            "CREATE TABLE things (id integer PRIMARY KEY NOT NULL, title text);
             CREATE TABLE notes (id integer PRIMARY KEY NOT NULL, thing_id bigint NOT NULL, body text);
             CREATE INDEX of_thing ON notes (thing_id);
             INSERT INTO things VALUES (1, 'one'), (2, 'two');
             INSERT INTO notes VALUES (10, 1, 'a'), (20, 3000000000, 'b'), (30, 7, 'c')",
        )
        .await;
    market
        .new
        .run(
            "CREATE TABLE items (id bigint PRIMARY KEY NOT NULL, title text);
             CREATE TABLE remarks (id bigint PRIMARY KEY NOT NULL, item bigint NOT NULL, body text);
             CREATE INDEX of_item ON remarks (item)",
        )
        .await;
    let mapping = "revision = 1\nroot = { table = 'things', key = ['id'] }\n\
        [source.notes]\nkey = ['thing_id']\n\
        [[target]]\nname = 'item'\ntable = 'items'\nowned_by = { key = ['id'] }\nidentity = ['id']\n\
        columns = { id = 'id', title = 'title' }\n\
        [[target]]\nname = 'remark'\nfrom = 'notes'\nkey = ['thing_id']\ntable = 'remarks'\nowned_by = { key = ['item'] }\n\
        identity = ['id']\ncolumns = { id = 'id', item = 'thing_id', body = 'body' }";
    let migration = market.installed_with(mapping).await;
    let preview = migration.preview(PreviewOptions::default(), |_| {}).await;
    let preview = preview.unwrap();
    assert_eq!(preview.obstacles.len(), 1, "{preview:?}");
    let blocked = async |keys: &[&str]| {
        let dirty = market.dirty().await;
        assert_eq!(dirty.len(), keys.len(), "{dirty:?}");
        for (held, key) in dirty.iter().zip(keys) {
            let why = format!("{key} blocked rows have a key that id of things cannot hold");
            assert!(held.starts_with(&why), "{dirty:?}");
        }
        let report = verify(&migration).await;
        assert_eq!(
            report.count(Class::Blocked),
            keys.len() as u64,
            "{report:?}"
        );
    };
    backfill(&migration).await;
    drain(&migration).await;
    blocked(&["3000000000"]).await;
    let remarks = "SELECT body FROM remarks ORDER BY 1";
    assert_eq!(market.new.texts(remarks).await, ["a", "c"]);
    let write = "INSERT INTO notes VALUES (40, 4000000000, 'd')";
    market.legacy.run(write).await;
    drain(&migration).await;
    blocked(&["3000000000", "4000000000"]).await;
    market
        .legacy
        .run("DELETE FROM notes WHERE id = 20; UPDATE notes SET thing_id = 2 WHERE id = 40")
        .await;
    drain(&migration).await;
    assert_eq!(market.dirty().await, Vec::<String>::new());
    assert_eq!(market.new.texts(remarks).await, ["a", "c", "d"]);
    let report = verify(&migration).await;
    assert!(report.clean(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_no_row_of_the_root_can_have_is_blocked_on_postgres() {
    a_key_that_no_row_of_the_root_can_have_is_blocked(Topology::PostgresTwoDatabases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_no_row_of_the_root_can_have_is_blocked_on_mariadb() {
    a_key_that_no_row_of_the_root_can_have_is_blocked(Topology::MariadbTwoDatabases).await;
}

/// Their keys are bytes of rows that may be in the root table or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_bytes_in_other_tables_are_blocked() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    market
        .legacy
        .run(
            "CREATE TABLE codes (code text PRIMARY KEY NOT NULL, label text);
             CREATE TABLE tags (id bigint PRIMARY KEY NOT NULL, code text NOT NULL);
             INSERT INTO codes VALUES ('a', 'text'), (CAST('k' AS BLOB), 'bytes');
             INSERT INTO tags VALUES (1, 'a'), (2, CAST('k' AS BLOB));
             WITH RECURSIVE n(n) AS (SELECT 10 UNION ALL SELECT n + 1 FROM n WHERE n < 19)
             INSERT INTO tags SELECT n, CAST('m' || n AS BLOB) FROM n",
        )
        .await;
    market
        .new
        .run(
            "CREATE TABLE labels (code text PRIMARY KEY NOT NULL, label text);
             CREATE TABLE tagged (id bigint PRIMARY KEY NOT NULL, code text NOT NULL);
             CREATE INDEX of_tagged ON tagged (code)",
        )
        .await;
    let mapping = format!(
        "{CODES}\n[source.tags]\nkey = ['code']\n{}",
        child("tags", "tagged")
    );
    let migration = market.installed_with(&mapping).await;
    let narrow = PreviewOptions {
        page: 4,
        ..PreviewOptions::default()
    };
    let preview = migration.preview(narrow, |_| {}).await.unwrap();
    assert_eq!((preview.tried, preview.carried), (12, 1), "{preview:?}");
    backfill(&migration).await;
    drain(&migration).await;
    let dirty = market.dirty().await;
    let named = |key: &&String| key.contains("blocked its key is stored as bytes");
    assert_eq!((dirty.len(), dirty.iter().filter(named).count()), (11, 11));
    let report = verify(&migration).await;
    assert_eq!(report.count(Class::Blocked), 11, "{report:?}");
    assert_eq!(report.count(Class::Equal), 1, "{report:?}");
}

/// A target whose rows have the key of [`CODES`].
fn child(from: &str, table: &str) -> String {
    format!(
        "[[target]]\nname = '{from}'\nfrom = '{from}'\nkey = ['code']\ntable = '{table}'\n\
         owned_by = {{ key = ['code'] }}\nidentity = ['id']\ncolumns = {{ id = 'id', code = 'code' }}\n"
    )
}

/// Texts of one table are sorted in another way than those of the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_under_two_collations_are_found() {
    let market = Market::start(Topology::PostgresTwoDatabases).await;
    market
        .legacy
        .run(
            "CREATE TABLE codes (code varchar(9) COLLATE \"C\" PRIMARY KEY NOT NULL, label text);
             CREATE TABLE tags (id bigint PRIMARY KEY NOT NULL, code varchar(9) COLLATE \"de-x-icu\" NOT NULL);
             CREATE TABLE notes (id bigint PRIMARY KEY NOT NULL, code varchar(9) COLLATE \"en-x-icu\" NOT NULL);
             INSERT INTO codes VALUES ('b', 'bee');
             INSERT INTO tags VALUES (1, 'b'), (2, 'ä');
             INSERT INTO notes VALUES (1, 'b'), (2, 'Z')",
        )
        .await;
    market
        .new
        .run(
            "CREATE TABLE labels (code varchar(9) PRIMARY KEY NOT NULL, label text);
             CREATE TABLE tagged (id bigint PRIMARY KEY NOT NULL, code varchar(9) NOT NULL);
             CREATE TABLE noted (id bigint PRIMARY KEY NOT NULL, code varchar(9) NOT NULL);
             CREATE INDEX of_tagged ON tagged (code);
             CREATE INDEX of_noted ON noted (code)",
        )
        .await;
    let mapping = format!(
        "{}\n[source.tags]\nkey = ['code']\n[source.notes]\nkey = ['code']\n{}{}",
        CODES,
        child("tags", "tagged"),
        child("notes", "noted")
    );
    let migration = market.installed_with(&mapping).await;
    let preview = migration.preview(PreviewOptions::default(), |_| {}).await;
    assert_eq!(preview.unwrap().carried, 3);
    backfill(&migration).await;
    drain(&migration).await;
    assert_eq!(
        market
            .new
            .texts("SELECT code FROM tagged ORDER BY id")
            .await,
        ["b", "ä"]
    );
    assert_eq!(
        market.new.texts("SELECT code FROM noted ORDER BY id").await,
        ["b", "Z"]
    );
    let report = verify(&migration).await;
    assert!(
        report.clean() && report.count(Class::Equal) == 3,
        "{report:?}"
    );
}
