//! Rows that make an expression fail in the database, and values that the new columns cannot hold:
//! their keys are set aside and say why, and nothing else stops.

use changeover::flags::Key;
use changeover::worker::backfill::BackfillOptions;
use changeover::worker::copy::CopySource;
use changeover::worker::migration::Migration;
use changeover::worker::pace::Pacing;
use changeover::worker::store::StoreError;
use changeover::worker::verify::Class;

use super::keys::CODES;
use super::lifecycle::everywhere_and_on_pairs;
use super::market::{Engine, MAPPING, Market, Topology, backfill, drain, verify};
use super::races::settle;

everywhere_and_on_pairs!(
    rows_that_fail_are_set_aside,
    a_row_that_begins_to_fail_is_set_aside,
    one_failing_filter_blames_one_key,
    a_failing_row_can_be_deleted,
    values_that_no_column_holds_are_set_aside,
    an_image_that_cannot_be_held_blocks_itself_alone,
    a_key_that_no_row_can_have_is_nothing,
    a_key_that_the_new_side_cannot_hold_can_be_deleted,
    what_is_no_fault_of_the_data_blocks_nothing,
    a_key_that_would_be_respelt_takes_no_row,
);

/// An expression that fails where `bad` holds, and is `good` elsewhere.
fn fails(topology: Topology, bad: &str, good: &str) -> String {
    match topology.legacy_engine() {
        Engine::Postgres => format!("{good} / (CASE WHEN {bad} THEN 0 ELSE 1 END)"),
        Engine::Sqlite => {
            format!(
                "json_extract(CASE WHEN {bad} THEN '{{bad' ELSE '[' || {good} || ']' END, '$[0]')"
            )
        }
        // A division by zero is NULL.
        Engine::Mariadb => {
            format!("{good} + CASE WHEN {bad} THEN 9223372036854775807 ELSE 0 END")
        }
    }
}

/// The marketplace's mapping with another expression for `stock`.
fn with_stock(expression: &str) -> String {
    assert!(MAPPING.contains("stock = \"stock\""));
    MAPPING.replace("stock = \"stock\"", &format!("stock = '''{expression}'''"))
}

async fn poisoned(topology: Topology, rows: u32, ids: &str) -> (Market, Migration) {
    let market = Market::start(topology).await;
    market.fill(rows).await;
    let poison = format!("UPDATE listings SET title = 'poison' WHERE id IN ({ids})");
    market.legacy.run(&poison).await;
    let mapping = with_stock(&fails(topology, "title = 'poison'", "stock"));
    let migration = market.installed_with(&mapping).await;
    (market, migration)
}

/// Everything but these keys is on the new side as it is on the old one.
async fn others_agree(market: &Market, held: &[&str]) {
    let others = |rows: Vec<String>| -> Vec<String> {
        let of = |row: &String, key: &&str| row[2..].starts_with(&format!("{key}|"));
        let other = |row: &String| !held.iter().any(|key| of(row, key));
        rows.into_iter().filter(other).collect()
    };
    let (legacy, new) = market.both().await;
    let (legacy, new) = (others(legacy), others(new));
    assert!(!legacy.is_empty() && legacy == new, "{legacy:?}\n{new:?}");
}

/// Exactly these keys are blocked, all for a reason that says this, and a verify counts them so.
async fn blocked(market: &Market, migration: &Migration, keys: &[&str], says: &str) {
    let dirty = market.dirty().await;
    assert_eq!(dirty.len(), keys.len(), "{dirty:?}");
    for (line, key) in dirty.iter().zip(keys) {
        let expected = format!("{key} blocked ");
        assert!(
            line.starts_with(&expected) && line.contains(says),
            "{dirty:?}"
        );
    }
    let report = verify(migration).await;
    assert!(!report.clean(), "{report:?}");
    assert_eq!(
        report.count(Class::Blocked),
        keys.len() as u64,
        "{report:?}"
    );
    let others = report.compared - report.count(Class::Equal);
    assert_eq!(others, keys.len() as u64, "{report:?}");
    let reason = report.samples[0].reason.as_deref().unwrap_or_default();
    assert!(reason.contains(says), "{report:?}");
    let epoch = migration.epoch().await.unwrap();
    assert!(!epoch.verified, "evidence was recorded: {epoch:?}");
}

mod scenario {
    use super::*;

