//! Listings in a legacy database and in a new one, and what an application does with them.

use std::path::Path;
use std::time::{Duration, Instant};

use changeover::flags::Entity;
use changeover::proxy::{Changeover, Operation, Refused};
use changeover::shadow::Value;
use changeover::wiring::{RunOptions, Running, Wiring};
use changeover::worker::dialect::session::Database;
use changeover::worker::mapping::toml::TomlMapping;
use changeover::worker::migration::Migration;
use sqlx::postgres::{PgPool, PgPoolOptions};
use tower::util::BoxCloneSyncService;
use tower::{Layer as _, service_fn};

use crate::support::postgres::Postgres;

/// The rows of each table.
pub const ROWS: i64 = 20_000;

/// The same table three times: moved by the layer, stamped alone, and left alone.
const LEGACY: &str = "
CREATE TABLE listings (
  id bigint PRIMARY KEY, tenant_id bigint NOT NULL, title text, status text NOT NULL,
  price_cents bigint NOT NULL, stock bigint NOT NULL DEFAULT 0);
CREATE INDEX ON listings (tenant_id);
INSERT INTO listings
  SELECT id, id % 500, 'Listing ' || id, CASE id % 3 WHEN 0 THEN 'Active ' ELSE 'PAUSED' END, id * 7, 1
  FROM generate_series(1, 20000) id;
CREATE TABLE stamped (LIKE listings INCLUDING ALL);
INSERT INTO stamped SELECT * FROM listings;
CREATE TABLE bare (LIKE listings INCLUDING ALL);
INSERT INTO bare SELECT * FROM listings;
ANALYZE;
";

const NEW: &str = "
CREATE TABLE service_listings (
  id bigint PRIMARY KEY, provider_id bigint NOT NULL, title text, state text NOT NULL,
  price_cents bigint NOT NULL, stock bigint NOT NULL);
CREATE INDEX ON service_listings (provider_id);
CREATE TABLE service_stamped (LIKE service_listings INCLUDING ALL);
";

