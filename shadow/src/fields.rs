//! [`Fields`]: the fields of a record, by their names.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::mem::swap;

use crate::Value;

/// The fields of a [`Value::Record`], in the order of their names, each name once.
///
/// One sorted list, in which names that are literals are not copied: a row is made into a record while somebody may
/// wait for it, compared and dropped, and hardly ever searched.
///
/// ```
/// use changeover_shadow::{Fields, Value};
/// let fields: Fields = [("title", Value::from("chair")), ("id", 7.into())].into_iter().collect();
/// assert_eq!(fields.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["id", "title"]);
/// assert_eq!(fields.get("id"), Some(&Value::from(7)));
/// ```
#[derive(Clone, Default, PartialEq)]
pub struct Fields(Vec<(Cow<'static, str>, Value)>);

impl Fields {
    /// None.
    #[must_use]
    pub const fn new() -> Fields {
        Fields(Vec::new())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of the field of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        let place = self.0.binary_search_by(|(own, _)| (**own).cmp(name));
        self.0.get(place.ok()?).map(|(_, value)| value)
    }

    /// The fields, in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// The values, in the order of their names.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &Value> {
        self.0.iter().map(|(_, value)| value)
    }

    /// The values, to be changed.
    pub fn values_mut(&mut self) -> impl ExactSizeIterator<Item = &mut Value> {
        self.0.iter_mut().map(|(_, value)| value)
    }
}

/// Of two fields with one name the later one stays.
impl<N: Into<Cow<'static, str>>, V: Into<Value>> FromIterator<(N, V)> for Fields {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Fields {
        let fields = fields.into_iter();
        let fields = fields.map(|(name, value)| (name.into(), value.into()));
        let mut fields: Vec<(Cow<'static, str>, Value)> = fields.collect();
        if !fields.is_sorted_by(|(one, _), (next, _)| one < next) {
            // Stable: fields of one name stay in their order.
            fields.sort_by(|(one, _), (other, _)| one.cmp(other));
            fields.dedup_by(|later, kept| {
                let same = later.0 == kept.0;
                if same {
                    swap(later, kept);
                }
                same
            });
        }
        Fields(fields)
    }
}

impl From<BTreeMap<String, Value>> for Fields {
    fn from(fields: BTreeMap<String, Value>) -> Fields {
        fields.into_iter().collect()
    }
}

impl From<Fields> for Value {
    fn from(fields: Fields) -> Value {
        Value::Record(fields)
    }
}

impl IntoIterator for Fields {
    type Item = (Cow<'static, str>, Value);
    type IntoIter = std::vec::IntoIter<(Cow<'static, str>, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The map of the same fields is the oracle.
        #[test]
        fn fields_are_those_of_a_map(pairs in prop::collection::vec(("[a-d]{0,2}", any::<i64>()), 0..20)) {
            let fields: Fields = pairs.iter().map(|(name, value)| (name.clone(), *value)).collect();
            let map: BTreeMap<String, Value> =
                pairs.iter().map(|(name, value)| (name.clone(), Value::from(*value))).collect();
            let theirs: Vec<(&str, &Value)> = map.iter().map(|(name, value)| (&**name, value)).collect();
            prop_assert_eq!(fields.iter().collect::<Vec<_>>(), theirs);
            for name in ["", "a", "ab", "d", "e"] {
                prop_assert_eq!(fields.get(name), map.get(name));
            }
            prop_assert_eq!((fields.len(), fields.is_empty()), (map.len(), map.is_empty()));
            prop_assert_eq!(&Fields::from(map), &fields);
        }
    }
}
