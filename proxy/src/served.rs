//! Which side served a call, and why: [`Served`].
//!
//! For whoever looks at one answer (a support case, a trace, a header of a response); the
//! [`metrics`](mod@crate::metrics) tell it of all calls together.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use changeover_flags::Place;

use crate::route::Reason;

/// Which side served a call, and why. Shown as `new; because=percentage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Served {
    /// Whose answer it is.
    pub place: Place,
    /// Why.
    pub because: Because,
}

/// Why a side served a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Because {
    /// The routing table said so: [`route`](mod@crate::route).
    Routed(Reason),
    /// The table said the follower, and the authority had to answer after all.
    Fallback(Fallback),
    /// The layer asks no other side: [`DualWrite`](crate::DualWrite)'s and
    /// [`ShadowRead`](crate::ShadowRead)'s reads.
    Alone,
}

/// Why the authority answered what the follower was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fallback {
    /// The follower does not have the row.
    NotFound,
    /// It answered an error.
    Error,
    /// It did not answer in time.
    Timeout,
    /// It panicked.
    Panic,
    /// It had not answered when the authority did, which was asked beside it.
    Hedge,
}

impl Because {
    /// The word: a reason of the routing table, `fallback_…`, or `alone`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Because::Routed(reason) => reason.as_str(),
            Because::Fallback(Fallback::NotFound) => "fallback_not_found",
            Because::Fallback(Fallback::Error) => "fallback_error",
            Because::Fallback(Fallback::Timeout) => "fallback_timeout",
            Because::Fallback(Fallback::Panic) => "fallback_panic",
            Because::Fallback(Fallback::Hedge) => "fallback_hedge",
            Because::Alone => "alone",
        }
    }
}

impl Fallback {
    pub(crate) const ALL: &'static [Fallback] = &[
        Fallback::NotFound,
        Fallback::Error,
        Fallback::Timeout,
        Fallback::Panic,
        Fallback::Hedge,
    ];

    /// The word, as in `changeover_fallbacks_total`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Fallback::NotFound => "not_found",
            Fallback::Error => "error",
            Fallback::Timeout => "timeout",
            Fallback::Panic => "panic",
            Fallback::Hedge => "hedge",
        }
    }
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; because={}", self.place, self.because.as_str())
    }
}

/// The application's hook for answers.
pub(crate) type Mark<Res> = dyn Fn(&mut Res, Served) + Send + Sync;

/// What is to be said of an answer when it is there.
pub(crate) struct Marking<Res> {
    mark: Arc<Mark<Res>>,
    served: Served,
}

impl<Res> Marking<Res> {
    /// `None` without a hook: then nothing is to be said.
    #[inline]
    pub(crate) fn of(
        mark: Option<&Arc<Mark<Res>>>,
        place: Place,
        because: Because,
    ) -> Option<Marking<Res>> {
        let served = Served { place, because };
        mark.map(|mark| Marking {
            mark: Arc::clone(mark),
            served,
        })
    }

    /// Marks an answer that is none of an error. A panic of the hook leaves the answer to the caller.
    pub(crate) fn put<E>(self, answer: &mut Result<Res, E>) {
        if let Ok(answer) = answer {
            let marking = || (self.mark)(answer, self.served);
            if catch_unwind(AssertUnwindSafe(marking)).is_err() {
                tracing::error!("marking an answer panicked");
            }
        }
    }
}
