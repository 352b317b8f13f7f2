//! Reads that are compared out of the caller's sight: [`ShadowReadLayer`] makes [`ShadowRead`].
//!
//! Use it alone to compare before anything is routed; [`Changeover`](crate::Changeover) contains
//! it. The service inside stands at legacy and answers; the one given to the builder stands at new.
//!
//! 1. Of the reads, the sampled share is compared, in the stages in which copies run and while the
//!    kill switch is not thrown. Writes pass through and are counted.
//! 2. The caller's own answer is the first look: it is observed by reference when it is there, and
//!    returned at once. The other side is asked afterwards, in the background, with a copy of the
//!    request that was made for the sampled call alone.
//! 3. A difference is looked at again after a while: both sides are read anew, and the versions are
//!    asked for. What [`judge`](changeover_shadow::judge) then says is counted, and what differs is
//!    kept, redacted, in a bounded reservoir.
//! 4. A difference that may be lag is never confirmed: where versions are kept and were not told it
//!    counts as a timeout, and where none are kept, what is pinned counts as lagging.
//! 5. Every sampled read that was answered ends in exactly one class; what had no room, or came
//!    while the answering side was slow, is shed and counted as such.
//!
//! Not promised: that a read whose caller left before the answer is compared, or one whose request
//! cannot be copied: neither counts as sampled.

mod future;
mod layer;
mod service;
mod shadow;

pub use future::ReadFuture;
pub use layer::ShadowReadLayer;
pub use service::ShadowRead;
pub(crate) use shadow::Shadow;
