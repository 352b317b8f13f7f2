//! The marketplace's callers: readers and writers that never stop while the migration goes on.
//!
//! Writers change single rows and many at once, make rows whose id the database gives, delete rows
//! and bring them back, run a transaction over two tables, and now and then walk away from a call
//! that they began. Every write is in the [`Ledger`]. After some writes the writer reads the row
//! back through the layer: it must see what it wrote, whichever side answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use changeover_proxy::{Changeover, Failure, Handle, UnitOfWork};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::ledger::{Deed, Ledger};
use super::market::{ADD_PHOTO, Answer, Call, Draft, Legacy, MarketError, New, TOUCH};
use super::mess;
use super::store::{Cell, Store};

const READERS: u64 = 4;
const WRITERS: u64 = 3;
/// Between two calls of one reader, on average.
const READER_RESTS: Duration = Duration::from_millis(4);
/// Between two writes of one writer, on average.
const WRITER_RESTS: Duration = Duration::from_millis(15);
/// Rows that are read and written far more often than others.
const HOT_ROWS: i64 = 200;
/// One row in so many is deleted and restored, never read back by its writer.
const MORTAL: i64 = 10;

/// The application with the layer around it.
pub(super) type Market = Changeover<Legacy, New, Call, Answer, MarketError>;

/// What all callers share.
pub(super) struct Town {
    market: RwLock<Market>,
    pub(super) legacy: Store,
    pub(super) ledger: Ledger,
    pub(super) rows: i64,
    pub(super) seed: u64,
    pub(super) seen: Seen,
}

impl Town {
    /// A town whose application is `market`, over legacy tables of so many rows made from `seed`.
    pub(super) fn new(market: Market, legacy: Store, rows: i64, seed: u64) -> Town {
        Town {
            market: RwLock::new(market),
            legacy,
            ledger: Ledger::default(),
            rows,
            seed,
            seen: Seen::default(),
        }
    }

