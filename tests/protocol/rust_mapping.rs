//! A mapping in Rust, over text keys and composite keys that are hard to tell apart.

use std::sync::Arc;

use changeover::flags::Key;
use changeover::shadow::Value;
use changeover::worker::copy::CopySource;
use changeover::worker::dialect::session::Database;
use changeover::worker::image::{Cell, Image, ImageRow};
use changeover::worker::mapping::{
    Belongs, Identity, KeyExpression, Mapping, MappingError, Ownership, Root, Shape, Source,
    SourceQuery, SourceRows, Target,
};
use changeover::worker::migration::Migration;
use changeover::worker::store::HoldKind;

use super::lifecycle::everywhere_and_on_pairs;
use super::market::{Market, Topology, backfill, drain, verify};

everywhere_and_on_pairs!(hard_keys_keep_apart, a_mapping_error_blocks_its_key_alone);

/// `notes(owner, name, body)` with `marks(owner, name, word)` become `pages(owner, name, words, body)`:
/// a count that no SQL expression computes here, and an error for a body that says so.
struct Notes(Shape);

impl Notes {
    fn new() -> Notes {
        let columns = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        let query = |table: &str, column: &str| SourceQuery {
            name: table.to_owned(),
            fills: None,
            select: vec![(column.to_owned(), column.to_owned())],
            from: table.to_owned(),
            key: columns(&["owner", "name"]),
            filter: None,
        };
        Notes(Shape {
            fingerprint: None,
            revision: 1,
            root: Root {
                table: "notes".into(),
                key: columns(&["owner", "name"]),
            },
            sources: vec![Source {
                table: "marks".into(),
                key: KeyExpression::Columns(columns(&["owner", "name"])),
            }],
            queries: vec![query("notes", "body"), query("marks", "word")],
            lookups: vec![],
            pointers: vec![],
            targets: vec![Target {
                name: "page".into(),
                table: "pages".into(),
                columns: columns(&["owner", "name", "words", "body"]),
                ownership: Ownership::Owned {
                    belongs: Belongs::Key(columns(&["owner", "name"])),
                    identity: Identity::Columns(columns(&["owner", "name"])),
                },
            }],
        })
    }
}

impl Mapping for Notes {
    fn shape(&self) -> &Shape {
        &self.0
    }

    fn image(&self, key: &Key, rows: &SourceRows) -> Result<Image, MappingError> {
        let mut image = Image::empty(1);
        let (Some(notes), Some(marks)) = (rows.queries.first(), rows.queries.get(1)) else {
            return Err(MappingError::new("two queries were asked"));
        };
        for note in notes {
            let body = note.get("body")?;
            if *body == Value::Text("unmappable".into()) {
                return Err(MappingError::new("this body has no page"));
            }
            let parts = key
                .components(2)
                .ok_or_else(|| MappingError::new("the key has two parts"))?;
            let mut cells: Vec<Cell> = parts
                .into_iter()
                .map(|part| Cell::Value(Value::Text(part)))
                .collect();
            cells.push(Cell::Value(Value::Integer(
                i64::try_from(marks.len()).unwrap_or(0),
            )));
            cells.push(Cell::Value(if *body == Value::Text("listed".into()) {
                Value::List(vec![body.clone()])
            } else {
                body.clone()
            }));
            image.targets[0].push(ImageRow {
                slot: String::new(),
                cells,
            });
        }
        Ok(image)
    }
}

