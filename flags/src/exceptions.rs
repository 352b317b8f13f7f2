//! What differs from the entity's percentages: listed keys, and shares of single operations.

use std::collections::BTreeSet;
use std::collections::btree_map::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Key, Percent};

/// Keys that are named one by one: by their own text, or by what their reads are routed by (the
/// tenant, say). The two are told apart, since listing `7` need not belong to seller `7`.
///
/// At most [`KeyList::MAX`] texts, each of 1 to [`KeyList::MAX_BYTES`] bytes.
///
/// ```
/// use changeover_flags::KeyList;
/// assert_eq!(KeyList::new(["42"], ["test-tenant"])?.len(), 2);
/// assert_eq!(KeyList::of_keys(["42", "43"])?.keys().len(), 2);
/// assert!(KeyList::of_routed_by([""]).is_err());
/// # Ok::<(), changeover_flags::BadList>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Typed")]
pub struct KeyList {
    keys: BTreeSet<String>,
    routed_by: BTreeSet<String>,
}

/// A list that is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BadList {
    /// More texts than a list holds.
    #[error(
        "a list of {count} keys: name at most {}, and ramp up more with a percentage",
        KeyList::MAX
    )]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// A text that no key should have.
    #[error("a listed text of {bytes} bytes: use 1 to {}", KeyList::MAX_BYTES)]
    Length {
        /// How long it is, in bytes.
        bytes: usize,
    },
}

impl KeyList {
    /// The most texts of a list, keys and routing texts together.
    pub const MAX: usize = 1_000;

    /// The longest text, in bytes.
    pub const MAX_BYTES: usize = 256;

    /// A list of the keys whose text is in `keys`, and of those routed by a text in `routed_by`.
    ///
    /// # Errors
    ///
    /// [`BadList`] for more than [`KeyList::MAX`], and for a text that is empty or too long.
    pub fn new<K, R>(
        keys: impl IntoIterator<Item = K>,
        routed_by: impl IntoIterator<Item = R>,
    ) -> Result<KeyList, BadList>
    where
        K: Into<String>,
        R: Into<String>,
    {
        // One too many tells of all that come after it.
        let keys = keys.into_iter().map(Into::into).take(Self::MAX + 1);
        let routed_by = routed_by.into_iter().map(Into::into).take(Self::MAX + 1);
        KeyList::try_from(Typed {
            keys: keys.collect(),
            routed_by: routed_by.collect(),
        })
    }

    /// The keys whose text is in `keys`.
    ///
    /// # Errors
    ///
    /// As [`new`](KeyList::new).
    pub fn of_keys<K: Into<String>>(keys: impl IntoIterator<Item = K>) -> Result<KeyList, BadList> {
        KeyList::new(keys, std::iter::empty::<String>())
    }

    /// The keys that are routed by a text in `routed_by`.
    ///
    /// # Errors
    ///
    /// As [`new`](KeyList::new).
    pub fn of_routed_by<R: Into<String>>(
        routed_by: impl IntoIterator<Item = R>,
    ) -> Result<KeyList, BadList> {
        KeyList::new(std::iter::empty::<String>(), routed_by)
    }

    /// The keys' texts, in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.keys.iter().map(String::as_str)
    }

    /// The routing texts, in order.
    pub fn routed_by(&self) -> impl ExactSizeIterator<Item = &str> {
        self.routed_by.iter().map(String::as_str)
    }

    /// How many texts there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len() + self.routed_by.len()
    }

    /// Whether nothing is listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn routes(&self, routing: Option<&str>) -> bool {
        routing.is_some_and(|routing| self.routed_by.contains(routing))
    }

    fn spelled(&self, spell: &impl Fn(&Key) -> Key) -> KeyList {
        let spelled = |text: &String| spell(&Key::new(text)).as_str().to_owned();
        KeyList {
            keys: self.keys.iter().map(spelled).collect(),
            routed_by: self.routed_by.clone(),
        }
    }

    fn combined(&self, other: &KeyList, of: Combine) -> KeyList {
        KeyList {
            keys: of(&self.keys, &other.keys),
            routed_by: of(&self.routed_by, &other.routed_by),
        }
    }
}

type Combine = fn(&BTreeSet<String>, &BTreeSet<String>) -> BTreeSet<String>;

/// A list as it is typed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "keys or routed_by, each a list")]
struct Typed {
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    routed_by: Vec<String>,
}

impl TryFrom<Typed> for KeyList {
    type Error = BadList;

    fn try_from(typed: Typed) -> Result<KeyList, BadList> {
        let count = typed.keys.len() + typed.routed_by.len();
        if count > Self::MAX {
            return Err(BadList::TooMany { count });
        }
        let lengths = typed.keys.iter().chain(&typed.routed_by).map(String::len);
        for bytes in lengths {
            if !(1..=Self::MAX_BYTES).contains(&bytes) {
                return Err(BadList::Length { bytes });
            }
        }
        Ok(KeyList {
            keys: typed.keys.into_iter().collect(),
            routed_by: typed.routed_by.into_iter().collect(),
        })
    }
}

