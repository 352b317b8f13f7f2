//! Expressions that answer a set of rows for one row.

use changeover::flags::Entity;
use changeover::worker::dialect::session::Database;
use changeover::worker::migration::Migration;

use super::market::{Market, Plain, backfill, verify};
use crate::support::postgres::fresh_pair;

const MAPPING: &str = r#"
revision = 1
root = { table = "articles", key = ["id"] }

[[target]]
table = "pages"
owned_by.key = ["id"]
identity = ["id"]
columns = { id = "id", title = "title" }

[[target]]
table = "labels"
owned_by.key = ["page_id"]
identity = ["page_id", "label"]
slot = "unnest(tags)"
columns = { page_id = "id", label = "unnest(tags)" }
"#;

/// Read with the page by one statement, a page without tags would have no row, and one with two
/// would have two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_takes_no_other_targets_row_away() {
    let (legacy_url, new_url) = fresh_pair().await;
    let (legacy, new) = (Plain::open(&legacy_url).await, Plain::open(&new_url).await);
    legacy
        .run(
            "CREATE TABLE articles (id bigint PRIMARY KEY, title text NOT NULL, tags text[] NOT NULL);
             INSERT INTO articles VALUES (1, 'none', '{}'), (2, 'two', '{x,y}'), (3, 'one', '{z}')",
        )
        .await;
    new.run(
        "CREATE TABLE pages (id bigint PRIMARY KEY, title text NOT NULL);
         CREATE TABLE labels (page_id bigint NOT NULL, label text NOT NULL, PRIMARY KEY (page_id, label))",
    )
    .await;
    let entity = Entity::new("articles").unwrap();
    let open = |url: &str| Database::open(url).unwrap();
    let mapping = Market::mapping(MAPPING);
    let migration = Migration::open(entity, mapping, open(&legacy_url), open(&new_url))
        .await
        .unwrap();
    migration.install().await.unwrap();
    migration.start_copying().await.unwrap();
    backfill(&migration).await;
    assert!(verify(&migration).await.clean());
    let titles = new.texts("SELECT title FROM pages ORDER BY id").await;
    assert_eq!(titles, ["none", "two", "one"]);
    let labels = "SELECT page_id || label FROM labels ORDER BY 1";
    assert_eq!(new.texts(labels).await, ["2x", "2y", "3z"]);
}
