//! An instance of the application: its two repositories behind the product's own Tower layer.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use changeover::flags::{Entity, Epoch, Flags, Key, Percent, Place, Role, Version};
use changeover::proxy::{
    BoxError, Changeover, Copied, CopyKeys, Failure, FencedCopy, Limits, Operation, Refused,
    Versions,
};
use changeover::shadow::Value;
use changeover::worker::copy::{Copier, CopySource, Together};
use changeover::worker::metrics::Meters;
use changeover::worker::store::{Authority, Follower, StoreError};
use futures_util::future::BoxFuture;
use tower::{Layer as _, Service, ServiceExt as _};

use super::bugs::Bug;
use super::network::{Net, State, What};
use super::ports::Ports;
use super::world::Flavour;

#[derive(Debug, Clone)]
pub enum Call {
    Append { key: Key, id: u32, flavour: Flavour },
    Delete { key: Key },
    Swap { one: Key, other: Key },
    Get { key: Key },
}

#[derive(Debug, Clone)]
pub enum Reply {
    Done(Version),
    Row(Option<Vec<u32>>, Version),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    Refused,
    Unknown,
}

impl From<Refused> for Failed {
    fn from(_: Refused) -> Failed {
        Failed::Refused
    }
}

impl From<Infallible> for Failed {
    fn from(never: Infallible) -> Failed {
        match never {}
    }
}

/// A repository over one of the databases.
#[derive(Clone)]
pub struct Repository {
    pub net: Net,
    pub place: Place,
}

impl Repository {
    /// One call to the database, without the layer: what an out-of-band writer does, too.
    pub async fn send(&self, call: &Call) -> Result<Reply, Failed> {
        let what = if matches!(call, Call::Get { .. }) {
            What::Read
        } else {
            What::Write
        };
        let (place, sent) = (self.place, call.clone());
        let done = self
            .net
            .call(what, move |state| act(state, place, &sent))
            .await;
        done.map_err(|error| match error {
            StoreError::Unreachable { .. } => Failed::Unknown,
            _ => Failed::Refused,
        })
    }
}

fn act(state: &mut State, place: Place, call: &Call) -> Result<Reply, StoreError> {
    let world = &mut state.world;
    let (key, version) = match call {
        Call::Append { key, id, flavour } => (key, world.append(key, *id, *flavour)?),
        Call::Delete { key } => (key, world.delete(key)?),
        Call::Swap { one, other } => (one, world.swap(one, other)?),
        Call::Get { key } => {
            let legacy = place == Place::Legacy;
            let (row, version) = if legacy {
                world.look(key)
            } else {
                world.look_at_follower(key)
            };
            return Ok(Reply::Row(row, version));
        }
    };
    if world.bug == Some(Bug::StampOutsideTheTransaction) {
        world.unstamp(key);
        let key = key.clone();
        let stamp = Box::new(move |state: &mut State| {
            state.world.stamp(&key);
        });
        state.soon(8, stamp);
        return Ok(Reply::Done(Version(version.0 - 1)));
    }
    Ok(Reply::Done(version))
}

impl Service<Call> for Repository {
    type Response = Reply;
    type Error = Failed;
    type Future = BoxFuture<'static, Result<Reply, Failed>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let repository = self.clone();
        Box::pin(async move {
            let answer = repository.send(&call).await;
            let retries = repository.bug() == Some(Bug::UnknownWriteRetried);
            match answer {
                Err(Failed::Unknown) if retries => repository.send(&call).await,
                answer => answer,
            }
        })
    }
}

impl Repository {
    fn bug(&self) -> Option<Bug> {
        self.net.sim.state().world.bug
    }
}

/// The facade's bridge from the layer's ports to the worker's, as a test needs it.
#[derive(Clone)]
struct Bridge {
    ports: Ports,
    copies: Together,
    bug: Option<Bug>,
}

impl CopyKeys for Bridge {
    fn copy(&self, keys: Vec<Key>) -> BoxFuture<'static, Result<Copied, BoxError>> {
        let bridge = self.clone();
        let asked = keys.len();
        let copy = async move {
            let left = bridge.copies.copy(&keys).await?;
            Ok(Copied {
                applied: asked.saturating_sub(left.len()),
                left,
            })
        };
        if self.bug == Some(Bug::UnpinnedBeforeCopied) {
            tokio::spawn(async move { copy.await.map_err(|error: BoxError| error.to_string()) });
            return Box::pin(async move {
                Ok(Copied {
                    applied: asked,
                    left: Vec::new(),
                })
            });
        }
        Box::pin(copy)
    }
}

impl Versions for Bridge {
    fn dirty(&self, keys: Vec<Key>) -> BoxFuture<'static, Result<Vec<Key>, BoxError>> {
        let ports = self.ports.clone();
        Box::pin(async move { Ok(ports.dirty_among(&keys).await?.into_keys().collect()) })
    }

    fn any_dirty(&self) -> BoxFuture<'static, Result<bool, BoxError>> {
        let ports = self.ports.clone();
        Box::pin(async move { Ok(ports.lag().await?.dirty > 0) })
    }

    fn held(
        &self,
        role: Role,
        keys: Vec<Key>,
    ) -> BoxFuture<'static, Result<Vec<Option<Version>>, BoxError>> {
        let ports = self.ports.clone();
        Box::pin(async move {
            Ok(match role {
                Role::Authority => {
                    let held = Authority::versions(&ports, &keys).await?;
                    held.into_iter().map(Some).collect()
                }
                Role::Follower => Follower::versions(&ports, &keys).await?,
            })
        })
    }
}

