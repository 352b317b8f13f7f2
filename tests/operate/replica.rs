//! A real replica: its lag is read as it is, and holds the worker back.

use std::time::Duration;

use changeover::worker::dialect::load::Load;
use changeover::worker::dialect::session::Database;
use tokio::task::block_in_place;

use super::command::{Desk, ended};
use super::pace::reads;
use crate::protocol::market::{Market, Plain, Topology};
use crate::support::server::PATIENCE;
use crate::support::{mariadb::Mariadb, postgres::Postgres};

const SOON: Duration = Duration::from_millis(20);

/// Waits until a reading is as it should be.
async fn until_reads(database: &Database, load: Load, is_it: impl Fn(f64) -> bool) {
    let asked = async {
        loop {
            match reads(database, load).await {
                Ok(value) if is_it(value) => return,
                _ => tokio::time::sleep(SOON).await,
            }
        }
    };
    let waited = tokio::time::timeout(PATIENCE, asked).await;
    waited.unwrap_or_else(|_| panic!("{load:?} never read so"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backfill_waits_for_a_replica_that_falls_behind() {
    let primary = Postgres::start();
    for name in ["legacy", "new"] {
        primary.create_database(name).await;
    }
    let replica = block_in_place(|| primary.replica());
    let [legacy, new] = ["legacy", "new"].map(|name| primary.url(name));
    let market = Market::on(Topology::PostgresTwoDatabases, legacy, new, None).await;
    market.fill(600).await;
    let desk = Desk::with(&format!(
        "legacy.url = '{}'\nnew.url = '{}'\n[[pace.signal]]\nname = 'replica'\n\
         built_in = 'replica_lag_bytes'\nmost = 100_000\nevery_ms = 20\n\
         [entity.listings]\nmapping = 'listings.toml'\nbackfill.page = 10\nbackfill.load_page = 10\n",
        market.legacy_url, market.new_url
    ));
    desk.run("install").await.with(0);
    let database = Database::open(&market.legacy_url).unwrap();
    until_reads(&database, Load::ReplicaLagBytes, |bytes| bytes == 0.0).await;

    // It hears of the log and applies none of it.
    replica.freeze();
    let child = desk.begin("backfill --json");
    until_reads(&database, Load::ReplicaLagBytes, |bytes| bytes > 100_000.0).await;
    let held = async {
        loop {
            let status = desk.run("status --json").await.with(0).json();
            let passed = status["entities"][0]["installed"]["backfill_passed"].clone();
            let why = status["signals"][0]["holds"].to_string();
            if why.contains("above its limit 100000") {
                return passed.as_u64().unwrap();
            }
        }
    };
    let at = tokio::time::timeout(PATIENCE, held).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let passed = desk.status().await["backfill_passed"].as_u64().unwrap();
    assert!(at < 600 && passed <= at + 20, "{at} {passed}");
    replica.thaw();
    let swept = ended(child).await.with(0);
    assert!(
        swept.err.contains("held back: signal replica is"),
        "{swept:?}"
    );
    let json = swept.json();
    assert_eq!(json["passed"], 600);
    let seconds = json["held_back_seconds"]["replica"].as_f64().unwrap();
    assert!(seconds > 0.5, "{json}");
    market.assert_equal().await;

    // In seconds, while it applies what it has later than it could.
    until_reads(&database, Load::ReplicaLagSeconds, |seconds| seconds < 1.0).await;
    let there = Plain::open(&replica.url("postgres")).await;
    // What its primary's slots keep it does not know.
    let asked = Database::open(&replica.url("postgres")).unwrap();
    let none = Err("it answered no number".to_owned());
    assert_eq!(reads(&asked, Load::SlotBytes).await, none);
    there
        .run("ALTER SYSTEM SET recovery_min_apply_delay = '2s'")
        .await;
    there.run("SELECT pg_reload_conf()").await;
    let late = async {
        for n in 0.. {
            let write = format!("UPDATE listings SET stock = {n} WHERE id = 1");
            market.legacy.run(&write).await;
            tokio::time::sleep(SOON).await;
        }
    };
    tokio::select! {
        () = late => {}
        () = until_reads(&database, Load::ReplicaLagSeconds, |seconds| seconds > 1.5) => {}
    }
    there.run("ALTER SYSTEM RESET ALL").await;
    there.run("SELECT pg_reload_conf()").await;
    until_reads(&database, Load::ReplicaLagSeconds, |seconds| seconds < 1.0).await;
}

/// The replica of a MariaDB server is asked itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backfill_waits_for_a_replica_of_mariadb_that_falls_behind() {
    let primary = Mariadb::start();
    let replica = primary.replica().await;
    for name in ["legacy", "new"] {
        primary.create_database(name).await;
    }
    let [legacy, new] = ["legacy", "new"].map(|name| primary.url(name));
    let market = Market::on(Topology::MariadbTwoDatabases, legacy, new, None).await;
    market.fill(600).await;
    let [there, here] = [&replica, &primary].map(|server| server.url("mysql"));
    let [there, here] = [&there, &here].map(|url| Database::open(url).unwrap());
    until_reads(&there, Load::ReplicaLagSeconds, |seconds| seconds == 0.0).await;
    // Whoever may not see others' sessions is not told that there are none.
    let at_work = reads(&here, Load::ActiveSessions).await;
    assert!(at_work.is_ok(), "{at_work:?}");
    primary
        .run("CREATE USER blind; GRANT SELECT ON mysql.* TO blind")
        .await;
    let blind = primary.url("mysql").replacen("root@", "blind@", 1);
    let blind = Database::open(&blind).unwrap();
    let none = Err("it answered no number".to_owned());
    assert_eq!(reads(&blind, Load::ActiveSessions).await, none);
    // Its primary does not know, and is no answer.
    assert_eq!(reads(&here, Load::ReplicaLagSeconds).await, none);
    let logged = reads(&here, Load::WalBytes).await.unwrap();
    assert!(logged > 10_000.0, "{logged}");
    let refused = reads(&there, Load::WalBytes).await.unwrap_err();
    assert!(
        refused.contains("1381"),
        "a server without a log: {refused}"
    );

    let desk = Desk::with(&format!(
        "legacy.url = '{}'\nnew.url = '{}'\n[[pace.signal]]\nname = 'replica'\n\
         built_in = 'replica_lag_seconds'\nat.url = '{}'\nmost = 1\nevery_ms = 20\n\
         [entity.listings]\nmapping = 'listings.toml'\nbackfill.page = 10\nbackfill.load_page = 10\n",
        market.legacy_url,
        market.new_url,
        replica.url("mysql")
    ));
    desk.run("install").await.with(0);
    until_reads(&there, Load::ReplicaLagSeconds, |seconds| seconds == 0.0).await;
    // It hears of the log, and applies it late.
    replica
        .run("STOP SLAVE; CHANGE MASTER TO MASTER_DELAY = 5; START SLAVE")
        .await;
    market
        .legacy
        .run("UPDATE listings SET stock = stock + 1 WHERE id = 1")
        .await;
    until_reads(&there, Load::ReplicaLagSeconds, |seconds| seconds > 1.0).await;
    let swept = desk.run("backfill --json").await.with(0);
    assert!(
        swept.err.contains("held back: signal replica is"),
        "{swept:?}"
    );
    let json = swept.json();
    assert_eq!(json["passed"], 600);
    let seconds = json["held_back_seconds"]["replica"].as_f64().unwrap();
    assert!(seconds > 0.5, "{json}");
    // One that does not hear of its primary says nothing.
    replica.run("STOP SLAVE").await;
    assert_eq!(reads(&there, Load::ReplicaLagSeconds).await, none);
    assert!(reads(&here, Load::WalBytes).await.unwrap() > logged);
    desk.run("drain").await.with(0);
    market.assert_equal().await;
}
