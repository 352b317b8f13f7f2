//! Two stores, a fenced copier and a freshness port, in memory, with named faults.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use changeover_flags::{Entity, Epoch, Flags, Key, Percent, Place, Role, Version};
use changeover_proxy::{
    BoxError, Builder, Changeover, ChangeoverLayer, Copied, CopyKeys, Failure, FencedCopy, Handle,
    Kind, Operation, Refused, Token, Touched, Versions, with_written,
};
use changeover_shadow::Value;
use futures_util::future::BoxFuture;
use tower::{Layer as _, Service, ServiceExt as _};

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Call {
    Get(i64),
    GetWith(i64, Token),
    List { tolerant: bool },
    Put(i64, i64),
    Remove(i64),
    Create(i64),
    AddToAll(i64),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    Row(Option<i64>),
    Rows(Vec<(i64, i64)>),
    Done(i64),
}

#[derive(Debug, PartialEq)]
pub(crate) enum Error {
    Constraint,
    LostAnswer,
    Layer(Refused),
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Error {
        Error::Layer(refused)
    }
}

/// What a store or a copier does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    None,
    Refuses,
    AppliesAndLosesTheAnswer,
    Panics,
    Hangs,
    NeverReady,
    Slow(Duration),
    /// A copier leaves what it is given, and says why.
    Leaves,
}

#[derive(Debug, Default)]
struct Rows {
    rows: BTreeMap<i64, i64>,
    versions: BTreeMap<i64, i64>,
    applied: Vec<Call>,
    asked: usize,
}

/// Keeps the contract of a service: who calls one that was not polled ready is told.
pub(crate) struct Store {
    ready: bool,
    rows: Arc<Mutex<Rows>>,
    fault: Arc<Mutex<Fault>>,
}

/// Each store call takes this long before it takes effect, and again after.
pub(crate) const STEP: Duration = Duration::from_millis(1);

impl Store {
    pub(crate) fn new() -> Store {
        Store {
            ready: false,
            rows: Arc::default(),
            fault: Arc::new(Mutex::new(Fault::None)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap()
    }

    pub(crate) fn fails(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap()
    }

    pub(crate) fn row(&self, id: i64) -> Option<i64> {
        self.lock().rows.get(&id).copied()
    }

    pub(crate) fn set(&self, id: i64, row: i64) {
        self.lock().rows.insert(id, row);
    }

    pub(crate) fn remove(&self, id: i64) {
        self.lock().rows.remove(&id);
    }

    pub(crate) fn version(&self, id: i64) -> i64 {
        self.lock().versions.get(&id).copied().unwrap_or(0)
    }

    /// The writes that took effect.
    pub(crate) fn applied(&self) -> Vec<Call> {
        self.lock().applied.clone()
    }

    /// How many calls arrived.
    pub(crate) fn asked(&self) -> usize {
        self.lock().asked
    }

    fn apply(&self, call: Call) -> Answer {
        let mut store = self.lock();
        let answer = match &call {
            Call::Get(id) | Call::GetWith(id, _) => {
                return Answer::Row(store.rows.get(id).copied());
            }
            Call::List { .. } => return Answer::Rows(store.rows.clone().into_iter().collect()),
            Call::Put(id, row) => {
                store.rows.insert(*id, *row);
                *store.versions.entry(*id).or_default() += 1;
                Answer::Done(*id)
            }
            Call::Remove(id) => {
                store.rows.remove(id);
                *store.versions.entry(*id).or_default() += 1;
                Answer::Done(*id)
            }
            Call::Create(row) => {
                let id = 1 + store.rows.keys().last().copied().unwrap_or(99);
                store.rows.insert(id, *row);
                *store.versions.entry(id).or_default() += 1;
                Answer::Done(id)
            }
            Call::AddToAll(more) => {
                let ids: Vec<i64> = store.rows.keys().copied().collect();
                for id in ids {
                    *store.rows.get_mut(&id).unwrap() += more;
                    *store.versions.entry(id).or_default() += 1;
                }
                Answer::Done(0)
            }
        };
        store.applied.push(call);
        answer
    }
}

impl Clone for Store {
    fn clone(&self) -> Store {
        let (rows, fault) = (Arc::clone(&self.rows), Arc::clone(&self.fault));
        Store {
            ready: false,
            rows,
            fault,
        }
    }
}

impl Service<Call> for Store {
    type Response = Answer;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Answer, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match self.fault() {
            Fault::NeverReady => Poll::Pending,
            _ => {
                self.ready = true;
                Poll::Ready(Ok(()))
            }
        }
    }

    fn call(&mut self, call: Call) -> Self::Future {
        assert!(
            std::mem::take(&mut self.ready),
            "called before it was ready"
        );
        let store = self.clone();
        store.lock().asked += 1;
        Box::pin(async move {
            let fault = store.fault();
            tokio::time::sleep(STEP).await;
            match fault {
                Fault::Refuses => return Err(Error::Constraint),
                Fault::Panics => panic!("the store panics"),
                Fault::Hangs => std::future::pending().await,
                Fault::Slow(more) => tokio::time::sleep(more).await,
                Fault::None
                | Fault::AppliesAndLosesTheAnswer
                | Fault::NeverReady
                | Fault::Leaves => {}
            }
            let answer = store.apply(call);
            tokio::time::sleep(STEP).await;
            match fault {
                Fault::AppliesAndLosesTheAnswer => Err(Error::LostAnswer),
                _ => Ok(answer),
            }
        })
    }
}

/// Copies from `from` to `to`, fenced by version; and knows both sides' versions.
#[derive(Clone)]
pub(crate) struct Port {
    pub(crate) from: Store,
    pub(crate) to: Store,
    pub(crate) fault: Arc<Mutex<Fault>>,
    pub(crate) copies: Arc<Mutex<usize>>,
    /// Answers no question.
    pub(crate) mute: Arc<Mutex<bool>>,
    /// How long it thinks about a question, knowing the answer.
    pub(crate) thinks: Arc<Mutex<Duration>>,
}

impl CopyKeys for Port {
    fn copy(&self, keys: Vec<Key>) -> BoxFuture<'static, Result<Copied, BoxError>> {
        *self.copies.lock().unwrap() += 1;
        let port = self.clone();
        Box::pin(async move {
            let fault = *port.fault.lock().unwrap();
            match fault {
                Fault::Refuses => {
                    return Err(format!("the copier fails: {}", port.row_of(&keys)).into());
                }
                Fault::Leaves => {
                    let why = port.row_of(&keys);
                    let left = keys.into_iter().map(|key| (key, why.clone()));
                    return Ok(Copied {
                        applied: 0,
                        left: left.collect(),
                    });
                }
                Fault::Panics => panic!("the copier panics"),
                Fault::Hangs => std::future::pending().await,
                // Reads early, arrives late.
                Fault::Slow(more) => port.copy_now(&keys, more).await,
                _ => port.copy_now(&keys, STEP).await,
            }
            Ok(Copied {
                applied: keys.len(),
                left: vec![],
            })
        })
    }
}

