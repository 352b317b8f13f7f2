//! The two databases, and what is checked of them after every change.
//!
//! The authority keeps the history of every key by version, so that the rule "the follower at
//! version v holds the image of the rows at v" is checked at once, not only when versions meet.

use std::collections::{BTreeMap, BTreeSet};

use changeover::flags::{Key, Version};
use changeover::shadow::Value;
use changeover::worker::image::{Cell, Image, ImageRow};
use changeover::worker::store::{
    Applied, Cursor, Dirty, Hold, HoldKind, Lag, Observed, Page, Stamped, StoreError,
};

use super::bugs::Bug;

/// One row of the authority: what was appended to it, a unique value, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    pub appended: Vec<u32>,
    pub unique: Option<u8>,
    pub flavour: Flavour,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Flavour {
    #[default]
    Plain,
    /// No mapping has an image for it.
    Unmappable,
    /// The follower's constraints refuse it.
    Refused,
}

#[derive(Debug, Clone, Default)]
struct Stamp {
    version: Version,
    synced: Version,
    hold: Option<Hold>,
}

/// Who runs a call: an application's process, or one of the worker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    App,
    Drain,
    Backfill,
    Verify,
}

/// States that a run of all schedules must have been in, or it tests too little.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reach {
    pub late_copy_refused: u64,
    pub unknown_write_drained: u64,
    pub delete_outranked_late_page: u64,
    pub backfill_resumed: u64,
    pub cancelled_write_completed: u64,
    pub group_copied: u64,
    pub key_held: u64,
    pub old_revision_refused: u64,
    pub below_base_refused: u64,
    pub follower_answered: u64,
    pub crashed: u64,
    pub calls: u64,
}

impl Reach {
    pub fn all(&self) -> [(&'static str, u64); 11] {
        [
            ("late copy refused", self.late_copy_refused),
            (
                "unknown write copied by the drain",
                self.unknown_write_drained,
            ),
            (
                "delete outranking a late page",
                self.delete_outranked_late_page,
            ),
            ("backfill resumed", self.backfill_resumed),
            ("cancelled write completed", self.cancelled_write_completed),
            ("unique values copied as a group", self.group_copied),
            ("key held", self.key_held),
            ("old revision refused", self.old_revision_refused),
            ("copy below the base refused", self.below_base_refused),
            ("read answered by the follower", self.follower_answered),
            ("process crashed", self.crashed),
        ]
    }

    pub fn add(&mut self, other: &Reach) {
        self.late_copy_refused += other.late_copy_refused;
        self.unknown_write_drained += other.unknown_write_drained;
        self.delete_outranked_late_page += other.delete_outranked_late_page;
        self.backfill_resumed += other.backfill_resumed;
        self.cancelled_write_completed += other.cancelled_write_completed;
        self.group_copied += other.group_copied;
        self.key_held += other.key_held;
        self.old_revision_refused += other.old_revision_refused;
        self.below_base_refused += other.below_base_refused;
        self.follower_answered += other.follower_answered;
        self.crashed += other.crashed;
        self.calls += other.calls;
    }
}

/// Both databases, the ledger of writes, and the first rule that was broken.
#[derive(Debug, Default)]
pub struct World {
    pub bug: Option<Bug>,
    rows: BTreeMap<Key, Row>,
    stamps: BTreeMap<Key, Stamp>,
    history: BTreeMap<Key, Vec<(Version, Option<Row>)>>,
    base: Version,
    held: BTreeMap<Key, Image>,
    fences: BTreeMap<Key, Version>,
    follower_base: Version,
    pub follower_revision: i64,
    /// Whether the follower keeps no cursor beside a copy that it refuses.
    pub careful: bool,
    cursors: BTreeMap<i64, Cursor>,
    /// How often each append took effect.
    applied: BTreeMap<u32, u32>,
    refused: BTreeSet<u32>,
    acknowledged: BTreeSet<u32>,
    /// Writes whose answer was lost, with the version they got.
    unknown: BTreeMap<Key, Version>,
    pub reach: Reach,
    pub violation: Option<String>,
}

/// The mapping of a revision.
fn image_of(revision: i64, row: Option<&Row>) -> Result<Image, String> {
    let Some(row) = row else {
        return Ok(Image::empty(1));
    };
    if row.flavour == Flavour::Unmappable {
        return Err("it cannot be mapped".into());
    }
    let appended: Vec<Value> = row
        .appended
        .iter()
        .map(|id| Value::Integer(i64::from(*id)))
        .collect();
    let unique = row
        .unique
        .map_or(Value::Null, |unique| Value::Integer(i64::from(unique)));
    let cells = vec![
        Cell::Value(Value::Integer(revision)),
        Cell::Value(Value::List(appended)),
        Cell::Value(unique),
        Cell::Value(Value::Boolean(row.flavour == Flavour::Refused)),
    ];
    Ok(Image {
        targets: vec![vec![ImageRow {
            slot: String::new(),
            cells,
        }]],
    })
}

fn cell(image: &Image, index: usize) -> Option<&Value> {
    match image.targets.first()?.first()?.cells.get(index)? {
        Cell::Value(value) => Some(value),
        _ => None,
    }
}

fn unique_of(image: &Image) -> Option<&Value> {
    cell(image, 2).filter(|value| **value != Value::Null)
}

/// The revision whose mapping gives the image of a version: bases rise with revisions.
fn revision_of(version: Version) -> i64 {
    (version.0 >> Version::COUNTER_BITS) + 1
}

fn busy(doing: &str) -> StoreError {
    StoreError::Busy {
        store: "simulated".into(),
        doing: doing.into(),
        source: "a fault".into(),
    }
}

/// The application's writes.
impl World {
    pub fn new(bug: Option<Bug>) -> World {
        World {
            bug,
            follower_revision: 1,
            ..World::default()
        }
    }

