//! What verbs say before they do anything, while they do it, and when they are stopped.

use std::time::Duration;

use changeover::shadow::Value;
use changeover::worker::dialect::session::Database;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::command::{Desk, ended, forge};
use super::process::{interrupt, listening, until_said};
use crate::protocol::market::{MAPPING, Market, Topology};
use crate::support::{postgres::Postgres, watchdog::signal};

/// A marketplace whose history was copied, and compared.
async fn copied(topology: Topology) -> (Market, Desk) {
    let market = Market::start(topology).await;
    market.fill(60).await;
    let desk = Desk::of(&market);
    for verb in ["install", "backfill", "verify"] {
        desk.run(verb).await.with(0);
    }
    (market, desk)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dry_runs_write_nothing_on_sqlite() {
    dry_runs_write_nothing(Topology::SqliteTwoFiles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dry_runs_write_nothing_on_servers() {
    dry_runs_write_nothing(Topology::PostgresTwoDatabases).await;
    dry_runs_write_nothing(Topology::MariadbTwoDatabases).await;
}

async fn dry_runs_write_nothing(topology: Topology) {
    let (market, desk) = copied(topology).await;
    let forged = "UPDATE service_listings SET title = 'forged' WHERE legacy_id IN (7, 8)";
    forge(&market, forged).await;
    let found = desk.run("verify --dry-run --json").await.with(1).json();
    assert_eq!(
        (&found["classes"]["divergent"], &found["recorded"]),
        (&json!(2), &json!("unasked"))
    );
    assert_eq!(desk.status().await["verified"], true, "readiness stays");
    let write = "UPDATE listings SET title = 'now' WHERE id = 5";
    market.legacy.run(write).await;
    for _ in 0..2 {
        let dirty = desk.run("drain --dry-run --json").await.with(0).json();
        assert_eq!(dirty["dirty"], 1, "{dirty}");
    }
    let plan = desk.run("install --raise --copy --dry-run").await.with(0);
    for said in ["mapping's revision", "copying begins", "changeover_epoch"] {
        assert!(plan.out.contains(said), "{plan:?}");
    }
    let plan = desk.run("uninstall --dry-run --json").await.with(0).json();
    for place in ["legacy", "new"] {
        let statements = plan["statements"][place].as_array().unwrap();
        let drops = |of: &Json| of.as_str().unwrap().contains("DROP ");
        assert!(statements.iter().any(drops), "{topology:?}: {plan}");
    }
    let plan = desk.run("uninstall --dry-run").await.with(0).out;
    let at = |what: &str| {
        plan.find(what)
            .unwrap_or_else(|| panic!("no {what} in {plan}"))
    };
    assert!(at("-- before: copying stops") < at("-- new") && at("-- new") < at("-- legacy"));
    assert_eq!(desk.status().await["dirty"], 1, "all of it is there");
}

/// What proves too little for the verb proves too little for its dry run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_verify_of_keys_that_lag_is_no_clean_one() {
    let (market, desk) = copied(Topology::SqliteTwoFiles).await;
    market
        .legacy
        .run("UPDATE listings SET title = 'late'")
        .await;
    for verb in ["verify --dry-run --json", "verify --json"] {
        let report = desk.run(verb).await.with(1).json();
        assert_eq!(
            (&report["classes"], &report["recorded"]),
            (&json!({ "lagging": 60 }), &json!("lagging")),
            "{verb}"
        );
    }
}

/// It has one mapping, and would fail for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verifies_for_ever_end_where_only_another_mapping_helps() {
    let (_market, desk) = copied(Topology::SqliteTwoFiles).await;
    let mut verifying = desk.begin("verify --every 1s --json");
    let mut reports = BufReader::new(verifying.stdout.take().unwrap()).lines();
    reports.next_line().await.unwrap().unwrap();
    let raised = MAPPING.replace("revision = 1", "revision = 2");
    std::fs::write(desk.path("listings.toml"), raised).unwrap();
    desk.run("install --raise").await.with(0);
    let (ended, _) = tokio::join!(ended(verifying), async {
        while let Ok(Some(_)) = reports.next_line().await {}
    });
    let ended = ended.with(1);
    assert!(ended.err.contains("revision"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_takes_keys_alone_and_says_what_the_report_did_not_name() {
    for topology in [Topology::SqliteTwoFiles, Topology::PostgresTwoDatabases] {
        let (market, desk) = copied(topology).await;
        for wrong in ["repair abc", "repair 1,2", "repair 7 x"] {
            let refused = desk.run(wrong).await.with(2);
            assert!(refused.err.contains("is no key"), "{refused:?}");
        }
        let status = desk.run("verify --json").await.with(0).json();
        assert_eq!(
            status["classes"],
            json!({ "equal": 60 }),
            "nothing stays of them"
        );
        let forged = "UPDATE service_listings SET title = 'forged' WHERE legacy_id IN (7, 8, 9)";
        forge(&market, forged).await;
        let found = desk.run("verify --samples 1 --json").await.with(1);
        std::fs::write(desk.path("found.json"), &found.out).unwrap();
        let part = desk.run("repair --report found.json").await.with(1);
        assert!(part.out.contains("1 keys touched, 1 copied"), "{part:?}");
        assert!(part.err.contains("2 more keys than it names"), "{part:?}");
        let found = desk.run("verify --json").await.with(1);
        assert_eq!(found.json()["classes"]["divergent"], 2);
        std::fs::write(desk.path("found.json"), &found.out).unwrap();
        desk.run("repair --report found.json").await.with(0);
        desk.run("verify").await.with(0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_lines_say_what_is_left_and_what_is_dirty() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    market.fill(400).await;
    let desk = Desk::of(&market);
    desk.run("install").await.with(0);
    market
        .legacy
        .run("UPDATE listings SET title = 'now' WHERE id > 390")
        .await;
    let mut child = desk.slow_backfill("").await;
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let told = |line: &str| {
        line.contains("rows/s, ") && line.contains(" s left") && line.ends_with(", 10 keys dirty")
    };
    until_said(&mut said, told).await;
    interrupt("TERM", &child).await;
    until_said(&mut said, |line| {
        line.contains("it goes on from where it stopped")
    })
    .await;
    ended(child).await.with(130);

    desk.run("backfill").await.with(0);
    desk.run("drain").await.with(0);
    let config = std::fs::read_to_string(desk.path("changeover.toml")).unwrap();
    let single = format!("{config}verify.range = 0\nverify.page = 10\n");
    std::fs::write(desk.path("changeover.toml"), single).unwrap();
    let mut child = desk.begin("verify --rate 40");
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut last = until_said(&mut said, |line| line.contains(", behind key ")).await;
    // Nobody can ask it any more: its last line says from where to go on.
    signal("KILL", &[child.id().unwrap()]);
    while let Some(line) = said.next_line().await.unwrap() {
        last = line;
    }
    child.wait().await.unwrap();
    let (_, key) = last
        .rsplit_once(", behind key ")
        .unwrap_or_else(|| panic!("{last}"));
    let rest = format!("verify --from {key} --json");
    let rest = desk.run(&rest).await.with(0).json();
    let compared = rest["compared"].as_u64().unwrap();
    assert_eq!(compared, 400 - key.parse::<u64>().unwrap(), "{rest}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_are_json_for_programs_and_an_end_is_no_error_where_nothing_else_ends_it() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    market.fill(10).await;
    let desk = Desk::of(&market);
    let refused = desk.run("backfill --json").await.with(1);
    let told: Json = serde_json::from_str(refused.err.lines().last().unwrap()).unwrap();
    assert_eq!(told["exit_code"], 1);
    assert!(
        told["error"].as_str().unwrap().contains("not installed"),
        "{told}"
    );
    desk.run("install").await.with(0);
    desk.run("backfill").await.with(0);
    let following = desk.begin("drain --follow --json");
    interrupt("TERM", &following).await;
    let told = ended(following).await.with(0).json();
    assert_eq!(
        (&told["entity"], &told["dirty"]),
        (&json!("listings"), &json!(0))
    );
    forge(
        &market,
        "UPDATE service_listings SET title = 'forged' WHERE legacy_id = 7",
    )
    .await;
    let mut verifying = desk.begin("verify --every 1h --json");
    let mut said = BufReader::new(verifying.stdout.take().unwrap()).lines();
    let report = said.next_line().await.unwrap().unwrap();
    let report: Json = serde_json::from_str(&report).unwrap();
    assert_eq!(report["classes"]["divergent"], 1);
    interrupt("TERM", &verifying).await;
    ended(verifying).await.with(1);
}

/// Counting a large table reads all of it: what its statistics know will do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_table_is_not_counted_for_a_progress_display() {
    let market = Market::start(Topology::PostgresTwoDatabases).await;
    market.fill(10).await;
    let desk = Desk::of(&market);
    desk.run("install").await.with(0);
    let left = desk.run("backfill --dry-run --json").await.with(0).json();
    assert_eq!(left["keys_estimate"], 10, "counted: {left}");
    let pretended = "UPDATE pg_class SET reltuples = 5000000 WHERE relname = 'listings'";
    market.legacy.run(pretended).await;
    let left = desk.run("backfill --dry-run --json").await.with(0).json();
    assert_eq!(left["keys_estimate"], 5_000_000, "{left}");
    desk.run("backfill").await.with(0);
    desk.run("verify").await.with(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statistics_know_rows_of_partitions_and_of_mariadb() {
    let postgres = Market::start(Topology::PostgresTwoDatabases).await;
    let sql = "CREATE TABLE parted (id bigint) PARTITION BY RANGE (id);
        CREATE TABLE low PARTITION OF parted FOR VALUES FROM (0) TO (100);
        CREATE TABLE high PARTITION OF parted FOR VALUES FROM (100) TO (200);
        INSERT INTO parted SELECT generate_series(50, 149); ANALYZE low; ANALYZE high";
    postgres.legacy.run(sql).await;
    let mariadb = Market::start(Topology::MariadbToPostgres).await;
    mariadb.fill(100).await;
    mariadb.legacy.run("ANALYZE TABLE listings").await;
    for (market, table) in [(&postgres, "parted"), (&mariadb, "listings")] {
        let database = Database::open(&market.legacy_url).unwrap();
        let mut lease = database.session().await.unwrap();
        let known = database.dialect().server().unwrap().known_rows(table);
        let known = lease.session().fetch(known).await.unwrap();
        assert_eq!(known, [[Value::Integer(100)]], "{table}");
        let none = database.dialect().server().unwrap().known_rows("nowhere");
        let none = lease.session().fetch(none).await.unwrap();
        assert!(none.is_empty() || none == [[Value::Null]], "{none:?}");
    }
}

/// History is copied, from a server of its own, which a test may kill.
async fn copied_from_a_server() -> (Postgres, Market, Desk) {
    let server = tokio::task::block_in_place(Postgres::start);
    server.create_database("shop").await;
    let (folder, _, new) = Topology::SqliteTwoFiles.databases().await;
    let topology = Topology::PostgresToSqlite;
    let market = Market::on(topology, server.url("shop"), new, folder).await;
    market.fill(10).await;
    let desk = Desk::of(&market);
    for verb in ["install", "backfill"] {
        desk.run(verb).await.with(0);
    }
    (server, market, desk)
}

/// Somebody ends them because the database is away: it is not waited for, and what was last known counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_on_for_ever_ends_without_its_database() {
    let (server, _market, desk) = copied_from_a_server().await;
    let mut following = desk.begin("drain --follow");
    let mut verifying = desk.begin("verify --every 1s --json");
    let mut reports = BufReader::new(verifying.stdout.take().unwrap()).lines();
    let first = reports.next_line().await.unwrap().unwrap();
    assert!(first.contains("\"clean\":true"), "{first}");
    listening(&following).await;
    tokio::task::block_in_place(|| server.kill9());
    for (child, words) in [
        (&mut following, "trying again"),
        (&mut verifying, "will be tried again"),
    ] {
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        until_said(&mut said, |line| line.contains(words)).await;
        // Nothing that it has yet to say may block it.
        tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
        interrupt("TERM", child).await;
    }
    ended(following).await.with(0);
    // Its last report was clean, and is not what it came to last.
    ended(verifying).await.with(3);
}

/// Whoever ends it twice does not want to wait for an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_what_waits_for_its_database() {
    let (server, _market, desk) = copied_from_a_server().await;
    let mut following = desk.begin("drain --follow");
    listening(&following).await;
    tokio::task::block_in_place(|| server.freeze());
    // One alone is an end that asks for some seconds what is left. Two that follow each other closely may
    // count as one, as the system counts them.
    while following.try_wait().unwrap().is_none() {
        interrupt("TERM", &following).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let ended = ended(following).await;
    tokio::task::block_in_place(|| server.thaw());
    assert_eq!(ended.code, Some(130), "{ended:?}");
}

/// Nothing compared is no pass.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verifies_for_ever_that_compared_nothing_say_so() {
    let (_market, desk) = copied(Topology::SqliteTwoFiles).await;
    let mut verifying = desk.begin("verify --every 1h --rate 1");
    let mut said = BufReader::new(verifying.stderr.take().unwrap()).lines();
    said.next_line()
        .await
        .unwrap()
        .expect("it says how far it has come");
    interrupt("TERM", &verifying).await;
    let mut last = String::new();
    while let Ok(Some(line)) = said.next_line().await {
        last = line;
    }
    ended(verifying).await.with(130);
    assert!(
        last.contains("before a verify came to its end") || last.starts_with("hint"),
        "{last}"
    );
}
