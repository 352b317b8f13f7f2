//! The figures of changeover, its peers measured in the same run. `scripts/bench --help`.

mod allocations;
mod instructions;
mod memory;
mod pairs;
mod postgres;
mod reads;
mod report;
mod rounds;

/// The servers of the tests.
#[allow(dead_code, unused_imports, reason = "the tests use more of it")]
#[path = "../../tests/support"]
mod support {
    pub mod mariadb;
    mod mariadb_install;
    pub mod postgres;
    mod postgres_install;
    mod server;
    pub mod watchdog;
}

use std::path::PathBuf;

use clap::Parser;
use tokio::runtime::{Builder, Runtime};

use report::Report;

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

/// Measures what changeover costs, its peers in the same run, and prints one table.
///
/// Times are medians of alternating rounds (ours, peer, ours, peer …); "± %" is half of the
/// distance between the quartiles of the rounds. Where other programs run at the same time, trust
/// ratios, allocations and instructions before times.
#[derive(Debug, Parser)]
#[command(name = "scripts/bench")]
struct Options {
    /// Only this part; may be given several times.
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Fewer rounds and shorter loads: a look, not a measurement.
    #[arg(long)]
    quick: bool,
    /// Where the figures are kept.
    #[arg(long, default_value = "target/bench.json")]
    json: PathBuf,
    /// How long the sustained load lasts, in seconds [default: 60, with --quick 10].
    #[arg(long)]
    seconds: Option<u64>,
    /// How many rows of history are copied [default: 5,000,000, with --quick 300,000].
    #[arg(long)]
    rows: Option<u64>,
    /// Ends with code 1 if a figure is missed.
    #[arg(long)]
    strict: bool,
    /// Runs one contender, for valgrind.
    #[arg(long, hide = true)]
    count: Option<String>,
    #[arg(long, hide = true, default_value_t = 0)]
    calls: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// What the layer adds to a read, and the peers.
    Reads,
    /// Memory of shadow reads in flight.
    Memory,
    /// A write on PostgreSQL, with stamps and layer apart.
    Writes,
    /// Dual writes and reads for a while, by 1,000 callers.
    Load,
    /// A backfill and a verify, beside COPY, INSERT … SELECT, a loop and reladiff; from MariaDB, beside
    /// pt-archiver; what pgbench notices of a backfill.
    History,
    /// Memory of a backfill and a verify, from each engine to each.
    Pairs,
}

fn main() {
    let options = Options::parse();
    if let Some(name) = &options.count {
        return instructions::calls(name, options.calls);
    }
    let wanted = |part| options.only.is_empty() || options.only.contains(&part);
    let mut report = Report::default();
    machine(&mut report);
    if wanted(Part::Reads) {
        reads::rows(&mut report, options.quick);
    }
    if wanted(Part::Memory) {
        memory::rows(&mut report);
    }
    if wanted(Part::Writes) {
        postgres::writes(&mut report, options.quick);
    }
    if wanted(Part::Load) {
        let usual = if options.quick { 10 } else { 60 };
        postgres::load(&mut report, options.seconds.unwrap_or(usual));
    }
    let usual = if options.quick { 300_000 } else { 5_000_000 };
    let rows = options.rows.unwrap_or(usual);
    if wanted(Part::History) {
        postgres::history(&mut report, rows);
    }
    if wanted(Part::Pairs) {
        pairs::rows(&mut report, rows);
    }
    println!("{}", report.table());
    let json = serde_json::to_string_pretty(&report).expect("a report is plain data");
    match std::fs::write(&options.json, json) {
        Ok(()) => println!("kept in {}", options.json.display()),
        Err(error) => eprintln!("{}: {error}", options.json.display()),
    }
    if options.strict && report.missed() > 0 {
        std::process::exit(1);
    }
}

fn machine(report: &mut Report) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    report.machine.insert(
        "machine",
        format!("{} × {cores}", model.unwrap_or("unknown")),
    );
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("unknown").to_owned();
    report.machine.insert("load average before", load);
}

/// One thread: callers and background work take turns, so a caller's part can be told apart.
fn current_thread() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

fn multi_thread() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}
