//! `[pace]`: how fast history is copied, and what stops that and other work meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use changeover_flags::Place;
use changeover_sync_worker::dialect::load::{Load, LoadQuery};
use changeover_sync_worker::dialect::session::Database;
use changeover_sync_worker::pace::{
    BytesPerSecond, Duty, Limit, Pacing, Reason, RowsPerSecond, Signals,
};
use serde::{Deserialize, Serialize};

use super::{BadConfig, CannotOpen, Config, Side};

/// `[pace]`. What is not set is [`Pacing`]'s default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pace {
    /// Whether copying history waits.
    pub paused: bool,
    /// Keys per second, at least 1; not set is unlimited. An entity's own rate stands above it.
    pub rows_per_second: Option<u32>,
    /// Bytes of values per second, at least 1; not set is unlimited.
    pub bytes_per_second: Option<u64>,
    /// How long the rows of a page shall take, in milliseconds, at least 1.
    pub statement_time_ms: Option<u64>,
    /// Which share of the time the worker is at work, from 1 to 100.
    pub duty_percent: Option<u8>,
    /// What stops it.
    pub signal: Vec<Watching>,
}

/// `[[pace.signal]]`: a query of one number, and what it may answer at most.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watching {
    /// Shown while it holds the worker back, and a metric's label: lower case, digits, underscores.
    pub name: String,
    /// The query; exactly one of `sql` and `built_in` is set.
    pub sql: Option<String>,
    /// A query that is built in.
    pub built_in: Option<Load>,
    /// Which side's database is asked; legacy's, if there is no `at` either.
    pub of: Option<Place>,
    /// Another database, which is asked instead: a replica's.
    pub at: Option<Side>,
    /// What it holds back.
    #[serde(default = "holds")]
    pub holds: BTreeSet<Work>,
    /// The most it may answer.
    pub most: f64,
    /// How old the last answer may be: older counts as too much. More than `every_ms`.
    #[serde(default = "older_than_seconds")]
    pub older_than_seconds: u64,
    /// How often it is asked, at least every 10 ms.
    #[serde(default = "every_ms")]
    pub every_ms: u64,
}

/// Work that a signal can hold back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// Copying history.
    Backfill,
    /// Comparing both sides.
    Verify,
    /// Copying what is dirty. While it is held back, more and more is read from legacy.
    Drain,
}

/// The pace of work that goes as fast as it can unless told otherwise.
pub(super) fn pace_of(rows_per_second: Option<u32>, duty_percent: Option<u8>) -> Pacing {
    Pacing {
        rows_per_second: rows_per_second.and_then(RowsPerSecond::new),
        duty: Some(duty_percent.and_then(Duty::percent).unwrap_or(Duty::ALL)),
        ..Pacing::UNLIMITED
    }
}

/// Whether it is a share of the time.
pub(super) fn is_duty(percent: Option<u8>) -> bool {
    percent.is_none_or(|percent| Duty::percent(percent).is_some())
}

fn holds() -> BTreeSet<Work> {
    BTreeSet::from([Work::Backfill, Work::Verify])
}

const fn older_than_seconds() -> u64 {
    10
}

const fn every_ms() -> u64 {
    1_000
}

impl Pace {
    /// As the worker takes it.
    #[must_use]
    pub fn pacing(&self) -> Pacing {
        let default = Pacing::default();
        Pacing {
            rows_per_second: self.rows_per_second.and_then(RowsPerSecond::new),
            bytes_per_second: self.bytes_per_second.and_then(BytesPerSecond::new),
            statement_time: self
                .statement_time_ms
                .map(Duration::from_millis)
                .or(default.statement_time),
            duty: self.duty_percent.and_then(Duty::percent),
        }
    }

    pub(super) fn check(&self) -> Result<(), BadConfig> {
        let bad = |field: String, problem: &str| {
            let problem = problem.to_owned();
            Err(BadConfig::Pace { field, problem })
        };
        let zeros = [
            ("rows_per_second", self.rows_per_second == Some(0)),
            ("bytes_per_second", self.bytes_per_second == Some(0)),
            ("statement_time_ms", self.statement_time_ms == Some(0)),
        ];
        if let Some((field, _)) = zeros.iter().find(|(_, zero)| *zero) {
            return bad(
                (*field).to_owned(),
                "it is at least 1; leave it out for its default",
            );
        }
        if !is_duty(self.duty_percent) {
            return bad("duty_percent".to_owned(), "it is from 1 to 100");
        }
        let mut names = BTreeSet::new();
        for watching in &self.signal {
            let problem = match watching.problem() {
                None if !names.insert(&watching.name) => "there is another one of this name",
                None => continue,
                Some(problem) => problem,
            };
            return bad(format!("signal {:?}", watching.name), problem);
        }
        Ok(())
    }
}