const HARD: [(&str, &str); 9] = [
    ("a,b", "c"),
    ("a", "b,c"),
    (r"a\", "b"),
    ("a", r"\b"),
    ("", ""),
    ("Ä", "ä"),
    ("it''s", "%_"),
    (" a", "a "),
    ("A", "a"),
];

async fn start(topology: Topology) -> (Market, Migration) {
    let market = Market::start(topology).await;
    market
        .legacy
        .run(&market.legacy.engine().schema(
            "CREATE TABLE notes (owner {exact} NOT NULL, name {exact} NOT NULL, body text, PRIMARY KEY (owner, name));
             CREATE TABLE marks (id bigint PRIMARY KEY NOT NULL, owner {exact}, name {exact}, word text);",
        ))
        .await;
    let pages = "CREATE TABLE pages (owner {exact} NOT NULL, name {exact} NOT NULL, words bigint NOT NULL, body text, PRIMARY KEY (owner, name))";
    market.new.run(&market.new.engine().schema(pages)).await;
    for (n, (owner, name)) in HARD.iter().enumerate() {
        market.legacy.run(&format!("INSERT INTO notes VALUES ('{owner}', '{name}', 'body {n}'); INSERT INTO marks VALUES ({n}, '{owner}', '{name}', 'w')")).await;
    }
    let migration = Migration::open(
        Market::entity(),
        Arc::new(Notes::new()),
        Database::open(&market.legacy_url).unwrap(),
        Database::open(&market.new_url).unwrap(),
    )
    .await
    .unwrap_or_else(|error| panic!("{error}"));
    migration.install().await.unwrap();
    migration.start_copying().await.unwrap();
    backfill(&migration).await;
    (market, migration)
}

async fn assert_equal(market: &Market) {
    let legacy = market
        .legacy
        .texts("SELECT n.owner || '|' || n.name || '|' || n.body || '|' || (SELECT count(*) FROM marks m WHERE m.owner = n.owner AND m.name = n.name) FROM notes n ORDER BY n.body")
        .await;
    let new = market
        .new
        .texts(
            "SELECT owner || '|' || name || '|' || body || '|' || words FROM pages ORDER BY body",
        )
        .await;
    assert!(!legacy.is_empty());
    assert_eq!(legacy, new);
}

/// A mapping in Rust can answer values that SQLite has no form for: found before anything is
/// written if they are among the first rows, and else their key is blocked, alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_without_a_form_in_sqlite_is_refused_or_blocked() {
    let (market, migration) = start(Topology::SqliteTwoFiles).await;
    market
        .legacy
        .run("UPDATE notes SET body = 'listed' WHERE owner = 'A'; UPDATE notes SET body = 'fine' WHERE owner = 'Ä'")
        .await;
    drain(&migration).await;
    let dirty = market.dirty().await;
    assert!(
        dirty.len() == 1 && dirty[0].contains("blocked a list or record has no form in SQLite"),
        "{dirty:?}"
    );
    let fine = "SELECT owner FROM pages WHERE body = 'fine'";
    assert_eq!(market.new.texts(fine).await, ["Ä"]);
    let opened = Migration::open(
        Market::entity(),
        Arc::new(Notes::new()),
        Database::open(&market.legacy_url).unwrap(),
        Database::open(&market.new_url).unwrap(),
    );
    let error = opened.await.expect_err("a list").to_string();
    for word in [
        "target \"page\".columns.body",
        "a list or record",
        "answer text",
    ] {
        assert!(error.contains(word), "does not say {word:?}: {error}");
    }
}

mod scenario {
    use super::*;

    pub(super) async fn hard_keys_keep_apart(topology: Topology) {
        let (market, migration) = start(topology).await;
        assert_equal(&market).await;
        assert_eq!(verify(&migration).await.compared, HARD.len() as u64);
        for (n, (owner, name)) in HARD.iter().enumerate() {
            let key = format!("owner = '{owner}' AND name = '{name}'");
            market.legacy.run(&format!("UPDATE notes SET body = 'changed {n}' WHERE {key}; INSERT INTO marks VALUES (100 + {n}, '{owner}', '{name}', 'x')")).await;
            assert_eq!(
                market.dirty().await.len(),
                1,
                "one key and no other is touched"
            );
            drain(&migration).await;
            assert_equal(&market).await;
        }
        market.legacy.run("UPDATE notes SET name = 'moved, far \\ away' WHERE owner = 'Ä'; UPDATE marks SET name = 'moved, far \\ away' WHERE owner = 'Ä'; DELETE FROM notes WHERE owner = ''").await;
        drain(&migration).await;
        assert_equal(&market).await;
        assert!(verify(&migration).await.clean());
        assert_eq!(market.dirty().await, Vec::<String>::new());
    }

    pub(super) async fn a_mapping_error_blocks_its_key_alone(topology: Topology) {
        let (market, migration) = start(topology).await;
        market.legacy.run("UPDATE notes SET body = 'unmappable' WHERE owner = 'A'; UPDATE notes SET body = 'fine' WHERE owner = 'Ä'").await;
        drain(&migration).await;
        let held = migration
            .copier()
            .authority()
            .dirty(None, 10)
            .await
            .unwrap();
        assert_eq!(held.len(), 1);
        let hold = held[0].hold.clone().unwrap();
        assert_eq!(
            (hold.kind, hold.reason.as_str()),
            (HoldKind::Blocked, "this body has no page")
        );
        let report = migration
            .copier()
            .copy(&[held[0].key.clone()], CopySource::Repair)
            .await
            .unwrap();
        assert_eq!(report.left.len(), 1);
        market
            .legacy
            .run("UPDATE notes SET body = 'mended' WHERE owner = 'A'")
            .await;
        drain(&migration).await;
        assert_equal(&market).await;
        assert_eq!(market.dirty().await, Vec::<String>::new());
    }
}
