//! What holds the worker back, and what it says meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use changeover::flags::{FileStore, Flags, Place};
use changeover::wiring::{RunOptions, Wiring, read_latency_ms};
use changeover::worker::backfill::BackfillOptions;
use changeover::worker::dialect::load::{Load, LoadQuery};
use changeover::worker::dialect::session::Database;
use changeover::worker::pace::{Limit, Pacing, RowsPerSecond, Signal, Signals};
use serde_json::Value as Json;
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::command::{Desk, ended};
use super::process::{Said, interrupt, until_said};
use super::until;
use crate::protocol::market::{Market, Plain, Topology};
use crate::support::postgres::{Postgres, fresh_one, shared};
use crate::support::tcp_proxy::{Fault, FaultProxy};

const SECOND: Duration = Duration::from_secs(1);

fn limit(most: f64) -> Limit {
    Limit {
        most,
        older_than: SECOND,
    }
}

/// Pages of ten, a hundred keys per second.
fn slow() -> BackfillOptions {
    BackfillOptions {
        page: 10,
        load_page: Some(10),
        pacing: Pacing {
            rows_per_second: RowsPerSecond::new(100),
            ..Pacing::default()
        },
        ..BackfillOptions::default()
    }
}

/// A market with a table `pressure`, and a desk whose work stops while its number is above 10.
async fn loaded(topology: Topology) -> (Market, Desk) {
    let market = Market::start(topology).await;
    market.fill(200).await;
    let load = "CREATE TABLE pressure (n integer); INSERT INTO pressure VALUES (0)";
    market.legacy.run(load).await;
    let desk = Desk::with(&format!(
        "legacy.url = '{}'\nnew.url = '{}'\n[[pace.signal]]\nname = 'load'\n\
         sql = 'SELECT n FROM pressure -- now'\nmost = 10\nevery_ms = 20\nolder_than_seconds = 5\n\
         holds = ['backfill', 'verify', 'drain']\n\
         [entity.listings]\nmapping = 'listings.toml'\nbackfill.page = 10\nbackfill.load_page = 10\n",
        market.legacy_url, market.new_url
    ));
    (market, desk)
}

/// Waits until some pages have passed, and, once it is high, until it is said that none does any more;
/// answers how many keys have.
async fn stopped_by_load(market: &Market, desk: &Desk, said: &mut Said) -> u64 {
    let passed = || async { desk.status().await["backfill_passed"].as_u64().unwrap() };
    while passed().await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    market.legacy.run("UPDATE pressure SET n = 11").await;
    said.until("backfill held back: signal load is 11, above its limit 10")
        .await;
    let at = passed().await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(passed().await, at, "it goes on all the same");
    at
}

/// A number from somewhere is read; above its limit the sweep stops and says so, killed meanwhile it
/// resumes, and it goes on by itself.
async fn a_query_stops_a_backfill_until_it_is_well_again(topology: Topology) {
    let (market, desk) = loaded(topology).await;
    desk.run("install").await.with(0);
    let mut child = desk.begin("backfill --rate 10");
    let mut said = Said::of(&mut child);
    let passed = stopped_by_load(&market, &desk, &mut said).await;
    assert!((1..150).contains(&passed), "{passed}");
    let status = desk.run("status --json").await.with(0).json();
    let signal = &status["signals"][0];
    assert_eq!(signal["name"], "load");
    assert_eq!(signal["holds"], "is 11, above its limit 10");
    child.kill().await.unwrap();

    // Held from its first page on, and passed no key.
    let held = "backfill held back: signal load is 11, above its limit 10";
    let mut child = desk.begin("backfill --json");
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    until_said(&mut said, |line| line.contains(held)).await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(desk.status().await["backfill_passed"], passed);
    market.legacy.run("UPDATE pressure SET n = 10").await;
    tokio::time::sleep(SECOND / 2).await;
    market.legacy.run("UPDATE pressure SET n = 9").await;
    let swept = ended(child).await.with(0);
    let json: Json = swept.json();
    assert_eq!(json["passed"], 200);
    let seconds = json["held_back_seconds"]["load"].as_f64().unwrap();
    assert!(seconds > 0.5, "{json}");
    market.assert_equal().await;
    let status = desk.run("status").await.with(0);
    assert!(
        status.out.contains("signal load is 9, of 10 at most"),
        "{status:?}"
    );
    market.legacy.run("UPDATE pressure SET n = 11").await;
    verifies_and_drains_stop_too(&market, &desk).await;
}