    pub(super) async fn rows_that_fail_are_set_aside(topology: Topology) {
        // Two in one page, one at the end of another, and a whole page.
        let ids = [
            "101", "102", "103", "104", "105", "106", "107", "108", "109", "110",
        ];
        let ids = [&["7", "8", "60"][..], &ids].concat();
        let (market, migration) = poisoned(topology, 130, &ids.join(",")).await;
        let options = BackfillOptions {
            page: 10,
            load_page: Some(10),
            pacing: Pacing::UNLIMITED,
            ..BackfillOptions::default()
        };
        let progress = migration.backfill(options).run(|_| {}).await.unwrap();
        assert!(progress.done && progress.passed == 130, "{progress:?}");
        assert_eq!(progress.held, ids.len() as u64);
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        let says = "target \"variant\".columns.stock fails: ";
        blocked(&market, &migration, &sorted, says).await;
        let dirty = market.dirty().await;
        let code = match topology.legacy_engine() {
            Engine::Postgres => "division by zero (SQLSTATE 22012)",
            Engine::Sqlite => "malformed JSON (SQLite code 1)",
            Engine::Mariadb => "a value is out of its type's range (error 1690)",
        };
        assert!(dirty.iter().all(|line| line.contains(code)), "{dirty:?}");
        assert!(
            !dirty.iter().any(|line| line.contains("poison")),
            "a value: {dirty:?}"
        );
        others_agree(&market, &ids).await;
        // A drain tries them again, and serves everybody else.
        market
            .legacy
            .run("UPDATE listings SET title = 'fine' WHERE id IN (1, 9, 120)")
            .await;
        drain(&migration).await;
        blocked(&market, &migration, &sorted, says).await;
        others_agree(&market, &ids).await;
        market
            .legacy
            .run("UPDATE listings SET title = 'mended' WHERE title = 'poison'")
            .await;
        settle(&market, &migration).await;
        assert!(migration.epoch().await.unwrap().verified);
    }

    pub(super) async fn a_row_that_begins_to_fail_is_set_aside(topology: Topology) {
        let (market, migration) = poisoned(topology, 20, "0").await;
        backfill(&migration).await;
        settle(&market, &migration).await;
        market
            .legacy
            .run("UPDATE listings SET title = 'poison' WHERE id = 3; UPDATE listings SET title = 'fine' WHERE id IN (2, 4)")
            .await;
        // It is not lag: nobody has tried it yet, but no copy will settle it.
        let report = verify(&migration).await;
        assert_eq!(report.count(Class::Blocked), 1, "{report:?}");
        assert!(!report.clean(), "{report:?}");
        let keys = ["2", "3", "4"].map(Key::from);
        let copied = migration
            .copier()
            .copy(&keys, CopySource::Inline)
            .await
            .unwrap();
        assert_eq!((copied.applied, copied.left.len()), (2, 1), "{copied:?}");
        let dirty = market.dirty().await;
        assert!(
            dirty.len() == 1 && dirty[0].starts_with("3 blocked "),
            "{dirty:?}"
        );
        market
            .legacy
            .run("UPDATE listings SET title = 'mended' WHERE id = 3")
            .await;
        let mended = market.dirty().await;
        assert_eq!(mended, ["3 ok "], "the stamp clears the hold");
        settle(&market, &migration).await;
    }

    pub(super) async fn one_failing_filter_blames_one_key(topology: Topology) {
        let market = Market::start(topology).await;
        market.fill(12).await;
        // Without the index the database asks the filter of every row first.
        let without = match topology.legacy_engine() {
            Engine::Mariadb => "DROP INDEX photos_of ON photos",
            Engine::Postgres | Engine::Sqlite => "DROP INDEX photos_of",
        };
        market.legacy.run(without).await;
        market
            .legacy
            .run("UPDATE photos SET url = 'poison' WHERE id = 16")
            .await;
        let filter = fails(topology, "url = 'poison'", "1");
        let mapping = MAPPING.replace(
            "key = [\"listing_id\"]\nslot",
            &format!("key = [\"listing_id\"]\nwhere = '''{filter} = 1'''\nslot"),
        );
        let migration = market.installed_with(&mapping).await;
        backfill(&migration).await;
        blocked(
            &market,
            &migration,
            &["8"],
            "target \"picture\": its from, key or where fails: ",
        )
        .await;
        others_agree(&market, &["8"]).await;
        market
            .legacy
            .run("UPDATE photos SET url = 'mended' WHERE id = 16")
            .await;
        settle(&market, &migration).await;
    }

