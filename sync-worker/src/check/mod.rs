//! Consistency checks: questions that are expected to find no rows.
//!
//! A verify compares the two sides; a check asks one thing that must hold, and most of them ask one
//! side alone. They find what nobody copied wrongly and is wrong all the same: a row that somebody
//! took away, a sequence that will collide.
//!
//! | name | finds |
//! | --- | --- |
//! | `rows` | keys with more or fewer rows in the new tables than the mapping makes of the legacy rows, in both directions; values are not compared |
//! | `orphan:TABLE.COLUMN` | rows whose reference names no row: foreign keys of the new tables and to them, and references of the mapping that no foreign key keeps |
//! | `sequence:TABLE.COLUMN` | a generated id of a new table whose next value is taken |
//! | a name of one's own ([`OwnCheck`]) | the rows that its SQL answers |
//!
//! # Rules
//!
//! 1. A check writes nothing: it runs in a transaction that only reads, on a connection of its own,
//!    and no statement of it runs for longer than [`CheckOptions::timeout`].
//! 2. Checks run beside each other. One that fails, hangs or panics says so in its own
//!    [`Outcome`]: the others run all the same.
//! 3. `rows` takes no lag for a difference: a key whose counts differ is judged as a
//!    [`verify`](crate::verify) would judge it, and one that is dirty, held or pending is not found.
//! 4. What is shown of a row is what names it: the key of a built-in check's row, the first column
//!    of what one's own SQL answers.
//! 5. No check opens or shuts a gate: a person decides what a finding means.

mod list;
mod rows;
mod schedule;

pub use schedule::First;

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use changeover_flags::{Entity, Place};
use changeover_shadow::Rules;
use futures_util::FutureExt;
use futures_util::future::join_all;
use metrics::{Counter, Gauge, counter, gauge};
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::dialect::catalog::{Column, Table};
use crate::dialect::check::{ask, sequence};
use crate::dialect::session::{Database, DbError};
use crate::migration::Migration;

use rows::Rows;

/// How checks are run.
#[derive(Debug, Clone)]
pub struct CheckOptions {
    /// Checks at a time, at least 1; each has a connection of its own (`rows` one to each side).
    pub concurrency: usize,
    /// The longest that one statement of a check may run.
    pub timeout: Duration,
    /// The most rows that are shown of a check.
    pub samples: usize,
    /// How often the built-in checks run on a schedule.
    pub every: Duration,
    /// What counts as equal where `rows` judges a key: those of the verify.
    pub rules: Rules,
}

impl Default for CheckOptions {
    /// 4 at a time, a minute for each statement, 10 samples, hourly, no rules.
    fn default() -> CheckOptions {
        CheckOptions {
            concurrency: 4,
            timeout: Duration::from_secs(60),
            samples: 10,
            every: OwnCheck::EVERY,
            rules: Rules::default(),
        }
    }
}

/// A check of one's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnCheck {
    /// Its name in reports and metrics.
    pub name: String,
    /// Whom it asks.
    pub place: Place,
    /// One query, expected to answer no rows. Its first column is to name the row; it is shown.
    pub sql: String,
    /// How often it runs on a schedule.
    pub every: Duration,
}

impl OwnCheck {
    /// How often it runs unless told otherwise: hourly.
    pub const EVERY: Duration = Duration::from_secs(3600);
}

/// All checks of one entity, the built-in ones and its own.
#[derive(Debug)]
pub struct Checks {
    entity: Entity,
    list: Vec<Check>,
    options: CheckOptions,
    legacy: Database,
    new: Database,
    rows: Rows,
    permits: Semaphore,
}

