//! Diesel under the layer: an ORM's own queries, its own connections, and a worker beside it that
//! moves the rows. Two SQLite files in a temporary folder; it checks itself and ends.
//!
//! Diesel waits for its database on the thread it runs on, so each call goes to a blocking thread. A
//! call that its caller has left ends there, on its own.

use std::sync::{Arc, Mutex};

use changeover::closures::Closures;
use changeover::flags::Percent;
use changeover::proxy::Refused;
use changeover::wiring::{RunOptions, Wiring};
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use serde::Serialize;

mod schema {
    diesel::table! { listings (id) { id -> BigInt, title -> Text, price -> BigInt, } }
    diesel::table! { products (id) { id -> BigInt, name -> Text, cents -> BigInt, } }
}
use schema::{listings, products};

const MAPPING: &str = r#"
    revision = 1
    root = { table = "listings", key = ["id"] }
    [[target]]
    table = "products"
    owned_by.key = ["id"]
    identity = ["id"]
    columns = { id = "id", name = "trim(title)", cents = "price * 100" }
"#;

/// A listing as the application shows it, whichever schema it comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Listing {
    name: String,
    cents: i64,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Database(#[from] diesel::result::Error),
    #[error(transparent)]
    Layer(#[from] Refused),
}

/// One connection; an application has a pool.
#[derive(Clone)]
struct Db(Arc<Mutex<SqliteConnection>>);

impl Db {
    fn open(path: &str) -> Result<Db, Box<dyn std::error::Error>> {
        let mut connection = SqliteConnection::establish(path)?;
        connection.batch_execute("PRAGMA journal_mode = WAL; PRAGMA busy_timeout = 5000")?;
        Ok(Db(Arc::new(Mutex::new(connection))))
    }

    async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(&mut SqliteConnection) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, Error> {
        let work = move || work(&mut self.0.lock().expect("nobody panics"));
        let done = tokio::task::spawn_blocking(work).await;
        Ok(done.expect("the work does not panic")?)
    }
}

async fn legacy_listing(db: Db, id: i64) -> Result<Option<Listing>, Error> {
    let row = db.run(move |db| listings::table.find(id).first(db).optional());
    let row: Option<(i64, String, i64)> = row.await?;
    Ok(row.map(|(_, title, price)| Listing {
        name: title.trim().to_owned(),
        cents: price * 100,
    }))
}

async fn new_listing(db: Db, id: i64) -> Result<Option<Listing>, Error> {
    let row = db.run(move |db| products::table.find(id).first(db).optional());
    let row: Option<(i64, String, i64)> = row.await?;
    Ok(row.map(|(_, name, cents)| Listing { name, cents }))
}

async fn legacy_rename(db: Db, id: i64, title: String) -> Result<usize, Error> {
    let row = listings::table.find(id);
    db.run(move |db| {
        diesel::update(row)
            .set(listings::title.eq(title))
            .execute(db)
    })
    .await
}

async fn new_rename(db: Db, id: i64, name: String) -> Result<usize, Error> {
    let row = products::table.find(id);
    db.run(move |db| diesel::update(row).set(products::name.eq(name)).execute(db))
        .await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = |file| folder.path().join(file).display().to_string();
    let (legacy, new) = (Db::open(&path("legacy.db"))?, Db::open(&path("new.db"))?);
    let schema = "CREATE TABLE listings (id INTEGER PRIMARY KEY NOT NULL, title TEXT NOT NULL, price BIGINT NOT NULL);
        INSERT INTO listings VALUES (1, ' lamp ', 20), (2, 'chair', 35)";
    legacy
        .clone()
        .run(move |db| db.batch_execute(schema))
        .await?;
    let schema = "CREATE TABLE products (id INTEGER PRIMARY KEY NOT NULL, name TEXT NOT NULL, cents BIGINT NOT NULL)";
    new.clone().run(move |db| db.batch_execute(schema)).await?;

    let url = |file| format!("sqlite:{}", path(file));
    let (legacy_url, new_url) = (url("legacy.db"), url("new.db"));
    let wiring = Wiring::install("listings", MAPPING, &legacy_url, &new_url, folder.path()).await?;
    let listings = Closures::<Error>::around(wiring.builder().operations(["get", "rename"]))?;
    let get = |id: i64| {
        let (legacy, new) = (legacy.clone(), new.clone());
        let on_legacy = move || legacy_listing(legacy.clone(), id);
        listings.read("get", id, on_legacy, move || new_listing(new.clone(), id))
    };

    let worker = wiring.run(RunOptions::default()).after(listings.handle());
    wiring.until_ready().await;
    wiring.flags().set_read_new(Percent::HUNDRED)?;
    let renamed = {
        let (legacy, new) = (legacy.clone(), new.clone());
        let on_legacy = move || legacy_rename(legacy.clone(), 1, "desk lamp".into());
        listings.write("rename", [1], on_legacy, move || {
            new_rename(new.clone(), 1, "desk lamp".into())
        })
    };
    assert_eq!(renamed.await?, 1);
    let lamp = Listing {
        name: "desk lamp".into(),
        cents: 2_000,
    };
    assert_eq!(get(1).await?.as_ref(), Some(&lamp), "its own write");
    assert_eq!(
        get(2).await?.map(|one| one.cents),
        Some(3_500),
        "from the new table"
    );
    worker.stop().await;
    assert_eq!(new_listing(new, 1).await?, Some(lamp), "copied");
    println!("two listings moved under Diesel");
    Ok(())
}
