//! The program of `docs/adoption.md`, on two SQLite files in a temporary folder. The guide shows it
//! line by line, but for the lines that name `proof`: they make the databases that a reader has, and
//! check what the guide promises. `contract.rs` is the guide's test.

mod proof;

use changeover::prelude::*;
use serde::Serialize;
use sqlx::SqlitePool;
use sqlx::sqlite::SqlitePoolOptions;

#[cfg(test)]
mod contract;

/// Any error type that the layer's refusals fit into: this one, `anyhow::Error`, or your own enum
/// with a variant `Refused(#[from] changeover::proxy::Refused)`.
type Error = Box<dyn std::error::Error + Send + Sync>;

const MAPPING: &str = include_str!("mapping.toml");

/// What the two sides may write differently.
const RULES: &str = r#"fold_space = ["name"]"#;

/// What callers get. The fields are compared by the names that they serialize under.
#[derive(Serialize)]
struct Product {
    name: String,
    cents: i64,
}

/// The read as it is today.
async fn legacy_product(db: SqlitePool, id: i64) -> Result<Option<Product>, Error> {
    let sql = "SELECT title, CAST(round(price * 100) AS BIGINT) FROM listings WHERE id = $1";
    let row = sqlx::query_as(sql).bind(id).fetch_optional(&db).await?;
    Ok(row.map(|(name, cents)| Product { name, cents }))
}

/// The same read of the new tables.
async fn new_product(db: SqlitePool, id: i64) -> Result<Option<Product>, Error> {
    let sql = "SELECT name, cents FROM products WHERE legacy_id = $1";
    let row = sqlx::query_as(sql).bind(id).fetch_optional(&db).await?;
    Ok(row.map(|(name, cents)| Product { name, cents }))
}

/// What handlers call.
struct Listings {
    layer: Closures<Error>,
    legacy: SqlitePool,
    new: SqlitePool,
}

impl Listings {
    async fn product(&self, id: i64) -> Result<Option<Product>, Error> {
        // The layer may call each closure twice, or not at all: a closure owns its pool, each call a clone.
        let (legacy, new) = (self.legacy.clone(), self.new.clone());
        let on_legacy = move || legacy_product(legacy.clone(), id);
        let on_new = move || new_product(new.clone(), id);
        self.layer.read("product", id, on_legacy, on_new).await
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing_subscriber::fmt().init(); // the worker says what it does
    let _folder = proof::databases().await?;
    let (legacy_url, new_url) = ("sqlite:legacy.db", "sqlite:new.db");
    // The guard ends transactions that a cancelled call has left in a pooled connection.
    let pool = || guard::sqlite(SqlitePoolOptions::new());
    let legacy = pool().connect(legacy_url).await?;
    let new = pool().connect(new_url).await?;

    let state = "state".as_ref(); // a folder for the flags file
    let wiring = Wiring::install("listings", MAPPING, legacy_url, new_url, state).await?;
    let builder = wiring
        .builder()
        .operations(["product"])
        .rules(RULES.parse()?)
        .redaction(Redaction::new().show_keys().show("**")); // values in the report: not in production
    let layer = Closures::around(builder)?;
    let listings = Listings { layer, legacy, new };
    let worker = wiring
        .run(RunOptions::default())
        .after(listings.layer.handle());

    // A service would serve here. To try it out: compare every read, once history is copied.
    wiring.flags().set_sample(Percent::HUNDRED)?;
    wiring.until_ready().await;
    for id in 1..=500 {
        listings.product(id).await?;
    }
    worker.stop().await; // shadow reads run behind their answers; this waits for them
    println!("{}", listings.layer.handle().report().markdown());
    proof::of_the_guide(&wiring, &listings).await?;
    Ok(())
}
