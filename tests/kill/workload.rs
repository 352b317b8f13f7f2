//! The callers: what they ask for, and what they write into the journal about it.
//!
//! The journal is what the ledger of the supervisor is kept from. A line leaves the process before
//! the next call of the same caller begins, so a kill loses at most what nobody was told.

use std::io::Write as _;
use std::ops::RangeInclusive;
use std::task::Poll;
use std::time::Duration;

use changeover::proxy::{Handle, UnitOfWork};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::watch;
use tower::util::BoxCloneService;
use tower::{Service as _, ServiceExt as _};

use super::repository::{Answer, Call, Error, Repository};

/// Rows whose titles are lists of tokens. They are never deleted.
pub const LISTS: RangeInclusive<i64> = 1..=24;
/// The first of the rows that are put and deleted, each by one caller alone.
pub const FIRST_CELL: i64 = 301;
/// Callers of one instance, at most.
pub const CALLERS: u64 = 8;

/// One line of the journal, in one write.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The supervisor is gone: so is this process, soon.
    let _ = writeln!(out, "@{line}").and_then(|()| out.flush());
}

/// One caller.
pub struct Caller {
    pub service: BoxCloneService<Call, Answer, Error>,
    /// The layer's handle, where there is a layer.
    pub handle: Option<Handle>,
    /// For transactions that the caller opens itself.
    pub legacy: Repository,
    pub generation: u64,
    pub number: u64,
    /// Which instance this is, of those that run at the same time.
    pub instance: u64,
    pub rng: SmallRng,
    count: u64,
}

impl Caller {
    pub fn new(
        service: BoxCloneService<Call, Answer, Error>,
        handle: Option<Handle>,
        legacy: Repository,
        (seed, instance, generation, number): (u64, u64, u64, u64),
    ) -> Caller {
        let rng = SmallRng::seed_from_u64(seed ^ (generation << 32) ^ (instance << 24) ^ number);
        Caller {
            service,
            handle,
            legacy,
            generation,
            number,
            instance,
            rng,
            count: 0,
        }
    }

