//! Lists, compared element by element: [`Elements`], [`ListDiff`], and [`judge_lists`] over two looks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::{FieldDiff, Judgement, Rules, SetDiff, Value, Verdict, diff_sets};

/// The elements of a list by the keys of the aggregates that they show.
///
/// `Debug` prints counts alone. Elements of one key (the photos of a listing, say) are compared as one, a list in their order.
#[derive(Clone, PartialEq)]
pub struct Elements {
    order: Vec<String>,
    by_key: BTreeMap<String, Value>,
}

impl Elements {
    /// Reads both sides' answers as elements whose key stands in `fields`, in the key's order;
    /// `key` makes one text of the fields' texts.
    ///
    /// # Errors
    ///
    /// The answers, to be compared as a whole, unless each is a list of records that all have
    /// every field, as a whole number, a decimal or a text; and if neither has an element, since nothing was
    /// compared then ([`Verdict::Neither`]).
    pub fn of(
        legacy: Value,
        new: Value,
        fields: &[&str],
        key: impl Fn(Vec<String>) -> String,
    ) -> Result<(Elements, Elements), (Value, Value)> {
        match (keys(&legacy, fields, &key), keys(&new, fields, &key)) {
            (Some(in_legacy), Some(in_new)) if !(in_legacy.is_empty() && in_new.is_empty()) => {
                Ok((named(in_legacy, legacy), named(in_new, new)))
            }
            _ => Err((legacy, new)),
        }
    }
}

fn keys(
    list: &Value,
    fields: &[&str],
    key: &impl Fn(Vec<String>) -> String,
) -> Option<Vec<String>> {
    let Value::List(items) = list else {
        return None;
    };
    let part = |item: &Value, field: &&str| match item {
        Value::Record(record) => match record.get(field)? {
            Value::Integer(number) => Some(number.to_string()),
            Value::Decimal(text) | Value::Text(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    };
    let named = |item| {
        let parts: Option<Vec<String>> = fields.iter().map(|field| part(item, field)).collect();
        parts.map(key)
    };
    items.iter().map(named).collect()
}

fn named(order: Vec<String>, list: Value) -> Elements {
    let mut by_key: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    if let Value::List(items) = list {
        for (key, item) in order.iter().zip(items) {
            by_key.entry(key.clone()).or_default().push(item);
        }
    }
    let one = |mut items: Vec<Value>| match items.len() {
        1 => items.swap_remove(0),
        _ => Value::List(items),
    };
    let by_key = by_key.into_iter().map(|(key, items)| (key, one(items)));
    Elements {
        order,
        by_key: by_key.collect(),
    }
}

/// How two lists differ. `Debug` prints counts and kinds, no keys and no contents.
#[derive(Debug, Clone, PartialEq)]
pub struct ListDiff {
    /// The elements that differ, by key.
    pub elements: SetDiff<String>,
    /// The keys in both orders, where order matters and is all that differs.
    pub order: Option<FieldDiff>,
    /// Keys of which the lists show another number of elements.
    pub uneven: BTreeSet<String>,
}

impl ListDiff {
    /// Compares two lists: as sets, each element with its namesake under `rules`, whose paths are
    /// those of an element; and if they are equal and `ordered` says so, by their order.
    #[must_use]
    pub fn between(legacy: &Elements, new: &Elements, rules: &Rules, ordered: bool) -> ListDiff {
        let elements = diff_sets(&legacy.by_key, &new.by_key, rules);
        let moved = ordered && elements.is_empty() && legacy.order != new.order;
        let order = moved.then(|| FieldDiff {
            path: String::new(),
            legacy: Some(Value::list(legacy.order.iter().map(String::as_str))),
            new: Some(Value::list(new.order.iter().map(String::as_str))),
        });
        let count = |side: &Elements| {
            let mut count: BTreeMap<String, usize> = BTreeMap::new();
            for key in &side.order {
                *count.entry(key.clone()).or_default() += 1;
            }
            count
        };
        let (in_legacy, in_new) = (count(legacy), count(new));
        let uneven = in_legacy
            .into_iter()
            .filter(|(key, count)| in_new.get(key).is_some_and(|other| other != count))
            .map(|(key, _)| key)
            .collect();
        ListDiff {
            elements,
            order,
            uneven,
        }
    }

    /// Whether the lists are equal.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty() && self.order.is_none()
    }
}

/// One look at a list on both sides. `Debug` prints no keys.
#[derive(Clone, PartialEq)]
pub struct ListLook {
    /// How the answers differ.
    pub found: ListDiff,
    /// The versions of the keys that differ, on the authority and on the follower, read *after*
    /// the answers. A key that is not told here is taken to be in motion.
    pub versions: BTreeMap<String, (i64, i64)>,
    /// Whether nothing at all was on its way to the follower, asked after the answers.
    pub quiet: bool,
}

impl fmt::Debug for Elements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elements")
            .field("listed", &self.order.len())
            .field("keys", &self.by_key.len())
            .finish()
    }
}

impl fmt::Debug for ListLook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListLook")
            .field("found", &self.found)
            .field("versions", &self.versions.len())
            .field("quiet", &self.quiet)
            .finish()
    }
}

