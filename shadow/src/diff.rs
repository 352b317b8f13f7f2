//! [`diff`]: the fields in which two values differ, and [`diff_sets`] for lists compared as sets.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use crate::path::{Segment, join};
use crate::rules::{Left, MAX_PAIRS, Said, cut, rename, same_scalar, without_alike, without_same};
use crate::{Fields, Rules, Value};

/// How deep values are compared: a list or record inside this many others is not opened, and unless
/// it is empty on both sides it is reported as a difference.
pub const MAX_DEPTH: usize = 128;

/// One field that differs.
///
/// `Debug` prints the path and the kinds of the values, no contents: what is shown of a difference is
/// for [`Redaction`](crate::Redaction) to say.
#[derive(Clone, PartialEq)]
pub struct FieldDiff {
    /// Where the field is, by new names (see [`Rules`]); empty when the values differ as a whole.
    pub path: String,
    /// What legacy has there; `None` when the field is absent, which is not the same as null.
    pub legacy: Option<Value>,
    /// What new has there; `None` when the field is absent.
    pub new: Option<Value>,
}

impl fmt::Debug for FieldDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = |value: &Option<Value>| value.as_ref().map_or("absent", Value::kind);
        f.debug_struct("FieldDiff")
            .field("path", &self.path)
            .field("legacy", &format_args!("{}", kind(&self.legacy)))
            .field("new", &format_args!("{}", kind(&self.new)))
            .finish()
    }
}

/// The fields in which `legacy` and `new` differ under `rules`; empty when they are equal.
///
/// 1. Records are compared by field, lists by index; what one side lacks is one difference, however
///    much it holds.
/// 2. Values of different kinds differ, null and absent differ, and floats are equal when their bits
///    are: `NaN` equals the same `NaN`, and `-0.0` differs from `0.0`.
/// 3. The order is that of the names and indices, so equal input gives equal output. Fields that a
///    rename could not place come last.
/// 4. Deeper than [`MAX_DEPTH`] nothing is compared and everything is reported, so deep input costs no
///    stack and is never taken for equal.
///
/// ```
/// use changeover_shadow::{Rules, Value, diff};
/// let legacy = Value::from(serde_json::json!({"state": "ACTIVE", "lines": [1, 2]}));
/// let new = Value::from(serde_json::json!({"state": "active", "lines": [1]}));
/// let found = diff(&legacy, &new, &Rules::new());
/// let paths: Vec<_> = found.iter().map(|field| field.path.as_str()).collect();
/// assert_eq!(paths, ["lines.1", "state"]);
/// assert_eq!(found[0].new, None);
/// ```
#[must_use]
pub fn diff(legacy: &Value, new: &Value, rules: &Rules) -> Vec<FieldDiff> {
    if rules.renames().is_empty() {
        return Walk::down(rules, legacy, new);
    }
    let renamed = rename(legacy, rules.renames());
    // One level more than is compared: what is too deep must not look empty.
    let moved = renamed.view.to_value(MAX_DEPTH + 1);
    let mut found = Walk::down(rules, &moved, new);
    for field in &renamed.stranded {
        if !rules.ignores(&field.from) && !rules.ignores(&field.to) {
            let legacy = Some(field.value.to_value(MAX_DEPTH));
            found.push(FieldDiff {
                path: join(&field.from),
                legacy,
                new: None,
            });
        }
    }
    found
}

/// The fields in which two answers of the legacy side differ, by new names: what [`diff`] would compare,
/// if the new side had answered the second.
#[must_use]
pub fn diff_legacy(one: &Value, other: &Value, rules: &Rules) -> Vec<FieldDiff> {
    let moved = |value| rename(value, rules.renames()).view.to_value(MAX_DEPTH + 1);
    Walk::down(rules, &moved(one), &moved(other))
}

/// The fields in which two answers of the new side differ.
#[must_use]
pub fn diff_new(one: &Value, other: &Value, rules: &Rules) -> Vec<FieldDiff> {
    Walk::down(rules, one, other)
}

/// What [`diff_sets`] found. `Debug` prints counts alone, since keys can be personal too.
#[derive(Clone, PartialEq)]
pub struct SetDiff<K> {
    /// Keys that legacy alone has, in order.
    pub missing_in_new: Vec<K>,
    /// Keys that new alone has, in order.
    pub extra_in_new: Vec<K>,
    /// Keys that both have, with the fields that differ, in order.
    pub different: Vec<(K, Vec<FieldDiff>)>,
}

impl<K> SetDiff<K> {
    /// Whether the two sets are equal.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.missing_in_new.is_empty() && self.extra_in_new.is_empty() && self.different.is_empty()
    }

    /// Every key that differs in some way, each once: those to look at again, by key.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        let different = self.different.iter().map(|(key, _)| key);
        self.missing_in_new
            .iter()
            .chain(&self.extra_in_new)
            .chain(different)
    }
}

