//! Applies rename rules to a legacy value without copying it: a [`View`] opens only the records and
//! lists that a rule's path goes through, and borrows the rest.

use std::collections::BTreeMap;
use std::mem;

use crate::path::{Pattern, Segment, Step};
use crate::{Fields, Value};

/// Moves what is at `from` to `to`; the n-th `*` means the same on both sides.
#[derive(Debug, Clone)]
pub(crate) struct Rename {
    pub(crate) from: Pattern,
    pub(crate) to: Pattern,
}

/// A legacy value as the rename rules show it.
#[derive(Debug)]
pub(crate) enum View<'a> {
    Whole(&'a Value),
    Record(BTreeMap<&'a str, View<'a>>),
    List(Vec<View<'a>>),
}

/// What [`rename`] gives.
#[derive(Debug)]
pub(crate) struct Renamed<'a> {
    pub(crate) view: View<'a>,
    /// What could not be put where its rule says.
    pub(crate) stranded: Vec<Moved<'a>>,
}

/// A field between its old place and its new one.
#[derive(Debug)]
pub(crate) struct Moved<'a> {
    pub(crate) from: Vec<Segment<'a>>,
    pub(crate) to: Vec<Segment<'a>>,
    pub(crate) value: View<'a>,
}

/// Moves every field that a rule names. All of them leave before the first arrives, so that two
/// fields may change places.
pub(crate) fn rename<'a>(legacy: &'a Value, rules: &'a [Rename]) -> Renamed<'a> {
    let mut view = View::Whole(legacy);
    let mut moved = Vec::new();
    for rule in rules {
        view.take(rule, rule.from.steps(), &mut Vec::new(), &mut moved);
    }
    // A record arrives before what goes inside it.
    moved.sort_by_key(|field| field.to.len());
    let mut stranded = Vec::new();
    for Moved { from, to, value } in moved {
        if let Err(value) = view.put(&to, value) {
            stranded.push(Moved { from, to, value });
        }
    }
    Renamed { view, stranded }
}

impl<'a> View<'a> {
    /// A copy cut to `levels` of nesting: a list or record below is kept as an empty one.
    pub(crate) fn to_value(&self, levels: usize) -> Value {
        match self {
            View::Whole(value) => cut(value, levels),
            View::Record(_) if levels == 0 => Value::Record(Fields::new()),
            View::List(_) if levels == 0 => Value::List(Vec::new()),
            View::Record(fields) => {
                let fields = fields.iter();
                Value::record(
                    fields.map(|(name, field)| ((*name).to_owned(), field.to_value(levels - 1))),
                )
            }
            View::List(items) => Value::list(items.iter().map(|item| item.to_value(levels - 1))),
        }
    }

    /// Lets the fields or items of a borrowed record or list be changed one by one.
    fn open(&mut self) {
        match self {
            View::Whole(Value::Record(fields)) => {
                let fields = fields.iter();
                *self = View::Record(
                    fields
                        .map(|(name, field)| (name, View::Whole(field)))
                        .collect(),
                );
            }
            View::Whole(Value::List(items)) => {
                *self = View::List(items.iter().map(View::Whole).collect());
            }
            _ => {}
        }
    }

    fn is_empty_record(&self) -> bool {
        matches!(self, View::Record(fields) if fields.is_empty())
    }

    /// Takes out what is at `steps`, the rest of the rule's legacy path.
    fn take(
        &mut self,
        rule: &'a Rename,
        steps: &[Step],
        path: &mut Vec<Segment<'a>>,
        moved: &mut Vec<Moved<'a>>,
    ) {
        let Some((step, rest)) = steps.split_first() else {
            return;
        };
        self.open();
        match self {
            View::Record(fields) => fields.retain(|name, field| {
                if !step.matches(Segment::Field(name)) {
                    return true;
                }
                path.push(Segment::Field(name));
                let before = moved.len();
                if rest.is_empty() {
                    let value = mem::replace(field, View::Record(BTreeMap::new()));
                    moved.push(Moved {
                        from: path.clone(),
                        to: target(rule, path),
                        value,
                    });
                } else {
                    field.take(rule, rest, path, moved);
                }
                path.pop();
                moved.len() == before || !field.is_empty_record()
            }),
            // An item cannot leave its list: those behind it would change their numbers.
            View::List(items) if !rest.is_empty() => {
                for (index, item) in items.iter_mut().enumerate() {
                    if step.matches(Segment::Index(index)) {
                        path.push(Segment::Index(index));
                        item.take(rule, rest, path, moved);
                        path.pop();
                    }
                }
            }
            _ => {}
        }
    }

