//! `changeover.toml`: the migrations that the command line works on.
//!
//! The commented reference is `docs/changeover.toml`; the smallest file is
//!
//! ```toml
//! legacy.url = "postgres://app@localhost/shop"
//! new.url_from = "NEW_DATABASE_URL"        # an environment variable: no password in a file
//!
//! [entity.listings]
//! mapping = "listings.toml"                # beside this file
//! ```
//!
//! A name that is not known is an error, so a misspelt limit is not a default.
//!
//! ```
//! use changeover::config::Config;
//! let text = "legacy.url = 'sqlite:a.db'\nnew.url = 'sqlite:b.db'\n[entity.listings]\nmaping = 'x'";
//! let refused = Config::parse(text, "changeover.toml".as_ref()).unwrap_err();
//! assert!(refused.to_string().contains("changeover.toml"));
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use changeover_flags::{BadEntity, Entity};
use changeover_sync_worker::backfill::BackfillOptions;
use changeover_sync_worker::check::{CheckOptions, OwnCheck};
use changeover_sync_worker::dialect::install::Patience;
use changeover_sync_worker::dialect::session::Database;
use changeover_sync_worker::mapping::toml::{BadMapping, TomlMapping};
use changeover_sync_worker::migration::Migration;
use changeover_sync_worker::preflight::PreflightError;
use changeover_sync_worker::store::StoreError;
use serde::Deserialize;
use thiserror::Error;

use crate::causes::Causes;

mod checks;
mod pace;
mod work;

pub use checks::{Checking, Own};
pub use pace::{Pace, Watching, Work};
pub use work::{Backfilling, Draining, Verifying};

/// A whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the legacy tables are.
    pub legacy: Side,
    /// Where the new tables are; the same as `legacy` if they stand in one database.
    pub new: Side,
    /// How fast history is copied.
    #[serde(default)]
    pub pace: Pace,
    /// What is moved, by name.
    pub entity: BTreeMap<String, Moved>,
    /// The file itself, for messages and for what lies beside it.
    #[serde(skip)]
    path: PathBuf,
}

/// A database: exactly one of the two is set.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Side {
    /// `postgres://…`, `mysql://…` (MariaDB) or `sqlite:path`, the path from the working
    /// directory.
    pub url: Option<String>,
    /// The environment variable that holds the URL.
    pub url_from: Option<String>,
}

/// One entity that is moved.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moved {
    /// The file of its mapping, from the folder of this file.
    pub mapping: PathBuf,
    /// How history is copied.
    #[serde(default)]
    pub backfill: Backfilling,
    /// How dirty keys are copied.
    #[serde(default)]
    pub drain: Draining,
    /// How both sides are compared.
    #[serde(default)]
    pub verify: Verifying,
    /// How consistency checks are run.
    #[serde(default)]
    pub checks: Checking,
    /// Consistency checks of one's own.
    #[serde(default)]
    pub check: Vec<Own>,
    /// How an installation waits for locks.
    #[serde(default)]
    pub locks: Locking,
}

/// `[entity.NAME.locks]`. What is not set is [`Patience`]'s default.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Locking {
    /// For how long one try may hold up writers, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// How many tries.
    pub tries: Option<u32>,
}

