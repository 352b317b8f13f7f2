//! `changeover status`.

use std::collections::BTreeSet;
use std::fmt;

use changeover_flags::{Epoch, Version};
use changeover_sync_worker::migration::{Migration, MigrationError};
use changeover_sync_worker::progress::Progress;
use changeover_sync_worker::store::HoldKind;
use clap::Args;
use serde::Serialize;

use super::failure::Failure;
use super::which::Which;
use crate::config::{Config, Work};

/// The most held keys that are shown of an entity.
const HELD: usize = 20;

/// How many dirty keys are looked through for held ones.
const LOOKED_THROUGH: u32 = 10_000;

/// Say where each entity stands: its stage, its backfill, what is dirty or held, and why
///
/// Asks both databases and writes nothing. Percentages and kill switches belong to each instance of the
/// application: its router, or its flags file, shows them.
#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Serialize)]
struct Standing {
    entities: Vec<Entity>,
    /// What holds work back, as it reads now.
    signals: Vec<Signal>,
}

#[derive(Debug, Serialize)]
struct Signal {
    name: String,
    /// Its answer; none if there was none.
    value: Option<f64>,
    most: f64,
    /// Why its works would be held back, in words.
    holds: Option<String>,
    /// What it holds back: `backfill`, `verify`, `drain`.
    works: BTreeSet<Work>,
}

/// These works, as the subject of a sentence.
fn subject(works: &BTreeSet<Work>) -> String {
    let many = |work: &Work| match work {
        Work::Backfill => "backfills",
        Work::Verify => "verifies",
        Work::Drain => "drains",
    };
    let mut many: Vec<&str> = works.iter().map(many).collect();
    let last = many.pop().unwrap_or_default();
    match many.is_empty() {
        true => last.to_owned(),
        false => format!("{} and {last}", many.join(", ")),
    }
}

#[derive(Debug, Serialize)]
struct Entity {
    entity: String,
    /// What the epoch row says; none before the installation.
    installed: Option<Installed>,
}

#[derive(Debug, Serialize)]
struct Installed {
    stage: String,
    mapping_revision: i64,
    incarnation: i64,
    backfilled: bool,
    verified: bool,
    backfill_passed: u64,
    backfill_done: bool,
    /// Whether history is being loaded, beside which nothing is copied.
    backfill_loading: bool,
    /// How many parts it has, and how many of them are done.
    backfill_parts: usize,
    backfill_parts_done: usize,
    keys_estimate: u64,
    dirty: u64,
    waiting: u64,
    blocked: u64,
    held: Vec<Held>,
    /// Tables, each with its side, whose triggers are gone or switched off.
    bare_tables: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Held {
    key: String,
    kind: &'static str,
    reason: String,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Entity { entity, installed } in &self.entities {
            let Some(here) = installed else {
                writeln!(f, "{entity}: not installed")?;
                continue;
            };
            let yes = |is: bool| if is { "yes" } else { "no" };
            writeln!(f, "{entity}: stage {}", here.stage)?;
            writeln!(
                f,
                "  mapping revision   {}, incarnation {}",
                here.mapping_revision, here.incarnation
            )?;
            let percent = 100.0 * here.backfill_passed as f64
                / here.keys_estimate.max(here.backfill_passed).max(1) as f64;
            match here.backfill_done {
                true => writeln!(
                    f,
                    "  backfill           done, {} keys",
                    here.backfill_passed
                )?,
                false => writeln!(
                    f,
                    "  backfill           {percent:.0} %, {} of about {} keys{}{}",
                    here.backfill_passed,
                    here.keys_estimate,
                    match here.backfill_parts {
                        0 | 1 => String::new(),
                        parts => format!(", {} of {parts} parts done", here.backfill_parts_done),
                    },
                    match here.backfill_loading {
                        true => "; it loads: copies wait until `changeover backfill` is done",
                        false => "",
                    }
                )?,
            }
            writeln!(
                f,
                "  on record          backfilled {}, verified {}",
                yes(here.backfilled),
                yes(here.verified)
            )?;
            writeln!(
                f,
                "  dirty              {}, of them {} waiting, {} blocked",
                here.dirty, here.waiting, here.blocked
            )?;
            if !here.bare_tables.is_empty() {
                let tables = here.bare_tables.join(", ");
                writeln!(
                    f,
                    "  TRIGGERS ARE GONE or switched off on {tables}: writes there leave no stamp; \
                     changeover install puts them back"
                )?;
            }
            for held in &here.held {
                writeln!(f, "    {} {}: {}", held.kind, held.key, held.reason)?;
            }
        }
        for signal in &self.signals {
            let Signal { name, most, .. } = signal;
            match (&signal.holds, signal.value) {
                (Some(why), _) => {
                    writeln!(f, "signal {name} {why}: {} wait", subject(&signal.works))?;
                }
                (None, Some(value)) => writeln!(f, "signal {name} is {value}, of {most} at most")?,
                (None, None) => {}
            }
        }
        Ok(())
    }
}

