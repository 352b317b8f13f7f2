//! The two roles of the stores in memory.

use std::collections::{BTreeMap, BTreeSet};

use changeover_flags::{Key, Version};
use changeover_shadow::Value;

use super::{Memory, Op, Row, Stamp, State, after, refused};
use crate::store::{
    Answer, Applied, Authority, Cursor, Dirt, Dirty, Follower, Hold, HoldKind, Lag, Observed, Page,
    Stamped,
};
use crate::sum::{Span, Sum, Unsummed};

impl Authority for Memory {
    fn read<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Stamped>> {
        self.call(Op::Read, move |state| {
            if keys.iter().any(|key| state.unreadable.contains(key)) {
                return Err(refused());
            }
            Ok(keys.iter().map(|key| state.stamped(key)).collect())
        })
    }

    fn page<'a>(&'a self, span: &'a Span, limit: u32) -> Answer<'a, Page> {
        self.call(Op::Page, move |state| {
            let keys: Vec<Key> = after(&state.rows, span.after.as_ref())
                .take_while(|key| span.contains_text(key))
                .take(limit as usize)
                .cloned()
                .collect();
            let stamped = keys.iter().map(|key| state.stamped(key)).collect();
            Ok(Page {
                stamped,
                last: keys.last().cloned(),
            })
        })
    }

    fn unsummed(&self) -> Option<Vec<Unsummed>> {
        None
    }

    fn keys<'a>(&'a self, span: &'a Span, limit: u32) -> Answer<'a, Vec<Key>> {
        self.call(Op::Page, move |state| {
            let keys = state.rows.keys().filter(|key| span.contains_text(key));
            Ok(keys.take(limit as usize).cloned().collect())
        })
    }

    fn cut<'a>(&'a self, span: &'a Span, limit: u32, parts: u32) -> Answer<'a, (u64, Vec<Key>)> {
        Box::pin(async move {
            let keys = Authority::keys(self, span, limit).await?;
            let mut ends = Vec::new();
            if keys.len() >= limit as usize {
                let each = keys.len().div_ceil(parts.max(1) as usize).max(1);
                ends = keys
                    .chunks(each)
                    .filter_map(|keys| keys.last().cloned())
                    .collect();
            }
            Ok((keys.len() as u64, ends))
        })
    }

    /// Rows are the root table's here.
    fn orphans<'a>(&'a self, _span: &'a Span, _limit: u32) -> Answer<'a, Vec<Key>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn sum<'a>(&'a self, span: &'a Span, salt: u64) -> Answer<'a, Option<Sum>> {
        self.call(Op::Sum, move |state| {
            let mut sum = Sum::default();
            for key in state.rows.keys().filter(|key| span.contains_text(key)) {
                let Ok(image) = state.image(key) else {
                    return Ok(None);
                };
                if let Some(row) = State::held_row(&image) {
                    sum.add_row(
                        salt,
                        "things",
                        key,
                        Some(state.version(key)),
                        &row.columns(),
                    );
                }
            }
            Ok(Some(sum))
        })
    }

    fn rootless<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Key>> {
        self.call(Op::Read, move |state| {
            let rootless = keys.iter().filter(|key| !state.rows.contains_key(*key));
            Ok(rootless.cloned().collect())
        })
    }

    fn dirty<'a>(&'a self, from: Option<&'a Key>, limit: u32) -> Answer<'a, Vec<Dirty>> {
        self.call(Op::Dirty, move |state| {
            let keys = after(&state.stamps, from).filter(|key| state.is_dirty(key));
            let dirty = |key: &Key| Dirty {
                key: key.clone(),
                version: state.version(key),
                hold: state.stamps.get(key).and_then(|stamp| stamp.hold.clone()),
            };
            Ok(keys.take(limit as usize).map(dirty).collect())
        })
    }

    fn dirty_among<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, BTreeMap<Key, Dirt>> {
        self.call(Op::Dirty, move |state| {
            let dirty = keys.iter().filter(|key| state.is_dirty(key));
            Ok(dirty.map(|key| (key.clone(), Dirt::Stamped)).collect())
        })
    }

    fn stamped_keys<'a>(&'a self, from: Option<&'a Key>, limit: u32) -> Answer<'a, Vec<Key>> {
        self.call(Op::Read, move |state| {
            Ok(after(&state.stamps, from)
                .take(limit as usize)
                .cloned()
                .collect())
        })
    }

    fn mark_synced<'a>(&'a self, marks: &'a [(Key, Version)]) -> Answer<'a, ()> {
        self.call(Op::Mark, move |state| {
            for (key, version) in marks {
                let current = state.version(key);
                if let Some(stamp) = state.stamps.get_mut(key)
                    && *version > stamp.synced
                    && *version <= current
                {
                    stamp.synced = *version;
                    stamp.hold = None;
                }
            }
            Ok(())
        })
    }

