//! What the application told a layer about its calls, shared by all clones.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use changeover_flags::{Bucket, Exceptions, InForce, Percent, Place, Snapshot, Stage};
use changeover_shadow::{Answer, Observe};

use tokio::runtime::Handle as Runtime;

use crate::call::{Ack, Classify, Duplicate, Failure, KeylessReads, Operation, Outcome};
use crate::desk::{Call, Desk};
use crate::metrics::{End, Shed};
use crate::port::Follow;
use crate::refused::Refused;
use crate::route::{Circumstances, Route, route};
use crate::served::{Because, Mark, Marking};
use crate::shadow_read::Sides;

/// What an answer looks like to the comparison.
pub(crate) type Eye<Res, E> = dyn Fn(&Result<Res, E>) -> Answer + Send + Sync;

/// The caller's answer, as it is taken along to the comparison.
pub(crate) enum Seen<Res> {
    Observed(Answer),
    /// To be observed when nobody waits.
    Copied(Res),
}

/// The application's name for a class of errors.
pub(crate) type ErrorClass<E> = dyn Fn(&E) -> Option<&'static str> + Send + Sync;

/// Whether an answer shows the row that was asked for.
pub(crate) type Found<Res> = Box<dyn Fn(&Res) -> bool + Send + Sync>;

pub(crate) struct Plan<Req, Res, E> {
    pub(crate) desk: Arc<Desk>,
    pub(crate) classify: Box<dyn Classify<Req, Res>>,
    pub(crate) eye: Arc<Eye<Res, E>>,
    /// Where shadow reads ask, if not the sides that answer callers.
    pub(crate) probe: Option<Arc<dyn Sides<Req>>>,
    /// How answers are copied, if they are to be observed behind the caller.
    pub(crate) copy: Option<fn(&Res) -> Res>,
    pub(crate) found: Found<Res>,
    pub(crate) mark: Option<Arc<Mark<Res>>>,
    /// After how long the authority is asked beside a slow follower.
    pub(crate) hedge: Option<Duration>,
    pub(crate) follow: Arc<dyn Follow<Req>>,
    pub(crate) duplicate: Arc<dyn Duplicate<Req>>,
    pub(crate) outcome: Box<dyn Outcome<E>>,
    pub(crate) keyless: KeylessReads,
    pub(crate) strict: bool,
    pub(crate) ack: Ack,
}

/// A call that has a route, and what it is.
pub(crate) struct Routed {
    pub(crate) operation: Operation,
    pub(crate) decided: Decided,
    pub(crate) call: Call,
}

/// Where a call goes, and by what.
pub(crate) struct Decided {
    pub(crate) snapshot: Snapshot,
    pub(crate) circumstances: Circumstances,
    pub(crate) route: Route,
    /// The runtime of a call that is compared.
    pub(crate) runtime: Option<Runtime>,
}

