//! A script's two functions behind the layer, without Tower and without a trait: each call brings
//! how it is done on either side. Two SQLite files in a temporary folder; it checks itself and ends.

use changeover::closures::Closures;
use changeover::flags::Percent;
use changeover::proxy::Refused;
use changeover::wiring::{RunOptions, Wiring};
use sqlx::SqlitePool;

/// What a call may fail with: the database's error, or the layer's.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Layer(#[from] Refused),
}

const MAPPING: &str = r#"
    revision = 1
    root = { table = "listings", key = ["id"] }
    [[target]]
    table = "products"
    owned_by.key = ["legacy_id"]
    identity = ["legacy_id"]
    columns = { legacy_id = "id", name = "trim(title)", cents = "price * 100" }
"#;

/// (name, price in cents), as the new tables hold it.
type Product = Option<(String, i64)>;

async fn legacy_product(db: SqlitePool, id: i64) -> Result<Product, Error> {
    let sql = "SELECT trim(title), price * 100 FROM listings WHERE id = $1";
    Ok(sqlx::query_as(sql).bind(id).fetch_optional(&db).await?)
}

async fn new_product(db: SqlitePool, id: i64) -> Result<Product, Error> {
    let sql = "SELECT name, cents FROM products WHERE legacy_id = $1";
    Ok(sqlx::query_as(sql).bind(id).fetch_optional(&db).await?)
}

async fn legacy_price(db: SqlitePool, id: i64, price: i64) -> Result<u64, Error> {
    let sql = "UPDATE listings SET price = $2 WHERE id = $1";
    let done = sqlx::query(sql).bind(id).bind(price).execute(&db).await?;
    Ok(done.rows_affected())
}

async fn new_price(db: SqlitePool, id: i64, price: i64) -> Result<u64, Error> {
    let sql = "UPDATE products SET cents = $2 * 100 WHERE legacy_id = $1";
    let done = sqlx::query(sql).bind(id).bind(price).execute(&db).await?;
    Ok(done.rows_affected())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let url = |file| format!("sqlite:{}?mode=rwc", folder.path().join(file).display());
    let (legacy_url, new_url) = (url("legacy.db"), url("new.db"));
    // The guard sees to it that no cancelled call leaves a transaction open.
    let pool = || changeover::worker::guard::sqlite(sqlx::pool::PoolOptions::new());
    let (legacy, new) = (
        pool().connect(&legacy_url).await?,
        pool().connect(&new_url).await?,
    );
    sqlx::raw_sql(
        "PRAGMA journal_mode = WAL;
         CREATE TABLE listings (id INTEGER PRIMARY KEY NOT NULL, title TEXT NOT NULL, price INTEGER NOT NULL);
         INSERT INTO listings VALUES (1, ' lamp ', 20), (2, 'chair', 35), (3, 'table', 80)",
    )
    .execute(&legacy)
    .await?;
    sqlx::raw_sql(
        "PRAGMA journal_mode = WAL;
         CREATE TABLE products (legacy_id INTEGER PRIMARY KEY NOT NULL, name TEXT NOT NULL, cents INTEGER NOT NULL)",
    )
    .execute(&new)
    .await?;

    let wiring = Wiring::install("listings", MAPPING, &legacy_url, &new_url, folder.path()).await?;
    let listings = Closures::<Error>::around(wiring.builder().operations(["product", "reprice"]))?;
    let product = |id: i64| {
        let (legacy, new) = (legacy.clone(), new.clone());
        let on_legacy = move || legacy_product(legacy.clone(), id);
        listings.read("product", id, on_legacy, move || {
            new_product(new.clone(), id)
        })
    };
    let reprice = |id: i64, price: i64| {
        let (legacy, new) = (legacy.clone(), new.clone());
        let on_legacy = move || legacy_price(legacy.clone(), id, price);
        listings.write("reprice", [id], on_legacy, move || {
            new_price(new.clone(), id, price)
        })
    };

    assert_eq!(product(1).await?, Some(("lamp".into(), 2_000)));
    let worker = wiring.run(RunOptions::default()).after(listings.handle());
    wiring.until_ready().await;
    wiring.flags().set_read_new(Percent::HUNDRED)?;
    assert_eq!(reprice(1, 25).await?, 1);
    // Its own write, whichever side answers; and from the new table once it was copied.
    assert_eq!(product(1).await?, Some(("lamp".into(), 2_500)));
    worker.stop().await;
    let copied = new_product(new, 1).await?;
    assert_eq!(copied, Some(("lamp".into(), 2_500)));
    println!("three listings moved; the lamp costs 25 on both sides");
    Ok(())
}
