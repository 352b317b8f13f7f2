//! A small migration whose schemas and mapping can be spoilt piece by piece, and the census that
//! shows whether anything was written.

use std::error::Error;
use std::sync::Arc;

use changeover::flags::Entity;
use changeover::worker::dialect::session::Database;
use changeover::worker::mapping::Mapping;
use changeover::worker::mapping::toml::TomlMapping;
use changeover::worker::migration::Migration;

use crate::protocol::market::Plain;
use crate::support;

/// `{id}` is what makes a column number itself.
pub const LEGACY: &str = "
CREATE TABLE items (id bigint PRIMARY KEY NOT NULL, name text, price decimal(10,2), maker text, made timestamp);
CREATE TABLE parts (id bigint PRIMARY KEY NOT NULL, item_id bigint NOT NULL, label text);
INSERT INTO items VALUES (1, 'one', 1.50, 'm1', '2024-01-01 00:00:00'), (2, 'two', NULL, NULL, NULL);
INSERT INTO parts VALUES (10, 1, 'a'), (11, 1, 'b');";

pub const NEW: &str = "
CREATE TABLE makers (id bigint PRIMARY KEY NOT NULL, code text NOT NULL UNIQUE);
CREATE TABLE kinds (id {id}, kind text NOT NULL UNIQUE);
CREATE TABLE things (
  id {id}, legacy_id bigint NOT NULL UNIQUE, name text, price decimal(10,2), maker_id bigint,
  kind_id bigint REFERENCES kinds (id), note text);
CREATE TABLE bits (id {id}, thing_id bigint NOT NULL REFERENCES things, label text);
CREATE INDEX bits_of ON bits (thing_id);
INSERT INTO makers VALUES (1, 'm1');";

pub const MAPPING: &str = r#"
revision = 1
root = { table = "items", key = ["id"] }
source.parts = { key = ["item_id"] }
lookup.maker = { table = "makers", by = "code", value = "id" }

[[target]]
name = "kind"
table = "kinds"
shared_by = ["kind"]
id = "id"
columns = { kind = "upper(name)" }

[[target]]
name = "thing"
table = "things"
owned_by = { key = ["legacy_id"] }
id = "id"
[target.columns]
legacy_id = "id"
name = "name"
price = "price"
maker_id = { lookup = "maker", by = "maker" }
kind_id = { row = "kind" }

[[target]]
name = "bit"
table = "bits"
owned_by = { row = "thing", column = "thing_id" }
id = "id"
from = "parts"
key = ["item_id"]
slot = "id"
[target.columns]
thing_id = { row = "thing" }
label = "label"
"#;

/// Two databases of one engine.
pub struct Stand {
    pub legacy: Plain,
    pub new: Plain,
    pub legacy_url: String,
    pub new_url: String,
    _folder: Option<tempfile::TempDir>,
}

impl Stand {
    pub async fn start(postgres: bool, legacy_sql: &str, new_sql: &str) -> Stand {
        let (folder, legacy_url, new_url) = if postgres {
            let (legacy, new) = support::postgres::fresh_pair().await;
            (None, legacy, new)
        } else {
            let (folder, legacy, new) = support::sqlite_pair();
            (Some(folder), legacy, new)
        };
        let (legacy, new) = (Plain::open(&legacy_url).await, Plain::open(&new_url).await);
        let id = if postgres {
            "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
        } else {
            "INTEGER PRIMARY KEY NOT NULL"
        };
        legacy.run(&legacy_sql.replace("{id}", id)).await;
        new.run(&new_sql.replace("{id}", id)).await;
        Stand {
            legacy,
            new,
            legacy_url,
            new_url,
            _folder: folder,
        }
    }

    pub async fn usual(postgres: bool) -> Stand {
        Stand::start(postgres, LEGACY, NEW).await
    }

    /// Opens with a mapping in TOML, or says why not.
    pub async fn open(&self, mapping: &str) -> Result<Migration, String> {
        let mapping = mapping
            .parse::<TomlMapping>()
            .map_err(|error| error.to_string())?;
        self.open_with(Arc::new(mapping)).await
    }

