//! PostgreSQL roles: one without rights cannot install half of anything; the application's own
//! role, with rights on its tables alone, keeps writing and is stamped, whatever its search path.

use std::sync::Arc;

use changeover::worker::copy::CopySource;
use changeover::worker::mapping::Mapping;
use changeover::worker::mapping::toml::TomlMapping;
use changeover::worker::verify::VerifyOptions;

use super::stand::{MAPPING, Stand, chain, open, spoil, usual_mapping};
use crate::protocol::market::{Market, Plain, Topology, backfill, drain, verify};

/// A role of this test's own on the shared server, that may log in.
async fn role(stand: &Stand, word: &str) -> (String, String, String) {
    let database = stand
        .legacy_url
        .split('/')
        .next_back()
        .unwrap()
        .split('?')
        .next()
        .unwrap()
        .to_owned();
    let role = format!("{word}_{database}");
    stand.legacy.run(&format!("CREATE ROLE {role} LOGIN")).await;
    let url = |url: &str| url.replace("postgres@", &format!("{role}@"));
    (role.clone(), url(&stand.legacy_url), url(&stand.new_url))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_without_rights_installs_nothing() {
    let stand = Stand::usual(true).await;
    let before = stand.census().await;
    let (role, legacy_url, new_url) = role(&stand, "powerless").await;
    let said = |error: String| {
        for word in [
            "the role lacks a right",
            "connect as the tables' owner, or grant it",
            "SQLSTATE 42501: ",
        ] {
            assert!(error.contains(word), "does not say {word:?}: {error}");
        }
    };
    // Not even reading: the catalog is open to everyone, the rows are not.
    said(
        open(&legacy_url, &new_url, usual_mapping())
            .await
            .expect_err("no right to read"),
    );
    // Reading on one side, everything on the other: whichever is refused, neither is installed.
    for side in [&stand.legacy, &stand.new] {
        side.run(&format!(
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
        ))
        .await;
    }
    for (legacy, new) in [(&legacy_url, &stand.new_url), (&stand.legacy_url, &new_url)] {
        let migration = open(legacy, new, usual_mapping()).await.unwrap();
        said(chain(
            &migration.install().await.expect_err("no right to install"),
        ));
        assert_eq!(stand.census().await, before, "half an installation");
    }
    // A role without rights on the product's tables is not told that nothing is installed.
    let owner = stand.open(MAPPING).await.unwrap();
    owner.install().await.unwrap();
    let migration = open(&legacy_url, &new_url, usual_mapping()).await.unwrap();
    said(chain(
        &migration.epoch().await.expect_err("no right to the epoch"),
    ));
    said(chain(
        &migration
            .uninstall()
            .await
            .expect_err("no right to uninstall"),
    ));
    owner.uninstall().await.unwrap();
    assert_eq!(stand.census_without_past().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_applications_role_keeps_writing_and_is_stamped() {
    let stand = Stand::usual(true).await;
    let (role, legacy_url, new_url) = role(&stand, "app").await;
    for side in [&stand.legacy, &stand.new] {
        side.run(&format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}; CREATE SCHEMA earlier AUTHORIZATION {role}")).await;
    }
    let by_query = (
        "{ key = [\"item_id\"] }",
        "{ keys = \"SELECT id FROM items WHERE id = $row.item_id\" }",
    );
    let migration = stand.open(&spoil(MAPPING, by_query)).await.unwrap();
    migration.install().await.unwrap();
    migration.start_copying().await.unwrap();
    backfill(&migration).await;
    let (app, new_app) = (Plain::open(&legacy_url).await, Plain::open(&new_url).await);
    for table in [
        "changeover_key",
        "changeover_epoch",
        "changeover_id",
        "changeover_backfill",
        "changeover_expand",
    ] {
        for (side, sql) in [
            (&app, format!("SELECT 1 FROM {table}")),
            (&new_app, format!("DELETE FROM {table}")),
        ] {
            let error = side.try_run(&sql).await.expect_err(table).to_string();
            assert!(error.contains("permission denied"), "{sql}: {error}");
        }
    }
    for function in ["expand", "dependants"] {
        let call = format!("SELECT changeover_{function}_legacy_items_1('{{\"item_id\": 1}}')");
        stand.legacy.run(&call).await;
        let error = app.try_run(&call).await.expect_err("the worker's own");
        let error = error.to_string();
        assert!(error.contains("permission denied for function"), "{error}");
    }
    // A stamp table, and a table of the application, of the session's own, earlier in its path:
    // the triggers mean the ones they were made for.
    let fake = "(entity text, place text, key text, version bigint, synced bigint, state text, reason text, PRIMARY KEY (entity, place, key))";
    for (n, sql) in [
        "UPDATE items SET name = 'plain' WHERE id = 1".to_owned(),
        format!("SET search_path = pg_temp, earlier, public; CREATE TEMP TABLE changeover_key {fake}; CREATE TEMP TABLE changeover_epoch (entity text); UPDATE public.items SET name = 'temp' WHERE id = 1; DROP TABLE pg_temp.changeover_key, pg_temp.changeover_epoch; RESET search_path"),
        format!("CREATE TABLE earlier.changeover_key {fake}; SET search_path = earlier, public; UPDATE items SET name = 'earlier' WHERE id = 1; RESET search_path"),
        "CREATE FUNCTION earlier.current_setting(text, boolean) RETURNS text LANGUAGE sql AS 'SELECT ''on'''; SET search_path = earlier, pg_catalog, public; UPDATE items SET name = 'function' WHERE id = 1; RESET search_path".to_owned(),
        "SET search_path = ''; UPDATE public.items SET name = 'none' WHERE id = 1; RESET search_path".to_owned(),
        "SET session_replication_role = origin; UPDATE items SET name = 'origin' WHERE id = 1; RESET ALL".to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        let version = "SELECT CAST(version AS text) FROM public.changeover_key WHERE place = 'legacy' AND key = '1'";
        let before: i64 = stand.legacy.text(version).await.parse().unwrap_or(0);
        if n == 5 {
            // Only a superuser may play a replica: a refusal is as good.
            let _ = app.try_run(&sql).await;
            continue;
        }
        app.run(&sql).await;
        let after: i64 = stand.legacy.text(version).await.parse().unwrap();
        assert!(after > before, "{sql} left no stamp");
        drain(&migration).await;
        let names = stand.new.texts("SELECT name FROM things WHERE legacy_id = 1").await;
        assert_eq!(names, stand.legacy.texts("SELECT name FROM items WHERE id = 1").await, "{sql}");
    }
    assert_eq!(
        app.texts("SELECT key FROM earlier.changeover_key").await,
        Vec::<String>::new()
    );
    // The follower refuses the role on any path too, and takes what it does to parts of its own.
    for sql in [
        "DELETE FROM things",
        "SET LOCAL search_path = earlier; DELETE FROM public.things",
    ] {
        let error = new_app.try_run(sql).await.expect_err(sql).to_string();
        assert!(error.contains("changeover"), "{sql}: {error}");
    }
    app.run("DELETE FROM parts WHERE id = 10; INSERT INTO items (id, name) VALUES (3, 'three'); DELETE FROM items WHERE id = 2").await;
    drain(&migration).await;
    assert!(verify(&migration).await.clean());
    assert_eq!(
        stand
            .new
            .texts("SELECT name FROM things ORDER BY legacy_id")
            .await,
        ["none", "three"]
    );
    assert_eq!(stand.new.texts("SELECT label FROM bits").await, ["b"]);
}

/// A stamp runs with its owner's rights on its caller's search path: what that finds first must not be what it calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_name_in_a_stamp_is_looked_for_on_a_path() {
    let market = Market::start(Topology::PostgresTwoDatabases).await;
    for (side, table) in [(&market.legacy, "pairs"), (&market.new, "twins")] {
        side.run(&format!(
            "CREATE TABLE {table} (a bigint NOT NULL, b text NOT NULL, v text, PRIMARY KEY (a, b))"
        ))
        .await;
    }
    let mapping = r#"
        revision = 1
        root = { table = "pairs", key = ["a", "b"] }
        [[target]]
        table = "twins"
        owned_by = { key = ["a", "b"] }
        identity = ["a", "b"]
        columns = { a = "a", b = "b", v = "v" }
    "#;
    let migration = market.installed_with(mapping).await;
    backfill(&migration).await;
    let called = |name: &str, takes: &str, gives: &str| {
        format!(
            "CREATE FUNCTION earlier.{name}({takes}) RETURNS {gives} LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'called: {name}'; END $$;"
        )
    };
    let operator = |sign: &str, name: &str, left: &str, right: &str| {
        format!(
            "CREATE OPERATOR earlier.{sign} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = earlier.{name});"
        )
    };
    let hostile = [
        "CREATE SCHEMA earlier;".to_owned(),
        called("current_setting", "text, boolean", "text"),
        called("replace", "text, text, text", "text"),
        called("same", "text, text", "boolean"),
        operator("=", "same", "text", "text"),
        called("joined", "text, text", "text"),
        operator("||", "joined", "text", "text"),
        called("more", "bigint, integer", "bigint"),
        operator("+", "more", "bigint", "integer"),
        called("most", "bigint, bigint", "bigint"),
        operator("+", "most", "bigint", "bigint"),
        // To which the two keys of a row that moves are one.
        "CREATE COLLATION earlier.\"C\" (provider = icu, locale = 'und-u-ks-level1', deterministic = false);"
            .to_owned(),
        "CREATE TABLE earlier.changeover_key (LIKE public.changeover_key INCLUDING ALL);".to_owned(),
        "CREATE DOMAIN earlier.text AS integer;".to_owned(),
    ];
    market.legacy.run(&hostile.concat()).await;
    let write = |sql: &str| {
        format!("SET search_path = earlier, pg_catalog, public; {sql}; RESET search_path")
    };
    for sql in [
        r"INSERT INTO pairs VALUES (1, 'a,\', 'x'), (2, 'b', 'x'), (3, 'c', 'x')",
        "UPDATE pairs SET v = 'y'",
        "UPDATE pairs SET b = 'B' WHERE a = 2",
        "DELETE FROM pairs WHERE a = 3",
    ] {
        market.legacy.run(&write(sql)).await;
        drain(&migration).await;
        let rows = |table: &str| format!("SELECT t::pg_catalog.text FROM {table} t ORDER BY a, b");
        assert_eq!(
            market.new.texts(&rows("twins")).await,
            market.legacy.texts(&rows("pairs")).await,
            "{sql}"
        );
        assert!(verify(&migration).await.clean(), "{sql}");
    }
    let stray = "SELECT count(*) || '' FROM earlier.changeover_key";
    assert_eq!(market.legacy.text(stray).await, "0");
}

/// A policy of row level security leaves rows out of every answer without a word. A role that one
/// applies to gets an error instead, and one that none applies to all rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_hides_no_row_in_silence() {
    let stand = Stand::usual(true).await;
    let (role, legacy_url, new_url) = role(&stand, "walled").await;
    for (side, tables) in [
        (&stand.legacy, &["items", "parts"][..]),
        (&stand.new, &["makers", "kinds", "things", "bits"]),
    ] {
        side.run(&format!("GRANT CREATE ON SCHEMA public TO {role}"))
            .await;
        for table in tables {
            side.run(&format!("ALTER TABLE {table} OWNER TO {role}"))
                .await;
        }
    }
    let policy =
        "ALTER TABLE items ENABLE ROW LEVEL SECURITY; CREATE POLICY one ON items USING (id = 1)";
    stand.legacy.run(policy).await;
    let by_query = (
        "{ key = [\"item_id\"] }",
        "{ keys = \"SELECT id FROM items WHERE id = $row.item_id\" }",
    );
    let mapping: Arc<dyn Mapping> =
        Arc::new(spoil(MAPPING, by_query).parse::<TomlMapping>().unwrap());
    let opened = async || open(&legacy_url, &new_url, Arc::clone(&mapping)).await;
    // No policy applies to a table's owner, unless it is told to.
    let migration = opened().await.unwrap();
    migration.install().await.unwrap();
    migration.start_copying().await.unwrap();
    backfill(&migration).await;
    let names = "SELECT name FROM things ORDER BY 1";
    assert_eq!(stand.new.texts(names).await, ["one", "two"]);

    // Nor on the product's own table, where it would hide the key's version from its stamp.
    let walls = "ALTER TABLE changeover_key ENABLE ROW LEVEL SECURITY; ALTER TABLE changeover_key FORCE ROW LEVEL SECURITY;
         CREATE POLICY few ON changeover_key USING (key <> '1')";
    stand.legacy.run(walls).await;
    for write in [
        "UPDATE items SET name = 'other' WHERE id = 1",
        "UPDATE items SET id = 7 WHERE id = 1",
    ] {
        let error = stand.legacy.try_run(write).await.expect_err("no stamp");
        assert!(error.to_string().contains("row-level security"), "{error}");
    }
    let none =
        "DROP POLICY few ON changeover_key; ALTER TABLE changeover_key NO FORCE ROW LEVEL SECURITY;
         ALTER TABLE changeover_key DISABLE ROW LEVEL SECURITY";
    stand.legacy.run(none).await;

    let said = |error: String| {
        for word in [
            "a policy hides rows of it from the role",
            "BYPASSRLS",
            "\"items\"",
        ] {
            assert!(error.contains(word), "does not say {word:?}: {error}");
        }
    };
    stand
        .legacy
        .run("ALTER TABLE items FORCE ROW LEVEL SECURITY")
        .await;
    said(opened().await.expect_err("rows are hidden"));
    let late = migration
        .copier()
        .copy(&["2".into()], CopySource::Inline)
        .await;
    said(chain(&late.expect_err("the row is hidden")));
    said(chain(
        &migration
            .verify(VerifyOptions::default())
            .await
            .expect_err("rows are hidden"),
    ));
    // A trigger that cannot see which key a row belongs to: a write without a stamp would be lost.
    let write = "UPDATE parts SET item_id = 2 WHERE id = 10";
    let error = stand.legacy.try_run(write).await.expect_err("no stamp");
    assert!(error.to_string().contains("row-level security"), "{error}");
    assert_eq!(stand.new.texts(names).await, ["one", "two"]);

    stand
        .legacy
        .run(&format!("ALTER ROLE {role} BYPASSRLS"))
        .await;
    let migration = opened().await.unwrap();
    stand.legacy.run(write).await;
    drain(&migration).await;
    assert!(verify(&migration).await.clean());
    let moved = "SELECT name FROM things t JOIN bits b ON b.thing_id = t.id WHERE label = 'a'";
    assert_eq!(stand.new.texts(moved).await, ["two"]);
}
