//! `changeover drain`.

use std::fmt;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::failure::{Failure, HOLDS_NOT};
use super::which::{Which, unless_interrupted};

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
    /// Never end: copy whatever becomes dirty, until interrupted
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

impl Drain {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let opened = self.which.open().await?;
        opened.copying().await?;
        let drain = opened.migration.drain(opened.moved.drain.options());
        if self.follow {
            drain
                .run(async { drop(tokio::signal::ctrl_c().await) })
                .await;
            return Ok(());
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
