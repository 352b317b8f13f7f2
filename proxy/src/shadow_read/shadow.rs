//! One shadow read, from the caller's answer to its counter.

use std::sync::Arc;

use changeover_flags::Place;
use changeover_shadow::Class;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle as Runtime;

use super::looking::{Looking, too_long};
use super::sides::{Ground, LazyGround, Side, Sides, sides};
use super::starting::Job;
use crate::call::{Kind, Operation};
use crate::desk::{Desk, Held};
use crate::metrics::{Shed, Took};
use crate::plan::{Plan, Seen};

/// A shadow read that waits for the caller's own answer.
pub(crate) struct Shadow<Req, Res, E> {
    operation: Operation,
    request: Req,
    runtime: Runtime,
    compare: Compare<Req, Res, E>,
    /// `None` while the caller waits.
    look: Option<FirstLook<Res>>,
}

/// What the caller was answered.
struct FirstLook<Res> {
    place: Place,
    seen: Seen<Res>,
    took: Option<Took>,
}

/// Counts one shadow read, once, in the tally and in the metrics; and holds its place until it runs.
struct Compare<Req, Res, E> {
    ground: Arc<Ground<Req, Res, E>>,
    /// Whether it is still to be counted.
    open: bool,
    /// Whether the caller has had its answer.
    answered: bool,
    /// Whether a place is reserved for it.
    reserved: bool,
    /// Whether it is the one that tries a slow authority.
    tries: bool,
}

impl<Req, Res, E> Compare<Req, Res, E> {
    fn begin(ground: &Arc<Ground<Req, Res, E>>) -> Self {
        ground.plan.desk.tally.begin();
        Compare {
            ground: Arc::clone(ground),
            open: true,
            answered: false,
            reserved: false,
            tries: false,
        }
    }

    fn desk(&self) -> &Desk {
        &self.ground.plan.desk
    }

    /// The place that was reserved, to be kept until all is over.
    fn held(&mut self) -> Option<Held> {
        let reserved = std::mem::take(&mut self.reserved);
        reserved.then(|| self.desk().shadows.reserved())
    }

    fn shed(self, reason: Shed) {
        self.desk().metrics.shed(reason);
        self.finish(Class::Shed);
    }

    fn finish(mut self, class: Class) {
        self.count(class);
    }

    fn count(&mut self, class: Class) {
        if std::mem::take(&mut self.open) {
            let desk = self.desk();
            desk.tally.end(class);
            desk.metrics.compared(class);
        }
    }
}

impl<Req, Res, E> Drop for Compare<Req, Res, E> {
    fn drop(&mut self) {
        if self.open && self.answered {
            self.count(Class::Abandoned);
        } else if self.open {
            self.desk().metrics.shed(Shed::Unanswered);
            self.count(Class::Shed);
        }
        if self.tries {
            self.desk().slow.give_up();
        }
        // Whoever waits for the last place may look at the counters then.
        if self.reserved {
            self.desk().shadows.give_back();
        }
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
        lazy: &LazyGround<Req, Res, E>,
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
        let ground = lazy.get_or_init(|| {
            let own = || sides(legacy.clone(), new.clone(), Arc::clone(&plan.eye));
            Arc::new(Ground {
                plan: Arc::clone(plan),
                sides: plan.probe.clone().unwrap_or_else(own),
            })
        });
        Some(Box::new(Shadow {
            operation,
            request,
            runtime,
            compare: Compare::begin(ground),
            look: None,
        }))
    }

    /// The caller has its answer, from `place` and after `took`, if that is known: compare, or shed.
    pub(crate) fn start(
        mut self: Box<Self>,
        desk: &Desk,
        place: Place,
        answer: &Result<Res, E>,
        took: Option<Took>,
    ) {
        self.compare.answered = true;
        // Before the answer is observed, which may cost more than all of this.
        if desk.shadows.is_closed() {
            return self.compare.shed(Shed::Closing);
        }
        if took.is_some_and(|took| took.time > desk.limits.shed_over) {
            return self.compare.shed(Shed::Slow);
        }
        // The caller's answer says nothing of the authority where the follower gave it.
        if desk.slow.is(place.other()) {
            self.compare.tries = desk.slow.may_try();
            if !self.compare.tries {
                return self.compare.shed(Shed::Slow);
            }
        }
        if desk.pool_waits() {
            return self.compare.shed(Shed::Pool);
        }
        if !desk.shadows.reserve() {
            return self.compare.shed(Shed::Shadows);
        }
        self.compare.reserved = true;
        self.look = Some(FirstLook {
            place,
            seen: self.compare.ground.plan.seen(answer),
            took,
        });
        desk.starting.push(self);
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

    fn run(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // Given back last, whatever happens: whoever waits for that may look at the counters then.
            let _held = self.compare.held();
            let Shadow {
                operation,
                request,
                compare,
                look,
                runtime: _,
            } = *self;
            let Some(FirstLook { place, seen, took }) = look else {
                return;
            };
            let Ground { plan, sides } = &*compare.ground;
            if plan.desk.is_killed() {
                return compare.shed(Shed::Killed);
            }
            let answer = match seen {
                Seen::Observed(answer) => answer,
                Seen::Copied(answer) => plan.observed(&Ok(answer)),
            };
            if too_long(&plan.desk, &operation, &answer) {
                return compare.shed(Shed::Long);
            }
            let (looking, request) = looking(plan, operation, request, Arc::clone(sides));
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
    let second = || plan.second(&request);
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
