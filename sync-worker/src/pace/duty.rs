//! [`Duty`]: which share of the time the worker is at work.

use std::fmt;
use std::time::Duration;

/// A share of the time, from 1 to 100 percent.
///
/// After a page the worker rests, so much longer the longer the page took: a database that slows
/// down is asked less. No rest is longer than a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duty(u8);

impl Duty {
    /// All of the time: no rests.
    pub const ALL: Duty = Duty(100);
    /// Half of the time. Below it, a page that is read ahead would be an old one.
    pub(super) const HALF: Duty = Duty(50);
    /// A twelfth: pgbench beside a load lost up to a third of its transactions at three quarters, a fifth at a
    /// third, a tenth at an eighth, and a fifteenth at this (README, "What was measured").
    pub(super) const DEFAULT: Duty = Duty(8);

    /// A share in percent; `None` unless it is from 1 to 100.
    #[must_use]
    pub const fn percent(percent: u8) -> Option<Duty> {
        match percent {
            1..=100 => Some(Duty(percent)),
            _ => None,
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// How long to rest after work of `time`, while the signal that is nearest to its limit reads
    /// `load` of it. From [`EASE`] of a limit on, the share falls in proportion, to a twentieth of
    /// itself just below the limit: so a load settles below its limit, rather than swing around it.
    pub(super) fn rest(self, time: Duration, load: f64) -> Duration {
        let left = ((1.0 - load) / (1.0 - EASE)).clamp(LEAST, 1.0);
        let duty = f64::from(self.0) / 100.0 * left;
        let most = LONGEST.as_secs_f64();
        Duration::from_secs_f64((time.as_secs_f64() * (1.0 - duty) / duty).min(most))
    }
}

/// The longest rest: one page that took long, because it waited, is no reason to stop for ever.
const LONGEST: Duration = Duration::from_secs(60);

/// The share of a limit up to which a signal changes nothing.
const EASE: f64 = 0.7;

/// What is left of the duty just below a limit.
const LEAST: f64 = 0.05;

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} % of the time at work", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_keep_the_share_and_grow_towards_a_limit() {
        let page = Duration::from_millis(300);
        let rest = |percent, load| Duty::percent(percent).expect("a share").rest(page, load);
        assert_eq!(rest(100, 0.0), Duration::ZERO);
        assert_eq!(rest(75, 0.7), Duration::from_millis(100));
        assert_eq!(rest(50, 0.0), page);
        let near = rest(100, 0.85).as_secs_f64();
        assert!((near - 0.3).abs() < 1e-6, "half of the time: {near}");
        assert!(rest(75, 0.99) > rest(75, 0.9) && rest(75, 0.9) > rest(75, 0.8));
        let longest = rest(1, f64::INFINITY);
        assert_eq!(longest, LONGEST);
        assert_eq!((Duty::percent(0), Duty::percent(101)), (None, None));
    }
}
