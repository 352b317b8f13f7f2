//! Two targets whose rows are in one table: each with ids of the table's own.

use super::lifecycle::{everywhere, on_pairs, within_mariadb};
use super::market::{Market, Topology, backfill, drain};
use super::stock::verify_by;

everywhere!(two_targets_of_one_table_have_ids_of_their_own);
within_mariadb!(two_targets_of_one_table_have_ids_of_their_own);
on_pairs!(two_targets_of_one_table_have_ids_of_their_own);

mod scenario {
    use super::*;

    pub(super) async fn two_targets_of_one_table_have_ids_of_their_own(topology: Topology) {
        let market = Market::start(topology).await;
        let (old, new) = (market.legacy.engine(), market.new.engine());
        let tables = "CREATE TABLE threads (id bigint PRIMARY KEY NOT NULL, title {word});
             CREATE TABLE posts (thread_id bigint NOT NULL, n bigint NOT NULL, text {word}, PRIMARY KEY (thread_id, n))";
        market.legacy.run(&old.schema(tables)).await;
        let tables =
            "CREATE TABLE messages (id {chosen}, thread_id bigint, opening_id bigint, text {word});
             CREATE INDEX of_thread ON messages (thread_id);
             CREATE INDEX of_opening ON messages (opening_id)";
        market.new.run(&new.schema(tables)).await;
        let thread = |n: i64| {
            format!(
                "INSERT INTO threads VALUES ({n}, 'thread {n}');
                 INSERT INTO posts VALUES ({n}, 1, 'one'), ({n}, 2, 'two');"
            )
        };
        market
            .legacy
            .run(&(1..=9).map(thread).collect::<String>())
            .await;
        let mapping = r#"
            revision = 1
            root = { table = "threads", key = ["id"] }
            [source.posts]
            key = ["thread_id"]
            [[target]]
            name = "opening"
            table = "messages"
            owned_by = { key = ["thread_id"] }
            id = "id"
            columns = { thread_id = "id", text = "title" }
            [[target]]
            name = "post"
            table = "messages"
            owned_by = { row = "opening", column = "opening_id" }
            id = "id"
            slot = "n"
            from = "posts"
            key = ["thread_id"]
            columns = { opening_id = { row = "opening" }, text = "text" }
        "#;
        let migration = market.installed_with(mapping).await;
        backfill(&migration).await;
        // And by copies, of new keys and of known ones.
        market
            .legacy
            .run(&(10..=12).map(thread).collect::<String>())
            .await;
        market
            .legacy
            .run("INSERT INTO posts VALUES (3, 3, 'three'), (4, 3, 'three')")
            .await;
        drain(&migration).await;
        let report = verify_by(&migration, 1, 4).await;
        assert!(
            report.clean() && report.compared == 12,
            "{topology:?}: {report:?}"
        );
        let posts = "SELECT count(*) || '' FROM messages o JOIN messages p ON p.opening_id = o.id";
        assert_eq!(market.new.text(posts).await, "26");
    }
}
