//! A small marketplace on any topology: its two schemas, its mapping, and plain SQL on both sides.
//!
//! The mapping uses everything at once: a child table, a lookup stamped on the authority's side
//! (tenants), a lookup on the follower's side (providers), shared addresses, a generated id, a
//! child target that belongs to it, composite identities, renamed states.

use std::sync::Arc;
use std::time::Duration;

use changeover::flags::Entity;
use changeover::worker::backfill::BackfillOptions;
use changeover::worker::dialect::session::Database;
use changeover::worker::drain::DrainOptions;
use changeover::worker::mapping::Mapping;
use changeover::worker::mapping::toml::TomlMapping;
use changeover::worker::migration::Migration;
use changeover::worker::pace::Pacing;
use changeover::worker::verify::{VerifyOptions, VerifyReport};

pub use super::plain::{Engine, Plain};
use crate::support;

/// Where the two sides are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    SqliteTwoFiles,
    SqliteOneFile,
    PostgresTwoDatabases,
    PostgresOneDatabase,
    MariadbTwoDatabases,
    MariadbOneDatabase,
    PostgresToSqlite,
    SqliteToPostgres,
    MariadbToPostgres,
    MariadbToSqlite,
    PostgresToMariadb,
    SqliteToMariadb,
}

impl Topology {
    /// The engine of the legacy side.
    pub fn legacy_engine(self) -> Engine {
        use Topology as T;
        match self {
            T::SqliteTwoFiles | T::SqliteOneFile | T::SqliteToPostgres | T::SqliteToMariadb => {
                Engine::Sqlite
            }
            T::PostgresTwoDatabases
            | T::PostgresOneDatabase
            | T::PostgresToSqlite
            | T::PostgresToMariadb => Engine::Postgres,
            T::MariadbTwoDatabases
            | T::MariadbOneDatabase
            | T::MariadbToPostgres
            | T::MariadbToSqlite => Engine::Mariadb,
        }
    }

    /// The engine of the new side.
    pub fn new_engine(self) -> Engine {
        use Topology as T;
        match self {
            T::PostgresToSqlite | T::MariadbToSqlite => Engine::Sqlite,
            T::SqliteToPostgres | T::MariadbToPostgres => Engine::Postgres,
            T::PostgresToMariadb | T::SqliteToMariadb => Engine::Mariadb,
            one => one.legacy_engine(),
        }
    }

    /// Whether both sides are one database.
    pub fn is_one_database(self) -> bool {
        use Topology as T;
        matches!(
            self,
            T::SqliteOneFile | T::PostgresOneDatabase | T::MariadbOneDatabase
        )
    }

    /// Whether both sides are PostgreSQL. Of a pair of engines ask each side: [`Plain::engine`].
    pub fn is_postgres(self) -> bool {
        (self.legacy_engine(), self.new_engine()) == (Engine::Postgres, Engine::Postgres)
    }

    /// Two new empty databases, or one for both: the folder of files, `(URL of legacy, URL of new)`.
    pub async fn databases(self) -> (Option<tempfile::TempDir>, String, String) {
        let (folder, legacy_file, new_file) = support::sqlite_pair();
        let legacy = self.legacy_engine().fresh(legacy_file).await;
        let new = match self.is_one_database() {
            true => legacy.clone(),
            false => self.new_engine().fresh(new_file).await,
        };
        (Some(folder), legacy, new)
    }
}

/// The legacy schema: see [`Engine::schema`].
const LEGACY: &str = "
CREATE TABLE tenants (id bigint PRIMARY KEY NOT NULL, name text NOT NULL);
CREATE TABLE listings (
  id {chosen}, tenant_id bigint NOT NULL, title text, status text NOT NULL, house text,
  price decimal(12,2), stock bigint NOT NULL DEFAULT 0, sku {word} UNIQUE);
CREATE TABLE photos (id bigint PRIMARY KEY NOT NULL, listing_id bigint NOT NULL, url text NOT NULL);
CREATE INDEX photos_of ON photos (listing_id);
CREATE INDEX listings_of ON listings (tenant_id);
INSERT INTO tenants VALUES (1, 'Ada'), (2, 'Bo');
";

/// The new schema.
const NEW: &str = "
CREATE TABLE providers (id bigint PRIMARY KEY NOT NULL, tenant_id bigint NOT NULL UNIQUE);
CREATE TABLE addresses (id {id}, house {word} NOT NULL UNIQUE);
CREATE TABLE service_listings (
  id {id}, legacy_id bigint NOT NULL UNIQUE, provider_id bigint NOT NULL REFERENCES providers (id),
  provider_name text, title text, status text NOT NULL CHECK (status <> 'forbidden'),
  address_id bigint REFERENCES addresses (id), sku {word} UNIQUE, note {word} NOT NULL DEFAULT 'none');
CREATE TABLE variants (
  listing_id bigint NOT NULL REFERENCES service_listings (id), position bigint NOT NULL,
  price decimal(12,2), stock bigint NOT NULL, PRIMARY KEY (listing_id, position));
