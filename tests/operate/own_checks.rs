//! Consistency checks of one's own, beside the others: by command, and in the application's worker.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use changeover::flags::{FileStore, Flags, Place};
use changeover::wiring::{RunOptions, Wiring};
use changeover::worker::check::{CheckOptions, Outcome, OwnCheck};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

use super::command::{Desk, ended};
use super::process::interrupt;
use super::until;
use crate::protocol::market::{Engine, Market, Topology, verify};

/// Checks of one's own: what they do wrong in many ways, and two that do not.
async fn own_checks(market: &Market) -> String {
    let smuggled = "CREATE TABLE smuggled (n int); INSERT INTO smuggled VALUES (0)";
    market.new.run(smuggled).await;
    let smuggle = match market.new.engine() {
        Engine::Postgres => {
            "CREATE FUNCTION smuggle() RETURNS int LANGUAGE sql AS 'INSERT INTO smuggled VALUES (1) RETURNING n'"
        }
        Engine::Mariadb => {
            "CREATE FUNCTION smuggle() RETURNS int BEGIN INSERT INTO smuggled VALUES (1); RETURN 1; END"
        }
        Engine::Sqlite => "",
    };
    market.new.run(smuggle).await;
    let (hangs, writes, two) = match market.new.engine() {
        Engine::Mariadb => (
            "SELECT count(*) FROM seq_1_to_100000 a, seq_1_to_100000 b, seq_1_to_100000 c WHERE a.seq + b.seq = -c.seq",
            "SELECT smuggle()",
            "SELECT 1) AS a; DELETE FROM smuggled; SELECT * FROM (SELECT 1",
        ),
        Engine::Postgres => (
            "SELECT pg_sleep(60)",
            "SELECT smuggle()",
            "SELECT 1) AS a(b); DELETE FROM smuggled; SELECT * FROM (SELECT 1",
        ),
        Engine::Sqlite => (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
            "SELECT 1); INSERT INTO smuggled VALUES (1); SELECT * FROM (SELECT 1",
            "SELECT 1); DELETE FROM smuggled; SELECT * FROM (SELECT 1",
        ),
    };
    let own = |name: &str, sql: &str| {
        format!("[[entity.listings.check]]\nname = '{name}'\nplace = 'new'\nsql = '''{sql}'''\n")
    };
    let finds = "SELECT 'no ' || legacy_id, title FROM service_listings WHERE legacy_id < 4 ORDER BY legacy_id";
    [
        own("hangs", hangs),
        own("writes", writes),
        own("two", two),
        own("bad", "SELECT nothing FROM service_listings"),
        own(
            "quoted",
            "SELECT 1 FROM service_listings WHERE \"nothing\" = 'x'",
        ),
        own("delete", "DELETE FROM smuggled"),
        own(
            "clean",
            "SELECT id -- it's the new one\nFROM service_listings WHERE status = 'x'; ",
        ),
        own("finds", finds),
        own(
            "rows",
            "SELECT 1 FROM service_listings WHERE 1 = 2 -- never",
        ),
    ]
    .concat()
}

