//! The layers around two stores in memory, under paused time.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod world;

/// What shadow reads may ask for, and every loss by its reason.
mod budget;
/// A caller that leaves at every await.
mod cancelled;
/// Reads by the side that they were sent to.
mod cohorts;
/// Shadow reads and their verdicts.
mod compared;
/// The authority asked twice, when that is due.
mod controls;
/// Every call ends in exactly one counter.
mod counted;
/// A follower that fails in every way.
mod follower;
/// What keeps a read at the authority.
mod fresh;
/// The authority asked beside a slow follower.
mod hedged;
/// Shadow reads after a kill.
mod killed;
/// Lists, compared by key.
mod listed;
/// Versions that shadow reads ask for by a way of their own.
mod probed;
/// Lists of keys, and percentages of single operations.
mod ramped;
/// Which side served an answer, and why.
mod served;
/// What a service made by the layers is.
mod shape;
/// Shadow reads of a slow authority.
mod slow;
/// Which reads are timed.
mod timed;
/// Transactions of the application.
mod transactions;
/// Noise, canary, errors, reports: whether no difference means anything.
mod trusted;
/// Outcomes, two writers, bulk writes, generated ids, overflow.
mod writes;