impl Status {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let config = self.which.file.read()?;
        let asked = match &self.which.entity {
            Some(_) => vec![config.which(self.which.entity.as_deref())?],
            None => config
                .entity
                .iter()
                .map(|(name, moved)| (name.as_str(), moved))
                .collect(),
        };
        let mut entities = Vec::new();
        for (name, moved) in asked {
            let migration = config.open(name, moved).await?;
            let installed = match migration.epoch().await {
                Ok(epoch) => Some(standing(&migration, &epoch).await?),
                Err(MigrationError::NotInstalled { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            entities.push(Entity {
                entity: name.to_owned(),
                installed,
            });
        }
        let signals = signals(&config).await?;
        self.which.file.answer(&Standing { entities, signals })
    }
}

async fn signals(config: &Config) -> Result<Vec<Signal>, Failure> {
    let signals = config.signals()?;
    signals.read_once().await;
    // They are in the order of the file.
    let told = signals.states().into_iter().zip(&config.pace.signal);
    let told = told.map(|(state, watching)| Signal {
        name: state.name.to_string(),
        value: state.value,
        most: state.limit.most,
        holds: state.holds.map(|why| why.to_string()),
        works: watching.holds.clone(),
    });
    Ok(told.collect())
}

async fn standing(migration: &Migration, epoch: &Epoch) -> Result<Installed, Failure> {
    let copier = migration.copier();
    let progress = Progress::read(&**copier.authority(), &**copier.follower()).await?;
    let mut held = Vec::new();
    if progress.lag.waiting + progress.lag.blocked > 0 {
        let dirty = copier.authority().dirty(None, LOOKED_THROUGH).await?;
        held = dirty
            .into_iter()
            .filter_map(|one| {
                let hold = one.hold?;
                Some(Held {
                    key: one.key.to_string(),
                    kind: match hold.kind {
                        HoldKind::Waiting => "waiting",
                        HoldKind::Blocked => "blocked",
                    },
                    reason: hold.reason,
                })
            })
            .take(HELD)
            .collect();
    }
    Ok(Installed {
        stage: epoch.stage().to_string(),
        mapping_revision: epoch.revision,
        incarnation: epoch.base.0 >> Version::COUNTER_BITS,
        backfilled: epoch.backfilled,
        verified: epoch.verified,
        backfill_passed: progress.cursor.passed,
        backfill_done: progress.cursor.done,
        backfill_loading: progress.cursor.loading && !progress.cursor.done,
        backfill_parts: progress.parts,
        backfill_parts_done: progress.parts_done,
        keys_estimate: progress.estimate,
        dirty: progress.lag.dirty,
        waiting: progress.lag.waiting,
        blocked: progress.lag.blocked,
        held,
        bare_tables: migration.bare_tables().await?,
    })
}
