//! [`Reason`]: what holds the worker back.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use changeover_flags::Key;
use tokio::time::Instant;

use super::{BytesPerSecond, Duty, RowsPerSecond};

/// Why the next page does not begin, and until when if that is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// Why.
    pub reason: Reason,
    /// When it is looked at again, if nothing happens before.
    pub until: Option<Instant>,
}

/// What holds the worker back.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// Somebody paused it.
    Paused,
    /// A signal.
    Signal {
        /// Its name.
        name: Arc<str>,
        /// What about it.
        why: Why,
    },
    /// The fixed rate of rows.
    Rows(RowsPerSecond),
    /// The budget of bytes.
    Bytes(BytesPerSecond),
    /// The application's share of the time.
    Duty(Duty),
    /// The range of the sweep: it ends with this key.
    Range(Key),
    /// A page has failed, as this says, and is tried again after a pause.
    Failure(Arc<str>),
}

/// What about a signal holds the worker back.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Why {
    /// It reads more than it may, or has not come back far enough since.
    Over {
        /// What it read last.
        value: f64,
        /// The most it may read.
        most: f64,
        /// At which reading the worker goes on.
        goes_on: f64,
    },
    /// Its last reading is too old.
    Stale {
        /// How old.
        age: Duration,
        /// How old it may be.
        older_than: Duration,
        /// Why there is no newer one, if it said so.
        error: Option<Arc<str>>,
    },
    /// It was never read.
    Unread {
        /// Why, if it said so.
        error: Option<Arc<str>>,
    },
}

impl Reason {
    /// The labels of every reason that is not a signal: names that no signal can have.
    pub const LABELS: [&'static str; 6] = ["paused", "rows", "bytes", "duty", "range", "failure"];

    /// The reason as a metric's label: one of [`LABELS`](Reason::LABELS), or a signal's name.
    #[must_use]
    pub fn label(&self) -> &str {
        match self {
            Reason::Paused => "paused",
            Reason::Signal { name, .. } => name,
            Reason::Rows(_) => "rows",
            Reason::Bytes(_) => "bytes",
            Reason::Duty(_) => "duty",
            Reason::Range(_) => "range",
            Reason::Failure(_) => "failure",
        }
    }

    /// Whether only somebody, or something outside, ends it.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(
            self,
            Reason::Paused | Reason::Signal { .. } | Reason::Range(_) | Reason::Failure(_)
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Paused => f.write_str("paused"),
            Reason::Signal { name, why } => write!(f, "signal {name} {why}"),
            Reason::Rows(rate) => write!(f, "its rate, {rate}"),
            Reason::Bytes(rate) => write!(f, "its budget, {rate}"),
            Reason::Duty(duty) => write!(f, "its duty, {duty}"),
            Reason::Range(key) => write!(f, "its range, which ends with key {key}"),
            Reason::Failure(error) => write!(f, "a failure, and tries again: {error}"),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = match self {
            Why::Over {
                value,
                most,
                goes_on,
            } => {
                return match value > most {
                    true => write!(f, "is {value}, above its limit {most}"),
                    false => write!(
                        f,
                        "is {value} after it was above its limit {most}, and has to fall to {goes_on}"
                    ),
                };
            }
            Why::Stale {
                age,
                older_than,
                error,
            } => {
                let (age, limit) = (age.as_secs_f64(), older_than.as_secs_f64());
                write!(
                    f,
                    "was last read {age:.0} s ago, and may be {limit:.0} s old"
                )?;
                error
            }
            Why::Unread { error: None } => return f.write_str("has not answered yet"),
            Why::Unread { error } => {
                f.write_str("was never read")?;
                error
            }
        };
        match error {
            Some(error) => write!(f, ": {error}"),
            None => Ok(()),
        }
    }
}