impl<K> fmt::Debug for SetDiff<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetDiff")
            .field("missing_in_new", &self.missing_in_new.len())
            .field("extra_in_new", &self.extra_in_new.len())
            .field("different", &self.different.len())
            .finish()
    }
}

/// Compares two lists as sets of keyed rows: their order does not matter, and each row is compared
/// with its namesake under `rules`.
///
/// A difference here is a single look. It is confirmed, or not, by looking again:
/// [`judge_lists`](crate::judge_lists).
///
/// ```
/// use std::collections::BTreeMap;
/// use changeover_shadow::{Rules, Value, diff_sets};
/// let legacy = BTreeMap::from([(1, Value::from("a")), (2, Value::from("b"))]);
/// let new = BTreeMap::from([(2, Value::from("B")), (3, Value::from("c"))]);
/// let found = diff_sets(&legacy, &new, &Rules::new());
/// assert_eq!((&found.missing_in_new[..], &found.extra_in_new[..]), (&[1][..], &[3][..]));
/// assert_eq!(found.different[0].0, 2);
/// ```
#[must_use]
pub fn diff_sets<K: Ord + Clone>(
    legacy: &BTreeMap<K, Value>,
    new: &BTreeMap<K, Value>,
    rules: &Rules,
) -> SetDiff<K> {
    let extra = new.keys().filter(|key| !legacy.contains_key(key));
    let mut found = SetDiff {
        missing_in_new: Vec::new(),
        extra_in_new: extra.cloned().collect(),
        different: Vec::new(),
    };
    for (key, row) in legacy {
        let Some(namesake) = new.get(key) else {
            found.missing_in_new.push(key.clone());
            continue;
        };
        let fields = diff(row, namesake, rules);
        if !fields.is_empty() {
            found.different.push((key.clone(), fields));
        }
    }
    found
}

/// A walk down both values at once. It recurses, at most [`MAX_DEPTH`] deep.
struct Walk<'a> {
    rules: &'a Rules,
    path: Vec<Segment<'a>>,
    found: Vec<FieldDiff>,
    /// How many pairs of unordered items may still be tried.
    pairs: usize,
}

impl<'a> Walk<'a> {
    fn down(rules: &'a Rules, legacy: &'a Value, new: &'a Value) -> Vec<FieldDiff> {
        let mut walk = Walk {
            rules,
            path: Vec::new(),
            found: Vec::new(),
            pairs: MAX_PAIRS,
        };
        walk.compare(Some(legacy), Some(new));
        walk.found
    }

    /// Goes one step down.
    fn at(&mut self, segment: Segment<'a>, legacy: Option<&'a Value>, new: Option<&'a Value>) {
        self.path.push(segment);
        self.compare(legacy, new);
        self.path.pop();
    }

    /// Does with the field here what the rules say.
    fn compare(&mut self, legacy: Option<&'a Value>, new: Option<&'a Value>) {
        let said = self.rules.say(&self.path, legacy, new);
        let open = self.levels_left() > 0;
        match (legacy, new) {
            _ if said == Said::Equal => {}
            (Some(Value::Record(legacy)), Some(Value::Record(new)))
                if open || (legacy.is_empty() && new.is_empty()) =>
            {
                self.records(legacy, new);
            }
            (Some(Value::List(legacy)), Some(Value::List(new)))
                if open || (legacy.is_empty() && new.is_empty()) =>
            {
                match said {
                    Said::Unordered => self.unordered(legacy, new),
                    _ => self.lists(legacy, new),
                }
            }
            (Some(legacy), Some(new)) if same_scalar(legacy, new) => {}
            (legacy, new) => self.report(legacy, new),
        }
    }

    /// Merges the fields of two records, both in the order of their names.
    fn records(&mut self, legacy: &'a Fields, new: &'a Fields) {
        let (mut legacy, mut new) = (legacy.iter().peekable(), new.iter().peekable());
        loop {
            let (name, order) = match (legacy.peek(), new.peek()) {
                (None, None) => break,
                (Some((name, _)), None) => (*name, Ordering::Less),
                (None, Some((name, _))) => (*name, Ordering::Greater),
                (Some((name, _)), Some((other, _))) => (*name.min(other), name.cmp(other)),
            };
            let in_legacy = if order.is_le() { legacy.next() } else { None };
            let in_new = if order.is_ge() { new.next() } else { None };
            let (in_legacy, in_new) = (in_legacy.map(|field| field.1), in_new.map(|field| field.1));
            self.at(Segment::Field(name), in_legacy, in_new);
        }
    }

