//! What the marketplace was told: every write with its number, when it began, when it was
//! acknowledged. The ledger knows nothing of the product and shares no code with it.
//!
//! A write leaves its number in the `journal` column of every row it touches: `0;17;23;` is a row
//! that was there before the demo (`0`) and took writes 17 and 23, in this order. So the rows
//! themselves tell which writes they took, and [`Ledger::examine`] finds
//!
//! - a write that was acknowledged and is not there (lost),
//! - one that was refused, or that nobody made, and is there,
//! - one that is there twice (replayed),
//! - two that were acknowledged one after the other and stand in the other order,
//! - a row that is there although its deletion was acknowledged, and the other way round,
//! - half of a transaction over two tables.
//!
//! A write whose answer was lost, or whose caller left, may be there or not.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The most problems that are told one by one.
const TOLD: usize = 20;

/// What a write does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deed {
    /// Changes this row.
    Change(i64),
    /// Changes this row and adds a photo that carries the number, or neither.
    ChangeWithPhoto(i64),
    /// Changes those rows of a tenant that match.
    ChangeMany { tenant: i64 },
    /// Makes a row, under this id or one that the database gives.
    Make(Option<i64>),
    /// Removes this row.
    Remove(i64),
}

#[derive(Debug)]
struct Entry {
    deed: Deed,
    /// The rows that it was acknowledged to have touched.
    rows: Vec<i64>,
    began: u64,
    /// `u64::MAX` while it may still happen.
    ended: u64,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Acknowledged,
    Refused,
    Unknown,
}

/// A row as it was found in the end.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    pub(super) tenant: i64,
    pub(super) journal: String,
    /// The numbers that its photos carry.
    pub(super) photos: Vec<u64>,
}

/// Writes, by number.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    clock: AtomicU64,
    entries: Mutex<Vec<Entry>>,
}

/// How many writes ended how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(super) struct Written {
    pub(super) acknowledged: u64,
    pub(super) refused: u64,
    pub(super) unknown: u64,
}

impl Ledger {
    /// A write begins; the answer is its number, from 1. Until it is told otherwise nobody knows
    /// whether it happened.
    pub(super) fn begin(&self, deed: Deed) -> u64 {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let began = self.clock.fetch_add(1, Ordering::SeqCst);
        let entry = Entry {
            deed,
            rows: Vec::new(),
            began,
            ended: u64::MAX,
            fate: Fate::Unknown,
        };
        entries.push(entry);
        entries.len() as u64
    }

    /// The write was acknowledged and touched these rows.
    pub(super) fn acknowledged(&self, number: u64, rows: Vec<i64>) {
        self.end(number, rows, Fate::Acknowledged);
    }

    /// The write was refused: nothing happened.
    pub(super) fn refused(&self, number: u64) {
        self.end(number, Vec::new(), Fate::Refused);
    }

    fn end(&self, number: u64, rows: Vec<i64>, fate: Fate) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = self.clock.fetch_add(1, Ordering::SeqCst);
        let index = usize::try_from(number).unwrap_or(0).wrapping_sub(1);
        if let Some(entry) = entries.get_mut(index) {
            (entry.rows, entry.ended, entry.fate) = (rows, ended, fate);
        }
    }

    /// How many writes ended how.
    pub(super) fn written(&self) -> Written {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |fate| entries.iter().filter(|entry| entry.fate == fate).count() as u64;
        Written {
            acknowledged: count(Fate::Acknowledged),
            refused: count(Fate::Refused),
            unknown: count(Fate::Unknown),
        }
    }

    /// Holds the rows that were found against what was written. `before` is how many rows, numbered
    /// from 1, were there at first. Says what is wrong, at most some of it.
    pub(super) fn examine(&self, found: &BTreeMap<i64, Found>, before: i64) -> Vec<String> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let book = Book::new(&entries, before);
        let mut wrong = Vec::new();
        let mut births = HashSet::new();
        for (id, row) in found {
            let birth = row.journal.split(';').next().unwrap_or_default();
            if birth != "0" && !births.insert(birth) {
                wrong.push(format!("write {birth} made two rows, one of them row {id}"));
            }
            book.row(*id, row, &mut wrong);
        }
        let known = book
            .lives
            .keys()
            .copied()
            .filter(|id| !(1..=before).contains(id));
        for id in (1..=before)
            .chain(known)
            .filter(|id| !found.contains_key(id))
        {
            if !book.may_be_absent(id) {
                wrong.push(format!("row {id} is gone, and nobody removed it"));
            }
        }
        let more = wrong.len().saturating_sub(TOLD);
        wrong.truncate(TOLD);
        if more > 0 {
            wrong.push(format!("and {more} more"));
        }
        wrong
    }
}

