//! Calls to the simulated databases: a request that travels, an effect, an answer that travels.
//!
//! A call belongs to the network once it is sent: dropping its caller does not cancel it. What
//! becomes of it is drawn from the schedule's one seed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use changeover::worker::store::{BoxError, StoreError};
use futures_util::future::BoxFuture;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::bugs::Bug;
use super::world::{Process, World};

/// How long a caller waits before it takes an answer for lost, in milliseconds.
const PATIENCE: u64 = 60;

type Event = Box<dyn FnOnce(&mut State) + Send>;

/// How often what goes wrong, in percent of calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    pub lost_request: u32,
    pub lost_answer: u32,
    pub late: u32,
    pub duplicate: u32,
    pub refused: u32,
    pub slow: u32,
}

/// What a call is, for the trace, and whether it may arrive twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Read,
    Write,
    Copy,
    Mark,
}

pub struct State {
    pub world: World,
    pub random: SmallRng,
    pub faults: Faults,
    events: BTreeMap<(u64, u64), Event>,
    sent: u64,
    now: u64,
    /// A running hash of everything that happened, in order.
    pub trace: u64,
    pub verbose: bool,
}

/// One schedule: the databases, the network, the seed.
pub struct Sim {
    state: Mutex<State>,
    wake: Notify,
    begun: Instant,
}

/// The end of the network at one process. A process that crashed never hears again.
#[derive(Clone)]
pub struct Net {
    pub sim: Arc<Sim>,
    alive: Arc<AtomicBool>,
    pub process: Process,
}

impl State {
    pub fn note(&mut self, what: &dyn fmt::Debug, detail: u64) {
        for part in [self.now, detail] {
            self.trace = (self.trace ^ part).wrapping_mul(0x0000_0100_0000_01b3);
            self.trace ^= self.trace >> 29;
        }
        if self.verbose {
            eprintln!("{:>6} ms {what:?} {detail}", self.now);
        }
    }

    pub fn calls(&self) -> u64 {
        self.sent
    }

    pub fn is_quiet(&self) -> bool {
        self.events.is_empty()
    }

    /// Lets `event` happen in `after` milliseconds.
    pub fn soon(&mut self, after: u64, event: Event) {
        self.at(self.now + after, event);
    }

    fn at(&mut self, at: u64, event: Event) {
        self.sent += 1;
        self.events.insert((at, self.sent), event);
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim").finish_non_exhaustive()
    }
}

impl Sim {
    /// Must be called inside a runtime whose clock is paused.
    pub fn new(seed: u64, bug: Option<Bug>, verbose: bool) -> Arc<Sim> {
        let state = State {
            world: World::new(bug),
            random: SmallRng::seed_from_u64(seed),
            faults: Faults::default(),
            events: BTreeMap::new(),
            sent: 0,
            now: 0,
            trace: 0xcbf2_9ce4_8422_2325,
            verbose,
        };
        Arc::new(Sim {
            state: Mutex::new(state),
            wake: Notify::new(),
            begun: Instant::now(),
        })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self
            .state
            .lock()
            .expect("nothing panics while it holds the lock");
        state.now = self.begun.elapsed().as_millis() as u64;
        state
    }

    /// A number below `end`.
    pub fn draw(&self, end: u64) -> u64 {
        self.state().random.random_range(0..end.max(1))
    }

    pub fn net(self: &Arc<Self>, process: Process) -> Net {
        Net {
            sim: Arc::clone(self),
            alive: Arc::new(AtomicBool::new(true)),
            process,
        }
    }

    /// Delivers what is under way, until a rule is broken.
    pub async fn deliver(&self) {
        loop {
            let next = {
                let mut state = self.state();
                if state.world.violation.is_some() {
                    return;
                }
                let next = state.events.first_key_value().map(|((at, _), _)| *at);
                if next.is_some_and(|at| at <= state.now)
                    && let Some((_, event)) = state.events.pop_first()
                {
                    event(&mut state);
                    continue;
                }
                next
            };
            match next {
                None => self.wake.notified().await,
                Some(at) => {
                    tokio::select! {
                        biased;
                        () = self.wake.notified() => {}
                        () = tokio::time::sleep_until(self.begun + Duration::from_millis(at)) => {}
                    }
                }
            }
        }
    }
}