impl Port {
    /// What a database quotes of a row that it refuses.
    fn row_of(&self, keys: &[Key]) -> String {
        let rows = keys.iter().map(|key| {
            let row = self.from.row(key.as_str().parse().unwrap());
            format!("SECRET{row:?} of {key}")
        });
        rows.collect()
    }

    async fn copy_now(&self, keys: &[Key], pause: Duration) {
        for key in keys {
            let id: i64 = key.as_str().parse().unwrap();
            let (row, version) = (self.from.row(id), self.from.version(id));
            tokio::time::sleep(pause).await;
            let mut to = self.to.lock();
            if to.versions.get(&id).copied().unwrap_or(0) >= version {
                continue;
            }
            to.versions.insert(id, version);
            match row {
                Some(row) => to.rows.insert(id, row),
                None => to.rows.remove(&id),
            };
        }
    }

    /// What the worker would do.
    pub(crate) async fn drain(&self) {
        let keys = self.all_dirty();
        self.copy_now(&keys, Duration::ZERO).await;
    }

    pub(crate) fn is_dirty(&self, id: i64) -> bool {
        self.from.version(id) > self.to.version(id)
    }

    fn all_dirty(&self) -> Vec<Key> {
        let ids: Vec<i64> = self.from.lock().versions.keys().copied().collect();
        ids.into_iter()
            .filter(|id| self.is_dirty(*id))
            .map(Key::from)
            .collect()
    }

    pub(crate) fn copies(&self) -> usize {
        *self.copies.lock().unwrap()
    }

    pub(crate) fn fails(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    fn answer<T: Send + 'static>(&self, answer: T) -> BoxFuture<'static, Result<T, BoxError>> {
        let (mute, thinks) = (*self.mute.lock().unwrap(), *self.thinks.lock().unwrap());
        Box::pin(async move {
            tokio::time::sleep(thinks).await;
            if mute {
                Err("no answer".into())
            } else {
                Ok(answer)
            }
        })
    }
}

impl Versions for Port {
    fn canonical(&self, key: &Key) -> Key {
        Key::from(key.as_str().parse::<i64>().unwrap())
    }

    fn dirty(&self, keys: Vec<Key>) -> BoxFuture<'static, Result<Vec<Key>, BoxError>> {
        let dirty = |key: &Key| self.is_dirty(key.as_str().parse().unwrap());
        self.answer(keys.into_iter().filter(dirty).collect())
    }

    fn any_dirty(&self) -> BoxFuture<'static, Result<bool, BoxError>> {
        self.answer(!self.all_dirty().is_empty())
    }

    fn held(
        &self,
        role: Role,
        keys: Vec<Key>,
    ) -> BoxFuture<'static, Result<Vec<Option<Version>>, BoxError>> {
        let side = match role {
            Role::Authority => &self.from,
            Role::Follower => &self.to,
        };
        let held = |key: &Key| Some(Version(side.version(key.as_str().parse().unwrap())));
        self.answer(keys.iter().map(held).collect())
    }

    fn dirty_keys(&self, limit: usize) -> BoxFuture<'static, Result<Option<Vec<Key>>, BoxError>> {
        let dirty = self.all_dirty();
        self.answer((dirty.len() <= limit).then_some(dirty))
    }
}