/// The entries, by what is asked of them.
struct Book<'a> {
    entries: &'a [Entry],
    before: i64,
    /// Births and deaths that may have happened, by row, in their order.
    lives: BTreeMap<i64, Vec<u64>>,
    /// Acknowledged changes by row.
    changes: HashMap<i64, Vec<u64>>,
}

impl<'a> Book<'a> {
    fn new(entries: &'a [Entry], before: i64) -> Book<'a> {
        let mut book = Book {
            entries,
            before,
            lives: BTreeMap::new(),
            changes: HashMap::new(),
        };
        for (number, entry) in (1..).zip(entries) {
            let happened = entry.fate == Fate::Acknowledged;
            match &entry.deed {
                _ if entry.fate == Fate::Refused => {}
                Deed::Make(Some(id)) | Deed::Remove(id) => {
                    book.lives.entry(*id).or_default().push(number);
                }
                Deed::Make(None) => {
                    for id in &entry.rows {
                        book.lives.entry(*id).or_default().push(number);
                    }
                }
                _ if happened => {
                    for id in &entry.rows {
                        book.changes.entry(*id).or_default().push(number);
                    }
                }
                _ => {}
            }
        }
        book
    }

    fn entry(&self, number: u64) -> Option<&'a Entry> {
        self.entries
            .get(usize::try_from(number).ok()?.checked_sub(1)?)
    }

    /// The births and deaths that may be the last one of a row: the last one that is certain, and
    /// those after it that are not. 0 is the state before the demo.
    fn last(&self, id: i64) -> Vec<u64> {
        let life = self.lives.get(&id).map_or(&[][..], Vec::as_slice);
        let certain = |number: &u64| {
            self.entry(*number)
                .is_some_and(|entry| entry.fate == Fate::Acknowledged)
        };
        let from = life.iter().rposition(certain);
        let mut last: Vec<u64> = if from.is_none() { vec![0] } else { Vec::new() };
        last.extend(life.get(from.unwrap_or(0)..).unwrap_or_default());
        last
    }

    fn is_birth(&self, number: u64, id: i64) -> bool {
        if number == 0 {
            return (1..=self.before).contains(&id);
        }
        matches!(
            self.entry(number).map(|entry| &entry.deed),
            Some(Deed::Make(_))
        )
    }

    fn may_be_absent(&self, id: i64) -> bool {
        self.last(id)
            .into_iter()
            .any(|number| !self.is_birth(number, id))
    }

    fn row(&self, id: i64, row: &Found, wrong: &mut Vec<String>) {
        let Some(numbers) = row
            .journal
            .split_terminator(';')
            .map(|number| number.parse().ok())
            .collect::<Option<Vec<u64>>>()
        else {
            return wrong.push(format!(
                "row {id} has a journal that nobody wrote: {:?}",
                row.journal
            ));
        };
        let Some((birth, changes)) = numbers.split_first() else {
            return wrong.push(format!("row {id} has lost its whole journal"));
        };
        self.birth(id, *birth, wrong);
        let mut seen = HashSet::new();
        let mut latest = 0;
        for number in changes {
            if !seen.insert(*number) {
                wrong.push(format!("write {number} stands twice in row {id}"));
            }
            let Some(entry) = self.entry(*number).filter(|entry| touches(entry, id, row)) else {
                wrong.push(format!(
                    "write {number} stands in row {id}, and was never made there"
                ));
                continue;
            };
            if entry.ended < latest {
                wrong.push(format!(
                    "write {number} stands in row {id} after one that began later"
                ));
            }
            latest = latest.max(entry.began);
        }
        self.changes_of(id, *birth, &seen, wrong);
        self.photos(id, &numbers, row, wrong);
    }

