//! Writes that reach both sides: [`DualWriteLayer`] makes [`DualWrite`].
//!
//! Use it alone where reads are routed elsewhere; [`Changeover`](crate::Changeover) contains it.
//! The service inside is the authority, whichever place it is.
//!
//! 1. One snapshot of the flags per call.
//! 2. The keys are pinned, then the authority is called, once. An error is never retried, and the
//!    service's own error is what the caller gets.
//! 3. However it ended (acknowledged, refused, unknown, a panic), the follower is brought after it
//!    in the background, bounded by count and time. Without room the copy is skipped and counted:
//!    the key is dirty by its own commit, and the worker drains it.
//! 4. From the first poll on, 2 and 3 happen with or without the caller.
//! 5. The caller's answer never waits for the follower. Readiness is the authority's alone.
//!
//! Reads pass through and are counted.
//!
//! Not promised: that a write whose stage was `legacy` at its beginning is copied at once if the
//! stage changed meanwhile more than once; it is dirty and the worker drains it.

mod future;
mod layer;
mod service;
mod writing;

pub use future::DualWriteFuture;
pub use layer::DualWriteLayer;
pub use service::DualWrite;
pub(crate) use writing::unit;
