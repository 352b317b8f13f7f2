//! The command line as an operator runs it: the shipped binary, a configuration, real databases.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::process::interrupt;
use crate::protocol::market::{MAPPING, Market, Topology};

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    #[track_caller]
    pub fn with(self, code: i32) -> Ended {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    pub fn json(&self) -> Json {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// A folder with a configuration of a market's migration.
pub struct Desk {
    folder: TempDir,
}

impl Desk {
    pub fn of(market: &Market) -> Desk {
        Desk::with(&format!(
            "legacy.url = '{}'\nnew.url = '{}'\n[entity.listings]\nmapping = 'listings.toml'\n\
             backfill.page = 10\nbackfill.load_page = 10\n",
            market.legacy_url, market.new_url
        ))
    }

    pub fn with(config: &str) -> Desk {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("changeover.toml"), config).unwrap();
        std::fs::write(folder.path().join("listings.toml"), MAPPING).unwrap();
        Desk { folder }
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    pub fn begin(&self, line: &str) -> Child {
        self.command(line).spawn().unwrap()
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_changeover")));
        command
            .args(line.split_whitespace())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// The same with a log on stderr.
    pub async fn logged(&self, line: &str, log: &str) -> Ended {
        ended(
            self.command(line)
                .env("CHANGEOVER_LOG", log)
                .spawn()
                .unwrap(),
        )
        .await
    }

    pub async fn run(&self, line: &str) -> Ended {
        ended(self.begin(line)).await
    }

    /// What `status` says of the one entity.
    pub async fn status(&self) -> Json {
        let answer = self.run("status --json").await.with(0).json();
        answer["entities"][0]["installed"].clone()
    }

    /// Begins a slow backfill and answers it when some pages have passed.
    pub async fn slow_backfill(&self, options: &str) -> Child {
        let before = self.status().await["backfill_passed"].as_u64();
        let child = self.begin(&format!("backfill --rate 10 {options}"));
        for _ in 0..2_000 {
            if self.status().await["backfill_passed"].as_u64() > before {
                return child;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("no page has passed");
    }
}

pub async fn ended(child: Child) -> Ended {
    let ended = child.wait_with_output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended {
        code: ended.status.code(),
        out: text(ended.stdout),
        err: text(ended.stderr),
    }
}

/// Changes a row of the new side as somebody would who goes past its guards.
pub async fn forge(market: &Market, sql: &str) {
    market.new.force(sql).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_by_commands_alone_on_sqlite() {
    a_migration_by_commands_alone(Topology::SqliteTwoFiles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_by_commands_alone_on_postgres() {
    a_migration_by_commands_alone(Topology::PostgresTwoDatabases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_by_commands_alone_between_engines() {
    for topology in [
        Topology::PostgresToSqlite,
        Topology::SqliteToPostgres,
        Topology::MariadbToPostgres,
        Topology::MariadbTwoDatabases,
    ] {
        a_migration_by_commands_alone(topology).await;
    }
}

async fn a_migration_by_commands_alone(topology: Topology) {
    let market = Market::start(topology).await;
    market.fill(200).await;
    let desk = Desk::of(&market);
    assert!(desk.status().await.is_null(), "nothing is installed");
    desk.run("backfill").await.with(1);

    let planned = desk.run("install --dry-run").await.with(0).out;
    assert!(planned.contains("changeover_epoch") && desk.status().await.is_null());
    desk.run("install --stamps-only").await.with(0);
    assert_eq!(desk.status().await["stage"], "legacy");
    let refused = desk.run("backfill").await.with(1);
    assert!(refused.err.contains("copying has not begun"), "{refused:?}");
    desk.run("install").await.with(0);
    assert_eq!(desk.status().await["stage"], "dual-write");

    // Killed in the middle of history, with writes before and after.
    let mut child = desk.slow_backfill("").await;
    market
        .legacy
        .run("UPDATE listings SET title = 'early' WHERE id < 5")
        .await;
    child.kill().await.unwrap();
    let passed = desk.status().await["backfill_passed"].as_u64().unwrap();
    assert!((1..200).contains(&passed), "{passed}");
    market
        .legacy
        .run("DELETE FROM photos WHERE listing_id = 3; DELETE FROM listings WHERE id = 3")
        .await;
    let dry = desk.run("backfill --dry-run").await.with(0);
    assert!(dry.out.contains("nothing was written"), "{dry:?}");
    assert_eq!(
        desk.status().await["backfill_passed"].as_u64(),
        Some(passed)
    );
    let swept = desk.run("backfill --json").await.with(0).json();
    assert_eq!(swept["recorded"], true);
    assert!(swept["keys"].as_u64() < Some(200), "it went on: {swept}");
    desk.run("drain --within 30").await.with(0);
    let clean = desk.run("verify --json").await.with(0).json();
    assert_eq!(
        (&clean["clean"], &clean["backfilled"]),
        (&true.into(), &true.into())
    );
    market.assert_equal().await;
    let status = desk.status().await;
    assert_eq!(
        (&status["verified"], &status["dirty"]),
        (&true.into(), &0.into())
    );

    // Somebody changes the new side behind everybody's back.
    forge(
        &market,
        "UPDATE service_listings SET title = 'forged' WHERE legacy_id IN (7, 8)",
    )
    .await;
    let found = desk.run("verify --json").await.with(1);
    assert_eq!(found.json()["classes"]["divergent"], 2);
    assert_eq!(
        desk.status().await["verified"],
        false,
        "the evidence is gone"
    );
    assert!(!found.out.contains("forged"), "values are redacted");
    std::fs::write(desk.path("found.json"), &found.out).unwrap();
    let dry = desk
        .run("repair --report found.json --dry-run --json")
        .await
        .with(0)
        .json();
    assert_eq!(dry["touched"], serde_json::json!(["7", "8"]));
    desk.run("verify").await.with(1);
    desk.run("repair --report found.json").await.with(0);
    desk.run("verify").await.with(0);
    market.assert_equal().await;

    another_revision(&market, &desk).await;

    desk.run("uninstall --dry-run").await.with(0);
    desk.run("uninstall").await.with(2);
    assert!(!desk.status().await.is_null());
    desk.run("uninstall --yes").await.with(0);
    assert!(desk.status().await.is_null());
    market
        .legacy
        .run("UPDATE listings SET title = 'free'")
        .await;
    forget_guards(&market).await;
}

/// Another mapping is another revision, and nobody gets it by accident.
async fn another_revision(market: &Market, desk: &Desk) {
    let changed = MAPPING
        .replace("revision = 1", "revision = 2")
        .replace("\"l.title\"", "\"upper(l.title)\"");
    std::fs::write(desk.path("listings.toml"), changed).unwrap();
    let refused = desk.run("backfill").await.with(1);
    let refused = refused.err + &desk.run("install").await.with(1).err;
    assert!(refused.contains("install --raise"), "{refused}");
    desk.run("install --raise").await.with(0);
    let status = desk.status().await;
    assert_eq!(
        (&status["mapping_revision"], &status["verified"]),
        (&2.into(), &false.into())
    );
    desk.run("backfill").await.with(0);
    desk.run("drain --within 30").await.with(0);
    desk.run("verify").await.with(0);
    let title = "SELECT title FROM service_listings WHERE legacy_id = 6";
    let title = market.new.text(title).await;
    assert!(title.contains("TULO"), "{title}");
}

/// Without guards the new side takes anybody's writes.
async fn forget_guards(market: &Market) {
    market
        .new
        .run("UPDATE service_listings SET title = 'free'")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_backfill_says_that_it_goes_on() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    market.fill(200).await;
    let desk = Desk::of(&market);
    desk.run("install").await.with(0);
    let child = desk.slow_backfill("").await;
    interrupt("INT", &child).await;
    let stopped = ended(child).await.with(130);
    assert!(
        stopped.err.contains("goes on from where it stopped"),
        "{stopped:?}"
    );
    desk.run("backfill").await.with(0);
    market.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_keys_are_named_with_their_reason_and_the_exit_code_says_so() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    market.fill(20).await;
    market
        .legacy
        .run("UPDATE listings SET status = 'forbidden' WHERE id = 9")
        .await;
    let desk = Desk::of(&market);
    desk.run("preview").await.with(1);
    desk.run("install").await.with(0);
    let swept = desk.run("backfill").await.with(1);
    assert!(swept.err.contains("1 keys are held back"), "{swept:?}");
    let status = desk.status().await;
    assert_eq!(
        (&status["held"][0]["key"], &status["blocked"]),
        (&"9".into(), &1.into())
    );
    desk.run("drain --within 1").await.with(1);
    desk.run("verify").await.with(1);
    market
        .legacy
        .run("UPDATE listings SET status = 'active' WHERE id = 9")
        .await;
    desk.run("drain --within 30").await.with(0);
    desk.run("verify").await.with(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preview_names_what_cannot_be_carried_and_writes_nothing_on_sqlite() {
    a_preview_names_what_cannot_be_carried_and_writes_nothing(Topology::SqliteTwoFiles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preview_names_what_cannot_be_carried_and_writes_nothing_on_postgres() {
    let topology = Topology::PostgresTwoDatabases;
    a_preview_names_what_cannot_be_carried_and_writes_nothing(topology).await;
}

async fn a_preview_names_what_cannot_be_carried_and_writes_nothing(topology: Topology) {
    let market = Market::start(topology).await;
    market.fill(40).await;
    if topology.is_postgres() {
        // What is only refused by a commit is found as well.
        market
            .new
            .run(
                "ALTER TABLE service_listings ADD COLUMN seller bigint GENERATED ALWAYS AS (provider_id + CASE WHEN title = 'late' THEN 1000 ELSE 0 END) STORED, \
                 ADD CONSTRAINT late FOREIGN KEY (seller) REFERENCES providers DEFERRABLE INITIALLY DEFERRED",
            )
            .await;
        market
            .legacy
            .run("UPDATE listings SET title = 'late' WHERE id = 30")
            .await;
    }
    market
        .legacy
        .run("UPDATE listings SET status = 'forbidden' WHERE id IN (9, 17)")
        .await;
    market
        .legacy
        .run("INSERT INTO tenants VALUES (3, 'nobody''s'); UPDATE listings SET tenant_id = 3 WHERE id = 21")
        .await;
    let desk = Desk::of(&market);
    desk.run("preview").await.with(1);
    desk.run("install --stamps-only").await.with(0);
    let found = desk.run("preview --json").await.with(1).json();
    assert_eq!(found["tried"], 40, "{found}");
    let late = usize::from(topology.is_postgres());
    assert_eq!(found["carried"], 37 - late, "{found}");
    let obstacles = found["obstacles"].as_array().unwrap();
    assert_eq!(obstacles.len(), 2 + late, "{found}");
    assert_eq!(
        obstacles[0]["samples"],
        serde_json::json!(["9", "17"]),
        "{found}"
    );
    let waits = |of: &Json| of["waits"] == true && of["samples"] == serde_json::json!(["21"]);
    assert!(obstacles.iter().any(waits), "{found}");
    assert!(
        late == 0
            || obstacles
                .iter()
                .any(|of| of["samples"] == serde_json::json!(["30"]))
    );
    let few = desk.run("preview --keys 8 --json").await.with(0).json();
    assert_eq!((&few["tried"], &few["clear"]), (&8.into(), &true.into()));

    let counted = "SELECT CAST((SELECT count(*) FROM service_listings) + (SELECT count(*) FROM addresses) \
                   + (SELECT count(*) FROM changeover_key WHERE place = 'new') AS text)";
    assert_eq!(market.new.text(counted).await, "0", "nothing was written");
    let status = desk.status().await;
    assert_eq!(
        (&status["stage"], &status["backfill_passed"]),
        (&"legacy".into(), &0.into())
    );
    market
        .legacy
        .run("UPDATE listings SET status = 'active', tenant_id = 1, title = 'ok'")
        .await;
    desk.run("preview").await.with(0);
    desk.run("install").await.with(0);
    desk.run("backfill").await.with(0);
    desk.run("drain").await.with(0);
    desk.run("verify").await.with(0);
    market.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_used_is_said_before_anything_is_written() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    let nowhere = tempfile::tempdir().unwrap();
    let missing = nowhere.path().join("none.toml");
    let desk = Desk::of(&market);
    let refused = desk
        .run(&format!("install -c {}", missing.display()))
        .await
        .with(2);
    assert!(refused.err.contains("none.toml") && refused.err.contains("--config"));
    let refused = desk.run("install products").await.with(2);
    assert!(refused.err.contains("listings"), "{refused:?}");
    let refused = desk.run("repair").await.with(2);
    assert!(refused.err.contains("--report"), "{refused:?}");

    std::fs::write(
        desk.path("listings.toml"),
        MAPPING.replace("l.sku", "l.skew"),
    )
    .unwrap();
    let refused = desk.run("install").await.with(1);
    assert!(refused.err.contains("skew") && refused.err.contains("nothing was written"));
    assert!(
        market
            .legacy
            .texts("SELECT name FROM sqlite_schema WHERE name LIKE 'changeover%'")
            .await
            .is_empty()
    );

    let away = Desk::with(
        "legacy.url = 'postgres://nobody@127.0.0.1:1/none'\nnew.url = 'sqlite:none.db'\n\
         [entity.listings]\nmapping = 'listings.toml'\n",
    );
    away.run("status").await.with(3);
    let typo = Desk::with("legacy.url = 'a'\nnew.url = 'b'\n[entity.listings]\nmaping = 'x'\n");
    let refused = typo.run("status").await.with(2);
    assert!(refused.err.contains("maping"), "{refused:?}");
}