    /// The row that is there must be of the last birth.
    fn birth(&self, id: i64, birth: u64, wrong: &mut Vec<String>) {
        let unknown = self
            .entry(birth)
            .is_some_and(|entry| entry.fate == Fate::Unknown && entry.deed == Deed::Make(None));
        if !self.is_birth(birth, id) {
            wrong.push(format!(
                "row {id} begins with write {birth}, which made no row"
            ));
        } else if !unknown && !self.last(id).contains(&birth) {
            wrong.push(format!(
                "row {id} is that of write {birth}, which was removed or replaced"
            ));
        }
    }

    /// Every acknowledged change that began after the row's birth must be in it.
    fn changes_of(&self, id: i64, birth: u64, seen: &HashSet<u64>, wrong: &mut Vec<String>) {
        let born = match self.entry(birth) {
            Some(entry) => (entry.began, entry.ended),
            None => (0, 0),
        };
        for number in self.changes.get(&id).into_iter().flatten() {
            let Some(entry) = self.entry(*number) else {
                continue;
            };
            if entry.began >= born.1 && !seen.contains(number) {
                wrong.push(format!(
                    "write {number} was acknowledged and is lost in row {id}"
                ));
            }
            if entry.ended < born.0 && seen.contains(number) {
                wrong.push(format!(
                    "write {number} of an earlier life is back in row {id}"
                ));
            }
        }
    }

    /// A transaction over two tables is there in both or in none.
    fn photos(&self, id: i64, numbers: &[u64], row: &Found, wrong: &mut Vec<String>) {
        let with_photo = |number: &u64| {
            self.entry(*number)
                .is_some_and(|entry| matches!(entry.deed, Deed::ChangeWithPhoto(_)))
        };
        let mut expected: Vec<u64> = numbers.iter().copied().filter(with_photo).collect();
        let mut photos = row.photos.clone();
        expected.sort_unstable();
        photos.sort_unstable();
        if expected != photos {
            wrong.push(format!(
                "row {id} took writes {expected:?} that add a photo, and has the photos of {photos:?}"
            ));
        }
    }
}

