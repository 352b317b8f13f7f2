//! The kill harness: a real application under load is killed, stopped and started again at random
//! moments, and so is its PostgreSQL; afterwards nothing acknowledged is lost and both sides agree.
//!
//! | file | what it is |
//! | --- | --- |
//! | [`child`] | the application: this binary again, in a process of its own |
//! | [`repository`] | its data layer: plain SQL over the marketplace's two schemas |
//! | [`workload`] | its callers: appends, moves, re-inserts, transactions, some of them cancelled |
//! | [`ledger`] | what the callers tried and were told, and what the tables must say for that |
//! | [`sample`] | "not dirty means agree", asked with plain SQL while everything runs |
//! | [`app`] | that process, to be stopped, killed or ended |
//! | [`supervisor`] | starts, waits, and judges at the end |
//! | [`killed`], [`stopped`] | the scenarios |
//! | [`worker`] | the same for the shipped binary, at its sweep and its drain |
//! | [`finds`] | the harness finds seeded bugs, and nothing where there is no migration |
//!
//! Every run prints its seed; `CHANGEOVER_SEED` replays the moments and the calls (not the order in
//! which two databases and two processes get to run). `CHANGEOVER_FAST=1` kills 2 times, not 20, under less load.

mod app;
mod child;
mod finds;
mod killed;
mod ledger;
mod repository;
mod sample;
mod stopped;
mod supervisor;
mod worker;
mod workload;

use crate::protocol::market::Topology;
use crate::support;

/// How often one run strikes.
fn strikes(topology: Topology) -> u64 {
    let most = [Topology::PostgresTwoDatabases, Topology::MariadbToPostgres];
    match std::env::var("CHANGEOVER_STRIKES") {
        Ok(strikes) => strikes.parse().unwrap(),
        Err(_) if support::fast() => 3,
        Err(_) if most.contains(&topology) => 20,
        Err(_) => 6,
    }
}
