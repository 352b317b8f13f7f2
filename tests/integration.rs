//! The one integration binary: everything that needs a database, a process or the whole tree.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    reason = "a test stops at the first surprise, and nobody reads its documentation from outside"
)]

// Servers, faults and seeds that the scenarios below share.
mod support;
// A real shop's data, if they are beside this tree.
mod chinook;
// What the product is told wrong: refused with a reason, and nothing written.
mod bad_input;
// The rules of the tree that a compiler does not know.
mod tidy;
// The product's own code over databases in memory and a network that loses, delays and repeats.
mod simulation;
// Schemes that are not built yet: every order of a few steps.
mod model;
// The protocol's SQL on real servers, in every topology.
mod protocol;
// Lost answers, cancelled calls and broken connections.
mod faults;
// The shipped SQL with one thing missing, which the scenarios must notice.
mod mutants;
// The layer over real databases.
mod layer;
// The contract test for a team's own mapping and repositories.
mod kit;
// A follower that is no database: writes are replayed, which is best effort.
mod best_effort;
// What an application has to change, and the worker it runs.
mod adoption;
// What a person on call does to an instance: a file, a signal, a request.
mod operate;
// Applications and databases that are killed, stopped and frozen under load.
mod kill;
