//! A load that nobody else works on, and in which nothing goes wrong.

use changeover::flags::Key;
use changeover::worker::backfill::{Backfill, BackfillOptions};
use changeover::worker::pace::Pacing;

use super::app::copier;
use super::network::Sim;
use super::ports::Ports;
use super::world::{Process, Row};

/// The keys that a load of `keys` keys counts as its own, and as passed.
pub fn load(seed: u64, keys: u32, workers: u32) -> (u64, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of this thread");
    runtime.block_on(async {
        let sim = Sim::new(seed, None, false);
        for key in 0..keys {
            let key = Key::new(format!("k{key}"));
            sim.state().world.inherit(&key, Row::default());
        }
        let ports = Ports {
            net: sim.net(Process::Backfill),
            revision: 1,
        };
        let options = BackfillOptions {
            workers,
            page: 2,
            load_page: Some(2),
            pacing: Pacing::UNLIMITED,
            seed,
            ..BackfillOptions::default()
        };
        let backfill = Backfill::new(copier(&ports, None), options);
        let load = backfill.run(|_| ());
        tokio::select! {
            biased;
            () = sim.deliver() => panic!("the network ends"),
            done = load => done.map(|done| (done.rows, done.passed)).expect("nothing goes wrong"),
        }
    })
}
