//! One shadow read, from the caller's answer to its counter.

use std::sync::Arc;

use changeover_flags::Place;
use changeover_shadow::{Class, Ticket};
use futures_util::future::BoxFuture;
use tokio::runtime::Handle as Runtime;

use super::looking::{Looking, too_long};
use super::sides::{LazySides, Side, Sides, sides};
use super::starting::Job;
use crate::call::{Kind, Operation};
use crate::desk::Held;
use crate::metrics::{Shed, Took};
use crate::plan::{Plan, Seen};

/// A shadow read that waits for the caller's own answer.
pub(crate) struct Shadow<Req, Res, E> {
    operation: Operation,
    request: Req,
    sides: Arc<dyn Sides<Req>>,
    runtime: Runtime,
    compare: Compare<Req, Res, E>,
    /// `None` while the caller waits.
    look: Option<FirstLook<Res>>,
}

/// What the caller was answered, and the place that its shadow read takes until it is over.
struct FirstLook<Res> {
    place: Place,
    seen: Seen<Res>,
    took: Option<Took>,
    _held: Held,
}

/// Counts one shadow read, once, in the tally and in the metrics.
struct Compare<Req, Res, E> {
    plan: Arc<Plan<Req, Res, E>>,
    ticket: Option<Ticket>,
    /// Whether the caller has had its answer.
    answered: bool,
}

impl<Req, Res, E> Compare<Req, Res, E> {
    fn begin(plan: &Arc<Plan<Req, Res, E>>) -> Self {
        Compare {
            plan: Arc::clone(plan),
            ticket: Some(plan.desk.tally.start()),
            answered: false,
        }
    }

    fn shed(self, reason: Shed) {
        self.plan.desk.metrics.shed(reason);
        self.finish(Class::Shed);
    }

    fn finish(mut self, class: Class) {
        self.count(class);
    }

    fn count(&mut self, class: Class) {
        if let Some(ticket) = self.ticket.take() {
            ticket.finish(class);
            self.plan.desk.metrics.compared(class);
        }
    }
}

impl<Req, Res, E> Drop for Compare<Req, Res, E> {
    fn drop(&mut self) {
        if self.ticket.is_none() {
            return;
        }
        if self.answered {
            return self.count(Class::Abandoned);
        }
        self.plan.desk.metrics.shed(Shed::Unanswered);
        self.count(Class::Shed);
    }
}

impl<Req, Res, E> Shadow<Req, Res, E>
where
    Req: Send + 'static,
    Res: Send + 'static,
    E: Send + 'static,
{
    /// Prepares a shadow read; `None` when the request cannot be copied, which is counted.
    pub(crate) fn of<L, N>(
        plan: &Arc<Plan<Req, Res, E>>,
        lazy: &LazySides<Req>,
        (legacy, new): (&L, &N),
        operation: Operation,
        request: &Req,
        runtime: Runtime,
    ) -> Option<Box<Shadow<Req, Res, E>>>
    where
        L: Side<Req, Res, E>,
        N: Side<Req, Res, E>,
    {
        let Some(request) = plan.second(request) else {
            plan.desk.not_compared(Shed::Plain);
            return None;
        };
        let asked = plan.probe.as_ref().unwrap_or_else(|| {
            lazy.get_or_init(|| sides(legacy.clone(), new.clone(), Arc::clone(&plan.eye)))
        });
        Some(Box::new(Shadow {
            operation,
            request,
            sides: Arc::clone(asked),
            runtime,
            compare: Compare::begin(plan),
            look: None,
        }))
    }

    /// The caller has its answer, from `place` and after `took`, if that is known: compare, or shed.
    pub(crate) fn start(
        mut self: Box<Self>,
        place: Place,
        answer: &Result<Res, E>,
        took: Option<Took>,
    ) {
        self.compare.answered = true;
        let plan = &self.compare.plan;
        let desk = &plan.desk;
        // Before the answer is observed, which may cost more than all of this.
        if desk.shadows.is_closed() {
            return self.compare.shed(Shed::Closing);
        }
        if took.is_some_and(|took| took.time > desk.limits.shed_over) {
            return self.compare.shed(Shed::Slow);
        }
        if desk.pool_waits() {
            return self.compare.shed(Shed::Pool);
        }
        let Some(held) = desk.shadows.take() else {
            return self.compare.shed(Shed::Shadows);
        };
        let starting = Arc::clone(&desk.starting);
        self.look = Some(FirstLook {
            place,
            seen: plan.seen(answer),
            took,
            _held: held,
        });
        starting.push(self);
    }
}

impl<Req, Res, E> Job for Shadow<Req, Res, E>
where
    Req: Send + 'static,
    Res: Send + 'static,
    E: Send + 'static,
{
    fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    fn run(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let Shadow {
                operation,
                request,
                sides,
                compare,
                look,
                runtime: _,
            } = *self;
            let Some(FirstLook {
                place,
                seen,
                took,
                _held,
            }) = look
            else {
                return;
            };
            let plan = &compare.plan;
            let answer = match seen {
                Seen::Observed(answer) => answer,
                Seen::Copied(answer) => plan.observed(&Ok(answer)),
            };
            if too_long(&plan.desk, &operation, &answer) {
                return compare.shed(Shed::Long);
            }
            let (looking, request) = looking(plan, operation, request, sides);
            let count = |class| compare.finish(class);
            looking.run(request, place, answer, took, count).await;
        })
    }
}

/// All that the looks need.
fn looking<Req: 'static, Res: 'static, E: 'static>(
    plan: &Plan<Req, Res, E>,
    operation: Operation,
    request: Req,
    sides: Arc<dyn Sides<Req>>,
) -> (Looking<Req>, Req) {
    let second = || plan.duplicate.duplicate(&request);
    let single = operation.kind == Kind::Read && operation.touched.as_keys().len() == 1;
    let control = single && plan.desk.draw(plan.desk.instrument.control);
    let looking = Looking {
        again: second().zip(second()),
        control: control.then(|| second().zip(second())).flatten(),
        took: [None; 2],
        desk: Arc::clone(&plan.desk),
        operation,
        sides,
    };
    (looking, request)
}
