//! Writers: plain SQL on the legacy side, each on its own rows, until they are told to stop.
//!
//! Half of what they write lies near the place where the sweep is, where a write and a page race.
//! Nothing that the product does may refuse a write of theirs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use sqlx::AssertSqlSafe;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::protocol::market::Plain;

/// How many write at the same time.
const WRITERS: i64 = 3;

/// What the writers did, and what they were told.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Writes that were confirmed, by what they do.
    pub done: BTreeMap<&'static str, u64>,
    /// Writes that were tried and may be there: keys inserted, and keys deleted.
    pub inserted: u64,
    pub deleted: u64,
    /// Writes whose connection was lost.
    pub lost: u64,
    /// Writes that lost against a burst or another writer.
    pub deadlocks: u64,
    /// Writes that the database refused.
    pub refused: Vec<String>,
}

impl Tally {
    pub fn confirmed(&self) -> u64 {
        self.done.values().sum()
    }
}

/// All of them.
pub struct Writers {
    /// Near which id the sweep is.
    pub near: Arc<AtomicI64>,
    /// Whether they write a tenth as often, so that a drain on a busy machine comes to its end.
    pub calm: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    stop: watch::Sender<bool>,
    writers: JoinSet<()>,
}

impl Writers {
    /// Begins to write at `url`, where ids from 1 to `rows` are.
    pub async fn begin(url: &str, rows: i64, seed: u64) -> Writers {
        // Back soon after a restart of the server.
        let plain = Plain::patient(url, WRITERS as u32).await;
        let (near, calm, tally) = (Arc::default(), Arc::default(), Arc::default());
        let stop = watch::Sender::new(false);
        let mut writers = JoinSet::new();
        for number in 0..WRITERS {
            let writer = Writer {
                plain: plain.clone(),
                near: Arc::clone(&near),
                calm: Arc::clone(&calm),
                tally: Arc::clone(&tally),
                rows,
                number,
                count: 0,
                rng: SmallRng::seed_from_u64(seed ^ (number as u64 + 1)),
            };
            writers.spawn(writer.run(stop.subscribe()));
        }
        Writers {
            near,
            calm,
            tally,
            stop,
            writers,
        }
    }

