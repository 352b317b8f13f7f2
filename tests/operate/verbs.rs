//! What single verbs of the command line say, and what they let pass.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::command::{Desk, ended, forge};
use super::process::{Said, interrupt};
use crate::protocol::market::{MAPPING, Market, Topology};
use crate::support::server::PATIENCE;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_takes_more_keys_than_a_statement_can_on_sqlite() {
    a_repair_takes_more_keys_than_a_statement_can(Topology::SqliteTwoFiles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_takes_more_keys_than_a_statement_can_on_mariadb() {
    a_repair_takes_more_keys_than_a_statement_can(Topology::MariadbTwoDatabases).await;
}

/// Rows that somebody else put on the new side, more of them than a statement binds values.
async fn a_repair_takes_more_keys_than_a_statement_can(topology: Topology) {
    const EXTRA: usize = 33_000;
    let market = Market::start(topology).await;
    market.fill(3).await;
    let desk = Desk::of(&market);
    desk.run("install").await.with(0);
    desk.run("backfill").await.with(0);
    let extra = format!(
        "INSERT INTO service_listings (legacy_id, provider_id, status) \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {EXTRA}) \
         SELECT 100000 + i, 101, 'forged' FROM n"
    );
    forge(&market, &extra).await;
    let held = async || {
        let held = "SELECT CAST(count(*) AS text) FROM service_listings";
        market.new.text(held).await.parse::<usize>().unwrap()
    };
    assert_eq!(held().await, 3 + EXTRA);
    let extra = |n: usize| json!({ "class": "extra", "key": (100_000 + n).to_string() });
    let samples: Vec<Json> = (1..=EXTRA).map(extra).collect();
    let found = json!({ "entity": "listings", "classes": { "extra": EXTRA }, "samples": samples });
    std::fs::write(desk.path("found.json"), found.to_string()).unwrap();
    let dry = desk
        .run("repair --report found.json --dry-run")
        .await
        .with(0);
    let would = format!("listings: {EXTRA} keys would be copied again");
    assert!(dry.out.contains(&would), "{}", dry.out);
    assert_eq!(held().await, 3 + EXTRA);
    let repaired = desk.run("repair --report found.json").await.with(0);
    let did = format!("listings: {EXTRA} keys touched, {EXTRA} copied");
    assert!(repaired.out.contains(&did), "{}", repaired.out);
    assert_eq!(held().await, 3);
    assert!(market.dirty().await.is_empty());
}

/// What is known and wanted is no difference, and takes no readiness away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rules_of_the_file_say_what_counts_as_equal() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    market.fill(20).await;
    let desk = Desk::of(&market);
    desk.run("install").await.with(0);
    desk.run("backfill").await.with(0);
    desk.run("verify").await.with(0);
    forge(
        &market,
        "UPDATE service_listings SET title = 'forged' WHERE legacy_id IN (7, 8)",
    )
    .await;
    let strict = std::fs::read_to_string(desk.path("changeover.toml")).unwrap();
    let ruled = format!("{strict}[entity.listings.verify.rules]\nignore = ['**.title']\n");
    std::fs::write(desk.path("changeover.toml"), ruled).unwrap();
    let clean = desk.run("verify --json").await.with(0).json();
    assert_eq!(clean["classes"]["equal"], 20, "{clean}");
    assert_eq!(clean["recorded"], "yes", "{clean}");
    assert_eq!(desk.status().await["verified"], true);
    let bad = format!("{strict}verify.rules.ignored = ['**.title']\n");
    std::fs::write(desk.path("changeover.toml"), bad).unwrap();
    let refused = desk.run("verify").await.with(2);
    assert!(refused.err.contains("ignored"), "{refused:?}");
    std::fs::write(desk.path("changeover.toml"), strict).unwrap();
    let found = desk.run("verify --json").await.with(1).json();
    assert_eq!(found["classes"]["divergent"], 2, "{found}");
    assert_eq!(desk.status().await["verified"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copying_that_was_stopped_is_said_and_begins_again_by_command() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    market.fill(4).await;
    let desk = Desk::of(&market);
    let begun = desk.run("install --json").await.with(0).json();
    assert_eq!(
        (&begun["stage"], &begun["stopped"]),
        (&"dual-write".into(), &false.into())
    );
    market.open().await.stop_copying().await.unwrap();
    let stopped = desk.run("install").await.with(0).out;
    assert!(
        stopped.contains("nothing is copied") && stopped.contains("install --copy"),
        "{stopped}"
    );
    let refused = desk.run("backfill").await.with(1);
    assert!(refused.err.contains("install --copy"), "{refused:?}");
    desk.run("install --copy --stamps-only").await.with(2);
    let begun = desk.run("install --copy --json").await.with(0).json();
    assert_eq!(
        (&begun["stage"], &begun["stopped"]),
        (&"dual-write".into(), &false.into())
    );
    desk.run("install --copy").await.with(0);
    desk.run("backfill").await.with(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_follows_says_once_what_holds_it_up() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    market.fill(4).await;
    let desk = Desk::of(&market);
    desk.run("install").await.with(0);
    desk.run("backfill").await.with(0);
    let mut following = desk.begin("drain --follow");
    let mut said = Said::of(&mut following);
    let copied = async |title: &str| {
        let asked = format!("SELECT count(*) || '' FROM service_listings WHERE title = '{title}'");
        while market.new.text(&asked).await != "1" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let write = async |title: &str| {
        let sql = format!("UPDATE listings SET title = '{title}' WHERE id = 1");
        market.legacy.run(&sql).await;
    };
    write("first").await;
    copied("first").await;
    let away = "ALTER TABLE service_listings RENAME TO away";
    market.new.run(away).await;
    write("second").await;
    said.until("trying again").await;
    let back = "ALTER TABLE away RENAME TO service_listings";
    market.new.run(back).await;
    copied("second").await;
    said.until("listings: goes on").await;

    // Another mapping takes over: this process will never be let in again.
    let changed = MAPPING.replace("revision = 1", "revision = 2");
    std::fs::write(desk.path("listings.toml"), changed).unwrap();
    desk.run("install --raise").await.with(0);
    ended(following).await.with(1);
    let text = said.rest().await;
    let said: Vec<&str> = text.lines().collect();
    assert_eq!(
        (said.iter().filter(|line| line.contains("trying again"))).count(),
        2,
        "{said:#?}"
    );
    assert!(said[0].starts_with("listings: "), "{said:#?}");
    assert!(said.contains(&"listings: goes on"), "{said:#?}");
    assert!(text.contains("revision 2"), "{said:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verify_looks_at_a_part_or_begins_again_and_again() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    market.fill(40).await;
    let desk = Desk::of(&market);
    desk.run("install").await.with(0);
    desk.run("backfill").await.with(0);
    let part = desk
        .run("verify --sample 50% --seed 3 --json")
        .await
        .with(0)
        .json();
    assert_eq!(part["recorded"], "part", "{part}");
    assert_eq!(part["part"]["sample"]["seed"], 3, "{part}");
    let rest = desk.run("verify --from 10 --json").await.with(0).json();
    assert_eq!(rest["part"]["above"], "10", "{rest}");
    assert_eq!(rest["compared"], 30, "{rest}");
    let said = desk.run("verify --from 10").await.with(0);
    assert!(said.out.contains("not recorded"), "{said:?}");
    desk.run("verify --from 10 --sample 1").await.with(2);
    desk.run("verify --every soon").await.with(2);
    assert_eq!(desk.status().await["verified"], false);

    let mut verifying = desk.begin("verify --every 1s --json");
    let mut told = BufReader::new(verifying.stdout.take().unwrap()).lines();
    let mut next = async || -> Json {
        let line = tokio::time::timeout(PATIENCE, told.next_line()).await;
        let line = line.expect("it says nothing").unwrap();
        serde_json::from_str(&line.expect("it goes on")).unwrap()
    };
    let first = next().await;
    assert_eq!(first["clean"], true, "{first}");
    assert_eq!(desk.status().await["verified"], true);
    forge(
        &market,
        "UPDATE service_listings SET title = 'forged' WHERE legacy_id = 7",
    )
    .await;
    while next().await["clean"] != false {}
    assert_eq!(desk.status().await["verified"], false);
    interrupt("INT", &verifying).await;
    let last = async {
        let mut last = None;
        while let Some(line) = told.next_line().await.unwrap() {
            last = Some(serde_json::from_str::<Json>(&line).unwrap());
        }
        last
    };
    // As the last one was.
    let (ended, last) = tokio::join!(ended(verifying), last);
    ended.with(1);
    assert!(last.is_none_or(|last| last["clean"] == false));
}

/// A load that was interrupted, and that nobody goes on with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_waits_is_said_and_can_be_given_up() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    market.fill(200).await;
    let desk = Desk::of(&market);
    desk.run("install").await.with(0);
    let child = desk.slow_backfill("--parts 4").await;
    interrupt("INT", &child).await;
    ended(child).await.with(130);
    let status = desk.status().await;
    assert_eq!(
        (&status["backfill_loading"], &status["backfill_done"]),
        (&true.into(), &false.into()),
        "{status}"
    );
    assert_eq!(status["backfill_parts"], 4, "{status}");
    let said = desk.run("status").await.with(0).out;
    let parts = format!("{} of 4 parts done", status["backfill_parts_done"]);
    assert!(said.contains("it loads") && said.contains(&parts), "{said}");
    let write = "UPDATE listings SET title = 'now' WHERE id = 200";
    market.legacy.run(write).await;
    desk.run("drain --within 1").await.with(1);
    assert_eq!(market.dirty().await.len(), 1);
    let given_up = desk.run("backfill --no-load --json").await.with(0).json();
    assert_eq!(given_up["passed"], 200, "{given_up}");
    assert_eq!(desk.status().await["backfill_loading"], false);
    desk.run("drain --within 30").await.with(0);
    desk.run("verify").await.with(0);
    market.assert_equal().await;
}

/// What a signal stops is said of each, and not that backfills wait where they do not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_says_what_each_signal_holds_back() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    let signal = |name: &str, reads: u32, holds: &str| {
        format!("[[pace.signal]]\nname = '{name}'\nsql = 'SELECT {reads}'\nmost = 10\n{holds}\n")
    };
    let desk = Desk::with(&format!(
        "legacy.url = '{}'\nnew.url = '{}'\n{}{}{}{}[entity.listings]\nmapping = 'listings.toml'\n",
        market.legacy_url,
        market.new_url,
        signal("slow", 11, "holds = ['drain']"),
        signal("busy", 12, ""),
        signal("lost", 13, "holds = ['drain', 'verify', 'backfill']"),
        signal("calm", 1, "holds = ['drain']"),
    ));
    let said = desk.run("status").await.with(0).out;
    for line in [
        "signal slow is 11, above its limit 10: drains wait\n",
        "signal busy is 12, above its limit 10: backfills and verifies wait\n",
        "signal lost is 13, above its limit 10: backfills, verifies and drains wait\n",
        "signal calm is 1, of 10 at most\n",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let told = desk.run("status --json").await.with(0).json();
    let works = told["signals"].as_array().unwrap().iter();
    let works: Vec<&Json> = works.map(|signal| &signal["works"]).collect();
    let all = ["backfill", "verify", "drain"];
    let expected = [&all[2..], &all[..2], &all[..], &all[2..]].map(|works| json!(works));
    assert_eq!(works, expected.iter().collect::<Vec<_>>());
}
