//! `changeover verify`.

use std::fmt;
use std::pin::pin;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use changeover_flags::{Key, Percent};
use changeover_sync_worker::pace::RowsPerSecond;
use changeover_sync_worker::sum::Unsummed;
use changeover_sync_worker::verify::{
    Part, PartReport, Recorded, Sampled, VerifyOptions, VerifyProgress, VerifyReport,
};
use clap::Args;
use serde::Serialize;

use super::failure::{Failure, HOLDS_NOT, INTERRUPTED};
use super::which::{Opened, Which, interrupted, print, print_line, unless_interrupted};
use crate::config::Work;
use crate::screen::Screen;

/// Compare both sides, by sums and field by field, and record whether they agree
///
/// Each side sums its rows over ranges of keys, where the mapping lets it; what differs, and what cannot
/// be summed, is compared key by key. The report says how much was, and why.
///
/// Writes go on meanwhile: what differs is looked at again until it is certain. A clean one, after a
/// backfill, is what lets the read percentage rise; one that is not clean takes that away. Ends with
/// exit code 1 when it found a difference, compared nothing, or could not be recorded; with --every, as the
/// last one that came to an end would.
#[derive(Debug, Args)]
pub(super) struct Verify {
    #[command(flatten)]
    which: Which,
    /// The most samples of each class, instead of what the file says
    #[arg(long, value_name = "KEYS")]
    samples: Option<usize>,
    /// Look at ranges of keys drawn by chance, at a share of them or at so many; a clean one is not recorded
    #[arg(long, value_name = "1%|RANGES", value_parser = sampled, conflicts_with = "from")]
    sample: Option<Sampled>,
    /// What ranges are drawn by: the report of a sample names it
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Look at the keys behind this one, as one that was broken off says; a clean one is not recorded
    #[arg(long, value_name = "KEY")]
    from: Option<String>,
    /// Never end: begin again so often, and tell each report, until interrupted
    #[arg(long, value_name = "TIME", value_parser = time)]
    every: Option<Duration>,
    /// Keys per second, instead of what the file says
    #[arg(long, value_name = "KEYS_PER_SECOND", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Compare and report, and record nothing: neither that the sides agree nor that they do not
    #[arg(long)]
    dry_run: bool,
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
        match &self.report.part {
            None => {}
            Some(PartReport::Above(key)) => writeln!(f, "the keys behind {key:?} alone")?,
            Some(PartReport::Sample { ranges, of, seed }) => {
                writeln!(
                    f,
                    "a sample: {ranges} of {of} ranges, drawn by --seed {seed}"
                )?;
            }
        }
        let sums = self.report.sums;
        if sums.ranges > 0 {
            writeln!(
                f,
                "{} spans of keys summed, {} of them differed, {} keys compared one by one",
                sums.ranges, sums.bisected, sums.singly
            )?;
        }
        for Unsummed { target, why } in &self.report.unsummed {
            writeln!(f, "compared key by key: {target}: {why}")?;
        }
        if let Some(why_not) = self.report.recorded.why_not() {
            writeln!(f, "not recorded: {why_not}")?;
        }
        if !self.report.bare_tables.is_empty() {
            writeln!(
                f,
                "triggers are gone or switched off on {}: writes there leave no stamp",
                self.report.bare_tables.join(", ")
            )?;
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
        opened.copying().await?;
        let Some(every) = self.every else {
            let verified = self.once(&opened).await?;
            self.which.file.answer(&verified)?;
            return verified.judged();
        };
        let screen = Screen::new();
        let mut at = tokio::time::interval(every);
        at.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = None;
        // Listened to all the while: between two looks as well as during one.
        let mut interrupted = pin!(interrupted());
        loop {
            let verified = async {
                at.tick().await;
                self.once(&opened).await
            };
            let verified = tokio::select! {
                biased;
                () = &mut interrupted => break,
                verified = verified => verified,
            };
            match verified {
                Ok(verified) => {
                    verified.say(self.which.file.json)?;
                    last = Some(verified.judged());
                }
                Err(failure) if failure.is_interrupted() => break,
                // This process has one mapping, and installs nothing.
                Err(failure) if !failure.is_environment() => return Err(failure),
                Err(failure) => {
                    screen.say(format!("verify will be tried again: {}", failure.causes()));
                    last = Some(Err(failure));
                }
            }
        }
        let unended = || Failure::new(INTERRUPTED, "interrupted before a verify came to its end");
        last.unwrap_or_else(|| Err(unended()))
    }

    async fn once(&self, opened: &Opened) -> Result<Verified, Failure> {
        let options = self.options(opened)?;
        let seed = options.seed;
        let estimate = opened.migration.copier().authority().estimate().await?;
        let bar = Screen::new().bar("verify", estimate);
        let began = Instant::now();
        let reached = Mutex::new(VerifyProgress::default());
        let told = |progress: VerifyProgress| {
            bar.at(progress.compared);
            bar.behind(progress.reached.as_ref().map(Key::as_str));
            bar.held(progress.held_back_by.as_ref().map(ToString::to_string));
            if let Ok(mut reached) = reached.lock() {
                *reached = progress;
            }
        };
        let verify = opened.migration.verify_telling(options, told);
        let report = unless_interrupted("", async { Ok(verify.await?) }).await;
        drop(bar);
        let report = report.map_err(|failure| {
            let reached = reached.lock().map(|reached| reached.clone());
            failure.and_hint(broken_off(&reached.unwrap_or_default(), seed))
        })?;
        Ok(Verified {
            entity: opened.name.clone(),
            clean: report.clean(),
            seconds: began.elapsed().as_secs_f64(),
            report,
        })
    }