    fn is(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    pub fn violate(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// A row from before the triggers came.
    pub fn inherit(&mut self, key: &Key, row: Row) {
        self.history
            .insert(key.clone(), vec![(Version(0), Some(row.clone()))]);
        self.rows.insert(key.clone(), row);
    }

    /// Appends `id`; inserts the row if it is not there. Answers the version.
    pub fn append(&mut self, key: &Key, id: u32, flavour: Flavour) -> Result<Version, StoreError> {
        let times = self.applied.entry(id).or_default();
        *times += 1;
        if *times > 1 {
            let times = *times;
            self.violate(format!("append {id} took effect {times} times"));
        }
        if self.refused.contains(&id) {
            self.violate(format!("append {id} took effect after it was refused"));
        }
        let row = self.rows.entry(key.clone()).or_default();
        row.appended.push(id);
        row.flavour = flavour;
        Ok(self.stamp(key))
    }

    pub fn delete(&mut self, key: &Key) -> Result<Version, StoreError> {
        if self.rows.remove(key).is_none() {
            return Ok(self.version(key));
        }
        Ok(self.stamp(key))
    }

    /// Exchanges the unique values of two rows in one transaction, or takes one into use.
    pub fn swap(&mut self, one: &Key, other: &Key) -> Result<Version, StoreError> {
        if one == other || !self.rows.contains_key(one) || !self.rows.contains_key(other) {
            return Err(busy("swapping"));
        }
        let taken: BTreeSet<u8> = self.rows.values().filter_map(|row| row.unique).collect();
        let free = (0..).find(|unique| !taken.contains(unique));
        let value = |key: &Key| self.rows.get(key).and_then(|row| row.unique);
        let (first, second) = (value(other).or(free), value(one));
        for (key, unique) in [(one, first), (other, second)] {
            if let Some(row) = self.rows.get_mut(key) {
                row.unique = unique;
            }
        }
        self.stamp(other);
        Ok(self.stamp(one))
    }

    /// The row and its version, as a caller reads it from the authority.
    pub fn look(&self, key: &Key) -> (Option<Vec<u32>>, Version) {
        (
            self.rows.get(key).map(|row| row.appended.clone()),
            self.version(key),
        )
    }

    /// The row and its version, as a caller reads it from the follower.
    pub fn look_at_follower(&mut self, key: &Key) -> (Option<Vec<u32>>, Version) {
        let row = self.held.get(key).and_then(|image| match cell(image, 1) {
            Some(Value::List(ids)) => Some(ids.clone()),
            _ => None,
        });
        let ids = row.map(|ids| {
            let id = |value: &Value| match value {
                Value::Integer(id) => u32::try_from(*id).unwrap_or(u32::MAX),
                _ => u32::MAX,
            };
            ids.iter().map(id).collect()
        });
        self.reach.follower_answered += 1;
        (ids, self.fences.get(key).copied().unwrap_or_default())
    }

    pub fn acknowledge(&mut self, id: u32) {
        self.acknowledged.insert(id);
        if self.applied.get(&id) != Some(&1) {
            self.violate(format!("append {id} was acknowledged and is not there"));
        }
    }

    pub fn refuse(&mut self, id: u32) {
        self.refused.insert(id);
        if self.applied.contains_key(&id) {
            self.violate(format!("append {id} was refused and is there"));
        }
    }

    pub fn answer_was_lost(&mut self, key: &Key, version: Version) {
        self.unknown.insert(key.clone(), version);
    }

    pub fn took_effect(&self, id: u32) -> bool {
        self.applied.contains_key(&id)
    }

    pub fn stamp(&mut self, key: &Key) -> Version {
        let stamp = self.stamps.entry(key.clone()).or_default();
        stamp.version = Version(stamp.version.max(self.base).0 + 1);
        stamp.hold = None;
        let version = stamp.version;
        let row = self.rows.get(key).cloned();
        self.history
            .entry(key.clone())
            .or_default()
            .push((version, row));
        version
    }

    /// The same write with its stamp taken back, to be given later: a seeded bug.
    pub fn unstamp(&mut self, key: &Key) {
        if let Some(stamp) = self.stamps.get_mut(key) {
            stamp.version = Version(stamp.version.0 - 1);
            if let Some(history) = self.history.get_mut(key) {
                history.pop();
            }
        }
    }

    /// Gives every row that has no image, or none that the follower takes, one that it does.
    pub fn mend(&mut self) {
        let poor: Vec<Key> = self
            .rows
            .iter()
            .filter(|(_, row)| row.flavour != Flavour::Plain)
            .map(|(key, _)| key.clone())
            .collect();
        for key in poor {
            if let Some(row) = self.rows.get_mut(&key) {
                row.flavour = Flavour::Plain;
            }
            self.stamp(&key);
        }
    }

    pub fn raise_authority(&mut self) {
        self.base = self.base.max(Version::base(1));
    }

    pub fn raise_follower(&mut self) {
        self.follower_revision = 2;
        self.follower_base = Version::base(1);
    }
}

/// The authority's side of the ports.
impl World {
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

    pub fn read(&self, revision: i64, key: &Key, torn: bool) -> Stamped {
        let version = self.version(key);
        let mut row = self.rows.get(key);
        let stale = match self.bug {
            Some(Bug::ImageReadInsideTheWrite) => true,
            Some(Bug::FenceTakesEqual | Bug::StaleImageOfAHeldVersion) => {
                self.fences.get(key) == Some(&version)
            }
            _ => false,
        };
        if torn
            && stale
            && let Some(history) = self.history.get(key)
            && let Some((_, before)) = history.iter().rev().nth(1)
        {
            row = before.as_ref();
        }
        Stamped {
            key: key.clone(),
            version,
            image: image_of(revision, row),
        }
    }

    pub fn page(&self, revision: i64, after: Option<&Key>, limit: u32) -> Page {
        let keys = self
            .rows
            .keys()
            .filter(|key| after.is_none_or(|after| *key > after));
        let stamped: Vec<Stamped> = keys
            .take(limit as usize)
            .map(|key| self.read(revision, key, false))
            .collect();
        let last = stamped.last().map(|one| one.key.clone());
        Page { stamped, last }
    }

    pub fn dirty(&self, after: Option<&Key>, limit: u32) -> Vec<Dirty> {
        let keys = self
            .stamps
            .iter()
            .filter(|(key, _)| after.is_none_or(|after| *key > after));
        let dirty = keys
            .filter(|(key, _)| self.is_dirty(key))
            .map(|(key, stamp)| Dirty {
                key: key.clone(),
                version: self.version(key),
                hold: stamp.hold.clone(),
            });
        dirty.take(limit as usize).collect()
    }

    pub fn dirty_among(&self, keys: &[Key]) -> Vec<Key> {
        keys.iter()
            .filter(|key| self.is_dirty(key))
            .cloned()
            .collect()
    }

    pub fn stamped_keys(&self, after: Option<&Key>, limit: u32) -> Vec<Key> {
        let keys = self
            .stamps
            .keys()
            .filter(|key| after.is_none_or(|after| *key > after));
        keys.take(limit as usize).cloned().collect()
    }

    pub fn mark_synced(&mut self, marks: &[(Key, Version)]) {
        for (key, version) in marks {
            let current = self.version(key);
            let blind = self.is(Bug::MarkWithoutVersion);
            let Some(stamp) = self.stamps.get_mut(key) else {
                continue;
            };
            if blind {
                stamp.synced = current;
            } else if *version > stamp.synced && *version <= current {
                stamp.synced = *version;
                stamp.hold = None;
            }
            self.check_clean(key);
        }
    }

    pub fn hold(&mut self, key: &Key, version: Version, hold: &Hold) {
        self.reach.key_held += 1;
        if self.version(key) == version {
            let stamp = Stamp {
                version,
                synced: Version(-1),
                hold: None,
            };
            self.stamps.entry(key.clone()).or_insert(stamp).hold = Some(hold.clone());
        }
    }

    pub fn versions(&self, keys: &[Key]) -> Vec<Version> {
        keys.iter().map(|key| self.version(key)).collect()
    }

    pub fn lag(&self) -> Lag {
        let mut lag = Lag::default();
        for (_, stamp) in self.stamps.iter().filter(|(key, _)| self.is_dirty(key)) {
            lag.dirty += 1;
            match stamp.hold.as_ref().map(|hold| hold.kind) {
                Some(HoldKind::Waiting) => lag.waiting += 1,
                Some(HoldKind::Blocked) => lag.blocked += 1,
                None => {}
            }
        }
        lag
    }

    pub fn count(&self) -> u64 {
        self.rows.len() as u64
    }
}

/// The follower's side of the ports.
impl World {
    pub fn admit(&mut self, revision: i64) -> Result<(), StoreError> {
        if revision == self.follower_revision || self.is(Bug::OldRevisionAccepted) {
            return Ok(());
        }
        self.reach.old_revision_refused += 1;
        Err(StoreError::Revision {
            held: self.follower_revision,
            mine: revision,
        })
    }

    fn refusal(&mut self, who: Process, copy: &Stamped) -> Option<Applied> {
        if copy.version < self.follower_base {
            self.reach.below_base_refused += 1;
            return Some(Applied::BehindBase);
        }
        let fence = self.fences.get(&copy.key).copied();
        let stale = match self.bug {
            Some(Bug::FenceRemoved) => false,
            Some(Bug::FenceTakesEqual) => fence.is_some_and(|fence| fence > copy.version),
            _ => fence.is_some_and(|fence| fence >= copy.version),
        };
        if stale {
            if fence > Some(copy.version) {
                self.reach.late_copy_refused += 1;
                let deleted = !self.held.contains_key(&copy.key);
                self.reach.delete_outranked_late_page +=
                    u64::from(deleted && who == Process::Backfill);
            }
            return Some(Applied::Stale);
        }
        let refused = copy.image.as_ref().ok().and_then(|image| cell(image, 3));
        (refused == Some(&Value::Boolean(true))).then(|| {
            Applied::Held(Hold {
                kind: HoldKind::Blocked,
                reason: "a constraint".into(),
            })
        })
    }

    fn take(&mut self, who: Process, copy: &Stamped) -> Applied {
        if let Some(refusal) = self.refusal(who, copy) {
            return refusal;
        }
        let Ok(image) = &copy.image else {
            let key = &copy.key;
            self.violate(format!("{key} was copied without an image"));
            return Applied::Stale;
        };
        if let Some(unique) = unique_of(image) {
            let holders: Vec<Key> = self
                .held
                .iter()
                .filter(|(key, held)| **key != copy.key && unique_of(held) == Some(unique))
                .map(|(key, _)| key.clone())
                .collect();
            if !holders.is_empty() {
                return Applied::Conflict(holders);
            }
        }
        let before = self.fences.insert(copy.key.clone(), copy.version);
        if before > Some(copy.version) {
            self.violate(format!("{} became older on the follower", copy.key));
        }
        if image.is_empty() {
            self.held.remove(&copy.key);
            if self.is(Bug::FenceRowDeletedWithItsRow) {
                self.fences.remove(&copy.key);
            }
        } else {
            self.held.insert(copy.key.clone(), image.clone());
        }
        if who == Process::Drain
            && self
                .unknown
                .get(&copy.key)
                .is_some_and(|unknown| *unknown <= copy.version)
        {
            self.unknown.remove(&copy.key);
            self.reach.unknown_write_drained += 1;
        }
        self.check_image(&copy.key);
        Applied::Applied
    }

    /// Applies the first `most` of `copies`; the cursor goes with the last of all.
    pub fn apply(
        &mut self,
        who: Process,
        revision: i64,
        copies: &[Stamped],
        cursor: Option<&Cursor>,
        most: usize,
    ) -> Result<Vec<Applied>, StoreError> {
        self.admit(revision)?;
        let answers: Vec<Applied> = copies
            .iter()
            .take(most)
            .map(|copy| self.take(who, copy))
            .collect();
        let settled = |answer: &Applied| matches!(answer, Applied::Applied | Applied::Stale);
        let keeps = most >= copies.len() && (!self.careful || answers.iter().all(settled));
        if let Some(cursor) = cursor.filter(|_| keeps) {
            self.save_cursor(revision, cursor)?;
        }
        Ok(answers)
    }

    /// All or nothing but for what each key may be refused for.
    pub fn apply_group(
        &mut self,
        who: Process,
        revision: i64,
        copies: &[Stamped],
    ) -> Result<Vec<Applied>, StoreError> {
        self.admit(revision)?;
        let mut before = BTreeMap::new();
        for copy in copies {
            if self.refusal(who, copy).is_none() {
                before.insert(copy.key.clone(), self.held.remove(&copy.key));
            }
        }
        let answers: Vec<Applied> = copies.iter().map(|copy| self.take(who, copy)).collect();
        for (copy, answer) in copies.iter().zip(&answers) {
            let kept = before.remove(&copy.key).flatten();
            if let (Applied::Conflict(_), Some(image)) = (answer, kept) {
                self.held.insert(copy.key.clone(), image);
            }
        }
        self.reach.group_copied += u64::from(
            answers
                .iter()
                .filter(|answer| **answer == Applied::Applied)
                .count()
                > 1,
        );
        Ok(answers)
    }

    pub fn observe(&self, copies: &[Stamped]) -> Vec<Observed> {
        let shown = |image: Option<&Image>| {
            let rows = image.and_then(|image| image.targets.first()?.first());
            let row = rows.map(|row| (String::new(), Value::Text(format!("{:?}", row.cells))));
            let rows = Value::Record(row.into_iter().collect());
            Value::Record([("rows".to_owned(), rows)].into_iter().collect())
        };
        let observed = copies.iter().map(|copy| Observed {
            key: copy.key.clone(),
            version: self.fences.get(&copy.key).copied(),
            expected: shown(copy.image.as_ref().ok()),
            actual: shown(self.held.get(&copy.key)),
        });
        observed.collect()
    }

    pub fn held_keys(&self, after: Option<&Key>, limit: u32) -> Vec<Key> {
        let keys: BTreeSet<&Key> = self.fences.keys().chain(self.held.keys()).collect();
        let keys = keys
            .into_iter()
            .filter(|key| after.is_none_or(|after| *key > after));
        keys.take(limit as usize).cloned().collect()
    }

    pub fn held_versions(&self, keys: &[Key]) -> Vec<Option<Version>> {
        keys.iter()
            .map(|key| self.fences.get(key).copied())
            .collect()
    }

    pub fn cursor(&self, revision: i64) -> Cursor {
        self.cursors.get(&revision).cloned().unwrap_or_default()
    }

    /// A cursor never goes back: a late one of the same sweep is not an error.
    pub fn save_cursor(&mut self, revision: i64, cursor: &Cursor) -> Result<(), StoreError> {
        self.admit(revision)?;
        let held = self.cursors.entry(revision).or_default();
        if cursor.done || (!held.done && cursor.last > held.last) {
            *held = cursor.clone();
        }
        self.check_cursor(revision);
        Ok(())
    }
}

/// The rules.
impl World {
    fn at(&self, key: &Key, version: Version) -> Option<&Row> {
        let history = self.history.get(key)?;
        let (_, row) = history.iter().rev().find(|(at, _)| *at <= version)?;
        row.as_ref()
    }

    /// G1, at any version: the follower holds the image of the rows at the version it claims.
    fn check_image(&mut self, key: &Key) {
        let Some(fence) = self.fences.get(key).copied() else {
            return;
        };
        if fence > self.version(key) {
            self.violate(format!("G5: {key} is ahead of the authority at {fence}"));
            return;
        }
        let expected = image_of(revision_of(fence), self.at(key, fence));
        let empty = Image::empty(1);
        let held = self.held.get(key).unwrap_or(&empty);
        if expected.as_ref().ok() != Some(held) {
            let what = format!("G1: {key} at {fence} holds {held:?} and not {expected:?}");
            self.violate(what);
        }
    }

    /// G2: a key that is not dirty is on the follower.
    fn check_clean(&mut self, key: &Key) {
        let version = self.version(key);
        if !self.is_dirty(key) && self.fences.get(key).copied() < Some(version) {
            self.violate(format!(
                "G2: {key} is clean at {version} and not on the follower"
            ));
        }
    }

    /// G2 for history: what the cursor has passed is on the follower, or dirty.
    fn check_cursor(&mut self, revision: i64) {
        if revision != self.follower_revision {
            return;
        }
        let cursor = self.cursor(revision);
        let passed = |key: &&Key| cursor.done || Some(*key) <= cursor.last.as_ref();
        let keys: Vec<Key> = self.rows.keys().filter(passed).cloned().collect();
        for key in keys {
            self.check_clean(&key);
        }
    }

    /// After everything came to rest: both sides agree on every key.
    pub fn check_rest(&mut self) {
        let keys: BTreeSet<Key> = self
            .history
            .keys()
            .chain(self.held.keys())
            .cloned()
            .collect();
        for key in keys {
            let rows = image_of(self.follower_revision, self.rows.get(&key));
            let empty = Image::empty(1);
            let held = self.held.get(&key).unwrap_or(&empty);
            if rows.as_ref().ok() != Some(held) {
                self.violate(format!("at rest {key} differs: {rows:?} and {held:?}"));
            }
            let known = self.stamps.contains_key(&key) || self.rows.contains_key(&key);
            if known && self.fences.get(&key).copied() != Some(self.version(&key)) {
                self.violate(format!("at rest the versions of {key} differ"));
            }
        }
        for id in self.acknowledged.clone() {
            if self.applied.get(&id) != Some(&1) {
                self.violate(format!("append {id} was acknowledged and lost"));
            }
        }
    }
}
