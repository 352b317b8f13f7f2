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

    /// Whether a column of so many digits, so many of them behind the point, holds it as it is.
    pub(super) fn fits(&self, precision: i64, scale: i64) -> bool {
        let whole = i64::try_from(self.digits.len())
            .map_or(i64::MAX, |digits| digits.saturating_add(self.exponent));
        self.digits.is_empty() || (self.scale() <= scale && whole <= precision - scale)
    }

    /// The number without a power of ten, without zeros that say nothing; `None` where that would be longer
    /// than any database's number.
    pub(super) fn plain(&self) -> Option<String> {
        const MOST_ZEROS: usize = 150_000;
        let zeros = usize::try_from(self.exponent.unsigned_abs()).ok()?;
        let (before, after) = match self.exponent < 0 {
            true => (0, zeros),
            false => (zeros, 0),
        };
        let digits = (zeros <= MOST_ZEROS).then(|| {
            let lead = "0".repeat(after.saturating_sub(self.digits.len()));
            format!("{lead}{}{}", self.digits, "0".repeat(before))
        })?;
        let (whole, part) = digits.split_at_checked(digits.len().checked_sub(after)?)?;
        let sign = if self.negative { "-" } else { "" };
        let whole = if whole.is_empty() { "0" } else { whole };
        Some(match part {
            "" => format!("{sign}{whole}"),
            part => format!("{sign}{whole}.{part}"),
        })
    }

    /// The number, if it is a whole one.
    pub(super) fn whole(&self) -> Option<i128> {
        if self.digits.is_empty() {
            return Some(0);
        }
        let zeros = 10_i128.checked_pow(u32::try_from(self.exponent).ok()?)?;
        let number = self.digits.parse::<i128>().ok()?.checked_mul(zeros)?;
        Some(if self.negative { -number } else { number })
    }
}

/// A uuid of 32 hexadecimal digits, as every engine prints it: small letters, hyphens after 8, 12, 16 and 20.
pub(super) fn uuid(digits: &str) -> Option<String> {
    let known = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digits = known.then(|| digits.to_ascii_lowercase())?;
    let parts = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)];
    let parts: Option<Vec<&str>> = parts
        .iter()
        .map(|(from, to)| digits.get(*from..*to))
        .collect();
    Some(parts?.join("-"))
}

/// The numbers in the parentheses of a type.
pub(super) fn arguments(full_type: &str) -> Vec<i64> {
    let inner = full_type
        .split_once('(')
        .and_then(|(_, rest)| rest.split_once(')'));
    let numbers = inner.map_or("", |(inner, _)| inner).split(',');
    numbers
        .filter_map(|number| number.trim().parse().ok())
        .collect()
}

/// The time of day in a text as databases write it: `[date] 10:00:00[.5][+02]`.
pub(super) struct Clock<'t> {
    pub(super) dated: bool,
    time: &'t str,
    zone: &'t str,
}

impl<'t> Clock<'t> {
    /// `None` where there is no time of day in it.
    pub(super) fn of(text: &'t str) -> Option<Clock<'t>> {
        let text = text.trim();
        let text = text.strip_suffix(" BC").unwrap_or(text);
        let colon = text.find(':')?;
        let from = text.get(..colon)?.rfind([' ', 'T']).map_or(0, |at| at + 1);
        let clock = text.get(from..)?;
        let zone = clock.find(['+', '-', 'Z']).unwrap_or(clock.len());
        let (time, zone) = clock.split_at_checked(zone)?;
        time.bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'.'))
            .then_some(Clock {
                dated: from > 0,
                time,
                zone,
            })
    }

    /// Whether more digits stand behind its seconds than are kept.
    pub(super) fn finer_than(&self, digits: Option<i64>) -> bool {
        let part = self.time.split_once('.').map_or("", |(_, part)| part);
        let part = part.trim_end_matches('0').len();
        i64::try_from(part).is_ok_and(|part| part > digits.unwrap_or(6))
    }

    /// Whether its zone is another than that of the sessions, UTC.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.zone.bytes().any(|byte| matches!(byte, b'1'..=b'9'))
    }

    pub(super) fn is_midnight(&self) -> bool {
        !self.is_elsewhere() && !self.time.bytes().any(|byte| matches!(byte, b'1'..=b'9'))
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

/// Of each type, the first text is kept and the second, if there is one, altered.
#[cfg(test)]
pub(super) fn told_apart(
    cases: &[(&str, &str, &str)],
    alters: &dyn Fn(&str, &changeover_shadow::Value) -> bool,
) {
    let altered = |stored, text: &str| alters(stored, &changeover_shadow::Value::Text(text.into()));
    for (stored, kept, other) in cases {
        assert!(!altered(stored, kept), "{stored}: {kept}");
        let other_too = other.is_empty() || altered(stored, other);
        assert!(other_too, "{stored}: {other}");
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
        let fits = |text: &str| Decimal::read(text).unwrap().fits(5, 2);
        assert!(fits("999.99") && fits("-0.01") && fits("0e9") && fits("12e1"));
        assert!(!fits("1000") && !fits("12345") && !fits("1.006") && !fits("1e3"));
        let whole = |text: &str| Decimal::read(text).unwrap().whole();
        assert_eq!(whole("-5.00"), Some(-5));
        assert_eq!((whole("1e3"), whole("0.0")), (Some(1000), Some(0)));
        assert_eq!((whole("5.5"), whole("1e40")), (None, None));
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
