//! Everything together: [`ChangeoverLayer`] around the legacy service makes [`Changeover`].
//!
//! 1. Every call takes one snapshot of the flags and asks the one table, [`route`](crate::route()).
//! 2. A write goes to the authority of the stage as [`DualWrite`](crate::DualWrite) says.
//! 3. A read that the authority answers is the service's own future, called inline.
//! 4. A read that the follower may answer first asks what must be asked (a token, the strict mode,
//!    a list that does not tolerate lag). The follower then has a limited time; its error, panic,
//!    slowness and *not found* are re-asked at the authority, within the caller's deadline, and
//!    counted.
//!    With [`Builder::hedge_after`] the authority is asked beside a slow follower, too.
//! 5. A share of the reads is compared as [`ShadowRead`](crate::ShadowRead) says.
//! 6. Readiness is that of the present authority alone. The other side is driven to readiness
//!    where its answer is awaited, within its time.
//!
//! Not promised: that a read which the follower answers costs no allocation; it costs one box, and a
//! second one if something has to be asked first.

mod builder;
mod comparing;
mod follower;
mod following;
mod future;
mod hedge;
mod layer;
mod ramp;
mod service;

pub use builder::{Builder, Incomplete};
pub use future::ChangeoverFuture;
pub use layer::ChangeoverLayer;
pub use service::Changeover;
