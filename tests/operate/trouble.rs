//! What goes wrong under a command at work: it says what, or tries again, and when it is mended the same
//! command line goes on. No row is lost, and none is wrong.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::process::Child;

use super::command::{Desk, Ended, ended};
use crate::protocol::market::{Market, Plain, Topology};
use crate::support::{self, postgres::Postgres, watchdog::signal};

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

both!(
    a_table_that_vanishes_is_named,
    a_column_that_vanishes_is_named,
    a_drain_waits_for_a_table,
    several_workers_on_one_range,
    a_full_disk_is_waited_for,
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
async fn goes_on(market: &Market, desk: &Desk) {
    desk.run("backfill").await.with(0);
    desk.run("drain --within 30").await.with(0);
    desk.run("verify").await.with(0);
    market.assert_equal().await;
}

#[track_caller]
fn says(ended: &Ended, words: &[&str]) {
    for word in words {
        assert!(
            ended.err.contains(word),
            "it does not say {word:?}: {ended:#?}"
        );
    }
}

/// A drain that never ends, and what it has said so far.
struct Following {
    drain: Child,
    said: Arc<Mutex<String>>,
}

impl Following {
    fn begin(desk: &Desk) -> Following {
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
    async fn until(&self, words: &[&str]) {
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
    async fn end(self) {
        signal("INT", &[self.drain.id().unwrap()]);
        ended(self.drain).await.with(0);
    }
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
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
        says(
            &refused,
            &["error: ", "the role or its password is refused"],
        );
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
            signal("INT", &[drain.id().unwrap()]);
            let drained = ended(drain).await;
            assert!(!drained.err.contains("error: "), "{drained:#?}");
        }
        assert_eq!(desk.status().await["backfill_passed"], 200);
        goes_on(&market, &desk).await;
    }

    /// The new side's disk is full in the middle of a sweep: it is tried again, and then said. When there
    /// is room, a drain that never ended goes on, and so does the sweep.
    pub(super) async fn a_full_disk_is_waited_for(topology: Topology) {
        let Some(disk) = Disk::mount() else {
            let test = "operate::trouble::a_full_disk_is_waited_for";
            return support::skipped(test, "a file system of its own needs root and mount");
        };
        let (market, _server) = disk.market(topology).await;
        market.fill(3_000).await;
        let desk = Desk::with(&format!(
            "legacy.url = '{}'\nnew.url = '{}'\n[pace]\nduty_percent = 100\n[entity.listings]\n\
             mapping = 'listings.toml'\nbackfill.attempts = 3\nbackfill.page = 100\n\
             # Beside a load nothing would be copied.\nbackfill.load = false\n",
            market.legacy_url, market.new_url
        ));
        desk.run("install").await.with(0);
        disk.fill_up();
        let failed = desk.run("backfill").await.with(3);
        says(&failed, &["error: ", "the disk is full"]);
        let passed = desk.status().await["backfill_passed"].as_u64();
        assert!(passed < Some(3_000), "it was not full: {passed:?}");
        let following = Following::begin(&desk);
        let sql = "UPDATE listings SET title = 'while full', stock = stock + 1";
        market.legacy.run(sql).await;
        following
            .until(&["trying again: ", "the disk is full"])
            .await;
        disk.make_room();
        following.until(&["goes on"]).await;
        until("nothing is dirty", async || market.dirty().await.is_empty()).await;
        following.end().await;
        goes_on(&market, &desk).await;
    }
}

/// A small file system, which goes with this value.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// `None` where nothing may be mounted.
    fn mount() -> Option<Disk> {
        let folder = tempfile::Builder::new()
            .prefix("changeover-disk-")
            .tempdir_in("/tmp")
            .ok()?;
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64m,mode=777", "tmpfs"])
            .arg(folder.path())
            .output();
        mounted
            .is_ok_and(|mounted| mounted.status.success())
            .then_some(Disk { folder })
    }

    fn ballast(&self) -> PathBuf {
        self.folder.path().join("ballast")
    }

    /// Leaves next to nothing.
    fn fill_up(&self) {
        use std::io::Write as _;
        let mut ballast = std::fs::File::create(self.ballast()).unwrap();
        while ballast.write_all(&[1; 4096]).is_ok() {}
        let length = ballast.metadata().unwrap().len();
        ballast.set_len(length.saturating_sub(400_000)).unwrap();
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    /// A market whose new side stands on this disk, and the server that it needs.
    async fn market(&self, topology: Topology) -> (Market, Option<Postgres>) {
        if !topology.is_postgres() {
            let url = |folder: &std::path::Path, name: &str| {
                format!("sqlite://{}?mode=rwc", folder.join(name).display())
            };
            let legacy = tempfile::tempdir().unwrap();
            let urls = (
                url(legacy.path(), "legacy.db"),
                url(self.folder.path(), "new.db"),
            );
            return (
                Market::on(topology, urls.0, urls.1, Some(legacy)).await,
                None,
            );
        }
        // Its log is elsewhere: a server without room for that stops.
        let server = Postgres::start();
        server.create_database("legacy").await;
        let plain = Plain::open(&server.url("postgres")).await;
        let room = self.folder.path().join("space");
        std::fs::create_dir(&room).unwrap();
        let owner =
            std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(server.folder()).unwrap());
        std::os::unix::fs::chown(&room, Some(owner), None).unwrap();
        let space = format!("CREATE TABLESPACE small LOCATION '{}'", room.display());
        plain.run(&space).await;
        plain
            .run("CREATE DATABASE new TEMPLATE template0 TABLESPACE small")
            .await;
        let urls = (server.url("legacy"), server.url("new"));
        (
            Market::on(topology, urls.0, urls.1, None).await,
            Some(server),
        )
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever still has a file open here does not keep it from going.
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.folder.path())
            .output();
    }
}