pub(crate) type Layer = ChangeoverLayer<Store, Call, Answer, Error>;
pub(crate) type Layered = Changeover<Store, Store, Call, Answer, Error>;
pub(crate) type Built = Builder<Store, Call, Answer, Error>;

pub(crate) struct World {
    pub(crate) legacy: Store,
    pub(crate) new: Store,
    pub(crate) port: Port,
    pub(crate) flags: Flags,
    pub(crate) handle: Handle,
    pub(crate) service: Layered,
}

/// A stage as its row: `authority`, `copying`.
pub(crate) fn epoch(number: i64, authority: Place, copying: bool) -> Epoch {
    Epoch {
        number,
        authority,
        copying,
        moving_to: None,
        revision: 1,
        base: Version::base(0),
        backfilled: true,
        verified: true,
    }
}

pub(crate) fn classify(call: &Call) -> Operation {
    match call {
        Call::Get(id) => Operation::read("get", *id),
        Call::GetWith(id, token) => Operation::read("get", *id).not_older_than(token.clone()),
        Call::List { tolerant: true } => {
            Operation::list("list").routed_by("tenant").tolerates_lag()
        }
        Call::List { tolerant: false } => Operation::list("list").routed_by("tenant"),
        Call::Put(id, _) => Operation::write("put", [*id]),
        Call::Remove(id) => Operation::write("remove", [*id]),
        Call::Create(_) => Operation::insert("create"),
        Call::AddToAll(_) => Operation::bulk("add_to_all", "tenant"),
    }
}

pub(crate) fn observe(answer: &Answer) -> Option<Value> {
    match answer {
        Answer::Row(row) => row.map(Value::Integer),
        Answer::Rows(rows) => Some(Value::List(
            rows.iter().map(|(_, row)| Value::Integer(*row)).collect(),
        )),
        Answer::Done(id) => Some(Value::Integer(*id)),
    }
}

impl World {
    /// In dual-write, everything read from new.
    pub(crate) fn new() -> World {
        World::with(|builder| builder)
    }

    pub(crate) fn with(change: impl FnOnce(Built) -> Built) -> World {
        World::around(|builder, _| change(builder))
    }

    /// With a layer that is told of the stores through their port.
    pub(crate) fn around(change: impl FnOnce(Built, &Port) -> Built) -> World {
        let (legacy, new) = (Store::new(), Store::new());
        let port = Port {
            from: legacy.clone(),
            to: new.clone(),
            fault: Arc::new(Mutex::new(Fault::None)),
            copies: Arc::default(),
            mute: Arc::default(),
            thinks: Arc::default(),
        };
        let flags = Flags::memory(Entity::new("rows").unwrap());
        flags.learn(&epoch(2, Place::Legacy, true)).unwrap();
        flags.set_read_new(Percent::HUNDRED).unwrap();
        let created = |operation: &Operation, answer: &Answer| match answer {
            Answer::Done(id) if operation.kind == Kind::Insert => Some(Touched::keys([*id])),
            _ => None,
        };
        let builder = Changeover::builder(flags.clone())
            .classify(with_written(classify, created))
            .observe(observe)
            .operations(["get", "list", "put", "create", "add_to_all"])
            .outcome(|error: &Error| match error {
                Error::Constraint => Failure::Definite,
                _ => Failure::Unknown,
            })
            .new_service(new.clone())
            .follow(FencedCopy::new(port.clone()))
            .versions(port.clone())
            .control(Percent::ZERO)
            .seed(7);
        let layer: Layer = change(builder, &port).build().unwrap();
        let service = layer.layer(legacy.clone());
        World {
            legacy,
            new,
            port,
            flags,
            handle: layer.handle(),
            service,
        }
    }

    pub(crate) async fn call(&self, call: Call) -> Result<Answer, Error> {
        self.service.clone().oneshot(call).await
    }

    pub(crate) async fn get(&self, id: i64) -> Option<i64> {
        match self.call(Call::Get(id)).await.unwrap() {
            Answer::Row(row) => row,
            other => panic!("not a row: {other:?}"),
        }
    }

    /// The same row on both sides, clean.
    pub(crate) fn both(&self, id: i64, row: i64) {
        self.legacy.set(id, row);
        self.new.set(id, row);
    }
}

/// Long enough for whatever is under way.
pub(crate) async fn rest() {
    tokio::time::sleep(Duration::from_secs(30)).await;
}

/// Polls a future at most `left` times and gives it up then.
pub(crate) struct Polls<F> {
    pub(crate) inner: Pin<Box<F>>,
    pub(crate) left: usize,
}

impl<F: Future> Future for Polls<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        match self.inner.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if self.left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

pub(crate) async fn polls<F: Future>(inner: F, left: usize) -> Option<F::Output> {
    Polls {
        inner: Box::pin(inner),
        left,
    }
    .await
}
