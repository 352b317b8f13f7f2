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
use changeover::worker::verify::{VerifyOptions, VerifyReport};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Row};

use crate::support;

/// Where the two sides are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    SqliteTwoFiles,
    SqliteOneFile,
    PostgresTwoDatabases,
    PostgresOneDatabase,
}

impl Topology {
    pub fn is_postgres(self) -> bool {
        matches!(
            self,
            Topology::PostgresTwoDatabases | Topology::PostgresOneDatabase
        )
    }
}

/// Plain SQL on one side, as an application or an operator would send it.
#[derive(Clone)]
pub enum Plain {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

impl Plain {
    pub async fn open(url: &str) -> Plain {
        if url.starts_with("sqlite:") {
            let options: SqliteConnectOptions = url.parse().unwrap();
            let options = options
                .journal_mode(SqliteJournalMode::Wal)
                .create_if_missing(true);
            Plain::Sqlite(
                SqlitePoolOptions::new()
                    .max_connections(4)
                    .connect_with(options)
                    .await
                    .unwrap(),
            )
        } else {
            Plain::Postgres(
                PgPoolOptions::new()
                    .max_connections(8)
                    .connect(url)
                    .await
                    .unwrap(),
            )
        }
    }

    /// Drops the one table that stays when an entity was taken out.
    pub async fn forget_past(&self) {
        self.run("DROP TABLE IF EXISTS changeover_past").await;
    }

    /// Runs statements, or says why not.
    pub async fn try_run(&self, sql: &str) -> Result<(), sqlx::Error> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Plain::Postgres(pool) => sql.execute(pool).await.map(drop),
            Plain::Sqlite(pool) => sql.execute(pool).await.map(drop),
        }
    }

    pub async fn run(&self, sql: &str) {
        if let Err(error) = self.try_run(sql).await {
            panic!("{sql}\n{error}");
        }
    }

    /// Rows of one text column.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        let query = sqlx::query(AssertSqlSafe(sql.to_owned()));
        let get = "a query of one text column";
        match self {
            Plain::Postgres(pool) => {
                let rows = query
                    .fetch_all(pool)
                    .await
                    .unwrap_or_else(|e| panic!("{sql}\n{e}"));
                rows.iter().map(|row| row.try_get(0).expect(get)).collect()
            }
            Plain::Sqlite(pool) => {
                let query = sqlx::query(AssertSqlSafe(sql.to_owned()));
                let rows = query
                    .fetch_all(pool)
                    .await
                    .unwrap_or_else(|e| panic!("{sql}\n{e}"));
                rows.iter().map(|row| row.try_get(0).expect(get)).collect()
            }
        }
    }

    /// The steps of a SQLite query plan.
    pub async fn plan(&self, sql: &str) -> Vec<String> {
        let Plain::Sqlite(pool) = self else {
            panic!("only SQLite explains this way");
        };
        let query = sqlx::query(AssertSqlSafe(sql.to_owned()));
        let rows = query.fetch_all(pool).await;
        let rows = rows.unwrap_or_else(|e| panic!("{sql}\n{e}"));
        rows.iter().map(|row| row.get("detail")).collect()
    }

    pub async fn text(&self, sql: &str) -> String {
        self.texts(sql).await.into_iter().next().unwrap_or_default()
    }
}

/// The legacy schema. `{id}` is what makes a column number itself.
const LEGACY: &str = "
CREATE TABLE tenants (id bigint PRIMARY KEY NOT NULL, name text NOT NULL);
CREATE TABLE listings (
  id {id}, tenant_id bigint NOT NULL, title text, status text NOT NULL, house text,
  price decimal(12,2), stock bigint NOT NULL DEFAULT 0, sku text UNIQUE);
CREATE TABLE photos (id bigint PRIMARY KEY NOT NULL, listing_id bigint NOT NULL, url text NOT NULL);
CREATE INDEX photos_of ON photos (listing_id);
CREATE INDEX listings_of ON listings (tenant_id);
INSERT INTO tenants VALUES (1, 'Ada'), (2, 'Bo');
";

