//! Numbers as they are written, compared digit by digit: no kind of number is rounded to another.

use std::cmp::Ordering;

use crate::Value;

/// The most digits of a number that a tolerance reads. A longer one is equal to itself alone.
pub(super) const MAX_DIGITS: usize = 2_000;

/// Whether two numbers are at most `bound` apart; `None` unless both are numbers.
pub(super) fn within(legacy: &Value, new: &Value, bound: Bound) -> Option<bool> {
    let (legacy, new) = (Number::read(legacy)?, Number::read(new)?);
    Some(match (&legacy, &new) {
        (Number::Finite(legacy), Number::Finite(new)) => {
            let distance = legacy.distance(new);
            match bound {
                Bound::Absolute(most) => Digits::parse(&most.to_string())
                    .is_some_and(|most| distance.size_to(&most).is_le()),
                Bound::Relative(share) => Digits::parse(&share.to_string()).is_some_and(|share| {
                    let larger = if legacy.size_to(new).is_ge() {
                        legacy
                    } else {
                        new
                    };
                    distance.size_to(&share.times(larger)).is_le()
                }),
            }
        }
        _ => legacy == new,
    })
}

/// How far apart two numbers may be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bound {
    /// By so much.
    Absolute(f64),
    /// By this share of the larger of the two, signs apart.
    Relative(f64),
}

#[derive(Debug, PartialEq)]
enum Number {
    /// `NaN`.
    Undefined,
    Infinite {
        negative: bool,
    },
    Finite(Digits),
}

impl Number {
    fn read(value: &Value) -> Option<Number> {
        let infinite = |negative| Some(Number::Infinite { negative });
        match value {
            Value::Integer(number) => Digits::parse(&number.to_string()).map(Number::Finite),
            Value::Float(number) if number.is_nan() => Some(Number::Undefined),
            Value::Float(number) if number.is_infinite() => infinite(*number < 0.0),
            // The shortest decimal that reads back as this float: what JSON and a store print.
            Value::Float(number) => Digits::parse(&number.to_string()).map(Number::Finite),
            Value::Decimal(text) => match text.to_ascii_lowercase().as_str() {
                "nan" => Some(Number::Undefined),
                "infinity" | "inf" => infinite(false),
                "-infinity" | "-inf" => infinite(true),
                text => Digits::parse(text).map(Number::Finite),
            },
            _ => None,
        }
    }
}

/// A finite number: its digits, the most significant first, of which `places` stand after the point.
#[derive(Debug, PartialEq)]
struct Digits {
    negative: bool,
    digits: Vec<u8>,
    places: usize,
}

impl Digits {
    /// Reads `-12.50`, `+3`, `.5`, `1e-7`; nothing else, and nothing of more than [`MAX_DIGITS`].
    fn parse(text: &str) -> Option<Digits> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(text) => (true, text),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let exponent_digits = usize::try_from(exponent.unsigned_abs()).ok()?;
        let length = whole.len().checked_add(fraction.len())?;
        if length == 0 || length.checked_add(exponent_digits)? > MAX_DIGITS {
            return None;
        }
        let digit = |byte: u8| byte.is_ascii_digit().then(|| byte - b'0');
        let digits = whole.bytes().chain(fraction.bytes()).map(digit);
        let mut digits = digits.collect::<Option<Vec<u8>>>()?;
        let places = if exponent >= 0 {
            let more = exponent_digits.saturating_sub(fraction.len());
            digits.resize(digits.len() + more, 0);
            fraction.len().saturating_sub(exponent_digits)
        } else {
            fraction.len() + exponent_digits
        };
        Some(Digits {
            negative,
            digits,
            places,
        })
    }

    /// The absolute value of the difference.
    fn distance(&self, other: &Digits) -> Digits {
        let (one, another, places) = self.aligned(other);
        let digits = if self.negative != other.negative {
            let mut carry = 0;
            let mut sum = carried(&one, &another, |one, another| {
                let sum = one + another + carry;
                carry = sum / 10;
                sum % 10
            });
            sum.insert(0, carry);
            sum
        } else {
            let (more, less) = if one >= another {
                (one, another)
            } else {
                (another, one)
            };
            let mut borrowed = 0;
            carried(&more, &less, |from, take| {
                let take = take + borrowed;
                borrowed = u8::from(from < take);
                from + 10 * borrowed - take
            })
        };
        Digits {
            negative: false,
            digits,
            places,
        }
    }

    /// The product of the absolute values.
    fn times(&self, other: &Digits) -> Digits {
        let mut sums = vec![0_u32; self.digits.len() + other.digits.len()];
        for (i, one) in self.digits.iter().rev().enumerate() {
            for (sum, another) in sums.iter_mut().skip(i).zip(other.digits.iter().rev()) {
                *sum += u32::from(*one) * u32::from(*another);
            }
        }
        let mut carry = 0;
        let digits = sums.iter().map(|sum| {
            let sum = sum + carry;
            carry = sum / 10;
            u8::try_from(sum % 10).unwrap_or(0)
        });
        let mut digits: Vec<u8> = digits.collect();
        digits.reverse();
        Digits {
            negative: false,
            digits,
            places: self.places + other.places,
        }
    }

    /// Compares the absolute values.
    fn size_to(&self, other: &Digits) -> Ordering {
        let (one, another, _) = self.aligned(other);
        one.cmp(&another)
    }

    /// Both, with as many digits before and after the point.
    fn aligned(&self, other: &Digits) -> (Vec<u8>, Vec<u8>, usize) {
        let places = self.places.max(other.places);
        let whole = |number: &Digits| number.digits.len().saturating_sub(number.places);
        let whole = whole(self).max(whole(other));
        let padded = |number: &Digits| {
            let mut digits = number.digits.clone();
            digits.resize(digits.len() + places - number.places, 0);
            let missing = (whole + places).saturating_sub(digits.len());
            digits.splice(0..0, std::iter::repeat_n(0, missing));
            digits
        };
        (padded(self), padded(other), places)
    }
}

/// Applies `step` to the digits of two numbers of one length, the least significant first.
fn carried(one: &[u8], another: &[u8], mut step: impl FnMut(u8, u8) -> u8) -> Vec<u8> {
    let pairs = one.iter().zip(another).rev();
    let mut digits: Vec<u8> = pairs.map(|(one, another)| step(*one, *another)).collect();
    digits.reverse();
    digits
}