async fn no_check_hides_another(topology: Topology) {
    let market = Market::start(topology).await;
    market.fill(20).await;
    let desk = Desk::of(&market);
    desk.run("install").await.with(0);
    desk.run("backfill").await.with(0);
    let config = std::fs::read_to_string(desk.path("changeover.toml")).unwrap();
    let plain = format!("{config}checks.timeout_seconds = 2\nchecks.samples = 2\n");
    let config = format!("{plain}{}", own_checks(&market).await);
    std::fs::write(desk.path("changeover.toml"), config).unwrap();
    let began = Instant::now();
    let ended = desk.run("check --json").await.with(1);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    let report = ended.json();
    let named = |name: &str| {
        let all = report["checks"].as_array().unwrap();
        let one = all.iter().find(|one| one["check"] == name);
        one.unwrap_or_else(|| panic!("{name}: {report}"))
    };
    let failed = |name: &str, why: &str| {
        let one = named(name);
        let reason = one["reason"].as_str().unwrap_or_default();
        assert!(
            one["outcome"] == "failed" && reason.contains(why),
            "{name}: {one}"
        );
    };
    failed("hangs", "did not end within 2s");
    // The database ends it, and nobody waits for more.
    assert!(
        named("hangs")["seconds"].as_f64() < Some(7.0),
        "{}",
        named("hangs")
    );
    failed("writes", "may only read");
    match topology.new_engine() {
        Engine::Postgres => failed("two", "multiple commands"),
        Engine::Sqlite => failed("two", "may only read"),
        Engine::Mariadb => failed("two", "1064"),
    }
    failed("bad", "nothing");
    failed("quoted", "nothing");
    match topology.new_engine() {
        Engine::Mariadb => failed("delete", "1064"),
        _ => failed("delete", "syntax error"),
    }
    let smuggled = "SELECT CAST(sum(n) + count(*) AS text) FROM smuggled";
    assert_eq!(market.new.text(smuggled).await, "1");
    for name in ["clean", "rows", "rows (2)", "sequence:pictures.id"] {
        assert_eq!(named(name)["outcome"], "clean", "{name}: {report}");
    }
    let found = named("finds");
    assert_eq!(
        (&found["rows"], &found["more"]),
        (&3.into(), &false.into()),
        "{found}"
    );
    assert_eq!(found["samples"], serde_json::json!(["no 1", "no 2"]));
    let shown = ended.out.contains("Título");
    assert!(!shown, "only the first column is shown");
    assert_eq!(
        (&report["found"], &report["failed"]),
        (&1.into(), &6.into())
    );

    let one = desk.run("check --only bad").await.with(3);
    assert!(
        one.out.contains("bad: FAILED") && !one.out.contains("finds"),
        "{one:?}"
    );
    let kind = desk.run("check --only orphan --json").await.with(0).json();
    assert_eq!(kind["checks"].as_array().unwrap().len(), 4, "{kind}");
    let unknown = desk.run("check --only orphans").await.with(2);
    assert!(
        unknown.err.contains("orphan:variants.listing_id"),
        "{unknown:?}"
    );
    std::fs::write(desk.path("changeover.toml"), plain).unwrap();
    desk.run("check").await.with(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_check_hides_another_on_sqlite() {
    no_check_hides_another(Topology::SqliteTwoFiles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_check_hides_another_on_postgres() {
    no_check_hides_another(Topology::PostgresTwoDatabases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_check_hides_another_on_mariadb() {
    no_check_hides_another(Topology::MariadbTwoDatabases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_check_hides_another_to_mariadb() {
    no_check_hides_another(Topology::SqliteToMariadb).await;
}

/// By command: a line for each check, again after its time, until Ctrl-C, whatever it finds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_follow_by_command() {
    let market = Market::start(Topology::SqliteToMariadb).await;
    market.fill(20).await;
    let desk = Desk::of(&market);
    desk.run("install").await.with(0);
    desk.run("backfill").await.with(0);
    let config = std::fs::read_to_string(desk.path("changeover.toml")).unwrap();
    let own = "checks.every_seconds = 3600\n[[entity.listings.check]]\nname = 'dear'\nplace = 'new'\n\
        every_seconds = 1\nsql = 'SELECT listing_id FROM variants WHERE price > 19'\n";
    std::fs::write(desk.path("changeover.toml"), config + own).unwrap();
    let mut follow = desk.begin("check --follow --json");
    let out = follow.stdout.take().unwrap();
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(out));
    let mut next = async || {
        let line = tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await;
        let line = line.expect("it says nothing").unwrap().unwrap();
        let said: serde_json::Value = serde_json::from_str(&line).unwrap();
        (said["check"].as_str().unwrap().to_owned(), said)
    };
    let mut seen = BTreeMap::new();
    while seen.len() < 9 {
        let (name, said) = next().await;
        seen.insert(name, said);
    }
    assert_eq!(seen["dear"]["outcome"], "found", "{seen:?}");
    assert_eq!(seen["dear"]["rows"], 2, "{seen:?}");
    let (dear, rest): (Vec<_>, Vec<_>) = seen.iter().partition(|(name, _)| *name == "dear");
    assert!(
        rest.iter().all(|(_, said)| said["outcome"] == "clean"),
        "{rest:?}"
    );
    assert_eq!(dear.len(), 1);
    // The others are hourly.
    market
        .legacy
        .run("UPDATE listings SET price = 1 WHERE id = 20")
        .await;
    desk.run("drain --within 30").await.with(0);
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let (name, said) = next().await;
        assert_eq!(name, "dear");
        if said["rows"] == 1 {
            break;
        }
        assert!(Instant::now() < until, "{said}");
    }
    interrupt("INT", &follow).await;
    let ended = ended(follow).await.with(0);
    assert_eq!(ended.err, "");
}

/// What the series of checks say, by name and check. Looking takes every one of them back to 0.
fn series(recorder: &Snapshotter) -> BTreeMap<(String, String), f64> {
    let all = recorder.snapshot().into_vec().into_iter();
    let of_checks = all.filter_map(|(key, _, _, value)| {
        let mut labels = key.key().labels();
        let check = labels.find(|label| label.key() == "check")?;
        let value = match value {
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Counter(value) => value as f64,
            DebugValue::Histogram(_) => return None,
        };
        let name = key.key().name().to_owned();
        Some(((name, check.value().to_owned()), value))
    });
    of_checks.collect()
}

#[tokio::test]
async fn the_worker_checks_from_time_to_time_and_counts_what_it_finds() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    market.fill(10).await;
    let migration = market.installed().await;
    let folder = tempfile::tempdir().unwrap();
    let entity = Market::entity();
    let flags = Flags::open(entity.clone(), FileStore::new(folder.path(), &entity)).unwrap();
    let wiring = Wiring::new(migration.clone(), flags).await.unwrap();
    let recorder = DebuggingRecorder::new();
    let seen = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let check = |name: &str, sql: &str| OwnCheck {
        name: name.into(),
        place: Place::Legacy,
        sql: sql.into(),
        every: Duration::from_secs(1),
    };
    let running = wiring.run(RunOptions {
        watch_every: Duration::from_millis(20),
        checks: Some(CheckOptions {
            every: Duration::from_secs(365 * 24 * 3_600),
            ..CheckOptions::default()
        }),
        own_checks: vec![
            check("dear", "SELECT id FROM listings WHERE price > 9"),
            check("broken", "SELECT"),
        ],
        ..RunOptions::default()
    });
    until("both were run", || {
        let last = wiring.last_checks();
        last.contains_key("dear") && last.contains_key("broken")
    })
    .await;
    let counted = series(&seen);
    let of = |name: &str, check: &str| counted[&(name.to_owned(), check.to_owned())];
    assert_eq!(of("changeover_check_rows", "dear"), 2.0);
    assert_eq!(of("changeover_check_failures_total", "dear"), 0.0);
    assert!(of("changeover_check_failures_total", "broken") > 0.0);
    assert_eq!(of("changeover_check_rows", "rows"), 0.0, "it has a series");
    let last = wiring.last_checks();
    assert!(!last.contains_key("rows"), "but it is yearly");
    assert!(matches!(
        last["broken"].checked.outcome,
        Outcome::Failed { .. }
    ));
    assert!(verify(&migration).await.clean(), "it had become ready");
    let cheaper = "UPDATE listings SET price = 1 WHERE id = 10";
    market.legacy.run(cheaper).await;
    until("it is asked again", || {
        let last = wiring.last_checks();
        matches!(last["dear"].checked.outcome, Outcome::Found { rows: 1, .. })
    })
    .await;
    let (rows, dear) = ("changeover_check_rows".to_owned(), "dear".to_owned());
    assert_eq!(series(&seen)[&(rows, dear)], 1.0);
    running.stop().await;
}
