//! Places and roles: two word pairs that are never mixed.
//!
//! A *place* is where rows live and never changes. A *role* says who decides at the moment and
//! changes places once, at the write cutover. Most migration bugs are a place used as a role.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where rows live: the legacy tables or the new ones. A place never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// The tables the application started with.
    Legacy,
    /// The tables the application moves to.
    New,
}

impl Place {
    /// Both places, legacy first.
    pub const ALL: [Place; 2] = [Place::Legacy, Place::New];

    /// The other place.
    #[must_use]
    pub const fn other(self) -> Place {
        match self {
            Place::Legacy => Place::New,
            Place::New => Place::Legacy,
        }
    }

    /// The word used in tables, labels and messages: `legacy` or `new`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Place::Legacy => "legacy",
            Place::New => "new",
        }
    }

    /// The place that `text` names, if it names one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Place> {
        Place::ALL.into_iter().find(|place| place.as_str() == text)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a place does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Takes writes and stamps them; refuses copies.
    Authority,
    /// Takes copies alone; refuses every other write.
    Follower,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Authority => "authority",
            Role::Follower => "follower",
        })
    }
}
