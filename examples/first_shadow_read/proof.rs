//! The databases that a reader of the guide has, and what the guide promises of them.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use changeover::cli;
use changeover::prelude::*;
use sqlx::{AssertSqlSafe, SqlitePool};
use tempfile::TempDir;

use super::{Error, Listings, MAPPING, RULES, legacy_product, new_product};

const LEGACY: &str = "
    CREATE TABLE listings (id INTEGER PRIMARY KEY NOT NULL, title TEXT NOT NULL, price REAL NOT NULL);
    WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 2000)
    INSERT INTO listings
    SELECT id, iif(id % 3 = 0, ' lamp ' || id || ' ', 'chair ' || id), id + 0.99 FROM n";

const NEW: &str = "
    CREATE TABLE products (legacy_id INTEGER PRIMARY KEY NOT NULL, name TEXT NOT NULL, cents INTEGER NOT NULL)";

/// Both databases, in a folder that becomes the working directory.
pub(crate) async fn databases() -> Result<TempDir, Error> {
    let folder = tempfile::tempdir()?;
    fill(folder.path()).await?;
    std::env::set_current_dir(folder.path())?;
    Ok(folder)
}

/// Both databases in a folder of their own, and their URLs.
#[cfg(test)]
pub(crate) async fn scratch(urls: [String; 2]) -> Result<([String; 2], TempDir), Error> {
    let folder = tempfile::tempdir()?;
    fill(folder.path()).await?;
    let place = folder.path().display().to_string();
    Ok((urls.map(|url| url.replace("scratch", &place)), folder))
}

async fn fill(folder: &Path) -> Result<(), Error> {
    for (file, sql) in [("legacy.db", LEGACY), ("new.db", NEW)] {
        let url = format!("sqlite:{}?mode=rwc", folder.join(file).display());
        sqlx::raw_sql(sql)
            .execute(&SqlitePool::connect(&url).await?)
            .await?;
    }
    Ok(())
}

/// What the guide says, in its order, once its program has come to the end.
pub(crate) async fn of_the_guide(wiring: &Wiring, listings: &Listings) -> Result<(), Error> {
    let report = listings.layer.handle().report();
    assert!(report.clean && report.confirmed == 0, "{report:#?}");
    assert!(report.compared > 0 && report.started == 500, "{report:#?}");
    let price = listings.product(3).await?.ok_or("listing 3 is gone")?;
    assert_eq!(
        (price.name.as_str(), price.cents),
        (" lamp 3 ", 399),
        "callers get legacy's answer"
    );
    let flags = std::fs::read_to_string("state/listings.toml")?;
    assert!(
        flags.contains("sample = 100.0") && flags.contains("ready = true"),
        "{flags}"
    );

    a_wrong_query_is_seen(wiring, listings).await?;
    let forged = sqlx::query("UPDATE products SET cents = 1 WHERE legacy_id = 7");
    let refused = forged
        .execute(&listings.new)
        .await
        .expect_err("new rows are closed");
    println!("writing a new row by hand: {refused}\n");
    another_mapping_needs_a_revision().await?;
    nothing_is_left(listings).await
}

async fn a_wrong_query_is_seen(wiring: &Wiring, listings: &Listings) -> Result<(), Error> {
    let builder = wiring
        .builder()
        .operations(["product"])
        .rules(RULES.parse()?);
    let layer: Closures<Error> =
        Closures::around(builder.redaction(Redaction::new().show_keys().show("**")))?;
    let (legacy, new) = (listings.legacy.clone(), listings.new.clone());
    let on_legacy = move || legacy_product(legacy.clone(), 7);
    let on_new = move || {
        let right = new_product(new.clone(), 7);
        async move {
            let mut product = right.await?;
            product.iter_mut().for_each(|product| product.cents += 1);
            Ok(product)
        }
    };
    layer.read("product", 7, on_legacy, on_new).await?;
    let _ = layer.handle().close_and_wait(Duration::from_secs(60)).await;
    let report = layer.handle().report();
    assert_eq!(report.confirmed, 1, "{report:#?}");
    let text = report.markdown();
    assert!(
        text.contains("| cents | 1 | 7: cents: legacy 799, new 800 |"),
        "{text}"
    );
    Ok(())
}

async fn another_mapping_needs_a_revision() -> Result<(), Error> {
    let mapping = MAPPING
        .replace("revision = 1", "revision = 2")
        .replace("trim(title)", "title");
    std::fs::create_dir("src")?;
    std::fs::write("src/mapping.toml", &mapping)?;
    std::fs::write("changeover.toml", include_str!("changeover.toml"))?;
    let urls = ("sqlite:legacy.db", "sqlite:new.db");
    let install = || Wiring::install("listings", &mapping, urls.0, urls.1, "state".as_ref());
    let refused = install().await.expect_err("nobody has raised the revision");
    assert!(
        format!("{refused:?}").contains("changeover install --raise"),
        "{refused:?}"
    );
    command(["changeover", "install", "--raise"]).await?;
    let wiring = install().await?;
    let worker = wiring.run(RunOptions::default());
    wiring.until_ready().await;
    worker.stop().await;
    Ok(())
}

async fn nothing_is_left(listings: &Listings) -> Result<(), Error> {
    command(["changeover", "uninstall", "--yes"]).await?;
    for (db, rows) in [(&listings.legacy, "listings"), (&listings.new, "products")] {
        let left = "SELECT count(*) FROM sqlite_schema WHERE name LIKE '%changeover%' AND tbl_name <> 'changeover_past'";
        let left: i64 = sqlx::query_scalar(left).fetch_one(db).await?;
        let rows = AssertSqlSafe(format!("SELECT count(*) FROM {rows}"));
        let rows: i64 = sqlx::query_scalar(rows).fetch_one(db).await?;
        assert_eq!((left, rows), (0, 2000));
    }
    Ok(())
}

/// The command line has a runtime of its own.
async fn command<const N: usize>(words: [&'static str; N]) -> Result<(), Error> {
    let code = tokio::task::spawn_blocking(move || cli::run(words)).await?;
    assert_eq!(code, ExitCode::SUCCESS, "{words:?}");
    Ok(())
}