CREATE TABLE pictures (
  id {id}, listing_id bigint NOT NULL REFERENCES service_listings (id), url text NOT NULL);
CREATE INDEX pictures_of ON pictures (listing_id);
INSERT INTO providers VALUES (101, 1), (102, 2);
";

pub const MAPPING: &str = r#"
revision = 1
root = { table = "listings", key = ["id"] }

[source.photos]
key = ["listing_id"]
[source.tenants]
keys = "SELECT id FROM listings WHERE tenant_id = $row.id"

[lookup.provider]
table = "providers"
by = "tenant_id"
value = "id"

[[target]]
name = "address"
table = "addresses"
shared_by = ["house"]
id = "id"
columns = { house = "trim(house)" }

[[target]]
name = "listing"
table = "service_listings"
owned_by = { key = ["legacy_id"] }
id = "id"
from = "listings l LEFT JOIN tenants t ON t.id = l.tenant_id"
key = ["l.id"]
[target.columns]
legacy_id = "l.id"
provider_id = { lookup = "provider", by = "l.tenant_id" }
provider_name = "t.name"
title = "l.title"
status = "lower(trim(l.status))"
address_id = { row = "address" }
sku = "l.sku"

[[target]]
name = "variant"
table = "variants"
owned_by = { row = "listing", column = "listing_id" }
identity = ["listing_id", "position"]
[target.columns]
listing_id = { row = "listing" }
position = "1"
price = "price"
stock = "stock"

[[target]]
name = "picture"
table = "pictures"
owned_by = { row = "listing", column = "listing_id" }
id = "id"
from = "photos"
key = ["listing_id"]
slot = "id"
[target.columns]
listing_id = { row = "listing" }
url = "url"
"#;

/// What the new tables say, one line per row, without generated ids.
const NEW_ROWS: &str = "
SELECT 'l ' || s.legacy_id || '|' || p.tenant_id || '|' || coalesce(s.provider_name, '-') || '|' || coalesce(s.title, '-')
  || '|' || s.status || '|' || coalesce(a.house, '-') || '|' || coalesce(s.sku, '-') || '|' || coalesce({price}, '-')
  || '|' || coalesce(CAST(v.stock AS text), 'no variant')
FROM service_listings s JOIN providers p ON p.id = s.provider_id
LEFT JOIN addresses a ON a.id = s.address_id LEFT JOIN variants v ON v.listing_id = s.id
UNION ALL SELECT 'p ' || s.legacy_id || '|' || i.url FROM pictures i JOIN service_listings s ON s.id = i.listing_id";

/// The same, said by the legacy tables.
const LEGACY_ROWS: &str = "
SELECT 'l ' || l.id || '|' || l.tenant_id || '|' || coalesce(t.name, '-') || '|' || coalesce(l.title, '-')
  || '|' || lower(trim(l.status)) || '|' || coalesce(trim(l.house), '-') || '|' || coalesce(l.sku, '-') || '|' || coalesce({price}, '-')
  || '|' || CAST(l.stock AS text)
FROM listings l LEFT JOIN tenants t ON t.id = l.tenant_id
UNION ALL SELECT 'p ' || p.listing_id || '|' || p.url FROM photos p JOIN listings l ON l.id = p.listing_id";

/// A marketplace ready to be migrated.
pub struct Market {
    pub topology: Topology,
    pub legacy: Plain,
    pub new: Plain,
    pub legacy_url: String,
    pub new_url: String,
    _folder: Option<tempfile::TempDir>,
}

impl Market {
    pub async fn start(topology: Topology) -> Market {
        let (folder, legacy_url, new_url) = topology.databases().await;
        Market::on(topology, legacy_url, new_url, folder).await
    }

    pub async fn on(
        topology: Topology,
        legacy_url: String,
        new_url: String,
        folder: Option<tempfile::TempDir>,
    ) -> Market {
        let (legacy, new) = (Plain::open(&legacy_url).await, Plain::open(&new_url).await);
        legacy.run(&legacy.engine().schema(LEGACY)).await;
        new.run(&new.engine().schema(NEW)).await;
        Market {
            topology,
            legacy,
            new,
            legacy_url,
            new_url,
            _folder: folder,
        }
    }

    pub fn entity() -> Entity {
        Entity::new("listings").unwrap()
    }

    pub fn mapping(text: &str) -> Arc<dyn Mapping> {
        Arc::new(
            text.parse::<TomlMapping>()
                .unwrap_or_else(|error| panic!("{error}")),
        )
    }

    pub async fn open(&self) -> Migration {
        self.open_with(Market::mapping(MAPPING)).await
    }

    pub async fn open_with(&self, mapping: Arc<dyn Mapping>) -> Migration {
        let legacy = Database::open(&self.legacy_url).unwrap();
        let new = Database::open(&self.new_url).unwrap();
        match Migration::open(Market::entity(), mapping, legacy, new).await {
            Ok(migration) => migration,
            Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
        }
    }

    /// Installed and copying.
    pub async fn installed(&self) -> Migration {
        self.installed_with(MAPPING).await
    }

