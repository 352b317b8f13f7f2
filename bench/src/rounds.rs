//! Alternating rounds: ours, peer, ours, peer …, so that what else the machine does meets both.

use std::time::{Duration, Instant};

use futures_util::future::LocalBoxFuture;
use tokio::runtime::Runtime;

use crate::allocations;

/// Some calls, timed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    pub calls: usize,
    pub took: Duration,
    pub allocations: u64,
}

impl Sample {
    pub fn ns(self) -> f64 {
        self.took.as_nanos() as f64 / self.calls.max(1) as f64
    }
}

/// Makes `calls` calls, one after the other, and measures what the caller spends on them.
pub async fn timed(calls: usize, mut call: impl AsyncFnMut(i64)) -> Sample {
    let before = allocations::count_here();
    let began = Instant::now();
    for id in 0..calls as i64 {
        call(id).await;
    }
    let took = began.elapsed();
    let allocations = allocations::count_here() - before;
    Sample {
        calls,
        took,
        allocations,
    }
}

/// One way to make a call.
pub trait Contender {
    /// Some calls.
    fn sample(&mut self, calls: usize) -> LocalBoxFuture<'_, Sample>;

    /// Lets what the calls left in the background end. Not timed.
    fn settle(&mut self) -> LocalBoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// What the rounds of one contender gave.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Nanoseconds per call, one number for each round.
    pub rounds: Vec<f64>,
    pub allocations: f64,
}

impl Measured {
    /// The median round.
    pub fn ns(&self) -> f64 {
        median(&self.rounds)
    }
}

/// Measures all contenders in every round, each time in another order. The first round warms up, and so do
/// the first calls of every turn: a contender finds the caches as the one before it left them, which
/// has brought its code along where they share some (two stages of one library), and else has driven it out.
pub fn alternate(
    runtime: &Runtime,
    rounds: usize,
    calls: usize,
    contenders: &mut [Box<dyn Contender>],
) -> Vec<Measured> {
    let count = contenders.len();
    let mut measured = vec![
        Measured {
            rounds: Vec::with_capacity(rounds),
            allocations: 0.0,
        };
        count
    ];
    for round in 0..=rounds {
        for turn in 0..count {
            let index = (turn + round) % count;
            let contender = &mut contenders[index];
            let sample = runtime.block_on(async {
                contender.sample(calls).await;
                contender.settle().await;
                let sample = contender.sample(calls).await;
                contender.settle().await;
                sample
            });
            if round > 0 {
                measured[index].rounds.push(sample.ns());
                measured[index].allocations = sample.allocations as f64 / sample.calls as f64;
            }
        }
    }
    measured
}

/// The middle one.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// Half of the distance between the quartiles, in percent of the median.
pub fn noise(values: &[f64]) -> f64 {
    let spread = quantile(values, 0.75) - quantile(values, 0.25);
    50.0 * spread / median(values).abs().max(f64::MIN_POSITIVE)
}

/// Round by round, `f` of ours and the peer's.
pub fn paired(ours: &Measured, peer: &Measured, f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    let pairs = ours.rounds.iter().zip(&peer.rounds);
    pairs.map(|(ours, peer)| f(*ours, *peer)).collect()
}

fn quantile(values: &[f64], at: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = ((sorted.len().saturating_sub(1)) as f64 * at).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}
