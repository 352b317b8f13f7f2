//! The shop on any topology: its old and new tables, its four mappings, plain SQL on both sides.
//!
//! The same text serves all engines: `@customer_id` stands for `customer_id` on PostgreSQL and
//! for `CustomerId` on SQLite and MariaDB, whose Chinook names its tables and columns so.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use changeover::flags::Entity;
use changeover::worker::backfill::BackfillOptions;
use changeover::worker::dialect::session::Database;
use changeover::worker::mapping::toml::TomlMapping;
use changeover::worker::migration::Migration;
use changeover::worker::pace::Pacing;

use crate::protocol::market::{Engine, Plain, Topology, drain};
use crate::support;

/// The new tables: see [`Engine::schema`].
const NEW: &str = "
CREATE TABLE addresses (
  id {id}, street {word} NOT NULL, city {word} NOT NULL, country {word} NOT NULL, UNIQUE (street, city, country));
CREATE TABLE customers (
  id bigint PRIMARY KEY NOT NULL, full_name text NOT NULL, email {word} NOT NULL UNIQUE, company text,
  phone text, address_id bigint REFERENCES addresses (id));
CREATE TABLE orders (
  id {id}, legacy_id bigint NOT NULL UNIQUE, customer_id bigint NOT NULL REFERENCES customers (id),
  placed_at timestamp NOT NULL, total decimal(10,2) NOT NULL, note {word} NOT NULL DEFAULT 'none');
CREATE TABLE order_lines (
  id {id}, order_id bigint NOT NULL REFERENCES orders (id), legacy_line bigint NOT NULL UNIQUE,
  song bigint NOT NULL, price decimal(10,2) NOT NULL, quantity bigint NOT NULL);
CREATE INDEX order_lines_of ON order_lines (order_id);
CREATE TABLE playlist_entries (
  playlist_id bigint NOT NULL, track_id bigint NOT NULL, song text NOT NULL,
  PRIMARY KEY (playlist_id, track_id));
CREATE TABLE songs (
  id {id}, legacy_id bigint NOT NULL UNIQUE, title text NOT NULL, composer text, album text,
  seconds bigint NOT NULL, price decimal(10,2) NOT NULL);
";

const CUSTOMERS: &str = r#"
revision = 1
root = { table = "@customer", key = ["@customer_id"] }

[[target]]
name = "address"
table = "addresses"
shared_by = ["street", "city", "country"]
id = "id"
columns = { street = "trim(@address)", city = "@city", country = "@country" }

[[target]]
table = "customers"
owned_by = { key = ["id"] }
identity = ["id"]
[target.columns]
id = "@customer_id"
full_name = "@first_name || ' ' || @last_name"
email = "lower(@email)"
company = "@company"
phone = "@phone"
address_id = { row = "address" }
"#;

const ORDERS: &str = r#"
revision = 1
root = { table = "@invoice", key = ["@invoice_id"] }

[source.@invoice_line]
key = ["@invoice_id"]

[[target]]
name = "order"
table = "orders"
owned_by = { key = ["legacy_id"] }
id = "id"
[target.columns]
legacy_id = "@invoice_id"
customer_id = "@customer_id"
placed_at = "@invoice_date"
total = "@total"

[[target]]
name = "line"
table = "order_lines"
owned_by = { row = "order", column = "order_id" }
id = "id"
from = "@invoice_line"
key = ["@invoice_id"]
slot = "@invoice_line_id"
[target.columns]
order_id = { row = "order" }
legacy_line = "@invoice_line_id"
song = "@track_id"
price = "@unit_price"
quantity = "@quantity"
"#;

const ENTRIES: &str = r#"
revision = 1
root = { table = "@playlist_track", key = ["@playlist_id", "@track_id"] }

[source.@track]
keys = "SELECT @playlist_id, @track_id FROM @playlist_track WHERE @track_id = $row.@track_id"

[[target]]
table = "playlist_entries"
owned_by = { key = ["playlist_id", "track_id"] }
identity = ["playlist_id", "track_id"]
from = "@playlist_track e JOIN @track t ON t.@track_id = e.@track_id"
key = ["e.@playlist_id", "e.@track_id"]
[target.columns]
playlist_id = "e.@playlist_id"
track_id = "e.@track_id"
song = "t.@name"
"#;

const SONGS: &str = r#"
revision = 1
root = { table = "@track", key = ["@track_id"] }

[source.@album]
keys = "SELECT @track_id FROM @track WHERE @album_id = $row.@album_id"

[[target]]
table = "songs"
owned_by = { key = ["legacy_id"] }
id = "id"
from = "@track t LEFT JOIN @album a ON a.@album_id = t.@album_id"
key = ["t.@track_id"]
[target.columns]
legacy_id = "t.@track_id"
title = "t.@name"
composer = "t.@composer"
album = "a.@title"
seconds = "t.@milliseconds / 1000"
price = "t.@unit_price"
"#;