enum Fate {
    Arrives,
    LosesRequest,
    LosesAnswer,
    ArrivesLate,
    ArrivesTwice,
    IsRefused,
    Waits,
}

impl State {
    fn fate(&mut self, what: What) -> Fate {
        let mut roll = self.random.random_range(0..100_u32);
        let faults = self.faults;
        let twice = if what == What::Write {
            0
        } else {
            faults.duplicate
        };
        let fates = [
            (faults.lost_request, Fate::LosesRequest),
            (faults.lost_answer, Fate::LosesAnswer),
            (faults.late, Fate::ArrivesLate),
            (twice, Fate::ArrivesTwice),
            (faults.refused, Fate::IsRefused),
            (faults.slow, Fate::Waits),
        ];
        for (share, fate) in fates {
            if roll < share {
                return fate;
            }
            roll -= share;
        }
        Fate::Arrives
    }
}

impl Net {
    /// The process dies: none of its calls is ever answered, and it sends no more. What is under
    /// way arrives all the same.
    pub fn crash(&self) {
        self.alive.store(false, Ordering::Relaxed);
    }

    pub fn with(&self, process: Process) -> Net {
        Net {
            process,
            ..self.clone()
        }
    }

    /// Sends a call. `act` is what it does to the databases; with a cut (0 to 99), it may do that
    /// in part, if it can be cut.
    pub fn call<T: Send + 'static>(
        &self,
        what: What,
        mut act: impl FnMut(&mut State) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let net = self.clone();
        Box::pin(async move {
            if !net.alive.load(Ordering::Relaxed) {
                return std::future::pending().await;
            }
            let (answer, answered) = oneshot::channel();
            {
                let mut state = net.sim.state();
                let now = state.now;
                let out = now + state.random.random_range(1..5);
                let back = state.random.random_range(1..5);
                let fate = state.fate(what);
                state.note(&what, out);
                let lost = |answer: oneshot::Sender<_>| -> Event {
                    Box::new(move |_: &mut State| {
                        let _ = answer.send(Err(lost(what)));
                    })
                };
                match fate {
                    Fate::Arrives | Fate::ArrivesTwice | Fate::Waits => {
                        let out = if matches!(fate, Fate::Waits) {
                            out + 40
                        } else {
                            out
                        };
                        let again = matches!(fate, Fate::ArrivesTwice)
                            .then(|| out + state.random.random_range(1..300));
                        let arrives: Event = Box::new(move |state| {
                            let done = act(state);
                            state.note(&(what, done.is_ok()), 1);
                            let at = state.now + back;
                            state.at(
                                at,
                                Box::new(move |_| {
                                    let _ = answer.send(done);
                                }),
                            );
                            if let Some(again) = again {
                                state.at(
                                    again,
                                    Box::new(move |state| {
                                        let _ = act(state);
                                    }),
                                );
                            }
                        });
                        state.at(out, arrives);
                    }
                    Fate::LosesRequest => state.at(now + PATIENCE, lost(answer)),
                    Fate::LosesAnswer | Fate::ArrivesLate => {
                        let late = matches!(fate, Fate::ArrivesLate);
                        let out = if late { now + (out - now) * 100 } else { out };
                        let arrives: Event = Box::new(move |state| {
                            let done = act(state);
                            state.note(&(what, done.is_ok(), "unheard"), 2);
                        });
                        state.at(out, arrives);
                        state.at(now + PATIENCE, lost(answer));
                    }
                    Fate::IsRefused => {
                        let busy = StoreError::Busy {
                            store: "simulated".into(),
                            doing: format!("{what:?}"),
                            source: "a deadlock".into(),
                        };
                        let refuse: Event = Box::new(move |_: &mut State| {
                            let _ = answer.send(Err(busy));
                        });
                        state.at(out + back, refuse);
                    }
                }
            }
            net.sim.wake.notify_one();
            match answered.await {
                Ok(done) if net.alive.load(Ordering::Relaxed) => done,
                _ => std::future::pending().await,
            }
        })
    }
}

fn lost(what: What) -> StoreError {
    StoreError::Unreachable {
        store: "simulated".into(),
        doing: format!("{what:?}"),
        source: BoxError::from("no answer in time"),
    }
}