/// Why a configuration cannot be used. Nothing was written anywhere.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BadConfig {
    /// The file, or a mapping's file, cannot be read.
    #[error("reading {}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file says what is not known, or not what is needed.
    #[error("{} cannot be understood", .path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// Where, and why.
        source: toml::de::Error,
    },
    /// A side without a URL.
    #[error(
        "{side}: {problem}; write {side}.url, or {side}.url_from with the name of an environment variable"
    )]
    Url {
        /// `legacy`, `new`, or `at`, a signal's own.
        side: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A number that cannot be.
    #[error("entity.{entity}.{field} is 0: it is at least 1; leave it out for its default")]
    Zero {
        /// The entity.
        entity: String,
        /// The field.
        field: &'static str,
    },
    /// A number that is too large.
    #[error("entity.{entity}.{field} is {most} at most")]
    TooMany {
        /// The entity.
        entity: String,
        /// The field.
        field: &'static str,
        /// The most.
        most: u32,
    },
    /// A share of the time that cannot be.
    #[error("entity.{entity}.{work}.duty_percent is from 1 to 100")]
    Duty {
        /// The entity.
        entity: String,
        /// What is to take so much of the time.
        work: &'static str,
    },
    /// What stands in `[pace]`.
    #[error("pace.{field}: {problem}")]
    Pace {
        /// The field, or the signal.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The file names no such entity, or several and none was asked for.
    #[error("{asked}: the file names {}", list(.known))]
    Which {
        /// What is wrong with what was asked for.
        asked: String,
        /// The entities of the file.
        known: Vec<String>,
    },
    /// An entity's name.
    #[error("naming the entity")]
    Entity(#[from] BadEntity),
    /// A mapping.
    #[error("reading the mapping {}", .path.display())]
    Mapping {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        source: BadMapping,
    },
}

fn list(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}

/// Why a migration could not be opened.
#[derive(Error)]
#[non_exhaustive]
pub enum CannotOpen {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] BadConfig),
    /// A URL that names no engine, or cannot be read.
    #[error("opening the databases")]
    Database(#[from] StoreError),
    /// The mapping does not fit the databases, or one did not answer. Nothing was written.
    #[error("checking the mapping against the databases")]
    Preflight(#[from] PreflightError),
}

/// Every cause, with what to do: this is what is printed of an error that leaves `main`.
impl fmt::Debug for CannotOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Causes(self), f)
    }
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// [`BadConfig`], naming the file and the place in it.
    pub fn read(path: &Path) -> Result<Config, BadConfig> {
        let text = std::fs::read_to_string(path).map_err(|source| BadConfig::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Config::parse(&text, path)
    }

    /// Reads `text` as the file at `path`.
    ///
    /// # Errors
    ///
    /// As [`read`](Config::read).
    pub fn parse(text: &str, path: &Path) -> Result<Config, BadConfig> {
        let mut config: Config = toml::from_str(text).map_err(|source| BadConfig::Text {
            path: path.to_owned(),
            source,
        })?;
        config.path = path.to_owned();
        config.pace.check()?;
        for (name, moved) in &config.entity {
            Entity::new(name)?;
            moved.check(name)?;
        }
        Ok(config)
    }

    /// The entity that is asked for; without a name, the only one.
    ///
    /// # Errors
    ///
    /// [`BadConfig::Which`].
    pub fn which(&self, asked: Option<&str>) -> Result<(&str, &Moved), BadConfig> {
        let which = |asked: String| BadConfig::Which {
            asked,
            known: self.entity.keys().cloned().collect(),
        };
        match asked {
            Some(name) => match self.entity.get_key_value(name) {
                Some((name, moved)) => Ok((name, moved)),
                None => Err(which(format!("there is no entity {name:?}"))),
            },
            None => {
                let mut all = self.entity.iter();
                match (all.next(), all.next()) {
                    (Some((name, moved)), None) => Ok((name, moved)),
                    (None, _) => Err(which("there is no [entity.NAME]".into())),
                    (Some(_), Some(_)) => Err(which("say which entity is meant".into())),
                }
            }
        }
    }

    /// Opens the migration of an entity of this file: its mapping is checked against both
    /// databases, and nothing is written.
    ///
    /// # Errors
    ///
    /// [`CannotOpen`], with every problem that the databases show.
    pub async fn open(&self, name: &str, moved: &Moved) -> Result<Migration, CannotOpen> {
        let entity = Entity::new(name).map_err(BadConfig::from)?;
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let path = folder.join(&moved.mapping);
        let text = std::fs::read_to_string(&path).map_err(|source| BadConfig::Unreadable {
            path: path.clone(),
            source,
        })?;
        let mapping: TomlMapping = text
            .parse()
            .map_err(|source| BadConfig::Mapping { path, source })?;
        let legacy = Database::open(&self.legacy.url("legacy")?)?;
        let new = Database::open(&self.new.url("new")?)?;
        let migration = Migration::open(entity, std::sync::Arc::new(mapping), legacy, new).await?;
        Ok(migration.with_patience(moved.locks.patience()))
    }
}