    fn hold<'a>(&'a self, key: &'a Key, version: Version, hold: &'a Hold) -> Answer<'a, ()> {
        self.call(Op::Hold, move |state| {
            if state.version(key) == version {
                let stamp = Stamp {
                    version,
                    synced: Version(-1),
                    hold: None,
                };
                let stamp = state.stamps.entry(key.clone()).or_insert(stamp);
                stamp.hold = Some(hold.clone());
            }
            Ok(())
        })
    }

    fn touch<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, ()> {
        self.call(Op::Mark, move |state| {
            keys.iter().for_each(|key| state.stamp(key));
            Ok(())
        })
    }

    fn versions<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Version>> {
        self.call(Op::Read, move |state| {
            Ok(keys.iter().map(|key| state.version(key)).collect())
        })
    }

    fn lag(&self) -> Answer<'_, Lag> {
        self.call(Op::Lag, |state| {
            let mut lag = Lag::default();
            for (key, stamp) in &state.stamps {
                if !state.is_dirty(key) {
                    continue;
                }
                lag.dirty += 1;
                match stamp.hold.as_ref().map(|hold| hold.kind) {
                    Some(HoldKind::Waiting) => lag.waiting += 1,
                    Some(HoldKind::Blocked) => lag.blocked += 1,
                    None => {}
                }
            }
            Ok(lag)
        })
    }

    fn estimate(&self) -> Answer<'_, u64> {
        self.call(Op::Lag, |state| Ok(state.rows.len() as u64))
    }
}

impl Follower for Memory {
    fn apply<'a>(
        &'a self,
        copies: &'a [Stamped],
        cursor: Option<&'a Cursor>,
    ) -> Answer<'a, Vec<Applied>> {
        self.call(Op::Apply, move |state| {
            let answers = copies.iter().map(|copy| state.take(copy)).collect();
            if let Some(cursor) = cursor {
                state.cursor = cursor.clone();
            }
            Ok(answers)
        })
    }

    fn apply_group<'a>(&'a self, copies: &'a [Stamped]) -> Answer<'a, Vec<Applied>> {
        self.call(Op::Group, move |state| {
            let before = (state.held.clone(), state.fences.clone());
            for copy in copies {
                if state.refusal(copy).is_none() {
                    state.held.remove(&copy.key);
                }
            }
            let mut answers: Vec<Applied> = copies.iter().map(|copy| state.take(copy)).collect();
            let mut holders = BTreeSet::new();
            for answer in &answers {
                if let Applied::Conflict(keys) = answer {
                    holders.extend(keys.iter().cloned());
                }
            }
            if holders.is_empty() {
                return Ok(answers);
            }
            // One transaction: a conflict undoes all of it.
            (state.held, state.fences) = before;
            for answer in &mut answers {
                if matches!(answer, Applied::Applied | Applied::Conflict(_)) {
                    *answer = Applied::Conflict(holders.iter().cloned().collect());
                }
            }
            Ok(answers)
        })
    }

    fn observe<'a>(&'a self, copies: &'a [Stamped]) -> Answer<'a, Vec<Observed>> {
        self.call(Op::Observe, move |state| {
            let shown = |row: Option<Row>| {
                let rows = row.map(|row| (String::new(), Value::Text(format!("{row:?}"))));
                let rows = Value::Record(rows.into_iter().collect());
                Value::Record([("things".to_owned(), rows)].into_iter().collect())
            };
            let observed = |copy: &Stamped| Observed {
                key: copy.key.clone(),
                version: state.fences.get(&copy.key).copied(),
                expected: Ok(shown(copy.image.as_ref().ok().and_then(State::held_row))),
                actual: shown(state.held.get(&copy.key).cloned()),
            };
            Ok(copies.iter().map(observed).collect())
        })
    }

    fn held_keys<'a>(&'a self, from: Option<&'a Key>, limit: u32) -> Answer<'a, Vec<Key>> {
        self.call(Op::Read, move |state| {
            let mut keys: BTreeMap<Key, ()> =
                state.fences.keys().map(|key| (key.clone(), ())).collect();
            keys.extend(state.held.keys().map(|key| (key.clone(), ())));
            Ok(after(&keys, from).take(limit as usize).cloned().collect())
        })
    }

    fn moved_keys<'a>(&'a self, from: Option<&'a Key>, limit: u32) -> Answer<'a, Vec<Key>> {
        self.call(Op::Read, move |state| {
            let keys = after(&state.fences, from);
            let moved = keys.filter(|key| state.fences.get(*key) != Some(&state.follower_base));
            Ok(moved.take(limit as usize).cloned().collect())
        })
    }

    fn keys<'a>(&'a self, span: &'a Span, limit: u32) -> Answer<'a, Vec<Key>> {
        self.call(Op::Read, move |state| {
            let keys = state.held.keys().filter(|key| span.contains_text(key));
            Ok(keys.take(limit as usize).cloned().collect())
        })
    }

    fn sum<'a>(&'a self, span: &'a Span, salt: u64) -> Answer<'a, Option<Sum>> {
        self.call(Op::Sum, move |state| {
            let mut sum = Sum::default();
            for (key, row) in &state.held {
                if span.contains_text(key) {
                    let version = state.fences.get(key).copied();
                    sum.add_row(salt, "things", key, version, &row.columns());
                }
            }
            Ok(Some(sum))
        })
    }

    fn versions<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Option<Version>>> {
        self.call(Op::Read, move |state| {
            Ok(keys
                .iter()
                .map(|key| state.fences.get(key).copied())
                .collect())
        })
    }

    fn cursor(&self) -> Answer<'_, Cursor> {
        self.call(Op::Read, |state| Ok(state.cursor.clone()))
    }

    fn save_cursor<'a>(&'a self, cursor: &'a Cursor) -> Answer<'a, bool> {
        self.call(Op::SaveCursor, move |state| {
            state.cursor = cursor.clone();
            Ok(true)
        })
    }
}
