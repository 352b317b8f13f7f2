//! One shadow read, from the caller's answer to its counter.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use changeover_flags::Place;
use changeover_shadow::{Answer, Class};
use futures_util::future::BoxFuture;
use tokio::runtime::Handle as Runtime;
use tower_service::Service;

use super::looking::{Looking, too_long};
use crate::call::{Kind, Operation};
use crate::desk::Desk;
use crate::metrics::{InFlight, Shed, StoreEnd};
use crate::pins::lock;
use crate::plan::{Eye, Plan};
use crate::ready::Taken;

/// Asks one of the two sides of a layer, for its shadow reads. One for all clones of a service, so
/// that a call that is compared does not copy services while its caller waits.
pub(crate) trait Sides<Req>: Send + Sync {
    fn ask(&self, place: Place, request: Req) -> BoxFuture<'static, (StoreEnd, Answer)>;
}

/// The sides of a service and its clones, made by the first shadow read.
pub(crate) type LazySides<Req> = Arc<OnceLock<Arc<dyn Sides<Req>>>>;

struct Both<L, N, Res, E> {
    /// Locked to be cloned: services need not be `Sync`.
    services: Mutex<(L, N)>,
    eye: Arc<Eye<Res, E>>,
}

impl<L, N, Req, Res, E> Sides<Req> for Both<L, N, Res, E>
where
    L: Service<Req, Response = Res, Error = E> + Clone + Send + 'static,
    L::Future: Send + 'static,
    N: Service<Req, Response = Res, Error = E> + Clone + Send + 'static,
    N::Future: Send + 'static,
    Req: Send + 'static,
    Res: Send + 'static,
    E: Send + 'static,
{
    fn ask(&self, place: Place, request: Req) -> BoxFuture<'static, (StoreEnd, Answer)> {
        let eye = Arc::clone(&self.eye);
        match place {
            Place::Legacy => looked(Taken::clone_of(&lock(&self.services).0), request, eye),
            Place::New => looked(Taken::clone_of(&lock(&self.services).1), request, eye),
        }
    }
}

fn looked<S, Req>(
    side: Taken<S>,
    request: Req,
    eye: Arc<Eye<S::Response, S::Error>>,
) -> BoxFuture<'static, (StoreEnd, Answer)>
where
    S: Service<Req> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send + 'static,
    S::Error: Send,
    Req: Send + 'static,
{
    Box::pin(async move {
        let answer = side.call(request).await;
        (StoreEnd::of(&answer), eye(&answer))
    })
}

/// A shadow read that waits for the caller's own answer.
pub(crate) struct Shadow<Req, Res, E> {
    plan: Arc<Plan<Req, Res, E>>,
    operation: Operation,
    request: Req,
    sides: Arc<dyn Sides<Req>>,
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

impl<Req, Res, E> Shadow<Req, Res, E>
where
    Req: Send + 'static,
    Res: Send + 'static,
    E: Send + 'static,
{
    /// Prepares a shadow read; `None` when the request cannot be copied.
    pub(crate) fn of<L, N>(
        plan: &Arc<Plan<Req, Res, E>>,
        sides: &LazySides<Req>,
        (legacy, new): (&L, &N),
        operation: Operation,
        request: &Req,
        runtime: Runtime,
    ) -> Option<Box<Shadow<Req, Res, E>>>
    where
        L: Service<Req, Response = Res, Error = E> + Clone + Send + 'static,
        L::Future: Send + 'static,
        N: Service<Req, Response = Res, Error = E> + Clone + Send + 'static,
        N::Future: Send + 'static,
    {
        let request = plan.second(request)?;
        let sides = sides.get_or_init(|| {
            Arc::new(Both {
                services: Mutex::new((legacy.clone(), new.clone())),
                eye: Arc::clone(&plan.eye),
            })
        });
        Some(Box::new(Shadow {
            plan: Arc::clone(plan),
            operation,
            request,
            sides: Arc::clone(sides),
            runtime,
        }))
    }

    /// The caller has its answer, from `place` and after `took`: compare, or shed.
    pub(crate) fn start(self: Box<Self>, place: Place, answer: &Result<Res, E>, took: Duration) {
        let desk = &self.plan.desk;
        let compare = Compare::begin(desk);
        let shed = |reason, compare: Compare| {
            desk.metrics.shed(reason);
            compare.finish(Class::Shed);
        };
        // Before the answer is observed, which may cost more than all of this.
        if desk.shadows.is_closed() {
            return shed(Shed::Closing, compare);
        }
        if took > desk.limits.shed_over {
            return shed(Shed::Slow, compare);
        }
        let Ok(room) = Arc::clone(&desk.shadow_room).try_acquire_owned() else {
            return shed(Shed::Shadows, compare);
        };
        let answer = self.plan.observed(answer);
        if too_long(desk, &self.operation, &answer) {
            return shed(Shed::Long, compare);
        }
        let in_flight = InFlight::new(&desk.metrics.shadows_in_flight);
        let (tracker, runtime) = (desk.shadows.clone(), self.runtime.clone());
        let task = async move {
            // Boxed here: what is moved into the task, while the caller waits, stays small.
            Box::pin(
                self.looking()
                    .run(place, answer, took, |class| compare.finish(class)),
            )
            .await;
            drop((room, in_flight));
        };
        drop(tracker.spawn_on(task, &runtime));
    }

    fn looking(self) -> Looking<Req> {
        let second = || self.plan.duplicate.duplicate(&self.request);
        let single =
            self.operation.kind == Kind::Read && self.operation.touched.as_keys().len() == 1;
        let control = single && self.plan.desk.draw(self.plan.desk.instrument.control);
        Looking {
            again: second().zip(second()),
            control: control.then(|| second().zip(second())).flatten(),
            took: [None; 2],
            desk: Arc::clone(&self.plan.desk),
            operation: self.operation,
            request: Some(self.request),
            sides: self.sides,
        }
    }
}
