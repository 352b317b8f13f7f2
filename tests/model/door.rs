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

use super::{Found, Model, explore};

const KEYS: usize = 2;
/// Versions of one base.
const BASE: u8 = 16;
const NONE: u8 = u8::MAX;

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
    writes: u8,
    chunks: u8,
    copies: u8,
    raises: u8,
    bug: Option<Bug>,
}

/// A row's content is the number of the write that made it; 0 is no row.
type Row = u8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    authority: Authority,
    follower: Follower,
    /// Chunks and copies on their way, in order of what they hold, so that equal sets are one state.
    chunks: [Option<Chunk>; 2],
    copies: [Option<Copied>; 3],
    /// What the follower has answered and the authority has not heard: (key, version).
    marks: [Option<(u8, u8)>; 3],
    left: Left,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Authority {
    rows: [Row; KEYS],
    /// 0 is never stamped.
    stamps: [u8; KEYS],
    synced: [u8; KEYS],
    base: u8,
    /// What the last commit changed: (key, row, stamp) before it.
    undo: Option<(u8, Row, u8)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Follower {
    rows: [Row; KEYS],
    /// `NONE` is no fence row.
    fences: [u8; KEYS],
    /// The base at which the range was opened; `NONE` is shut.
    range: u8,
    base: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Chunk {
    base: u8,
    rows: [Row; KEYS],
    versions: [u8; KEYS],
    /// It has looked at the range's row ahead of its transaction.
    looked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Copied {
    key: u8,
    version: u8,
    row: Row,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Left {
    writes: u8,
    chunks: u8,
    copies: u8,
    raises: u8,
}

#[derive(Debug, Clone, Copy)]
#[expect(dead_code, reason = "shown in the way to a broken rule")]
enum Step {
    Write { key: u8 },
    Delete { key: u8 },
    Prune { key: u8 },
    ReadChunk,
    LookAhead,
    ApplyChunk { again: bool },
    LoseChunk,
    ReadKey { key: u8 },
    ApplyCopy { key: u8, version: u8 },
    LoseCopy { key: u8, version: u8 },
    Mark { key: u8, version: u8 },
    LoseMark { key: u8, version: u8 },
    RaiseFollower,
    RaiseAuthority { losing: bool },
}

impl Authority {
    fn version(&self, key: usize) -> u8 {
        self.stamps[key].max(self.base * BASE)
    }

    fn write(&mut self, key: usize, row: Row) {
        self.undo = Some((key as u8, self.rows[key], self.stamps[key]));
        self.stamps[key] = self.version(key) + 1;
        self.rows[key] = row;
    }

    fn mark(&mut self, key: usize, version: u8) {
        if version <= self.version(key) {
            self.synced[key] = self.synced[key].max(version);
        }
    }
}

impl Follower {
    /// The version that it holds, `NONE` if it can't be said.
    fn version(&self, key: usize, bug: Option<Bug>) -> u8 {
        if self.fences[key] != NONE {
            return self.fences[key];
        }
        match bug {
            Some(Bug::ShutCountsAsBase) if self.range == NONE => 0,
            Some(Bug::Flag) if self.range != NONE => self.base * BASE,
            _ if self.range == NONE => NONE,
            _ => self.range * BASE,
        }
    }

    /// Whether the copy's version is held afterwards.
    fn take(&mut self, copy: Copied, bug: Option<Bug>) -> bool {
        let key = usize::from(copy.key);
        if copy.version / BASE < self.base || (self.range == NONE && bug != Some(Bug::CopiesPass)) {
            return false;
        }
        let held = self.version(key, bug);
        if held == NONE || copy.version > held {
            self.fences[key] = copy.version;
            self.rows[key] = copy.row;
        }
        true
    }

    /// Whether the chunk was applied.
    fn pass(&mut self, chunk: Chunk, bug: Option<Bug>) -> bool {
        let shut = match bug {
            Some(Bug::DuplicateAccepted) => true,
            Some(Bug::OlderSnapshot) => chunk.looked,
            _ => self.range == NONE,
        };
        if chunk.base != self.base || !shut {
            return false;
        }
        self.range = chunk.base;
        for key in 0..KEYS {
            let (row, version) = (chunk.rows[key], chunk.versions[key]);
            if row == 0 {
                continue;
            }
            let stamped = version > chunk.base * BASE && bug != Some(Bug::StampedUnfenced);
            if stamped {
                let key = key as u8;
                self.take(Copied { key, version, row }, bug);
            } else if self.rows[key] == 0 {
                self.rows[key] = row;
            }
        }
        true
    }
}

impl State {
    fn put_mark(&mut self, key: u8, version: u8) {
        put(&mut self.marks, (key, version));
    }

    /// Not known to be on the follower. A key that was never stamped comes with its range.
    fn dirty(&self, key: usize) -> bool {
        let authority = &self.authority;
        if authority.stamps[key] == 0 && authority.base == 0 {
            return self.follower.range == NONE;
        }
        authority.synced[key] < authority.version(key)
    }

    fn chunk(&self) -> Chunk {
        let authority = &self.authority;
        Chunk {
            base: authority.base,
            rows: authority.rows,
            versions: [authority.version(0), authority.version(1)],
            looked: false,
        }
    }

    fn mark_chunk(&mut self, chunk: Chunk) {
        for key in 0..KEYS {
            if chunk.rows[key] != 0 && chunk.versions[key] > 0 {
                self.put_mark(key as u8, chunk.versions[key]);
            }
        }
    }

    /// What the worker makes of it if nothing disturbs it any more.
    fn settled(mut self, bug: Option<Bug>) -> State {
        if self.follower.base > self.authority.base {
            self.authority.base = self.follower.base;
        }
        if self.follower.range == NONE {
            let chunk = self.chunk();
            self.follower.pass(
                Chunk {
                    looked: true,
                    ..chunk
                },
                bug,
            );
        }
        for key in 0..KEYS {
            let version = self.authority.version(key);
            let copy = Copied {
                key: key as u8,
                version,
                row: self.authority.rows[key],
            };
            if self.dirty(key) && self.follower.take(copy, bug) {
                self.authority.mark(key, version);
            }
        }
        self
    }
}

/// Keeps a set in order; what does not fit is lost, as messages may be.
fn put<T: Copy + Ord, const N: usize>(set: &mut [Option<T>; N], item: T) {
    if set.contains(&Some(item)) {
        return;
    }
    if let Some(free) = set.iter_mut().find(|slot| slot.is_none()) {
        *free = Some(item);
        set.sort_unstable();
    }
}

fn without<T: Copy + Ord, const N: usize>(mut set: [Option<T>; N], at: usize) -> [Option<T>; N] {
    set[at] = None;
    set.sort_unstable();
    set
}

impl Door {
    fn writing(&self, state: &State, steps: &mut Vec<(Step, State)>) {
        if state.left.writes == 0 {
            return;
        }
        // A row of its own for every write.
        let row = 2 + self.writes - state.left.writes;
        for key in 0..KEYS {
            let mut after = *state;
            after.left.writes -= 1;
            after.authority.write(key, row);
            steps.push((Step::Write { key: key as u8 }, after));
            if state.authority.rows[key] != 0 {
                let mut after = *state;
                after.left.writes -= 1;
                after.authority.write(key, 0);
                steps.push((Step::Delete { key: key as u8 }, after));
            }
        }
    }

    fn chunking(&self, state: &State, steps: &mut Vec<(Step, State)>) {
        if state.left.chunks > 0 {
            let mut after = *state;
            after.left.chunks -= 1;
            let chunk = state.chunk();
            put(&mut after.chunks, chunk);
            if self.bug == Some(Bug::MarkedBeforeCommit) {
                after.mark_chunk(chunk);
            }
            steps.push((Step::ReadChunk, after));
        }
        for (at, chunk) in state.chunks.iter().enumerate() {
            let Some(chunk) = *chunk else { continue };
            if self.bug == Some(Bug::OlderSnapshot) && !chunk.looked && state.follower.range == NONE
            {
                let mut after = *state;
                after.chunks[at] = Some(Chunk {
                    looked: true,
                    ..chunk
                });
                after.chunks.sort_unstable();
                steps.push((Step::LookAhead, after));
            }
            let mut lost = *state;
            lost.chunks = without(state.chunks, at);
            steps.push((Step::LoseChunk, lost));
            // A message may come twice: it stays after it was applied, or goes.
            for again in [false, true] {
                let mut after = if again { *state } else { lost };
                let passed = after.follower.pass(chunk, self.bug);
                if passed || self.bug == Some(Bug::RefusedMarks) {
                    after.mark_chunk(chunk);
                }
                steps.push((Step::ApplyChunk { again }, after));
            }
        }
    }

    fn copying(&self, state: &State, steps: &mut Vec<(Step, State)>) {
        for key in 0..KEYS as u8 {
            if state.left.copies > 0 && state.dirty(usize::from(key)) {
                let mut after = *state;
                after.left.copies -= 1;
                let (version, row) = (
                    state.authority.version(usize::from(key)),
                    state.authority.rows[usize::from(key)],
                );
                put(&mut after.copies, Copied { key, version, row });
                steps.push((Step::ReadKey { key }, after));
            }
        }
        for (at, copy) in state.copies.iter().enumerate() {
            let Some(copy) = *copy else { continue };
            let Copied { key, version, .. } = copy;
            let mut lost = *state;
            lost.copies = without(state.copies, at);
            steps.push((Step::LoseCopy { key, version }, lost));
            let mut after = lost;
            if after.follower.take(copy, self.bug) {
                after.put_mark(key, version);
            }
            steps.push((Step::ApplyCopy { key, version }, after));
        }
        for (at, mark) in state.marks.iter().enumerate() {
            let Some((key, version)) = *mark else {
                continue;
            };
            let mut lost = *state;
            lost.marks = without(state.marks, at);
            steps.push((Step::LoseMark { key, version }, lost));
            let mut after = lost;
            after.authority.mark(usize::from(key), version);
            steps.push((Step::Mark { key, version }, after));
        }
    }

    fn raising(&self, state: &State, steps: &mut Vec<(Step, State)>) {
        if state.left.raises > 0 {
            let mut after = *state;
            after.left.raises -= 1;
            after.follower.base += 1;
            steps.push((Step::RaiseFollower, after));
        }
        if state.follower.base > state.authority.base {
            let mut after = *state;
            after.authority.base = state.follower.base;
            after.authority.undo = None;
            steps.push((Step::RaiseAuthority { losing: false }, after));
            if let Some((key, row, stamp)) = state.authority.undo {
                after.authority.rows[usize::from(key)] = row;
                after.authority.stamps[usize::from(key)] = stamp;
                steps.push((Step::RaiseAuthority { losing: true }, after));
            }
        }
    }
}

impl Model for Door {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        State {
            authority: Authority {
                rows: [1, 0],
                stamps: [0; KEYS],
                synced: [0; KEYS],
                base: 0,
                undo: None,
            },
            follower: Follower {
                rows: [0; KEYS],
                fences: [NONE; KEYS],
                range: NONE,
                base: 0,
            },
            chunks: [None; 2],
            copies: [None; 3],
            marks: [None; 3],
            left: Left {
                writes: self.writes,
                chunks: self.chunks,
                copies: self.copies,
                raises: self.raises,
            },
        }
    }

    fn steps(&self, state: &State) -> Vec<(Step, State)> {
        let mut steps = Vec::new();
        self.writing(state, &mut steps);
        self.chunking(state, &mut steps);
        self.copying(state, &mut steps);
        self.raising(state, &mut steps);
        if self.bug == Some(Bug::Pruned) {
            for key in 0..KEYS {
                let synced = state.authority.synced[key];
                if state.authority.stamps[key] > 0 && synced == state.authority.stamps[key] {
                    let mut after = *state;
                    (after.authority.stamps[key], after.authority.synced[key]) = (0, 0);
                    steps.push((Step::Prune { key: key as u8 }, after));
                }
            }
        }
        steps
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        // While the base is raised, neither side says anything about the other.
        if state.follower.base == state.authority.base {
            for key in 0..KEYS {
                let (held, version) = (
                    state.follower.version(key, self.bug),
                    state.authority.version(key),
                );
                let equal = state.follower.rows[key] == state.authority.rows[key];
                if held == version && !equal {
                    return Some("equal versions, other data");
                }
                if !state.dirty(key) && !equal {
                    return Some("clean, and other data");
                }
                if held != NONE && held > version {
                    return Some("the follower is ahead");
                }
            }
        }
        let settled = state.settled(self.bug);
        let equal = settled.follower.rows == settled.authority.rows;
        let clean = (0..KEYS).all(|key| !settled.dirty(key));
        (!equal || !clean).then_some("left alone, it does not become clean")
    }
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
