//! One shadow read, from the caller's answer to its counter.

use std::sync::Arc;
use std::time::Duration;

use changeover_flags::Place;
use changeover_shadow::{Answer, Class};
use futures_util::future::BoxFuture;
use tokio::runtime::Handle as Runtime;
use tower_service::Service;

use super::looking::{Looking, too_long};
use crate::call::{Duplicate, Operation};
use crate::desk::Desk;
use crate::metrics::{InFlight, Shed, StoreEnd};
use crate::plan::{Plan, observed};
use crate::ready::Taken;

/// Asks one place.
pub(super) type Ask<Req> =
    Box<dyn FnMut(Place, Req) -> BoxFuture<'static, (StoreEnd, Answer)> + Send>;

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
        } else if too_long(&self.desk, &self.operation, &answer) {
            Some(Shed::Long)
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
            let operation = self.operation.clone();
            let verdict = self.looking().judged(place, answer).await;
            let key = match operation.touched.as_keys() {
                [key] => Some(key.as_str()),
                _ => None,
            };
            for evidence in desk.redaction.evidence(&verdict, key) {
                desk.reservoir.offer(evidence);
            }
            compare.finish(verdict.class());
            drop((room, in_flight));
        };
        drop(tracker.spawn_on(task, &runtime));
    }

    fn looking(self) -> Looking<Req> {
        let second = || self.duplicate.duplicate(&self.request);
        Looking {
            again: second().zip(second()),
            desk: self.desk,
            operation: self.operation,
            request: Some(self.request),
            ask: self.ask,
        }
    }
}
