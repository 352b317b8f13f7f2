//! The contract test of a mapping and its repositories: what stands in `main` is the body of a
//! `#[tokio::test]` in your own tree, against scratch copies of your own databases.
use changeover::closures::Closures;
use changeover::kit::{Key, Kit, LostAnswers, Rule};
use changeover::proxy::Refused;
use sqlx::SqlitePool;

const MAPPING: &str = r#"
    revision = 1
    root = { table = "listings", key = ["id"] }
    source.categories.keys = "SELECT id FROM listings WHERE category_id = $row.id"
    [[target]]
    table = "products"
    owned_by.key = ["legacy_id"]
    identity = ["legacy_id"]
    from = "listings l LEFT JOIN categories c ON c.id = l.category_id"
    key = ["l.id"]
    columns = { legacy_id = "l.id", name = "trim(l.title)", category = "c.name" }
"#;

const LEGACY: &str = "PRAGMA journal_mode = WAL;
    CREATE TABLE categories (id INTEGER PRIMARY KEY NOT NULL, name TEXT NOT NULL);
    CREATE TABLE listings (id INTEGER PRIMARY KEY NOT NULL, title TEXT NOT NULL, category_id INTEGER);
    INSERT INTO categories VALUES (1, 'light'), (2, 'seats');
    INSERT INTO listings VALUES (1, ' lamp ', 1), (2, 'chair', 2), (3, 'unsorted', NULL)";

const NEW: &str = "PRAGMA journal_mode = WAL;
    CREATE TABLE products (legacy_id INTEGER PRIMARY KEY NOT NULL, name TEXT NOT NULL, category TEXT)";

type Failure = Box<dyn std::error::Error>;

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Layer(#[from] Refused),
}

type Product = Option<(String, Option<String>)>;

async fn product(db: SqlitePool, sql: &'static str, key: Key) -> Result<Product, Error> {
    let query = sqlx::query_as(sql).bind(key.as_str().to_owned());
    Ok(query.fetch_optional(&db).await?)
}

async fn rename(db: SqlitePool, key: Key, title: String) -> Result<(), Error> {
    let sql = "UPDATE listings SET title = $2 WHERE id = $1";
    let query = sqlx::query(sql).bind(key.as_str().to_owned()).bind(title);
    Ok(query.execute(&db).await.map(drop)?)
}

/// The read of both repositories, and the write through the layer.
fn equipped(kit: Kit, legacy: SqlitePool, new: SqlitePool) -> Result<Kit, Failure> {
    const OF_LEGACY: &str = "SELECT trim(l.title), c.name FROM listings l
        LEFT JOIN categories c ON c.id = l.category_id WHERE l.id = $1";
    const OF_NEW: &str = "SELECT name, category FROM products WHERE legacy_id = $1";
    let listings = Closures::<Error>::around(kit.wiring().builder())?;
    let answers: LostAnswers = kit.lost_answers();
    let on_legacy = legacy.clone();
    let read_legacy = move |key| product(legacy.clone(), OF_LEGACY, key);
    let read_new = move |key| product(new.clone(), OF_NEW, key);
    let write = move |key: Key, n: u32| {
        let (db, answers, on) = (on_legacy.clone(), answers.clone(), key.clone());
        let on_legacy = move || {
            let (db, answers, key) = (db.clone(), answers.clone(), on.clone());
            async move { answers.pass(rename(db, key, format!("title {n}"))).await }
        };
        let on_new = || async { unreachable!("the legacy tables lead") };
        listings.write("rename", [key], on_legacy, on_new)
    };
    let kit = kit.reads_agree("product", read_legacy, read_new);
    Ok(kit.writes("rename", write))
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let scratch = async |name: &str| -> Result<_, Failure> {
        let url = |file: &str| {
            let path = folder.path().join(format!("{name}_{file}"));
            format!("sqlite:{}?mode=rwc", path.display())
        };
        let (legacy_url, new_url) = (url("legacy.db"), url("new.db"));
        let pool = || changeover::worker::guard::sqlite(sqlx::pool::PoolOptions::new());
        let (legacy, new) = (
            pool().connect(&legacy_url).await?,
            pool().connect(&new_url).await?,
        );
        sqlx::raw_sql(LEGACY).execute(&legacy).await?;
        sqlx::raw_sql(NEW).execute(&new).await?;
        Ok((legacy_url, new_url, legacy, new))
    };

    // What the mapping alone is asked, in one line.
    let (legacy_url, new_url, ..) = scratch("alone").await?;
    Kit::open("listings", MAPPING, &legacy_url, &new_url)
        .await?
        .check()
        .await
        .assert_holds();

    // With the team's own read and write.
    let (legacy_url, new_url, legacy, new) = scratch("all").await?;
    let kit = Kit::open("listings", MAPPING, &legacy_url, &new_url).await?;
    let report = equipped(kit, legacy, new)?.check().await;
    println!("{report}");
    report.assert_holds();

    // A table that the mapping reads and forgets to declare is found.
    let forgetful = MAPPING.replace("source.categories.keys", "# source.categories.keys");
    let (legacy_url, new_url, ..) = scratch("forgetful").await?;
    let report = Kit::open("listings", &forgetful, &legacy_url, &new_url)
        .await?
        .check()
        .await;
    let found = report.findings().first().ok_or("it was not found")?;
    assert_eq!(found.rule, Rule::Stamps);
    println!("without the source:\n{found}");
    Ok(())
}