/// Decides what one or two looks at a list mean: one verdict for the whole list.
///
/// A key is *settled* if it differs at both looks, at the same versions, and the follower's is not
/// below the authority's. All other keys are in motion, and what they show is lag.
///
/// 1. Equal at the first look is [`Verdict::Match`], at the second [`Verdict::Healed`]; a
///    difference at the first look is [`Judgement::LookAgain`].
/// 2. An element that both lists have is confirmed to differ if its key is settled, whatever other
///    keys do.
/// 3. An element that one list has alone, or more often, may have been pushed out of the other's page by another
///    key, seen or unseen. It is confirmed only if every key that differs is settled, both looks miss
///    the same elements, and all was quiet at both.
/// 4. Another order is confirmed if it is the same at both looks, and all was quiet at both.
/// 5. Otherwise the list is [`Verdict::Lagging`].
#[must_use]
pub fn judge_lists(first: &ListLook, second: Option<&ListLook>) -> Judgement {
    let Some(second) = second else {
        return match first.found.is_empty() {
            true => Judgement::Final(Verdict::Match),
            false => Judgement::LookAgain,
        };
    };
    Judgement::Final(if second.found.is_empty() {
        Verdict::Healed
    } else {
        confirmed(first, second).unwrap_or(Verdict::Lagging)
    })
}

