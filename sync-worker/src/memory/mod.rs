//! Two stores in memory for this crate's own tests: the ports without SQL, with faults by name.

mod ports;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use changeover_flags::{Entity, Key, Version};
use changeover_shadow::Value;

use crate::copy::Copier;
use crate::image::{Cell, Image, ImageRow};
use crate::pace::{Limit, Signals};
use crate::store::{Answer, Applied, Cursor, Hold, HoldKind, Stamped, StoreError};

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
    Sum,
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
    /// Lost against others, without effect.
    Busy,
    /// Never answers and never arrives.
    Hangs,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) text: String,
    pub(crate) unique: Option<String>,
}

impl Row {
    fn columns(&self) -> [Value; 2] {
        let unique = self.unique.clone();
        [
            Value::Text(self.text.clone()),
            unique.map_or(Value::Null, Value::Text),
        ]
    }
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
    /// The holders of the next conflict are gone when they are asked for.
    pub(crate) holders_gone: bool,
}

/// Both stores. Both roles are played by clones of it.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<State>>);

/// A signal that reads this level, and may read 5.
pub(crate) fn watching(level: &Arc<AtomicU64>) -> Signals {
    let level = Arc::clone(level);
    let signal = move || {
        let level = level.load(Ordering::Relaxed);
        async move { Ok(level as f64) }
    };
    let limit = Limit {
        most: 5.0,
        older_than: Duration::from_secs(9),
    };
    Signals::default().watch("load", signal, limit, Duration::from_secs(1))
}

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
            Some(Fault::Busy) => Err(StoreError::Busy {
                store: "memory".into(),
                doing: format!("{op:?}"),
                source: "a fault".into(),
            }),
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
            let gone = std::mem::take(&mut self.holders_gone);
            return Applied::Conflict(if gone { Vec::new() } else { holders });
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
