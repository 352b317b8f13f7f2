//! Starts the application, kills and stops it and its server, and judges at the end.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use changeover::worker::drain::DrainOptions;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Row as _};
use tokio::sync::watch;
use tokio::task::block_in_place;

use super::app::App;
use super::child::Orders;
use super::ledger::{Figures, Ledger, Row};
use super::sample::{self, Seen};
use super::workload::{CALLERS, LISTS};
use crate::protocol::market::{Market, Plain, Topology, backfill, verify};
use crate::protocol::plain::on_pool;
use crate::support::{self, postgres::Postgres};

/// How long a start or an orderly end may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long a life may be for copies' sake.
const COPIES: Duration = Duration::from_secs(2);

/// One run.
pub struct Supervisor {
    pub market: Market,
    pub rng: SmallRng,
    /// The server, where there is one.
    pub server: Option<Postgres>,
    /// Kills, stops and freezes so far.
    pub strikes: u64,
    /// Callers of each instance.
    pub callers: u64,
    seed: u64,
    layer: bool,
    bug: &'static str,
    lives: u64,
    ledger: Arc<Mutex<Ledger>>,
    before: Vec<Row>,
    sampler: Option<(watch::Sender<bool>, tokio::task::JoinHandle<Seen>)>,
    began: Instant,
}

/// What a run came to.
#[derive(Debug)]
pub struct Verdict {
    /// Everything that was found wrong.
    pub problems: Vec<String>,
    pub figures: Figures,
    report: String,
}

impl Verdict {
    /// # Panics
    /// When anything was wrong, or when next to nothing happened.
    pub fn expect_clean(self) {
        println!("{}", self.report);
        let first = &self.problems[..self.problems.len().min(10)];
        assert!(
            self.problems.is_empty(),
            "{} problems: {first:#?}",
            self.problems.len()
        );
        assert!(
            self.figures.acknowledged > 50,
            "hardly anything was acknowledged: {}",
            self.report
        );
    }

    /// Whether something that was wrong says so in one of these words.
    pub fn finds(&self, words: &[&str]) -> bool {
        println!("{}", self.report);
        let first = &self.problems[..self.problems.len().min(10)];
        println!("{} problems: {first:#?}", self.problems.len());
        self.problems
            .iter()
            .any(|problem| words.iter().any(|words| problem.contains(words)))
    }
}

impl Supervisor {
    /// A marketplace with history, on a server of its own, installed and copying unless there is no
    /// `layer`.
    pub async fn new(topology: Topology, layer: bool) -> Supervisor {
        let seed = support::seed();
        let mut server = None;
        let market = if topology.is_postgres() {
            let own = block_in_place(Postgres::start);
            own.create_database("legacy").await;
            own.create_database("new").await;
            let legacy = own.url("legacy");
            let one = topology == Topology::PostgresOneDatabase;
            let new = own.url(if one { "legacy" } else { "new" });
            server = Some(own);
            Market::on(topology, legacy, new, None).await
        } else {
            Market::start(topology).await
        };
        market.fill(340).await;
        let last = LISTS.end();
        market
            .legacy
            .run(&format!(
                "UPDATE listings SET title = '' WHERE id <= {last}"
            ))
            .await;
        let before = rows(&market.legacy).await;
        let sampler = if layer {
            drop(market.installed().await);
            Some(sampler(&market).await)
        } else {
            None
        };
        Supervisor {
            market,
            rng: SmallRng::seed_from_u64(seed),
            server,
            strikes: 0,
            callers: if support::fast() { 3 } else { CALLERS },
            seed,
            layer,
            bug: "",
            lives: 0,
            ledger: Arc::default(),
            before,
            sampler,
            began: Instant::now(),
        }
    }

    /// The application has this bug; see [`Orders::bug`].
    pub fn with_bug(mut self, bug: &'static str) -> Supervisor {
        self.bug = bug;
        self
    }

    /// Starts instance number `instance`, and waits until its load has begun.
    pub fn start(&mut self, instance: u64) -> App {
        self.lives += 1;
        let orders = Orders {
            legacy: self.market.legacy_url.clone(),
            new: self.market.new_url.clone(),
            layer: self.layer,
            bug: self.bug.to_owned(),
            seed: self.seed,
            callers: self.callers,
            instance,
            generation: self.lives,
        };
        block_in_place(|| App::start(&orders, &self.ledger))
    }

    /// Lets the load run for a random time between these milliseconds, after it has got going: the
    /// pools of an application come back to a restarted server only after a while. The short run
    /// takes a third of that time.
    pub async fn while_running(&mut self, millis: Range<u64>) {
        let part = if support::fast() { 3 } else { 1 };
        self.while_running_unscaled(millis.start / part..millis.end / part)
            .await;
    }