    fn lists(&mut self, legacy: &'a [Value], new: &'a [Value]) {
        for index in 0..legacy.len().max(new.len()) {
            self.at(Segment::Index(index), legacy.get(index), new.get(index));
        }
    }

    fn unordered(&mut self, legacy: &'a [Value], new: &'a [Value]) {
        let same = Rules::new();
        let same = |one: &Value, other: &Value| Walk::down(&same, one, other).is_empty();
        let mut left = without_same(legacy, new, same);
        let pairs = left.in_legacy.len().saturating_mul(left.in_new.len());
        if let Some(pairs) = self.pairs.checked_sub(pairs) {
            self.pairs = pairs;
            left = without_alike(left, |one, other| {
                let known = self.found.len();
                self.at(
                    Segment::Index(one.min(other)),
                    legacy.get(one),
                    new.get(other),
                );
                let alike = self.found.len() == known;
                self.found.truncate(known);
                alike
            });
        }
        let Left { in_legacy, in_new } = left;
        if let ([one], [other]) = (&in_legacy[..], &in_new[..]) {
            let (in_legacy, in_new) = (legacy.get(*one), new.get(*other));
            return self.at(Segment::Index(*one.min(other)), in_legacy, in_new);
        }
        for index in in_legacy {
            self.at(Segment::Index(index), legacy.get(index), None);
        }
        for index in in_new {
            self.at(Segment::Index(index), None, new.get(index));
        }
    }

    fn report(&mut self, legacy: Option<&Value>, new: Option<&Value>) {
        let levels = self.levels_left();
        let kept = |value: Option<&Value>| value.map(|value| cut(value, levels));
        self.found.push(FieldDiff {
            path: join(&self.path),
            legacy: kept(legacy),
            new: kept(new),
        });
    }

    fn levels_left(&self) -> usize {
        MAX_DEPTH.saturating_sub(self.path.len())
    }
}

