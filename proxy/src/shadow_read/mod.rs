//! Reads that are compared out of the caller's sight: [`ShadowReadLayer`] makes [`ShadowRead`].
//!
//! Use it alone to compare before anything is routed; [`Changeover`](crate::Changeover) contains
//! it. The service inside stands at legacy and answers; the one given to the builder stands at new.
//!
//! 1. Of the reads, the sampled share is compared, in the stages in which copies run and while the
//!    kill switch is not thrown: what is on its way then asks no side any more. Writes pass through and are
//!    counted.
//! 2. The caller's own answer is the first look: it is observed by reference when it is there (or
//!    [cloned](crate::Builder::observe_copies), and observed later), and returned at once. The other side is
//!    asked afterwards, in the background, with a copy of the request that was made for the sampled
//!    call alone.
//! 3. A difference is looked at again after a while: both sides are read anew, and the versions are
//!    asked for. What [`judge`](changeover_shadow::judge) then says is counted, and what differs is
//!    kept, redacted, in a bounded reservoir.
//!    A list whose elements have keys ([`keyed_by`](crate::Operation::keyed_by)) is compared by key,
//!    in whatever order, and looked at again by key: the versions asked for are those of the keys
//!    that differ, and [`judge_lists`](changeover_shadow::judge_lists) tells what is confirmed. It is
//!    still one verdict. Any other list is compared as a whole, and is confirmed only while nothing
//!    at all is dirty and both sides answer the same as before.
//! 4. A difference that may be lag is never confirmed: where versions are kept and were not told it
//!    counts as a timeout, and where none are kept, what is pinned counts as lagging.
//! 5. A difference in a field in which the authority differs from itself is noise, not confirmed: some
//!    reads by key are followed by a control read ([`Builder::control`](crate::Builder::control)) that
//!    finds such fields. Control reads need versions, follow reads that both sides answered, and are not made of
//!    lists, nor while the authority is slow.
//! 6. Now and then ([`Limits::canary_every`](crate::Limits::canary_every)) equal answers are compared
//!    once more with a difference put into one of them, which must be seen; until it was, and whenever
//!    it was not, the [report](crate::Handle::report) is not clean. No counter or sample knows of it
//!    but `changeover_canary_total`.
//! 7. Every sampled read ends in exactly one class. What had no room ([`Limits::shadows`](crate::Limits::shadows)),
//!    came while the answering side or the authority was slow ([`Limits::shed_over`](crate::Limits::shed_over)) or while
//!    [callers wait for connections](crate::Builder::pool_waiting), is a list longer than
//!    [`Limits::list_elements`](crate::Limits::list_elements), was left by its caller, or not over when the kill
//!    switch was thrown, is shed,
//!    and counted by its reason (`changeover_shed_total`).
//!    A read for which neither side has anything, no row or an empty list, ends in a class of its own
//!    (`neither`): it is no match, and not among those [compared](changeover_shadow::Totals::compared).
//! 8. A [target rate](crate::Limits::shadows_per_second) lowers the sampled share while there are more reads
//!    than that, and never raises it.
//! 9. Shadow reads ask the services that answer callers, or, where these must not notice,
//!    a [`probe`](crate::Builder::probe) of its own; and for versions the port that callers wait for, or
//!    [one of its own](crate::Builder::probe_versions).
//!
//! Not promised: that a difference in a key that is written all the
//! time, or a missing element of a list while anything is written, is ever confirmed: it is lagging,
//! and a verify of the tables finds it.

mod control;
mod future;
mod layer;
mod looking;
mod service;
mod shadow;
mod sides;
mod starting;
mod told;

pub use future::ReadFuture;
pub use layer::ShadowReadLayer;
pub use service::ShadowRead;
pub(crate) use shadow::Shadow;
pub(crate) use sides::{LazyGround, Probe, Sides, probe};
pub(crate) use starting::Starting;
