//! What shadow reads in flight hold.

use crate::allocations;
use crate::reads::ours::{Layered, Stage};
use crate::report::{Limit, Report, Row};

const ROOM: usize = 64;

pub fn rows(report: &mut Report) {
    let runtime = crate::current_thread();
    let (each, beyond) = runtime.block_on(async {
        let mut layered = Layered::new(Stage::Silent, ROOM);
        let before = allocations::live_here();
        for id in 0..ROOM as i64 {
            layered.call(id).await;
        }
        // Begun, and asking the side that never answers.
        tokio::task::yield_now().await;
        let full = allocations::live_here();
        for id in 0..10_000 {
            layered.call(id).await;
        }
        let beyond = allocations::live_here() - full;
        ((full - before) as f64 / ROOM as f64, beyond as f64)
    });
    report.push(Row::orientation(
        "memory",
        "memory of one shadow read in flight",
        each,
        "bytes",
    ));
    report.push(Row::new(
        "memory",
        "memory of 10,000 more, all slots taken (64)",
        beyond,
        "bytes",
        Limit::AtMost(0.0),
    ));
}
