//! What a verb works on, and how it answers.

use std::fmt::Display;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Once;

use changeover_flags::{Epoch, Key, Stage};
use changeover_sync_worker::backfill::BackfillOptions;
use changeover_sync_worker::migration::Migration;
use clap::Args;
use serde::Serialize;

use super::failure::{DEFECT, ENVIRONMENT, Failure, HOLDS_NOT, INTERRUPTED, USAGE};
use crate::config::{Config, Moved};

/// Which entity of which file.
#[derive(Debug, Clone, Args)]
pub(super) struct Which {
    /// The entity, where the file names several
    pub(super) entity: Option<String>,
    #[command(flatten)]
    pub(super) file: File,
}

/// Which file.
#[derive(Debug, Clone, Args)]
pub(super) struct File {
    /// What is moved, and between which databases
    #[arg(long, short, value_name = "FILE", default_value = "changeover.toml")]
    pub(super) config: PathBuf,
    /// Print the answer as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// An entity that was opened: its mapping fits the databases.
pub(super) struct Opened {
    pub(super) name: String,
    pub(super) moved: Moved,
    pub(super) config: Config,
    pub(super) migration: Migration,
}

impl Which {
    pub(super) async fn open(&self) -> Result<Opened, Failure> {
        let config = self.file.read()?;
        let (name, moved) = config.which(self.entity.as_deref())?;
        let (name, moved) = (name.to_owned(), moved.clone());
        let migration = config.open(&name, &moved).await?;
        Ok(Opened {
            name,
            moved,
            config,
            migration,
        })
    }
}

impl Opened {
    /// How history is copied.
    pub(super) fn options(&self) -> BackfillOptions {
        self.moved.backfill.options(&self.config.pace)
    }

    /// A key that somebody wrote, in the database's spelling, if it can be one.
    pub(super) fn key(&self, place: &str, key: Key) -> Result<Key, Failure> {
        let authority = self.migration.copier().authority();
        match authority.names(&key) {
            true => Ok(authority.canonical(&key)),
            false => {
                let error = format!("{place}: {:?} is no key of these tables", key.as_str());
                Err(Failure::new(USAGE, error)
                    .with_hint("write it as changeover status and verify write keys: 42, or a,42"))
            }
        }
    }

    /// The epoch row of an entity that is being copied.
    pub(super) async fn copying(&self) -> Result<Epoch, Failure> {
        let epoch = self.migration.epoch().await?;
        if epoch.stage() == Stage::Legacy {
            let error = "copying has not begun: the stage is legacy";
            let hint = "changeover install begins to copy; where somebody stopped it, changeover install --copy does";
            return Err(Failure::new(HOLDS_NOT, error).with_hint(hint));
        }
        Ok(epoch)
    }
}

impl File {
    pub(super) fn read(&self) -> Result<Config, Failure> {
        Ok(Config::read(&self.config)?)
    }

    /// Prints what a verb has to say, to stdout.
    pub(super) fn answer(&self, answer: &(impl Serialize + Display)) -> Result<(), Failure> {
        print(answer, self.json)
    }
}

/// Prints an answer to stdout, as a person or as a program reads it.
pub(super) fn print(answer: &(impl Serialize + Display), json: bool) -> Result<(), Failure> {
    let text = match json {
        true => {
            serde_json::to_string_pretty(answer).map_err(|error| Failure::new(DEFECT, error))?
        }
        false => answer.to_string(),
    };
    let written = writeln!(std::io::stdout().lock(), "{}", text.trim_end());
    written.map_err(|error| Failure::new(ENVIRONMENT, error))
}

/// Prints one of many answers on a line of its own, for a program.
pub(super) fn print_line(answer: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(answer).map_err(|error| Failure::new(DEFECT, error))?;
    let written = writeln!(std::io::stdout().lock(), "{text}");
    written.map_err(|error| Failure::new(ENVIRONMENT, error))
}

/// Until somebody presses Ctrl-C, or ends the process as service managers do. A second time ends it at once,
/// whatever it waits for: it loses nothing by that.
pub(super) async fn interrupted() {
    static LISTENED: Once = Once::new();
    // Before the other listens: what comes between the two counts as the first.
    let own = Interrupts::new();
    LISTENED.call_once(|| {
        if let Ok(mut interrupts) = Interrupts::new() {
            tokio::spawn(async move {
                interrupts.next().await;
                interrupts.next().await;
                std::process::exit(INTERRUPTED.into());
            });
        }
    });
    match own {
        Ok(mut interrupts) => interrupts.next().await,
        // Where it cannot be listened to, nobody is interrupted, as nobody is without it.
        Err(_) => std::future::pending().await,
    }
}

#[cfg(unix)]
struct Interrupts {
    pressed: tokio::signal::unix::Signal,
    ended: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Interrupts {
    fn new() -> std::io::Result<Interrupts> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Interrupts {
            pressed: signal(SignalKind::interrupt())?,
            ended: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.pressed.recv() => {}
            _ = self.ended.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Interrupts;

#[cfg(not(unix))]
impl Interrupts {
    fn new() -> std::io::Result<Interrupts> {
        Ok(Interrupts)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}

/// Does `work` until it ends or is [interrupted]; `after` says where that leaves it.
pub(super) async fn unless_interrupted<T>(
    after: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        ended = work => ended,
        () = interrupted() => {
            Err(Failure::new(INTERRUPTED, "interrupted").with_hint(after))
        }
    }
}