    pub(super) async fn a_failing_row_can_be_deleted(topology: Topology) {
        let (market, migration) = poisoned(topology, 9, "1, 9").await;
        backfill(&migration).await;
        blocked(&market, &migration, &["1", "9"], "columns.stock").await;
        market
            .legacy
            .run("DELETE FROM listings WHERE id IN (1, 9)")
            .await;
        settle(&market, &migration).await;
    }

    /// A marketplace whose `stock` is text on its way into a column of whole numbers.
    async fn as_text(topology: Topology) -> (Market, Migration) {
        let market = Market::start(topology).await;
        market.fill(12).await;
        if market.new.engine() == Engine::Sqlite {
            // SQLite's columns hold anything unless they are told not to.
            market
                .new
                .run("DROP TABLE variants; CREATE TABLE variants (
                    listing_id bigint NOT NULL REFERENCES service_listings, position bigint NOT NULL,
                    price decimal(12,2), stock bigint NOT NULL CHECK (typeof(stock) = 'integer'),
                    PRIMARY KEY (listing_id, position))")
                .await;
        }
        market
            .legacy
            .run("UPDATE listings SET title = 'uncountable' WHERE id IN (2, 11)")
            .await;
        let mapping =
            with_stock("CASE WHEN title = 'uncountable' THEN 'a secret' ELSE '' || stock END");
        let migration = market.installed_with(&mapping).await;
        (market, migration)
    }

    pub(super) async fn values_that_no_column_holds_are_set_aside(topology: Topology) {
        let (market, migration) = as_text(topology).await;
        backfill(&migration).await;
        blocked(&market, &migration, &["11", "2"], "refuses the").await;
        let dirty = market.dirty().await;
        assert!(
            !dirty.iter().any(|line| line.contains("secret")),
            "{dirty:?}"
        );
        others_agree(&market, &["2", "11"]).await;
        market.legacy.run("UPDATE listings SET title = 'mended' WHERE id = 2; DELETE FROM listings WHERE id = 11").await;
        settle(&market, &migration).await;
    }

    /// Key 1 wants the value that key 2 has on the new side and gave away in its refused image.
    pub(super) async fn an_image_that_cannot_be_held_blocks_itself_alone(topology: Topology) {
        let (market, migration) = as_text(topology).await;
        market
            .legacy
            .run("UPDATE listings SET title = 'fine' WHERE id IN (2, 11)")
            .await;
        backfill(&migration).await;
        settle(&market, &migration).await;
        market.legacy.run("UPDATE listings SET sku = 'other', title = 'uncountable' WHERE id = 2; UPDATE listings SET sku = 'sku-2' WHERE id = 1").await;
        drain(&migration).await;
        let dirty = market.dirty().await;
        assert!(
            dirty.len() == 2
                && dirty[0].starts_with("1 waiting ")
                && dirty[1].starts_with("2 blocked "),
            "{dirty:?}"
        );
        market
            .legacy
            .run("UPDATE listings SET title = 'mended' WHERE id = 2")
            .await;
        settle(&market, &migration).await;
    }

    pub(super) async fn a_key_that_no_row_can_have_is_nothing(topology: Topology) {
        let market = Market::start(topology).await;
        market.fill(3).await;
        let migration = market.installed().await;
        backfill(&migration).await;
        let keys = ["abc", "99999999999999999999", "", "1"].map(Key::from);
        let copied = migration
            .copier()
            .copy(&keys, CopySource::Inline)
            .await
            .unwrap();
        assert!(copied.left.is_empty(), "{copied:?}");
        settle(&market, &migration).await;
    }

    pub(super) async fn a_key_that_the_new_side_cannot_hold_can_be_deleted(topology: Topology) {
        let market = Market::start(topology).await;
        market
            .legacy
            .run(&market.legacy.engine().schema("CREATE TABLE codes (code {exact} PRIMARY KEY NOT NULL, label text); INSERT INTO codes VALUES ('1', 'one'), ('abc', 'none'), ('2', 'two')"))
            .await;
        market
            .new
            .run("CREATE TABLE labels (code bigint PRIMARY KEY NOT NULL CHECK (code > 0 AND code < 1000), label text)")
            .await;
        let migration = market.installed_with(CODES).await;
        backfill(&migration).await;
        blocked(&market, &migration, &["abc"], "refuses the").await;
        market
            .legacy
            .run("DELETE FROM codes WHERE code = 'abc'")
            .await;
        drain(&migration).await;
        assert_eq!(market.dirty().await, Vec::<String>::new());
        let report = verify(&migration).await;
        assert!(report.clean(), "{report:?}");
    }