/// The percentages of one operation, where they differ from the entity's; `None` is the entity's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shares {
    /// The share of keys whose reads by this operation the new side answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_new: Option<Percent>,
    /// The share of its reads that are also compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<Percent>,
}

/// Which list says where a read goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Listed {
    /// To the new side, whatever the percentage.
    AlwaysNew,
    /// Not to the new side, whatever the percentage and the other list.
    NeverNew,
}

/// What differs from the entity's percentages. It concerns reads alone, and says which of them *may*
/// go to the new side: a key that is not clean stays with the authority, a kill beats it all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exceptions {
    /// Keys whose reads go to the new side at any percentage, such as those of a test tenant.
    pub always_new: KeyList,
    /// Keys whose reads do not, though a percentage covers them or the other list names them.
    pub never_new: KeyList,
    /// Percentages by the name of the operation.
    pub operations: BTreeMap<String, Shares>,
}

impl Exceptions {
    /// The most operations that have percentages of their own.
    pub const MAX_OPERATIONS: usize = 1_000;

    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.always_new.is_empty() && self.never_new.is_empty() && self.operations.is_empty()
    }

    /// What the lists say of a read of `keys` that is routed by `routing`. One key of
    /// [`never_new`](Exceptions::never_new) keeps the read at home; it goes to the new side if all
    /// of its keys are to.
    #[must_use]
    pub fn listed(&self, keys: &[Key], routing: Option<&str>) -> Option<Listed> {
        let (always, never) = (&self.always_new, &self.never_new);
        let is_in = |list: &KeyList, key: &Key| list.keys.contains(key.as_str());
        if never.routes(routing) || keys.iter().any(|key| is_in(never, key)) {
            return Some(Listed::NeverNew);
        }
        let all = || !keys.is_empty() && keys.iter().all(|key| is_in(always, key));
        (always.routes(routing) || all()).then_some(Listed::AlwaysNew)
    }

    /// The read percentage of an operation, if it has one of its own.
    #[must_use]
    pub fn read_new(&self, operation: &str) -> Option<Percent> {
        self.operations.get(operation)?.read_new
    }

    /// The sampling of an operation, if it has one of its own.
    #[must_use]
    pub fn sample(&self, operation: &str) -> Option<Percent> {
        self.operations.get(operation)?.sample
    }

    /// The same with all keys in another spelling: lists are typed by people, and a key is found by
    /// its text.
    #[must_use]
    pub fn spelled(&self, spell: impl Fn(&Key) -> Key) -> Exceptions {
        Exceptions {
            always_new: self.always_new.spelled(&spell),
            never_new: self.never_new.spelled(&spell),
            operations: self.operations.clone(),
        }
    }

    /// What of this sends reads to the new side.
    pub(crate) fn asks(&self) -> Option<Asked> {
        if !self.always_new.is_empty() {
            return Some(Asked::Listed(self.always_new.len()));
        }
        let mut shares = self.operations.iter();
        shares.find_map(|(operation, shares)| {
            let share = shares.read_new.filter(|share| *share > Percent::ZERO)?;
            let operation = operation.clone();
            Some(Asked::Operation { operation, share })
        })
    }

    /// The same, but nothing goes to the new side.
    pub(crate) fn withdrawn(&self) -> Exceptions {
        let mut withdrawn = Exceptions {
            always_new: KeyList::default(),
            ..self.clone()
        };
        for shares in withdrawn.operations.values_mut() {
            shares.read_new = shares.read_new.map(|_| Percent::ZERO);
        }
        withdrawn
    }

    /// Of two that are wanted at once, what sends less to the new side; `self` samples. An operation
    /// without a percentage has the entity's, `read_new`.
    pub(crate) fn safer(&self, other: &Exceptions, read_new: Percent) -> Exceptions {
        let names = self.operations.keys().chain(other.operations.keys());
        let shares = |name: &String| {
            let both = [self.read_new(name), other.read_new(name)];
            let least = both
                .map(|share| share.unwrap_or(read_new))
                .into_iter()
                .min();
            Shares {
                read_new: least.filter(|least| !both.contains(&None) || *least < read_new),
                sample: self.sample(name),
            }
        };
        let operations = names.map(|name| (name.clone(), shares(name)));
        let operations = operations.filter(|(_, shares)| *shares != Shares::default());
        let operations = operations.collect();
        Exceptions {
            always_new: self
                .always_new
                .combined(&other.always_new, |one, other| one & other),
            never_new: self
                .never_new
                .combined(&other.never_new, |one, other| one | other),
            operations,
        }
    }
}

