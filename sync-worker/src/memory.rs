//! Two stores in memory for this crate's own tests: the ports without SQL, with faults by name.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use changeover_flags::{Entity, Key, Version};
use changeover_shadow::Value;

use crate::copy::Copier;
use crate::image::{Cell, Image, ImageRow};
use crate::store::{
    Answer, Applied, Authority, Cursor, Dirty, Follower, Hold, HoldKind, Lag, Observed, Page,
    Stamped, StoreError,
};

/// A call of a port, for faults and for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Read,
    Page,
    Dirty,
    Mark,
    Hold,
    Lag,
    Apply,
    Group,
    Observe,
    SaveCursor,
}

/// What happens to the next call of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Never arrives.
    Lost,
    /// Takes effect, then the answer is lost.
    AnswerLost,
    /// Refused without effect.
    Refused,
    /// Never answers and never arrives.
    Hangs,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) text: String,
    pub(crate) unique: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Stamp {
    version: Version,
    synced: Version,
    hold: Option<Hold>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) rows: BTreeMap<Key, Row>,
    pub(crate) stamps: BTreeMap<Key, Stamp>,
    pub(crate) base: Version,
    pub(crate) held: BTreeMap<Key, Row>,
    pub(crate) fences: BTreeMap<Key, Version>,
    pub(crate) follower_base: Version,
    pub(crate) cursor: Cursor,
    /// Whether the parent that rows "orphan…" wait for has arrived.
    pub(crate) parent: bool,
    pub(crate) faults: VecDeque<(Op, Fault)>,
    pub(crate) log: Vec<Op>,
    /// Keys whose reading is refused.
    pub(crate) unreadable: BTreeSet<Key>,
}

/// Both stores. Both roles are played by clones of it.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<State>>);

pub(crate) fn key(id: i64) -> Key {
    // Padded, so that text order is number order.
    Key::new(format!("{id:04}"))
}

impl Memory {
    pub(crate) fn copier(&self) -> Copier {
        let entity = Entity::new("things").expect("a plain name");
        Copier::new(&entity, Arc::new(self.clone()), Arc::new(self.clone()))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0
            .lock()
            .expect("no test panics while it holds the lock")
    }

    pub(crate) fn fault(&self, op: Op, fault: Fault) {
        self.state().faults.push_back((op, fault));
    }

    /// A row as it was before the triggers came.
    pub(crate) fn history(&self, id: i64, text: &str) {
        self.state().rows.insert(
            key(id),
            Row {
                text: text.into(),
                unique: None,
            },
        );
    }

    pub(crate) fn write(&self, id: i64, text: &str) {
        self.write_unique(id, text, None);
    }

    pub(crate) fn write_unique(&self, id: i64, text: &str, unique: Option<&str>) {
        let mut state = self.state();
        let unique = unique.map(str::to_owned);
        state.rows.insert(
            key(id),
            Row {
                text: text.into(),
                unique,
            },
        );
        state.stamp(&key(id));
    }

    pub(crate) fn delete(&self, id: i64) {
        let mut state = self.state();
        state.rows.remove(&key(id));
        state.stamp(&key(id));
    }

    pub(crate) fn dirty_ids(&self) -> Vec<Key> {
        let state = self.state();
        state
            .stamps
            .keys()
            .filter(|key| state.is_dirty(key))
            .cloned()
            .collect()
    }

    pub(crate) fn hold_of(&self, id: i64) -> Option<HoldKind> {
        self.state()
            .stamps
            .get(&key(id))?
            .hold
            .as_ref()
            .map(|hold| hold.kind)
    }

    pub(crate) fn agrees(&self) -> bool {
        let state = self.state();
        state.rows == state.held
    }

    /// Runs `act` as a call: with what the faults of this operation do to it.
    fn call<'a, T: Send + 'a>(
        &'a self,
        op: Op,
        act: impl FnOnce(&mut State) -> Result<T, StoreError> + Send,
    ) -> Answer<'a, T> {
        let unreachable = || StoreError::Unreachable {
            store: "memory".into(),
            doing: format!("{op:?}"),
            source: "a fault".into(),
        };
        let fault = {
            let mut state = self.state();
            state.log.push(op);
            match state.faults.front() {
                Some((at, fault)) if *at == op => {
                    let fault = *fault;
                    state.faults.pop_front();
                    Some(fault)
                }
                _ => None,
            }
        };
        let done = match fault {
            None => act(&mut self.state()),
            Some(Fault::Lost) => Err(unreachable()),
            Some(Fault::AnswerLost) => {
                let _ = act(&mut self.state());
                Err(unreachable())
            }
            Some(Fault::Refused) => Err(refused()),
            Some(Fault::Hangs) => return Box::pin(std::future::pending()),
        };
        Box::pin(async move {
            tokio::task::yield_now().await;
            done
        })
    }
}

fn refused() -> StoreError {
    StoreError::Refused {
        store: "memory".into(),
        doing: "testing".into(),
        advice: "look at the test".into(),
        source: None,
    }
}

impl State {
    fn stamp(&mut self, key: &Key) {
        let stamp = self.stamps.entry(key.clone()).or_default();
        stamp.version = Version(stamp.version.max(self.base).0 + 1);
        stamp.hold = None;
    }