/// Whether a write may stand in the journal of a row.
fn touches(entry: &Entry, id: i64, row: &Found) -> bool {
    match (&entry.deed, entry.fate) {
        (_, Fate::Refused) | (Deed::Make(_) | Deed::Remove(_), _) => false,
        (_, Fate::Acknowledged) => entry.rows.contains(&id),
        (Deed::Change(row) | Deed::ChangeWithPhoto(row), Fate::Unknown) => *row == id,
        (Deed::ChangeMany { tenant }, Fate::Unknown) => *tenant == row.tenant,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(journals: &[(i64, &str)]) -> BTreeMap<i64, Found> {
        let found = |journal: &str| Found {
            tenant: 1,
            journal: journal.into(),
            photos: vec![],
        };
        journals
            .iter()
            .map(|(id, journal)| (*id, found(journal)))
            .collect()
    }

    fn acknowledged(ledger: &Ledger, deed: Deed) -> u64 {
        let rows = match &deed {
            Deed::Change(id)
            | Deed::ChangeWithPhoto(id)
            | Deed::Remove(id)
            | Deed::Make(Some(id)) => vec![*id],
            Deed::ChangeMany { .. } | Deed::Make(None) => vec![9],
        };
        let number = ledger.begin(deed);
        ledger.acknowledged(number, rows);
        number
    }

    #[test]
    fn what_was_acknowledged_is_there_once_and_in_order() {
        let ledger = Ledger::default();
        acknowledged(&ledger, Deed::Change(1));
        acknowledged(&ledger, Deed::Change(1));
        let wrong = |journal: &str| ledger.examine(&rows(&[(1, journal)]), 1).join("\n");
        assert_eq!(wrong("0;1;2;"), "");
        assert!(wrong("0;1;").contains("write 2 was acknowledged and is lost"));
        assert!(wrong("0;1;2;2;").contains("twice"));
        assert!(wrong("0;2;1;").contains("after one that began later"));
        assert!(wrong("0;1;2;7;").contains("never made there"));
        assert!(wrong("").contains("whole journal"));
        assert!(
            ledger
                .examine(&rows(&[]), 1)
                .join("")
                .contains("nobody removed it")
        );
        assert!(
            ledger
                .examine(&rows(&[(1, "0;1;2;"), (2, "0;")]), 1)
                .join("")
                .contains("made no row")
        );
    }

    #[test]
    fn what_is_unknown_may_be_there_and_what_was_refused_may_not() {
        let ledger = Ledger::default();
        ledger.begin(Deed::Change(1));
        let refused = ledger.begin(Deed::Change(1));
        ledger.refused(refused);
        ledger.begin(Deed::ChangeMany { tenant: 1 });
        let wrong = |journal: &str| ledger.examine(&rows(&[(1, journal)]), 1).len();
        assert_eq!(
            [wrong("0;"), wrong("0;1;"), wrong("0;3;1;"), wrong("0;2;")],
            [0, 0, 0, 1]
        );
    }

    #[test]
    fn a_row_lives_between_its_last_birth_and_its_last_death() {
        let ledger = Ledger::default();
        acknowledged(&ledger, Deed::Change(1));
        acknowledged(&ledger, Deed::Remove(1));
        let gone = rows(&[]);
        assert!(ledger.examine(&gone, 1).is_empty());
        assert_eq!(
            ledger.examine(&rows(&[(1, "0;1;")]), 1).len(),
            1,
            "it came back"
        );
        acknowledged(&ledger, Deed::Make(Some(1)));
        acknowledged(&ledger, Deed::Change(1));
        assert!(ledger.examine(&rows(&[(1, "3;4;")]), 1).is_empty());
        assert_eq!(ledger.examine(&gone, 1).len(), 1);
        assert!(
            !ledger.examine(&rows(&[(1, "3;1;4;")]), 1).is_empty(),
            "a write of an earlier life"
        );
        acknowledged(&ledger, Deed::Make(None));
        assert_eq!(
            ledger.examine(&rows(&[(1, "3;4;")]), 1).len(),
            1,
            "row 9 was made"
        );
        assert!(
            ledger
                .examine(&rows(&[(1, "3;4;"), (9, "5;")]), 1)
                .is_empty()
        );
    }

    #[test]
    fn one_insert_makes_one_row() {
        let ledger = Ledger::default();
        ledger.begin(Deed::Make(None));
        let twice = rows(&[(1, "0;"), (5, "1;"), (6, "1;")]);
        assert!(ledger.examine(&twice, 1).join("").contains("made two rows"));
        assert!(ledger.examine(&rows(&[(1, "0;"), (6, "1;")]), 1).is_empty());
    }

    #[test]
    fn half_a_transaction_is_seen() {
        let ledger = Ledger::default();
        acknowledged(&ledger, Deed::ChangeWithPhoto(1));
        let mut found = rows(&[(1, "0;1;")]);
        assert_eq!(ledger.examine(&found, 1).len(), 1);
        found.entry(1).or_default().photos.push(1);
        assert!(ledger.examine(&found, 1).is_empty());
    }
}