impl Side {
    fn url(&self, side: &'static str) -> Result<String, BadConfig> {
        let bad = |problem: String| BadConfig::Url { side, problem };
        match (&self.url, &self.url_from) {
            (Some(url), None) => Ok(url.clone()),
            (None, Some(variable)) => std::env::var(variable)
                .map_err(|error| bad(format!("environment variable {variable}: {error}"))),
            (None, None) => Err(bad("there is no URL".into())),
            (Some(_), Some(_)) => Err(bad("there are two URLs".into())),
        }
    }
}

impl Moved {
    /// The checks of one's own, and how all of them are run.
    #[must_use]
    pub fn checks(&self) -> (Vec<OwnCheck>, CheckOptions) {
        let own = self.check.iter().map(Own::check).collect();
        (own, self.checks.options(&self.verify.rules))
    }

    fn check(&self, entity: &str) -> Result<(), BadConfig> {
        let numbers = [
            ("backfill.page", self.backfill.page),
            ("backfill.load_page", self.backfill.load_page),
            ("backfill.rows_per_second", self.backfill.rows_per_second),
            ("backfill.parts", self.backfill.parts),
            ("backfill.workers", self.backfill.workers),
            ("backfill.attempts", Some(self.backfill.attempts)),
            ("drain.batch", self.drain.batch),
            ("drain.concurrency", self.drain.concurrency),
            ("verify.page", self.verify.page),
            ("verify.looks", self.verify.looks),
            ("drain.rows_per_second", self.drain.rows_per_second),
            ("verify.rows_per_second", self.verify.rows_per_second),
            ("locks.tries", self.locks.tries),
        ];
        if let Some((field, _)) = numbers.iter().find(|(_, number)| *number == Some(0)) {
            return Err(BadConfig::Zero {
                entity: entity.to_owned(),
                field,
            });
        }
        let most = [
            (
                "backfill.parts",
                self.backfill.parts,
                BackfillOptions::MOST_PARTS,
            ),
            (
                "backfill.workers",
                self.backfill.workers,
                BackfillOptions::MOST_WORKERS,
            ),
        ];
        if let Some((field, _, most)) = most
            .into_iter()
            .find(|(_, number, most)| *number > Some(*most))
        {
            return Err(BadConfig::TooMany {
                entity: entity.to_owned(),
                field,
                most,
            });
        }
        let duties = [
            ("drain", self.drain.duty_percent),
            ("verify", self.verify.duty_percent),
        ];
        match duties.iter().find(|(_, percent)| !pace::is_duty(*percent)) {
            Some((work, _)) => Err(BadConfig::Duty {
                entity: entity.to_owned(),
                work,
            }),
            None => Ok(()),
        }
    }
}

impl Locking {
    fn patience(&self) -> Patience {
        let default = Patience::default();
        Patience {
            lock_timeout: self
                .timeout_ms
                .map_or(default.lock_timeout, Duration::from_millis),
            tries: self.tries.unwrap_or(default.tries),
            ..default
        }
    }
}

#[cfg(test)]
mod tests {
    use changeover_flags::Place;

    use changeover_shadow::Rules;
    use changeover_sync_worker::backfill::BackfillOptions;
    use changeover_sync_worker::drain::DrainOptions;
    use changeover_sync_worker::pace::RowsPerSecond;
    use changeover_sync_worker::verify::VerifyOptions;

    use super::*;

    const REFERENCE: &str = include_str!("../docs/changeover.toml");

    fn read(text: &str) -> Result<Config, BadConfig> {
        Config::parse(text, Path::new("changeover.toml"))
    }

