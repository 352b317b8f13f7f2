//! Sums over rows: what each side computes in its own database, so that equal rows need not travel.
//!
//! A [`Sum`] is made of a hash of every row. A row's hash covers the name of its target, its key, the
//! key's version, and each column in the mapping's order with its type, so that `NULL` and the empty
//! text, two columns exchanged and two rows exchanged are all different. Hashes are added up, hence
//! their order does not matter, a row that stands twice counts twice, and the sum of a span is that of
//! its parts.
//!
//! A hash has 128 bits and begins with a salt that each verify draws anew: two sides that differ and
//! have one sum, as good as impossible by chance, do not have one the next time. It is no defence
//! against somebody who chooses rows and knows the salt.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::AddAssign;

use changeover_flags::{Key, Version};
use changeover_shadow::Value;
use md5::{Digest as _, Md5};
use serde::Serialize;

/// Keys in the order of the key columns: those above `after`, up to `upto` and with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Span {
    /// `None`: from the first key on.
    pub after: Option<Key>,
    /// `None`: to the last key.
    pub upto: Option<Key>,
}

impl Span {
    /// The keys above `after`, all of them without one.
    #[must_use]
    pub const fn above(after: Option<Key>) -> Span {
        Span { after, upto: None }
    }

    /// What these spans are together, if each begins where the one before ends.
    #[must_use]
    pub fn together(spans: &[Span]) -> Option<Span> {
        let beside = |pair: &[Span]| match pair {
            [one, other] => one.upto.is_some() && one.upto == other.after,
            _ => false,
        };
        let (first, last) = (spans.first()?, spans.last()?);
        spans.windows(2).all(beside).then(|| Span {
            after: first.after.clone(),
            upto: last.upto.clone(),
        })
    }

    /// Whether it contains `key` where keys are ordered as their texts are, as in a store in memory.
    #[must_use]
    pub fn contains_text(&self, key: &Key) -> bool {
        self.after.as_ref().is_none_or(|after| key > after)
            && self.upto.as_ref().is_none_or(|upto| key <= upto)
    }
}

/// The rows of a span in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    rows: u64,
    hashes: [i128; 2],
}

impl Sum {
    /// A sum that a database computed: how many rows, and both halves of their hashes added up.
    #[must_use]
    pub const fn of(rows: u64, hashes: [i128; 2]) -> Sum {
        Sum { rows, hashes }
    }

    /// How many rows there are.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds one row of `target`, where no database hashes: its key, the version of that, and its
    /// columns in the mapping's order.
    pub fn add_row(
        &mut self,
        salt: u64,
        target: &str,
        key: &Key,
        version: Option<Version>,
        columns: &[Value],
    ) {
        self.rows += 1;
        for (half, sum) in self.hashes.iter_mut().enumerate() {
            let mut hasher = DefaultHasher::new();
            (salt, half, target, key.as_str()).hash(&mut hasher);
            version.map(|version| version.0).hash(&mut hasher);
            hash_list(columns, &mut hasher);
            *sum += i128::from(hasher.finish());
        }
    }

    /// Adds one row that is a text, as all engines write it: both halves of its MD5.
    pub(crate) fn add_text(&mut self, text: &str) {
        self.rows += 1;
        let hash = u128::from_be_bytes(Md5::digest(text).into());
        for (sum, half) in self.hashes.iter_mut().zip([hash >> 64, hash]) {
            *sum += i128::from(half as u64);
        }
    }
}

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Sum) {
        self.rows += other.rows;
        for (sum, other) in self.hashes.iter_mut().zip(other.hashes) {
            *sum += other;
        }
    }
}

fn hash_list(values: &[Value], hasher: &mut DefaultHasher) {
    values.len().hash(hasher);
    values.iter().for_each(|value| hash_value(value, hasher));
}

