//! The marketplace, the shipped binary at work on it, the strikes, and the judgement.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::process::Child;
use tokio::task::block_in_place;

use super::writers::{Tally, Writers};
use crate::kill::sample::{self, Seen};
use crate::operate::command::{Desk, Ended, ended};
use crate::protocol::market::{Market, Topology};
use crate::support::{self, postgres::Postgres};

/// How the worker is run.
#[derive(Clone, Copy)]
pub struct Lines {
    /// What sweeps history, run again until it ends with exit code 0.
    pub sweep: &'static str,
    /// What the configuration says of the entity beside its mapping.
    pub config: &'static str,
}

/// The default sweep.
pub const BACKFILL: Lines = Lines {
    sweep: "backfill",
    config: "backfill.page = 60",
};

/// Beside every sweep, all the time.
const DRAIN: &str = "drain --follow";

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Struck {
    Worker,
    Server,
}

pub const TENANTS: i64 = 20;

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Strikes of a run that have to land.
pub fn strikes() -> u64 {
    match std::env::var("CHANGEOVER_STRIKES") {
        Ok(strikes) => strikes.parse().unwrap(),
        Err(_) if support::fast() => 3,
        Err(_) => 20,
    }
}

fn rows() -> i64 {
    if support::fast() { 900 } else { 3_000 }
}

/// Where everything is, by plain SQL.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// Keys that the sweep has passed.
    passed: i64,
    swept: bool,
    dirty: i64,
}

/// One process, and what was so when it began.
struct Life {
    process: Child,
    began: Place,
}

#[derive(Debug, Default)]
struct Figures {
    lives: u64,
    landed: BTreeMap<&'static str, u64>,
    missed: u64,
    ended: Vec<String>,
}

pub struct Stand {
    market: Market,
    desk: Desk,
    lines: Lines,
    struck: Struck,
    servers: Vec<Postgres>,
    rng: SmallRng,
    writers: Writers,
    sweep: Option<Life>,
    drain: Option<Life>,
    last: Place,
    seen: Seen,
    figures: Figures,
    problems: Vec<String>,
    began: Instant,
}

impl Stand {
    /// A marketplace with some thousand rows, installed, with writers at it and no worker yet.
    pub async fn new(topology: Topology, struck: Struck, lines: Lines) -> Stand {
        let seed = support::seed();
        let (market, servers) = match struck {
            Struck::Worker => (Market::start(topology).await, Vec::new()),
            Struck::Server => on_servers(topology).await,
        };
        fill(&market, rows()).await;
        let (legacy, new) = (&market.legacy_url, &market.new_url);
        let desk = Desk::with(&format!(
            "legacy.url = '{legacy}'\nnew.url = '{new}'\n[pace]\nduty_percent = 100\n\
             [entity.listings]\nmapping = 'listings.toml'\ndrain.batch = 40\n{}\n",
            lines.config
        ));
        desk.run("install").await.with(0);
        let writers = Writers::begin(&market.legacy_url, rows(), seed).await;
        Stand {
            market,
            desk,
            lines,
            struck,
            servers,
            rng: SmallRng::seed_from_u64(seed),
            writers,
            sweep: None,
            drain: None,
            last: Place::default(),
            seen: Seen::default(),
            figures: Figures::default(),
            problems: Vec::new(),
            began: Instant::now(),
        }
    }

    /// One strike that lands in the `part`th of `parts` of history.
    pub async fn strike_the_sweep(&mut self, part: u64, parts: u64) {
        loop {
            self.start_all().await;
            let whole = rows() as f64 * 0.9;
            let share = (part as f64 + self.rng.random_range(0.0..1.0)) / parts as f64;
            let target = (whole * share) as i64;
            self.until(|at| at.swept || at.passed >= target).await;
            self.pause().await;
            let victims = match self.rng.random_range(0..5) {
                0..3 => [true, false],
                3 => [true, true],
                _ => [false, true],
            };
            let before = self.sweep.as_ref().map_or(0, |life| life.began.passed);
            let alive = self.strike(victims).await;
            let at = self.look().await;
            assert!(
                !at.swept,
                "history is too short for these strikes: {:?}",
                self.figures
            );
            if alive && (at.passed > before || victims == [false, true]) {
                *self.figures.landed.entry("sweep").or_default() += 1;
                return;
            }
            self.figures.missed += 1;
            self.patient();
        }
    }

