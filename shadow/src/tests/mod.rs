//! What is compared at random: values, rules, and what [`judge`](crate::judge) makes of them.

mod judged;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use proptest::prelude::*;

use crate::{FieldDiff, Rules, Tolerance, Value};

pub(crate) fn tree() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        (-2_i64..4).prop_map(Value::Integer),
        any::<u64>().prop_map(|bits| Value::Float(f64::from_bits(bits))),
        prop_oneof![Just(f64::NAN), Just(-0.0), Just(0.5), Just(f64::INFINITY)]
            .prop_map(Value::Float),
        "-?[0-9]{1,3}(\\.[0-9]{1,2})?(e-?[0-9])?|NaN|.{0,3}".prop_map(Value::Decimal),
        " ?[aAßıİ.*]{0,2} ?|2024-01-0[1-3]T00:00:0[0-2]Z|.{0,4}".prop_map(Value::Text),
        proptest::collection::vec(any::<u8>(), 0..2).prop_map(Value::Bytes),
    ];
    scalar.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::List),
            proptest::collection::btree_map("[a-c*]{0,2}", inner, 0..4).prop_map(Value::from),
        ]
    })
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => proptest::sample::select(vec!["a", "b", "*", "**", "a.*", "**.b", "*.a.**", "*.*", "c"])
            .prop_map(str::to_owned),
        1 => r"[ab*.0\\e]{0,6}",
    ]
}

/// One rule, made by its method; closures too.
pub(crate) fn rule() -> impl Strategy<Value = Add> {
    rules(10)
}

/// One rule that can be written down.
pub(crate) fn plain_rule() -> impl Strategy<Value = Add> {
    rules(CLOSURE)
}

fn rules(kinds: u8) -> impl Strategy<Value = Add> {
    (
        0..kinds,
        path(),
        path(),
        -0.5..3.0,
        0..3_u64,
        tree(),
        tree(),
    )
        .prop_map(|(kind, path, to, near, seconds, legacy, new)| Add {
            kind,
            path,
            to,
            near,
            seconds,
            legacy,
            new,
        })
}

/// The kind of a list whose order does not matter.
pub(crate) const UNORDERED: u8 = 7;
/// The kind of a closure.
pub(crate) const CLOSURE: u8 = 9;

/// What a closure says: the same each time, in its own way in each direction; now and then it panics.
fn drawn(seed: u64, legacy: Option<&Value>, new: Option<&Value>) -> bool {
    let mut hasher = DefaultHasher::new();
    (seed, format!("{legacy:?} {new:?}")).hash(&mut hasher);
    match hasher.finish() % 5 {
        0 => std::panic::resume_unwind(Box::new("an application's closure")),
        lot => lot < 3,
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Add {
    pub(crate) kind: u8,
    pub(crate) path: String,
    pub(crate) to: String,
    near: f64,
    seconds: u64,
    legacy: Value,
    new: Value,
}

impl Add {
    /// `mirrored`: the rule that says the same with the sides exchanged.
    fn to_rules(&self, rules: Rules, mirrored: bool) -> Rules {
        let path = self.path.as_str();
        let (legacy, new) = match mirrored {
            false => (self.legacy.clone(), self.new.clone()),
            true => (self.new.clone(), self.legacy.clone()),
        };
        match self.kind {
            0 => rules.ignore(path),
            1 => rules.null_is_absent(path),
            2 => rules.fold_case(path),
            3 => rules.fold_space(path),
            4 => rules.tolerate(path, Tolerance::Absolute(self.near)),
            5 => rules.tolerate(path, Tolerance::Relative(self.near)),
            6 => rules.tolerate(path, Tolerance::Time(Duration::from_secs(self.seconds))),
            UNORDERED => rules.unordered(path),
            8 => rules.allow(path, legacy, new),
            _ => {
                let seed = self.seconds;
                rules.equal_if(path, move |legacy, new| match mirrored {
                    false => drawn(seed, legacy, new),
                    true => drawn(seed, new, legacy),
                })
            }
        }
    }
}

pub(crate) fn all(adds: &[Add], mirrored: bool) -> Rules {
    adds.iter()
        .fold(Rules::new(), |rules, add| add.to_rules(rules, mirrored))
}

/// All of what was found, contents too: `==` says of `NaN` that it differs from itself.
pub(crate) fn told(found: &[FieldDiff]) -> String {
    let each = found
        .iter()
        .map(|field| format!("{:?}\n", (&field.path, &field.legacy, &field.new)));
    each.collect()
}
