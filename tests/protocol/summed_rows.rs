//! Rows that sums must tell apart, and those that they must not: of no key, their column for it being NULL.

use changeover::worker::verify::{Class, Recorded};

use super::lifecycle::{everywhere, on_pairs, within_mariadb};
use super::market::{Market, Topology, backfill};
use super::stock::{found, verify_by};

everywhere!(
    rows_of_no_key_are_not_summed,
    text_that_moves_into_another_column_is_seen,
    what_a_lookup_answers_is_summed_by_what_it_was_asked,
    rows_of_generated_ids_are_summed_with_their_slots,
);
within_mariadb!(
    rows_of_no_key_are_not_summed,
    text_that_moves_into_another_column_is_seen,
    what_a_lookup_answers_is_summed_by_what_it_was_asked,
    rows_of_generated_ids_are_summed_with_their_slots,
);
on_pairs!(
    rows_of_no_key_are_not_summed,
    text_that_moves_into_another_column_is_seen,
    what_a_lookup_answers_is_summed_by_what_it_was_asked,
    rows_of_generated_ids_are_summed_with_their_slots,
);

/// A legacy and a new table of the same columns.
async fn alike(market: &Market, [legacy, new]: [&str; 2], columns: &str) {
    let create = |table: &str| format!("CREATE TABLE {table} {columns}");
    market.legacy.run(&create(legacy)).await;
    market.new.run(&create(new)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_instants_and_bytes_that_differ_a_little_are_seen() {
    let market = Market::start(Topology::PostgresTwoDatabases).await;
    let columns =
        "(id bigint PRIMARY KEY, d date, t timestamp, z timestamptz, b bytea, at timestamp)";
    alike(&market, ["days", "dates"], columns).await;
    let plain = ["'2024-01-31'", "'2024-01-31'", "'2024-01-31+00'", "'|'"];
    let moved = [
        (0, "'2024-01-31'", "'2024-02-01'"),
        (0, "'infinity'", "'-infinity'"),
        (0, "'4714-11-24 BC'", "'4713-11-24 BC'"),
        (
            1,
            "'2024-01-31 00:00:00.000001'",
            "'2024-01-31 00:00:00.000002'",
        ),
        (1, "'infinity'", "'294276-12-31 23:59:59.999999'"),
        (2, "'2024-01-31 12:00+02'", "'2024-01-31 12:00+01'"),
        (2, "'2000-01-01+00'", "NULL"),
        (3, "'\\x00'", "''"),
        (3, "'\\x7c'", "'\\x7c7c'"),
    ];
    let row = |position: usize, value: &str| {
        let mut row = plain;
        row[position] = value;
        row.join(", ")
    };
    let rows = moved.iter().enumerate();
    let rows: String = rows
        .map(|(n, (at, value, _))| {
            let row = row(*at, value);
            format!("INSERT INTO days VALUES ({n}, {row}, '2024-01-31 15:00');")
        })
        .collect();
    market.legacy.run(&rows).await;
    let mapping = r#"
        revision = 1
        root = { table = "days", key = ["id"] }
        [[target]]
        table = "dates"
        owned_by = { key = ["id"] }
        identity = ["id"]
        columns = { id = "id", d = "d", t = "t", z = "z", b = "b", at = "at + interval '1 us'" }
    "#;
    let migration = market.installed_with(mapping).await;
    backfill(&migration).await;
    let report = verify_by(&migration, 1, 4).await;
    assert!(report.clean() && report.sums.bisected == 0, "{report:?}");
    for (n, (at, _, value)) in moved.iter().enumerate() {
        let row = row(*at, value);
        let forged = format!(
            "DELETE FROM dates WHERE id = {n};
             INSERT INTO dates VALUES ({n}, {row}, '2024-01-31 15:00:00.000001')"
        );
        market.new.force(&forged).await;
        let report = verify_by(&migration, 1, 4).await;
        let differ = report.count(Class::Divergent);
        assert_eq!(differ, n as u64 + 1, "{row}: {report:?}");
    }
}

/// What a lookup is asked for has a name among the query's columns, and a column may have that name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_with_the_name_of_a_question_is_not_summed_as_that() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    let old = "CREATE TABLE shops (id bigint PRIMARY KEY NOT NULL, owner text)";
    market.legacy.run(old).await;
    let new = "CREATE TABLE owners (id bigint PRIMARY KEY NOT NULL, name text NOT NULL UNIQUE);
         CREATE TABLE stores (shop_id bigint PRIMARY KEY NOT NULL, owner_id bigint, \"owner_id.by\" text);
         INSERT INTO owners VALUES (70, 'ann')";
    market.new.run(new).await;
    market
        .legacy
        .run("INSERT INTO shops VALUES (1, 'ann')")
        .await;
    let mapping = r#"
        revision = 1
        root = { table = "shops", key = ["id"] }
        lookup.owner = { table = "owners", by = "name", value = "id" }
        [[target]]
        table = "stores"
        owned_by = { key = ["shop_id"] }
        identity = ["shop_id"]
        [target.columns]
        shop_id = "id"
        owner_id = { lookup = "owner", by = "owner" }
        "owner_id.by" = "'nobody'"
    "#;
    let migration = market.installed_with(mapping).await;
    backfill(&migration).await;
    assert!(verify_by(&migration, 1, 4).await.clean());
    // The question, and not what the column holds.
    let forged = "UPDATE stores SET \"owner_id.by\" = 'ann' WHERE shop_id = 1";
    market.new.force(forged).await;
    let report = verify_by(&migration, 1, 4).await;
    assert_eq!(report.count(Class::Divergent), 1, "{report:?}");
    assert!(!report.unsummed.is_empty());
}

mod scenario {
    use super::*;

    /// Whatever a sum writes between values, and NULL for what is empty.
    pub(super) async fn text_that_moves_into_another_column_is_seen(topology: Topology) {
        let market = Market::start(topology).await;
        let columns = "(id bigint PRIMARY KEY NOT NULL, a text, b text, c text)";
        alike(&market, ["words", "terms"], columns).await;
        let moved = [
            ("'a|b', 'c', 'd'", "'a', 'b|c', 'd'"),
            ("'a,b', 'c', 'd'", "'a', 'b,c', 'd'"),
            ("'a|1', 'c', 'd'", "'a', '1|c', 'd'"),
            ("'', 'c', 'd'", "NULL, 'c', 'd'"),
            ("NULL, 'c', 'd'", "'c', NULL, 'd'"),
            ("'', '1', ''", "'1', '', ''"),
            ("'x|1|y', 'z', ''", "'x', '1|y|z', ''"),
        ];
        let rows = moved.iter().enumerate();
        let rows: String = rows
            .map(|(n, (row, _))| format!("INSERT INTO words VALUES ({n}, {row});"))
            .collect();
        market.legacy.run(&rows).await;
        let mapping = r#"
            revision = 1
            root = { table = "words", key = ["id"] }
            [[target]]
            table = "terms"
            owned_by = { key = ["id"] }
            identity = ["id"]
            columns = { id = "id", a = "a", b = "b", c = "c" }
        "#;
        let migration = market.installed_with(mapping).await;
        backfill(&migration).await;
        let report = verify_by(&migration, 1, 4).await;
        assert!(report.clean() && report.sums.bisected == 0, "{report:?}");
        for (n, (_, row)) in moved.iter().enumerate() {
            let row =
                format!("DELETE FROM terms WHERE id = {n}; INSERT INTO terms VALUES ({n}, {row})");
            market.new.force(&row).await;
            let report = verify_by(&migration, 1, 4).await;
            let differ = report.count(Class::Divergent);
            assert_eq!(differ, n as u64 + 1, "{topology:?}, {row}: {report:?}");
        }
    }

    /// Either side may have such rows, which no copy brings or takes away.
    pub(super) async fn rows_of_no_key_are_not_summed(topology: Topology) {
        let market = Market::start(topology).await;
        let tables = "CREATE TABLE things (id bigint PRIMARY KEY NOT NULL, num bigint);
             CREATE TABLE marks (id bigint PRIMARY KEY NOT NULL, thing_id bigint, tag text);
             CREATE INDEX thing_marks ON marks (thing_id)";
        market.legacy.run(tables).await;
        let tables = "CREATE TABLE goods (thing_id bigint PRIMARY KEY NOT NULL, num bigint);
             CREATE TABLE labels (mark_id bigint PRIMARY KEY NOT NULL, thing_id bigint, tag text);
             CREATE INDEX by_thing ON labels (thing_id)";
        market.new.run(tables).await;
        let rows: String = (1..=20)
            .map(|n| format!("INSERT INTO things VALUES ({n}, {n}); INSERT INTO marks VALUES ({n}, {n}, 'm');"))
            .collect();
        market.legacy.run(&rows).await;
        let mapping = r#"
            revision = 1
            root = { table = "things", key = ["id"] }
            [source.marks]
            key = ["thing_id"]
            [[target]]
            table = "goods"
            owned_by = { key = ["thing_id"] }
            identity = ["thing_id"]
            columns = { thing_id = "id", num = "num" }
            [[target]]
            table = "labels"
            owned_by = { key = ["thing_id"] }
            identity = ["mark_id"]
            from = "marks"
            key = ["thing_id"]
            columns = { mark_id = "id", thing_id = "thing_id", tag = "tag" }
        "#;
        let migration = market.installed_with(mapping).await;
        backfill(&migration).await;
        let loose = "INSERT INTO marks VALUES (100, NULL, 'loose'), (101, NULL, 'loose')";
        market.legacy.run(loose).await;
        market
            .new
            .force("INSERT INTO labels VALUES (200, NULL, 'loose')")
            .await;
        for range in [7, 100] {
            let report = verify_by(&migration, 1, range).await;
            assert!(report.clean() && report.recorded == Recorded::Yes);
            let sums = (report.compared, report.sums.bisected);
            assert_eq!(sums, (20, 0), "{topology:?}: {report:?}");
        }
    }

    pub(super) async fn what_a_lookup_answers_is_summed_by_what_it_was_asked(topology: Topology) {
        let market = Market::start(topology).await;
        let (old, new) = (market.legacy.engine(), market.new.engine());
        let tables = "CREATE TABLE shops (id bigint PRIMARY KEY NOT NULL, owner {word})";
        market.legacy.run(&old.schema(tables)).await;
        let tables =
            "CREATE TABLE owners (id bigint PRIMARY KEY NOT NULL, name {exact} NOT NULL UNIQUE);
             CREATE TABLE stores (shop_id bigint PRIMARY KEY NOT NULL, owner_id integer, title text);
             INSERT INTO owners VALUES (70, 'ann'), (80, 'bo'), (90, 'Bo')";
        market.new.run(&new.schema(tables)).await;
        let rows: String = (1..=20)
            .map(|n| match n % 4 {
                0 => format!("INSERT INTO shops VALUES ({n}, NULL);"),
                1 => format!("INSERT INTO shops VALUES ({n}, 'ann');"),
                2 => format!("INSERT INTO shops VALUES ({n}, 'bo');"),
                _ => format!("INSERT INTO shops VALUES ({n}, 'Bo');"),
            })
            .collect();
        market.legacy.run(&rows).await;
        let mapping = r#"
            revision = 1
            root = { table = "shops", key = ["id"] }
            lookup.owner = { table = "owners", by = "name", value = "id" }
            [[target]]
            table = "stores"
            owned_by = { key = ["shop_id"] }
            identity = ["shop_id"]
            [target.columns]
            shop_id = "id"
            owner_id = { lookup = "owner", by = "owner" }
            title = "owner"
        "#;
        let migration = market.installed_with(mapping).await;
        backfill(&migration).await;
        let report = verify_by(&migration, 1, 4).await;
        assert!(report.unsummed.is_empty(), "{:?}", report.unsummed);
        assert!(report.clean() && report.sums.bisected == 0, "{report:?}");
        // Another owner, the owner of none, none, and nobody's id for an owner and for none.
        let forged = [
            (1, "80"),
            (4, "70"),
            (2, "NULL"),
            (3, "7"),
            (8, "7"),
            (6, "90"),
        ];
        for (n, (id, owner)) in forged.iter().enumerate() {
            let forge = format!("UPDATE stores SET owner_id = {owner} WHERE shop_id = {id}");
            market.new.force(&forge).await;
            let report = verify_by(&migration, 1, 4).await;
            let differ = report.count(Class::Divergent);
            assert_eq!(differ, n as u64 + 1, "{topology:?}, {forge}: {report:?}");
        }
    }

    pub(super) async fn rows_of_generated_ids_are_summed_with_their_slots(topology: Topology) {
        let market = Market::start(topology).await;
        let (old, new) = (market.legacy.engine(), market.new.engine());
        let tables = "CREATE TABLE bills (id bigint PRIMARY KEY NOT NULL, note {word});
             CREATE TABLE bill_lines (bill_id bigint NOT NULL, n bigint NOT NULL, text {word}, PRIMARY KEY (bill_id, n))";
        market.legacy.run(&old.schema(tables)).await;
        let tables =
            "CREATE TABLE invoices (id {chosen}, bill_id bigint NOT NULL UNIQUE, note {word});
             CREATE TABLE invoice_lines (id {chosen}, bill_id bigint NOT NULL, text {word});
             CREATE INDEX of_bill ON invoice_lines (bill_id)";
        market.new.run(&new.schema(tables)).await;
        // Ids that are not the keys'.
        let rows: String = (1..=20)
            .rev()
            .map(|n| {
                format!(
                    "INSERT INTO bills VALUES ({n}, 'b');
                     INSERT INTO bill_lines VALUES ({n}, 1, 'one'), ({n}, 2, 'more'), ({n}, 3, 'more');"
                )
            })
            .collect();
        market.legacy.run(&rows).await;
        let mapping = r#"
            revision = 1
            root = { table = "bills", key = ["id"] }
            [source.bill_lines]
            key = ["bill_id"]
            [[target]]
            table = "invoices"
            owned_by = { key = ["bill_id"] }
            id = "id"
            columns = { bill_id = "id", note = "note" }
            [[target]]
            table = "invoice_lines"
            owned_by = { key = ["bill_id"] }
            id = "id"
            slot = "nullif(n, 3)"
            from = "bill_lines"
            key = ["bill_id"]
            columns = { bill_id = "bill_id", text = "text" }
        "#;
        let migration = market.installed_with(mapping).await;
        backfill(&migration).await;
        let report = verify_by(&migration, 1, 4).await;
        assert!(report.unsummed.is_empty(), "{:?}", report.unsummed);
        assert!(report.clean() && report.sums.bisected == 0, "{report:?}");
        let line = |bill: i64, text: &str, least: &str| {
            format!(
                "(SELECT x.id FROM (SELECT {least}(id) AS id FROM invoice_lines WHERE bill_id = {bill} AND text = '{text}') AS x)"
            )
        };
        let forged = [
            "UPDATE invoices SET note = 'forged' WHERE bill_id = 1".to_owned(),
            // The same row by another id, which nobody drew.
            "UPDATE invoices SET id = 1000 WHERE bill_id = 2".to_owned(),
            "UPDATE invoice_lines SET id = 2000 WHERE bill_id = 3 AND text = 'one'".to_owned(),
            // One row by the id of another slot.
            format!(
                "DELETE FROM invoice_lines WHERE id = {};
                 UPDATE invoice_lines SET text = 'more' WHERE bill_id = 4 AND text = 'one'",
                line(4, "more", "max")
            ),
            // By another key's id, of whom they are then.
            "UPDATE invoice_lines SET bill_id = 6 WHERE bill_id = 5 AND text = 'one'".to_owned(),
            "INSERT INTO invoice_lines (bill_id, text) VALUES (7, 'more')".to_owned(),
            // Two keys with each other's rows, which say the same.
            "UPDATE invoices SET bill_id = -8 WHERE bill_id = 8;
             UPDATE invoices SET bill_id = 8 WHERE bill_id = 9;
             UPDATE invoices SET bill_id = 9 WHERE bill_id = -8"
                .to_owned(),
        ];
        for forge in forged {
            market.new.force(&forge).await;
            let single = verify_by(&migration, 5, 0).await;
            let summed = verify_by(&migration, 1, 4).await;
            assert_eq!(found(&summed), found(&single), "{topology:?}: {forge}");
        }
        let found = found(&verify_by(&migration, 1, 4).await);
        let keys: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            ["1", "2", "3", "4", "5", "6", "7", "8", "9"],
            "{topology:?}: {found:?}"
        );
    }
}