/// What one entity says on both sides, one line per row: (of the old tables, of the new ones).
const ROWS: [(&str, &str); 4] = [
    (
        "SELECT @customer_id || '|' || @first_name || ' ' || @last_name || '|' || lower(@email) || '|' || coalesce(@company, '-') || '|' || coalesce(@phone, '-')
           || '|' || CASE WHEN @address IS NULL OR @city IS NULL OR @country IS NULL THEN '-' ELSE trim(@address) || '/' || @city || '/' || @country END FROM @customer",
        "SELECT c.id || '|' || c.full_name || '|' || c.email || '|' || coalesce(c.company, '-') || '|' || coalesce(c.phone, '-')
           || '|' || coalesce(a.street || '/' || a.city || '/' || a.country, '-') FROM customers c LEFT JOIN addresses a ON a.id = c.address_id",
    ),
    (
        "SELECT 'order ' || @invoice_id || '|' || @customer_id || '|' || CAST(@invoice_date AS text) || '|' || {@total} FROM @invoice
         UNION ALL SELECT 'line ' || @invoice_id || '|' || @invoice_line_id || '|' || @track_id || '|' || {@unit_price} || '|' || @quantity FROM @invoice_line",
        "SELECT 'order ' || legacy_id || '|' || customer_id || '|' || CAST(placed_at AS text) || '|' || {total} FROM orders
         UNION ALL SELECT 'line ' || o.legacy_id || '|' || l.legacy_line || '|' || l.song || '|' || {price} || '|' || l.quantity
           FROM order_lines l JOIN orders o ON o.id = l.order_id",
    ),
    (
        "SELECT e.@playlist_id || '|' || e.@track_id || '|' || t.@name FROM @playlist_track e JOIN @track t ON t.@track_id = e.@track_id",
        "SELECT playlist_id || '|' || track_id || '|' || song FROM playlist_entries",
    ),
    (
        "SELECT t.@track_id || '|' || t.@name || '|' || coalesce(t.@composer, '-') || '|' || coalesce(a.@title, '-') || '|' || (t.@milliseconds / 1000) || '|' || {@unit_price}
           FROM @track t LEFT JOIN @album a ON a.@album_id = t.@album_id",
        "SELECT legacy_id || '|' || title || '|' || coalesce(composer, '-') || '|' || coalesce(album, '-') || '|' || seconds || '|' || {price} FROM songs",
    ),
];

/// The four entities, in the order of [`ROWS`].
const ENTITIES: [(&str, &str); 4] = [
    ("customers", CUSTOMERS),
    ("orders", ORDERS),
    ("entries", ENTRIES),
    ("songs", SONGS),
];

/// The folder of the data, or why these tests cannot run: said past the test runner's capture, and
/// kept for `scripts/test` to count.
pub fn data(test: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let scripts = [Engine::Postgres, Engine::Mariadb]
        .into_iter()
        .filter_map(script);
    if scripts
        .chain(["Chinook_Sqlite.sqlite"])
        .all(|file| folder.join(file).exists())
    {
        return Some(folder);
    }
    support::skipped(
        test,
        "Chinook's data are not in ../shared/data beside this tree",
    );
    None
}

/// The shop with its four migrations.
pub struct Shop {
    topology: Topology,
    pub legacy: Plain,
    pub new: Plain,
    /// Customers, orders, entries, songs.
    pub migrations: Vec<Migration>,
    _folder: Option<tempfile::TempDir>,
}

impl Shop {
    /// The shop's old tables with their data, the new ones empty, nothing installed.
    pub async fn start(topology: Topology, data: &Path) -> Shop {
        let (folder, legacy_url, new_url) = topology.databases().await;
        if topology.legacy_engine() == Engine::Sqlite {
            let file = folder.as_ref().unwrap().path().join("legacy.db");
            std::fs::copy(data.join("Chinook_Sqlite.sqlite"), file).unwrap();
        }
        let (legacy, new) = (Plain::open(&legacy_url).await, Plain::open(&new_url).await);
        if let Some(script) = script(legacy.engine()) {
            let script = std::fs::read_to_string(data.join(script)).unwrap();
            // The database is there already.
            let elsewhere = |line: &&str| {
                line.starts_with('\\') || line.starts_with("USE `") || line.contains("DATABASE")
            };
            let lines: Vec<&str> = script.lines().filter(|line| !elsewhere(line)).collect();
            legacy.run(&lines.join("\n")).await;
        }
        // A moment without a time zone, as in the old tables.
        let schema = match new.engine() {
            Engine::Mariadb => NEW.replace(" timestamp ", " datetime "),
            _ => NEW.to_owned(),
        };
        new.run(&new.engine().schema(&schema)).await;
        let mut migrations = Vec::new();
        for (name, mapping) in ENTITIES {
            let mapping: TomlMapping = names(legacy.engine(), mapping)
                .parse()
                .unwrap_or_else(|e| panic!("{e}"));
            let sides = (
                Database::open(&legacy_url).unwrap(),
                Database::open(&new_url).unwrap(),
            );
            let entity = Entity::new(name).unwrap();
            let opened = Migration::open(entity, Arc::new(mapping), sides.0, sides.1).await;
            migrations.push(opened.unwrap_or_else(|error| panic!("{name}: {error}")));
        }
        Shop {
            topology,
            legacy,
            new,
            migrations,
            _folder: folder,
        }
    }