fn confirmed(first: &ListLook, second: &ListLook) -> Option<Verdict> {
    let quiet = first.quiet && second.quiet;
    if let Some(order) = &second.found.order {
        let same = first.found.order.as_ref() == Some(order);
        return (quiet && same).then(|| Verdict::Mismatch(vec![order.clone()]));
    }
    let differed: BTreeSet<&String> = first.found.elements.keys().collect();
    let settled = |key: &String| {
        let versions = second.versions.get(key);
        let still = versions.is_some() && versions == first.versions.get(key);
        let behind = versions.is_some_and(|(authority, follower)| follower < authority);
        differed.contains(key) && still && !behind
    };
    let (before, mut now) = (&first.found.elements, second.found.elements.clone());
    let same =
        before.missing_in_new == now.missing_in_new && before.extra_in_new == now.extra_in_new;
    let still = quiet && same && now.keys().all(settled);
    if !still {
        now.missing_in_new.clear();
        now.extra_in_new.clear();
    }
    let pushed = |key: &String| !still && second.found.uneven.contains(key);
    now.different
        .retain(|(key, _)| settled(key) && !pushed(key));
    (!now.is_empty()).then_some(Verdict::Elements(now))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Class;

    fn found(legacy: serde_json::Value, new: serde_json::Value, ordered: bool) -> ListDiff {
        let key = |parts: Vec<String>| parts.join(",");
        let rules = Rules::new().ignore("seen");
        match Elements::of(legacy.into(), new.into(), &["id"], key) {
            Ok((legacy, new)) => ListDiff::between(&legacy, &new, &rules, ordered),
            Err(_) => unreachable!("every element has an id"),
        }
    }

    fn row(id: i64, title: &str) -> serde_json::Value {
        json!({"id": id, "title": title, "seen": title.len() * 7})
    }

    /// A look with every key that differs at these versions.
    fn look(found: ListDiff, versions: (i64, i64), quiet: bool) -> ListLook {
        let keys = found.elements.keys();
        let versions = keys.map(|key| (key.clone(), versions)).collect();
        ListLook {
            found,
            versions,
            quiet,
        }
    }

    fn class(first: &ListLook, second: &ListLook) -> Class {
        assert_eq!(judge_lists(first, None), Judgement::LookAgain);
        match judge_lists(first, Some(second)) {
            Judgement::Final(verdict) => verdict.class(),
            Judgement::LookAgain => unreachable!("a second look is the last"),
        }
    }

    #[test]
    fn elements_are_matched_by_key_and_order_matters_where_it_is_said_to() {
        let (a, b) = (row(1, "a"), row(2, "b"));
        let (legacy, new) = (json!([a, b]), json!([b, a]));
        assert!(found(legacy.clone(), new.clone(), false).is_empty());
        let order = found(legacy, new, true);
        assert!(order.elements.is_empty() && order.order.is_some());
        let look = |quiet| look(order.clone(), (0, 0), quiet);
        assert_eq!(class(&look(true), &look(true)), Class::Mismatch);
        assert_eq!(class(&look(true), &look(false)), Class::Lagging);
        // The elements of one key are one: how many they are counts, and so does their order.
        let twice = found(json!([a, a, b]), json!([a, b]), false);
        assert_eq!(twice.elements.different.len(), 1);
        assert!(found(json!([a, b, a]), json!([b, a, a]), false).is_empty());
    }

    /// A page of photos: another listing's, not copied yet, pushed one of these off legacy's page.
    #[test]
    fn a_key_shown_more_often_on_one_side_may_have_been_pushed_off_the_page() {
        let photo = |id: i64, url: &str| json!({"id": id, "url": url});
        let legacy = json!([photo(9, "x"), photo(7, "a"), photo(7, "b")]);
        let new = json!([photo(7, "a"), photo(7, "b"), photo(7, "c")]);
        let pushed = found(legacy, new, false);
        let mut first = look(pushed.clone(), (0, 0), false);
        first.versions.remove("9");
        assert_eq!(class(&first, &first), Class::Lagging);
        let quiet = look(pushed, (0, 0), true);
        assert_ne!(class(&quiet, &quiet), Class::Lagging, "nothing moved");
        // As many on both sides: whatever else moves, these differ.
        let even = found(
            json!([photo(9, "x"), photo(7, "a")]),
            json!([photo(7, "b")]),
            false,
        );
        let busy = look(even, (0, 0), false);
        assert_eq!(class(&busy, &busy), Class::Mismatch);
    }

    #[test]
    fn what_cannot_be_named_is_compared_as_a_whole() {
        let whole = |legacy: serde_json::Value, new: serde_json::Value| {
            Elements::of(legacy.into(), new.into(), &["id"], |parts| parts.join(",")).is_err()
        };
        let fine = json!([row(1, "a")]);
        assert!(!whole(fine.clone(), json!([])) && !whole(json!([]), fine.clone()));
        assert!(whole(json!([]), json!([])), "nothing is compared");
        for bad in [
            json!(3),
            json!({"id": 1}),
            json!([1]),
            json!([{"title": "a"}]),
            json!([{"id": null}]),
            json!([{"id": [1]}]),
        ] {
            assert!(whole(fine.clone(), bad.clone()), "{bad}");
            assert!(whole(bad.clone(), fine.clone()), "{bad}");
        }
    }

    #[test]
    fn a_common_element_is_confirmed_by_its_own_versions_alone() {
        let differs = || {
            found(
                json!([row(1, "a"), row(2, "b")]),
                json!([row(1, "x"), row(2, "y")]),
                false,
            )
        };
        let at = |one, two| {
            let mut look = look(differs(), one, false);
            look.versions.insert("2".into(), two);
            look
        };
        let judged = |first: &ListLook, second: &ListLook| match judge_lists(first, Some(second)) {
            Judgement::Final(Verdict::Elements(found)) => found.keys().cloned().collect(),
            Judgement::Final(verdict) => vec![verdict.class().to_string()],
            Judgement::LookAgain => unreachable!("a second look is the last"),
        };
        assert_eq!(judged(&at((7, 7), (9, 8)), &at((7, 7), (9, 8))), ["1"]);
        assert_eq!(judged(&at((7, 7), (9, 9)), &at((8, 8), (9, 9))), ["2"]);
        assert_eq!(judged(&at((7, 8), (9, 9)), &at((7, 8), (9, 9))), ["1", "2"]);
        assert_eq!(
            judged(&at((7, 6), (9, 9)), &at((7, 7), (9, 8))),
            ["lagging"]
        );
        let mut untold = at((7, 7), (9, 9));
        untold.versions.clear();
        assert_eq!(judged(&untold, &at((7, 7), (9, 9))), ["lagging"]);
        assert_eq!(judged(&untold, &untold), ["lagging"]);
        // It differs at the second look for the first time.
        let healthy = look(
            found(json!([row(1, "a")]), json!([row(1, "x")]), false),
            (7, 7),
            true,
        );
        assert_eq!(judged(&healthy, &at((7, 7), (9, 9))), ["1"]);
        let equal = json!([row(1, "a")]);
        let healed = look(found(equal.clone(), equal, false), (0, 0), true);
        assert_eq!(judged(&at((7, 7), (9, 9)), &healed), ["healed"]);
        assert_eq!(judge_lists(&healed, None), Judgement::Final(Verdict::Match));
    }

    /// Pages of two: legacy shows a newer row, so the oldest falls off its page.
    #[test]
    fn an_element_pushed_off_a_page_is_not_missing() {
        let (old, mid, young) = (row(1, "old"), row(2, "mid"), row(3, "young"));
        let page = || found(json!([young, mid]), json!([mid, old]), false);
        let at = |young, quiet| {
            let mut look = look(page(), (7, 7), quiet);
            look.versions.insert("3".into(), young);
            look
        };
        assert_eq!(class(&at((9, 8), true), &at((9, 8), true)), Class::Lagging);
        assert_eq!(class(&at((8, 8), true), &at((9, 9), true)), Class::Lagging);
        // What pushes may be on neither page.
        assert_eq!(class(&at((9, 9), false), &at((9, 9), true)), Class::Lagging);
        assert_eq!(class(&at((9, 9), true), &at((9, 9), false)), Class::Lagging);
        assert_eq!(
            class(&at((9, 9), true), &at((9, 9), true)),
            Class::MissingInNew
        );
        let other = look(
            found(json!([young]), json!([mid, old]), false),
            (7, 7),
            true,
        );
        assert_eq!(class(&other, &at((7, 7), true)), Class::Lagging);
        let extra = look(found(json!([mid]), json!([mid, old]), false), (7, 7), true);
        assert_eq!(class(&extra, &extra), Class::ExtraInNew);
    }
}