/// So do these, and say so; what is under way goes on by itself.
async fn verifies_and_drains_stop_too(market: &Market, desk: &Desk) {
    let why = "held back: signal load is 11, above its limit 10";
    let write = "UPDATE listings SET stock = stock + 1 WHERE id <= 3";
    market.legacy.run(write).await;
    let drained = desk.run("drain --within 4").await.with(1);
    let said = format!("3 keys are still dirty: {why}");
    assert!(drained.err.contains(&said), "{drained:?}");
    let mut follow = desk.begin("drain --follow");
    let mut said_by_it = BufReader::new(follow.stderr.take().unwrap()).lines();
    let mut verify = desk.begin("verify --json");
    let mut said = BufReader::new(verify.stderr.take().unwrap()).lines();
    let verify_why = format!("verify {why}");
    until_said(&mut said, |line| line.contains(&verify_why)).await;
    until_said(&mut said_by_it, |line| line.contains(why)).await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(market.dirty().await.len(), 3);
    market.legacy.run("UPDATE pressure SET n = 1").await;
    let verified = ended(verify).await.with(0);
    assert_eq!(verified.json()["clean"], true);
    let begun = Instant::now();
    while !market.dirty().await.is_empty() {
        assert!(begun.elapsed() < SECOND * 60, "the drain does not go on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // It says so when its pass has ended, which is later than its last mark.
    until_said(&mut said_by_it, |line| line.contains("listings: goes on")).await;
    interrupt("INT", &follow).await;
    ended(follow).await.with(0);
    // 200 keys, of which the first page has a second's.
    let began = Instant::now();
    desk.run("verify --rate 50").await.with(0);
    assert!(began.elapsed() > SECOND * 2, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_stops_a_backfill_until_it_is_well_again_on_postgres() {
    a_query_stops_a_backfill_until_it_is_well_again(Topology::PostgresTwoDatabases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_stops_a_backfill_until_it_is_well_again_on_sqlite() {
    a_query_stops_a_backfill_until_it_is_well_again(Topology::SqliteTwoFiles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_stops_a_backfill_until_it_is_well_again_on_mariadb() {
    a_query_stops_a_backfill_until_it_is_well_again(Topology::MariadbToSqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_whose_connection_freezes_stops_a_backfill_and_comes_back() {
    let market = Market::start(Topology::PostgresTwoDatabases).await;
    market.fill(600).await;
    let migration = market.installed().await;
    let proxy = FaultProxy::to(shared().port()).await;
    let away = Database::open(&proxy.through(&market.legacy_url)).unwrap();
    let query = LoadQuery::new(&away, "SELECT 1;", SECOND);
    let every = Duration::from_millis(20);
    let signals = Signals::default().watch("far", query, limit(2.0), every);
    let backfill = migration.backfill(slow()).with_signals(signals);
    let control = backfill.control();
    let (passed, said) = (Arc::new(AtomicU64::new(0)), Arc::default());
    let run = {
        let (passed, said) = (Arc::clone(&passed), Arc::clone(&said));
        tokio::spawn(async move {
            let report = |progress: changeover::worker::backfill::Progress| {
                passed.store(progress.passed, Ordering::SeqCst);
                let said: &std::sync::Mutex<Vec<String>> = &said;
                let reason = progress.held_back_by.map(|reason| reason.to_string());
                said.lock().unwrap().extend(reason);
            };
            backfill.run(report).await.unwrap()
        })
    };
    until("pages pass", || passed.load(Ordering::SeqCst) > 0).await;
    proxy.set(Fault::Hold);
    said.lock().unwrap().clear();
    let stale = || {
        let reason = control.held_back_by().map(|reason| reason.to_string());
        reason.is_some_and(|reason| {
            reason.contains("far was last read") && reason.contains("no answer")
        })
    };
    until("the silence is noticed", stale).await;
    // It is told at a page's turn: none is under way.
    until("it is told", || {
        let said = said.lock().unwrap();
        (said.last()).is_some_and(|last: &String| last.contains("far was last read"))
    })
    .await;
    let at = passed.load(Ordering::SeqCst);
    assert!(at < 600, "it was stopped on its way: {at}");
    tokio::time::sleep(SECOND * 2).await;
    assert_eq!(passed.load(Ordering::SeqCst), at);
    proxy.set(Fault::None);
    assert_eq!(run.await.unwrap().passed, 600);
    market.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_the_kill_switch_nor_the_end_waits_behind_a_hold() {
    let folder = tempfile::tempdir().unwrap();
    let market = Market::start(Topology::PostgresTwoDatabases).await;
    market.fill(50).await;
    let entity = Market::entity();
    let flags = Flags::open(entity.clone(), FileStore::new(folder.path(), &entity)).unwrap();
    let migration = market.installed().await;
    let wiring = Wiring::new(migration, flags.clone()).await.unwrap();
    // A signal that never answers, on a connection that never answers.
    let proxy = FaultProxy::to(shared().port()).await;
    proxy.set(Fault::Blackhole);
    let away = Database::open(&proxy.through(&market.legacy_url)).unwrap();
    let query = LoadQuery::new(&away, "SELECT 1", SECOND * 600);
    let patient = Limit {
        most: 1.0,
        older_than: SECOND * 600,
    };
    let options = RunOptions {
        signals: Signals::default().watch("far", query, patient, SECOND),
        ..RunOptions::default()
    };
    let running = wiring.run(options);
    let held = || {
        let reason = wiring
            .backfill()
            .and_then(|backfill| backfill.held_back_by());
        reason.is_some_and(|reason| reason.to_string() == "signal far has not answered yet")
    };
    until("it is held", held).await;
    // Writes are copied all the same.
    market
        .legacy
        .run("UPDATE listings SET title = 'now' WHERE id = 7")
        .await;
    let copied = "SELECT CAST(count(*) AS text) FROM service_listings WHERE title = 'now'";
    let begun = Instant::now();
    while market.new.text(copied).await != "1" {
        assert!(begun.elapsed() < SECOND * 10, "the drain does not wait");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let begun = Instant::now();
    flags.kill("a test").unwrap();
    assert!(wiring.flags().killed().is_some());
    running.stop().await;
    assert!(begun.elapsed() < SECOND * 5, "{:?}", begun.elapsed());
    assert!(wiring.backfill().is_none());
}

pub(super) async fn reads(database: &Database, load: Load) -> Result<f64, String> {
    let query = LoadQuery::built_in(database, load, SECOND * 5).unwrap();
    query.read().await.map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_built_in_reads_what_postgres_knows() {
    // Its own: the shared one keeps no log for replicas.
    let server = Postgres::start();
    let url = server.url("postgres");
    for setting in ["wal_level = 'replica'", "max_wal_senders = 2"] {
        let setting = format!("ALTER SYSTEM SET {setting}");
        Plain::open(&url).await.run(&setting).await;
    }
    server.restart();
    let (database, plain) = (Database::open(&url).unwrap(), Plain::open(&url).await);
    assert_eq!(reads(&database, Load::ActiveSessions).await, Ok(0.0));
    let busy = plain.clone();
    let sleeper = tokio::spawn(async move { busy.try_run("SELECT pg_sleep(60)").await });
    let begun = Instant::now();
    while reads(&database, Load::ActiveSessions).await != Ok(1.0) {
        assert!(begun.elapsed() < SECOND * 10);
    }
    sleeper.abort();
    assert!(reads(&database, Load::WalBytes).await.unwrap() >= 16_777_216.0);
    let slot = format!("pace_{}", std::process::id());
    plain
        .run(&format!(
            "SELECT pg_create_physical_replication_slot('{slot}', true)"
        ))
        .await;
    let before = reads(&database, Load::SlotBytes).await.unwrap();
    plain
        .run("CREATE TABLE log AS SELECT n, repeat('x', 500) AS x FROM generate_series(1, 2000) n")
        .await;
    let after = reads(&database, Load::SlotBytes).await.unwrap();
    plain
        .run(&format!("SELECT pg_drop_replication_slot('{slot}')"))
        .await;
    assert!(after >= before + 1_000_000.0, "{before} {after}");
    for load in [Load::ReplicaLagBytes, Load::ReplicaLagSeconds] {
        let none = reads(&database, load).await;
        assert_eq!(
            none,
            Err("it answered no number".to_owned()),
            "no replica is no answer"
        );
    }
    // Whoever may not see what others do is not told that they do nothing.
    plain.run("CREATE ROLE pace_blind LOGIN").await;
    let blind = url.replacen("postgres://postgres", "postgres://pace_blind", 1);
    assert_ne!(blind, url);
    let blind = Database::open(&blind).unwrap();
    let seen = reads(&blind, Load::ActiveSessions).await;
    assert_eq!(seen, Err("it answered no number".to_owned()));
    assert!(
        reads(&blind, Load::WalBytes)
            .await
            .unwrap_err()
            .contains("42501")
    );
    plain.run("DROP ROLE pace_blind").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_takes_too_long_is_ended_on_the_server_and_one_of_no_number_is_none() {
    let url = fresh_one().await;
    let (database, plain) = (Database::open(&url).unwrap(), Plain::open(&url).await);
    let long = LoadQuery::new(&database, "SELECT 1 FROM pg_sleep(60)", SECOND * 5);
    let reading = tokio::spawn(async move { long.read().await.is_ok() });
    let left = "SELECT CAST(count(*) AS text) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' \
                AND datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()";
    let begun = Instant::now();
    for so_many in ["1", "0"] {
        while plain.text(left).await != so_many {
            assert!(begun.elapsed() < SECOND * 30, "never {so_many} over there");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Whoever asked waits no longer: it goes on over there, for a while.
        reading.abort();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let sqlite = Database::open(&format!("sqlite:{}", file.path().display())).unwrap();
    for database in [&database, &sqlite] {
        let read = async |sql| LoadQuery::new(database, sql, SECOND).read().await.ok();
        assert_eq!(read("SELECT 3.5").await, Some(3.5));
        assert_eq!(
            read("SELECT count(*) FROM (SELECT 1 AS n) AS one;\n").await,
            Some(1.0)
        );
        for none in [
            "SELECT 'many'",
            "SELECT NULL",
            "SELECT 1 WHERE 1 = 0",
            "SELECT 1, 2",
            "SELEC",
        ] {
            assert_eq!(read(none).await, None, "{none}");
        }
    }
}

/// In a file it is this process that would go on with it. Whoever reads a file locks out who wants it alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_takes_too_long_is_ended_in_a_file_as_well() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let url = format!("sqlite:{}", file.path().display());
    let options: SqliteConnectOptions = url.parse().unwrap();
    let mut other = options
        .busy_timeout(Duration::ZERO)
        .connect()
        .await
        .unwrap();
    let mut other = async |sql: &'static str| sqlx::raw_sql(sql).execute(&mut other).await;
    other("CREATE TABLE held (n integer)").await.unwrap();
    let alone = "BEGIN EXCLUSIVE; COMMIT";
    other(alone).await.unwrap();
    let database = Database::open(&url).unwrap();
    let endless = "WITH RECURSIVE n(i) AS (SELECT count(*) FROM held UNION ALL SELECT i + 1 FROM n) \
                   SELECT max(i) FROM n";
    let long = LoadQuery::new(&database, endless, SECOND * 5);
    let reading = tokio::spawn(async move { long.read().await.is_ok() });
    let begun = Instant::now();
    for reads in [true, false] {
        while other(alone).await.is_err() != reads {
            assert!(begun.elapsed() < SECOND * 30, "it reads: never {reads}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Whoever asked waits no longer: it goes on, for a while.
        reading.abort();
    }
    let why = LoadQuery::new(&database, endless, SECOND / 5).read().await;
    let why = why.unwrap_err().to_string();
    assert!(why.contains("interrupted"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_latency_of_reads_is_that_of_the_last_ones() {
    let folder = tempfile::tempdir().unwrap();
    let (_market, instance) = super::ramped(folder.path()).await;
    let latency = read_latency_ms(instance.handle.clone(), Place::New);
    assert_eq!(latency.read().await.unwrap(), 0.0, "none since it was made");
    for id in 1..=16 {
        instance.title(id).await;
    }
    let read = latency.read().await.unwrap();
    assert!(read > 0.0 && read < 10_000.0, "{read}");
    assert_eq!(latency.read().await.unwrap(), 0.0, "none since");
    let legacy = read_latency_ms(instance.handle.clone(), Place::Legacy);
    assert_eq!(legacy.read().await.unwrap(), 0.0);
}
