//! A backfill that leaves no fence row behind, as a *door*: the follower keeps one row per range of
//! keys. It is shut while the range is empty on the follower, and nothing but the range's one chunk
//! passes; after that, nothing but copies of single keys does.
//!
//! 1. A key that was never stamped carries the base as its version, on both sides without a row of
//!    its own: on the follower as soon as its range is open.
//! 2. A copy of one key is refused while its range is shut: the key stays dirty.
//! 3. A chunk takes the range's row from *shut* to *open at its base*, and only then inserts, in one
//!    transaction. A second chunk changes nothing, and marks nothing.
//! 4. Images that were stamped when they were read are fenced copies within the chunk.
//! 5. The range's row holds the base, not a flag: after the base rose, the whole range is copied
//!    again, key by key.
//! 6. Stamps are not pruned; keys are marked as synced after a confirmed commit alone.
//!
//! The model: two keys in one range (one there from the beginning, one not), writers, readers of
//! chunks and of keys, answers that are late, lost or repeated, and an authority that loses its last
//! commit while the base is raised.

mod state;
mod steps;

use super::{Found, explore};

/// What is left out of the scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    /// A chunk looks at the range's row before its transaction, and trusts that.
    OlderSnapshot,
    /// A chunk is applied to a range that is open.
    DuplicateAccepted,
    /// No fence row counts as the base in a range that is shut, too.
    ShutCountsAsBase,
    /// Copies of single keys pass a shut door.
    CopiesPass,
    /// A refused chunk marks its keys.
    RefusedMarks,
    /// A stamp goes when its key is synced.
    Pruned,
    /// The range's row says that it is open, not at which base.
    Flag,
    /// A stamped image of a chunk leaves no fence row.
    StampedUnfenced,
    /// Keys are marked when their chunk is sent.
    MarkedBeforeCommit,
}

const BUGS: [Bug; 9] = [
    Bug::OlderSnapshot,
    Bug::DuplicateAccepted,
    Bug::ShutCountsAsBase,
    Bug::CopiesPass,
    Bug::RefusedMarks,
    Bug::Pruned,
    Bug::Flag,
    Bug::StampedUnfenced,
    Bug::MarkedBeforeCommit,
];

/// How much may happen.
#[derive(Debug, Clone, Copy)]
struct Door {
    pub(super) writes: u8,
    pub(super) chunks: u8,
    pub(super) copies: u8,
    pub(super) raises: u8,
    pub(super) bug: Option<Bug>,
}

fn door(bug: Option<Bug>) -> Door {
    // `scripts/test --fast` asks for a quick look.
    let fast = bug.is_none() && std::env::var_os("CHANGEOVER_FAST").is_some();
    Door {
        writes: 2,
        chunks: 2,
        copies: if fast { 1 } else { 2 },
        raises: 1,
        bug,
    }
}

#[test]
fn every_order_of_a_few_steps_keeps_the_rules() {
    let found = explore(&door(None));
    let Found::Nothing { states } = found else {
        panic!("{found:#?}");
    };
    eprintln!("{states} states");
    assert!(states > 10_000, "{states}");
}

#[test]
fn each_part_of_the_scheme_is_needed() {
    for bug in BUGS {
        match explore(&door(Some(bug))) {
            Found::Broken { rule, steps } => eprintln!("{bug:?}: {rule}: {}", steps.join(" ")),
            Found::Nothing { states } => panic!("{bug:?} was not found in {states} states"),
        }
    }
}
