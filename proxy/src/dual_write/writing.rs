//! One write as a unit of work: pin, call the authority, follow.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use changeover_flags::Place;
use futures_util::FutureExt as _;
use tokio::time::Instant;
use tower_service::Service;

use crate::call::{Ack, Failure, Operation, Touched};
use crate::desk::Call;
use crate::metrics::{End, InFlight, StoreEnd, StoreKind};
use crate::pins::Ticket;
use crate::plan::{Decided, Plan, Routed};
use crate::port::{Ended, Written};
use crate::ready::Taken;
use crate::route::Reason;
use crate::served::Because;
use crate::unit::Surviving;

/// A write that goes on without its caller once it has begun.
pub(crate) fn unit<S, Req, Res, E>(
    plan: &Arc<Plan<Req, Res, E>>,
    authority: Taken<S>,
    routed: Routed,
    request: Req,
) -> Surviving<Result<Res, E>>
where
    S: Service<Req, Response = Res, Error = E> + Send + 'static,
    S::Future: Send + 'static,
    Req: Send + 'static,
    Res: Send + 'static,
    E: Send + 'static,
{
    let home = plan.desk.home();
    let plan = Arc::clone(plan);
    let inner = async move {
        let mut writing = Writing::begin(Arc::clone(&plan), routed, &request);
        let began = Instant::now();
        let mut answer = AssertUnwindSafe(authority.call(request))
            .catch_unwind()
            .await;
        let (ended, store_end) = match &answer {
            Ok(Ok(response)) => {
                writing.also(response);
                (Ended::Acknowledged, StoreEnd::Ok)
            }
            Ok(Err(error)) => match plan.failure(error) {
                Failure::Definite => (Ended::Refused, StoreEnd::Error),
                Failure::Unknown => (Ended::Unknown, StoreEnd::Error),
            },
            Err(_panic) => (Ended::Unknown, StoreEnd::Error),
        };
        plan.desk
            .metrics
            .store(writing.store, StoreKind::Write, store_end, began.elapsed());
        let marking = plan.marking(writing.store, Because::Routed(Reason::Write));
        writing.end(ended);
        if let (Some(marking), Ok(answer)) = (marking, &mut answer) {
            marking.put(answer);
        }
        match plan.ack {
            Ack::Authority => answer.unwrap_or_else(|panic| resume_unwind(panic)),
        }
    };
    Surviving::new(Box::pin(inner), home)
}

/// A write under way. Dropped, it has ended in a way that nobody knows.
struct Writing<Req: 'static, Res: 'static, E: 'static> {
    plan: Arc<Plan<Req, Res, E>>,
    operation: Operation,
    store: Place,
    copies: bool,
    request: Option<Req>,
    /// `None` once the write has ended.
    open: Option<(Ticket, Call, InFlight)>,
    touched: Touched,
}

impl<Req, Res, E> Writing<Req, Res, E> {
    /// Pins, before the authority is called.
    fn begin(plan: Arc<Plan<Req, Res, E>>, routed: Routed, request: &Req) -> Self {
        let Routed {
            operation,
            decided: Decided { route, .. },
            mut call,
        } = routed;
        call.on_drop(End::Unknown);
        let copies = route.copies.is_some();
        let wanted = copies && plan.follow.wants_request();
        let request = if wanted { plan.second(request) } else { None };
        let ticket = plan.desk.pins.begin(&operation.touched);
        plan.desk.metrics.pins(plan.desk.pins.count());
        let in_flight = InFlight::new(&plan.desk.metrics.writes_in_flight);
        let touched = operation.touched.clone();
        let open = Some((ticket, call, in_flight));
        Writing {
            plan,
            operation,
            store: route.authority,
            copies,
            request,
            open,
            touched,
        }
    }

    /// Pins what the answer shows: keys that the database generated.
    fn also(&mut self, response: &Res) {
        let asked = || self.plan.classify.written(&self.operation, response);
        // The write has happened; a panic here must not hide that from the caller.
        let shown = catch_unwind(AssertUnwindSafe(asked)).ok().flatten();
        if let (Some(shown), Some((ticket, ..))) = (shown, &mut self.open) {
            let shown = self.plan.desk.touched(shown);
            ticket.add(&shown);
            self.touched = std::mem::take(&mut self.touched).and(shown);
        }
    }

    fn end(&mut self, ended: Ended) {
        let Some((ticket, mut call, in_flight)) = self.open.take() else {
            return;
        };
        let desk = &self.plan.desk;
        // The stage may have begun to copy while this write ran.
        if self.copies
            || desk
                .flags
                .load()
                .serving()
                .is_ok_and(|stage| stage.copies())
        {
            let acknowledged = ended == Ended::Acknowledged;
            let request = self.request.take().filter(|_| acknowledged);
            let touched = std::mem::take(&mut self.touched);
            let written = Written {
                touched,
                ended,
                request,
            };
            let follow = &self.plan.follow;
            desk.copy(ticket, || follow.follow(written));
        } else {
            ticket.let_go();
        }
        desk.metrics.pins(desk.pins.count());
        drop(in_flight);
        call.end(match ended {
            Ended::Acknowledged => End::Ok,
            Ended::Refused => End::Error,
            Ended::Unknown => End::Unknown,
        });
    }
}

impl<Req: 'static, Res: 'static, E: 'static> Drop for Writing<Req, Res, E> {
    fn drop(&mut self) {
        self.end(Ended::Unknown);
    }
}
