//! What may happen next, and what must hold.

use super::state::{Authority, Chunk, Copied, Follower, KEYS, Left, NONE, State, put, without};
use super::{Bug, Door};
use crate::model::Model;

#[derive(Debug, Clone, Copy)]
#[expect(dead_code, reason = "shown in the way to a broken rule")]
pub(super) enum Step {
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
