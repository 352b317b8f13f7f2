//! What single verbs of the command line say, and what they let pass.

use std::time::Duration;

use super::command::{Desk, ended, forge};
use super::process::interrupt;
use crate::protocol::market::{MAPPING, Market, Topology};

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
    let following = desk.begin("drain --follow");
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
    tokio::time::sleep(Duration::from_secs(1)).await;
    let back = "ALTER TABLE away RENAME TO service_listings";
    market.new.run(back).await;
    copied("second").await;

    // Another mapping takes over: this process will never be let in again.
    let changed = MAPPING.replace("revision = 1", "revision = 2");
    std::fs::write(desk.path("listings.toml"), changed).unwrap();
    desk.run("install --raise").await.with(0);
    let ended = ended(following).await.with(1);
    let said: Vec<&str> = ended.err.lines().collect();
    assert_eq!(
        (said.iter().filter(|line| line.contains("trying again"))).count(),
        2,
        "{said:#?}"
    );
    assert!(said[0].starts_with("listings: "), "{said:#?}");
    assert!(said.contains(&"listings: goes on"), "{said:#?}");
    assert!(ended.err.contains("revision 2"), "{said:#?}");
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

    let verifying = desk.begin("verify --every 1s --json");
    while desk.status().await["verified"] != true {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    forge(
        &market,
        "UPDATE service_listings SET title = 'forged' WHERE legacy_id = 7",
    )
    .await;
    while desk.status().await["verified"] != false {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    interrupt("INT", &verifying).await;
    // As the last one was.
    let ended = ended(verifying).await.with(1);
    let reports: Vec<serde_json::Value> = ended
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(reports[0]["clean"], true, "{reports:?}");
    assert_eq!(reports.last().unwrap()["clean"], false, "{reports:?}");
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