impl Watching {
    fn problem(&self) -> Option<&'static str> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let older_than = Duration::from_secs(self.older_than_seconds);
        let rules = [
            (
                (1..=40).contains(&self.name.len()) && self.name.chars().all(plain),
                "its name is 1 to 40 lower-case letters, digits and underscores",
            ),
            (
                !Reason::LABELS.contains(&self.name.as_str()),
                "its name stands for another reason to wait: give it another one",
            ),
            (
                self.sql.is_some() != self.built_in.is_some(),
                "it has either sql, a query of one number, or built_in",
            ),
            (
                self.of.is_none() || self.at.is_none(),
                "it has either of, one of both sides, or at, another database",
            ),
            (self.most.is_finite(), "most is a number, and a finite one"),
            (
                !self.holds.is_empty(),
                "holds names backfill, verify or drain; leave it out for the first two",
            ),
            (self.every_ms >= 10, "every_ms is at least 10"),
            (
                older_than > Duration::from_millis(self.every_ms),
                "older_than_seconds is more than every_ms, or every answer would be too old before the next",
            ),
            (
                self.older_than_seconds <= 86_400,
                "older_than_seconds is a day at most",
            ),
        ];
        let broken = rules.iter().find(|(holds, _)| !holds)?;
        Some(broken.1)
    }
}

impl Config {
    /// The signals of this file. Nobody is asked yet.
    ///
    /// # Errors
    ///
    /// [`CannotOpen`] when a side has no URL, or its engine has no such query.
    pub fn signals(&self) -> Result<Signals, CannotOpen> {
        self.watched(|_| true)
    }

    /// Those that hold this work back.
    ///
    /// # Errors
    ///
    /// As [`signals`](Config::signals).
    pub fn signals_for(&self, work: Work) -> Result<Signals, CannotOpen> {
        self.watched(|watching| watching.holds.contains(&work))
    }

    fn watched(&self, which: impl Fn(&Watching) -> bool) -> Result<Signals, CannotOpen> {
        let mut signals = Signals::default();
        for watching in self.pace.signal.iter().filter(|watching| which(watching)) {
            let url = match (&watching.at, watching.of) {
                (Some(at), _) => at.url("at")?,
                (None, Some(Place::New)) => self.new.url("new")?,
                (None, Some(Place::Legacy) | None) => self.legacy.url("legacy")?,
            };
            let database = Database::open(&url)?;
            let older_than = Duration::from_secs(watching.older_than_seconds);
            let query = match (&watching.sql, watching.built_in) {
                (Some(sql), _) => Some(LoadQuery::new(&database, sql, older_than)),
                (None, Some(load)) => LoadQuery::built_in(&database, load, older_than),
                (None, None) => None,
            };
            let Some(query) = query else {
                let engine = database.dialect().engine();
                return Err(CannotOpen::Config(BadConfig::Pace {
                    field: format!("signal {:?}", watching.name),
                    problem: format!("{engine} has no such query built in: write sql"),
                }));
            };
            let limit = Limit {
                most: watching.most,
                older_than,
            };
            let every = Duration::from_millis(watching.every_ms);
            signals = signals.watch(&watching.name, query, limit, every);
        }
        Ok(signals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pace: &str) -> Result<Config, BadConfig> {
        let text = format!(
            "legacy.url = 'sqlite:a'\nnew.url = 'sqlite:b'\n[pace]\n{pace}\n[entity.a]\nmapping = 'm'"
        );
        Config::parse(&text, "changeover.toml".as_ref())
    }

    #[test]
    fn what_cannot_be_a_pace_is_named_with_its_place() {
        let signal = "[[pace.signal]]\nname = 'lag'\nmost = 5\n";
        let cases = [
            ("rows_per_second = 0", "pace.rows_per_second"),
            ("statement_time_ms = 0", "pace.statement_time_ms"),
            ("duty_percent = 101", "from 1 to 100"),
            (signal, "either sql"),
            (
                &format!("{signal}sql = '1'\nbuilt_in = 'wal_bytes'"),
                "either sql",
            ),
            (
                &format!("{signal}sql = '1'\nevery_ms = 10000"),
                "more than every_ms",
            ),
            (&format!("{signal}sql = '1'\nevery_ms = 5"), "at least 10"),
            (
                &format!("{signal}sql = '1'\n{signal}sql = '2'"),
                "another one",
            ),
            (
                &format!("{signal}sql = '1'").replace("lag", "duty"),
                "another reason",
            ),
            (
                &format!("{signal}sql = '1'").replace("lag", "The lag"),
                "lower-case",
            ),
            (&format!("{signal}sql = '1'").replace('5', "nan"), "finite"),
            (
                &format!("{signal}sql = '1'\nholds = []"),
                "backfill, verify or drain",
            ),
        ];
        for (text, want) in cases {
            let said = read(text).expect_err(text).to_string();
            assert!(said.contains(want), "{text}: {said}");
        }
        let config = read(&format!("{signal}built_in = 'wal_bytes'")).expect("a file");
        let refused = config
            .signals()
            .map(drop)
            .expect_err("SQLite has no log to ask for");
        let refused = format!("{refused:?}");
        assert!(
            refused.contains("SQLite has no such query built in"),
            "{refused}"
        );
        let config = read(&format!("{signal}sql = '1'")).expect("a file");
        for (work, signals) in [(Work::Backfill, 1), (Work::Verify, 1), (Work::Drain, 0)] {
            let states = config.signals_for(work).expect("signals").states();
            assert_eq!(states.len(), signals, "{work:?}");
        }
    }
}
