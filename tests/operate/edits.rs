//! The file is edited while a backfill runs.

use std::time::{Duration, Instant};

use super::command::{Desk, ended};
use super::process::Said;
use crate::protocol::market::{Market, Topology};

const SECOND: Duration = Duration::from_secs(1);

/// Keys passed, as soon as they have not moved for a second.
async fn at_rest(desk: &Desk) -> u64 {
    let passed = || async { desk.status().await["backfill_passed"].as_u64().unwrap() };
    let mut last = passed().await;
    loop {
        tokio::time::sleep(SECOND).await;
        let now = passed().await;
        if now == last {
            return now;
        }
        last = now;
    }
}

#[tokio::test]
async fn a_backfill_takes_over_pauses_and_rates_and_keeps_what_it_has_when_an_edit_is_bad() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    market.fill(400).await;
    let desk = Desk::of(&market);
    let file = desk.path("changeover.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let edit = |pace: &str| std::fs::write(&file, format!("{text}[pace]\n{pace}\n")).unwrap();
    edit("paused = true");
    desk.run("install").await.with(0);
    let mut child = desk.begin("backfill --json --workers 2");
    let mut said = Said::of(&mut child);
    said.until("backfill held back: paused").await;
    assert_eq!(at_rest(&desk).await, 0, "paused from its first page on");
    edit("rows_per_second = 40");
    while desk.status().await["backfill_passed"] == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    edit("paused = true\nrows_per_second = 40");
    said.until("has changed: paused, 40 rows/s").await;
    let passed = at_rest(&desk).await;
    assert!((1..400).contains(&passed), "{passed}");
    std::fs::write(&file, format!("{text}[pace]\npaused = 'no'\n")).unwrap();
    said.until("string \"no\"").await;
    let range = text.replace("backfill.page", "backfill.upto = '03x0'\nbackfill.page");
    std::fs::write(&file, range).unwrap();
    said.until("\"03x0\" is no key").await;
    let range = text.replace("backfill.page", "backfill.upto = '0350'\nbackfill.page");
    let fast = "[pace]\nduty_percent = 100\nrows_per_second = 100_000\n";
    let held = Instant::now();
    std::fs::write(&file, format!("{range}{fast}")).unwrap();
    said.until("held back: its range, which ends with key 350")
        .await;
    assert_eq!(at_rest(&desk).await, 350);
    let page = range.replace(
        "backfill.page = 10",
        "backfill.page = 20\nbackfill.workers = 5",
    );
    std::fs::write(&file, format!("{page}{fast}")).unwrap();
    said.until("and nothing for this backfill").await;
    tokio::time::sleep(2 * SECOND).await;
    std::fs::write(&file, format!("{text}{fast}")).unwrap();
    let mut swept = ended(child).await;
    let again = held.elapsed().as_secs() / 10;
    swept.err = said.rest().await;
    let swept = swept.with(0);
    assert_eq!(swept.json()["passed"], 400);
    assert!(swept.json()["held_back_seconds"]["paused"].as_f64() > Some(1.0));
    let told = [
        "backfill held back: paused",
        "changeover.toml has changed: 40 rows/s, pages of 100 ms, 2 workers",
        "has changed: paused, 40 rows/s",
        "is not taken over, paused, 40 rows/s, pages of 100 ms, 2 workers stays: ",
        "invalid type: string \"no\", expected a boolean",
        "is not taken over, paused, 40 rows/s, pages of 100 ms, 2 workers stays: backfill.upto: \"03x0\" is no key",
        "has changed: 100000 rows/s, pages of 100 ms, 100 % of the time, 2 workers, up to key 350",
        "backfill held back: its range, which ends with key 350",
        "has changed, and nothing for this backfill: ",
        "has changed: 100000 rows/s, pages of 100 ms, 100 % of the time, 2 workers\n",
    ];
    let mut rest = swept.err.as_str();
    for line in told {
        let at = rest
            .find(line)
            .unwrap_or_else(|| panic!("{line}: {swept:#?}"));
        rest = &rest[at..];
    }
    let held = swept.err.matches("held back: its range").count() as u64;
    assert!(
        held >= 1 && held <= 1 + again,
        "not each second: {swept:#?}"
    );
    market.assert_equal().await;
}

/// Where its parts stand.
async fn parts(market: &Market) -> Vec<u64> {
    let passed =
        "SELECT CAST(passed AS text) FROM changeover_backfill WHERE place = 'new' ORDER BY part";
    let passed = market.new.texts(passed).await;
    passed
        .iter()
        .map(|passed| passed.parse().unwrap())
        .collect()
}

#[tokio::test]
async fn a_backfill_takes_over_how_many_workers_there_are_and_how_long_a_page_takes() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    market.fill(400).await;
    let desk = Desk::of(&market);
    let file = desk.path("changeover.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let edit = |workers: u32, pace: &str| {
        let backfill = format!("backfill.parts = 2\nbackfill.workers = {workers}\nbackfill.page");
        let text = text.replace("backfill.page", &backfill);
        std::fs::write(&file, format!("{text}[pace]\n{pace}\n")).unwrap();
    };
    edit(1, "rows_per_second = 20");
    desk.run("install").await.with(0);
    let mut child = desk.begin("backfill --json");
    let mut said = Said::of(&mut child);
    while parts(&market).await.iter().sum::<u64>() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    edit(1, "rows_per_second = 20\npaused = true");
    said.until("has changed: paused, 20 rows/s, pages of 100 ms, 1 worker")
        .await;
    at_rest(&desk).await;
    let alone = parts(&market).await;
    assert!(
        alone.len() == 2 && alone.contains(&0),
        "one works on one: {alone:?}"
    );
    edit(2, "rows_per_second = 20\nstatement_time_ms = 50");
    let mut both = alone;
    while both.contains(&0) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        both = parts(&market).await;
    }
    assert!(
        both.iter().all(|passed| *passed < 190),
        "one after the other: {both:?}"
    );
    said.until("has changed: 20 rows/s, pages of 50 ms, 2 workers")
        .await;
    edit(2, "duty_percent = 100");
    let swept = ended(child).await.with(0);
    assert_eq!(swept.json()["passed"], 400);
    market.assert_equal().await;
}

#[tokio::test]
async fn what_is_no_key_is_refused_before_anything_is_copied() {
    for topology in [
        Topology::SqliteTwoFiles,
        Topology::PostgresOneDatabase,
        Topology::MariadbOneDatabase,
    ] {
        let market = Market::start(topology).await;
        market.fill(3).await;
        let desk = Desk::of(&market);
        let file = desk.path("changeover.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        desk.run("install").await.with(0);
        let unknown = text.replace("backfill.page", "backfill.upto = 'abc'\nbackfill.page");
        std::fs::write(&file, unknown).unwrap();
        let refused = desk.run("backfill").await.with(2);
        let why = "backfill.upto: \"abc\" is no key of these tables";
        assert!(refused.err.contains(why), "{refused:?}");
        assert_eq!(desk.status().await["backfill_passed"], 0);
        let refused = desk.run("verify --from abc").await.with(2);
        let why = "--from: \"abc\" is no key of these tables";
        assert!(refused.err.contains(why), "{refused:?}");
    }
}