/// What asks for reads of the new side.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Asked {
    /// A percentage of the entity.
    Share(Percent),
    /// A percentage of one operation.
    Operation {
        /// Its name.
        operation: String,
        /// The percentage.
        share: Percent,
    },
    /// A list of this many keys.
    Listed(usize),
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Asked::Share(share) => write!(f, "{share} of the reads"),
            Asked::Operation { operation, share } => {
                write!(f, "{share} of the reads by operation {operation:?}")
            }
            Asked::Listed(keys) => write!(f, "reads of the {keys} keys listed in always_new"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Bucket, Entity};

    fn list(keys: &[&str], routed_by: &[&str]) -> KeyList {
        KeyList::new(keys.iter().copied(), routed_by.iter().copied()).expect("valid")
    }

    /// A list of some of ten keys and ten tenants.
    fn any_list() -> impl Strategy<Value = KeyList> {
        let some = || proptest::collection::btree_set(0..10_u8, 0..6);
        (some(), some()).prop_map(|(keys, tenants)| {
            let text = |number: u8| number.to_string();
            KeyList::new(keys.into_iter().map(text), tenants.into_iter().map(text)).expect("short")
        })
    }

    /// Whether a read may go to the new side, as the routing table has it.
    fn may(exceptions: &Exceptions, share: u16, key: &Key, tenant: Option<&str>) -> bool {
        let share = Percent::from_ten_thousandths(share).expect("in range");
        let listings = Entity::new("listings").expect("valid");
        let bucket = Bucket::of(&listings, tenant.unwrap_or(key.as_str()));
        match exceptions.listed(std::slice::from_ref(key), tenant) {
            Some(listed) => listed == Listed::AlwaysNew,
            None => share.covers(bucket),
        }
    }

    proptest! {
        #[test]
        fn denied_beats_allowed_and_growing_only_adds_keys(
            (always, never) in (any_list(), any_list()),
            (key, tenant) in (0..10_u8, proptest::option::of(0..10_u8)),
            (a, b) in (0..=10_000_u16, 0..=10_000_u16),
        ) {
            let exceptions = Exceptions {
                always_new: always.clone(),
                never_new: never.clone(),
                ..Exceptions::default()
            };
            let (key, tenant) = (Key::new(key.to_string()), tenant.map(|tenant| tenant.to_string()));
            let tenant = tenant.as_deref();
            let of = |list: &KeyList| list.keys.contains(key.as_str()) || list.routes(tenant);
            let now = |share| may(&exceptions, share, &key, tenant);
            if of(&never) {
                prop_assert!(!now(10_000), "a denied key was allowed");
            } else if of(&always) {
                prop_assert!(now(0), "an allowed key was not");
            }
            prop_assert!(!now(a.min(b)) || now(a.max(b)));
            // A longer list of allowed keys only adds keys, too.
            let more = Exceptions { always_new: always.combined(&list(&["3"], &["4"]), |a, b| a | b), ..exceptions.clone() };
            prop_assert!(!now(a) || may(&more, a, &key, tenant));
        }

        #[test]
        fn the_safer_of_two_sends_nothing_that_one_of_them_keeps(
            (one, other) in ((any_list(), any_list()), (any_list(), any_list())),
            (key, tenant) in (0..10_u8, proptest::option::of(0..10_u8)),
        ) {
            let exceptions = |(always_new, never_new): (KeyList, KeyList)| Exceptions { always_new, never_new, ..Exceptions::default() };
            let (one, other) = (exceptions(one), exceptions(other));
            let (key, tenant) = (Key::new(key.to_string()), tenant.map(|tenant| tenant.to_string()));
            let sent = |exceptions: &Exceptions| may(exceptions, 0, &key, tenant.as_deref());
            prop_assert!(!sent(&one.safer(&other, Percent::ZERO)) || sent(&one) && sent(&other));
        }
    }

    #[test]
    fn a_read_of_several_keys_goes_where_all_of_them_may() {
        let exceptions = Exceptions {
            always_new: list(&["1", "2", "3"], &["test"]),
            never_new: list(&["3"], &["vip"]),
            ..Exceptions::default()
        };
        let listed = |keys: &[&str], routing: Option<&str>| {
            let keys: Vec<Key> = keys.iter().map(Key::new).collect();
            exceptions.listed(&keys, routing)
        };
        let (always, never) = (Some(Listed::AlwaysNew), Some(Listed::NeverNew));
        assert_eq!(listed(&["1", "2"], None), always);
        assert_eq!(listed(&["1", "4"], None), None);
        assert_eq!(listed(&["1", "3"], None), never);
        assert_eq!(listed(&[], None), None);
        assert_eq!(listed(&[], Some("test")), always);
        assert_eq!(listed(&["4"], Some("test")), always);
        assert_eq!(listed(&["1"], Some("vip")), never);
        assert_eq!(
            listed(&["test", "vip"], Some("1")),
            None,
            "two kinds of text"
        );
    }

    #[test]
    fn a_list_is_bounded() {
        let many = |count: usize| KeyList::new((0..count).map(|n| n.to_string()), ["tenant"]);
        assert_eq!(many(999).map(|list| list.len()), Ok(1_000));
        assert_eq!(many(1_000), Err(BadList::TooMany { count: 1_001 }));
        let of = |text: String| KeyList::of_keys([text]);
        assert!(of("x".repeat(256)).is_ok());
        assert_eq!(of("x".repeat(257)), Err(BadList::Length { bytes: 257 }));
        assert_eq!(of(String::new()), Err(BadList::Length { bytes: 0 }));
        let error = BadList::TooMany { count: 1_001 }.to_string();
        assert!(error.contains("at most 1000"), "{error}");
    }
}