#[cfg(test)]
mod tests {
    use std::mem::ManuallyDrop;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn tree() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Boolean),
            (0_i64..4).prop_map(Value::Integer),
            any::<u64>().prop_map(|bits| Value::Float(f64::from_bits(bits))),
            prop_oneof![Just(f64::NAN), Just(0.0), Just(-0.0)].prop_map(Value::Float),
            "[0-3]".prop_map(Value::Decimal),
            "[a-c.*\\\\]{0,2}".prop_map(Value::Text),
            proptest::collection::vec(any::<u8>(), 0..2).prop_map(Value::Bytes),
        ];
        scalar.prop_recursive(5, 40, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                proptest::collection::btree_map("[a-c.*]{0,2}", inner, 0..4).prop_map(Value::from),
            ]
        })
    }

    /// The same by bits: what `==` says, but for floats.
    fn identical(one: &Value, other: &Value) -> bool {
        diff(one, other, &Rules::new()).is_empty()
    }

    proptest! {
        #[test]
        fn a_value_equals_itself_and_both_directions_agree(one in tree(), other in tree()) {
            prop_assert_eq!(diff(&one, &one, &Rules::new()), vec![]);
            let (there, back) = (diff(&one, &other, &Rules::new()), diff(&other, &one, &Rules::new()));
            let there: Vec<_> = there.into_iter().map(|field| field.path).collect();
            let back: Vec<_> = back.into_iter().map(|field| field.path).collect();
            prop_assert_eq!(&there, &back);
            // An oracle that shares no code: the derived Debug text holds every value.
            let print_alike = format!("{one:?}") == format!("{other:?}");
            prop_assert!(print_alike || !there.is_empty(), "different values with an empty diff");
        }

        #[test]
        fn ignoring_each_reported_path_leaves_nothing(one in tree(), other in tree()) {
            let found = diff(&one, &other, &Rules::new());
            prop_assume!(found.iter().all(|field| !field.path.is_empty()));
            let rules = found.iter().fold(Rules::new(), |rules, field| rules.ignore(&field.path));
            prop_assert_eq!(rules.check(), Ok(()));
            prop_assert_eq!(diff(&one, &other, &rules), vec![]);
        }

        #[test]
        fn a_rename_and_its_inverse_change_nothing(inner in tree(), rest in tree()) {
            let legacy = Value::record([("x", Value::record([("old", inner)])), ("rest", rest)]);
            let there = Rules::new().rename("x.old", "new.deep.er").rename("rest", "more");
            let back = Rules::new().rename("new.deep.er", "x.old").rename("more", "rest");
            let moved = rename(&legacy, there.renames()).view.to_value(MAX_DEPTH);
            prop_assert!(!identical(&legacy, &moved));
            prop_assert_eq!(diff(&legacy, &moved, &there), vec![]);
            prop_assert_eq!(diff(&moved, &legacy, &back), vec![]);
            let again = rename(&moved, back.renames()).view.to_value(MAX_DEPTH);
            prop_assert!(identical(&legacy, &again));
        }

        #[test]
        fn no_rule_panics_on_any_tree(
            one in tree(),
            other in tree(),
            paths in proptest::collection::vec(r"[ab*.0\\]{0,5}", 4),
        ) {
            let rules = Rules::new()
                .rename(&paths[0], &paths[1])
                .rename(&paths[2], &paths[3])
                .ignore(&paths[1]);
            let _ = (diff(&one, &other, &rules), diff(&one, &one, &rules));
        }
    }

    #[test]
    fn floats_are_compared_by_bits() {
        let differ = |one: f64, other: f64| !identical(&one.into(), &other.into());
        assert!(!differ(f64::NAN, f64::NAN));
        assert!(differ(0.0, -0.0));
        assert!(differ(0.1 + 0.2, 0.3));
    }

    #[test]
    fn null_and_absent_and_kinds_differ() {
        let one = json!({"a": null, "b": 1, "c": {"d": [1, 2]}}).into();
        let other = json!({"b": "1", "c": null}).into();
        let found = diff(&one, &other, &Rules::new());
        let absent = FieldDiff {
            path: "a".to_owned(),
            legacy: Some(Value::Null),
            new: None,
        };
        assert_eq!(found.first(), Some(&absent));
        let paths: Vec<_> = found.iter().map(|field| field.path.as_str()).collect();
        assert_eq!(paths, ["a", "b", "c"], "what is absent is one difference");
    }

    #[test]
    fn a_stranded_rename_shows_even_if_the_rest_is_equal() {
        let rules = Rules::new().rename("a", "b");
        let found = diff(
            &json!({"a": 1, "b": 2}).into(),
            &json!({"b": 2}).into(),
            &rules,
        );
        let stranded = FieldDiff {
            path: "a".to_owned(),
            legacy: Some(1.into()),
            new: None,
        };
        assert_eq!(found, [stranded]);
        let ignored = rules.ignore("b");
        assert!(
            diff(
                &json!({"a": 1, "b": 2}).into(),
                &json!({"b": 3}).into(),
                &ignored
            )
            .is_empty()
        );
    }

    /// `levels` lists, one inside the other, around a number.
    fn nested(levels: usize) -> Value {
        (0..levels).fold(Value::from(1), |inner, _| Value::List(vec![inner]))
    }

    #[test]
    fn what_is_too_deep_is_reported_and_costs_no_stack() {
        let compared = nested(MAX_DEPTH);
        assert_eq!(diff(&compared, &compared, &Rules::new()), vec![]);
        let deep = nested(MAX_DEPTH + 1);
        let found = diff(&deep, &deep, &Rules::new());
        assert_eq!(found.len(), 1, "too deep is never equal");
        assert_eq!(found[0].path.split('.').count(), MAX_DEPTH);
        let rules = Rules::new().ignore(&found[0].path);
        assert_eq!(diff(&deep, &deep, &rules), vec![]);

        // Dropping it is what would overflow: that is the maker's to mind.
        let bottomless = ManuallyDrop::new(nested(1_000_000));
        let row = Value::record([("x", 1)]);
        assert_eq!(diff(&bottomless, &bottomless, &Rules::new()).len(), 1);
        assert_eq!(diff(&bottomless, &row, &Rules::new()).len(), 1);
        assert_eq!(
            diff(&row, &bottomless, &Rules::new().rename("x", "y.z")).len(),
            1
        );
    }

    #[test]
    fn sets_are_compared_by_key() {
        let rows = |rows: &[(i64, &str)]| {
            rows.iter()
                .map(|(key, text)| (*key, Value::from(*text)))
                .collect::<BTreeMap<_, _>>()
        };
        let found = diff_sets(
            &rows(&[(1, "a"), (2, "b"), (3, "c")]),
            &rows(&[(3, "c"), (2, "CANARY"), (4, "d")]),
            &Rules::new(),
        );
        assert_eq!(found.keys().collect::<Vec<_>>(), [&1, &4, &2]);
        assert_eq!(
            format!("{found:?}"),
            "SetDiff { missing_in_new: 1, extra_in_new: 1, different: 1 }"
        );
        let same = rows(&[(1, "a")]);
        assert!(diff_sets(&same, &same, &Rules::new()).is_empty());
    }

    #[test]
    fn debug_prints_kinds_only() {
        let found = diff(
            &json!({"a": "CANARY"}).into(),
            &json!({}).into(),
            &Rules::new(),
        );
        assert_eq!(
            format!("{found:?}"),
            r#"[FieldDiff { path: "a", legacy: text, new: absent }]"#
        );
    }
}
