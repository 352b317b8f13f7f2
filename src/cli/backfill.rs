//! `changeover backfill`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::time::{Duration, Instant};

use changeover_sync_worker::backfill::{self, BackfillOptions};
use changeover_sync_worker::copy::Copier;
use changeover_sync_worker::pace::{Reason, RowsPerSecond};
use changeover_sync_worker::progress::Progress;
use clap::Args;
use serde::Serialize;

use super::edits::Steered;
use super::failure::{Failure, HOLDS_NOT};
use super::which::{Which, unless_interrupted};
use crate::config::{Config, Moved, Work};
use crate::screen::{Bar, Screen};

/// How often is looked how many keys are dirty.
const LAG_EVERY: Duration = Duration::from_secs(5);

/// Copy history, in pages, from where the last run stopped
///
/// Live writes go on: a page never writes over a newer row, and deleted rows stay deleted. The first sweep
/// loads: while it lasts, pages alone are written to the new side, and what is written to legacy meanwhile
/// is copied when it is done. Interrupting it loses at most one page. What [pace], rows_per_second, workers and
/// upto say in the file is taken over while it runs, and paused = true in [pace] pauses it. Ends with exit code 1
/// when rows are held back; `changeover status` says which, and why.
#[derive(Debug, Args)]
pub(super) struct Backfill {
    #[command(flatten)]
    which: Which,
    /// Keys per second, instead of what the file says; unless that has a duty_percent, no rests besides
    #[arg(long, value_name = "ROWS_PER_SECOND", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Keys per page, also of a load, instead of what the file says
    #[arg(long, value_name = "KEYS", value_parser = clap::value_parser!(u32).range(1..))]
    page: Option<u32>,
    /// Do not load: copy page by page beside the copies of live writes, which takes several times as long. A
    /// load that was begun is given up, and history is copied from its beginning
    #[arg(long)]
    no_load: bool,
    /// Divide the sweep into so many parts, if it was not divided before; other processes may share them
    #[arg(long, value_name = "PARTS", value_parser = clap::value_parser!(u32).range(1..=1024))]
    parts: Option<u32>,
    /// Work on so many parts of the sweep at a time
    #[arg(long, value_name = "WORKERS", value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: Option<u32>,
    /// Say how much is left to copy, and write nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct Left {
    entity: String,
    /// Keys passed by earlier runs.
    passed: u64,
    keys_estimate: u64,
    done: bool,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (entity, passed, estimate) = (&self.entity, self.passed, self.keys_estimate);
        match self.done {
            true => write!(
                f,
                "{entity}: history is swept, {passed} keys; nothing was written"
            ),
            false => write!(
                f,
                "{entity}: {passed} of about {estimate} keys are passed; nothing was written"
            ),
        }
    }
}

#[derive(Debug, Serialize)]
struct Swept {
    entity: String,
    /// Keys that this run copied or found newer.
    keys: u64,
    seconds: f64,
    keys_per_second: f64,
    /// Keys of this run that are held back.
    held: u64,
    /// Keys passed by all runs.
    passed: u64,
    /// For how long the sweep itself was held back: by a pause, a signal or its range, or for longer than a second by
    /// its rate, or than ten by its duty.
    held_back_seconds: BTreeMap<String, f64>,
    /// Whether it stands in the epoch row that history was swept.
    recorded: bool,
}

impl fmt::Display for Swept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: history is swept, {} keys in all; this run {} in {:.1} s, {:.0} keys/s, {} held back",
            self.entity, self.passed, self.keys, self.seconds, self.keys_per_second, self.held
        )?;
        for (reason, seconds) in &self.held_back_seconds {
            write!(f, ", {seconds:.0} s of them held back by {reason}")?;
        }
        if !self.recorded {
            write!(
                f,
                "; not recorded, since the entity was moved meanwhile: run it again"
            )?;
        }
        Ok(())
    }
}

/// What the sweep waited for, by reason.
#[derive(Debug, Default)]
struct Waits {
    since: Option<(String, Instant)>,
    seconds: BTreeMap<String, f64>,
}

