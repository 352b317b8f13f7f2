use std::time::Duration;

use super::{instant, number};
use crate::Value;

/// How far apart two values may be and still count as equal; see the table of [`rules`](super).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tolerance {
    /// Numbers that differ by at most this much, 0 or more. `Absolute(0.0)` compares what numbers
    /// mean and not how they are kept: `1`, `1.0` and `1.00` are equal.
    Absolute(f64),
    /// Numbers that differ by at most this share of the larger one, from 0 to below 1.
    Relative(f64),
    /// Texts that are instants, at most this long apart.
    Time(Duration),
}

impl Tolerance {
    /// Whether the two are near enough; values that it does not speak of never are.
    pub(super) fn holds(self, legacy: &Value, new: &Value) -> bool {
        let within = match (self, legacy, new) {
            (Tolerance::Absolute(most), legacy, new) => {
                number::within(legacy, new, number::Bound::Absolute(most))
            }
            (Tolerance::Relative(share), legacy, new) => {
                number::within(legacy, new, number::Bound::Relative(share))
            }
            (Tolerance::Time(most), Value::Text(legacy), Value::Text(new)) => {
                instant::within(legacy, new, most)
            }
            (Tolerance::Time(_), _, _) => None,
        };
        within.unwrap_or(false)
    }

    /// What is wrong with it.
    pub(super) fn problem(self) -> Option<&'static str> {
        match self {
            Tolerance::Absolute(most) if !(0.0..f64::INFINITY).contains(&most) => {
                Some("is not an amount: write a number of 0 or more")
            }
            Tolerance::Relative(share) if !(0.0..1.0).contains(&share) => {
                Some("is not a share: write a number from 0 to below 1")
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Value {
        Value::Decimal(text.to_owned())
    }

    #[test]
    fn numbers_are_compared_exactly_whatever_their_kind() {
        let near = |most: f64, one: Value, other: Value| {
            let there = Tolerance::Absolute(most).holds(&one, &other);
            assert_eq!(
                there,
                Tolerance::Absolute(most).holds(&other, &one),
                "symmetric"
            );
            there
        };
        assert!(near(0.0, 1.into(), decimal("1.00")));
        assert!(near(0.0, Value::Float(0.1), decimal("0.10")));
        assert!(near(0.0, Value::Float(-0.0), 0.into()));
        assert!(near(0.0, Value::Float(1e300), decimal("1e300")));
        assert!(near(0.0, Value::Float(5e-324), decimal("5E-324")));
        assert!(!near(0.0, Value::Float(0.1 + 0.2), Value::Float(0.3)));
        assert!(near(1e-15, Value::Float(0.1 + 0.2), Value::Float(0.3)));
        // Where an f64 has lost its digits already.
        assert!(!near(0.0, i64::MAX.into(), (i64::MAX - 1).into()));
        assert!(near(1.0, i64::MAX.into(), (i64::MAX - 1).into()));
        let (one, other) = (
            decimal("12345678901234567890.01"),
            decimal("12345678901234567890.02"),
        );
        assert!(!near(0.009, one.clone(), other.clone()));
        assert!(near(0.01, one, other));
        assert!(near(3.0, (-1).into(), 2.into()) && !near(2.9, (-1).into(), 2.into()));
        assert!(near(0.5, decimal("-.25"), decimal("+0.25")));
        assert!(
            near(1.0, 999.into(), 1_000.into()) && near(0.1, decimal("9.95"), decimal("10.05"))
        );
        assert!(!near(1e9, "1".into(), 1.into()), "a text is no number");
        assert!(!near(1e9, Value::Null, 0.into()) && !near(1e9, true.into(), 1.into()));
        for text in [
            "",
            ".",
            "-",
            "1.2.3",
            "1e",
            "1e9999",
            "0x1",
            "1 ",
            "１",
            &"9".repeat(2_001),
        ] {
            assert!(
                !near(1e9, decimal(text), decimal(text)),
                "{text:?} is not read"
            );
        }
    }

    #[test]
    fn what_is_not_finite_is_near_itself_alone() {
        let all = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0].map(Value::Float);
        let written = ["NaN", "Infinity", "-Infinity", "0"].map(decimal);
        for tolerance in [Tolerance::Absolute(f64::MAX), Tolerance::Relative(0.999)] {
            for (i, one) in all.iter().enumerate() {
                for (j, other) in written.iter().enumerate() {
                    assert_eq!(tolerance.holds(one, other), i == j, "{one:?} {other:?}");
                }
            }
        }
        let other_nan = Value::Float(f64::from_bits(f64::NAN.to_bits() ^ 1));
        assert!(Tolerance::Absolute(0.0).holds(&all[0], &other_nan));
    }

    #[test]
    fn a_share_is_one_of_the_larger_number() {
        let near = |share: f64, one: i64, other: i64| {
            let there = Tolerance::Relative(share).holds(&one.into(), &other.into());
            let back = Tolerance::Relative(share).holds(&other.into(), &one.into());
            assert_eq!(there, back, "symmetric");
            there
        };
        assert!(near(0.1, 90, 100) && !near(0.1, 89, 100));
        assert!(near(0.1, -90, -100) && !near(0.999, -90, 90));
        assert!(near(0.0, 7, 7) && near(0.5, 0, 0) && !near(0.999, 0, 1));
    }

    #[test]
    fn instants_are_near_and_other_texts_are_not() {
        let near = |seconds, one: &str, other: &str| {
            Tolerance::Time(Duration::from_secs(seconds)).holds(&one.into(), &other.into())
        };
        assert!(near(
            0,
            "2024-01-01 00:00:00+00",
            "2024-01-01T01:00:00.000+01:00"
        ));
        assert!(near(0, "2024-01-01 00:00:00", "2024-01-01T00:00:00Z"));
        assert!(near(1, "2024-01-01T00:00:00.5Z", "2024-01-01T00:00:01.5Z"));
        assert!(!near(
            1,
            "2024-01-01T00:00:00.5Z",
            "2024-01-01T00:00:01.500000001Z"
        ));
        assert!(!near(u64::MAX, "soon", "soon"), "not an instant");
        assert!(!Tolerance::Time(Duration::MAX).holds(&1.into(), &2.into()));
    }
}
