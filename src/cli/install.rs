//! `changeover install`, `changeover uninstall`.

use std::fmt;

use changeover_flags::{Place, Stage};
use clap::Args;
use serde::{Serialize, Serializer};

use super::failure::{Failure, USAGE};
use super::which::Which;
use crate::wiring::Wiring;

/// Install stamps and guards on both sides, and begin to copy
///
/// Checks the mapping against both databases first, and writes nothing unless everything fits. Takes
/// short locks, with retries. What is installed already stays as it is, so it can be run again.
/// Copying needs somebody who copies: an application behind the layer, or `changeover drain --follow`.
#[derive(Debug, Args)]
pub(super) struct Install {
    #[command(flatten)]
    which: Which,
    /// Print what would be run, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Only stamp writes: stay in stage legacy, copy nothing
    #[arg(long)]
    stamps_only: bool,
    /// Copy, also where somebody stopped it, or where the legacy side came back from a
    /// backup: copies put what it holds over newer rows of the new side
    #[arg(long, conflicts_with = "stamps_only")]
    copy: bool,
    /// Make the databases hold this mapping's revision: copies of older ones are refused from now on,
    /// every key is copied again, and reads stay with legacy until a backfill and a verify were clean
    #[arg(long)]
    raise: bool,
}

/// Take triggers, tables and everything recorded out of both sides
///
/// The application's data stay on both sides. What was copied, and which versions that had, is
/// forgotten: a new installation copies everything again. One row per side stays, in the table
/// changeover_past: a new installation begins above it, so that what is left of this one, a process that
/// was stopped say, cannot pass for the new one. Drop it when no process of this one runs any more, and
/// no flags file of it is used again.
#[derive(Debug, Args)]
pub(super) struct Uninstall {
    #[command(flatten)]
    which: Which,
    /// Do it; without, it only says what it would do
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct Installed {
    entity: String,
    stage: String,
    revision: i64,
    /// Copying was asked for and does not begin by itself.
    stopped: bool,
}

impl fmt::Display for Installed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Installed {
            entity,
            stage,
            revision,
            stopped,
        } = self;
        writeln!(
            f,
            "{entity} is installed: mapping revision {revision}, stage {stage}"
        )?;
        if *stopped {
            writeln!(
                f,
                "nothing is copied: somebody stopped it, or the legacy side came back from a \
                 backup; changeover install --copy begins again"
            )?;
        }
        Ok(())
    }
}

#[derive(Debug, Serialize)]
struct Plan {
    entity: String,
    /// What is done beside the statements, in words.
    also: Vec<&'static str>,
    /// In this order.
    #[serde(serialize_with = "by_place")]
    statements: Vec<(Place, Vec<String>)>,
}

/// As an object, whose fields stand in the order of the list.
fn by_place<S: Serializer>(
    statements: &[(Place, Vec<String>)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(statements.iter().map(|(place, sql)| (place, sql)))
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for also in &self.also {
            writeln!(f, "-- {also}")?;
        }
        for (place, statements) in &self.statements {
            writeln!(f, "-- {place}")?;
            for statement in statements {
                writeln!(f, "{};", statement.trim_end().trim_end_matches(';'))?;
            }
        }
        Ok(())
    }
}

#[derive(Debug, Serialize)]
struct Uninstalled {
    entity: String,
    done: bool,
}

impl fmt::Display for Uninstalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entity = &self.entity;
        match self.done {
            true => write!(
                f,
                "{entity} is uninstalled; the application's data stay, and the table changeover_past"
            ),
            false => write!(
                f,
                "{entity}: the triggers on both sides and all that is recorded would go; the application's data stay"
            ),
        }
    }
}

impl Install {
    /// What is done beside the statements.
    fn also(&self) -> Vec<&'static str> {
        let said = [
            (true, "what is installed already stays as it is"),
            (
                self.raise,
                "before: the databases are made to hold this mapping's revision; every key is copied again",
            ),
            (
                self.copy,
                "after: copying begins, also where somebody stopped it",
            ),
            (
                !self.copy && !self.stamps_only,
                "after: copying begins, unless somebody stopped it",
            ),
        ];
        let said = said.into_iter().filter(|(is_done, _)| *is_done);
        said.map(|(_, what)| what).collect()
    }

    pub(super) async fn run(self) -> Result<(), Failure> {
        let opened = self.which.open().await?;
        if self.dry_run {
            return self.which.file.answer(&Plan {
                entity: opened.name,
                also: self.also(),
                statements: opened.migration.plan(),
            });
        }
        if self.raise {
            opened.migration.raise_revision().await?;
        }
        opened.migration.install().await?;
        if self.copy {
            opened.migration.start_copying().await?;
        } else if !self.stamps_only {
            Wiring::first_step(&opened.migration).await?;
        }
        let epoch = opened.migration.epoch().await?;
        self.which.file.answer(&Installed {
            entity: opened.name,
            stage: epoch.stage().to_string(),
            revision: epoch.revision,
            stopped: !self.stamps_only && !epoch.copying,
        })
    }
}

impl Uninstall {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let opened = self.which.open().await?;
        if self.dry_run {
            let copies = opened.migration.epoch().await?.stage() != Stage::Legacy;
            let said = [
                (
                    copies,
                    "before: copying stops, and every instance hears of it",
                ),
                (
                    true,
                    "where both are in one database, its tables of the product go with the second, once nothing else is left in them",
                ),
                (true, "one row per side stays, in the table changeover_past"),
            ];
            let said = said.into_iter().filter(|(is_so, _)| *is_so);
            return self.which.file.answer(&Plan {
                also: said.map(|(_, what)| what).collect(),
                statements: opened.migration.uninstall_plan().await?,
                entity: opened.name,
            });
        }
        if self.yes {
            // Instances must hear that nothing is copied any more before nothing is stamped.
            if opened.migration.epoch().await?.stage() != Stage::Legacy {
                opened.migration.stop_copying().await?;
                tokio::time::sleep(3 * Wiring::WATCH_EVERY).await;
            }
            opened.migration.uninstall().await?;
        }
        self.which.file.answer(&Uninstalled {
            entity: opened.name,
            done: self.yes,
        })?;
        match self.yes {
            true => Ok(()),
            false => Err(Failure::new(USAGE, "nothing was done").with_hint("add --yes to do it")),
        }
    }
}
