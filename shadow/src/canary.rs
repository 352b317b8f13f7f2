//! [`altered`]: a difference that nobody's data has, to be put before the comparison, which must see it.

use crate::{MAX_DEPTH, Value};

/// How many fields of one answer are tried, one after the other, until one is seen to differ.
const TRIES: usize = 32;

/// Copies of `value` with one field changed in each, at most 32, beginning at the field that
/// `seed` points to; none for a value in which no field holds anything.
///
/// A number becomes one of the other sign and a million away, a text gets a word more, null becomes a
/// text: far beyond what a rule should excuse. A comparison under rules that still finds no difference
/// in any of them compares nothing.
///
/// ```
/// use changeover_shadow::{Rules, Value, altered, diff};
/// let row = Value::record([("id", Value::from(7)), ("title", "chair".into())]);
/// let sees = |rules| altered(&row, 0).any(|changed| !diff(&row, &changed, &rules).is_empty());
/// assert!(sees(Rules::new().ignore("title")));
/// assert!(!sees(Rules::new().ignore("title").ignore("id")));
/// ```
pub fn altered(value: &Value, seed: u64) -> impl Iterator<Item = Value> + '_ {
    let fields = fields(value, MAX_DEPTH);
    let begin = usize::try_from(seed % u64::try_from(fields.max(1)).unwrap_or(1)).unwrap_or(0);
    (0..fields.min(TRIES)).map(move |more| {
        let mut copy = value.clone();
        let mut before = (begin + more) % fields;
        change(&mut copy, &mut before, MAX_DEPTH);
        copy
    })
}

/// How many scalars stand in `value`, as deep as values are compared.
fn fields(value: &Value, levels: usize) -> usize {
    match value {
        Value::Record(_) | Value::List(_) if levels == 0 => 0,
        Value::Record(inner) => inner.values().map(|inner| fields(inner, levels - 1)).sum(),
        Value::List(items) => items.iter().map(|item| fields(item, levels - 1)).sum(),
        _ => 1,
    }
}

/// Changes the scalar that stands after `before` others; says whether it did.
fn change(value: &mut Value, before: &mut usize, levels: usize) -> bool {
    match value {
        Value::Record(_) | Value::List(_) if levels == 0 => false,
        Value::Record(inner) => {
            let mut inner = inner.values_mut();
            inner.any(|inner| change(inner, before, levels - 1))
        }
        Value::List(items) => items
            .iter_mut()
            .any(|item| change(item, before, levels - 1)),
        _ if *before > 0 => {
            *before -= 1;
            false
        }
        scalar => {
            *scalar = other_than(scalar);
            true
        }
    }
}

fn other_than(scalar: &Value) -> Value {
    const FAR: i64 = 1_000_003;
    match scalar {
        Value::Boolean(truth) => Value::Boolean(!truth),
        Value::Integer(number) if *number < 0 => Value::Integer(number.saturating_neg().max(FAR)),
        Value::Integer(number) => Value::Integer((-*number).saturating_sub(FAR)),
        Value::Float(number) if *number < 0.0 => Value::Float(-number + 1_000_003.0),
        Value::Float(number) if number.is_finite() => Value::Float(-number - 1_000_003.0),
        Value::Float(_) => Value::Float(1_000_003.0),
        Value::Decimal(text) if text.starts_with('-') => Value::Decimal("1000003".to_owned()),
        Value::Decimal(_) => Value::Decimal("-1000003".to_owned()),
        Value::Text(text) => Value::Text(format!("{text} canary")),
        Value::Bytes(bytes) => Value::Bytes(bytes.iter().copied().chain([0x5a]).collect()),
        Value::Null | Value::List(_) | Value::Record(_) => Value::from("canary"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::{Rules, Tolerance, diff};

    #[test]
    fn each_field_is_changed_once_and_seen_under_every_sane_rule() {
        let row: Value = json!({
            "a": null, "b": [true, -7, 7, i64::MIN], "c": {"d": 0.5, "e": -0.5, "f": "2024-01-01"},
        })
        .into();
        let row = Value::record([
            ("row", row),
            ("nan", Value::Float(f64::NAN)),
            ("decimal", Value::Decimal("-1.5".to_owned())),
            ("bytes", Value::Bytes(vec![1])),
            ("empty", Value::List(vec![])),
        ]);
        let rules = Rules::new()
            .fold_case("**")
            .fold_space("**")
            .null_is_absent("**")
            .unordered("**")
            .tolerate("**", Tolerance::Absolute(1_000.0))
            .tolerate("**", Tolerance::Relative(0.999))
            .tolerate("**", Tolerance::Time(Duration::MAX));
        for seed in [0, 5, u64::MAX] {
            let mut paths: Vec<_> = altered(&row, seed)
                .map(|changed| {
                    let found = diff(&row, &changed, &rules);
                    assert_eq!(found.len(), 1, "{changed:?}");
                    found
                        .into_iter()
                        .map(|field| field.path)
                        .collect::<String>()
                })
                .collect();
            paths.sort();
            paths.dedup();
            assert_eq!(paths.len(), 11);
        }
    }

    #[test]
    fn what_holds_nothing_has_no_canary_and_what_is_long_a_bounded_one() {
        for nothing in [json!({}), json!([]), json!({"a": [{}, []]})] {
            assert_eq!(altered(&nothing.into(), 7).count(), 0);
        }
        assert_eq!(altered(&Value::list(0..1_000), 999).count(), TRIES);
        assert_eq!(altered(&1.into(), 9).count(), 1);
    }
}
