//! [`Token`]: what a caller has seen, carried as text to the next call, on whatever instance.
//!
//! A token names versions. A read that carries one is answered by the follower only when the
//! follower holds at least those versions; the question is asked *before* the read.
//!
//! ```
//! use changeover_flags::{Entity, Key, Version};
//! use changeover_proxy::Token;
//!
//! let token = Token::new(Entity::new("listings")?, [(Key::from("a b"), Version(7))]);
//! let text = token.to_string();
//! assert_eq!(text, "listings:a%20b=7");
//! assert_eq!(text.parse::<Token>()?, token);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::str::FromStr;

use changeover_flags::{Entity, Key, Version};
use thiserror::Error;

/// The versions that a caller has seen. Text of ASCII letters, digits and `-_.~%:=;*`, fit for a
/// header or a cookie; at most [`Token::MAX_KEYS`] keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    entity: Entity,
    seen: Seen,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Keys(BTreeMap<Key, Version>),
    Everything,
}

/// A text that is not a [`Token`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("reading a token: {what}; a client must hand tokens back as it got them")]
pub struct BadToken {
    what: &'static str,
}

impl Token {
    /// The most keys one token names. One of more keys stands for everything instead: reads that
    /// carry it go to the authority.
    pub const MAX_KEYS: usize = 64;

    /// The longest text that is read, in bytes.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// A token of these versions; of several versions of one key the newest counts.
    pub fn new(entity: Entity, versions: impl IntoIterator<Item = (Key, Version)>) -> Token {
        let mut keys = BTreeMap::new();
        for (key, version) in versions {
            let newest = keys.entry(key).or_insert(version);
            *newest = version.max(*newest);
            if keys.len() > Self::MAX_KEYS {
                return Token::everything(entity);
            }
        }
        let token = Token {
            entity,
            seen: Seen::Keys(keys),
        };
        if token.to_string().len() > Self::MAX_BYTES {
            return Token::everything(token.entity);
        }
        token
    }

    /// A token that sends every read to the authority: for bulk writes, whose keys nobody knows.
    #[must_use]
    pub fn everything(entity: Entity) -> Token {
        Token {
            entity,
            seen: Seen::Everything,
        }
    }

    /// Which entity it speaks of; it says nothing about any other.
    #[must_use]
    pub fn entity(&self) -> &Entity {
        &self.entity
    }

    /// The same with every key as `spelling` writes it.
    pub(crate) fn spelled(self, spelling: impl Fn(&Key) -> Key) -> Token {
        match self.seen {
            Seen::Keys(keys) if keys.keys().any(|key| spelling(key) != *key) => {
                let keys = keys.iter().map(|(key, version)| (spelling(key), *version));
                Token::new(self.entity, keys)
            }
            _ => self,
        }
    }

    /// The versions that an answer about `keys` must not be older than (about all that the token
    /// names, when `keys` is empty: a list). `None`: only the authority will do.
    pub(crate) fn needs(&self, keys: &[Key]) -> Option<Vec<(Key, Version)>> {
        let Seen::Keys(seen) = &self.seen else {
            return None;
        };
        let asked = |key: &Key| keys.is_empty() || keys.contains(key);
        let needs = seen.iter().filter(|(key, _)| asked(key));
        Some(
            needs
                .map(|(key, version)| (key.clone(), *version))
                .collect(),
        )
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.entity)?;
        match &self.seen {
            Seen::Everything => f.write_char('*'),
            Seen::Keys(keys) => {
                for (index, (key, version)) in keys.iter().enumerate() {
                    if index > 0 {
                        f.write_char(';')?;
                    }
                    escape(key.as_str(), f)?;
                    write!(f, "={version}")?;
                }
                Ok(())
            }
        }
    }
}

impl FromStr for Token {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<Token, BadToken> {
        let bad = |what| BadToken { what };
        if text.len() > Self::MAX_BYTES {
            return Err(bad("it is too long"));
        }
        let (entity, keys) = text.split_once(':').ok_or(bad("it names no entity"))?;
        let entity = Entity::new(entity).map_err(|_| bad("its entity is not a name"))?;
        if keys == "*" {
            return Ok(Token::everything(entity));
        }
        let mut versions = Vec::new();
        for pair in keys.split(';').filter(|pair| !pair.is_empty()) {
            let (key, version) = pair.split_once('=').ok_or(bad("a key has no version"))?;
            let key = unescape(key).ok_or(bad("a key is not well escaped"))?;
            let version = version
                .parse()
                .map_err(|_| bad("a version is not a number"))?;
            versions.push((Key::from(key), Version(version)));
        }
        Ok(Token::new(entity, versions))
    }
}

fn escape(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                f.write_char(char::from(byte))?;
            }
            other => write!(f, "%{other:02X}")?,
        }
    }
    Ok(())
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let (high, low) = (digit(rest.next())?, digit(rest.next())?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entity() -> Entity {
        Entity::new("listings").expect("a plain name")
    }

    proptest! {
        #[test]
        fn text_survives(keys in proptest::collection::vec((".{0,9}", any::<i64>()), 0..9)) {
            let keys = keys.into_iter().map(|(key, version)| (Key::from(key), Version(version)));
            let token = Token::new(entity(), keys);
            let text = token.to_string();
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(text.parse::<Token>(), Ok(token));
        }

        #[test]
        fn no_text_breaks_the_reader(text in ".{0,40}") {
            let _ = text.parse::<Token>();
        }
    }

    #[test]
    fn too_many_keys_mean_everything() {
        let keys = (0..=Token::MAX_KEYS as i64).map(|id| (Key::from(id), Version(1)));
        let token = Token::new(entity(), keys);
        assert_eq!(token.needs(&[Key::from(1)]), None);
        assert_eq!(token.to_string(), "listings:*");
    }

    #[test]
    fn a_key_that_was_not_seen_needs_nothing() {
        let token = Token::new(
            entity(),
            [(Key::from(1), Version(9)), (Key::from(1), Version(8))],
        );
        assert_eq!(token.needs(&[Key::from(2)]), Some(vec![]));
        assert_eq!(
            token.needs(&[Key::from(1)]),
            Some(vec![(Key::from(1), Version(9))])
        );
        assert_eq!(token.needs(&[]).map(|needs| needs.len()), Some(1));
    }
}
