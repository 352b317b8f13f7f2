//! What goes wrong under a command at work: it says what, or tries again, and when it is mended the same
//! command line goes on. No row is lost, and none is wrong.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::process::Child;

use super::command::{Desk, Ended, ended};
use super::process::interrupt;
use crate::protocol::market::{Market, Plain, Topology};
use crate::support::{self, postgres::Postgres};

/// Runs a scenario on SQLite and on PostgreSQL.
macro_rules! both {
    ($($name:ident),* $(,)?) => { $(mod $name {
        use super::Topology;
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn sqlite() { super::scenario::$name(Topology::SqliteTwoFiles).await }
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn postgres() { super::scenario::$name(Topology::PostgresTwoDatabases).await }
    })* };
}

/// Runs a scenario from MariaDB, and to it.
macro_rules! with_mariadb {
    ($($name:ident),* $(,)?) => { mod with_mariadb { $(mod $name {
        use super::super::{Topology, scenario};
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn mariadb_to_postgres() { scenario::$name(Topology::MariadbToPostgres).await }
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn postgres_to_mariadb() { scenario::$name(Topology::PostgresToMariadb).await }
    })* } };
}

with_mariadb!(
    a_table_that_vanishes_is_named,
    a_column_that_vanishes_is_named,
    a_drain_waits_for_a_table,
    several_workers_on_one_range,
);

both!(
    a_table_that_vanishes_is_named,
    a_column_that_vanishes_is_named,
    a_drain_waits_for_a_table,
    several_workers_on_one_range,
);

/// How long anything may take that is waited for. A drain that has failed pauses for 10 s at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// A market with history, installed.
async fn ready(topology: Topology) -> (Market, Desk) {
    let market = Market::start(topology).await;
    market.fill(200).await;
    let desk = Desk::of(&market);
    desk.run("install").await.with(0);
    (market, desk)
}

/// The same command lines as ever bring everything over.
pub(super) async fn goes_on(market: &Market, desk: &Desk) {
    desk.run("backfill").await.with(0);
    desk.run("drain --within 30").await.with(0);
    desk.run("verify").await.with(0);
    market.assert_equal().await;
}

#[track_caller]
pub(super) fn says(ended: &Ended, words: &[&str]) {
    for word in words {
        assert!(
            ended.err.contains(word),
            "it does not say {word:?}: {ended:#?}"
        );
    }
}

/// A drain that never ends, and what it has said so far.
pub(super) struct Following {
    drain: Child,
    said: Arc<Mutex<String>>,
}