    pub async fn run(mut self, stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            self.turn().await;
        }
    }

    async fn turn(&mut self) {
        let key = self.rng.random_range(LISTS);
        match self.rng.random_range(0..100) {
            0..40 => self.append(key).await,
            40..48 => {
                let other = self.rng.random_range(LISTS);
                if other != key {
                    self.append_two([key, other]).await;
                }
            }
            48..63 => self.cell().await,
            63..70 => {
                let token = self.token();
                let call = Call::Create {
                    token: token.clone(),
                };
                self.write(&token, "create", "", call, true).await;
            }
            70..78 => {
                let keys = [key, self.rng.random_range(LISTS)];
                if keys[0] != keys[1] {
                    let token = self.token();
                    self.write(&token, "swap", "", Call::Swap { keys }, true)
                        .await;
                }
            }
            78..80 => {
                let (token, tenant) = (self.token(), self.rng.random_range(1..=2));
                let call = Call::Restock { tenant };
                self.write(&token, "restock", &tenant.to_string(), call, true)
                    .await;
            }
            80 if self.rng.random_ratio(1, 4) => {
                let (token, tenant) = (self.token(), self.rng.random_range(1..=2));
                let call = Call::Rename {
                    tenant,
                    name: format!("name {token}"),
                };
                self.write(&token, "rename", "", call, true).await;
            }
            _ => drop(self.read(key).await),
        }
    }

    fn token(&mut self) -> String {
        self.count += 1;
        let Caller {
            generation,
            instance,
            number,
            count,
            ..
        } = self;
        format!("{instance}-{generation}.{number}.{count}")
    }

    async fn append(&mut self, key: i64) {
        let token = self.token();
        let call = Call::Append {
            key,
            token: token.clone(),
        };
        let told = self
            .write(&token, "append", &key.to_string(), call, true)
            .await;
        if told && self.rng.random_ratio(1, 3) {
            // What this process was told it reads again, whichever side answers.
            if let Ok(Answer::Title(title)) = self.read(key).await {
                let title = title.unwrap_or_default();
                if !title.split(',').any(|one| one == token) {
                    say(&format!("stale {token} {key}"));
                }
            }
        }
    }

    async fn cell(&mut self) {
        let key = FIRST_CELL + (self.instance * CALLERS + self.number) as i64;
        let token = self.token();
        // Never cancelled: what a caller lets go of may come late, and it alone knows the order.
        if self.rng.random_ratio(3, 5) {
            let call = Call::Put {
                key,
                token: token.clone(),
            };
            self.write(&token, "put", &key.to_string(), call, false)
                .await;
        } else {
            self.write(
                &token,
                "delete",
                &key.to_string(),
                Call::Delete { key },
                false,
            )
            .await;
        }
    }

    /// A transaction of the caller's own, handed over at its commit.
    async fn append_two(&mut self, [a, b]: [i64; 2]) {
        let token = self.token();
        say(&format!("try {token} two {a} {b}"));
        let mut unit = UnitOfWork::new();
        if let Some(handle) = &self.handle {
            unit.touch(handle, a).touch(handle, b);
        }
        let prepared = async {
            let mut tx = self.legacy.begin().await?;
            tx.run(&Repository::append(a, &token)).await?;
            tx.run(&Repository::append(b, &token)).await?;
            Ok::<_, Error>(tx)
        };
        match prepared.await {
            Ok(tx) => {
                let committed = polls(&mut self.rng, true);
                let committed = at_most(committed, unit.commit(tx.commit())).await;
                self.tell(&token, committed.map(|done| done.map(|()| Answer::Done(2))))
                    .await;
            }
            // Nothing was committed, whatever the error.
            Err(error) => {
                say(&format!("no {token} {error:?}"));
                self.rest().await;
            }
        }
    }

    /// Asks, and tells the journal. True where the write was acknowledged.
    async fn write(
        &mut self,
        token: &str,
        kind: &str,
        keys: &str,
        call: Call,
        cancel: bool,
    ) -> bool {
        say(&format!("try {token} {kind} {keys}"));
        let polls = polls(&mut self.rng, cancel);
        let answer = at_most(polls, self.service.clone().oneshot(call)).await;
        self.tell(token, answer).await
    }

    async fn tell(&mut self, token: &str, answer: Option<Result<Answer, Error>>) -> bool {
        match answer {
            Some(Ok(Answer::Done(0))) => say(&format!("none {token}")),
            Some(Ok(Answer::Created(id))) => say(&format!("ok {token} {id}")),
            Some(Ok(_)) => {
                say(&format!("ok {token}"));
                return true;
            }
            Some(Err(error)) => {
                let word = if error.is_definite() { "no" } else { "unknown" };
                say(&format!("{word} {token} {error:?}"));
                self.rest().await;
            }
            None => say(&format!("gone {token}")),
        }
        false
    }

    async fn read(&mut self, key: i64) -> Result<Answer, Error> {
        let service = self.service.ready().await?;
        let answer = service.call(Call::Get(key)).await;
        match &answer {
            Ok(_) => say("read"),
            Err(_) => self.rest().await,
        }
        answer
    }

    /// A database that is away is not asked all the time.
    async fn rest(&mut self) {
        tokio::time::sleep(Duration::from_millis(self.rng.random_range(10..60))).await;
    }
}

/// One write in five is given up after some polls.
fn polls(rng: &mut SmallRng, cancel: bool) -> Option<u32> {
    (cancel && rng.random_ratio(1, 5)).then(|| rng.random_range(1..8))
}

/// Drops the future after `polls` polls, as the end of a connection or a timeout would.
async fn at_most<F: Future>(polls: Option<u32>, future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if let Some(left) = &mut left {
            if *left == 0 {
                return Poll::Ready(None);
            }
            *left -= 1;
        }
        let polled = future.as_mut().poll(context).map(Some);
        // The last poll is followed by no other that its own waker would have to bring about.
        if polled.is_pending() && left == Some(0) {
            return Poll::Ready(None);
        }
        polled
    })
    .await
}
