//! `changeover verify`.

use std::fmt;
use std::time::Instant;

use changeover_sync_worker::sum::Unsummed;
use changeover_sync_worker::verify::VerifyReport;
use clap::Args;
use serde::Serialize;

use super::failure::{Failure, HOLDS_NOT};
use super::which::{Which, unless_interrupted};
use crate::screen::Screen;

/// Compare both sides, by sums and field by field, and record whether they agree
///
/// Each side sums its rows over ranges of keys, where the mapping lets it; what differs, and what cannot
/// be summed, is compared key by key. The report says how much was, and why.
///
/// Writes go on meanwhile: what differs is looked at again until it is certain. A clean one, after a
/// backfill, is what lets the read percentage rise; one that is not clean takes that away. Ends with
/// exit code 1 when it found a difference, compared nothing, or could not be recorded.
#[derive(Debug, Args)]
pub(super) struct Verify {
    #[command(flatten)]
    which: Which,
    /// The most samples of each class, instead of what the file says
    #[arg(long, value_name = "KEYS")]
    samples: Option<usize>,
}

/// Also what `repair --report` reads.
#[derive(Debug, Serialize)]
struct Verified {
    entity: String,
    clean: bool,
    seconds: f64,
    #[serde(flatten)]
    report: VerifyReport,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let classes: Vec<String> = self
            .report
            .classes
            .iter()
            .map(|(class, keys)| format!("{keys} {}", class.as_str()))
            .collect();
        writeln!(
            f,
            "{}: {}, {} keys compared in {:.1} s: {}",
            self.entity,
            if self.clean { "clean" } else { "NOT clean" },
            self.report.compared,
            self.seconds,
            if classes.is_empty() {
                "nothing".to_owned()
            } else {
                classes.join(", ")
            }
        )?;
        let sums = self.report.sums;
        if sums.ranges > 0 {
            writeln!(
                f,
                "{} ranges summed, {} of them differed, {} keys compared one by one",
                sums.ranges, sums.bisected, sums.singly
            )?;
        }
        for Unsummed { target, why } in &self.report.unsummed {
            writeln!(f, "compared key by key: {target}: {why}")?;
        }
        if let Some(why_not) = self.report.recorded.why_not() {
            writeln!(f, "not recorded: {why_not}")?;
        }
        if !self.report.backfilled {
            writeln!(
                f,
                "no finished backfill is known: what is not there yet is pending"
            )?;
        }
        for sample in &self.report.samples {
            write!(f, "  {} {}", sample.class.as_str(), sample.key)?;
            for field in &sample.fields {
                write!(f, "; {field}")?;
            }
            if let Some(reason) = &sample.reason {
                write!(f, "; {reason}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl Verify {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let opened = self.which.open().await?;
        let migration = &opened.migration;
        let mut options = opened.moved.verify.options();
        options.samples = self.samples.unwrap_or(options.samples);
        opened.copying().await?;
        let estimate = migration.copier().authority().estimate().await?;
        let bar = Screen::new().bar("verify", estimate);
        let began = Instant::now();
        let report = unless_interrupted(
            "nothing was recorded: a verify proves nothing until its end",
            async {
                Ok(migration
                    .verify_telling(options, |compared| bar.at(compared))
                    .await?)
            },
        );
        let report = report.await?;
        drop(bar);
        let verified = Verified {
            entity: opened.name,
            clean: report.clean(),
            seconds: began.elapsed().as_secs_f64(),
            report,
        };
        self.which.file.answer(&verified)?;
        verified.judged()
    }
}

impl Verified {
    /// What the exit code is to say.
    fn judged(&self) -> Result<(), Failure> {
        let (error, hint) = match (self.clean, self.report.recorded.why_not()) {
            (true, None) => return Ok(()),
            (false, _) => (
                "the sides are not proved to agree",
                "changeover status shows what is held; changeover repair copies keys again",
            ),
            (true, Some(why_not)) => ("the sides agree, but that is not recorded", why_not),
        };
        Err(Failure::new(HOLDS_NOT, error).with_hint(hint))
    }
}

#[cfg(test)]
mod tests {
    use changeover_sync_worker::verify::Recorded;

    use super::*;

    #[test]
    fn what_is_not_on_record_is_said_and_opens_no_gate() {
        let verified = |recorded| Verified {
            entity: "listings".into(),
            clean: true,
            seconds: 1.0,
            report: VerifyReport {
                compared: 1,
                recorded,
                ..VerifyReport::default()
            },
        };
        let done = verified(Recorded::Yes);
        assert!(done.judged().is_ok() && !done.to_string().contains("recorded"));
        for (recorded, why) in [
            (Recorded::Moved, "verify again"),
            (Recorded::NotCopied, "stage legacy"),
        ] {
            let undone = verified(recorded);
            assert!(undone.judged().is_err());
            let text = undone.to_string();
            assert!(
                text.contains("not recorded") && text.contains(why),
                "{text}"
            );
        }
    }
}
