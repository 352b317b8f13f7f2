//! Rows that belong to no key: their column for it is NULL.

use changeover::worker::verify::Recorded;

use super::lifecycle::{everywhere, within_mariadb};
use super::market::{Market, Topology, backfill};
use super::stock::verify_by;

everywhere!(rows_of_no_key_are_not_summed);
within_mariadb!(rows_of_no_key_are_not_summed);

mod scenario {
    use super::*;

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
}
