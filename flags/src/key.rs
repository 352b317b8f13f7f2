//! What is being moved: an [`Entity`], its [`Key`]s, and the [`Version`] that each write gives a key.

use std::fmt;
use std::sync::Arc;

use smol_str::SmolStr;
use thiserror::Error;

/// The name of one thing being moved, such as `listings`.
///
/// Lower-case ASCII letters, digits and `_`, starting with a letter, at most
/// [`Entity::MAX_BYTES`] long: it becomes part of trigger names and metric labels.
///
/// ```
/// use changeover_flags::Entity;
/// assert_eq!(Entity::new("listings")?.as_str(), "listings");
/// assert!(Entity::new("Listings; DROP TABLE x").is_err());
/// # Ok::<(), changeover_flags::BadEntity>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entity(Arc<str>);

/// A name that cannot be an [`Entity`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "entity name {name:?} is not usable: use 1 to 24 lower-case letters, digits and '_', starting with a letter"
)]
pub struct BadEntity {
    name: String,
}

impl Entity {
    /// The longest name, in bytes: trigger names carry it within PostgreSQL's 63.
    pub const MAX_BYTES: usize = 24;

    /// Checks and keeps a name.
    ///
    /// # Errors
    ///
    /// [`BadEntity`] when the name breaks the rule above.
    pub fn new(name: &str) -> Result<Entity, BadEntity> {
        let starts = name.starts_with(|c: char| c.is_ascii_lowercase());
        let rest = name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if starts && rest && name.len() <= Self::MAX_BYTES {
            Ok(Entity(name.into()))
        } else {
            Err(BadEntity { name: name.into() })
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identity of one aggregate: the unit that is copied as a whole.
///
/// A key is text. Its components are the canonical texts of the key columns' values, in order,
/// joined by `,`; inside a component of a composite key `\` is written `\\` and `,` is written
/// `\,`. A key of one component is that text as it is. The databases compute the same text in
/// their triggers, so two components that differ never give one key.
///
/// Up to 23 bytes stand in the key itself: numbers and most other keys allocate nothing.
///
/// ```
/// use changeover_flags::Key;
/// assert_eq!(Key::from(42).as_str(), "42");
/// let key = Key::composite(["a,b", "7"]);
/// assert_eq!(key.as_str(), r"a\,b,7");
/// assert_eq!(key.components(2), Some(vec!["a,b".to_owned(), "7".to_owned()]));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(SmolStr);

impl Key {
    /// A key of one component.
    #[must_use]
    pub fn new(text: impl AsRef<str>) -> Key {
        Key(SmolStr::new(text))
    }

    /// A key of several components. With one component it equals [`Key::new`].
    #[must_use]
    pub fn composite<I, T>(components: I) -> Key
    where
        I: IntoIterator<Item = T>,
        T: AsRef<str>,
    {
        let components: Vec<T> = components.into_iter().collect();
        if let [only] = components.as_slice() {
            return Key::new(only);
        }
        let mut text = String::new();
        for (index, component) in components.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            for c in component.as_ref().chars() {
                if matches!(c, '\\' | ',') {
                    text.push('\\');
                }
                text.push(c);
            }
        }
        Key(text.into())
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key's components, or `None` when it does not have exactly `count` of them.
    #[must_use]
    pub fn components(&self, count: usize) -> Option<Vec<String>> {
        if count == 1 {
            return Some(vec![self.0.to_string()]);
        }
        let mut components = vec![String::new()];
        let mut chars = self.0.chars();
        while let Some(c) = chars.next() {
            match c {
                ',' => components.push(String::new()),
                '\\' => components.last_mut()?.push(chars.next()?),
                c => components.last_mut()?.push(c),
            }
        }
        (components.len() == count).then_some(components)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Key {
        Key::new(text)
    }
}

impl From<String> for Key {
    fn from(text: String) -> Key {
        Key(text.into())
    }
}

impl From<i64> for Key {
    fn from(number: i64) -> Key {
        Key(SmolStr::new(itoa::Buffer::new().format(number)))
    }
}

/// The version of one key: one more at every write, given by the authority's database.
///
/// The upper 20 bits are the *incarnation* (raised with the mapping revision and after a failover
/// that lost commits), the lower 44 a counter, so integer order is the order of writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Version(pub i64);

impl Version {
    /// The number of bits that count writes within one incarnation.
    pub const COUNTER_BITS: u32 = 44;

    /// The lowest version of an incarnation: what a row that was never stamped carries.
    #[must_use]
    pub const fn base(incarnation: u32) -> Version {
        Version((incarnation as i64) << Self::COUNTER_BITS)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn components_survive(parts in proptest::collection::vec(".{0,6}", 1..4)) {
            let key = Key::composite(&parts);
            prop_assert_eq!(key.components(parts.len()), Some(parts));
        }
    }

    #[test]
    fn different_components_give_different_keys() {
        assert_ne!(Key::composite(["a,b", "c"]), Key::composite(["a", "b,c"]));
        assert_ne!(Key::composite([r"a\", "b"]), Key::composite(["a", r"\b"]));
        assert_eq!(
            Key::new("a,b").components(2),
            Some(vec!["a".into(), "b".into()])
        );
        assert_eq!(Key::new(r"a\").components(2), None);
    }
}
