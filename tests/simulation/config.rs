//! What a seed draws: how much of everything, and how much goes wrong.

use std::sync::Arc;

use changeover::flags::{Key, Percent};
use rand::RngExt;

use super::app::Settings;
use super::bugs::Bug;
use super::network::{Faults, Sim};
use super::world::Row;

/// What a seed draws.
#[derive(Debug, Clone)]
pub struct Config {
    pub keys: Vec<Key>,
    pub faults: Faults,
    pub instances: u64,
    pub writers: u64,
    pub ops: u64,
    pub out_of_band: u64,
    pub settings: Settings,
    pub page: u32,
    pub load: bool,
    pub worker_pause: u64,
    pub deletes: u64,
    pub swaps: u64,
    pub poison: u64,
    pub cancels: u64,
    pub crash_app: Option<u64>,
    pub crash_worker: bool,
    pub raise: Option<(u64, u64)>,
    pub verify: bool,
}

pub fn configure(sim: &Arc<Sim>, bug: Option<Bug>) -> Config {
    let mut state = sim.state();
    let random = &mut state.random;
    let keys = random.random_range(1..=8_u32);
    let keys: Vec<Key> = (0..keys).map(|key| Key::new(format!("k{key}"))).collect();
    let mut rate = |most: u32| {
        if random.random_range(0..3) == 0 {
            0
        } else {
            random.random_range(0..=most)
        }
    };
    let faults = Faults {
        lost_request: rate(8),
        lost_answer: rate(12),
        late: rate(12),
        duplicate: rate(12),
        refused: rate(8),
        slow: rate(12),
    };
    let faultless = random.random_range(0..3) == 0;
    let revisions = matches!(
        bug,
        Some(
            Bug::OldRevisionAccepted | Bug::RaisedAuthorityFirst | Bug::StampsBelowTheBaseForgotten
        )
    );
    let raised = revisions || random.random_range(0..5) == 0;
    let percents = [
        Percent::ZERO,
        Percent::new(50.0).unwrap_or_default(),
        Percent::HUNDRED,
    ];
    let config = Config {
        faults: if faultless { Faults::default() } else { faults },
        instances: random.random_range(1..=2),
        writers: random.random_range(1..=2),
        ops: random.random_range(1..=5),
        out_of_band: random.random_range(0..=3),
        settings: Settings {
            revision: 1,
            percent: percents[random.random_range(0..3)],
            sample: percents[random.random_range(0..3) / 2],
            copies: random.random_range(1..=4),
            pins: random.random_range(1..=6),
            strict: random.random_range(0..4) == 0,
            seed: random.random(),
            bug,
        },
        page: random.random_range(1..=3),
        load: random.random_range(0..3) > 0,
        worker_pause: random.random_range(10..=80),
        deletes: random.random_range(0..=30),
        swaps: random.random_range(0..=20),
        poison: if random.random_range(0..4) == 0 {
            15
        } else {
            0
        },
        cancels: random.random_range(0..=2) * 15,
        crash_app: (random.random_range(0..4) == 0).then(|| random.random_range(5..150)),
        crash_worker: random.random_range(0..3) == 0,
        raise: raised.then(|| (random.random_range(0..120), random.random_range(0..60))),
        verify: !raised && random.random_range(0..4) == 0,
        keys,
    };
    let uniques = state.random.random_range(0..2) == 0;
    for (unique, key) in (0..).zip(&config.keys) {
        if state.random.random_range(0..3) > 0 {
            let unique = uniques.then_some(unique);
            let row = Row {
                unique,
                ..Row::default()
            };
            state.world.inherit(key, row);
        }
    }
    state.world.careful = state.random.random_range(0..2) == 0;
    state.faults = config.faults;
    config
}