    #[test]
    fn the_reference_is_what_it_says() {
        let config = read(REFERENCE).expect("the reference is a configuration");
        let (name, moved) = config.which(None).expect("it moves one entity");
        assert_eq!(name, "listings");
        // Every line that is commented out shows a default: with all of them in, nothing changes.
        let with = |mark: &str| {
            assert!(REFERENCE.contains(mark));
            let lines = REFERENCE.lines();
            let lines = lines.map(|line| line.strip_prefix(mark).unwrap_or(line).to_owned() + "\n");
            read(&lines.collect::<String>()).expect("its comments are settings")
        };
        let whole = with("#= ");
        let (_, shown) = whole.which(Some("listings")).expect("the same entity");
        let seedless = |mut options: BackfillOptions| {
            options.seed = 0;
            options
        };
        assert_eq!(
            seedless(shown.backfill.options(&whole.pace)),
            seedless(moved.backfill.options(&config.pace))
        );
        let seedless = |mut options: DrainOptions| {
            options.seed = 0;
            options
        };
        assert_eq!(
            seedless(shown.drain.options()),
            seedless(moved.drain.options())
        );
        let told = |options: VerifyOptions| {
            let rules = options.rules.to_toml();
            let keys = (options.page, options.range);
            (keys, options.samples, options.looks, rules)
        };
        assert_eq!(told(shown.verify.options()), told(moved.verify.options()));
        let told = |moved: &Moved| {
            let (own, options) = moved.checks();
            let (often, most) = (options.every, options.timeout);
            (own, options.concurrency, most, options.samples, often)
        };
        assert_eq!(told(shown), told(moved));
        let told = |patience: Patience| (patience.lock_timeout, patience.tries);
        assert_eq!(told(shown.locks.patience()), told(moved.locks.patience()));
        let examples = with("#+ ");
        let (_, shown) = examples.which(None).expect("the same entity");
        let rules: Rules =
            "ignore = ['**.updated_at']\ntolerate = { '**.price' = { absolute = 0.005 } }\n\
             allow = { '**.state' = [['ACTIVE', 'live']] }"
                .parse()
                .expect("rules");
        assert_eq!(shown.verify.options().rules.to_toml(), rules.to_toml());
        let (own, options) = shown.checks();
        assert_eq!(options.rules.to_toml(), rules.to_toml());
        let [own] = own.as_slice() else {
            unreachable!("{own:?}");
        };
        assert_eq!((own.place, own.every), (Place::New, OwnCheck::EVERY));
        let shown = shown.backfill.options(&examples.pace).pacing;
        assert!(shown.rows_per_second.is_some() && shown.bytes_per_second.is_some());
        assert_eq!(examples.pace.signal.len(), 4);
        assert!(examples.pace.signal.iter().any(|one| one.at.is_some()));
        assert_eq!(
            examples.pace.pacing().rows_per_second,
            RowsPerSecond::new(5_000)
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place_and_remedy() {
        let with = |more: &str| {
            let text =
                format!("legacy.url = 'a'\nnew.url = 'b'\n[entity.a]\nmapping = 'm'\n{more}");
            read(&text).expect_err(more).to_string()
        };
        for page in ["page", "load_page"] {
            let zero = with(&format!("backfill.{page} = 0"));
            assert!(
                zero.contains(&format!("entity.a.backfill.{page} is 0")),
                "{zero}"
            );
        }
        let workers = with("backfill.workers = 65");
        assert!(
            workers.ends_with("backfill.workers is 64 at most"),
            "{workers}"
        );
        assert!(with("backfill.pages = 1").contains("changeover.toml"));
        let text = "legacy.url = 'a'\nnew.url = 'b'\n[entity.a]\nmapping = 'm'\nverify.rules.tolerate = { x = {} }";
        let bad = read(text).expect_err("a tolerance of nothing");
        let bad = crate::causes::Causes(&bad).to_string();
        assert!(bad.contains("says nothing"), "{bad}");
        assert!(with("[entity.'A b']\nmapping = 'm'").contains("naming the entity"));
        let config =
            read("legacy.url_from = 'NOBODY_SET_THIS'\nnew = {}\n[entity]").expect("a file");
        let missing = config
            .legacy
            .url("legacy")
            .expect_err("not set")
            .to_string();
        assert!(missing.contains("NOBODY_SET_THIS") && missing.contains("legacy.url_from"));
        assert!(config.new.url("new").is_err());
        assert!(config.which(None).is_err() && config.which(Some("b")).is_err());
    }
}
