//! A unit of work that outlives its caller: [`Surviving`].
//!
//! 1. While its caller polls it, the inner future is polled inline: no task, no switch.
//! 2. Dropped before the first poll, nothing was started and nothing happens.
//! 3. Dropped after it, the unfinished inner future moves to the runtime of the call and goes on
//!    there, counted and tracked. A future that is dropped half-way may leave the driver's pool a connection inside a
//!    transaction (see `guard` of the worker), so after [`Limits::write_time`](crate::Limits::write_time) it is given
//!    up only where all room is taken.
//! 4. Units are counted, those without a caller among them; where there is no room a unit waits
//!    before it begins.
//! 5. A panic inside reaches whoever polls.
//!
//! Not promised: if the runtime of the call is gone, or there never was one, the inner future ends
//! at its present await. A write that had reached the database is then dirty by its own commit;
//! the worker drains it.

mod surviving;

pub(crate) use surviving::Home;
pub use surviving::Surviving;
