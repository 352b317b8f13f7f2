//! `Wiring::install` and `Wiring::run`: the worker inside an application.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use changeover::flags::{Percent, Stage};
use changeover::wiring::{InstallError, RunOptions, Wiring};
use changeover::worker::drain::DrainOptions;

use crate::protocol::market::{MAPPING, Market, Topology};

/// Real servers answer when they do: the clock of these tests is the real one.
async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done().await {
        assert!(Instant::now() < deadline, "waited 60 seconds until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn ready(wiring: &Wiring) {
    let waited = tokio::time::timeout(Duration::from_secs(60), wiring.until_ready()).await;
    waited.expect("waited 60 seconds until the new side is ready");
    assert!(wiring.flags().load().ready);
}

async fn install(market: &Market, mapping: &str, flags: &Path) -> Result<Wiring, InstallError> {
    Wiring::install(
        "listings",
        mapping,
        &market.legacy_url,
        &market.new_url,
        flags,
    )
    .await
}

fn quick() -> RunOptions {
    let watch_every = Duration::from_millis(20);
    RunOptions {
        watch_every,
        retry_after: watch_every,
        ..RunOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worker_brings_history_and_what_is_written_meanwhile_on_sqlite() {
    the_worker_brings_everything(Topology::SqliteTwoFiles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worker_brings_history_and_what_is_written_meanwhile_on_postgres() {
    the_worker_brings_everything(Topology::PostgresTwoDatabases).await;
}

async fn the_worker_brings_everything(topology: Topology) {
    let market = Market::start(topology).await;
    market.fill(120).await;
    let flags = tempfile::tempdir().unwrap();
    let wiring = install(&market, MAPPING, flags.path()).await.unwrap();
    assert_eq!(wiring.flags().load().serving().unwrap(), Stage::DualWrite);
    assert!(
        wiring.flags().set_read_new(Percent::HUNDRED).is_err(),
        "nothing is proved yet"
    );

    let running = wiring.run(quick());
    market
        .legacy
        .run("UPDATE listings SET title = 'while it runs' WHERE id % 3 = 0")
        .await;
    ready(&wiring).await;
    until("nothing is dirty", async || market.dirty().await.is_empty()).await;
    market.assert_equal().await;
    wiring.flags().set_read_new(Percent::HUNDRED).unwrap();

    // Somebody edits the file.
    let file = flags.path().join("listings.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("kill = false", "kill = true")).unwrap();
    until("the kill switch is taken up", async || {
        wiring.flags().load().kill
    })
    .await;

    running.stop().await;
    market
        .legacy
        .run("UPDATE listings SET title = 'nobody copies this' WHERE id = 1")
        .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(
        market.dirty().await.len(),
        1,
        "a worker that was stopped goes on"
    );

    // The next start finds it.
    let running = install(&market, MAPPING, flags.path())
        .await
        .unwrap()
        .run(quick());
    until("nothing is dirty", async || market.dirty().await.is_empty()).await;
    market.assert_equal().await;
    drop(running);
}

/// What was proved once does not stay proved: the worker looks again, and takes reads home.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_difference_that_comes_later_takes_the_readiness_away() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    market.fill(20).await;
    let flags = tempfile::tempdir().unwrap();
    let wiring = install(&market, MAPPING, flags.path()).await.unwrap();
    let running = wiring.run(RunOptions {
        verify_every: Duration::from_millis(20),
        ..quick()
    });
    ready(&wiring).await;
    wiring.flags().set_read_new(Percent::HUNDRED).unwrap();
    market
        .new
        .run(
            "BEGIN IMMEDIATE; INSERT INTO changeover_copying VALUES ('x'); \
             UPDATE service_listings SET title = 'forged' WHERE legacy_id = 3; \
             DELETE FROM changeover_copying; COMMIT",
        )
        .await;
    until("the difference is found", async || {
        !wiring.flags().load().ready
    })
    .await;
    let keys = ["3".into()];
    wiring.migration().repair(false).run(&keys).await.unwrap();
    ready(&wiring).await;
    market.assert_equal().await;
    running.stop().await;
}

#[tokio::test]
async fn a_start_does_not_undo_what_somebody_decided() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    let flags = tempfile::tempdir().unwrap();
    let wiring = install(&market, MAPPING, flags.path()).await.unwrap();
    wiring.migration().stop_copying().await.unwrap();
    let wiring = install(&market, MAPPING, flags.path()).await.unwrap();
    assert_eq!(
        wiring.migration().epoch().await.unwrap().stage(),
        Stage::Legacy
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_may_start_at_the_same_time() {
    // Rounds are cheap on SQLite, and not every round has two instances at the same point.
    let postgres = [
        Topology::PostgresTwoDatabases,
        Topology::PostgresOneDatabase,
    ];
    for topology in std::iter::repeat_n(Topology::SqliteTwoFiles, 12).chain(postgres) {
        let market = Market::start(topology).await;
        let starts = (0..6).map(|_| async {
            let flags = tempfile::tempdir().unwrap();
            let wiring = install(&market, MAPPING, flags.path()).await.unwrap();
            wiring.flags().load().serving().unwrap()
        });
        let stages = futures_util::future::join_all(starts).await;
        assert_eq!(stages, [Stage::DualWrite; 6], "{topology:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_installed_names_its_step_and_writes_nothing() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    let flags = tempfile::tempdir().unwrap();
    let said = |error: InstallError| match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let typo = MAPPING.replace("owned_by", "owned_bye");
    let wrong = MAPPING.replace("table = \"pictures\"", "table = \"paintings\"");
    let nowhere = flags.path().join("nowhere").join("deeper");
    for (mapping, flags, step, detail) in [
        (
            typo.as_str(),
            flags.path(),
            "reading the mapping",
            "owned_bye",
        ),
        (&wrong, flags.path(), "checking the mapping", "paintings"),
        (MAPPING, &nowhere, "restoring the flags", "nowhere"),
    ] {
        let error = said(install(&market, mapping, flags).await.unwrap_err());
        assert!(error.starts_with(step) && error.contains(detail), "{error}");
    }
    let objects = market
        .legacy
        .texts("SELECT name FROM sqlite_schema WHERE name LIKE '%changeover%'");
    assert_eq!(objects.await, Vec::<String>::new());
}

/// A mistyped folder must not pass for a first start: a kill may stand in the right one.
#[tokio::test]
async fn the_folder_of_the_flags_is_created_by_the_first_start_alone() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    let folder = tempfile::tempdir().unwrap();
    let (state, typo) = (folder.path().join("state"), folder.path().join("sate"));
    let wiring = install(&market, MAPPING, &state).await.unwrap();
    wiring.flags().kill("it stands in state").unwrap();
    let error = install(&market, MAPPING, &typo).await.unwrap_err();
    assert!(format!("{error:?}").contains("create it"), "{error:?}");
    assert!(!typo.exists());
    let wiring = install(&market, MAPPING, &state).await.unwrap();
    assert!(wiring.flags().load().kill);
}

/// Somebody stops the copying: the worker that runs lets go at once, one that starts does not
/// begin, and both go on when it is started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_does_not_copy_in_a_stage_that_does_not() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    market.fill(4).await;
    let flags = tempfile::tempdir().unwrap();
    let wiring = install(&market, MAPPING, flags.path()).await.unwrap();
    let at_once = || RunOptions {
        drain: DrainOptions {
            idle_pause: Duration::from_millis(1),
            ..DrainOptions::default()
        },
        ..quick()
    };
    let stage = |wiring: &Wiring| wiring.flags().load().serving().unwrap();
    let running = wiring.run(at_once());
    ready(&wiring).await;
    wiring.migration().stop_copying().await.unwrap();
    until("the worker knows", async || stage(&wiring) == Stage::Legacy).await;
    let write = async |title: &str| {
        let sql = format!("UPDATE listings SET title = '{title}' WHERE id = 1");
        market.legacy.run(&sql).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    write("not to be copied").await;
    // A pass that was under way may have copied it, and has ended.
    if market.dirty().await.is_empty() {
        write("nor this").await;
    }
    let undisturbed = async || {
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(market.dirty().await.len(), 1, "copied in stage legacy");
    };
    undisturbed().await;
    running.stop().await;

    let wiring = install(&market, MAPPING, flags.path()).await.unwrap();
    assert_eq!(stage(&wiring), Stage::Legacy);
    let running = wiring.run(at_once());
    undisturbed().await;
    wiring.migration().start_copying().await.unwrap();
    until("nothing is dirty", async || market.dirty().await.is_empty()).await;
    market.assert_equal().await;
    running.stop().await;
}