    /// Puts `value` at `path`, or gives it back where something is in the way.
    fn put(&mut self, path: &[Segment<'a>], value: View<'a>) -> Result<(), View<'a>> {
        let Some((segment, rest)) = path.split_first() else {
            return Err(value);
        };
        self.open();
        match (self, *segment) {
            (View::Record(fields), Segment::Field(name)) => match fields.get_mut(name) {
                Some(field) => field.put(rest, value),
                None => {
                    fields.insert(name, wrapped(rest, value)?);
                    Ok(())
                }
            },
            (View::List(items), segment) => match item_number(segment) {
                Some(number) if number < items.len() => match items.get_mut(number) {
                    Some(item) => item.put(rest, value),
                    None => Err(value),
                },
                _ => Err(value),
            },
            _ => Err(value),
        }
    }
}

/// `value` inside the new records that `path` asks for. No list is made: it would need the items
/// before the one that is named.
fn wrapped<'a>(path: &[Segment<'a>], value: View<'a>) -> Result<View<'a>, View<'a>> {
    if path
        .iter()
        .any(|segment| matches!(segment, Segment::Index(_)))
    {
        return Err(value);
    }
    Ok(path
        .iter()
        .rev()
        .fold(value, |inner, segment| match segment {
            Segment::Field(name) => View::Record(BTreeMap::from([(*name, inner)])),
            Segment::Index(_) => inner,
        }))
}

fn item_number(segment: Segment<'_>) -> Option<usize> {
    match segment {
        Segment::Index(index) => Some(index),
        Segment::Field(name) => name.parse().ok(),
    }
}

/// The rule's new path, with what its wildcards met at `from`.
fn target<'a>(rule: &'a Rename, from: &[Segment<'a>]) -> Vec<Segment<'a>> {
    let steps = rule.from.steps().iter().zip(from);
    let mut met = steps
        .filter(|(step, _)| **step == Step::Any)
        .map(|(_, segment)| *segment);
    let target = rule.to.steps().iter().filter_map(|step| match step {
        Step::Any | Step::AnyDepth => met.next(),
        Step::Name(name, _) => Some(Segment::Field(name)),
    });
    target.collect()
}

/// A copy of `value` cut to `levels` of nesting.
pub(crate) fn cut(value: &Value, levels: usize) -> Value {
    match value {
        Value::Record(_) if levels == 0 => Value::Record(Fields::new()),
        Value::List(_) if levels == 0 => Value::List(Vec::new()),
        Value::Record(fields) => Value::record(
            fields
                .iter()
                .map(|(name, field)| (name.to_owned(), cut(field, levels - 1))),
        ),
        Value::List(items) => Value::list(items.iter().map(|item| cut(item, levels - 1))),
        scalar => scalar.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{MAX_DEPTH, Rules};

    fn renamed(legacy: serde_json::Value, rules: &Rules) -> (Value, usize) {
        rules.check().expect("good rules");
        let legacy = Value::from(legacy);
        let renamed = rename(&legacy, rules.renames());
        (renamed.view.to_value(MAX_DEPTH), renamed.stranded.len())
    }

    #[test]
    fn fields_move_between_levels_and_through_lists() {
        let rules = Rules::new()
            .rename("lines", "items")
            .rename("lines.*.qty", "items.*.quantity")
            .rename("street", "address.street")
            .rename("old.city", "address.city");
        let legacy =
            json!({"lines": [{"qty": 1, "n": 0}, {"qty": 2}], "street": "S", "old": {"city": "C"}});
        let expected = json!({
            "items": [{"quantity": 1, "n": 0}, {"quantity": 2}],
            "address": {"street": "S", "city": "C"},
        });
        assert_eq!(renamed(legacy, &rules), (expected.into(), 0));
    }

    #[test]
    fn two_fields_change_places() {
        let rules = Rules::new()
            .rename("a", "b")
            .rename("b", "a")
            .rename("c", "c.inner");
        let expected = json!({"a": 2, "b": 1, "c": {"inner": 3}});
        assert_eq!(
            renamed(json!({"a": 1, "b": 2, "c": 3}), &rules),
            (expected.into(), 0)
        );
    }

    #[test]
    fn nothing_is_overwritten() {
        let rules = Rules::new().rename("a", "b");
        assert_eq!(
            renamed(json!({"a": 1, "b": 2}), &rules),
            (json!({"b": 2}).into(), 1)
        );
        let rules = Rules::new().rename("a", "b.c");
        assert_eq!(
            renamed(json!({"a": 1, "b": 2}), &rules),
            (json!({"b": 2}).into(), 1)
        );
        let rules = Rules::new().rename("l.*.a", "m.*.a");
        assert_eq!(
            renamed(json!({"l": [{"a": 1}]}), &rules),
            (json!({"l": [{}]}).into(), 1)
        );
    }
}
