//! What the layer adds to a read, in this process, with stores that answer at once.

pub mod ours;
mod peers;

use std::time::Instant;

use launchdarkly_server_sdk::Stage as Theirs;

use crate::instructions;
use crate::report::{Limit, Report, Row};
use crate::rounds::{Contender, alternate, median, noise, paired};
use ours::{Bare, Layered, Stage};
use peers::{DualWrite, Join, LaunchDarkly, Scientist};

/// Calls of one round. Their shadow reads are in flight at once: as many as the default limits have
/// room for.
pub const CALLS: usize = 50;

/// The contenders of the rows, by the name under which valgrind runs them.
const NAMES: [&str; 11] = [
    "bare",
    "legacy",
    "routed",
    "shadowed",
    "copied",
    "silent",
    "ld-off",
    "ld-rampdown",
    "ld-shadow",
    "ld-write",
    "join",
];

/// The contender of that name.
pub fn contender(name: &str) -> Option<Box<dyn Contender>> {
    Some(match name {
        "bare" => Box::new(Bare::new()),
        "legacy" => Box::new(Layered::new(Stage::Legacy, CALLS)),
        "routed" => Box::new(Layered::new(Stage::Routed, CALLS)),
        "shadowed" => Box::new(Layered::new(Stage::Shadowed, CALLS)),
        "copied" => Box::new(Layered::new(Stage::Copied, CALLS)),
        "silent" => Box::new(Layered::new(Stage::Silent, CALLS)),
        "ld-off" => Box::new(LaunchDarkly::new(Theirs::Off)),
        "ld-rampdown" => Box::new(LaunchDarkly::new(Theirs::Rampdown)),
        "ld-shadow" => Box::new(LaunchDarkly::new(Theirs::Shadow)),
        "ld-write" => Box::new(DualWrite(LaunchDarkly::new(Theirs::DualWrite))),
        "join" => Box::new(Join::new()),
        "scientist" => Box::new(Scientist::new()),
        _ => return None,
    })
}

/// The rows that need nothing but this process.
pub fn rows(report: &mut Report, quick: bool) {
    let runtime = crate::current_thread();
    let rounds = if quick { 200 } else { 2_000 };
    let _inside = runtime.enter();
    let names: Vec<&str> = NAMES.into_iter().chain(["scientist"]).collect();
    let all = names.iter().map(|name| contender(name).expect("its name"));
    let mut all: Vec<Box<dyn Contender>> = all.collect();
    let measured = alternate(&runtime, rounds, CALLS, &mut all);
    let of = |name: &str| &measured[names.iter().position(|own| *own == name).expect("measured")];
    let instructions = instructions::of(&NAMES);
    let count = |name: &str| {
        instructions
            .as_ref()
            .ok()
            .and_then(|all| all.get(name))
            .copied()
    };
    if let Err(why) = &instructions {
        report.note(format!("instructions were not counted: {why}"));
    }
    let bare = of("bare");
    report.push(
        Row::orientation("bare", "bare boxed call, the whole of it", bare.ns(), "ns")
            .noise(noise(&bare.rounds)),
    );
    let added = |name: &'static str, what: &'static str, at_most: f64| {
        let ours = of(name);
        let more = paired(ours, bare, |ours, bare| ours - bare);
        Row::new(name, what, median(&more), "ns", Limit::AtMost(at_most))
            .noise(noise(&more))
            .with("total_ns", ours.ns())
            .with(
                "instructions",
                count(name)
                    .zip(count("bare"))
                    .map_or(f64::NAN, |(o, b)| o - b),
            )
            .with("allocations", ours.allocations - bare.allocations)
    };
    report.push(added(
        "legacy",
        "read in stage legacy, added to the bare call",
        100.0,
    ));
    let allocations = of("legacy").allocations - bare.allocations;
    report.push(Row::new(
        "legacy",
        "the same, allocations added",
        allocations,
        "",
        Limit::AtMost(1.0),
    ));
    report.push(added(
        "routed",
        "routed read, key known clean, added",
        200.0,
    ));
    report.push(added(
        "shadowed",
        "sampled shadow read, added to the caller",
        2_000.0,
    ));
    report.push(added(
        "copied",
        "the same, a copy of the answer observed behind the caller",
        2_000.0,
    ));
    report.push(added(
        "silent",
        "sampled, the new side never answers",
        2_000.0,
    ));
    let against = |name: &'static str, peer: &str, what: &'static str, at_most: Option<f64>| {
        let (ours, theirs) = (of(name), of(peer));
        let ratios = paired(ours, theirs, |ours, theirs| ours / theirs);
        let limit = at_most.map_or(Limit::None, Limit::AtMost);
        Row::new(name, what, median(&ratios), "×", limit)
            .noise(noise(&ratios))
            .with("ours_ns", ours.ns())
            .with("peer_ns", theirs.ns())
            .with("ours_allocations", ours.allocations)
            .with("peer_allocations", theirs.allocations)
            .with(
                "instructions_ratio",
                count(name)
                    .zip(count(peer))
                    .map_or(f64::NAN, |(o, p)| o / p),
            )
    };
    report.push(against(
        "legacy",
        "ld-off",
        "read in stage legacy / LaunchDarkly, off",
        Some(0.5),
    ));
    report.push(against(
        "routed",
        "ld-rampdown",
        "routed read / LaunchDarkly, rampdown",
        None,
    ));
    report.push(against(
        "routed",
        "ld-write",
        "routed read / LaunchDarkly, a dual write",
        Some(0.5),
    ));
    report.push(against(
        "shadowed",
        "ld-shadow",
        "shadow read / LaunchDarkly, shadow",
        Some(0.5),
    ));
    report.push(against(
        "copied",
        "ld-shadow",
        "the same, a copy observed / LaunchDarkly, shadow",
        Some(0.5),
    ));
    report.push(against(
        "shadowed",
        "join",
        "shadow read / tokio::join! by hand",
        None,
    ));
    report.push(against(
        "shadowed",
        "scientist",
        "shadow read / like scientist",
        None,
    ));
    several_threads(report, rounds);
}

/// The caller's part on a runtime of several threads, where starting a task may wake a thread.
fn several_threads(report: &mut Report, rounds: usize) {
    let runtime = crate::multi_thread();
    let task = async move {
        let (mut bare, mut shadowed) = (Bare::new(), Layered::new(Stage::Shadowed, CALLS));
        let mut more = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            let began = Instant::now();
            for id in 0..CALLS as i64 {
                bare.call(id).await;
            }
            let without = began.elapsed();
            for id in 0..CALLS as i64 {
                shadowed.call(id).await;
            }
            let with = began.elapsed() - without;
            shadowed.rest().await;
            more.push((with.as_nanos() as f64 - without.as_nanos() as f64) / CALLS as f64);
        }
        more
    };
    let more = runtime.block_on(async { tokio::spawn(task).await.expect("no panic") });
    report.push(
        Row::new(
            "threads",
            "sampled shadow read, added, runtime of two threads",
            median(&more),
            "ns",
            Limit::AtMost(2_000.0),
        )
        .noise(noise(&more)),
    );
}
