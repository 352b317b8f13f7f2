//! What a person on call does to a running instance, and what it does then.

mod canary;
mod checks;
mod client;
pub mod command;
mod disk;
mod edits;
mod file;
mod listed;
mod own_checks;
mod pace;
mod process;
mod redacted;
mod replica;
mod router;
mod signal;
mod spoken;
mod trouble;
mod verbs;

use std::path::Path;
use std::time::Duration;

use changeover::flags::{FileStore, Flags, Percent};
use changeover::shadow::Redaction;
use changeover::wiring::Wiring;

use crate::layer::shop::Instance;
use crate::protocol::market::{Market, Topology, backfill, verify};

/// What the legacy side answers for every listing.
const LEGACY: &str = "canary-of-legacy";

/// What the new side answers for every listing: whose answer it is can be seen.
const FORGED: &str = "canary-of-new";

/// An instance on SQLite that reads everything from the new side, with its flags in `folder`.
async fn ramped(folder: &Path) -> (Market, Instance) {
    ramped_showing(folder, Redaction::new()).await
}

async fn ramped_showing(folder: &Path, redaction: Redaction) -> (Market, Instance) {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    market.fill(16).await;
    let titled = format!("UPDATE listings SET title = '{LEGACY}'");
    market.legacy.run(&titled).await;
    let migration = market.installed().await;
    backfill(&migration).await;
    assert!(verify(&migration).await.clean());
    let entity = Market::entity();
    let flags = Flags::open(entity.clone(), FileStore::new(folder, &entity)).unwrap();
    let wiring = Wiring::new(migration, flags).await.unwrap();
    let instance = Instance::showing(&market, wiring, true, redaction).await;
    instance.read_new(Percent::HUNDRED);
    market
        .new
        .run(&format!(
            "BEGIN IMMEDIATE; INSERT INTO changeover_copying VALUES ('x'); \
             UPDATE service_listings SET title = '{FORGED}'; \
             DELETE FROM changeover_copying; COMMIT"
        ))
        .await;
    assert_eq!(instance.title(1).await.as_deref(), Some(FORGED));
    (market, instance)
}

/// Waits, up to a limit that only ends a test that has failed.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited 10 seconds until {what}");
}