impl Following {
    pub(super) fn begin(desk: &Desk) -> Following {
        let mut drain = desk.begin("drain --follow");
        let said: Arc<Mutex<String>> = Arc::default();
        let (mut err, told) = (drain.stderr.take().unwrap(), Arc::clone(&said));
        tokio::spawn(async move {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = err.read(&mut bytes).await {
                let text = String::from_utf8_lossy(&bytes[..read]);
                told.lock().unwrap().push_str(&text);
            }
        });
        Following { drain, said }
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits until it has said all of these words.
    pub(super) async fn until(&self, words: &[&str]) {
        let began = Instant::now();
        while !words.iter().all(|word| self.said().contains(word)) {
            let said = self.said();
            assert!(
                began.elapsed() < PATIENCE,
                "it does not say {words:?}: {said}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ctrl-C.
    pub(super) async fn end(self) {
        interrupt("INT", &self.drain).await;
        ended(self.drain).await.with(0);
    }
}

pub(super) async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !done().await {
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Every verb that asks a database says that the password is wrong, and does not print it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_password_is_said_by_every_verb() {
    let server = Postgres::start();
    let plain = Plain::open(&server.url("postgres")).await;
    plain.run("CREATE ROLE locked LOGIN PASSWORD 'right'").await;
    let rules = server.folder().join("data/pg_hba.conf");
    let trust = std::fs::read_to_string(&rules).unwrap();
    let locked = format!("host all locked all scram-sha-256\n{trust}");
    std::fs::write(&rules, locked).unwrap();
    server.restart();
    let (_folder, legacy, _) = support::sqlite_pair();
    drop(Plain::open(&legacy).await);
    let new = server
        .url("postgres")
        .replace("postgres@", "locked:wrong-secret@");
    every_verb_says(&legacy, &new, "the role or its password is refused").await;
}

/// On MariaDB as well, on either side.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_password_is_said_by_every_verb_on_mariadb() {
    let url = support::mariadb::fresh_one().await;
    let plain = Plain::open(&url).await;
    plain
        .run("CREATE USER IF NOT EXISTS locked@'%' IDENTIFIED BY 'right', locked@localhost IDENTIFIED BY 'right'")
        .await;
    let locked = url.replace("root@", "locked:wrong-secret@");
    assert_ne!(locked, url);
    let (_folder, other, _) = support::sqlite_pair();
    drop(Plain::open(&other).await);
    let said = "the user or its password is refused";
    every_verb_says(&other, &locked, said).await;
    every_verb_says(&locked, &other, said).await;
}

async fn every_verb_says(legacy: &str, new: &str, said: &str) {
    let desk = Desk::with(&format!(
        "legacy.url = '{legacy}'\nnew.url = '{new}'\n[entity.listings]\nmapping = 'listings.toml'\n"
    ));
    let verbs = [
        "install",
        "uninstall --yes",
        "preview",
        "backfill",
        "drain",
        "drain --follow",
        "verify",
        "repair 1",
        "check",
        "status",
    ];
    for verb in verbs {
        let refused = desk.run(verb).await.with(3);
        says(&refused, &["error: ", said]);
        assert!(!refused.err.contains("wrong-secret"), "{refused:#?}");
    }
}

/// A column that takes less than before: rows that do not fit are held with the reason, not cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_takes_less_holds_rows_and_cuts_none() {
    let (market, desk) = ready(Topology::PostgresTwoDatabases).await;
    market
        .new
        .run("ALTER TABLE service_listings ALTER title TYPE varchar(8)")
        .await;
    let swept = desk.run("backfill").await.with(1);
    says(&swept, &["keys are held back"]);
    let status = desk.status().await;
    let held = &status["held"][0];
    assert_eq!(held["kind"], "blocked", "{status}");
    let reason = held["reason"].as_str().unwrap();
    assert!(
        reason.contains("column title (character varying(8))"),
        "{reason}"
    );
    let cut = "SELECT CAST(count(*) AS text) FROM service_listings WHERE title IS NOT NULL";
    assert_eq!(market.new.text(cut).await, "0", "a cut title");
    desk.run("verify").await.with(1);
    market
        .new
        .run("ALTER TABLE service_listings ALTER title TYPE text")
        .await;
    desk.run("drain --within 30").await.with(0);
    goes_on(&market, &desk).await;
}

mod scenario {
    use super::*;

    /// On the legacy side, then on the new one, in the middle of a sweep.
    pub(super) async fn a_table_that_vanishes_is_named(topology: Topology) {
        let (market, desk) = ready(topology).await;
        for (side, table) in [(&market.legacy, "photos"), (&market.new, "pictures")] {
            let child = desk.slow_backfill("").await;
            side.run(&format!("ALTER TABLE {table} RENAME TO gone"))
                .await;
            let failed = ended(child).await.with(3);
            says(&failed, &["error: ", table]);
            // It is missed before anything is begun, too.
            let refused = desk.run("backfill").await.with(1);
            says(&refused, &[table, "nothing was written"]);
            side.run(&format!(
                "SELECT count(*) FROM gone; ALTER TABLE gone RENAME TO {table}"
            ))
            .await;
        }
        goes_on(&market, &desk).await;
    }

    pub(super) async fn a_column_that_vanishes_is_named(topology: Topology) {
        let (market, desk) = ready(topology).await;
        for (side, table) in [
            (&market.legacy, "listings"),
            (&market.new, "service_listings"),
        ] {
            let child = desk.slow_backfill("").await;
            side.run(&format!("ALTER TABLE {table} RENAME COLUMN sku TO gone"))
                .await;
            let failed = ended(child).await.with(3);
            says(&failed, &["error: ", "sku"]);
            let refused = desk.run("backfill").await.with(1);
            says(&refused, &["sku", "nothing was written"]);
            side.run(&format!(
                "SELECT count(*) FROM {table}; ALTER TABLE {table} RENAME COLUMN gone TO sku"
            ))
            .await;
        }
        goes_on(&market, &desk).await;
    }

    pub(super) async fn a_drain_waits_for_a_table(topology: Topology) {
        let (market, desk) = ready(topology).await;
        desk.run("backfill").await.with(0);
        let following = Following::begin(&desk);
        market
            .legacy
            .run("UPDATE listings SET title = 'at work' WHERE id < 5")
            .await;
        until("it is at work", async || market.dirty().await.is_empty()).await;
        market.new.run("ALTER TABLE pictures RENAME TO gone").await;
        market
            .legacy
            .run("UPDATE listings SET title = 'while away'")
            .await;
        following.until(&["trying again: ", "pictures"]).await;
        let mended = "SELECT count(*) FROM gone; ALTER TABLE gone RENAME TO pictures";
        market.new.run(mended).await;
        following.until(&["goes on"]).await;
        until("nothing is dirty", async || market.dirty().await.is_empty()).await;
        following.end().await;
        goes_on(&market, &desk).await;
    }

    /// Three sweeps and two drains at once, with writes beside them: the sweeps share parts, whoever makes
    /// them, and waste some work, nothing else.
    pub(super) async fn several_workers_on_one_range(topology: Topology) {
        let (market, desk) = ready(topology).await;
        let sweeps = [
            "backfill --json",
            "backfill --json --parts 3",
            "backfill --json --parts 4 --workers 2",
        ];
        let sweeps = sweeps.map(|line| desk.begin(line));
        let drains = [(); 2].map(|()| desk.begin("drain --follow"));
        for n in 1..60 {
            let sql = format!(
                "UPDATE listings SET title = 'n{n}' WHERE id % 7 = {}",
                n % 7
            );
            market.legacy.run(&sql).await;
        }
        for sweep in sweeps {
            let swept = ended(sweep).await.with(0).json();
            assert_eq!(
                (&swept["passed"], &swept["held"]),
                (&200.into(), &0.into()),
                "{swept}"
            );
        }
        for drain in drains {
            interrupt("INT", &drain).await;
            let drained = ended(drain).await;
            assert!(!drained.err.contains("error: "), "{drained:#?}");
        }
        assert_eq!(desk.status().await["backfill_passed"], 200);
        goes_on(&market, &desk).await;
    }
}
