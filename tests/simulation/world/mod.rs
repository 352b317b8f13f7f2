//! The two databases, and what is checked of them after every change.
//!
//! The authority keeps the history of every key by version, so that the rule "the follower at
//! version v holds the image of the rows at v" is checked at once, not only when versions meet.

use std::collections::{BTreeMap, BTreeSet};

use changeover::flags::{Key, Version};
use changeover::shadow::Value;
use changeover::worker::image::{Cell, Image, ImageRow};
use changeover::worker::store::{Cursor, Hold, StoreError};
use changeover::worker::sum::Sum;

use super::bugs::Bug;

mod authority;
mod follower;
mod load;
mod reach;
mod rules;

pub use reach::Reach;

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
    cursors: BTreeMap<i64, Vec<Cursor>>,
    load: load::Load,
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

/// Adds what a key's image says of its one row.
fn add_image(sum: &mut Sum, salt: u64, key: &Key, version: Option<Version>, image: &Image) {
    let row = image.targets.first().and_then(|rows| rows.first());
    if let Some(row) = row {
        let cells = Value::Text(format!("{:?}", row.cells));
        sum.add_row(salt, "rows", key, version, &[cells]);
    }
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
        (ids, self.held_version(key).unwrap_or_default())
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
        self.load.running = false;
    }
}
