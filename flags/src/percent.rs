//! A share in steps of 1/10,000, and what it covers.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::Bucket;

/// A percentage from 0 to 100 with at most two decimals: a whole number of 1/10,000.
///
/// ```
/// use changeover_flags::Percent;
/// let percent = Percent::new(12.5)?;
/// assert_eq!(percent.ten_thousandths(), 1_250);
/// assert_eq!(percent.to_string(), "12.5%");
/// assert!(Percent::new(12.345).is_err());
/// # Ok::<(), changeover_flags::BadPercent>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Percent(u16);

/// A number that is not a [`Percent`].
#[derive(Debug, Clone, Copy, PartialEq, Error)]
#[error("{percent} is not usable as a percentage: use 0 to 100 with at most two decimals")]
pub struct BadPercent {
    percent: f64,
}

impl Percent {
    /// Nothing.
    pub const ZERO: Percent = Percent(0);
    /// Everything.
    pub const HUNDRED: Percent = Percent(Bucket::COUNT);

    /// Takes a number of percent, such as `12.5`.
    ///
    /// # Errors
    ///
    /// [`BadPercent`] for a number outside 0 to 100, with more than two decimals, or not a number.
    pub fn new(percent: f64) -> Result<Percent, BadPercent> {
        // A decimal fraction is seldom exact in binary: 0.07 × 100 is 7.000000000000001.
        const ROUNDING: f64 = 1e-6;
        let steps = percent * 100.0;
        let whole = steps.round();
        if (0.0..=100.0).contains(&percent) && (steps - whole).abs() < ROUNDING {
            // In range and whole, as just checked, so the conversion is exact.
            Ok(Percent(whole as u16))
        } else {
            Err(BadPercent { percent })
        }
    }

    /// Takes a number of 1/10,000, such as `1_250` for 12.5 %.
    ///
    /// # Errors
    ///
    /// [`BadPercent`] above 10,000.
    #[inline]
    pub fn from_ten_thousandths(steps: u16) -> Result<Percent, BadPercent> {
        if steps <= Self::HUNDRED.0 {
            Ok(Percent(steps))
        } else {
            Err(BadPercent {
                percent: f64::from(steps) / 100.0,
            })
        }
    }

    /// The number of percent, 0 to 100.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 100.0
    }

    /// The number of 1/10,000, 0 to 10,000.
    #[must_use]
    #[inline]
    pub const fn ten_thousandths(self) -> u16 {
        self.0
    }

    /// Whether this share of the keys holds `bucket`. A larger share holds all that a smaller one
    /// holds: growing adds keys and takes none away.
    #[must_use]
    #[inline]
    pub const fn covers(self, bucket: Bucket) -> bool {
        bucket.number() < self.0
    }

    /// Whether a random draw falls into this share, where each call decides anew.
    ///
    /// `random` is drawn evenly from `0..10_000`; a higher number counts as 9,999.
    #[must_use]
    pub const fn draw(self, random: u16) -> bool {
        let last = Bucket::COUNT - 1;
        let random = if random > last { last } else { random };
        random < self.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.as_f64())
    }
}

/// As a number of percent, such as `12.5`.
impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_f64())
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Percent, D::Error> {
        let percent = f64::deserialize(deserializer)?;
        Percent::new(percent).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_survives_the_way_through_a_number_text_and_serde() {
        for steps in 0..=10_000 {
            let percent = Percent::from_ten_thousandths(steps).expect("in range");
            assert_eq!(Percent::new(percent.as_f64()), Ok(percent));
            assert_eq!(percent.ten_thousandths(), steps);
            let text = percent.to_string();
            let number: f64 = text.trim_end_matches('%').parse().expect("a number");
            assert_eq!(Percent::new(number), Ok(percent), "{text}");
            let json = serde_json::to_string(&percent).expect("serialises");
            let back: Percent = serde_json::from_str(&json).expect("deserialises");
            assert_eq!(back, percent, "{json}");
        }
    }

    #[test]
    fn what_is_no_percentage_is_refused() {
        let bad = [
            -0.01,
            100.01,
            12.345,
            0.001,
            99.999,
            f64::NAN,
            f64::INFINITY,
            1e300,
            -1e300,
        ];
        for percent in bad {
            assert!(Percent::new(percent).is_err(), "{percent}");
        }
        assert!(Percent::from_ten_thousandths(10_001).is_err());
        let error = serde_json::from_str::<Percent>("101").expect_err("refused");
        assert!(error.to_string().contains("101 is not usable"), "{error}");
        assert_eq!(
            serde_json::from_str::<Percent>("25").expect("whole"),
            Percent(2_500)
        );
    }

    #[test]
    fn texts_are_short() {
        for (percent, text) in [
            (0.0, "0%"),
            (12.5, "12.5%"),
            (0.07, "0.07%"),
            (100.0, "100%"),
        ] {
            assert_eq!(Percent::new(percent).expect("valid").to_string(), text);
        }
    }

    #[test]
    fn a_draw_hits_exactly_its_share() {
        for steps in [0, 1, 5_000, 9_999, 10_000] {
            let hits = (0..10_000)
                .filter(|random| Percent(steps).draw(*random))
                .count();
            assert_eq!(hits, usize::from(steps));
        }
        assert!(Percent::HUNDRED.draw(u16::MAX) && !Percent::ZERO.draw(u16::MAX));
    }
}
