//! The marketplace, the shipped binary at work on it, the strikes, and the judgement.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::process::Child;
use tokio::task::block_in_place;

use super::writers::Writers;
use crate::kill::sample::{self, Seen};
use crate::kill::strikes;
use crate::operate::command::{Desk, Ended, ended};
use crate::protocol::market::{Market, Topology};
use crate::protocol::plain::Engine;
use crate::support::{self, mariadb::Mariadb, postgres::Postgres};

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

pub(super) fn rows() -> i64 {
    if support::fast() { 1_200 } else { 3_000 }
}

/// Where everything is, by plain SQL.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    /// Keys that the sweep has passed.
    pub(super) passed: i64,
    pub(super) swept: bool,
    pub(super) dirty: i64,
}

/// A server of a run's own.
pub(super) enum Server {
    Postgres(Postgres),
    Mariadb(Mariadb),
}

impl Server {
    fn start(engine: Engine) -> Server {
        match engine {
            Engine::Postgres => Server::Postgres(Postgres::start()),
            Engine::Mariadb => Server::Mariadb(Mariadb::start()),
            Engine::Sqlite => panic!("SQLite has no server"),
        }
    }

    async fn database(&self, name: &str) -> String {
        match self {
            Server::Postgres(server) => {
                server.create_database(name).await;
                server.url(name)
            }
            Server::Mariadb(server) => {
                server.create_database(name).await;
                server.url(name)
            }
        }
    }

    fn kill9(&self) {
        match self {
            Server::Postgres(server) => server.kill9(),
            Server::Mariadb(server) => server.kill9(),
        }
    }

    fn restart(&self) {
        match self {
            Server::Postgres(server) => server.restart(),
            Server::Mariadb(server) => server.restart(),
        }
    }
}

/// One process, and what was so when it began.
pub(super) struct Life {
    pub(super) process: Child,
    pub(super) began: Place,
}

#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) lives: u64,
    pub(super) landed: BTreeMap<&'static str, u64>,
    pub(super) missed: u64,
    pub(super) ended: Vec<String>,
}

pub struct Stand {
    pub(super) market: Market,
    pub(super) desk: Desk,
    pub(super) lines: Lines,
    pub(super) struck: Struck,
    pub(super) servers: Vec<Server>,
    pub(super) rng: SmallRng,
    pub(super) writers: Writers,
    pub(super) sweep: Option<Life>,
    pub(super) drain: Option<Life>,
    pub(super) last: Place,
    pub(super) seen: Seen,
    pub(super) figures: Figures,
    pub(super) problems: Vec<String>,
    pub(super) began: Instant,
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

    /// One strike that lands in the `part`th of `parts` of history; at the drain, where a slow machine
    /// strikes after its end.
    pub async fn strike_the_sweep(&mut self, part: u64, parts: u64) {
        loop {
            self.start_all().await;
            // Behind it there is time for a machine that is slow to strike.
            let whole = rows() as f64 * 0.6;
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
            if at.swept {
                self.figures.missed += 1;
                return self.strike_the_drain().await;
            }
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
            let lost = matches!(code.as_deref(), Some("40P01" | "40001"));
            assert!(lost, "{sql}: {error}");
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
            let chosen = |(n, _): &(usize, &Server)| all || *n == one;
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
            let calm = began.elapsed() > PATIENCE / 6;
            self.writers.calm.store(calm, Ordering::Relaxed);
            if there(&at) {
                self.writers.calm.store(false, Ordering::Relaxed);
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
            tokio::time::sleep(Duration::from_millis(4)).await;
        }
    }

    fn patient(&self) {
        let patience = PATIENCE * u32::try_from(strikes(self.market.topology)).unwrap();
        assert!(
            self.began.elapsed() < patience,
            "strikes miss: {:?}",
            self.figures
        );
    }

    pub(super) async fn place(&self) -> Place {
        let new = "SELECT CAST(COALESCE(sum(passed), 0) AS text) || CASE WHEN count(*) > 0 \
                   AND sum(CASE WHEN done THEN 0 ELSE 1 END) = 0 THEN ' done' ELSE '' END \
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

    /// What holds at every moment: nothing goes back, and what is not dirty agrees. A server that is killed
    /// may take the last pages of a load back, rows and cursor together: they are flushed at its end.
    pub(super) async fn look(&mut self) -> Place {
        let at = self.place().await;
        let back = at.passed < self.last.passed && self.struck == Struck::Worker;
        if back || (self.last.swept && !at.swept) {
            self.problems
                .push(format!("the cursor went from {:?} to {at:?}", self.last));
        }
        self.last = at;
        sample::look(&self.market.legacy, &self.market.new, &mut self.seen).await;
        at
    }
}

/// A marketplace on servers of its own, one for each database.
async fn on_servers(topology: Topology) -> (Market, Vec<Server>) {
    let mut engines = vec![topology.legacy_engine()];
    if !topology.is_one_database() {
        engines.push(topology.new_engine());
    }
    let servers: Vec<_> = engines
        .into_iter()
        .map(|engine| block_in_place(|| Server::start(engine)))
        .collect();
    let mut urls = Vec::new();
    for server in &servers {
        urls.push(server.database("market").await);
    }
    let (legacy, new) = (urls[0].clone(), urls[urls.len() - 1].clone());
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
        .run(&format!("INSERT INTO tenants {tenants} {more}"))
        .await;
    let more = "SELECT n + 100, n FROM n WHERE n > 2";
    market
        .new
        .run(&format!("INSERT INTO providers {tenants} {more}"))
        .await;
    let rows = upto(rows);
    let listings = format!(
        "INSERT INTO listings (id, tenant_id, title, status, house, price, stock, sku) {rows} \
         SELECT n, 1 + n % {TENANTS}, CASE WHEN n % 5 > 0 THEN 'Título ' || n END, 'ACTIVE ', \
         CASE WHEN n % 3 > 0 THEN ' House ' || (n % 17) || ' ' END, n + 0.25, n, 'sku-' || n FROM n"
    );
    let photos = "INSERT INTO photos SELECT id * 2, id, 'u' || id FROM listings WHERE id % 4 = 0; \
                  INSERT INTO photos SELECT id * 2 + 1, id, 'w' || id FROM listings WHERE id % 8 = 0";
    market.legacy.run(&format!("{listings}; {photos}")).await;
}