    /// What the file says, and the command line over it.
    fn options(&self, opened: &Opened) -> Result<VerifyOptions, Failure> {
        let mut options = opened.moved.verify.options();
        let rate = self.rate.and_then(RowsPerSecond::new);
        options.pacing.rows_per_second = rate.or(options.pacing.rows_per_second);
        options.signals = opened.config.signals_for(Work::Verify)?;
        options.samples = self.samples.unwrap_or(options.samples);
        options.seed = self.seed.unwrap_or(options.seed);
        options.record = !self.dry_run;
        options.part = match (self.from.as_ref().map(Key::new), self.sample) {
            (Some(key), _) => Part::Above(opened.key("--from", key)?),
            (None, Some(sampled)) => Part::Sample(sampled),
            (None, None) => Part::All,
        };
        Ok(options)
    }
}

/// Where a verify that was broken off stands.
fn broken_off(progress: &VerifyProgress, seed: u64) -> String {
    let nothing = "nothing was recorded: a verify proves nothing until its end";
    match &progress.reached {
        None => nothing.to_owned(),
        Some(key) => format!(
            "{nothing}; {} keys were compared, {} of them differed; `--from '{key}'` looks at the rest (seed {seed})",
            progress.compared, progress.unclean
        ),
    }
}

/// A number of ranges, or a share of them, such as `1%`.
fn sampled(text: &str) -> Result<Sampled, String> {
    let share = text
        .strip_suffix('%')
        .map(|share| share.trim().parse::<f64>());
    match share {
        Some(Ok(share)) => {
            (Percent::new(share).map(Sampled::Share)).map_err(|error| error.to_string())
        }
        Some(Err(_)) => Err("write a share as 1%".to_owned()),
        None => (text.parse().map(Sampled::Ranges))
            .map_err(|_| "write a share, such as 1%, or a number of ranges".to_owned()),
    }
}

/// A time such as `90s`, `30m`, `1h`.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number and s, m or h, such as 1h".to_owned();
    let unit = match text.char_indices().last() {
        Some((at, 's')) => (at, 1),
        Some((at, 'm')) => (at, 60),
        Some((at, 'h')) => (at, 3_600),
        _ => return Err(wrong()),
    };
    let number = text
        .get(..unit.0)
        .and_then(|number| number.parse::<u32>().ok());
    match number {
        Some(number) if number > 0 => Ok(Duration::from_secs(u64::from(number) * unit.1)),
        _ => Err(wrong()),
    }
}

impl Verified {
    /// One of many: a line of JSON, or in words.
    fn say(&self, json: bool) -> Result<(), Failure> {
        match json {
            true => print_line(self),
            false => print(self, false),
        }
    }

    /// What the exit code is to say.
    fn judged(&self) -> Result<(), Failure> {
        let (error, hint) = match (self.clean, self.report.recorded.why_not()) {
            (true, None) => return Ok(()),
            // Nobody asked for more.
            (true, Some(_)) if self.report.recorded == Recorded::Part => return Ok(()),
            (false, _) if !self.report.bare_tables.is_empty() => (
                "writes may have left no stamp",
                "changeover install puts the triggers back, and changeover backfill then copies every key again",
            ),
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
    #[test]
    fn samples_and_times_are_read_as_meant() {
        let half = Percent::new(0.5).map(Sampled::Share);
        assert_eq!(sampled("0.5%").ok(), half.ok());
        assert_eq!(sampled("20"), Ok(Sampled::Ranges(20)));
        for wrong in ["101%", "x%", "-1", "1.5", ""] {
            assert!(sampled(wrong).is_err(), "{wrong}");
        }
        assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(time("30m"), Ok(Duration::from_secs(1_800)));
        assert_eq!(time("1h"), Ok(Duration::from_secs(3_600)));
        for wrong in ["", "0h", "1", "h", "1d", "-1s", "1é"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_part_is_no_failure_and_no_evidence() {
        let part = PartReport::Sample {
            ranges: 2,
            of: 9,
            seed: 7,
        };
        let verified = Verified {
            entity: "listings".into(),
            clean: true,
            seconds: 1.0,
            report: VerifyReport {
                compared: 1,
                recorded: Recorded::Part,
                part: Some(part),
                ..VerifyReport::default()
            },
        };
        assert!(verified.judged().is_ok());
        let text = verified.to_string();
        assert!(text.contains("2 of 9 ranges, drawn by --seed 7"), "{text}");
        assert!(text.contains("not recorded"), "{text}");
    }
}
