//! `changeover repair`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use changeover_flags::Key;
use changeover_sync_worker::verify::Class;
use clap::Args;
use serde::{Deserialize, Serialize};

use super::failure::{ENVIRONMENT, Failure, HOLDS_NOT, USAGE};
use super::which::{File, Which, unless_interrupted};

/// Copy keys again although nothing says that they are dirty
///
/// Raises their versions and copies them; there is no other way in which data are written. Keys whose new
/// side is ahead of the legacy side are left alone: there, commits of the legacy side were lost, and
/// a person has to say which side is right.
#[derive(Debug, Args)]
pub(super) struct Repair {
    /// The keys, as reports show them
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
    /// The keys of the samples in a report of `changeover verify --json`; - for standard input
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The entity, where the file names several
    #[arg(long)]
    entity: Option<String>,
    #[command(flatten)]
    file: File,
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// What a repair is for: other classes are copied by the drain, or by a person.
const REPAIRED: [Class; 4] = [
    Class::Divergent,
    Class::Missing,
    Class::Extra,
    Class::Unrecorded,
];

/// As much of a verify's report as is needed.
#[derive(Debug, Deserialize)]
struct Report {
    entity: String,
    classes: BTreeMap<String, u64>,
    samples: Vec<Sample>,
}

/// What a report of a verify says.
#[derive(Debug, Default)]
struct Reported {
    entity: Option<String>,
    keys: BTreeSet<String>,
    /// Keys that the report counts where they differ, and does not name.
    unnamed: u64,
}

#[derive(Debug, Deserialize)]
struct Sample {
    class: String,
    key: String,
}

#[derive(Debug, Serialize)]
struct Repaired {
    entity: String,
    dry_run: bool,
    /// Keys that were touched, or would be.
    touched: Vec<String>,
    /// Keys whose new side is ahead.
    ahead: Vec<String>,
    /// Keys that the new side now holds.
    copied: usize,
    /// Keys that stay dirty, and why.
    left: Vec<Left>,
}

#[derive(Debug, Serialize)]
struct Left {
    key: String,
    reason: String,
}

impl fmt::Display for Repaired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (entity, touched) = (&self.entity, self.touched.len());
        match self.dry_run {
            true => writeln!(f, "{entity}: {touched} keys would be copied again")?,
            false => writeln!(
                f,
                "{entity}: {touched} keys touched, {} copied",
                self.copied
            )?,
        }
        for Left { key, reason } in &self.left {
            writeln!(f, "  {key} stays dirty: {reason}")?;
        }
        for key in &self.ahead {
            writeln!(
                f,
                "  {key} is left alone: the new side is ahead of the legacy side"
            )?;
        }
        Ok(())
    }
}

impl Repair {
    pub(super) async fn run(self) -> Result<(), Failure> {
        if self.keys.is_empty() && self.report.is_none() {
            return Err(Failure::new(USAGE, "no key was named")
                .with_hint("name keys as reports show them, or --report FILE of a verify"));
        }
        let Reported {
            entity,
            mut keys,
            unnamed,
        } = self.reported()?;
        keys.extend(self.keys.iter().cloned());
        let which = Which {
            entity: self.entity.clone().or(entity),
            file: self.file.clone(),
        };
        let opened = which.open().await?;
        if !self.dry_run {
            opened.copying().await?;
        }
        let keys = keys.into_iter().map(Key::from);
        let keys: Vec<Key> = keys
            .map(|key| opened.key("KEY", key))
            .collect::<Result<_, _>>()?;
        let after = match self.dry_run {
            true => "nothing was changed",
            false => "what was repaired stays so: run it again for the rest",
        };
        let report = unless_interrupted(after, async {
            Ok(opened.migration.repair(self.dry_run).run(&keys).await?)
        })
        .await?;
        let texts = |keys: &[Key]| keys.iter().map(Key::to_string).collect();
        let repaired = Repaired {
            entity: opened.name,
            dry_run: report.dry_run,
            touched: texts(&report.touched),
            ahead: texts(&report.ahead),
            copied: report.copied.applied + report.copied.stale,
            left: report
                .copied
                .left
                .iter()
                .map(|(key, reason)| Left {
                    key: key.to_string(),
                    reason: reason.clone(),
                })
                .collect(),
        };
        self.file.answer(&repaired)?;
        let remain = repaired.left.len() + repaired.ahead.len();
        match remain {
            0 if unnamed == 0 => Ok(()),
            0 => Err(Failure::new(
                HOLDS_NOT,
                format!(
                    "the report counts {unnamed} more keys than it names: they are as they were"
                ),
            )
            .with_hint("changeover verify --json --samples with a higher number names them")),
            remain => Err(Failure::new(
                HOLDS_NOT,
                format!("{remain} keys are not repaired"),
            )),
        }
    }

    /// What the report says.
    fn reported(&self) -> Result<Reported, Failure> {
        let Some(path) = &self.report else {
            return Ok(Reported::default());
        };
        let text = match path.to_str() {
            Some("-") => std::io::read_to_string(std::io::stdin()),
            _ => std::fs::read_to_string(path),
        };
        let text = text.map_err(|error| {
            Failure::new(ENVIRONMENT, error).with_hint(format!("reading {}", path.display()))
        })?;
        let report: Report = serde_json::from_str(&text).map_err(|error| {
            Failure::new(USAGE, error).with_hint(format!(
                "{} is no report of changeover verify --json",
                path.display()
            ))
        })?;
        let counted = |class: &Class| report.classes.get(class.as_str()).copied().unwrap_or(0);
        let named = |class: &Class| {
            let of_it = |sample: &&Sample| sample.class == class.as_str();
            report.samples.iter().filter(of_it).count() as u64
        };
        let unnamed = REPAIRED
            .iter()
            .map(|class| counted(class).saturating_sub(named(class)));
        let unnamed = unnamed.sum();
        let keys = report.samples.into_iter().map(|sample| sample.key);
        Ok(Reported {
            unnamed,
            entity: Some(report.entity),
            keys: keys.collect(),
        })
    }
}