/// The new schema.
const NEW: &str = "
CREATE TABLE providers (id bigint PRIMARY KEY NOT NULL, tenant_id bigint NOT NULL UNIQUE);
CREATE TABLE addresses (id {id}, house text NOT NULL UNIQUE);
CREATE TABLE service_listings (
  id {id}, legacy_id bigint NOT NULL UNIQUE, provider_id bigint NOT NULL REFERENCES providers,
  provider_name text, title text, status text NOT NULL CHECK (status <> 'forbidden'),
  address_id bigint REFERENCES addresses, sku text UNIQUE, note text NOT NULL DEFAULT 'none');
CREATE TABLE variants (
  listing_id bigint NOT NULL REFERENCES service_listings, position bigint NOT NULL,
  price decimal(12,2), stock bigint NOT NULL, PRIMARY KEY (listing_id, position));
CREATE TABLE pictures (
  id {id}, listing_id bigint NOT NULL REFERENCES service_listings, url text NOT NULL);
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
UNION ALL SELECT 'p ' || s.legacy_id || '|' || i.url FROM pictures i JOIN service_listings s ON s.id = i.listing_id
ORDER BY 1";

/// The same, said by the legacy tables.
const LEGACY_ROWS: &str = "
SELECT 'l ' || l.id || '|' || l.tenant_id || '|' || coalesce(t.name, '-') || '|' || coalesce(l.title, '-')
  || '|' || lower(trim(l.status)) || '|' || coalesce(trim(l.house), '-') || '|' || coalesce(l.sku, '-') || '|' || coalesce({price}, '-')
  || '|' || CAST(l.stock AS text)
FROM listings l LEFT JOIN tenants t ON t.id = l.tenant_id
UNION ALL SELECT 'p ' || p.listing_id || '|' || p.url FROM photos p JOIN listings l ON l.id = p.listing_id
ORDER BY 1";

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
        let (folder, legacy_url, new_url) = match topology {
            Topology::SqliteTwoFiles => {
                let (folder, legacy, new) = support::sqlite_pair();
                (Some(folder), legacy, new)
            }
            Topology::SqliteOneFile => {
                let (folder, legacy, _) = support::sqlite_pair();
                (Some(folder), legacy.clone(), legacy)
            }
            Topology::PostgresTwoDatabases => {
                let (legacy, new) = support::postgres::fresh_pair().await;
                (None, legacy, new)
            }
            Topology::PostgresOneDatabase => {
                let url = support::postgres::fresh_one().await;
                (None, url.clone(), url)
            }
        };
        Market::on(topology, legacy_url, new_url, folder).await
    }

    pub async fn on(
        topology: Topology,
        legacy_url: String,
        new_url: String,
        folder: Option<tempfile::TempDir>,
    ) -> Market {
        let (legacy, new) = (Plain::open(&legacy_url).await, Plain::open(&new_url).await);
        let id = if topology.is_postgres() {
            "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
        } else {
            "INTEGER PRIMARY KEY NOT NULL"
        };
        // The application may choose legacy ids itself.
        let legacy_id = id.replace("ALWAYS", "BY DEFAULT");
        legacy.run(&LEGACY.replace("{id}", &legacy_id)).await;
        new.run(&NEW.replace("{id}", id)).await;
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
        let migration = self.open().await;
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

    fn price(&self) -> &'static str {
        if self.topology.is_postgres() {
            "CAST(price AS text)"
        } else {
            "printf('%.2f', price)"
        }
    }

    /// What both sides say, by SQL of the test's own.
    pub async fn both(&self) -> (Vec<String>, Vec<String>) {
        let price = self.price();
        let new = NEW_ROWS.replace("{price}", price);
        (
            self.legacy
                .texts(&LEGACY_ROWS.replace("{price}", price))
                .await,
            self.new.texts(&new).await,
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
            .texts("SELECT key || ' ' || state || ' ' || coalesce(reason, '') FROM changeover_key WHERE place = 'legacy' AND synced < version ORDER BY key")
            .await
    }
}

pub async fn backfill(migration: &Migration) {
    let epoch = migration.epoch().await.unwrap();
    let options = BackfillOptions {
        page: 50,
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