    pub fn tally(&self) -> Tally {
        self.tally
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Ends them, each after its write.
    pub async fn end(&mut self) {
        self.stop.send_replace(true);
        while let Some(ended) = self.writers.join_next().await {
            ended.unwrap();
        }
    }
}

struct Writer {
    plain: Plain,
    near: Arc<AtomicI64>,
    calm: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    rows: i64,
    number: i64,
    count: i64,
    rng: SmallRng,
}

impl Writer {
    async fn run(mut self, stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            self.turn().await;
            let slower = if self.calm.load(Ordering::Relaxed) {
                10
            } else {
                1
            };
            let pause = slower * self.rng.random_range(5..40);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    async fn turn(&mut self) {
        self.count += 1;
        let (id, other, turn) = (self.id(), self.id(), self.count * WRITERS + self.number);
        let (kind, statements) = match self.rng.random_range(0..100) {
            0..40 => ("update", vec![update(id, turn)]),
            40..50 => ("photo", vec![photo(1_000_000 + turn, id)]),
            50..58 => ("photo moves", vec![moved(id, other)]),
            58..64 => ("photo goes", vec![unphoto(id)]),
            64..76 => (
                "delete",
                vec![unphoto(id), format!("DELETE FROM listings WHERE id = {id}")],
            ),
            76..84 => ("insert again", vec![insert(id, turn)]),
            84..90 => ("insert", vec![insert(self.rows + 10 + turn, turn)]),
            _ => return self.swap(id.min(other), id.max(other)).await,
        };
        self.note(|tally| {
            tally.inserted += u64::from(kind == "insert");
            tally.deleted += u64::from(kind == "delete");
        });
        let written = self.write(&statements).await;
        self.told(kind, written);
    }

    /// An id of this writer's own, so that no write is refused for another's sake.
    fn id(&mut self) -> i64 {
        let near = self.near.load(Ordering::Relaxed);
        let id = match self.rng.random_ratio(1, 2) {
            true => (near + self.rng.random_range(-40..160)).clamp(1, self.rows),
            false => self.rng.random_range(1..=self.rows),
        };
        id - id % WRITERS + self.number + 1
    }

    async fn write(&self, statements: &[String]) -> Result<(), sqlx::Error> {
        macro_rules! write {
            ($tx:expr) => {{
                let mut tx = $tx;
                for sql in statements {
                    let sql = sqlx::raw_sql(AssertSqlSafe(self.said(sql)));
                    sql.execute(&mut *tx).await?;
                }
                tx.commit().await
            }};
        }
        match &self.plain {
            Plain::Postgres(pool) => write!(pool.begin().await?),
            Plain::Sqlite(pool) => write!(pool.begin_with("BEGIN IMMEDIATE").await?),
            Plain::Mariadb(pool) => write!(pool.begin().await?),
        }
    }

    /// `sql` as this engine wants it said.
    fn said(&self, sql: &str) -> String {
        match &self.plain {
            Plain::Mariadb(_) => match sql.strip_suffix(" ON CONFLICT DO NOTHING") {
                Some(insert) => insert.replacen("INSERT", "INSERT IGNORE", 1),
                None => sql.replace("$1", "?").replace("$2", "?"),
            },
            _ => sql.to_owned(),
        }
    }

    /// Two rows exchange a unique value, in one transaction.
    async fn swap(&self, a: i64, b: i64) {
        if a == b {
            return;
        }
        macro_rules! swap {
            ($tx:expr) => {{
                let mut tx = $tx;
                let mut values: Vec<Option<String>> = Vec::new();
                for id in [a, b] {
                    let sku = self.said("SELECT sku FROM listings WHERE id = $1");
                    let sku = sqlx::query_scalar(AssertSqlSafe(sku))
                        .bind(id)
                        .fetch_optional(&mut *tx);
                    match sku.await? {
                        Some(sku) => values.push(sku),
                        None => return Ok(()),
                    }
                }
                for (sku, id) in [(None, a), (values[0].clone(), b), (values[1].clone(), a)] {
                    let sql = self.said("UPDATE listings SET sku = $1 WHERE id = $2");
                    sqlx::query(AssertSqlSafe(sql))
                        .bind(sku)
                        .bind(id)
                        .execute(&mut *tx)
                        .await?;
                }
                tx.commit().await
            }};
        }
        let swapped = async {
            match &self.plain {
                Plain::Postgres(pool) => swap!(pool.begin().await?),
                Plain::Sqlite(pool) => swap!(pool.begin_with("BEGIN IMMEDIATE").await?),
                Plain::Mariadb(pool) => swap!(pool.begin().await?),
            }
        };
        let swapped = swapped.await;
        self.told("swap", swapped);
    }

    fn told(&self, kind: &'static str, written: Result<(), sqlx::Error>) {
        self.note(|tally| {
            let Err(error) = written else {
                *tally.done.entry(kind).or_default() += 1;
                return;
            };
            let code = error.as_database_error().and_then(|error| error.code());
            match code.as_deref() {
                // Two transactions of the application that took two rows in two orders: they try again.
                Some("40P01" | "40001") => tally.deadlocks += 1,
                // What a server says that goes down or comes up.
                Some("57P01" | "57P02" | "57P03" | "08S01") | None => tally.lost += 1,
                Some(_) => tally.refused.push(format!("{kind}: {error}")),
            }
        });
    }

    fn note(&self, change: impl FnOnce(&mut Tally)) {
        change(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn update(id: i64, turn: i64) -> String {
    let house = turn % 17;
    format!(
        "UPDATE listings SET title = 'turn {turn}', stock = stock + 1, house = 'House {house}' WHERE id = {id}"
    )
}

fn insert(id: i64, turn: i64) -> String {
    let tenant = 1 + id % super::stand::TENANTS;
    format!(
        "INSERT INTO listings (id, tenant_id, title, status, house, price, stock, sku) VALUES \
         ({id}, {tenant}, 'born {turn}', ' Active', 'House {id}', {turn}.50, {turn}, 'born-{turn}') ON CONFLICT DO NOTHING"
    )
}

/// Children only of a row that is there: others the new side would refuse.
fn photo(photo: i64, id: i64) -> String {
    format!(
        "INSERT INTO photos SELECT {photo}, {id}, 'v{photo}' WHERE EXISTS (SELECT 1 FROM listings WHERE id = {id})"
    )
}

fn moved(id: i64, other: i64) -> String {
    format!(
        "UPDATE photos SET listing_id = {other} WHERE listing_id = {id} \
         AND EXISTS (SELECT 1 FROM listings WHERE id = {other})"
    )
}

fn unphoto(id: i64) -> String {
    format!("DELETE FROM photos WHERE listing_id = {id}")
}
