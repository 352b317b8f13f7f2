//! Instants that stand as text.

use std::time::Duration;

const NANOSECONDS: i128 = 1_000_000_000;

/// Whether two texts are instants at most `most` apart; `None` unless both are instants.
pub(super) fn within(legacy: &str, new: &str, most: Duration) -> Option<bool> {
    let (legacy, new) = (nanoseconds(legacy)?, nanoseconds(new)?);
    Some(legacy.abs_diff(new) <= most.as_nanos())
}

/// Reads `2026-03-01T10:00:00.25Z`, `2026-03-01 10:00:00+02`, `2026-03-01 10:00` and `2026-03-01`.
/// What has no offset is taken to be UTC, what has no time of day to be midnight.
fn nanoseconds(text: &str) -> Option<i128> {
    let (date, rest) = match text.split_once(['T', 't', ' ']) {
        Some((date, rest)) => (date, Some(rest)),
        None => (text, None),
    };
    let days = days(date)?;
    let (seconds, fraction) = rest.map_or(Some((0, 0)), time_of_day)?;
    Some((i128::from(days) * 86_400 + i128::from(seconds)) * NANOSECONDS + i128::from(fraction))
}

/// Seconds of the day in UTC, and nanoseconds.
fn time_of_day(text: &str) -> Option<(i64, i64)> {
    let end = text.find(['Z', 'z', '+', '-']).unwrap_or(text.len());
    let (clock, zone) = text.split_at_checked(end)?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut parts = clock.split(':');
    let (hour, minute) = (pair(parts.next()?, 23)?, pair(parts.next()?, 59)?);
    // A leap second is the first of the next minute.
    let second = parts.next().map_or(Some(0), |second| pair(second, 60))?;
    if parts.next().is_some() {
        return None;
    }
    let seconds = hour * 3_600 + minute * 60 + second - offset(zone)?;
    Some((seconds, nanoseconds_of(fraction)?))
}

/// Up to nine digits after the point.
fn nanoseconds_of(fraction: &str) -> Option<i64> {
    let digits = fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    format!("{fraction:0<9}").parse().ok()
}

/// Seconds east of UTC: nothing, `Z`, `+02`, `+0200`, `+02:00` or `+02:00:00`.
fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "" | "Z" | "z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let digits = zone.strip_prefix(['+', '-'])?;
    let mut parts = match (digits.len(), digits.split_at_checked(2)) {
        (4, Some((hours, minutes))) if !digits.contains(':') => vec![hours, minutes],
        _ => digits.split(':').collect(),
    };
    if parts.len() > 3 {
        return None;
    }
    parts.resize(3, "00");
    let parts = parts.iter().map(|part| pair(part, 59));
    let seconds = parts.reduce(|sum, part| Some(sum? * 60 + part?))??;
    Some(sign * seconds)
}

/// Exactly two digits, at most `most`.
fn pair(text: &str, most: i64) -> Option<i64> {
    number(text, 2..=2).filter(|number| *number <= most)
}

fn number(text: &str, lengths: std::ops::RangeInclusive<usize>) -> Option<i64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    (digits && lengths.contains(&text.len())).then(|| text.parse().ok())?
}

/// Days since 1970-01-01 of a date of the Gregorian calendar, from the year 1 on.
fn days(date: &str) -> Option<i64> {
    let mut parts = date.splitn(3, '-');
    let year = number(parts.next()?, 4..=6).filter(|year| *year > 0)?;
    let month = pair(parts.next()?, 12).filter(|month| *month > 0)?;
    let day = pair(parts.next()?, 31).filter(|day| *day > 0)?;
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let longest = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if day > longest {
        return None;
    }
    // Years that begin in March, so that the leap day is the last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let in_years = year * 365 + year / 4 - year / 100 + year / 400;
    Some(in_years + (month * 153 + 2) / 5 + day - 1 - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_as_they_are_printed() {
        let second = |text| nanoseconds(text).map(|nanoseconds| nanoseconds / NANOSECONDS);
        // From `date -u -d TEXT +%s`.
        for (text, seconds) in [
            ("1970-01-01", 0),
            ("1970-01-01 00:00", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2024-03-01 00:00:00+00", 1_709_251_200),
            ("2024-12-31T23:30:00-01:30", 1_735_693_200),
            ("2024-06-01 02:00:00+0200", 1_717_200_000),
            ("0001-01-01T00:00:00Z", -62_135_596_800),
            ("9999-12-31t23:59:59z", 253_402_300_799),
            ("2016-12-31 23:59:60+00:00:00", 1_483_228_800),
        ] {
            assert_eq!(second(text), Some(seconds), "{text}");
        }
        assert_eq!(nanoseconds("1970-01-01 00:00:00.000000001"), Some(1));
        assert_eq!(nanoseconds("1970-01-01T00:00:00.25Z"), Some(250_000_000));
        for text in [
            "",
            "now",
            "infinity",
            "2023-02-29",
            "2024-13-01",
            "2024-1-1",
            "2024-01-01T",
            "10:00:00",
            "2024-01-01 24:00:00",
            "2024-01-01 10:00:00.",
            "2024-01-01 10:00:00.1234567890",
            "2024-01-01 10:00:00+",
            "2024-01-01 10:00:00+2",
            "2024-01-01 10:00:00 UTC",
            "2024-01-01 10:00:00+00:00:00:00",
            "-0044-03-15",
            "0000-01-01",
            "2024-01-01 1é:00",
            "2024-01-01 10:00:00+1é",
            "2024-01-01 10:00:00+é",
        ] {
            assert_eq!(nanoseconds(text), None, "{text}");
        }
    }
}
