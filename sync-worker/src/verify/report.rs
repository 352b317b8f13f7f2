//! What a verify found.

use std::collections::BTreeMap;

use changeover_shadow::Evidence;
use serde::Serialize;

use crate::sum::Unsummed;

/// What a compared key is; the table above says what each means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Equal versions, equal data.
    Equal,
    /// The authority is newer, and says so.
    Lagging,
    /// Dirty, held until something else arrives.
    Waiting,
    /// Dirty, refused for good.
    Blocked,
    /// Not passed by a backfill yet.
    Pending,
    /// Equal versions, different data.
    Divergent,
    /// Its rows are not on the follower, and nothing says that they should not be.
    Missing,
    /// Rows on the follower alone.
    Extra,
    /// The follower's version is above the authority's.
    FollowerAhead,
    /// The authority is newer and does not say so.
    Unrecorded,
}

impl Class {
    pub(crate) const ALL: [Class; 10] = [
        Class::Equal,
        Class::Lagging,
        Class::Waiting,
        Class::Blocked,
        Class::Pending,
        Class::Divergent,
        Class::Missing,
        Class::Extra,
        Class::FollowerAhead,
        Class::Unrecorded,
    ];

    /// The word in reports and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Class::Equal => "equal",
            Class::Lagging => "lagging",
            Class::Waiting => "waiting",
            Class::Blocked => "blocked",
            Class::Pending => "pending",
            Class::Divergent => "divergent",
            Class::Missing => "missing",
            Class::Extra => "extra",
            Class::FollowerAhead => "follower_ahead",
            Class::Unrecorded => "unrecorded",
        }
    }

    /// Whether a clean report may contain such keys: those that agree, and those that will as soon
    /// as they rest. A key that is held agrees with nothing until somebody acts, and whoever reads
    /// it from the follower reads an old row, or none.
    #[must_use]
    pub const fn is_clean(self) -> bool {
        matches!(self, Class::Equal | Class::Lagging)
    }
}

/// One key that is not equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// The key, as it is: without it nobody could look.
    pub key: String,
    /// What it is.
    pub class: Class,
    /// The authority's version.
    pub authority: i64,
    /// The follower's version, if a copy ever arrived.
    pub follower: Option<i64>,
    /// The fields that differ, redacted: `legacy` is what should be there, `new` what is.
    pub fields: Vec<Evidence>,
    /// Why there is no image, or why the key is held.
    pub reason: Option<String>,
}

/// Whether what a verify found is on record, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Recorded {
    /// Nobody asked for it.
    #[default]
    Unasked,
    /// It is.
    Yes,
    /// Nothing is copied in this stage, so the next write would make it untrue.
    NotCopied,
    /// Fewer keys agreed than lagged: what they will be is not known.
    Lagging,
    /// It looked at a part of the keys: what differs is on record, that the rest agrees is not known.
    Part,
    /// Since the verify began the entity was moved, its revision raised, or another verify found a
    /// difference.
    Moved,
}

impl Recorded {
    /// Why it is not on record, in words; `None` where it is, or nobody asked.
    #[must_use]
    pub const fn why_not(self) -> Option<&'static str> {
        match self {
            Recorded::Unasked | Recorded::Yes => None,
            Recorded::NotCopied => {
                Some("nothing is copied in stage legacy, so the next write makes it untrue")
            }
            Recorded::Part => {
                Some("a part of the keys was looked at: verify all of them to record it")
            }
            Recorded::Lagging => {
                Some("more keys lagged than agreed: let the drain catch up, then verify again")
            }
            Recorded::Moved => Some(
                "meanwhile the entity was moved, its revision raised, or another verify found a difference: verify again",
            ),
        }
    }
}

/// What part of the keys a verify looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PartReport {
    /// Those behind this key.
    Above(String),
    /// Spans drawn by chance.
    Sample {
        /// How many.
        ranges: u64,
        /// Of how many.
        of: u64,
        /// What draws the same ones again, as long as the keys are the same.
        seed: u64,
    },
}

/// How much of a verify was done by sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub struct SumsReport {
    /// Spans of keys that were summed on both sides: parts of ranges, and parts of those.
    pub ranges: u64,
    /// Of them, those whose sums differed: they were divided, or compared key by key.
    pub bisected: u64,
    /// Keys that were compared one by one.
    pub singly: u64,
}

/// What a verify found. Serializable as it is: values are redacted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct VerifyReport {
    /// Keys compared.
    pub compared: u64,
    /// Keys by class. Their sum is `compared`.
    pub classes: BTreeMap<Class, u64>,
    /// Some keys of every class but `equal`.
    pub samples: Vec<Sample>,
    /// How much of it sums said.
    pub sums: SumsReport,
    /// What was compared key by key whatever sums would say, and why; empty where all was summed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unsummed: Vec<Unsummed>,
    /// What part of the keys was looked at; `None` for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<PartReport>,
    /// Tables, each with its side, whose triggers were gone or switched off at the end: what is written to
    /// them leaves no stamp.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bare_tables: Vec<String>,
    /// Whether both sides were found without any key.
    pub empty: bool,
    /// Whether the backfill was done when the verify began.
    pub backfilled: bool,
    /// Whether all this is on record: reads move to the new side by what is recorded.
    pub recorded: Recorded,
}

impl VerifyReport {
    /// How many keys of `class` were found.
    #[must_use]
    pub fn count(&self, class: Class) -> u64 {
        self.classes.get(&class).copied().unwrap_or(0)
    }

    /// Whether as many keys agreed as lagged, at the least. A lagging key differs by what is
    /// recorded, and proves nothing of how it will arrive.
    #[must_use]
    pub fn conclusive(&self) -> bool {
        self.count(Class::Equal) >= self.count(Class::Lagging)
    }

    /// Why a clean one is no evidence, if it is none.
    pub(crate) fn proves_too_little(&self) -> Option<Recorded> {
        match &self.part {
            Some(_) => Some(Recorded::Part),
            None => (!self.conclusive()).then_some(Recorded::Lagging),
        }
    }

    /// Whether this proves agreement up to recorded lag: something was compared (or there is
    /// nothing), no key is of a class that lag does not explain, and every write is still stamped.
    #[must_use]
    pub fn clean(&self) -> bool {
        let seen = self.compared > 0 || self.empty;
        let stamped = self.bare_tables.is_empty();
        stamped
            && seen
            && self
                .classes
                .iter()
                .all(|(class, keys)| class.is_clean() || *keys == 0)
    }
}
