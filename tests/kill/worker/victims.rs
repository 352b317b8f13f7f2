//! Whom each strike kills: as often as a run asks for, in an order that its seed gives.

use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;

/// (The sweep, the drain), or (the legacy side's server, the new side's).
pub type Pair = [bool; 2];

/// The strikes that are left: at the sweep, and at the drain.
pub struct Victims {
    pub sweep: Vec<Pair>,
    pub drain: Vec<Pair>,
}

impl Victims {
    /// The sweep dies `sweeps` times, a quarter of them with the drain; now and then the drain dies alone
    /// beside it, and `drains` times when history is over.
    pub fn processes(sweeps: usize, drains: usize, rng: &mut SmallRng) -> Victims {
        let both = (sweeps / 4).max(1);
        let sweep = shuffled(
            &[
                ([true, true], both),
                ([true, false], sweeps - both),
                ([false, true], sweeps / 10),
            ],
            rng,
        );
        Victims {
            sweep,
            drain: vec![[false, true]; drains],
        }
    }

    /// Each server dies `kills` times: a fifth of them alone, the others with the other one.
    pub fn servers(kills: usize, rng: &mut SmallRng) -> Victims {
        let alone = kills.div_ceil(5);
        let mut sweep = shuffled(
            &[
                ([true, true], kills - alone),
                ([true, false], alone),
                ([false, true], alone),
            ],
            rng,
        );
        let drain = sweep.split_off(sweep.len() / 2);
        Victims { sweep, drain }
    }

    /// There is only one server.
    pub fn one_server(kills: usize) -> Victims {
        let drain = vec![[true, false]; kills - kills / 2];
        Victims {
            sweep: vec![[true, false]; kills / 2],
            drain,
        }
    }

    pub fn strikes(&self) -> u64 {
        (self.sweep.len() + self.drain.len()) as u64
    }
}

fn shuffled(of: &[(Pair, usize)], rng: &mut SmallRng) -> Vec<Pair> {
    let mut all: Vec<Pair> = of
        .iter()
        .flat_map(|(pair, times)| std::iter::repeat_n(*pair, *times))
        .collect();
    all.shuffle(rng);
    all
}

mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn everybody_dies_as_often_as_asked() {
        let count = |of: &[Pair], which: usize| of.iter().filter(|pair| pair[which]).count();
        for seed in 0..50 {
            let rng = &mut SmallRng::seed_from_u64(seed);
            for kills in [2, 3, 6, 20] {
                let of = Victims::servers(kills, rng);
                let all = [of.sweep.clone(), of.drain.clone()].concat();
                assert_eq!([count(&all, 0), count(&all, 1)], [kills, kills]);
                assert!(!of.sweep.is_empty() && !of.drain.is_empty());
                let of = Victims::processes(kills, kills / 2, rng);
                assert_eq!(count(&of.sweep, 0), kills);
                assert!(count(&of.sweep, 1) > 0 && of.drain.len() == kills / 2);
                assert_eq!(Victims::one_server(kills).strikes(), kills as u64);
            }
        }
    }
}
