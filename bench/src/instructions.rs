//! Instructions per call, counted by valgrind's callgrind: the one figure that a busy machine does
//! not change.

use std::collections::BTreeMap;
use std::process::Command;

use crate::reads;

/// Two runs of each contender; the difference is what the calls between them cost.
const CALLS: [usize; 2] = [500, 2_500];

/// Instructions per call, by contender.
///
/// # Errors
///
/// Why they could not be counted.
pub fn of(names: &[&'static str]) -> Result<BTreeMap<&'static str, f64>, String> {
    let mut counted = BTreeMap::new();
    for name in names {
        let [few, many] = CALLS;
        let more = run(name, many)? - run(name, few)?;
        counted.insert(*name, more / (many - few) as f64);
    }
    Ok(counted)
}

/// What runs under valgrind: calls, in rounds of the shortest run, and what they leave behind.
pub fn calls(name: &str, calls: usize) {
    let runtime = crate::current_thread();
    let _inside = runtime.enter();
    let mut contender = reads::contender(name).expect("the name of a contender");
    for _ in 0..calls / reads::CALLS {
        runtime.block_on(async {
            contender.sample(reads::CALLS).await;
        });
        runtime.block_on(contender.settle());
    }
}

fn run(name: &str, calls: usize) -> Result<f64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        // The caller's part alone: what runs in the background runs in `settle`.
        .args(["--toggle-collect=*rounds*timed*"])
        .arg(program)
        .args(["--count", name, "--calls", &calls.to_string()]);
    let output = valgrind
        .output()
        .map_err(|error| format!("valgrind: {error} (Debian: apt-get install valgrind)"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said
        .lines()
        .find_map(|line| line.split("Collected :").nth(1));
    let count = collected.and_then(|count| count.trim().parse().ok());
    count.ok_or_else(|| {
        format!(
            "valgrind {}: {}",
            output.status,
            said.lines().last().unwrap_or("")
        )
    })
}
