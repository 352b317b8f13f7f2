//! What an application notices of a backfill: pgbench's TPC-B on the same server, alone and beside one.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use changeover::worker::backfill::BackfillOptions;
use changeover::worker::dialect::load::{Load, LoadQuery};
use changeover::worker::dialect::session::Database;
use changeover::worker::pace::{Limit as Most, Signals};

use super::History;
use crate::report::{Limit, Report, Row};
use crate::rounds::{median, noise};

/// Rounds beside it, each between two alone, and how long each is.
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(12);

/// pgbench's clients.
const CLIENTS: u32 = 4;

/// Transactions per second, and the time that 99 of 100 took at most, in microseconds.
type Figures = (f64, f64);

impl History {
    /// At the default pace, and held back by the number of sessions at work.
    pub(super) async fn beside(&self, report: &mut Report) {
        let pgbench = match self.pgbench().await {
            Ok(pgbench) => pgbench,
            Err(problem) => return report.note(problem),
        };
        for watched in [false, true] {
            let (mut tps, mut p99, mut moved) = (Vec::new(), Vec::new(), Vec::new());
            // What drifts from round to round is in the rounds before and after alike.
            let mut before = pgbench.run(&self.server.url("bench"));
            for _ in 0..ROUNDS {
                let (beside, rows) = self.beside_a_backfill(&pgbench, watched).await;
                let after = pgbench.run(&self.server.url("bench"));
                tps.push(2.0 * beside.0 / (before.0 + after.0));
                p99.push(2.0 * beside.1 / (before.1 + after.1));
                moved.push(rows);
                before = after;
            }
            let rows = median(&moved);
            let all = self.rows as f64 / ROUND.as_secs_f64();
            if rows > 0.95 * all {
                report.note(format!(
                    "pgbench was beside nothing for a part of the time: all of {} rows had moved; --rows",
                    self.rows
                ));
            }
            let pace = match watched {
                false => "at the default pace",
                true => "with active_sessions at most the clients",
            };
            let row = |what: &str, figures: &[f64], limit| {
                let what = format!("pgbench beside a backfill {pace} / alone, {what}");
                let row = match watched {
                    false => Row::new("history", what, median(figures), "×", limit),
                    true => Row::orientation("history", what, median(figures), "×"),
                };
                row.noise(noise(figures)).with("rows_per_s_moved", rows)
            };
            report.push(row("transactions per second", &tps, Limit::AtLeast(0.92)));
            report.push(row("p99", &p99, Limit::AtMost(2.0)));
        }
    }

    /// pgbench while a backfill is on its way; also the rows per second that this moved.
    async fn beside_a_backfill(&self, pgbench: &Pgbench, watched: bool) -> (Figures, f64) {
        let migration = self.begun(&self.new).await;
        let mut signals = Signals::default();
        if watched {
            let bench = Database::open(&self.server.url("bench")).expect("our own URL");
            let limit = Most {
                most: f64::from(CLIENTS),
                older_than: Duration::from_secs(5),
            };
            let query = LoadQuery::built_in(&bench, Load::ActiveSessions, limit.older_than);
            let query = query.expect("PostgreSQL has it");
            let every = Duration::from_millis(200);
            signals = signals.watch("active_sessions", query, limit, every);
        }
        let sweep = migration.backfill(BackfillOptions::default());
        let sweep = sweep.with_signals(signals);
        let (mut passed, began) = (0, Instant::now());
        let swept = sweep.run(|at| passed = at.passed);
        let (pgbench, url) = (pgbench.clone(), self.server.url("bench"));
        let measured = tokio::task::spawn_blocking(move || pgbench.run(&url));
        let figures = tokio::select! {
            biased;
            figures = measured => figures.expect("pgbench"),
            // All rows moved before: then it was beside nothing for the rest.
            _ = async { let _ = swept.await; std::future::pending::<()>().await } => unreachable!(),
        };
        (figures, passed as f64 / began.elapsed().as_secs_f64())
    }

    /// pgbench and its tables, or why there are none.
    async fn pgbench(&self) -> Result<Pgbench, String> {
        // It is beside the server's own program.
        let server = self.server.postmaster().unwrap_or_default();
        let server = std::fs::read_link(format!("/proc/{server}/exe"));
        let server = server.map_err(|problem| format!("pgbench is not looked for: {problem}"))?;
        let program = server.with_file_name("pgbench");
        self.server.create_database("bench").await;
        let made = Command::new(&program)
            .args(["-i", "-q", "-s", "10", &bare(&self.server.url("bench"))])
            .output()
            .map_err(|problem| format!("pgbench is not measured: {problem}"))?;
        match made.status.success() {
            true => Ok(Pgbench { program }),
            false => Err(format!(
                "pgbench is not measured: {}",
                String::from_utf8_lossy(&made.stderr)
            )),
        }
    }
}

#[derive(Debug, Clone)]
struct Pgbench {
    program: PathBuf,
}

impl Pgbench {
    /// One round.
    fn run(&self, url: &str) -> Figures {
        let folder = tempfile::tempdir().expect("a folder");
        let prefix = folder.path().join("log");
        let done = Command::new(&self.program)
            .args(["-n", "-l", "-c", &CLIENTS.to_string(), "-j", "1"])
            .args(["-T", &ROUND.as_secs().to_string()])
            .arg(format!("--log-prefix={}", prefix.display()))
            .arg(bare(url))
            .stdin(Stdio::null())
            .output()
            .expect("pgbench");
        let said = String::from_utf8_lossy(&done.stdout);
        let tps = said
            .lines()
            .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        let tps = tps.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&done.stderr)));
        (tps, p99(folder.path()))
    }
}

/// Of the times in its logs, the third word of each line.
fn p99(folder: &Path) -> f64 {
    let files = std::fs::read_dir(folder).expect("its folder").flatten();
    let mut times: Vec<f64> = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file.path()).expect("its log");
        let lines = text.lines();
        times.extend(lines.filter_map(|line| line.split(' ').nth(2)?.parse::<f64>().ok()));
    }
    times.sort_by(f64::total_cmp);
    times
        .get(times.len() * 99 / 100)
        .copied()
        .unwrap_or(f64::NAN)
}

/// libpq knows none of sqlx's own parameters, and this one it does.
fn bare(url: &str) -> String {
    url.replacen("postgres://", "postgresql://", 1)
}