    fn version(&self, key: &Key) -> Version {
        self.stamps
            .get(key)
            .map_or(self.base, |stamp| stamp.version.max(self.base))
    }

    fn is_dirty(&self, key: &Key) -> bool {
        self.stamps
            .get(key)
            .is_some_and(|stamp| stamp.synced < self.version(key))
    }

    fn stamped(&self, key: &Key) -> Stamped {
        Stamped {
            key: key.clone(),
            version: self.version(key),
            image: self.image(key),
        }
    }

    fn image(&self, key: &Key) -> Result<Image, String> {
        let Some(row) = self.rows.get(key) else {
            return Ok(Image::empty(1));
        };
        if row.text.starts_with("unmappable") {
            return Err("it cannot be mapped".into());
        }
        let unique = row.unique.clone().map_or(Value::Null, Value::Text);
        let cells = vec![
            Cell::Value(Value::Text(row.text.clone())),
            Cell::Value(unique),
        ];
        Ok(Image {
            targets: vec![vec![ImageRow {
                slot: String::new(),
                cells,
            }]],
        })
    }

    fn held_row(image: &Image) -> Option<Row> {
        let row = image.targets.first()?.first()?;
        let text = |cell: Option<&Cell>| match cell {
            Some(Cell::Value(Value::Text(text))) => Some(text.clone()),
            _ => None,
        };
        Some(Row {
            text: text(row.cells.first())?,
            unique: text(row.cells.get(1)),
        })
    }

    fn refusal(&self, copy: &Stamped) -> Option<Applied> {
        if copy.version < self.follower_base {
            return Some(Applied::BehindBase);
        }
        if self
            .fences
            .get(&copy.key)
            .is_some_and(|fence| *fence >= copy.version)
        {
            return Some(Applied::Stale);
        }
        let row = State::held_row(copy.image.as_ref().ok()?)?;
        let hold = |kind| {
            Some(Applied::Held(Hold {
                kind,
                reason: "the follower says no".into(),
            }))
        };
        if row.text.starts_with("refused") {
            return hold(HoldKind::Blocked);
        }
        if row.text.starts_with("orphan") && !self.parent {
            return hold(HoldKind::Waiting);
        }
        None
    }

    fn holders(&self, copy: &Stamped) -> Vec<Key> {
        let Some(row) = copy.image.as_ref().ok().and_then(State::held_row) else {
            return Vec::new();
        };
        let same = |held: &Row| row.unique.is_some() && held.unique == row.unique;
        let others = self
            .held
            .iter()
            .filter(|(key, held)| **key != copy.key && same(held));
        others.map(|(key, _)| key.clone()).collect()
    }

    fn take(&mut self, copy: &Stamped) -> Applied {
        if let Some(refusal) = self.refusal(copy) {
            return refusal;
        }
        let holders = self.holders(copy);
        if !holders.is_empty() {
            return Applied::Conflict(holders);
        }
        match copy.image.as_ref().ok().and_then(State::held_row) {
            Some(row) => self.held.insert(copy.key.clone(), row),
            None => self.held.remove(&copy.key),
        };
        self.fences.insert(copy.key.clone(), copy.version);
        Applied::Applied
    }
}

fn after<'a, T>(map: &'a BTreeMap<Key, T>, after: Option<&Key>) -> impl Iterator<Item = &'a Key> {
    let after = after.cloned();
    map.keys()
        .filter(move |key| after.as_ref().is_none_or(|after| *key > after))
}

impl Authority for Memory {
    fn read<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Stamped>> {
        self.call(Op::Read, move |state| {
            if keys.iter().any(|key| state.unreadable.contains(key)) {
                return Err(refused());
            }
            Ok(keys.iter().map(|key| state.stamped(key)).collect())
        })
    }

    fn page<'a>(&'a self, from: Option<&'a Key>, limit: u32) -> Answer<'a, Page> {
        self.call(Op::Page, move |state| {
            let keys: Vec<Key> = after(&state.rows, from)
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

    fn dirty_among<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Key>> {
        self.call(Op::Dirty, move |state| {
            Ok(keys
                .iter()
                .filter(|key| state.is_dirty(key))
                .cloned()
                .collect())
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
            let mut before = BTreeMap::new();
            for copy in copies {
                if state.refusal(copy).is_none() {
                    before.insert(copy.key.clone(), state.held.remove(&copy.key));
                }
            }
            let answers: Vec<Applied> = copies.iter().map(|copy| state.take(copy)).collect();
            for (copy, answer) in copies.iter().zip(&answers) {
                if let (Applied::Conflict(_), Some(Some(row))) = (answer, before.remove(&copy.key))
                {
                    state.held.insert(copy.key.clone(), row);
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
                expected: shown(copy.image.as_ref().ok().and_then(State::held_row)),
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

    fn save_cursor<'a>(&'a self, cursor: &'a Cursor) -> Answer<'a, ()> {
        self.call(Op::SaveCursor, move |state| {
            state.cursor = cursor.clone();
            Ok(())
        })
    }
}
