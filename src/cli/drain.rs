//! `changeover drain`.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;
use std::time::Duration;

use changeover_sync_worker::migration::MigrationError;
use changeover_sync_worker::store::StoreError;
use clap::Args;
use serde::Serialize;
use tokio::sync::oneshot;

use super::failure::{Failure, HOLDS_NOT};
use super::which::{Which, unless_interrupted};
use crate::causes::Causes;

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
    let (mut given_up, mut said) = (Some(given_up), None);
    let told = |failed: Option<StoreError>| {
        let now = failed.as_ref().map(|error| Causes(error).to_string());
        if now != said {
            let text = now.as_deref().map_or("goes on".into(), |error| {
                Cow::from(format!("trying again: {error}"))
            });
            // A closed stderr is nobody's loss.
            let _ = writeln!(std::io::stderr(), "{entity}: {text}");
            said = now;
        }
        if let Some(error) = failed.filter(is_hopeless)
            && let Some(given_up) = given_up.take()
        {
            // Nobody listens any more: it is stopping already.
            let _ = given_up.send(error);
        }
    };
    let mut ended = Ok(());
    let stop = async {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
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
        let drain = opened.migration.drain(opened.moved.drain.options());
        if self.follow {
            return follow(&opened.name, &drain).await;
        }
        let within = Duration::from_secs(self.within);
        unless_interrupted("what is dirty stays dirty, and loses nothing", async {
            Ok(drain.until_clean(Some(within)).await?)
        })
        .await?;
        let lag = opened.migration.copier().authority().lag().await?;
        self.which.file.answer(&Drained {
            entity: opened.name,
            dirty: lag.dirty,
            waiting: lag.waiting,
            blocked: lag.blocked,
        })?;
        match lag.dirty {
            0 => Ok(()),
            dirty => Err(
                Failure::new(HOLDS_NOT, format!("{dirty} keys are still dirty")).with_hint(
                    "changeover status says why keys are held; --within gives it more time",
                ),
            ),
        }
    }
}
