//! One shadow read: two looks, one verdict.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use changeover_flags::{Place, Role};
use changeover_shadow::{Answer, Class, Judgement, Look, Verdict, judge};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join};
use tokio::runtime::Handle as Runtime;
use tokio::time::{Instant, sleep, timeout};
use tower_service::Service;

use crate::call::{Duplicate, Operation};
use crate::desk::Desk;
use crate::metrics::{InFlight, Shed, StoreEnd, StoreKind};
use crate::plan::{Plan, observed};
use crate::port::{BoxError, NotKept};
use crate::ready::Taken;

/// Asks one place.
type Ask<Req> = Box<dyn FnMut(Place, Req) -> BoxFuture<'static, (StoreEnd, Answer)> + Send>;

/// A shadow read that waits for the caller's own answer.
pub(crate) struct Shadow<Req> {
    desk: Arc<Desk>,
    operation: Operation,
    request: Req,
    duplicate: Arc<dyn Duplicate<Req>>,
    ask: Ask<Req>,
    runtime: Runtime,
}

/// Counts one shadow read, once, in the tally and in the metrics.
struct Compare {
    desk: Arc<Desk>,
    ticket: Option<changeover_shadow::Ticket>,
}

impl Compare {
    fn begin(desk: &Arc<Desk>) -> Compare {
        Compare {
            desk: Arc::clone(desk),
            ticket: Some(desk.tally.start()),
        }
    }

    fn finish(mut self, class: Class) {
        self.count(class);
    }

    fn count(&mut self, class: Class) {
        if let Some(ticket) = self.ticket.take() {
            ticket.finish(class);
            self.desk.metrics.compared(class);
        }
    }
}

impl Drop for Compare {
    fn drop(&mut self) {
        self.count(Class::Abandoned);
    }
}

impl<Req: Send + 'static> Shadow<Req> {
    /// Prepares a shadow read; `None` when the request cannot be copied.
    pub(crate) fn of<L, N, Res, E>(
        plan: &Arc<Plan<Req, Res, E>>,
        legacy: &L,
        new: &N,
        operation: Operation,
        request: &Req,
    ) -> Option<Shadow<Req>>
    where
        L: Service<Req, Response = Res, Error = E> + Clone + Send + 'static,
        L::Future: Send + 'static,
        N: Service<Req, Response = Res, Error = E> + Clone + Send + 'static,
        N::Future: Send + 'static,
        Res: Send + 'static,
        E: Send + 'static,
    {
        let runtime = Runtime::try_current().ok()?;
        let request = plan.second(request)?;
        let (legacy, new) = (legacy.clone(), new.clone());
        let observe = Arc::clone(&plan.observe);
        let ask = move |place, request| {
            let observe = Arc::clone(&observe);
            let answer: BoxFuture<'static, Result<Res, E>> = match place {
                Place::Legacy => Box::pin(Taken::clone_of(&legacy).call(request)),
                Place::New => Box::pin(Taken::clone_of(&new).call(request)),
            };
            let looked: BoxFuture<'static, (StoreEnd, Answer)> = Box::pin(async move {
                let answer = answer.await;
                (StoreEnd::of(&answer), observed(observe.as_ref(), &answer))
            });
            looked
        };
        let desk = Arc::clone(&plan.desk);
        let duplicate = Arc::clone(&plan.duplicate);
        Some(Shadow {
            desk,
            operation,
            request,
            duplicate,
            ask: Box::new(ask),
            runtime,
        })
    }

    /// The caller has its answer, from `place` and after `took`: compare, or shed.
    pub(crate) fn start(self, place: Place, answer: Answer, took: Duration) {
        let compare = Compare::begin(&self.desk);
        let metrics = &self.desk.metrics;
        let shed = if self.desk.shadows.is_closed() {
            Some(Shed::Closing)
        } else if took > self.desk.limits.shed_over {
            Some(Shed::Slow)
        } else {
            None
        };
        if let Some(reason) = shed {
            metrics.shed(reason);
            return compare.finish(Class::Shed);
        }
        let Ok(room) = Arc::clone(&self.desk.shadow_room).try_acquire_owned() else {
            metrics.shed(Shed::Shadows);
            return compare.finish(Class::Shed);
        };
        let in_flight = InFlight::new(&metrics.shadows_in_flight);
        let (tracker, runtime) = (self.desk.shadows.clone(), self.runtime.clone());
        let task = async move {
            let desk = Arc::clone(&self.desk);
            let verdict = self.look(place, answer).await;
            for field in verdict.fields() {
                desk.reservoir.offer(desk.redaction.field(field));
            }
            compare.finish(verdict.class());
            drop((room, in_flight));
        };
        drop(tracker.spawn_on(task, &runtime));
    }

    async fn look(mut self, place: Place, answer: Answer) -> Verdict {
        let desk = Arc::clone(&self.desk);
        let again = (self.second(), self.second());
        let other = (self.ask)(place.other(), self.request);
        let other = asked(&desk, place.other(), other).await;
        let mut first = match place {
            Place::Legacy => look(answer, other),
            Place::New => look(other, answer),
        };
        if let Judgement::Final(verdict) = judge(&first, None, &desk.rules) {
            return verdict;
        }
        first.versions = versions(&desk, &self.operation).await.unwrap_or(None);
        sleep(desk.limits.second_look_after).await;
        let (Some(to_legacy), Some(to_new)) = again else {
            // It could be copied once and not again: nothing was confirmed.
            return Verdict::Shed;
        };
        let legacy = (self.ask)(Place::Legacy, to_legacy);
        let new = (self.ask)(Place::New, to_new);
        let legacy = asked(&desk, Place::Legacy, legacy);
        let (legacy, new) = join(legacy, asked(&desk, Place::New, new)).await;
        let mut second = look(legacy, new);
        // After the answers: a copy that came between them shows as versions that moved.
        let told = versions(&desk, &self.operation).await;
        second.versions = told.unwrap_or(None);
        let Judgement::Final(verdict) = judge(&first, Some(&second), &desk.rules) else {
            return Verdict::Shed;
        };
        match told {
            // Who keeps versions and did not tell them leaves open whether this is lag.
            Err(Untold) if verdict.confirmed() => Verdict::Timeout,
            Ok(None) if verdict.confirmed() && desk.pinned(&self.operation) => Verdict::Lagging,
            _ => verdict,
        }
    }

    fn second(&self) -> Option<Req> {
        self.duplicate.duplicate(&self.request)
    }
}

