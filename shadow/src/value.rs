//! [`Value`]: a typed value as a store answered it, the common currency of comparing.

use std::collections::BTreeMap;

/// One value, or a tree of values, as a store answered it.
///
/// Numbers keep their kind: `Integer(1)`, `Decimal("1.0")` and `Text("1")` are three values, and
/// whether they *mean* the same is for compare rules to say. Decimals and instants are carried as
/// the exact text their store prints, so no precision is lost on the way.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// SQL `NULL`, JSON `null`, `None`.
    #[default]
    Null,
    /// A truth value.
    Boolean(bool),
    /// A whole number of up to 64 bits.
    Integer(i64),
    /// A binary floating-point number; compared by bits where equality is asked for.
    Float(f64),
    /// An exact number, as decimal text.
    Decimal(String),
    /// Text, and every type that is carried as its text (dates, uuids, enums).
    Text(String),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// An ordered list.
    List(Vec<Value>),
    /// Named fields.
    Record(BTreeMap<String, Value>),
}