fn mapping(source: &str, target: &str) -> String {
    format!(
        "revision = 1
root = {{ table = \"{source}\", key = [\"id\"] }}
[[target]]
table = \"{target}\"
owned_by.key = [\"id\"]
identity = [\"id\"]
columns.id = \"id\"
columns.provider_id = \"tenant_id\"
columns.title = \"title\"
columns.state = \"lower(trim(status))\"
columns.price_cents = \"price_cents\"
columns.stock = \"stock\"
"
    )
}

/// A call.
#[derive(Debug, Clone, Copy)]
pub enum Call {
    Get(i64),
    Reprice { id: i64, cents: i64 },
}

/// A listing in the words of the new side, if there is one.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing {
    id: i64,
    provider: i64,
    title: Option<String>,
    state: String,
    cents: i64,
}

pub type Answer = Option<Listing>;

#[derive(Debug)]
#[expect(dead_code, reason = "shown by the debug format alone")]
pub enum Failed {
    Sql(sqlx::Error),
    Refused(Refused),
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Failed {
        Failed::Refused(refused)
    }
}

pub type Store = BoxCloneSyncService<Call, Answer, Failed>;

/// A repository over one table: one statement for each call, sent over `pool`.
pub fn store(pool: &PgPool, get: &'static str, reprice: &'static str) -> Store {
    let pool = pool.clone();
    BoxCloneSyncService::new(service_fn(move |call| {
        let pool = pool.clone();
        async move {
            let query = match call {
                Call::Get(id) => sqlx::query_as(get).bind(id),
                Call::Reprice { id, cents } => sqlx::query_as(reprice).bind(id).bind(cents),
            };
            let row: Option<(i64, i64, Option<String>, String, i64)> =
                query.fetch_optional(&pool).await.map_err(Failed::Sql)?;
            let listing = |(id, provider, title, state, cents)| Listing {
                id,
                provider,
                title,
                state,
                cents,
            };
            Ok(row.map(listing))
        }
    }))
}

macro_rules! legacy_store {
    ($name:ident, $table:literal) => {
        pub fn $name(&self) -> Store {
            store(
                &self.legacy,
                concat!(
                    "SELECT id, tenant_id, title, lower(trim(status)), price_cents FROM ",
                    $table,
                    " WHERE id = $1"
                ),
                concat!(
                    "UPDATE ",
                    $table,
                    " SET price_cents = $2, stock = stock + 1 WHERE id = $1 \
                     RETURNING id, tenant_id, title, lower(trim(status)), price_cents"
                ),
            )
        }
    };
}

/// Both databases, with the worker running until the new side was ready.
pub struct Shop {
    pub wiring: Wiring,
    pub worker: Running,
    pub legacy: PgPool,
    pub new: PgPool,
    _folder: tempfile::TempDir,
    _server: Postgres,
}

impl Shop {
    /// Starts a server, fills it, and waits until reads may move.
    pub async fn open() -> Shop {
        let server = Postgres::start();
        server.create_database("legacy").await;
        server.create_database("new").await;
        let (legacy_url, new_url) = (server.url("legacy"), server.url("new"));
        let (legacy, new) = (pool(&legacy_url, 24).await, pool(&new_url, 12).await);
        sqlx::raw_sql(LEGACY)
            .execute(&legacy)
            .await
            .expect("the legacy schema");
        sqlx::raw_sql(NEW)
            .execute(&new)
            .await
            .expect("the new schema");
        stamp(&legacy_url, &new_url).await;
        let folder = tempfile::tempdir().expect("a folder");
        let (wiring, worker) = install(&legacy_url, &new_url, folder.path()).await;
        Shop {
            wiring,
            worker,
            legacy,
            new,
            _folder: folder,
            _server: server,
        }
    }

    legacy_store!(listings, "listings");
    legacy_store!(stamped, "stamped");
    legacy_store!(bare, "bare");

    fn moved(&self) -> Store {
        store(
            &self.new,
            "SELECT id, provider_id, title, state, price_cents FROM service_listings WHERE id = $1",
            "SELECT id, provider_id, title, state, price_cents FROM service_listings WHERE id = $1 AND $2 IS NULL",
        )
    }

    /// The listings behind the layer.
    pub fn layered(&self) -> Changeover<Store, Store, Call, Answer, Failed> {
        let layer = self
            .wiring
            .builder()
            .classify(|call: &Call| match call {
                Call::Get(id) => Operation::read("get", *id),
                Call::Reprice { id, .. } => Operation::write("reprice", [*id]),
            })
            .operations(["get", "reprice"])
            .observe(|answer: &Answer| {
                let listing = answer.as_ref()?;
                Some(Value::record([
                    ("id", Value::from(listing.id)),
                    ("provider", listing.provider.into()),
                    ("title", listing.title.clone().unwrap_or_default().into()),
                    ("state", listing.state.clone().into()),
                    ("cents", listing.cents.into()),
                ]))
            })
            .found(|answer: &Answer| answer.is_some())
            .new_service(self.moved())
            .build()
            .expect("nothing is missing");
        layer.layer(self.listings())
    }

    /// How many keys are dirty.
    pub async fn dirty(&self) -> u64 {
        let lag = self.wiring.migration().copier().authority().lag().await;
        lag.expect("the authority answers").dirty
    }

    /// Waits until nothing is dirty, at most `patience`.
    pub async fn clean(&self, patience: Duration) -> u64 {
        let began = Instant::now();
        loop {
            let dirty = self.dirty().await;
            if dirty == 0 || began.elapsed() > patience {
                return dirty;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Stamps alone: installed, and nothing is copied.
async fn stamp(legacy_url: &str, new_url: &str) {
    let mapping: TomlMapping = mapping("stamped", "service_stamped")
        .parse()
        .expect("a mapping");
    let entity = Entity::new("stamped").expect("a good name");
    let (legacy, new) = (Database::open(legacy_url), Database::open(new_url));
    let (legacy, new) = (legacy.expect("a URL"), new.expect("a URL"));
    let migration = Migration::open(entity, std::sync::Arc::new(mapping), legacy, new).await;
    migration
        .expect("it fits")
        .install()
        .await
        .expect("installed");
}

async fn install(legacy_url: &str, new_url: &str, folder: &Path) -> (Wiring, Running) {
    let mapping = mapping("listings", "service_listings");
    let wiring = Wiring::install("listings", &mapping, legacy_url, new_url, folder).await;
    let wiring = wiring.expect("installed");
    let worker = wiring.run(RunOptions::default());
    wiring.until_ready().await;
    (wiring, worker)
}

async fn pool(url: &str, connections: u32) -> PgPool {
    let options = PgPoolOptions::new()
        .max_connections(connections)
        .min_connections(connections);
    let options = options.acquire_timeout(Duration::from_secs(30));
    options.connect(url).await.expect("a server")
}
