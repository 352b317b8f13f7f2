//! The file is edited while a backfill runs: its pace is taken over.

use std::convert::Infallible;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use changeover_flags::Key;
use changeover_sync_worker::backfill::{BackfillControl, BackfillOptions};
use changeover_sync_worker::pace::{Duty, Pacing};

use super::failure::Failure;
use super::which::{File, Opened};
use crate::config::{Config, Moved};

/// How often the file is looked at. What is read is taken when it stands there at two looks: an editor may
/// write a file in pieces.
const LOOK: Duration = Duration::from_millis(500);

/// What a backfill takes over while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Steered {
    paused: bool,
    pacing: Pacing,
    workers: u32,
    upto: Option<Key>,
}

impl Steered {
    /// What a file says, and these options, if the range ends with a key.
    pub(super) fn of(
        opened: &Opened,
        (config, moved): (&Config, &Moved),
        options: &BackfillOptions,
    ) -> Result<Steered, Failure> {
        let upto = moved.backfill.upto.as_ref().map(Key::new);
        let upto = upto.map(|key| opened.key("backfill.upto", key));
        Ok(Steered {
            paused: config.pace.paused,
            pacing: options.pacing,
            workers: options.workers,
            upto: upto.transpose()?,
        })
    }

    /// From the next page on.
    pub(super) fn steer(&self, control: &BackfillControl) {
        control.set_pacing(self.pacing);
        control.set_workers(self.workers);
        control.set_upto(self.upto.clone());
        match self.paused {
            true => control.pause(),
            false => control.resume(),
        }
    }
}

impl fmt::Display for Steered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pacing {
            rows_per_second,
            bytes_per_second,
            statement_time,
            duty,
        } = self.pacing;
        if self.paused {
            f.write_str("paused, ")?;
        }
        if let Some(rows) = rows_per_second {
            write!(f, "{} rows/s, ", rows.get())?;
        }
        if let Some(bytes) = bytes_per_second {
            write!(f, "{} bytes/s, ", bytes.get())?;
        }
        if let Some(time) = statement_time {
            write!(f, "pages of {} ms, ", time.as_millis())?;
        }
        if let Some(share) = duty.map(Duty::get) {
            write!(f, "{share} % of the time, ")?;
        }
        match self.workers {
            1 => f.write_str("1 worker")?,
            workers => write!(f, "{workers} workers")?,
        }
        match &self.upto {
            Some(key) => write!(f, ", up to key {key}"),
            None => Ok(()),
        }
    }
}

/// What no edit changes while a backfill runs.
const NEXT: &str = "signals, pages, parts, databases and mappings count from the next start on, and options stand above the file";

/// The text of a file; what is read once only, a pipe say, is not one.
async fn text_of(path: &Path) -> Result<String, String> {
    let read = async {
        match tokio::fs::metadata(path).await?.is_file() {
            true => tokio::fs::read_to_string(path).await.map(Some),
            false => Ok(None),
        }
    };
    match read.await {
        Ok(Some(text)) => Ok(text),
        Ok(None) => std::future::pending().await,
        Err(error) => Err(error.to_string()),
    }
}

impl File {
    /// Takes over what is changed in the file, for as long as it is polled. `read` says what of a file counts,
    /// `taken` hears of changes, and `say` of those and of what cannot be used, which changes nothing.
    pub(super) async fn edits(
        &self,
        mut now: Steered,
        read: impl Fn(&Config) -> Result<Steered, Failure>,
        taken: impl Fn(&Steered),
        say: impl Fn(&str),
    ) -> Infallible {
        let path = self.config.display();
        let (mut last, mut known) = (None, None);
        loop {
            tokio::time::sleep(LOOK).await;
            let text = text_of(&self.config).await;
            let stands = last.as_ref() == Some(&text);
            last = Some(text.clone());
            if !stands || known.as_ref() == Some(&text) {
                continue;
            }
            let first = known.replace(text.clone()).is_none();
            let next = text.and_then(|text| {
                let config = Config::parse(&text, &self.config).map_err(Failure::from);
                let next = config.and_then(|config| read(&config));
                next.map_err(|failure| failure.causes())
            });
            match next {
                Ok(next) if next == now && first => {}
                Ok(next) if next == now => say(&format!(
                    "{path} has changed, and nothing for this backfill: {now} stays ({NEXT})"
                )),
                Ok(next) => {
                    taken(&next);
                    say(&format!("{path} has changed: {next}"));
                    now = next;
                }
                Err(why) => say(&format!("{path} is not taken over, {now} stays: {why}")),
            }
        }
    }
}
