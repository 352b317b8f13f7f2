//! Keys by which both sides divide what they sum.

use changeover::worker::verify::{Recorded, VerifyOptions};

use super::lifecycle::{everywhere, within_mariadb};
use super::market::{Market, Topology, backfill};
use super::stock::{Stock, found, verify_by};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_without_sign_goes_into_a_column_with_one() {
    for topology in [
        Topology::MariadbToPostgres,
        Topology::MariadbToSqlite,
        Topology::MariadbTwoDatabases,
    ] {
        let market = Market::start(topology).await;
        let old = "CREATE TABLE marks (id bigint unsigned PRIMARY KEY, v bigint)";
        let new = "CREATE TABLE signs (id bigint PRIMARY KEY NOT NULL, v bigint)";
        market.legacy.run(old).await;
        market.new.run(new).await;
        let rows: String = (1..=40)
            .map(|n| format!("INSERT INTO marks VALUES ({n}, {n});"))
            .collect();
        market.legacy.run(&rows).await;
        // The greatest that the new column holds, and two that it does not.
        let ends = "INSERT INTO marks VALUES (9223372036854775807, 1), (9223372036854775808, 1), (18446744073709551615, 1)";
        market.legacy.run(ends).await;
        let mapping = r#"
            revision = 1
            root = { table = "marks", key = ["id"] }
            [[target]]
            table = "signs"
            owned_by = { key = ["id"] }
            identity = ["id"]
            columns = { id = "id", v = "v" }
        "#;
        let migration = market.installed_with(mapping).await;
        backfill(&migration).await;
        let held = ["18446744073709551615", "9223372036854775808"];
        for (page, range) in [(1, 4), (2, 7), (3, 100)] {
            let report = verify_by(&migration, page, range).await;
            assert!(report.unsummed.is_empty(), "{:?}", report.unsummed);
            assert!(
                report.sums.ranges > 0 && report.sums.singly < 20,
                "{report:?}"
            );
            let found: Vec<String> = found(&report).into_keys().collect();
            assert_eq!(found, held, "{topology:?}: {page} {range}");
        }
        if topology == Topology::MariadbTwoDatabases {
            let other = "CREATE TABLE wide_signs (id bigint unsigned PRIMARY KEY, v bigint)";
            market.new.run(other).await;
            let both = format!("{}{MORE}", mapping.replace("signs", "wide_signs"));
            let migration = market.open_with(Market::mapping(&both)).await;
            let told = migration
                .copier()
                .authority()
                .unsummed()
                .unwrap_or_default();
            assert!(
                told.iter().any(|one| one.why.contains("another sign")),
                "{told:?}"
            );
        }
        let forged = "UPDATE signs SET v = 7 WHERE id IN (3, 9223372036854775807)";
        market.new.force(forged).await;
        let single = found(&verify_by(&migration, 5, 0).await);
        assert_eq!(single.len(), 4, "{topology:?}: {single:?}");
        assert_eq!(found(&verify_by(&migration, 2, 7).await), single);
    }
}

everywhere!(keys_of_several_columns_divide_alike);
within_mariadb!(keys_of_several_columns_divide_alike);

/// Their rows are in this process's memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_of_sqlite_has_4096_keys_whatever_is_asked_for() {
    let stock = Stock::start(Topology::SqliteTwoFiles).await;
    stock.fill(4_100).await;
    let migration = stock.ready().await;
    let options = VerifyOptions::default();
    assert!(options.range > 4_100);
    let report = migration.verify(options).await.unwrap();
    assert_eq!((report.compared, report.sums.ranges), (4_100, 2));
}

/// The same rows once more, in a column with a sign.
const MORE: &str = r#"
            [[target]]
            table = "signs"
            owned_by = { key = ["id"] }
            identity = ["id"]
            columns = { id = "id", v = "v" }
"#;

mod scenario {
    use super::*;

    /// Numbers that are no order of their texts, and on PostgreSQL uuids, into narrower columns.
    pub(super) async fn keys_of_several_columns_divide_alike(topology: Topology) {
        let market = Market::start(topology).await;
        let (second, narrow) = match topology.is_postgres() {
            true => ("uuid", "smallint"),
            false => ("BIGINT", "INT"),
        };
        let b = |n: i64| match topology.is_postgres() {
            true => format!(
                "'{:08x}-0000-0000-0000-00000000000{}'",
                n * 0x0fff_ffff % 0x7fff_ffff,
                n % 10
            ),
            false => (n * 7_919 - 100).to_string(),
        };
        let (old, new) = (
            format!(
                "CREATE TABLE pairs (a bigint NOT NULL, b {second} NOT NULL, v text, PRIMARY KEY (a, b))"
            ),
            format!(
                "CREATE TABLE twins (b {second} NOT NULL, a {narrow} NOT NULL, v text, PRIMARY KEY (a, b))"
            ),
        );
        market.legacy.run(&old).await;
        market.new.run(&new).await;
        let rows = |from: i64, to: i64| -> String {
            (from..=to)
                .map(|n| {
                    format!(
                        "INSERT INTO pairs VALUES ({}, {}, 'v{n}');",
                        n % 13 - 2,
                        b(n)
                    )
                })
                .collect()
        };
        market.legacy.run(&rows(1, 60)).await;
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
        let report = verify_by(&migration, 3, 7).await;
        assert_eq!(
            (report.compared, report.sums.bisected),
            (60, 0),
            "{report:?}"
        );
        assert!(report.unsummed.is_empty() && report.recorded == Recorded::Yes);
        // Nine ranges, three of them in two parts: nothing is between an `a` and the next.
        assert_eq!(report.sums.ranges, 9 + 3, "{topology:?}");
        let change = |n: i64| format!("WHERE a = {} AND b = {}", n % 13 - 2, b(n));
        for n in 1..=60 {
            let sql = match n % 3 {
                0 => format!("DELETE FROM twins {}", change(n)),
                1 => format!("UPDATE twins SET v = 'forged' {}", change(n)),
                _ => format!(
                    "INSERT INTO twins (a, b, v) VALUES ({}, {}, 'more')",
                    n % 13 - 2,
                    b(n + 500)
                ),
            };
            market.new.force(&sql).await;
            if n % 15 != 0 {
                continue;
            }
            let summed = verify_by(&migration, 2, 7).await;
            assert_eq!(found(&summed).len(), n as usize, "{topology:?}: {summed:?}");
            assert_eq!(found(&summed), found(&verify_by(&migration, 3, 0).await));
        }
    }
}
