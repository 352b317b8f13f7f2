//! What this process knows to be ahead of the follower: [`Pins`].
//!
//! 1. A write pins its keys *before* the authority is called, so that a lost answer and a caller
//!    that vanished are covered. A pinned key is read from the authority.
//! 2. A pin is released only on evidence that began after the last write's end: a copy that
//!    started then and reports applied, or the word of the freshness port, asked then. A copy that
//!    began earlier, however late it ends, releases nothing.
//!    Where writes are replayed instead of copied, each has to be: one that was left, lost or
//!    skipped keeps its key pinned, whatever is replayed after it.
//! 3. How the write ended makes no difference: a refused or unknown one is let go the same way.
//! 4. Keys and scopes are bounded; what does not fit pins the whole entity.
//! 5. A scope's pin (a bulk write's) holds for every read routed by that scope, and for every read
//!    that does not say its scope: one bulk write of one tenant sends every read without
//!    [`Operation::routed_by`](crate::Operation::routed_by) to the authority until it is drained. So
//!    where an entity has bulk writes, its reads should be routed by their scope, those by key too.
//!
//! Not promised: a write whose outcome is unknown may land later still. It is then dirty by its
//! own commit and at most the reported lag old here, but no longer pinned.
//!
//! No lock is held across an await; the order of "ended" and "began" is one counter's.

mod coarse;
mod ticket;

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use changeover_flags::Key;

use crate::call::Touched;
use coarse::{Coarse, CoarsePins};
pub(crate) use ticket::Ticket;

const SHARDS: usize = 16;

/// A moment in the order of this process's write ends and copy starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Moment(u64);

/// The pins of one entity in this process. See the module page.
#[derive(Debug)]
pub(crate) struct Pins {
    shards: [Mutex<BTreeMap<Key, Pin>>; SHARDS],
    coarse: Mutex<CoarsePins>,
    clock: AtomicU64,
    keys: AtomicUsize,
    coarse_count: AtomicUsize,
    capacity: usize,
}

#[derive(Debug)]
struct Pin {
    /// Writes that have begun and not ended.
    writing: u32,
    /// When the last write ended.
    ended: Moment,
    /// Since when the key is pinned.
    since: Moment,
    /// Writes that have begun since and were not replayed, and one more for each that began while
    /// another was under way: no replay pays that back.
    owed: u64,
}

/// How many pins are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PinCount {
    /// Keys.
    pub keys: usize,
    /// Scopes, and the entity itself if it is pinned.
    pub scopes: usize,
}

impl PinCount {
    /// All of them.
    #[must_use]
    pub fn total(self) -> usize {
        self.keys + self.scopes
    }
}

impl Pins {
    /// At most `capacity` keys, and as many scopes.
    pub(crate) fn new(capacity: usize) -> Pins {
        Pins {
            shards: Default::default(),
            coarse: Mutex::default(),
            clock: AtomicU64::new(0),
            keys: AtomicUsize::new(0),
            coarse_count: AtomicUsize::new(0),
            capacity,
        }
    }

    /// Pins what a write is about to touch.
    pub(crate) fn begin(self: &Arc<Self>, touched: &Touched) -> Ticket {
        let mut ticket = Ticket::new(Arc::clone(self));
        ticket.add(touched);
        ticket
    }