    /// The same, with this mapping.
    pub async fn installed_with(&self, mapping: &str) -> Migration {
        let migration = self.open_with(Market::mapping(mapping)).await;
        migration
            .install()
            .await
            .unwrap_or_else(|error| panic!("{error:?}"));
        migration.start_copying().await.unwrap();
        migration
    }

    /// Some history.
    pub async fn fill(&self, rows: u32) {
        let mut sql = String::new();
        for n in 1..=rows {
            let house = if n % 3 == 0 {
                "NULL".into()
            } else {
                format!("' House {} '", n % 17)
            };
            let title = if n % 5 == 0 {
                "NULL".into()
            } else {
                format!("'Título {n} ✓'")
            };
            sql.push_str(&format!(
                "INSERT INTO listings (tenant_id, title, status, house, price, stock, sku) VALUES \
                 ({}, {title}, 'ACTIVE ', {house}, {n}.25, {n}, 'sku-{n}');",
                1 + n % 2
            ));
        }
        self.legacy.run(&sql).await;
        self.legacy
            .run("INSERT INTO photos SELECT id * 2, id, 'u' || id FROM listings WHERE id % 4 = 0; INSERT INTO photos SELECT id * 2 + 1, id, 'w' || id FROM listings WHERE id % 8 = 0")
            .await;
    }

    /// What both sides say, by SQL of the test's own.
    pub async fn both(&self) -> (Vec<String>, Vec<String>) {
        let said = async |side: &Plain, sql: &str| {
            let mut rows = side.texts(&side.engine().priced(sql)).await;
            rows.sort_unstable();
            rows
        };
        (
            said(&self.legacy, LEGACY_ROWS).await,
            said(&self.new, NEW_ROWS).await,
        )
    }

    /// Plain SQL finds both sides equal, and something to compare.
    pub async fn assert_equal(&self) {
        let (legacy, new) = self.both().await;
        assert!(!legacy.is_empty(), "nothing was compared");
        let only = |a: &[String], b: &[String]| {
            a.iter()
                .filter(|row| !b.contains(row))
                .take(5)
                .cloned()
                .collect::<Vec<_>>()
        };
        let (lost, added) = (only(&legacy, &new), only(&new, &legacy));
        assert!(
            legacy == new,
            "{:?}: in legacy alone {lost:?}, in new alone {added:?}",
            self.topology
        );
    }

    /// Every key's version and synced version on the legacy side.
    pub async fn dirty(&self) -> Vec<String> {
        self.legacy
            .texts("SELECT \"key\" || ' ' || state || ' ' || coalesce(reason, '') FROM changeover_key WHERE place = 'legacy' AND synced < version ORDER BY \"key\"")
            .await
    }
}

pub async fn backfill(migration: &Migration) {
    let epoch = migration.epoch().await.unwrap();
    let options = BackfillOptions {
        page: 50,
        load_page: Some(50),
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

/// Until nothing is dirty that is not held.
pub async fn drain(migration: &Migration) {
    let options = DrainOptions {
        waiting_pause: Duration::ZERO,
        blocked_pause: Duration::ZERO,
        ..DrainOptions::default()
    };
    let drain = migration.drain(options);
    for _ in 0..5 {
        drain
            .once()
            .await
            .unwrap_or_else(|error| panic!("{error:?}"));
    }
}

pub async fn verify(migration: &Migration) -> VerifyReport {
    migration
        .verify(VerifyOptions::default())
        .await
        .unwrap_or_else(|error| panic!("{error:?}"))
}

mod tests {
    use super::*;

    /// What the tests compare must not depend on where it stands.
    #[tokio::test]
    async fn a_marketplace_says_the_same_everywhere() {
        use Topology as T;
        let mut first = None;
        for topology in [
            T::SqliteOneFile,
            T::PostgresOneDatabase,
            T::MariadbOneDatabase,
            T::MariadbTwoDatabases,
            T::MariadbToPostgres,
            T::MariadbToSqlite,
            T::PostgresToMariadb,
            T::SqliteToMariadb,
        ] {
            let market = Market::start(topology).await;
            assert_eq!(market.legacy.engine(), topology.legacy_engine());
            assert_eq!(market.new.engine(), topology.new_engine());
            let one = market.legacy_url == market.new_url;
            assert_eq!(one, topology.is_one_database());
            market.fill(20).await;
            market
                .new
                .run(
                    "INSERT INTO addresses (house) VALUES ('a\\b');
                     INSERT INTO service_listings (legacy_id, provider_id, status, address_id) VALUES (7, 101, 'ça', 1);
                     INSERT INTO variants SELECT id, 1, 1.5, 3 FROM service_listings;
                     INSERT INTO pictures (listing_id, url) SELECT id, 'u' FROM service_listings",
                )
                .await;
            let both = market.both().await;
            assert_eq!(both.0.len(), 20 + 5 + 2, "{topology:?}");
            assert_eq!(both.1, ["l 7|1|-|-|ça|a\\b|-|1.50|3", "p 7|u"]);
            assert_eq!(first.get_or_insert(both.clone()), &both, "{topology:?}");
        }
    }
}