    /// One strike that lands while what a burst of writes left is being copied.
    pub async fn strike_the_drain(&mut self) {
        loop {
            self.start_all().await;
            let burst = format!(
                "UPDATE listings SET stock = stock + 1000 WHERE id % 9 = {}",
                self.rng.random_range(0..9)
            );
            self.write(&burst).await;
            if self.rng.random_ratio(1, 3) {
                let rename = format!(
                    "UPDATE tenants SET name = name || '.' WHERE id = {}",
                    self.rng.random_range(1..=TENANTS)
                );
                self.write(&rename).await;
            }
            let dirty = self.place().await.dirty as f64;
            let target = (dirty * self.rng.random_range(0.2..0.9)) as i64;
            self.until(|at| at.dirty <= target).await;
            self.pause().await;
            let alive = self.strike([false, true]).await;
            if alive && self.look().await.dirty > 0 {
                *self.figures.landed.entry("drain").or_default() += 1;
                return;
            }
            self.figures.missed += 1;
            self.patient();
        }
    }

    /// A write of many rows, which may take rows in another order than a writer does.
    async fn write(&self, sql: &str) {
        while let Err(error) = self.market.legacy.try_run(sql).await {
            let code = error.as_database_error().and_then(|error| error.code());
            assert_eq!(code.as_deref(), Some("40P01"), "{sql}: {error}");
        }
    }