impl Waits {
    /// Takes up what holds it back now, and says it in words.
    fn told(&mut self, reason: Option<&Reason>) -> Option<String> {
        if let Some((label, since)) = self.since.take() {
            *self.seconds.entry(label).or_default() += since.elapsed().as_secs_f64();
        }
        let reason = reason?;
        self.since = Some((reason.label().to_owned(), Instant::now()));
        Some(reason.to_string())
    }
}

/// Says from time to time how many keys wait to be copied beside the sweep.
async fn lag(copier: &Copier, bar: &Bar) -> Infallible {
    loop {
        let began = Instant::now();
        // What cannot be read now is read later.
        if let Ok(lag) = copier.authority().lag().await {
            bar.dirty(lag.dirty);
        }
        // Where counting takes long, it is a small part of the time all the same.
        tokio::time::sleep(LAG_EVERY.max(began.elapsed() * 12)).await;
    }
}

impl Backfill {
    /// What the file says, and above it the command line.
    fn options(&self, config: &Config, moved: &Moved) -> BackfillOptions {
        let mut options = moved.backfill.options(&config.pace);
        let pacing = &mut options.pacing;
        pacing.rows_per_second = self
            .rate
            .and_then(RowsPerSecond::new)
            .or(pacing.rows_per_second);
        options.page = self.page.unwrap_or(options.page);
        options.load_page = self.page.or(options.load_page);
        options.load &= !self.no_load;
        options.parts = self.parts.unwrap_or(options.parts);
        options.workers = self.workers.unwrap_or(options.workers);
        options
    }

    pub(super) async fn run(self) -> Result<(), Failure> {
        let opened = self.which.open().await?;
        let (migration, copier) = (&opened.migration, opened.migration.copier());
        let epoch = opened.copying().await?;
        migration.triggers_stand().await?;
        let options = self.options(&opened.config, &opened.moved);
        let steered = Steered::of(&opened, (&opened.config, &opened.moved), &options)?;
        let signals = opened.config.signals_for(Work::Backfill)?;
        let before = Progress::read(&**copier.authority(), &**copier.follower()).await?;
        if self.dry_run {
            return self.which.file.answer(&Left {
                entity: opened.name,
                passed: before.cursor.passed,
                keys_estimate: before.estimate,
                done: before.cursor.done,
            });
        }
        let bar = Screen::new().bar("backfill", before.estimate);
        bar.at(before.cursor.passed);
        let began = Instant::now();
        let sweep = migration.backfill(options.at(&epoch)).with_signals(signals);
        let control = sweep.control();
        steered.steer(&control);
        let edits = self.which.file.edits(
            steered,
            |config| {
                let (_, moved) = config.which(Some(&opened.name))?;
                Steered::of(&opened, (config, moved), &self.options(config, moved))
            },
            |steered| steered.steer(&control),
            |line| bar.say(line),
        );
        let lag = lag(copier, &bar);
        let mut waits = Waits::default();
        let swept = unless_interrupted("run it again: it goes on from where it stopped", async {
            let told = |progress: backfill::Progress| {
                bar.held(waits.told(progress.held_back_by.as_ref()));
                bar.at(progress.passed);
            };
            tokio::select! {
                swept = sweep.run(told) => Ok(swept?),
                never = edits => match never {},
                never = lag => match never {},
            }
        });
        let swept = swept.await?;
        drop(bar);
        let recorded = migration.record_backfill(&epoch).await?;
        let (keys, seconds) = (swept.rows, began.elapsed().as_secs_f64());
        self.which.file.answer(&Swept {
            entity: opened.name,
            keys,
            seconds,
            keys_per_second: keys as f64 / seconds,
            held: swept.held,
            passed: swept.passed,
            held_back_seconds: waits.seconds,
            recorded,
        })?;
        // Keys that an earlier run held are held as well.
        let lag = copier.authority().lag().await?;
        let held = lag.waiting + lag.blocked;
        if held > 0 {
            let error = format!("{held} keys are held back");
            return Err(Failure::new(HOLDS_NOT, error).with_hint(
                "changeover status says which, and why; they are tried again by changeover drain",
            ));
        }
        if !recorded {
            return Err(Failure::new(HOLDS_NOT, "the backfill was not recorded")
                .with_hint("the entity was moved meanwhile: run it again"));
        }
        Ok(())
    }
}
