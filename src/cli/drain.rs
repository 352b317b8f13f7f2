//! `changeover drain`.

use std::fmt;
use std::io::Write as _;
use std::time::Duration;

use changeover_sync_worker::drain::DrainEvent;
use changeover_sync_worker::migration::MigrationError;
use changeover_sync_worker::pace::RowsPerSecond;
use changeover_sync_worker::store::StoreError;
use clap::Args;
use serde::Serialize;
use tokio::sync::oneshot;

use super::failure::{Failure, HOLDS_NOT};
use super::which::{Opened, Which, interrupted, unless_interrupted};
use crate::causes::Causes;
use crate::config::Work;
use crate::screen::Trouble;

/// How long an end that somebody asked for may wait for what is left.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// Copy what is dirty, until nothing is
///
/// Any number of drains may run at once, beside applications and backfills. Ends with exit code 1 when
/// the time is over and keys are still dirty.
#[derive(Debug, Args)]
pub(super) struct Drain {
    #[command(flatten)]
    which: Which,
    /// Give up after so long
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 60,
        conflicts_with = "follow"
    )]
    within: u64,
    /// Never end: copy whatever becomes dirty, until interrupted. A failure is said once on stderr, and
    /// tried again; it ends with exit code 1 where only another mapping, or an installation, can help
    #[arg(long)]
    follow: bool,
    /// Say how much is dirty, and copy nothing
    #[arg(long, conflicts_with = "follow")]
    dry_run: bool,
    /// Keys per second, instead of what the file says
    #[arg(long, value_name = "ROWS_PER_SECOND", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
}

#[derive(Debug, Serialize)]
struct Drained {
    entity: String,
    dirty: u64,
    waiting: u64,
    blocked: u64,
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dirty {
            0 => write!(f, "{}: nothing is dirty", self.entity),
            dirty => write!(
                f,
                "{}: {dirty} keys are dirty, of them {} wait and {} are blocked",
                self.entity, self.waiting, self.blocked
            ),
        }
    }
}

/// Copies until interrupted, or until this process can never go on.
async fn follow(entity: &str, drain: &changeover_sync_worker::drain::Drain) -> Result<(), Failure> {
    let (given_up, hopeless) = oneshot::channel();
    let (mut given_up, mut trouble) = (Some(given_up), Trouble::of(entity));
    let told = |event: DrainEvent| {
        match &event {
            DrainEvent::Failed(error) => trouble.is(format!("trying again: {}", Causes(error))),
            // Its own pace is no news.
            DrainEvent::Held(Some(reason)) if reason.is_open() => {
                trouble.is(format!("held back: {reason}"));
            }
            // A pass is over soon.
            DrainEvent::Held(_) => {}
            DrainEvent::Passed => trouble.is_over(),
        }
        if let DrainEvent::Failed(error) = event
            && is_hopeless(&error)
            && let Some(given_up) = given_up.take()
        {
            // Nobody listens any more: it is stopping already.
            let _ = given_up.send(error);
        }
    };
    let mut ended = Ok(());
    let stop = async {
        tokio::select! {
            () = interrupted() => {}
            Ok(error) = hopeless => ended = Err(error.into()),
        }
    };
    drain.run_telling(stop, told).await;
    ended
}

/// Whether this process would fail like that for ever: it has one mapping, and installs nothing.
fn is_hopeless(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Revision { .. } | StoreError::Mapping { .. } | StoreError::NotInstalled { .. }
    )
}

impl Drain {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let opened = self.which.open().await?;
        opened.copying().await?;
        // What is dirty can be copied all the same.
        if let Err(error @ MigrationError::Triggers { .. }) =
            opened.migration.triggers_stand().await
        {
            // A closed stderr is nobody's loss.
            let _ = writeln!(std::io::stderr(), "warning: {error}");
        }
        let mut options = opened.moved.drain.options();
        let pacing = &mut options.pacing;
        let rate = self.rate.and_then(RowsPerSecond::new);
        pacing.rows_per_second = rate.or(pacing.rows_per_second);
        let signals = opened.config.signals_for(Work::Drain)?;
        let drain = opened.migration.drain(options).with_signals(signals);
        if self.dry_run {
            return self.told(opened).await.map(drop);
        }
        if self.follow {
            follow(&opened.name, &drain).await?;
            // Whoever ends it may do so because a database is away.
            let why = match tokio::time::timeout(TOLD_WITHIN, self.told(opened)).await {
                Ok(Err(failure)) if failure.is_environment() => failure.causes(),
                Ok(told) => return told.map(drop),
                Err(_elapsed) => "no answer".to_owned(),
            };
            // A closed stderr is nobody's loss.
            let _ = writeln!(
                std::io::stderr(),
                "warning: what is still dirty is not known: {why}"
            );
            return Ok(());
        }
        let within = Duration::from_secs(self.within);
        unless_interrupted("what is dirty stays dirty, and loses nothing", async {
            Ok(drain.until_clean(Some(within)).await?)
        })
        .await?;
        let held_back = drain.held_back_by();
        let dirty = self.told(opened).await?;
        if dirty == 0 {
            return Ok(());
        }
        let by = held_back.map_or_else(String::new, |reason| format!(": held back: {reason}"));
        let error = format!("{dirty} keys are still dirty{by}");
        Err(Failure::new(HOLDS_NOT, error)
            .with_hint("changeover status says why keys are held; --within gives it more time"))
    }

    /// Prints how much is dirty, and answers it.
    async fn told(&self, opened: Opened) -> Result<u64, Failure> {
        let lag = opened.migration.copier().authority().lag().await?;
        self.which.file.answer(&Drained {
            entity: opened.name,
            dirty: lag.dirty,
            waiting: lag.waiting,
            blocked: lag.blocked,
        })?;
        Ok(lag.dirty)
    }
}