fn look(legacy: Answer, new: Answer) -> Look {
    Look {
        legacy,
        new,
        versions: None,
    }
}

/// One call of a shadow read: within its time, its panics contained, measured.
async fn asked(
    desk: &Desk,
    place: Place,
    answer: BoxFuture<'static, (StoreEnd, Answer)>,
) -> Answer {
    let began = Instant::now();
    let answer = timeout(
        desk.limits.shadow_time,
        AssertUnwindSafe(answer).catch_unwind(),
    );
    let (end, answer) = match answer.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_panic)) => (StoreEnd::Error, Answer::Failed),
        Err(_elapsed) => (StoreEnd::Timeout, Answer::TimedOut),
    };
    desk.metrics
        .store(place, StoreKind::Shadow, end, began.elapsed());
    answer
}

/// The databases keep versions and did not tell them.
#[derive(Clone, Copy)]
struct Untold;

/// The versions on the authority and on the follower, if any are kept. For a list, which has none,
/// whether anything is dirty: the follower is then said to be behind.
async fn versions(desk: &Desk, operation: &Operation) -> Result<Option<(i64, i64)>, Untold> {
    let time = desk.limits.shadow_time;
    let [key] = operation.touched.as_keys() else {
        let dirty = desk.ask_within(time, |versions| versions.any_dirty());
        return kept(dirty.await.map(|dirty| (i64::from(dirty), 0)));
    };
    let held = async |role: Role| {
        let asked = vec![key.clone()];
        let held = desk
            .ask_within(time, |versions| versions.held(role, asked))
            .await?;
        Ok(held.first().map_or(0, |version| version.0))
    };
    // The follower first: a copy between the two questions must not make it look ahead.
    let follower = match kept(held(Role::Follower).await)? {
        Some(follower) => follower,
        None => return Ok(None),
    };
    kept(
        held(Role::Authority)
            .await
            .map(|authority| (authority, follower)),
    )
}

fn kept<T>(told: Result<T, BoxError>) -> Result<Option<T>, Untold> {
    match told {
        Ok(told) => Ok(Some(told)),
        Err(error) if error.is::<NotKept>() => Ok(None),
        Err(_) => Err(Untold),
    }
}