    /// Runs SQL of the application on the old tables.
    pub async fn write(&self, sql: &str) {
        self.legacy.run(&names(self.legacy.engine(), sql)).await;
    }

    /// Copies all history of one entity.
    pub async fn backfill(&self, index: usize) {
        let migration = &self.migrations[index];
        let epoch = migration.epoch().await.unwrap();
        let options = BackfillOptions {
            page: 1000,
            attempts: Some(3),
            pacing: Pacing::UNLIMITED,
            ..BackfillOptions::default()
        };
        migration
            .backfill(options)
            .run(|_| {})
            .await
            .unwrap_or_else(|error| panic!("{error:?}"));
        migration.record_backfill(&epoch).await.unwrap();
    }

    /// Customers first: orders refer to them.
    pub async fn drain(&self) {
        for migration in &self.migrations {
            drain(migration).await;
        }
    }

    /// `entity key state reason` of every dirty key.
    pub async fn dirty(&self) -> Vec<String> {
        self.legacy
            .texts("SELECT entity || ' ' || \"key\" || ' ' || state || ' ' || coalesce(reason, '') FROM changeover_key WHERE place = 'legacy' AND synced < version ORDER BY entity, \"key\"")
            .await
    }

    /// What both sides say of one entity, in one order.
    pub async fn both(&self, index: usize) -> (Vec<String>, Vec<String>) {
        let (legacy, new) = ROWS[index];
        (said(&self.legacy, legacy).await, said(&self.new, new).await)
    }

    /// Plain SQL finds both sides equal, in as many rows as expected.
    pub async fn assert_equal(&self, index: usize, rows: Option<usize>) {
        let (legacy, new) = self.both(index).await;
        let differing = |a: &[String], b: &[String]| {
            a.iter()
                .filter(|row| b.binary_search(row).is_err())
                .take(5)
                .cloned()
                .collect::<Vec<_>>()
        };
        let (lost, added) = (differing(&legacy, &new), differing(&new, &legacy));
        let name = ENTITIES[index].0;
        assert!(
            legacy == new,
            "{:?} {name}: in legacy alone {lost:?}, in new alone {added:?}",
            self.topology
        );
        assert!(
            rows.is_none_or(|rows| rows == legacy.len()),
            "{name}: {} rows",
            legacy.len()
        );
        assert!(!legacy.is_empty(), "{name}: nothing was compared");
    }

    pub async fn assert_all_equal(&self) {
        for index in 0..ENTITIES.len() {
            self.assert_equal(index, None).await;
        }
    }
}

/// What one side says, in one order.
async fn said(side: &Plain, sql: &str) -> Vec<String> {
    let sql = names(side.engine(), &side.engine().priced(sql));
    let mut rows = side.texts(&sql).await;
    rows.sort_unstable();
    rows
}

/// What makes the old tables; SQLite's come as a file of their own.
fn script(engine: Engine) -> Option<&'static str> {
    match engine {
        Engine::Sqlite => None,
        Engine::Postgres => Some("Chinook_PostgreSql.sql"),
        Engine::Mariadb => Some("Chinook_MySql.sql"),
    }
}

/// Replaces every `@snake_case` by the engine's name, and divides whole numbers. MariaDB's Chinook
/// declares `NVARCHAR`, which there has no room for characters beyond three bytes.
fn names(engine: Engine, text: &str) -> String {
    let text = match engine {
        Engine::Mariadb => text.replace(" / 1000", " DIV 1000").replace('🎵', "♫"),
        _ => text.to_owned(),
    };
    let mut parts = text.split('@');
    let mut named = parts.next().unwrap().to_owned();
    for part in parts {
        let end = part
            .find(|c: char| !(c.is_ascii_lowercase() || c == '_'))
            .unwrap_or(part.len());
        let (name, rest) = part.split_at(end);
        if engine == Engine::Postgres {
            named.push_str(name);
        } else {
            for word in name.split('_') {
                named.push_str(&word[..1].to_ascii_uppercase());
                named.push_str(&word[1..]);
            }
        }
        named.push_str(rest);
    }
    named
}
