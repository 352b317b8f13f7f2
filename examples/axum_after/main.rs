//! A marketplace's listings over HTTP, with axum and sqlx.
//!
//! Serves on port 8080 and keeps its SQLite files in the folder `marketplace`. With `--self-check`
//! it serves on a free port and in a temporary folder, is used as its clients use it, and ends.

mod api;
mod legacy;
mod listings;
mod moving;
mod new;
#[path = "../adoption/self_check.rs"]
mod self_check;

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use changeover::wiring::{RunOptions, Wiring};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use tokio::net::TcpListener;

use api::Error;
use legacy::LegacyListings;
use listings::Listings;
use moving::MovingListings;
use new::NewListings;

#[tokio::main]
async fn main() -> Result<(), Error> {
    if std::env::args().any(|argument| argument == "--self-check") {
        return self_check::migration(serve).await;
    }
    tracing_subscriber::fmt().init();
    let folder = Path::new("marketplace");
    std::fs::create_dir_all(folder)?;
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    serve(listener, folder.into(), async {
        drop(tokio::signal::ctrl_c().await)
    })
    .await
}

/// Serves until `stop` ends, then finishes what it has begun.
async fn serve(
    listener: TcpListener,
    folder: Box<Path>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let url = |file| format!("sqlite:{}", folder.join(file).display());
    let (legacy_url, new_url) = (url("legacy.db"), url("new.db"));
    let legacy = LegacyListings::new(open(&legacy_url, include_str!("legacy.sql")).await?);
    let new = NewListings::new(open(&new_url, include_str!("new.sql")).await?);
    let (legacy, new): (Arc<dyn Listings>, Arc<dyn Listings>) = (Arc::new(legacy), Arc::new(new));
    let mapping = include_str!("mapping.toml");
    let wiring = Wiring::install("listings", mapping, &legacy_url, &new_url, &folder).await?;
    let listings = MovingListings::around(wiring.builder(), legacy, new)?;
    let worker = wiring.run(RunOptions::default()).after(listings.handle());
    let server = axum::serve(listener, api::routes(Arc::new(listings)));
    server.with_graceful_shutdown(stop).await?;
    worker.stop().await;
    Ok(())
}

async fn open(url: &str, schema: &'static str) -> Result<SqlitePool, Error> {
    let options = SqliteConnectOptions::from_str(url)?
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal);
    let pool = changeover::worker::guard::sqlite(SqlitePoolOptions::new());
    let pool = pool.connect_with(options).await?;
    sqlx::raw_sql(schema).execute(&pool).await?;
    Ok(pool)
}