/// A copier as a process of this revision has it. All count into one set of meters, which nobody
/// reads: registering a set per process would take most of a schedule's time.
pub fn copier(ports: &Ports, bug: Option<Bug>) -> Copier {
    static METERS: OnceLock<Arc<Meters>> = OnceLock::new();
    let meters = METERS.get_or_init(|| Arc::new(Meters::new(&entity())));
    Copier::with_meters(
        Arc::clone(meters),
        Arc::new(ports.clone()),
        Bug::meddle(bug, ports),
    )
}

fn entity() -> Entity {
    Entity::new("things").expect("a plain name")
}

/// One instance of the application.
#[derive(Clone)]
pub struct Instance {
    pub net: Net,
    service: Changeover<Repository, Repository, Call, Reply, Failed>,
    /// By key, the newest version that this instance acknowledged.
    floor: Arc<Mutex<BTreeMap<Key, Version>>>,
}

/// What an instance is configured with.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub revision: i64,
    pub percent: Percent,
    pub sample: Percent,
    pub copies: usize,
    pub pins: usize,
    pub strict: bool,
    pub seed: u64,
    pub bug: Option<Bug>,
}

impl Instance {
    pub fn start(net: Net, settings: Settings) -> Instance {
        let Settings {
            revision,
            percent,
            sample,
            copies,
            pins,
            strict,
            seed,
            bug,
        } = settings;
        let ports = Ports {
            net: net.clone(),
            revision,
        };
        let bridge = Bridge {
            copies: Together::new(copier(&ports, bug), CopySource::Inline),
            ports,
            bug,
        };
        let flags = Flags::memory(entity());
        let epoch = Epoch {
            number: 1,
            authority: Place::Legacy,
            copying: true,
            moving_to: None,
            revision,
            base: Version::base(0),
            backfilled: true,
            verified: true,
        };
        flags.learn(&epoch).expect("memory keeps what it is told");
        flags
            .set_read_new(percent)
            .expect("it is backfilled and verified");
        flags
            .set_sample(sample)
            .expect("memory keeps what it is told");
        let limits = Limits {
            copies,
            pins,
            copy_time: Duration::from_millis(400),
            follower_time: Duration::from_millis(30),
            ask_time: Duration::from_millis(30),
            sweep_every: Duration::from_millis(60),
            second_look_after: Duration::from_millis(20),
            ..Limits::default()
        };
        let layer = Changeover::builder(flags)
            .new_service(Repository {
                net: net.clone(),
                place: Place::New,
            })
            .classify(classify)
            .observe(|reply: &Reply| match reply {
                Reply::Done(_) => None,
                Reply::Row(row, _) => row.as_ref().map(|ids| Value::Text(format!("{ids:?}"))),
            })
            .follow(FencedCopy::new(bridge.clone()))
            .versions(bridge)
            .outcome(|failed: &Failed| match failed {
                Failed::Refused => Failure::Definite,
                Failed::Unknown => Failure::Unknown,
            })
            .limits(limits)
            .strict(strict)
            .seed(seed)
            .build()
            .expect("everything required is given");
        let service = layer.layer(Repository {
            net: net.clone(),
            place: Place::Legacy,
        });
        Instance {
            net,
            service,
            floor: Arc::default(),
        }
    }

    /// One call through the layer, given up after `patience`, and what the oracle says of it.
    pub async fn call(&self, call: Call, patience: Option<Duration>) {
        let sim = &self.net.sim;
        let key = match &call {
            Call::Append { key, .. } | Call::Delete { key } | Call::Get { key } => key.clone(),
            Call::Swap { one, .. } => one.clone(),
        };
        let floor = self.floor(&key);
        let answered = self.service.clone().oneshot(call.clone());
        let answer = match patience {
            None => answered.await,
            Some(patience) => match tokio::time::timeout(patience, answered).await {
                Ok(answer) => answer,
                Err(_) => return,
            },
        };
        let mut state = sim.state();
        let world = &mut state.world;
        match (&call, answer) {
            (Call::Get { .. }, Ok(Reply::Row(_, version))) if version < floor => {
                world.violate(format!("G8: {key} was read at {version}, known at {floor}"));
            }
            (_, Ok(Reply::Done(version))) => {
                if let Call::Append { id, .. } = call {
                    world.acknowledge(id);
                }
                let mut floors = self
                    .floor
                    .lock()
                    .expect("nothing panics while it holds the lock");
                let floor = floors.entry(key).or_default();
                *floor = version.max(*floor);
            }
            (Call::Append { id, .. }, Err(Failed::Refused)) => world.refuse(*id),
            (Call::Append { id, .. }, Err(Failed::Unknown)) if world.took_effect(*id) => {
                let (_, version) = world.look(&key);
                world.answer_was_lost(&key, version);
            }
            _ => {}
        }
    }

    fn floor(&self, key: &Key) -> Version {
        let floors = self
            .floor
            .lock()
            .expect("nothing panics while it holds the lock");
        floors.get(key).copied().unwrap_or_default()
    }
}

fn classify(call: &Call) -> Operation {
    match call {
        Call::Append { key, .. } => Operation::write("append", [key.clone()]),
        Call::Delete { key } => Operation::write("delete", [key.clone()]),
        Call::Swap { one, other } => Operation::write("swap", [one.clone(), other.clone()]),
        Call::Get { key } => Operation::read("get", key.clone()),
    }
}