    /// Lets the sweep come to its end.
    pub async fn until_swept(&mut self) {
        loop {
            self.start_all().await;
            if self.place().await.swept && self.sweep.is_none() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Up to a page's time, so that a strike falls anywhere in it.
    async fn pause(&mut self) {
        let micros = self.rng.random_range(0..60_000);
        tokio::time::sleep(Duration::from_micros(micros)).await;
    }

    /// Kills the worker's processes (sweep, drain), or servers. False where nobody was there.
    async fn strike(&mut self, victims: [bool; 2]) -> bool {
        if self.struck == Struck::Server {
            let all = self.rng.random_ratio(1, 3);
            let one = self.rng.random_range(0..self.servers.len());
            let chosen = |(n, _): &(usize, &Postgres)| all || *n == one;
            let down: Vec<_> = self.servers.iter().enumerate().filter(chosen).collect();
            block_in_place(|| {
                down.iter().for_each(|(_, server)| server.kill9());
                down.iter().for_each(|(_, server)| server.restart());
            });
            return true;
        }
        let mut alive = true;
        for (life, _) in [&mut self.sweep, &mut self.drain]
            .into_iter()
            .zip(victims)
            .filter(|(_, chosen)| *chosen)
        {
            let Some(mut life) = life.take() else {
                alive = false;
                continue;
            };
            // One that had ended by itself is no strike; what it said is read by nobody, since the
            // next life ends like it.
            alive &= life.process.try_wait().unwrap().is_none();
            life.process.kill().await.unwrap();
        }
        alive
    }

    /// Starts whoever is not running.
    async fn start_all(&mut self) {
        let began = self.place().await;
        for sweeps in [true, false] {
            let life = if sweeps {
                &mut self.sweep
            } else {
                &mut self.drain
            };
            if let Some(there) = life {
                if there.process.try_wait().unwrap().is_none() {
                    continue;
                }
                let there = life.take().unwrap();
                self.ended(ended(there.process).await, sweeps, began);
            }
            if sweeps && began.swept {
                continue;
            }
            let line = if sweeps { self.lines.sweep } else { DRAIN };
            let process = self.desk.begin(line);
            self.figures.lives += 1;
            let life = if sweeps {
                &mut self.sweep
            } else {
                &mut self.drain
            };
            *life = Some(Life { process, began });
        }
    }

    /// A process that ended by itself: it was done, or its server was away and it says so.
    fn ended(&mut self, ended: Ended, sweeps: bool, at: Place) {
        let line = if sweeps { self.lines.sweep } else { DRAIN };
        let away =
            self.struck == Struck::Server && ended.code == Some(3) && ended.err.contains("error: ");
        let done = sweeps && at.swept && matches!(ended.code, Some(0 | 1));
        self.figures
            .ended
            .push(format!("{line}: {:?} {}", ended.code, ended.err.trim()));
        if !away && !done {
            self.problems
                .push(format!("{line} ended at {at:?}: {ended:?}"));
        }
    }

    async fn until(&mut self, mut there: impl FnMut(&Place) -> bool) {
        let began = Instant::now();
        let mut rounds = 0;
        loop {
            let at = self.place().await;
            self.writers.near.store(at.passed, Ordering::Relaxed);
            if there(&at) {
                return;
            }
            rounds += 1;
            if rounds % 50 == 0 {
                self.start_all().await;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "nothing moves: {at:?}, {:?}",
                self.figures
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn patient(&self) {
        let patience = PATIENCE * u32::try_from(strikes()).unwrap();
        assert!(
            self.began.elapsed() < patience,
            "strikes miss: {:?}",
            self.figures
        );
    }

    async fn place(&self) -> Place {
        let new = "SELECT CAST(passed AS text) || CASE WHEN done THEN ' done' ELSE '' END \
                   FROM changeover_backfill WHERE entity = 'listings' AND place = 'new'";
        let legacy = "SELECT CAST(count(*) AS text) FROM changeover_key \
                      WHERE entity = 'listings' AND place = 'legacy' AND synced < version";
        let new = self.market.new.text(new).await;
        let (passed, done) = new.split_once(' ').unwrap_or((&new, ""));
        Place {
            passed: passed.parse().unwrap_or(0),
            swept: done == "done",
            dirty: self.market.legacy.text(legacy).await.parse().unwrap(),
        }
    }

    /// What holds at every moment: nothing goes back, and what is not dirty agrees.
    async fn look(&mut self) -> Place {
        let at = self.place().await;
        if at.passed < self.last.passed || (self.last.swept && !at.swept) {
            self.problems
                .push(format!("the cursor went from {:?} to {at:?}", self.last));
        }
        self.last = at;
        sample::look(&self.market.legacy, &self.market.new, &mut self.seen).await;
        at
    }

    /// Everything is over: history is swept and drained by command, and plain SQL compares.
    pub async fn judge(mut self) -> Verdict {
        self.writers.end().await;
        let tally = self.writers.tally();
        if let Some(mut drain) = self.drain.take() {
            drain.process.kill().await.unwrap();
        }
        let settling = Instant::now();
        let swept = self.desk.run(&format!("{} --json", self.lines.sweep)).await;
        let drained = self.desk.run("drain --within 60").await;
        let verified = self.desk.run("verify --json").await;
        let settling = settling.elapsed();
        for (line, ended) in [
            ("sweep", &swept),
            ("drain", &drained),
            ("verify", &verified),
        ] {
            // A sweep says with 1 that keys wait, which the drain then copies.
            if ended.code != Some(0) && !(line == "sweep" && ended.code == Some(1)) {
                self.problems.push(format!("{line} at the end: {ended:?}"));
            }
        }
        self.look().await;
        self.sane(&swept, &verified, &tally).await;
        self.compare().await;
        let seen = std::mem::take(&mut self.seen);
        self.problems
            .extend(seen.problems.iter().map(|one| format!("sampled: {one}")));
        self.problems.extend(
            tally
                .refused
                .iter()
                .map(|one| format!("a write was refused: {one}")),
        );
        let report = format!(
            "{:?}, {:?} struck: {:?}, {:.1} s; {tally:?}; {} samples, {} compared at equal versions, \
             {} behind, held {:?}; settled in {settling:.1?}",
            self.market.topology,
            self.struck,
            self.figures,
            self.began.elapsed().as_secs_f64(),
            seen.samples,
            seen.compared,
            seen.behind,
            seen.holds,
        );
        Verdict {
            problems: self.problems,
            landed: self.figures.landed.values().sum(),
            compared: seen.compared,
            written: tally.confirmed(),
            report,
        }
    }

    /// What the commands report is what can be.
    async fn sane(&mut self, swept: &Ended, verified: &Ended, tally: &Tally) {
        let at = self.place().await;
        let rows = u64::try_from(rows()).unwrap();
        // A key is passed once, however often its page was; one that was deleted before may be missing,
        // one that was inserted meanwhile may be there.
        let possible = rows.saturating_sub(tally.deleted)..=rows + tally.inserted + 3;
        let swept = swept.json();
        let passed = swept["passed"].as_u64().unwrap_or(0);
        if !at.swept || at.dirty > 0 || !possible.contains(&passed) || passed != at.passed as u64 {
            self.problems.push(format!(
                "{passed} passed, possible {possible:?}: {at:?}, {swept}"
            ));
        }
        if swept["recorded"] != true || swept["keys"] != 0 {
            self.problems
                .push(format!("a sweep after the sweep: {swept}"));
        }
        let verified = verified.json();
        let there = self
            .market
            .legacy
            .text("SELECT CAST(count(*) AS text) FROM listings")
            .await;
        let there: u64 = there.parse().unwrap();
        if verified["clean"] != true || verified["compared"].as_u64() < Some(there) {
            self.problems
                .push(format!("verify of {there} rows: {verified}"));
        }
    }

    async fn compare(&mut self) {
        let (legacy, new) = self.market.both().await;
        let problem = format!("{} rows in legacy, {} in new", legacy.len(), new.len());
        let only = |a: &[String], b: &[String]| {
            let b: std::collections::BTreeSet<_> = b.iter().collect();
            a.iter()
                .filter(|row| !b.contains(row))
                .take(3)
                .cloned()
                .collect::<Vec<_>>()
        };
        if legacy != new || (legacy.len() as i64) < rows() / 2 {
            let (lost, added) = (only(&legacy, &new), only(&new, &legacy));
            self.problems.push(format!(
                "plain SQL: {problem}; in legacy alone {lost:?}, in new alone {added:?}"
            ));
        }
    }
}

/// What a run came to.
pub struct Verdict {
    /// Everything that was found wrong.
    pub problems: Vec<String>,
    landed: u64,
    compared: u64,
    written: u64,
    report: String,
}

impl Verdict {
    /// # Panics
    /// When anything was wrong, when fewer than `strikes` landed, or when next to nothing happened.
    pub fn expect_clean(self, strikes: u64) {
        println!("{}", self.report);
        let first = &self.problems[..self.problems.len().min(10)];
        assert!(
            self.problems.is_empty(),
            "{} problems: {first:#?}\n{}",
            self.problems.len(),
            self.report
        );
        assert_eq!(self.landed, strikes, "{}", self.report);
        assert!(
            self.compared > 100 * strikes && self.written > 10 * strikes,
            "hardly anything happened: {}",
            self.report
        );
    }
}

/// A marketplace on servers of its own, one for each database.
async fn on_servers(topology: Topology) -> (Market, Vec<Postgres>) {
    let count = if topology == Topology::PostgresTwoDatabases {
        2
    } else {
        1
    };
    let servers: Vec<_> = (0..count)
        .map(|_| block_in_place(Postgres::start))
        .collect();
    for server in &servers {
        server.create_database("market").await;
    }
    let urls = [servers.first(), servers.last()].map(|server| server.unwrap().url("market"));
    let [legacy, new] = urls;
    (Market::on(topology, legacy, new, None).await, servers)
}

/// Some thousand rows of history, with children.
async fn fill(market: &Market, rows: i64) {
    let upto = |n: i64| {
        format!("WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {n})")
    };
    let tenants = upto(TENANTS);
    let more = "SELECT n, 'Tenant ' || n FROM n WHERE n > 2";
    market
        .legacy
        .run(&format!("{tenants} INSERT INTO tenants {more}"))
        .await;
    let more = "SELECT n + 100, n FROM n WHERE n > 2";
    market
        .new
        .run(&format!("{tenants} INSERT INTO providers {more}"))
        .await;
    let rows = upto(rows);
    let listings = format!(
        "INSERT INTO listings (id, tenant_id, title, status, house, price, stock, sku) \
         SELECT n, 1 + n % {TENANTS}, CASE WHEN n % 5 > 0 THEN 'Título ' || n END, 'ACTIVE ', \
         CASE WHEN n % 3 > 0 THEN ' House ' || (n % 17) || ' ' END, n + 0.25, n, 'sku-' || n FROM n"
    );
    let photos = "INSERT INTO photos SELECT id * 2, id, 'u' || id FROM listings WHERE id % 4 = 0; \
                  INSERT INTO photos SELECT id * 2 + 1, id, 'w' || id FROM listings WHERE id % 8 = 0";
    market
        .legacy
        .run(&format!("{rows} {listings}; {photos}"))
        .await;
}
