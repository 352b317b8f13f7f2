//! [`Signal`]: something that is read from time to time, and must not be above its [`Limit`].

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::reason::Why;

/// Why a signal could not be read. It is shown to operators: no values of rows, no secrets.
pub type SignalError = Box<dyn std::error::Error + Send + Sync>;

/// How loaded something is, in a unit of its own: sessions, bytes, seconds.
///
/// It is read by one caller at a time, at its interval; a read that takes longer than the limit's
/// `older_than` is dropped, and tried again. An error, and a reading that is not a number, are no
/// reading: once the last one is too old, the worker is held back.
///
/// A closure is a signal: `|| async { Ok(queue.len() as f64) }`.
pub trait Signal: Send + Sync + 'static {
    /// Reads it.
    fn read(&self) -> BoxFuture<'_, Result<f64, SignalError>>;
}

impl<F, R> Signal for F
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = Result<f64, SignalError>> + Send + 'static,
{
    fn read(&self) -> BoxFuture<'_, Result<f64, SignalError>> {
        self().boxed()
    }
}

/// What a signal may read at most, and how old a reading may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    /// The most it may read, in its own unit. Above, the worker stops.
    pub most: f64,
    /// How old the last reading may be, counted from when it was asked for. Above, the worker stops.
    pub older_than: Duration,
}

impl Limit {
    /// At which reading a worker that was stopped goes on: a tenth below the limit.
    #[must_use]
    pub fn goes_on(&self) -> f64 {
        self.most - self.most.abs() / 10.0
    }
}

/// What is known of a signal, and what follows. Asks nobody.
#[derive(Debug)]
pub(super) struct Gauge {
    limit: Limit,
    /// What was read last, and when it was asked for.
    last: Option<(f64, Instant)>,
    /// Whether it was above its limit and has not come back far enough.
    over: bool,
    error: Option<Arc<str>>,
}

impl Gauge {
    pub(super) fn new(limit: Limit) -> Gauge {
        Gauge {
            limit,
            last: None,
            over: false,
            error: None,
        }
    }

    /// Takes up an answer to what was asked at `asked`.
    pub(super) fn heard(&mut self, asked: Instant, answer: Result<f64, String>) {
        match answer {
            Ok(value) if value.is_nan() => self.error = Some("it read NaN".into()),
            Ok(value) => {
                let most = match self.over {
                    true => self.limit.goes_on(),
                    false => self.limit.most,
                };
                // A limit that is not a number is none that anything stays below.
                self.over = !matches!(
                    value.partial_cmp(&most),
                    Some(std::cmp::Ordering::Less | std::cmp::Ordering::Equal)
                );
                self.last = Some((value, asked));
                self.error = None;
            }
            Err(error) => self.error = Some(error.into()),
        }
    }

    /// Why it holds the worker back, and until when that is certain.
    pub(super) fn holds(&self, now: Instant) -> Option<(Why, Option<Instant>)> {
        let error = self.error.clone();
        let Some((value, asked)) = self.last else {
            return Some((Why::Unread { error }, None));
        };
        let (age, older_than) = (now.saturating_duration_since(asked), self.limit.older_than);
        if age > older_than {
            let why = Why::Stale {
                age,
                older_than,
                error,
            };
            return Some((why, None));
        }
        self.over.then(|| {
            let why = Why::Over {
                value,
                most: self.limit.most,
                goes_on: self.limit.goes_on(),
            };
            (why, asked.checked_add(older_than))
        })
    }

    /// The last reading as a share of the limit; 0 where there is none to speak of.
    pub(super) fn load(&self) -> f64 {
        match self.last {
            Some((value, _)) if self.limit.most > 0.0 => value / self.limit.most,
            _ => 0.0,
        }
    }

    pub(super) fn last(&self) -> Option<f64> {
        self.last.map(|(value, _)| value)
    }

    pub(super) fn limit(&self) -> Limit {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn gauge(most: f64) -> Gauge {
        Gauge::new(Limit {
            most,
            older_than: SECOND * 5,
        })
    }

    #[test]
    fn a_signal_stops_above_its_limit_and_goes_on_a_tenth_below() {
        let now = Instant::now();
        let held = |gauge: &mut Gauge, value| {
            gauge.heard(now, Ok(value));
            gauge.holds(now).is_some()
        };
        let mut some = gauge(10.0);
        let seen = [9.9, 10.0, 10.1, 9.5, 9.1, 9.0, 9.9, 10.5, 3.0].map(|v| held(&mut some, v));
        let want = [false, false, true, true, true, false, false, true, false];
        assert_eq!(seen, want);
        let mut none = gauge(0.0);
        assert_eq!(
            [0.0, 1.0, 0.0].map(|v| held(&mut none, v)),
            [false, true, false]
        );
        assert!(held(&mut gauge(f64::NAN), 0.0), "no limit to stay below");
        assert!(held(&mut gauge(1e300), f64::INFINITY));
    }

    #[test]
    fn what_was_not_read_or_long_ago_stops() {
        let begun = Instant::now();
        let mut some = gauge(10.0);
        let why = |gauge: &Gauge, at| gauge.holds(at).map(|(why, _)| why.to_string());
        assert_eq!(why(&some, begun).as_deref(), Some("has not answered yet"));
        some.heard(begun, Err("no route".into()));
        assert_eq!(
            why(&some, begun).as_deref(),
            Some("was never read: no route")
        );
        some.heard(begun, Ok(1.0));
        assert_eq!(why(&some, begun + SECOND * 5), None);
        some.heard(begun + SECOND * 5, Ok(f64::NAN));
        let said = why(&some, begun + SECOND * 6);
        let want = "was last read 6 s ago, and may be 5 s old: it read NaN";
        assert_eq!(said.as_deref(), Some(want));
        some.heard(begun + SECOND * 7, Ok(1.0));
        assert_eq!(why(&some, begun + SECOND * 8), None);
    }

    proptest! {
        /// Whatever is read: the worker goes on only by a fresh reading that is not above the limit,
        /// and one stop and one start lie at least a tenth of the limit apart.
        #[test]
        fn nobody_goes_on_by_an_old_or_a_high_reading(
            most in 0.1_f64..1e6,
            steps in proptest::collection::vec((0_u64..8_000, proptest::option::of(0.0_f64..2.0)), 1..80),
        ) {
            let mut gauge = gauge(most);
            let mut now = Instant::now();
            let (mut last, mut stopped) = (None, None);
            for (millis, share) in steps {
                now += Duration::from_millis(millis);
                gauge.heard(now, share.map(|share| share * most).ok_or_else(String::new));
                last = share.map(|share| (share * most, now)).or(last);
                let over = matches!(gauge.holds(now), Some((Why::Over { .. }, _)));
                match last {
                    Some((value, at)) if now - at <= SECOND * 5 => {
                        prop_assert!(value <= most || over);
                        if let (Some(high), false) = (stopped, over) {
                            prop_assert!(high - value >= most / 10.0 * 0.999);
                        }
                        stopped = match (stopped, over) {
                            (stopped, true) => stopped.or(Some(value)),
                            (_, false) => None,
                        };
                    }
                    _ => prop_assert!(gauge.holds(now).is_some() && !over),
                }
            }
        }
    }
}
