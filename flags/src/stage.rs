//! The four stages of a changeover, in order.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Place;

/// Where a changeover stands. Derived from the [`Epoch`](crate::Epoch) row and stored nowhere else.
///
/// Stages are ordered as they are passed: `Legacy < DualWrite < Cutover < Complete`.
///
/// ```
/// use changeover_flags::{Place, Stage};
/// assert_eq!(Stage::DualWrite.authority(), Place::Legacy);
/// assert_eq!(Stage::Cutover.authority(), Place::New);
/// assert_eq!(Stage::DualWrite.to_string(), "dual-write");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The legacy tables alone.
    Legacy,
    /// Legacy is the authority; its writes are copied to new.
    DualWrite,
    /// New is the authority; its writes are copied back to legacy.
    Cutover,
    /// The new tables alone. Nothing leaves this stage.
    Complete,
}

impl Stage {
    /// All stages, in the order in which they are passed.
    pub const ALL: [Stage; 4] = [
        Stage::Legacy,
        Stage::DualWrite,
        Stage::Cutover,
        Stage::Complete,
    ];

    /// The place that takes writes in this stage.
    #[must_use]
    #[inline]
    pub const fn authority(self) -> Place {
        match self {
            Stage::Legacy | Stage::DualWrite => Place::Legacy,
            Stage::Cutover | Stage::Complete => Place::New,
        }
    }

    /// The other place. It takes copies where [`Stage::copies`] says so, and nothing otherwise.
    #[must_use]
    #[inline]
    pub const fn follower(self) -> Place {
        self.authority().other()
    }

    /// Whether the authority's writes are copied to the follower.
    #[must_use]
    #[inline]
    pub const fn copies(self) -> bool {
        matches!(self, Stage::DualWrite | Stage::Cutover)
    }

    /// The stage of the same authority in which nothing is copied: there is nobody who copies.
    #[must_use]
    pub(crate) const fn alone(self) -> Stage {
        match self.authority() {
            Place::Legacy => Stage::Legacy,
            Place::New => Stage::Complete,
        }
    }

    /// The word used in files, labels and messages: `legacy`, `dual-write`, `cutover`, `complete`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Stage::Legacy => "legacy",
            Stage::DualWrite => "dual-write",
            Stage::Cutover => "cutover",
            Stage::Complete => "complete",
        }
    }

    /// The stage that `text` names, if it names one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Stage> {
        Stage::ALL.into_iter().find(|stage| stage.as_str() == text)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stage_table_of_the_documentation_holds() {
        let rows = Stage::ALL.map(|s| (s.as_str(), s.authority(), s.follower(), s.copies()));
        assert_eq!(
            rows,
            [
                ("legacy", Place::Legacy, Place::New, false),
                ("dual-write", Place::Legacy, Place::New, true),
                ("cutover", Place::New, Place::Legacy, true),
                ("complete", Place::New, Place::Legacy, false),
            ]
        );
        assert!(Stage::ALL.is_sorted());
    }

    #[test]
    fn words_are_the_same_in_text_and_in_serde() {
        for stage in Stage::ALL {
            assert_eq!(Stage::parse(stage.as_str()), Some(stage));
            let json = serde_json::to_string(&stage).expect("serialises");
            assert_eq!(json, format!("\"{stage}\""));
            let back: Stage = serde_json::from_str(&json).expect("deserialises");
            assert_eq!(back, stage);
        }
        assert_eq!(Stage::parse("Legacy"), None);
    }
}