/// One check.
struct Check {
    name: String,
    place: Place,
    every: Duration,
    question: Question,
    found: Gauge,
    failed: Counter,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Check {
    fn new(
        entity: &Entity,
        name: String,
        place: Place,
        every: Duration,
        question: Question,
    ) -> Check {
        let labels = [("entity", entity.to_string()), ("check", name.clone())];
        let found = gauge!("changeover_check_rows", &labels);
        found.set(0.0);
        let failed = counter!("changeover_check_failures_total", &labels);
        failed.absolute(0);
        Check {
            name,
            place,
            every,
            question,
            found,
            failed,
        }
    }
}

/// What a check asks.
#[derive(Debug)]
enum Question {
    Rows,
    Sql(String),
    Sequence(Box<(Table, Column)>),
}

/// How one check ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checked {
    /// The check.
    pub check: String,
    /// Whom it asked; `rows` asks both sides, and says `new`.
    pub place: Place,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How long it took.
    pub seconds: f64,
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It found nothing.
    Clean,
    /// It found rows.
    Found {
        /// How many, up to [`Checks::MAX_ROWS`].
        rows: u64,
        /// Whether there are more.
        more: bool,
        /// What names some of them.
        samples: Vec<String>,
    },
    /// It has nothing to look at yet.
    NotYet {
        /// Why.
        reason: String,
    },
    /// It could not be ended: it proves nothing.
    Failed {
        /// Why, without values of rows.
        reason: String,
    },
}

impl Checked {
    fn log(&self, entity: &Entity) {
        let check = &self.check;
        match &self.outcome {
            Outcome::Clean => tracing::debug!(%entity, check, "the check found nothing"),
            Outcome::NotYet { reason } => {
                tracing::debug!(%entity, check, reason, "not checked yet")
            }
            Outcome::Found { rows, .. } => {
                tracing::warn!(%entity, check, rows, "the check found rows")
            }
            Outcome::Failed { reason } => {
                tracing::warn!(%entity, check, reason, "the check could not be ended")
            }
        }
    }
}

/// How a run of checks ended: one entry for each.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
pub struct CheckReport {
    /// In the order of [`Checks::names`].
    pub checks: Vec<Checked>,
}

impl CheckReport {
    /// How many checks found rows.
    #[must_use]
    pub fn found(&self) -> usize {
        let found = |one: &&Checked| matches!(one.outcome, Outcome::Found { .. });
        self.checks.iter().filter(found).count()
    }

    /// How many checks could not be ended.
    #[must_use]
    pub fn failed(&self) -> usize {
        let failed = |one: &&Checked| matches!(one.outcome, Outcome::Failed { .. });
        self.checks.iter().filter(failed).count()
    }
}

impl Migration {
    /// The checks of this entity: the built-in ones, and `own`. A name that is taken gets a number.
    /// Asks nobody.
    #[must_use]
    pub fn checks(&self, own: Vec<OwnCheck>, options: CheckOptions) -> Checks {
        Checks::new(self, own, options)
    }
}

impl Checks {
    /// The most rows that are counted of a check.
    pub const MAX_ROWS: usize = 1_000;

    /// The shortest time between two runs of a check on a schedule.
    pub const MIN_EVERY: Duration = Duration::from_secs(1);

