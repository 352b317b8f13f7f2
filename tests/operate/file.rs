//! The flags file of an instance: taken up without any database, and a bad edit of it is seen.

use std::time::{Duration, Instant};

use changeover::flags::{FileStore, Flags};
use changeover::wiring::Wiring;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

use super::until;
use crate::protocol::market::{Market, Topology};
use crate::support::postgres::Postgres;

const EVERY: Duration = Duration::from_millis(20);

/// The gauge of an operator's alert, if it was published.
fn trouble(recorder: &metrics_util::debugging::Snapshotter) -> Option<f64> {
    let all = recorder.snapshot().into_vec();
    all.into_iter().find_map(|(key, _, _, value)| {
        let named = key.key().name() == "changeover_flags_trouble";
        match value {
            DebugValue::Gauge(value) if named => Some(value.into_inner()),
            _ => None,
        }
    })
}

#[tokio::test]
async fn a_bad_edit_shows_in_the_metrics_until_it_is_mended() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    let folder = tempfile::tempdir().unwrap();
    let entity = Market::entity();
    let file = folder.path().join("listings.toml");
    let flags = Flags::open(entity.clone(), FileStore::new(folder.path(), &entity)).unwrap();
    let wiring = Wiring::new(market.installed().await, flags).await.unwrap();
    let recorder = DebuggingRecorder::new();
    let seen = recorder.snapshotter();
    // The handle is registered when the watch is first polled, on this thread.
    let _guard = metrics::set_default_local_recorder(&recorder);
    let watching = wiring.watch(EVERY);
    let editing = async {
        until("the gauge is there", || trouble(&seen) == Some(0.0)).await;
        let good = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, good.replace("kill = false", "kill = maybe")).unwrap();
        until("the bad edit is seen", || trouble(&seen) == Some(1.0)).await;
        assert!(!wiring.flags().load().kill);
        assert!(wiring.flags().troubles().join("").contains("listings.toml"));
        std::fs::write(&file, good.replace("kill = false", "kill = true")).unwrap();
        until("the mended one is in force", || wiring.flags().load().kill).await;
        until("the gauge has fallen", || trouble(&seen) == Some(0.0)).await;
    };
    tokio::select! {
        () = watching => unreachable!("it ends with its caller"),
        () = editing => {}
    }
}

/// The stage is asked of a database that never answers; the file is on a disk that does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_the_file_acts_while_the_databases_hang() {
    let server = Postgres::start();
    server.create_database("legacy").await;
    server.create_database("new").await;
    let (legacy, new) = (server.url("legacy"), server.url("new"));
    let market = Market::on(Topology::PostgresTwoDatabases, legacy, new, None).await;
    let folder = tempfile::tempdir().unwrap();
    let entity = Market::entity();
    let file = folder.path().join("listings.toml");
    let flags = Flags::open(entity.clone(), FileStore::new(folder.path(), &entity)).unwrap();
    let wiring = Wiring::new(market.installed().await, flags.clone())
        .await
        .unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    tokio::task::block_in_place(|| server.freeze());
    let watching = tokio::spawn(async move { wiring.watch(EVERY).await });
    // It is asking by now.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let edited = Instant::now();
    std::fs::write(
        &file,
        text.replace("kill = false", "kill = \"new is slow\""),
    )
    .unwrap();
    until("the kill is in force", || flags.load().kill).await;
    let took = edited.elapsed();
    watching.abort();
    let _ = watching.await;
    tokio::task::block_in_place(|| server.thaw());
    assert!(took < Duration::from_secs(1), "{took:?}");
}
