//! [`diff`]
use crate::{Rules, Value};
use std::collections::BTreeMap;
/// One field that differs.
#[derive(Clone, PartialEq)]
pub struct FieldDiff {
    /// Where.
    pub path: String,
    /// Legacy.
    pub legacy: Option<Value>,
    /// New.
    pub new: Option<Value>,
}
impl std::fmt::Debug for FieldDiff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FieldDiff")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
/// Compares.
#[must_use]
pub fn diff(legacy: &Value, new: &Value, _rules: &Rules) -> Vec<FieldDiff> {
    if legacy == new {
        return Vec::new();
    }
    vec![FieldDiff {
        path: String::new(),
        legacy: Some(legacy.clone()),
        new: Some(new.clone()),
    }]
}
/// Sets.
#[derive(Debug, Clone, PartialEq)]
pub struct SetDiff<K> {
    /// Missing.
    pub missing_in_new: Vec<K>,
    /// Extra.
    pub extra_in_new: Vec<K>,
    /// Different.
    pub different: Vec<(K, Vec<FieldDiff>)>,
}
impl<K> SetDiff<K> {
    /// Equal?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.missing_in_new.is_empty() && self.extra_in_new.is_empty() && self.different.is_empty()
    }
}
/// Compares sets.
#[must_use]
pub fn diff_sets<K: Ord + Clone>(
    legacy: &BTreeMap<K, Value>,
    new: &BTreeMap<K, Value>,
    rules: &Rules,
) -> SetDiff<K> {
    let missing_in_new = legacy
        .keys()
        .filter(|key| !new.contains_key(key))
        .cloned()
        .collect();
    let extra_in_new = new
        .keys()
        .filter(|key| !legacy.contains_key(key))
        .cloned()
        .collect();
    let mut different = Vec::new();
    for (key, value) in legacy {
        if let Some(other) = new.get(key) {
            let fields = diff(value, other, rules);
            if !fields.is_empty() {
                different.push((key.clone(), fields));
            }
        }
    }
    SetDiff {
        missing_in_new,
        extra_in_new,
        different,
    }
}
