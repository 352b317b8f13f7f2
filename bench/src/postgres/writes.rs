//! What stamps and layer add to a write.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tower::{Service, ServiceExt as _};

use super::shop::{Answer, Call, Failed, ROWS, Shop};
use crate::report::{Limit, Report, Row};
use crate::rounds::{median, noise};

/// Writes per second: what is left of the machine is for the copies.
const RATE: u64 = 150;
const WRITES: u64 = 600;

/// One round of one way to write: its median and its 99th percentile, in microseconds.
struct Round {
    p50: f64,
    p99: f64,
}

pub fn rows(report: &mut Report, quick: bool) {
    let rounds = if quick { 3 } else { 24 };
    let runtime = crate::multi_thread();
    let [bare, stamped, layered] = runtime.block_on(async {
        let shop = Shop::open().await;
        let mut measured = [Vec::new(), Vec::new(), Vec::new()];
        for round in 0..=rounds {
            for turn in 0..3 {
                let which = (turn + round) % 3;
                let one = match which {
                    0 => write(shop.bare()).await,
                    1 => write(shop.stamped()).await,
                    _ => write(shop.layered()).await,
                };
                // What follows a write is not charged to the next contender.
                shop.clean(Duration::from_secs(30)).await;
                if round > 0 {
                    measured[which].push(one);
                }
            }
        }
        shop.worker.stop().await;
        measured
    });
    for (at, of) in [
        ("p50", Round::p50 as fn(&Round) -> f64),
        ("p99", Round::p99),
    ] {
        let against = |ours: &[Round]| -> Vec<f64> {
            ours.iter()
                .zip(&bare)
                .map(|(ours, bare)| of(ours) / of(bare))
                .collect()
        };
        let us = |rounds: &[Round]| median(&rounds.iter().map(of).collect::<Vec<_>>());
        let (both, stamps) = (against(&layered), against(&stamped));
        report.push(
            Row::new(
                "writes",
                format!("write, Ack::Authority / legacy write alone, {at}"),
                median(&both),
                "×",
                Limit::AtMost(1.35),
            )
            .noise(noise(&both))
            .with("ours_us", us(&layered))
            .with("bare_us", us(&bare)),
        );
        report.push(
            Row::orientation(
                "writes",
                format!("  of it the stamps, {at}"),
                median(&stamps),
                "×",
            )
            .noise(noise(&stamps))
            .with("stamped_us", us(&stamped)),
        );
        report.push(Row::orientation(
            "writes",
            format!("  of it the layer and its copies, {at}"),
            us(&layered) / us(&stamped),
            "×",
        ));
    }
}

impl Round {
    fn p50(&self) -> f64 {
        self.p50
    }

    fn p99(&self) -> f64 {
        self.p99
    }
}

/// Writes at a fixed rate, whether or not the earlier ones have been answered.
async fn write<S>(store: S) -> Round
where
    S: Service<Call, Response = Answer, Error = Failed> + Clone + Send + 'static,
    S::Future: Send,
{
    let mut tick = tokio::time::interval(Duration::from_micros(1_000_000 / RATE));
    let mut writes = Vec::new();
    for number in 0..WRITES {
        tick.tick().await;
        let store = store.clone();
        writes.push(tokio::spawn(async move {
            let (id, cents) = (rand::random_range(1..=ROWS), number as i64);
            let began = Instant::now();
            let answer = store.oneshot(Call::Reprice { id, cents }).await;
            assert!(answer.expect("a write").is_some());
            began.elapsed().as_nanos() as f64 / 1_000.0
        }));
    }
    let mut took: Vec<f64> = join_all(writes)
        .await
        .into_iter()
        .map(|took| took.expect("no panic"))
        .collect();
    took.sort_by(f64::total_cmp);
    let at = |share: f64| took[((took.len() - 1) as f64 * share).round() as usize];
    Round {
        p50: at(0.5),
        p99: at(0.99),
    }
}
