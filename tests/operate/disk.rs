//! A disk without room under a command at work.

use std::path::PathBuf;

use super::command::Desk;
use super::trouble::{Following, goes_on, says, until};
use crate::protocol::market::{Market, Plain, Topology};
use crate::support::{self, postgres::Postgres};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_waited_for_on_sqlite() {
    scenario::a_full_disk_is_waited_for(Topology::SqliteTwoFiles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_waited_for_on_postgres() {
    scenario::a_full_disk_is_waited_for(Topology::PostgresTwoDatabases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_a_load_is_said_and_the_load_goes_on() {
    scenario::a_full_disk_under_a_load(Topology::PostgresTwoDatabases).await;
}

/// A small market with this much history, installed.
async fn ready(disk: &Disk, topology: Topology, config: &str) -> (Market, Desk, Option<Postgres>) {
    let (market, server) = disk.market(topology).await;
    market.fill(3_000).await;
    let desk = Desk::with(&format!(
        "legacy.url = '{}'\nnew.url = '{}'\n[pace]\nduty_percent = 100\n[entity.listings]\n\
         mapping = 'listings.toml'\nbackfill.attempts = 3\nbackfill.page = 100\n{config}",
        market.legacy_url, market.new_url
    ));
    desk.run("install").await.with(0);
    (market, desk, server)
}

mod scenario {
    use super::*;

    /// The new side's disk is full in the middle of a sweep: it is tried again, and then said. When there
    /// is room, a drain that never ended goes on, and so does the sweep.
    pub(super) async fn a_full_disk_is_waited_for(topology: Topology) {
        let Some(disk) = Disk::mount() else {
            let test = "operate::disk::a_full_disk_is_waited_for";
            return support::skipped(test, "a file system of its own needs root and mount");
        };
        // Beside a load nothing would be copied.
        let copies = "backfill.load = false\n";
        let (market, desk, _server) = ready(&disk, topology, copies).await;
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

    /// By the default sweep, which writes with `COPY`.
    pub(super) async fn a_full_disk_under_a_load(topology: Topology) {
        let Some(disk) = Disk::mount() else {
            let test = "operate::disk::a_full_disk_under_a_load_is_said_and_the_load_goes_on";
            return support::skipped(test, "a file system of its own needs root and mount");
        };
        let (market, desk, _server) = ready(&disk, topology, "").await;
        disk.fill_up();
        let failed = desk.run("backfill").await.with(3);
        says(&failed, &["error: ", "the disk is full"]);
        let status = desk.status().await;
        let passed = status["backfill_passed"].as_u64();
        assert!(passed < Some(3_000), "it was not full: {status}");
        let held = "SELECT CAST(count(*) AS text) FROM service_listings";
        let held = market.new.text(held).await.parse().ok();
        assert_eq!(held, passed, "rows without their cursor: {status}");
        let sql = "UPDATE listings SET title = 'while full', stock = stock + 1 WHERE id % 2 = 0";
        market.legacy.run(sql).await;
        let again = desk.run("backfill").await.with(3);
        says(&again, &["error: ", "the disk is full"]);
        disk.make_room();
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
