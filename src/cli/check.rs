//! `changeover check`.

use std::fmt;
use std::io::Write as _;

use changeover_sync_worker::check::{CheckReport, Checked, Checks, First, Outcome};
use clap::Args;
use serde::Serialize;

use super::failure::{ENVIRONMENT, Failure, HOLDS_NOT, USAGE};
use super::which::{Which, interrupted, unless_interrupted};
use crate::screen::Screen;

/// Ask both sides what should find no rows: orphans, row counts, sequences that are behind, and your own
///
/// Writes nothing. The checks run beside each other, each on a connection of its own; one that fails
/// hides no other. Ends with exit code 1 when one found rows; with 3 when none did, but one could not
/// be ended.
#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    which: Which,
    /// Run this one alone, or those of this kind: orphan, sequence
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Never end: run each whenever its time has come, and print a line for each, until interrupted
    #[arg(long)]
    follow: bool,
}

#[derive(Debug, Serialize)]
struct Answer {
    entity: String,
    found: usize,
    failed: usize,
    #[serde(flatten)]
    report: CheckReport,
}

/// One check in words.
struct Line<'a>(&'a Checked);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.0.check)?;
        match &self.0.outcome {
            Outcome::Clean => f.write_str("clean"),
            Outcome::NotYet { reason } => write!(f, "not yet: {reason}"),
            Outcome::Failed { reason } => write!(f, "FAILED: {reason}"),
            Outcome::Found {
                rows,
                more,
                samples,
            } => {
                let over = if *more { "more than " } else { "" };
                write!(f, "FOUND {over}{rows} rows")?;
                match samples.as_slice() {
                    [] => Ok(()),
                    samples => write!(f, ", such as {}", samples.join("; ")),
                }
            }
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} checks, {} found rows, {} failed",
            self.entity,
            self.report.checks.len(),
            self.found,
            self.failed
        )?;
        for checked in &self.report.checks {
            writeln!(f, "  {}", Line(checked))?;
        }
        Ok(())
    }
}

impl Check {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let opened = self.which.open().await?;
        let (own, options) = opened.moved.checks();
        let mut checks = opened.migration.checks(own, options);
        if let Some(only) = &self.only {
            let known: Vec<String> = checks.names().map(str::to_owned).collect();
            checks = checks.only(only);
            if checks.names().next().is_none() {
                let error = format!("there is no check {only:?}: there are {}", known.join(", "));
                return Err(Failure::new(USAGE, error));
            }
        }
        if self.follow {
            return follow(&checks, self.which.file.json).await;
        }
        let screen = Screen::new();
        let report = unless_interrupted("a check writes nothing", async {
            let told = |checked: &Checked| {
                screen.say(format!("{} has ended", checked.check));
            };
            Ok(checks.run(told).await)
        });
        let report = report.await?;
        let answer = Answer {
            entity: opened.name,
            found: report.found(),
            failed: report.failed(),
            report,
        };
        self.which.file.answer(&answer)?;
        answer.judged()
    }
}

/// A line for each check that has ended, until interrupted.
async fn follow(checks: &Checks, json: bool) -> Result<(), Failure> {
    let told = |checked: &Checked| {
        let text = match json {
            // What has no JSON is said in words.
            true => serde_json::to_string(checked).unwrap_or_else(|_| Line(checked).to_string()),
            false => Line(checked).to_string(),
        };
        // A closed stdout is nobody's loss.
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    };
    tokio::select! {
        () = checks.follow(First::Now, told) => {}
        () = interrupted() => {}
    }
    Ok(())
}

impl Answer {
    /// What the exit code is to say.
    fn judged(&self) -> Result<(), Failure> {
        match (self.found, self.failed) {
            (0, 0) => Ok(()),
            (0, failed) => Err(Failure::new(
                ENVIRONMENT,
                format!("{failed} checks could not be ended: they prove nothing"),
            )),
            (found, _) => Err(
                Failure::new(HOLDS_NOT, format!("{found} checks found rows")).with_hint(
                    "keys that rows names are copied again by changeover repair; for orphans and \
                     sequences see README.md, \"Consistency checks\"",
                ),
            ),
        }
    }
}
