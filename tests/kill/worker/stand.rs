//! The marketplace, the shipped binary at work on it, the strikes, and the judgement.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::process::Child;
use tokio::task::block_in_place;

use super::servers::{Server, fill, on_servers};
use super::victims::{Pair, Victims};
use super::writers::Writers;
use crate::kill::sample::{self, Seen};
use crate::kill::strikes;
use crate::operate::command::{Desk, Ended, ended};
use crate::protocol::market::{MAPPING, Market, Topology};
use crate::support;

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

/// So much history that each strike at the sweep has its own part of it.
fn rows(strikes: usize) -> i64 {
    let one = if support::fast() { 400 } else { 280 };
    one * (strikes as i64).max(if support::fast() { 3 } else { 10 })
}

/// Where everything is, by plain SQL.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    /// Keys that the sweep has passed.
    pub(super) passed: i64,
    pub(super) swept: bool,
    pub(super) dirty: i64,
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
    /// Who died by strikes that landed.
    pub(super) killed: BTreeMap<&'static str, u64>,
    pub(super) missed: u64,
    /// Sweeps of all history that were begun again.
    pub(super) raised: u64,
    pub(super) ended: Vec<String>,
}

pub struct Stand {
    pub(super) market: Market,
    pub(super) desk: Desk,
    pub(super) lines: Lines,
    pub(super) rows: i64,
    victims: Victims,
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
    /// A marketplace with some thousand rows, installed, with writers at it and no worker yet. The sweep, or
    /// each server, is to die `kills` times.
    pub async fn new(topology: Topology, struck: Struck, lines: Lines, kills: usize) -> Stand {
        let seed = support::seed();
        let mut rng = SmallRng::seed_from_u64(seed);
        let victims = match struck {
            Struck::Worker => Victims::processes(kills, strikes(topology) as usize / 2, &mut rng),
            Struck::Server if topology.is_one_database() => Victims::one_server(kills),
            Struck::Server => Victims::servers(kills, &mut rng),
        };
        let rows = rows(victims.sweep.len());
        let (market, servers) = match struck {
            Struck::Worker => (Market::start(topology).await, Vec::new()),
            Struck::Server => on_servers(topology).await,
        };
        fill(&market, rows).await;
        let (legacy, new) = (&market.legacy_url, &market.new_url);
        let desk = Desk::with(&format!(
            "legacy.url = '{legacy}'\nnew.url = '{new}'\n[pace]\nduty_percent = 100\n\
             [entity.listings]\nmapping = 'listings.toml'\ndrain.batch = 40\n{}\n",
            lines.config
        ));
        desk.run("install").await.with(0);
        let writers = Writers::begin(&market.legacy_url, rows, seed).await;
        Stand {
            market,
            desk,
            lines,
            rows,
            victims,
            struck,
            servers,
            rng,
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

    /// Every strike of the run, half of them spread over history. Answers how many they were.
    pub async fn strike_all(&mut self) -> u64 {
        let strikes = self.victims.strikes();
        let at_the_sweep = std::mem::take(&mut self.victims.sweep);
        for (part, victims) in at_the_sweep.iter().enumerate() {
            let share = (part as f64, at_the_sweep.len() as f64);
            self.strike_the_sweep(share, *victims).await;
        }
        self.until_swept().await;
        for victims in std::mem::take(&mut self.victims.drain) {
            self.strike_the_drain(victims).await;
        }
        strikes
    }

    /// One strike that lands in the `part`th of `parts` of history. Where a slow machine strikes after its
    /// end, servers are struck at the drain, and the worker at another sweep.
    async fn strike_the_sweep(&mut self, (part, parts): (f64, f64), victims: Pair) {
        loop {
            self.start_all().await;
            // Behind it there is time for a machine that is slow to strike.
            let whole = self.rows as f64 * 0.6;
            let share = (part + self.rng.random_range(0.0..1.0)) / parts;
            let target = (whole * share) as i64;
            // One that dies has moved something before.
            let moved = |life: &Option<Life>| life.as_ref().map_or(0, |life| life.began.passed);
            let least = match victims {
                [true, _] => target.max(moved(&self.sweep) + 1),
                _ => target,
            };
            self.until(|at| at.swept || at.passed >= least).await;
            self.pause().await;
            let before = moved(&self.sweep);
            let alive = self.strike(victims).await;
            let at = self.look().await;
            if at.swept {
                self.figures.missed += 1;
                if self.struck == Struck::Server {
                    return self.strike_the_drain(victims).await;
                }
                self.sweep_again().await;
                continue;
            }
            if alive && (at.passed > before || victims == [false, true]) {
                return self.landed("sweep", victims);
            }
            self.figures.missed += 1;
            self.patient();
        }
    }

    /// One strike that lands while what a burst of writes left is being copied.
    async fn strike_the_drain(&mut self, victims: Pair) {
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
            let alive = self.strike(victims).await;
            if alive && self.look().await.dirty > 0 {
                return self.landed("drain", victims);
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

    /// All of history once more, at a raised base.
    async fn sweep_again(&mut self) {
        self.figures.raised += 1;
        for life in [&mut self.sweep, &mut self.drain] {
            if let Some(mut life) = life.take() {
                life.process.kill().await.unwrap();
            }
        }
        let next = format!("revision = {}", 1 + self.figures.raised);
        let mapping = MAPPING.replace("revision = 1", &next);
        std::fs::write(self.desk.path("listings.toml"), mapping).unwrap();
        self.desk.run("install --raise").await.with(0);
        self.last = Place::default();
        self.figures.lives += 1;
        self.sweep = Some(Life {
            process: self.desk.begin(self.lines.sweep),
            began: Place::default(),
        });
        self.until(|at| !at.swept).await;
    }

    fn landed(&mut self, at: &'static str, victims: Pair) {
        *self.figures.landed.entry(at).or_default() += 1;
        let named: Vec<_> = match self.struck {
            Struck::Worker => vec!["sweep", "drain"],
            Struck::Server => self.servers.iter().map(Server::engine).collect(),
        };
        for (name, _) in named.iter().zip(victims).filter(|(_, dies)| *dies) {
            *self.figures.killed.entry(name).or_default() += 1;
        }
    }

    /// Lets the sweep come to its end.
    async fn until_swept(&mut self) {
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
    async fn strike(&mut self, victims: Pair) -> bool {
        if self.struck == Struck::Server {
            let dies = self.servers.iter().zip(victims);
            let down: Vec<_> = dies.filter(|(_, dies)| *dies).collect();
            block_in_place(|| {
                down.iter().for_each(|(server, _)| server.kill9());
                std::thread::scope(|scope| {
                    for (server, _) in &down {
                        scope.spawn(|| server.restart());
                    }
                });
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
