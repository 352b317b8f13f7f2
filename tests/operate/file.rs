//! The flags file of an instance: taken up without any database, and a bad edit of it is seen.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use changeover::flags::{FileStore, Flags, MemoryStore, Saved, Stage, Store, StoreError};
use changeover::wiring::Wiring;
use changeover::worker::verify::VerifyOptions;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

use super::until;
use crate::protocol::market::{Market, Topology, backfill};
use crate::support::postgres::Postgres;

const EVERY: Duration = Duration::from_millis(20);

/// A store on a disk that hangs when it is told to.
#[derive(Debug, Clone, Default)]
pub struct Hanging {
    kept: Arc<MemoryStore>,
    /// Until when it hangs, if it does.
    hangs: Arc<(Mutex<Option<Instant>>, Condvar)>,
}

impl Hanging {
    /// The longest that it hangs: this only ends a test that has failed.
    const LIMIT: Duration = Duration::from_secs(30);

    pub fn hang(&self, hangs: bool) {
        *self.hangs.0.lock().unwrap() = hangs.then(|| Instant::now() + Self::LIMIT);
        self.hangs.1.notify_all();
    }

    /// What a restart would find.
    pub fn kept(&self) -> Saved {
        self.kept.load().unwrap().unwrap_or_default()
    }

    fn answer(&self) {
        let (hangs, told) = &*self.hangs;
        let mut until = hangs.lock().unwrap();
        while let Some(end) = *until {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            until = told.wait_timeout(until, left).unwrap().0;
        }
    }
}

impl Store for Hanging {
    fn load(&self) -> Result<Option<Saved>, StoreError> {
        self.answer();
        self.kept.load()
    }

    fn save(&self, saved: &Saved) -> Result<(), StoreError> {
        self.answer();
        self.kept.save(saved)
    }
}

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

/// History is copied, and the flags are on such a disk.
async fn on_a_disk_that_may_hang() -> (Market, Hanging, Flags, Wiring) {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    market.fill(4).await;
    let migration = market.installed().await;
    backfill(&migration).await;
    let disk = Hanging::default();
    let flags = Flags::open(Market::entity(), disk.clone()).unwrap();
    let wiring = Wiring::new(migration, flags.clone()).await.unwrap();
    (market, disk, flags, wiring)
}

/// The databases answer and the disk of the flags does not, with something unsaved: what is learnt is in
/// force, and the only thread of the runtime goes on.
#[tokio::test]
async fn a_stage_is_learnt_while_the_disk_of_the_flags_hangs() {
    let (_market, disk, flags, wiring) = on_a_disk_that_may_hang().await;
    let kept = || disk.kept().learnt.map(|kept| (kept.stage, kept.ready));
    let at_start = Some((Stage::DualWrite, false));
    assert_eq!(kept(), at_start, "what is learnt at the start is stored");

    disk.hang(true);
    let hung = Instant::now();
    flags.kill_now("slow");
    let watched = wiring.clone();
    let watching = tokio::spawn(async move { watched.watch(EVERY).await });
    tokio::time::sleep(5 * EVERY).await;
    wiring.verify(VerifyOptions::default()).await.unwrap();
    assert!(flags.load().ready, "verified");
    wiring.migration().stop_copying().await.unwrap();
    let stage = || flags.load().stage;
    until("a watch has learnt", || stage() == Stage::Legacy).await;
    watching.abort();
    wiring.migration().start_copying().await.unwrap();
    let learning = tokio::time::timeout(Duration::from_secs(1), wiring.learn()).await;
    assert!(learning.is_err(), "it says when it is stored");
    assert_eq!(stage(), Stage::DualWrite, "and it has learnt");
    assert!(hung.elapsed() < Hanging::LIMIT / 2, "a thread has waited");
    assert_eq!((kept(), disk.kept().kill), (at_start, None));

    disk.hang(false);
    wiring.learn().await.unwrap();
    until("all of it is stored", || disk.kept() == flags.saved()).await;
    assert!(disk.kept().kill.is_some());
}

/// What is learnt behind a verify need not wait until the file is looked at again.
#[tokio::test]
async fn what_is_learnt_is_stored_by_whoever_watches() {
    let (_market, disk, _flags, wiring) = on_a_disk_that_may_hang().await;
    let learning = async {
        // The watch has looked once, and rests.
        tokio::time::sleep(Duration::from_millis(200)).await;
        wiring.verify(VerifyOptions::default()).await.unwrap();
        let ready = || disk.kept().learnt.is_some_and(|kept| kept.ready);
        until("the evidence is stored", ready).await;
    };
    tokio::select! {
        () = wiring.watch(Duration::from_secs(3_600)) => unreachable!("it ends with its caller"),
        () = learning => {}
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
    std::fs::write(
        &file,
        text.replace("kill = false", "kill = \"new is slow\""),
    )
    .unwrap();
    // The databases answer nobody meanwhile: it does not wait for them.
    until("the kill is in force", || flags.load().kill).await;
    watching.abort();
    let _ = watching.await;
    tokio::task::block_in_place(|| server.thaw());
}
