//! Both sides, what is on its way between them, and what each makes of a message.

use super::Bug;

pub(super) const KEYS: usize = 2;
/// Versions of one base.
pub(super) const BASE: u8 = 16;
pub(super) const NONE: u8 = u8::MAX;

/// A row's content is the number of the write that made it; 0 is no row.
pub(super) type Row = u8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) authority: Authority,
    pub(super) follower: Follower,
    /// Chunks and copies on their way, in order of what they hold, so that equal sets are one state.
    pub(super) chunks: [Option<Chunk>; 2],
    pub(super) copies: [Option<Copied>; 3],
    /// What the follower has answered and the authority has not heard: (key, version).
    pub(super) marks: [Option<(u8, u8)>; 3],
    pub(super) left: Left,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Authority {
    pub(super) rows: [Row; KEYS],
    /// 0 is never stamped.
    pub(super) stamps: [u8; KEYS],
    pub(super) synced: [u8; KEYS],
    pub(super) base: u8,
    /// What the last commit changed: (key, row, stamp) before it.
    pub(super) undo: Option<(u8, Row, u8)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Follower {
    pub(super) rows: [Row; KEYS],
    /// `NONE` is no fence row.
    pub(super) fences: [u8; KEYS],
    /// The base at which the range was opened; `NONE` is shut.
    pub(super) range: u8,
    pub(super) base: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Chunk {
    pub(super) base: u8,
    pub(super) rows: [Row; KEYS],
    pub(super) versions: [u8; KEYS],
    /// It has looked at the range's row ahead of its transaction.
    pub(super) looked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Copied {
    pub(super) key: u8,
    pub(super) version: u8,
    pub(super) row: Row,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Left {
    pub(super) writes: u8,
    pub(super) chunks: u8,
    pub(super) copies: u8,
    pub(super) raises: u8,
}

impl Authority {
    pub(super) fn version(&self, key: usize) -> u8 {
        self.stamps[key].max(self.base * BASE)
    }

    pub(super) fn write(&mut self, key: usize, row: Row) {
        self.undo = Some((key as u8, self.rows[key], self.stamps[key]));
        self.stamps[key] = self.version(key) + 1;
        self.rows[key] = row;
    }

    pub(super) fn mark(&mut self, key: usize, version: u8) {
        if version <= self.version(key) {
            self.synced[key] = self.synced[key].max(version);
        }
    }
}

impl Follower {
    /// The version that it holds, `NONE` if it can't be said.
    pub(super) fn version(&self, key: usize, bug: Option<Bug>) -> u8 {
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
    pub(super) fn take(&mut self, copy: Copied, bug: Option<Bug>) -> bool {
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
    pub(super) fn pass(&mut self, chunk: Chunk, bug: Option<Bug>) -> bool {
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
    pub(super) fn put_mark(&mut self, key: u8, version: u8) {
        put(&mut self.marks, (key, version));
    }

    /// Not known to be on the follower. A key that was never stamped comes with its range.
    pub(super) fn dirty(&self, key: usize) -> bool {
        let authority = &self.authority;
        if authority.stamps[key] == 0 && authority.base == 0 {
            return self.follower.range == NONE;
        }
        authority.synced[key] < authority.version(key)
    }

    pub(super) fn chunk(&self) -> Chunk {
        let authority = &self.authority;
        Chunk {
            base: authority.base,
            rows: authority.rows,
            versions: [authority.version(0), authority.version(1)],
            looked: false,
        }
    }

    pub(super) fn mark_chunk(&mut self, chunk: Chunk) {
        for key in 0..KEYS {
            if chunk.rows[key] != 0 && chunk.versions[key] > 0 {
                self.put_mark(key as u8, chunk.versions[key]);
            }
        }
    }

    /// What the worker makes of it if nothing disturbs it any more.
    pub(super) fn settled(mut self, bug: Option<Bug>) -> State {
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
pub(super) fn put<T: Copy + Ord, const N: usize>(set: &mut [Option<T>; N], item: T) {
    if set.contains(&Some(item)) {
        return;
    }
    if let Some(free) = set.iter_mut().find(|slot| slot.is_none()) {
        *free = Some(item);
        set.sort_unstable();
    }
}

pub(super) fn without<T: Copy + Ord, const N: usize>(
    mut set: [Option<T>; N],
    at: usize,
) -> [Option<T>; N] {
    set[at] = None;
    set.sort_unstable();
    set
}