impl<Req: 'static, Res: 'static, E: 'static> Plan<Req, Res, E> {
    /// What is asked for, in the spelling of the databases where that matters.
    #[inline]
    pub(crate) fn spell(&self, snapshot: &Snapshot, operation: &mut Operation) {
        // A read where nothing is copied has no use for its key.
        if !operation.kind.is_read() || copies(snapshot) {
            self.desk.spell(operation);
        }
    }

    /// Asks the table, with what is known without waiting. A call that is refused ends here.
    #[inline]
    pub(crate) fn decide(
        &self,
        flags: &InForce,
        operation: &Operation,
        call: &mut Call,
    ) -> Result<Decided, Refused> {
        let decided = self.decided(flags, operation);
        if decided.is_err() {
            call.on_drop(End::Rejected);
        }
        decided
    }

    #[inline]
    fn decided(&self, flags: &InForce, operation: &Operation) -> Result<Decided, Refused> {
        let snapshot = flags.snapshot;
        let mut circumstances = Circumstances::default();
        let mut runtime = None;
        // Else the table looks at none of them.
        if operation.kind.is_read() && copies(&snapshot) && !snapshot.kill {
            circumstances =
                self.circumstances(operation, &snapshot, flags.exceptions.as_deref())?;
            if circumstances.sampled {
                runtime = Runtime::try_current().ok();
                circumstances.sampled = runtime.is_some();
                if runtime.is_none() {
                    self.desk.not_compared(Shed::NoRuntime);
                }
            }
        }
        let route = route(&snapshot, operation.kind, circumstances);
        let route = route.map_err(|source| Refused::UnknownStage {
            operation: operation.name,
            source,
        })?;
        Ok(Decided {
            snapshot,
            circumstances,
            route,
            runtime,
        })
    }

    fn circumstances(
        &self,
        operation: &Operation,
        snapshot: &Snapshot,
        exceptions: Option<&Exceptions>,
    ) -> Result<Circumstances, Refused> {
        let pinned = self.desk.pinned(operation);
        if pinned {
            // A write that ended outside of any runtime has left its pin to nobody.
            self.desk.sweep_if_idle();
        }
        // A percentage decides in one stage alone.
        let decides = snapshot.stage == Stage::DualWrite;
        let of_operation =
            |share: fn(&Exceptions, &str) -> Option<Percent>| share(exceptions?, operation.name);
        let read_new = of_operation(Exceptions::read_new).unwrap_or(snapshot.read_new);
        let sample = of_operation(Exceptions::sample).unwrap_or(snapshot.sample);
        let (keys, routing) = (operation.touched.as_keys(), operation.routing.as_deref());
        Ok(Circumstances {
            pinned,
            listed: exceptions.and_then(|exceptions| exceptions.listed(keys, routing)),
            covered: decides && self.covered(operation, read_new)?,
            sampled: self.desk.samples(sample, operation.name),
            ..Circumstances::default()
        })
    }

    fn covered(&self, operation: &Operation, read_new: Percent) -> Result<bool, Refused> {
        match (operation.bucket_text(), self.keyless) {
            // No bucket is within nothing, and each within everything.
            (Some(_), _) if read_new == Percent::ZERO => Ok(false),
            (Some(_), _) if read_new == Percent::HUNDRED => Ok(true),
            (Some(text), _) => Ok(read_new.covers(Bucket::of(self.desk.flags.entity(), text))),
            (None, KeylessReads::Authority) => Ok(false),
            (None, KeylessReads::Draw) => Ok(self.desk.draw(read_new)),
            (None, KeylessReads::Refuse) => Err(Refused::NoKey {
                operation: operation.name,
            }),
        }
    }

    /// What is to be said of an answer of `place`.
    #[inline]
    pub(crate) fn marking(&self, place: Place, because: Because) -> Option<Marking<Res>> {
        Marking::of(self.mark.as_ref(), place, because)
    }

    /// What an answer looks like to the comparison.
    pub(crate) fn observed(&self, answer: &Result<Res, E>) -> Answer {
        (self.eye)(answer)
    }

    /// What the comparison needs of an answer that goes to its caller.
    pub(crate) fn seen(&self, answer: &Result<Res, E>) -> Seen<Res> {
        match (self.copy, answer) {
            (Some(copy), Ok(answer)) => catch_unwind(AssertUnwindSafe(|| copy(answer)))
                .map_or(Seen::Observed(Answer::Failed), Seen::Copied),
            _ => Seen::Observed(self.observed(answer)),
        }
    }

    /// What an error of a write means; a panic of the hook means nothing.
    pub(crate) fn failure(&self, error: &E) -> Failure {
        let failure = catch_unwind(AssertUnwindSafe(|| self.outcome.failure(error)));
        failure.unwrap_or(Failure::Unknown)
    }

    /// A second request, if there can be one.
    pub(crate) fn second(&self, request: &Req) -> Option<Req> {
        let second = catch_unwind(AssertUnwindSafe(|| self.duplicate.duplicate(request)));
        second.unwrap_or(None)
    }
}

#[inline]
fn copies(snapshot: &Snapshot) -> bool {
    snapshot.serving().is_ok_and(|stage| stage.copies())
}

/// Looks at answers by `observe` and at errors by `class`. A panic of either is a failed look.
pub(crate) fn eye<Res: 'static, E: 'static>(
    observe: Arc<dyn Observe<Res>>,
    class: Box<ErrorClass<E>>,
) -> Arc<Eye<Res, E>> {
    Arc::new(move |answer| {
        let look = || match answer {
            Ok(answer) => Answer::from(observe.observe(answer)),
            Err(error) => class(error).map_or(Answer::Failed, Answer::Refused),
        };
        catch_unwind(AssertUnwindSafe(look)).unwrap_or(Answer::Failed)
    })
}
