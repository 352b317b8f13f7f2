//! Whether a number or a text stands for the same value after a conversion that nobody refuses.

/// A decimal number: its sign, its digits without zeros at either end, and the power of ten of the last
/// of them. Equal numbers are equal values, however they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// Reads `12`, `-0.50`, `+1.5e-7`. `None` for everything else, infinities included.
    pub(super) fn read(text: &str) -> Option<Decimal> {
        let text = text.trim();
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
            None => (text, 0),
        };
        let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{part}");
        if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let part = i64::try_from(part.len()).ok()?;
        let digits = all.trim_start_matches('0');
        let kept = digits.trim_end_matches('0');
        let zeros = i64::try_from(digits.len() - kept.len()).ok()?;
        let exponent = exponent.checked_sub(part)?.checked_add(zeros)?;
        Some(Decimal {
            negative: negative && !kept.is_empty(),
            exponent: if kept.is_empty() { 0 } else { exponent },
            digits: kept.to_owned(),
        })
    }

    /// The number of digits behind the point that it needs; below 0, so many zeros stand before it.
    pub(super) fn scale(&self) -> i64 {
        match self.digits.is_empty() {
            true => i64::MIN,
            false => -self.exponent,
        }
    }
}

/// Whether the decimal `text` and the shortest decimal that reads as `number` are one number. True where
/// `text` is none: a database says what it makes of that.
pub(super) fn reads_as(text: &str, number: f64) -> bool {
    match Decimal::read(text) {
        None => true,
        Some(decimal) => Decimal::read(&format!("{number:e}")) == Some(decimal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_are_equal_however_they_are_written() {
        let same = [
            ("1.50", "1.5"),
            ("15e-1", "1.5"),
            ("007", "7"),
            ("-0.000", "0"),
            ("1200", "12e2"),
            (" +3 ", "3"),
        ];
        for (a, b) in same {
            assert_eq!(Decimal::read(a), Decimal::read(b), "{a} {b}");
            assert!(Decimal::read(a).is_some());
        }
        assert_ne!(Decimal::read("-1"), Decimal::read("1"));
        assert_ne!(Decimal::read("10"), Decimal::read("1"));
        for none in ["", ".", "NaN", "Infinity", "1e", "0x10", "1_000", "--1"] {
            assert_eq!(Decimal::read(none), None, "{none}");
        }
    }

    #[test]
    fn a_float_is_its_shortest_decimal() {
        assert!(reads_as("0.1", 0.1) && reads_as("100000000000000000000", 1e20));
        assert!(reads_as("NaN", f64::NAN) && reads_as("-0", -0.0));
        assert!(!reads_as("0.1000000000000000055", 0.1));
        assert!(!reads_as("9007199254740993", 9_007_199_254_740_992.0));
        assert!(!reads_as("1e400", f64::INFINITY));
    }
}