    /// Columns of numbers take `07` for `7`, whose row it would be.
    pub(super) async fn a_key_that_would_be_respelt_takes_no_row(topology: Topology) {
        let market = Market::start(topology).await;
        market
            .legacy
            .run(&market.legacy.engine().schema("CREATE TABLE codes (code {exact} PRIMARY KEY NOT NULL, label varchar(9)); INSERT INTO codes VALUES ('007', 'agent'), ('8', 'eight')"))
            .await;
        market
            .new
            .run("CREATE TABLE labels (code bigint PRIMARY KEY NOT NULL, label varchar(9))")
            .await;
        let mapping = "revision = 1\nroot = { table = 'codes', key = ['code'] }\n[[target]]\nname = 'label'\n\
            table = 'labels'\nowned_by = { key = ['code'] }\nidentity = ['code']\ncolumns = { code = 'code', label = 'label' }";
        let migration = market.installed_with(mapping).await;
        backfill(&migration).await;
        let labels = "SELECT code || ' ' || label FROM labels ORDER BY 1";
        assert_eq!(market.new.texts(labels).await, ["8 eight"]);
        let says = "column code (";
        blocked(&market, &migration, &["007"], says).await;
        market
            .legacy
            .run("INSERT INTO codes VALUES ('7', 'seven'), ('08', 'other'); UPDATE codes SET label = 'bond' WHERE code = '007'")
            .await;
        drain(&migration).await;
        assert_eq!(market.new.texts(labels).await, ["7 seven", "8 eight"]);
        blocked(&market, &migration, &["007", "08"], says).await;
        assert!(market.dirty().await[0].contains("another spelling"));
        market
            .legacy
            .run("DELETE FROM codes WHERE code = '007'; UPDATE codes SET code = '9' WHERE code = '08'")
            .await;
        drain(&migration).await;
        assert_eq!(market.dirty().await, Vec::<String>::new());
        let held = market.new.texts(labels).await;
        assert_eq!(held, ["7 seven", "8 eight", "9 other"]);
        let report = verify(&migration).await;
        assert!(report.clean(), "{report:?}");
    }

    pub(super) async fn what_is_no_fault_of_the_data_blocks_nothing(topology: Topology) {
        let market = Market::start(topology).await;
        market.fill(8).await;
        let migration = market.installed().await;
        backfill(&migration).await;
        for (broken, mended) in [
            (
                "ALTER TABLE photos RENAME TO gone",
                "ALTER TABLE gone RENAME TO photos",
            ),
            (
                "ALTER TABLE listings RENAME COLUMN sku TO gone",
                "ALTER TABLE listings RENAME COLUMN gone TO sku",
            ),
        ] {
            market
                .legacy
                .run("UPDATE listings SET stock = stock + 1 WHERE id = 3")
                .await;
            market.legacy.run(broken).await;
            let copied = migration
                .copier()
                .copy(&[Key::from("3")], CopySource::Inline)
                .await;
            assert!(
                matches!(copied, Err(StoreError::Refused { .. })),
                "{copied:?}"
            );
            assert_eq!(market.dirty().await, ["3 ok "], "{broken}");
            // Reading first: a pooled SQLite connection may have an old schema in mind.
            let mended = format!("SELECT count(*) FROM listings; {mended}");
            market.legacy.run(&mended).await;
            settle(&market, &migration).await;
        }
        // On the new side, too.
        market
            .legacy
            .run("UPDATE listings SET stock = stock + 1 WHERE id = 3")
            .await;
        market.new.run("ALTER TABLE pictures RENAME TO gone").await;
        let copied = migration
            .copier()
            .copy(&[Key::from("3")], CopySource::Inline)
            .await;
        assert!(
            matches!(copied, Err(StoreError::Refused { .. })),
            "{copied:?}"
        );
        assert_eq!(market.dirty().await, ["3 ok "]);
    }
}