    /// As [`while_running`](Supervisor::while_running), as long in the short run.
    pub async fn while_running_unscaled(&mut self, millis: Range<u64>) {
        let before = self.figures();
        let began = Instant::now();
        loop {
            let now = self.figures();
            let copied = now.applied() >= before.applied() + 5 || !self.layer;
            if now.acknowledged >= before.acknowledged + 10 && (copied || began.elapsed() > COPIES)
            {
                break;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "nothing is acknowledged any more"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        tokio::time::sleep(Duration::from_millis(self.rng.random_range(millis))).await;
    }

    /// Waits until history is copied, a verify under load was clean, and the new side answers half
    /// of the reads; from then on it does so in every life. The short run does not insist.
    pub async fn until_ramped(&self) {
        let began = Instant::now();
        let patience = if support::fast() {
            PATIENCE / 15
        } else {
            // Four of these runs at once, on two busy cores, took more than one.
            3 * PATIENCE
        };
        while self.figures().ramped == 0 {
            if began.elapsed() > patience {
                assert!(support::fast(), "the new side never came to answer reads");
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until so many writes more are acknowledged.
    pub async fn until_acknowledged(&self, more: u64) {
        let (before, began) = (self.figures(), Instant::now());
        while self.figures().acknowledged < before.acknowledged + more {
            assert!(
                began.elapsed() < PATIENCE,
                "nothing is acknowledged any more"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn figures(&self) -> Figures {
        self.ledger
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .figures()
            .clone()
    }

    /// Everything is over: drains, compares, checks the ledger.
    pub async fn judge(mut self) -> Verdict {
        let mut problems = Vec::new();
        let mut seen = Seen::default();
        if let Some((stop, sampler)) = self.sampler.take() {
            stop.send_replace(true);
            seen = sampler.await.unwrap();
            problems.extend(
                seen.problems
                    .iter()
                    .map(|problem| format!("sampled: {problem}")),
            );
        }
        let mut drained = Duration::ZERO;
        if self.layer {
            let began = Instant::now();
            self.compare(&mut problems).await;
            drained = began.elapsed();
        }
        let after = rows(&self.market.legacy).await;
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        problems.extend(ledger.check(&self.before, &after));
        let figures = ledger.figures().clone();
        let report = format!(
            "{:?}: {} strikes, {} lives, {:.1} s; {figures:?}; {} samples, {} compared at equal versions, \
             {} behind; drained and compared in {drained:.1?}; held {:?}; errors {:?}",
            self.market.topology,
            self.strikes,
            self.lives,
            self.began.elapsed().as_secs_f64(),
            seen.samples,
            seen.compared,
            seen.behind,
            seen.holds,
            ledger.errors(),
        );
        Verdict {
            problems,
            figures,
            report,
        }
    }

    async fn compare(&self, problems: &mut Vec<String>) {
        let migration = self.market.open().await;
        backfill(&migration).await;
        let options = DrainOptions {
            waiting_pause: Duration::from_millis(20),
            blocked_pause: Duration::from_millis(20),
            ..DrainOptions::default()
        };
        match migration.drain(options).until_clean(Some(PATIENCE)).await {
            Ok(lag) if lag.dirty == 0 => {}
            Ok(lag) => {
                problems.push(format!(
                    "not drained: {lag:?}, {:?}",
                    self.market.dirty().await
                ));
            }
            Err(error) => problems.push(format!("draining: {error:?}")),
        }
        let report = verify(&migration).await;
        if !report.clean() || report.compared < 300 {
            problems.push(format!("verify: {report:?}"));
        }
        let (legacy, new) = self.market.both().await;
        if legacy != new || legacy.len() < 300 {
            let only = |a: &[String], b: &[String]| {
                a.iter()
                    .filter(|row| !b.contains(row))
                    .take(3)
                    .cloned()
                    .collect::<Vec<_>>()
            };
            problems.push(format!(
                "plain SQL: in legacy alone {:?}, in new alone {:?}",
                only(&legacy, &new),
                only(&new, &legacy)
            ));
        }
    }
}

/// Looks at both sides all the while, over connections of its own.
async fn sampler(market: &Market) -> (watch::Sender<bool>, tokio::task::JoinHandle<Seen>) {
    let (stop, stopped) = watch::channel(false);
    let open = async |url: &str| {
        if url.starts_with("sqlite:") {
            return Plain::open(url).await;
        }
        // Back soon after a restart of the server.
        let options = PgPoolOptions::new().max_connections(2);
        let options = options.acquire_timeout(Duration::from_millis(300));
        Plain::Postgres(options.connect_lazy(url).unwrap())
    };
    let legacy = open(&market.legacy_url).await;
    let new = open(&market.new_url).await;
    let sampler = tokio::spawn(async move {
        let mut seen = Seen::default();
        while !*stopped.borrow() {
            sample::look(&legacy, &new, &mut seen).await;
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        seen
    });
    (stop, sampler)
}

/// The legacy rows.
async fn rows(legacy: &Plain) -> Vec<Row> {
    let sql = "SELECT id, tenant_id, coalesce(title, ''), coalesce(sku, ''), stock FROM listings ORDER BY id";
    macro_rules! rows {
        ($pool:expr) => {
            sqlx::query(AssertSqlSafe(sql))
                .fetch_all($pool)
                .await
                .unwrap()
                .iter()
                .map(|row| Row {
                    id: row.get(0),
                    tenant: row.get(1),
                    title: row.get(2),
                    sku: row.get(3),
                    stock: row.get(4),
                })
                .collect()
        };
    }
    on_pool!(legacy, |pool| rows!(pool))
}
