//! What holds over time: a rate that was asked for, and what writers pay for their stamps.

use std::time::{Duration, Instant};

use changeover::worker::backfill::BackfillOptions;
use changeover::worker::pace::{Pacing, RowsPerSecond};

use super::History;
use crate::report::{Limit, Row};
use crate::rounds::{median, noise};

/// The rate that is asked for.
const RATE: u32 = 5_000;

/// Alternating rounds of writes, with stamps and without, and how long each is.
const ROUNDS: usize = 4;
const ROUND: Duration = Duration::from_secs(2);

impl History {
    /// How far from a fixed rate a backfill is, over `within` or for as long as there are rows.
    pub(super) async fn rate(&self, within: Duration) -> Row {
        let migration = self.begun(&self.new).await;
        let options = BackfillOptions {
            pacing: Pacing {
                rows_per_second: RowsPerSecond::new(RATE),
                ..Pacing::default()
            },
            ..BackfillOptions::default()
        };
        let mut passed: Vec<(u64, Instant)> = Vec::new();
        let sweep = migration.backfill(options);
        let swept = sweep.run(|at| {
            if passed.last().is_none_or(|last| last.0 < at.passed) {
                passed.push((at.passed, Instant::now()));
            }
        });
        let _ = tokio::time::timeout(within, swept).await;
        let rate = match passed.as_slice() {
            [first, .., last] => (last.0 - first.0) as f64 / (last.1 - first.1).as_secs_f64(),
            _ => f64::NAN,
        };
        Row::new(
            "history",
            format!(
                "from a fixed rate of {RATE} rows/s, over {} s",
                within.as_secs()
            ),
            (rate / f64::from(RATE) - 1.0).abs() * 100.0,
            "%",
            Limit::AtMost(3.0),
        )
        .with("rows_per_s", rate)
    }

    /// Transactions of one row with stamps, against the same without.
    pub(super) async fn stamps(&self) -> Row {
        let migration = self.begun(&self.new).await;
        let (mut ratios, mut all) = (Vec::new(), [Vec::new(), Vec::new()]);
        for _ in 0..ROUNDS {
            let stamped = self.writes().await;
            migration.uninstall().await.expect("it is there");
            let bare = self.writes().await;
            migration.install().await.expect("installed");
            ratios.push(stamped / bare);
            all[0].push(stamped);
            all[1].push(bare);
        }
        Row::new(
            "history",
            "transactions of one row, with stamps / without",
            median(&ratios),
            "×",
            Limit::AtLeast(0.85),
        )
        .noise(noise(&ratios))
        .with("stamped_per_s", median(&all[0]))
        .with("bare_per_s", median(&all[1]))
    }

    /// Writes per second of one connection, one after the other.
    async fn writes(&self) -> f64 {
        let mut connection = History::connect(&self.legacy).await;
        let (mut written, began) = (0_u64, Instant::now());
        while began.elapsed() < ROUND {
            let write = sqlx::query("UPDATE orders SET paid = NOT paid WHERE id = $1");
            let id = rand::random_range(1..=self.rows) as i64;
            let done = write.bind(id).execute(&mut connection).await;
            done.expect("our own SQL");
            written += 1;
        }
        written as f64 / began.elapsed().as_secs_f64()
    }
}