    /// The moment at which a copy, or a question to the freshness port, begins.
    pub(crate) fn now(&self) -> Moment {
        Moment(self.clock.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// Whether a read must go to the authority.
    pub(crate) fn holds(&self, touched: &Touched, routing: Option<&str>) -> bool {
        let (keys, coarse) = (self.keys.load(Ordering::SeqCst), self.coarse_count());
        if keys == 0 && coarse == 0 {
            return false;
        }
        if coarse > 0 && lock(&self.coarse).holds(routing) {
            return true;
        }
        match touched {
            Touched::Key(_) | Touched::Keys(_) => {
                let mut named = touched.as_keys().iter();
                named.any(|key| self.shard(key).contains_key(key))
            }
            // Nobody here knows which keys it shows.
            Touched::None | Touched::Scope(_) | Touched::All => keys > 0,
        }
    }

    /// Releases those of `keys` whose last write ended before `began`.
    pub(crate) fn release(&self, keys: &[Key], began: Moment) {
        for key in keys {
            let mut shard = self.shard(key);
            let covered = |pin: &Pin| pin.writing == 0 && pin.ended < began;
            if shard.get(key).is_some_and(covered) {
                shard.remove(key);
                self.keys.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    /// One write of `keys`, which began to end at `ending`, was replayed. Releases those of which
    /// every write was.
    pub(crate) fn replayed(&self, keys: &[Key], ending: Moment) {
        for key in keys {
            let mut shard = self.shard(key);
            // A pin that is younger owes nothing for this write.
            if let Some(pin) = shard.get_mut(key).filter(|pin| pin.since < ending) {
                pin.owed = pin.owed.saturating_sub(1);
                if pin.owed == 0 {
                    shard.remove(key);
                    self.keys.fetch_sub(1, Ordering::SeqCst);
                }
            }
        }
    }

    /// Releases the scopes and the entity, where their last write ended before `began`: at some
    /// moment after it every key that was dirty then has been clean.
    pub(crate) fn release_coarse(&self, began: Moment) {
        let cleared = self.now();
        self.with_coarse(|coarse| coarse.release(began, cleared));
    }

    /// Up to `limit` keys that wait for evidence, those after `after` first, in a fixed order.
    pub(crate) fn waiting(&self, after: Option<&Key>, limit: usize) -> Vec<Key> {
        let first = after.map_or(0, shard_of);
        let mut found = Vec::new();
        for index in first..SHARDS {
            let Some(shard) = self.shards.get(index) else {
                break;
            };
            let from = match after {
                Some(key) if index == first => Bound::Excluded(key),
                _ => Bound::Unbounded,
            };
            let shard = lock(shard);
            let ended = shard.range::<Key, _>((from, Bound::Unbounded));
            let ended = ended
                .filter(|(_, pin)| pin.writing == 0)
                .map(|(key, _)| key.clone());
            found.extend(ended.take(limit.saturating_sub(found.len())));
            if found.len() >= limit {
                break;
            }
        }
        found
    }

    /// How many pins are held.
    pub(crate) fn count(&self) -> PinCount {
        PinCount {
            keys: self.keys.load(Ordering::SeqCst),
            scopes: self.coarse_count(),
        }
    }

    fn coarse_count(&self) -> usize {
        self.coarse_count.load(Ordering::SeqCst)
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, BTreeMap<Key, Pin>> {
        lock(
            self.shards
                .get(shard_of(key))
                .expect("a shard's number is below SHARDS"),
        )
    }

    /// Pins one key for one more write; `false` when there is no room.
    fn pin_key(&self, key: &Key) -> bool {
        let mut shard = self.shard(key);
        if let Some(pin) = shard.get_mut(key) {
            pin.owed += if pin.writing > 0 { 2 } else { 1 };
            pin.writing += 1;
            return true;
        }
        if self.keys.fetch_add(1, Ordering::SeqCst) >= self.capacity {
            self.keys.fetch_sub(1, Ordering::SeqCst);
            return false;
        }
        shard.insert(
            key.clone(),
            Pin {
                writing: 1,
                ended: Moment::default(),
                since: self.now(),
                owed: 1,
            },
        );
        true
    }

    fn end_key(&self, key: &Key) {
        let mut shard = self.shard(key);
        if let Some(pin) = shard.get_mut(key) {
            pin.writing = pin.writing.saturating_sub(1);
            // Taken under the lock, so that the latest end is the one that stays.
            pin.ended = self.now();
        }
    }

    fn with_coarse<T>(&self, change: impl FnOnce(&mut CoarsePins) -> T) -> T {
        let mut coarse = lock(&self.coarse);
        let result = change(&mut coarse);
        self.coarse_count.store(coarse.len(), Ordering::SeqCst);
        result
    }
}

/// The same in every run: a simulation replays it.
fn shard_of(key: &Key) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    usize::try_from(hasher.finish() % SHARDS as u64).unwrap_or(0)
}

/// No panic can leave a pin half changed, so a poisoned lock is as good as any.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