    fn new(migration: &Migration, own: Vec<OwnCheck>, options: CheckOptions) -> Checks {
        let entity = migration.entity().clone();
        let mut list: Vec<Check> = Vec::new();
        let built_in = list::built_in(migration);
        let built_in = built_in.map(|(name, asks)| (name, Place::New, options.every, asks));
        let own = own
            .into_iter()
            .map(|own| (own.name, own.place, own.every, Question::Sql(own.sql)));
        for (wanted, place, every, question) in built_in.chain(own) {
            let mut name = wanted.clone();
            let mut number = 1;
            while list.iter().any(|known| known.name == name) {
                number += 1;
                name = format!("{wanted} ({number})");
            }
            list.push(Check::new(&entity, name, place, every, question));
        }
        Checks {
            rows: Rows::new(migration, &options),
            permits: Semaphore::new(options.concurrency.max(1)),
            legacy: migration.legacy.clone(),
            new: migration.new.clone(),
            entity,
            list,
            options,
        }
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|check| check.name.as_str())
    }

    /// The same, but only the check of this name, or those of this kind: `orphan`, `sequence`.
    /// Nothing is left where there is none.
    #[must_use]
    pub fn only(mut self, name: &str) -> Checks {
        let kind = format!("{name}:");
        let wanted = |check: &Check| check.name == name || check.name.starts_with(&kind);
        self.list.retain(wanted);
        self
    }

    /// Runs each once; `told` hears of each when it has ended. Cancellation safe: it writes nothing.
    pub async fn run(&self, told: impl Fn(&Checked) + Sync) -> CheckReport {
        let told: &(dyn Fn(&Checked) + Sync) = &told;
        let all = self.list.iter().map(|check| async move {
            let checked = self.run_one(check).await;
            told(&checked);
            checked
        });
        CheckReport {
            checks: join_all(all).await,
        }
    }

    async fn run_one(&self, check: &Check) -> Checked {
        // Nobody closes it; were it closed, one check more would run at a time.
        let _permit = self.permits.acquire().await;
        let began = Instant::now();
        let outcome = contained(self.asked(check)).await;
        match &outcome {
            Outcome::Clean => check.found.set(0.0),
            Outcome::Found { rows, .. } => check.found.set(*rows as f64),
            Outcome::NotYet { .. } => {}
            Outcome::Failed { .. } => check.failed.increment(1),
        }
        Checked {
            check: check.name.clone(),
            place: check.place,
            outcome,
            seconds: began.elapsed().as_secs_f64(),
        }
    }

    async fn asked(&self, check: &Check) -> Outcome {
        let limit = self.options.timeout;
        let dialect = match check.place {
            Place::Legacy => self.legacy.dialect(),
            Place::New => self.new.dialect(),
        };
        let rows = Self::MAX_ROWS + 1;
        let answer = match &check.question {
            Question::Rows => return self.rows.ask().await,
            Question::Sql(sql) => ended_within(limit, ask(dialect, sql, rows, limit)).await,
            Question::Sequence(of) => {
                let (table, column) = &**of;
                ended_within(limit, sequence(dialect, table, column, limit)).await
            }
        };
        match answer {
            Ok(rows) => found(rows, self.options.samples),
            Err(reason) => Outcome::Failed { reason },
        }
    }
}

fn found(mut rows: Vec<String>, samples: usize) -> Outcome {
    let (more, count) = (
        rows.len() > Checks::MAX_ROWS,
        rows.len().min(Checks::MAX_ROWS),
    );
    if count == 0 {
        return Outcome::Clean;
    }
    rows.truncate(samples);
    Outcome::Found {
        rows: count as u64,
        more,
        samples: rows,
    }
}

/// A panic in a check is that check's failure.
async fn contained(asked: impl Future<Output = Outcome>) -> Outcome {
    let asked = AssertUnwindSafe(asked).catch_unwind().await;
    asked.unwrap_or_else(|_| Outcome::Failed {
        reason: "it panicked: this is a defect; please report it".into(),
    })
}

/// What the database answered; it ends a statement by itself, unless it does not answer at all.
async fn ended_within<T>(
    limit: Duration,
    asked: impl Future<Output = Result<T, DbError>>,
) -> Result<T, String> {
    /// What a database needs to end a statement and say so.
    const GRACE: Duration = Duration::from_secs(5);
    let began = Instant::now();
    let late = || format!("it did not end within {limit:?}, and was stopped");
    match tokio::time::timeout(limit + GRACE, asked).await {
        Err(_) => Err(late()),
        Ok(Err(_)) if began.elapsed() >= limit => Err(late()),
        Ok(answer) => answer.map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_its_own_checks_failure() {
        let clean = contained(async { Outcome::Clean });
        let panics = contained(async { panic!("a defect") });
        let (clean, panicked) = tokio::join!(clean, panics);
        assert_eq!(clean, Outcome::Clean);
        let Outcome::Failed { reason } = panicked else {
            unreachable!("{panicked:?}");
        };
        assert!(reason.contains("panicked"), "{reason}");
    }

    #[test]
    fn what_is_found_is_counted_up_to_a_bound_and_shown_up_to_another() {
        let rows = |count: usize| (0..count).map(|n| n.to_string()).collect();
        assert_eq!(found(rows(0), 2), Outcome::Clean);
        let few = found(rows(3), 2);
        let samples = vec!["0".to_owned(), "1".to_owned()];
        let (rows_of, more) = (3, false);
        assert_eq!(
            few,
            Outcome::Found {
                rows: rows_of,
                more,
                samples
            }
        );
        let many = found(rows(Checks::MAX_ROWS + 1), 0);
        assert!(
            matches!(
                many,
                Outcome::Found {
                    rows: 1_000,
                    more: true,
                    ..
                }
            ),
            "{many:?}"
        );
    }
}