    pub async fn open_with(&self, mapping: Arc<dyn Mapping>) -> Result<Migration, String> {
        open(&self.legacy_url, &self.new_url, mapping).await
    }

    /// All that both databases hold, but for what stays when an entity was taken out.
    pub async fn census_without_past(&self) -> Vec<Vec<String>> {
        self.legacy.forget_past().await;
        self.new.forget_past().await;
        self.census().await
    }

    /// All that both databases hold.
    pub async fn census(&self) -> Vec<Vec<String>> {
        vec![census(&self.legacy).await, census(&self.new).await]
    }
}

/// Opens entity `items` between two URLs, or says why not.
pub async fn open(legacy: &str, new: &str, mapping: Arc<dyn Mapping>) -> Result<Migration, String> {
    let legacy = Database::open(legacy).map_err(|error| chain(&error))?;
    let new = Database::open(new).map_err(|error| chain(&error))?;
    let entity = Entity::new("items").unwrap();
    Migration::open(entity, mapping, legacy, new)
        .await
        .map_err(|error| chain(&error))
}

pub fn usual_mapping() -> Arc<dyn Mapping> {
    Arc::new(MAPPING.parse::<TomlMapping>().unwrap())
}

/// An error with its causes.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Replaces a piece that must be there.
pub fn spoil(text: &str, (from, to): (&str, &str)) -> String {
    assert!(text.contains(from), "{from:?} is not there to be spoilt");
    text.replacen(from, to, 1)
}

/// Tables, columns, indexes, triggers and functions, and how many rows every table has.
pub async fn census(side: &Plain) -> Vec<String> {
    let (objects, tables) = match side {
        Plain::Postgres(_) => (
            "SELECT 'class ' || c.oid::regclass::text || ' ' || c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
             UNION ALL SELECT 'column ' || a.attrelid::regclass::text || '.' || a.attname::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
               JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
             UNION ALL SELECT 'function ' || p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
               WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
             UNION ALL SELECT 'trigger ' || t.tgrelid::regclass::text || '.' || t.tgname::text FROM pg_trigger t
             ORDER BY 1",
            "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' ORDER BY 1",
        ),
        Plain::Sqlite(_) => (
            "SELECT type || ' ' || name || ' ' || coalesce(sql, '') FROM sqlite_schema ORDER BY 1",
            "SELECT '\"' || replace(name, '\"', '\"\"') || '\"' FROM sqlite_schema WHERE type = 'table' ORDER BY 1",
        ),
        Plain::Mariadb(_) => (
            "SELECT CONCAT_WS(' ', 'column', table_name, column_name, column_type) AS said FROM information_schema.columns WHERE table_schema = database()
             UNION ALL SELECT CONCAT_WS(' ', 'index', table_name, index_name, column_name) FROM information_schema.statistics WHERE table_schema = database()
             UNION ALL SELECT CONCAT_WS(' ', 'trigger', trigger_name, event_object_table) FROM information_schema.triggers WHERE trigger_schema = database()
             UNION ALL SELECT CONCAT_WS(' ', 'routine', routine_name) FROM information_schema.routines WHERE routine_schema = database()
             ORDER BY said",
            "SELECT CONCAT('\"', table_name, '\"') FROM information_schema.tables WHERE table_schema = database() ORDER BY 1",
        ),
    };
    let mut found = side.texts(objects).await;
    assert!(!found.is_empty(), "the census found nothing");
    for table in side.texts(tables).await {
        let rows = side
            .text(&format!("SELECT CAST(count(*) AS text) FROM {table}"))
            .await;
        found.push(format!("{table} has {rows} rows"));
    }
    found
}

/// Runs a scenario on both engines.
macro_rules! both_engines {
    ($($name:ident),* $(,)?) => { $(mod $name {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn sqlite() { super::scenario::$name(false).await }
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn postgres() { super::scenario::$name(true).await }
    })* };
}
pub(super) use both_engines;