/// Equal for values that a verify takes for equal, and for no others: -0 is 0.
fn hash_value(value: &Value, hasher: &mut DefaultHasher) {
    std::mem::discriminant(value).hash(hasher);
    match value {
        Value::Null => {}
        Value::Boolean(value) => value.hash(hasher),
        Value::Integer(value) => value.hash(hasher),
        Value::Float(value) => (value + 0.0).to_bits().hash(hasher),
        Value::Decimal(value) | Value::Text(value) => value.hash(hasher),
        Value::Bytes(value) => value.hash(hasher),
        Value::List(items) => hash_list(items, hasher),
        Value::Record(fields) => {
            fields.len().hash(hasher);
            for (name, value) in fields.iter() {
                name.hash(hasher);
                hash_value(value, hasher);
            }
        }
    }
}

/// A target whose rows no sum can stand for, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unsummed {
    /// What the mapping calls it; with a column, where it is one's.
    pub target: String,
    /// Why, and what would change it.
    pub why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(rows: &[(&str, i64, &[Value])]) -> Sum {
        let mut sum = Sum::default();
        for (key, version, columns) in rows {
            sum.add_row(7, "t", &Key::new(*key), Some(Version(*version)), columns);
        }
        sum
    }

    #[test]
    fn what_differs_has_another_sum() {
        let text = |text: &str| Value::Text(text.into());
        let plain = sum(&[("1", 0, &[text("a"), text("b")])]);
        for other in [
            sum(&[("1", 0, &[text("b"), text("a")])]),
            sum(&[("1", 0, &[text("ab"), text("")])]),
            sum(&[("1", 0, &[text("a"), text("b"), Value::Null])]),
            sum(&[("2", 0, &[text("a"), text("b")])]),
            sum(&[("1", 1, &[text("a"), text("b")])]),
            sum(&[
                ("1", 0, &[text("a"), text("b")]),
                ("1", 0, &[text("a"), text("b")]),
            ]),
            Sum::default(),
        ] {
            assert_ne!(plain, other);
        }
        let one = |value: Value| sum(&[("1", 0, &[value])]);
        let values = [
            Value::Null,
            text(""),
            text("1"),
            text("NULL"),
            Value::Integer(1),
            Value::Float(1.0),
            Value::Boolean(true),
            Value::Decimal("1".into()),
            Value::Bytes(b"1".to_vec()),
            Value::Bytes(Vec::new()),
            Value::Float(f64::NAN),
            Value::List(vec![Value::Null]),
        ];
        for (n, a) in values.iter().enumerate() {
            for (m, b) in values.iter().enumerate() {
                assert_eq!(one(a.clone()) == one(b.clone()), n == m, "{a:?} {b:?}");
            }
        }
        assert_eq!(one(Value::Float(-0.0)), one(Value::Float(0.0)));
    }

    #[test]
    fn rows_that_exchange_their_columns_are_seen_and_their_order_is_not() {
        let (a, b): ([Value; 1], [Value; 1]) = ([1.into()], [2.into()]);
        let here = sum(&[("1", 0, &a), ("2", 0, &b)]);
        assert_eq!(here, sum(&[("2", 0, &b), ("1", 0, &a)]));
        assert_ne!(here, sum(&[("1", 0, &b), ("2", 0, &a)]));
        let mut parts = sum(&[("1", 0, &a)]);
        parts += sum(&[("2", 0, &b)]);
        assert_eq!(here, parts);
    }

    #[test]
    fn spans_are_one_if_they_are_beside_each_other() {
        let span = |after: Option<i64>, upto: Option<i64>| Span {
            after: after.map(Key::from),
            upto: upto.map(Key::from),
        };
        let (one, two, last) = (
            span(None, Some(3)),
            span(Some(3), Some(7)),
            span(Some(7), None),
        );
        let all = [one.clone(), two.clone(), last.clone()];
        assert_eq!(Span::together(&all), Some(Span::default()));
        assert_eq!(
            Span::together(std::slice::from_ref(&two)),
            Some(two.clone())
        );
        for apart in [
            &[][..],
            &[one.clone(), last.clone()],
            &[two, one],
            &[last.clone(), last],
        ] {
            assert_eq!(Span::together(apart), None, "{apart:?}");
        }
    }

    #[test]
    fn a_salt_is_part_of_every_hash() {
        let with = |salt| {
            let mut sum = Sum::default();
            sum.add_row(salt, "t", &Key::from(1), None, &[]);
            sum
        };
        assert_ne!(with(1), with(2));
        assert_eq!(with(1), with(1));
    }
}