    /// The application of the moment.
    pub(super) fn market(&self) -> Market {
        let market = self.market.read();
        market.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The handle of its layer.
    pub(super) fn handle(&self) -> Handle {
        self.market().handle()
    }

    /// From now on calls go to this application; those under way end where they began.
    pub(super) fn deploy(&self, market: Market) {
        let place = self.market.write();
        *place.unwrap_or_else(PoisonError::into_inner) = market;
    }
}

/// What the callers saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) reads: AtomicU64,
    pub(super) read_errors: AtomicU64,
    /// Reads that did not show the caller's own write.
    pub(super) stale: AtomicU64,
    pub(super) writes: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl Seen {
    pub(super) fn count(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    /// The last error that a caller saw.
    pub(super) fn last_error(&self) -> Option<String> {
        self.last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn error(&self, error: &MarketError) {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        *self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(text);
    }
}

/// How long calls took, in microseconds.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    pub(super) reads: Vec<u32>,
    pub(super) writes: Vec<u32>,
}

/// Callers at work.
pub(super) struct Load {
    stop: CancellationToken,
    callers: JoinSet<Latencies>,
}

impl Load {
    /// Lets everybody in.
    pub(super) fn start(town: &Arc<Town>) -> Load {
        let stop = CancellationToken::new();
        let mut callers = JoinSet::new();
        for number in 0..READERS {
            callers.spawn(Caller::new(town, number, &stop).read());
        }
        for number in READERS..READERS + WRITERS {
            callers.spawn(Caller::new(town, number, &stop).write());
        }
        callers.spawn(Caller::new(town, READERS + WRITERS, &stop).bury_and_restore());
        Load { stop, callers }
    }

    /// Lets everybody finish the call under way; answers how long all calls took.
    pub(super) async fn stop(mut self) -> Latencies {
        self.stop.cancel();
        let mut all = Latencies::default();
        while let Some(ended) = self.callers.join_next().await {
            match ended {
                Ok(one) => {
                    all.reads.extend(one.reads);
                    all.writes.extend(one.writes);
                }
                Err(error) => tracing::error!(%error, "a caller of the demo did not end well"),
            }
        }
        all
    }
}

struct Caller {
    town: Arc<Town>,
    random: SmallRng,
    stop: CancellationToken,
    took: Latencies,
}

impl Caller {
    fn new(town: &Arc<Town>, number: u64, stop: &CancellationToken) -> Caller {
        Caller {
            town: Arc::clone(town),
            random: SmallRng::seed_from_u64(town.seed.wrapping_add(number)),
            stop: stop.clone(),
            took: Latencies::default(),
        }
    }

    /// Rests for a while; says whether to go on.
    async fn rest(&mut self, on_average: Duration) -> bool {
        let rest = on_average.mul_f64(self.random.random_range(0.0..2.0));
        tokio::time::sleep(rest).await;
        !self.stop.is_cancelled()
    }

    async fn call(&mut self, call: Call) -> Result<Answer, MarketError> {
        let is_read = matches!(call, Call::Get { .. } | Call::Newest { .. });
        let began = Instant::now();
        let answer = self.town.market().oneshot(call).await;
        let took = u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX);
        if is_read {
            self.took.reads.push(took)
        } else {
            self.took.writes.push(took)
        }
        let counter = if is_read {
            &self.town.seen.reads
        } else {
            &self.town.seen.writes
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = &answer {
            self.town.seen.error(error);
            if is_read {
                self.town.seen.read_errors.fetch_add(1, Ordering::Relaxed);
            }
        }
        answer
    }

    /// A row, with a taste for a few of them.
    fn row(&mut self) -> i64 {
        let most = if self.random.random_range(0..5) == 0 {
            HOT_ROWS
        } else {
            self.town.rows
        };
        self.random.random_range(1..=most.min(self.town.rows))
    }

    fn get(&self, id: i64) -> Call {
        Call::Get {
            tenant: mess::tenant_of(self.town.seed, id, mess::tenants(self.town.rows)),
            id,
        }
    }

    fn tenant(&mut self) -> i64 {
        self.random.random_range(1..=mess::tenants(self.town.rows))
    }

    async fn read(mut self) -> Latencies {
        while self.rest(READER_RESTS).await {
            let call = if self.random.random_range(0..5) == 0 {
                Call::Newest {
                    tenant: self.tenant(),
                }
            } else {
                let id = self.row();
                self.get(id)
            };
            // Counted where it was made; a reader has nobody to tell.
            let _ = self.call(call).await;
        }
        self.took
    }

    async fn write(mut self) -> Latencies {
        while self.rest(WRITER_RESTS).await {
            match self.random.random_range(0..100) {
                0..60 => self.reprice().await,
                60..63 => self.switch().await,
                63..75 => self.create().await,
                75..90 => self.transact().await,
                _ => self.walk_away().await,
            }
        }
        self.took
    }

    fn new_price(&mut self, id: i64, number: u64) -> Call {
        Call::Reprice {
            id,
            price_cents: self.random.random_range(100..500_000),
            stock: self.random.random_range(0..100),
            entry: format!("{number};"),
        }
    }

    async fn reprice(&mut self) {
        let id = self.row();
        let number = self.town.ledger.begin(Deed::Change(id));
        let call = self.new_price(id, number);
        if self.tell(number, call).await && id % MORTAL != 0 && self.random.random_range(0..3) == 0
        {
            self.read_back(id, number).await;
        }
    }

    /// Whoever wrote must see it.
    async fn read_back(&mut self, id: i64, number: u64) {
        let call = self.get(id);
        if let Ok(Answer::Listing(listing)) = self.call(call).await {
            let entry = number.to_string();
            let shows = listing.is_some_and(|row| row.journal.split(';').any(|one| one == entry));
            if !shows {
                self.town.seen.stale.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn switch(&mut self) {
        let (tenant, active) = (self.tenant(), self.random.random_range(0..2) == 0);
        let number = self.town.ledger.begin(Deed::ChangeMany { tenant });
        self.tell(
            number,
            Call::Switch {
                tenant,
                active,
                entry: format!("{number};"),
            },
        )
        .await;
    }

    fn draft(&mut self, number: u64) -> Draft {
        let (seed, id) = (self.town.seed, self.random.random_range(1..i64::MAX));
        let journal = format!("{number};");
        Draft {
            journal,
            ..mess::draft(seed, id, mess::tenants(self.town.rows))
        }
    }

    async fn create(&mut self) {
        let number = self.town.ledger.begin(Deed::Make(None));
        let draft = self.draft(number);
        self.tell(number, Call::Create { draft }).await;
    }

    /// Makes a call and tells the ledger what became of it; says whether it touched a row.
    async fn tell(&mut self, number: u64, call: Call) -> bool {
        let answer = self.call(call).await;
        let ledger = &self.town.ledger;
        match answer {
            Ok(Answer::Changed(rows)) if rows.is_empty() => ledger.refused(number),
            Ok(Answer::Changed(rows)) => {
                ledger.acknowledged(number, rows);
                return true;
            }
            Ok(Answer::Created(id)) => {
                ledger.acknowledged(number, vec![id]);
                return true;
            }
            Err(error) if error.failure() == Failure::Definite => ledger.refused(number),
            Ok(_) | Err(_) => {}
        }
        false
    }

    /// A transaction over two tables that the application opens itself.
    async fn transact(&mut self) {
        let id = self.row();
        let town = Arc::clone(&self.town);
        let number = town.ledger.begin(Deed::ChangeWithPhoto(id));
        let began = Instant::now();
        let mut unit = UnitOfWork::new();
        unit.touch(&town.handle(), id);
        let work = async {
            let mut work = town.legacy.begin().await?;
            let entry = Cell::Text(format!("{number};"));
            if work.execute(TOUCH, &[id.into(), entry]).await? == 0 {
                return Ok(None);
            }
            let photo = [id.into(), 9.into(), Cell::Text(format!("photo:{number}"))];
            work.execute(ADD_PHOTO, &photo).await?;
            Ok::<_, sqlx::Error>(Some(work))
        };
        match work.await {
            Ok(Some(work)) => match unit.commit(work.commit()).await {
                Ok(()) => town.ledger.acknowledged(number, vec![id]),
                Err(error) => town.seen.error(&MarketError::Commit(error)),
            },
            Ok(None) => town.ledger.refused(number),
            Err(error) => {
                town.seen.error(&MarketError::Database(error));
                town.ledger.refused(number);
            }
        }
        self.took
            .writes
            .push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX));
        town.seen.writes.fetch_add(1, Ordering::Relaxed);
    }

    /// Begins a write and leaves before it ends.
    async fn walk_away(&mut self) {
        let id = self.row();
        let number = self.town.ledger.begin(Deed::Change(id));
        let patience = Duration::from_micros(self.random.random_range(0..1_500));
        let call = self.new_price(id, number);
        // Whatever comes of it, the ledger says unknown unless an answer was seen.
        let _ = tokio::time::timeout(patience, self.tell(number, call)).await;
    }

    /// Deletes rows and brings them back. One caller does it all, so a row's lives are in order.
    async fn bury_and_restore(mut self) -> Latencies {
        while self.rest(WRITER_RESTS * 2).await {
            let id = self.row() / MORTAL * MORTAL;
            if id == 0 {
                continue;
            }
            let number = self.town.ledger.begin(Deed::Remove(id));
            if !self.tell(number, Call::Delete { id }).await || self.random.random_range(0..5) == 0
            {
                continue;
            }
            if self.random.random_range(0..2) == 0 {
                self.rest(WRITER_RESTS).await;
            }
            let number = self.town.ledger.begin(Deed::Make(Some(id)));
            let tenants = mess::tenants(self.town.rows);
            let tenant = mess::tenant_of(self.town.seed, id, tenants);
            let draft = Draft {
                tenant,
                ..self.draft(number)
            };
            self.tell(number, Call::Restore { id, draft }).await;
        }
        self.took
    }
}
