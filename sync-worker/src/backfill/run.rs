//! [`Run`]: what the workers of one run share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use changeover_flags::Key;
use tokio::time::Instant;

use super::{Passed, Progress};
use crate::metrics::Meters;
use crate::pace::Reason;
use crate::store::Cursor;

/// How often is looked whether somebody else still works on a part.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// For how long a part that somebody else works on is left to them, unless it moves again. Their rests between
/// pages are mostly shorter.
const LEFT: Duration = Duration::from_secs(5);

/// Which parts are worked on, and how far all of them have come.
pub(super) struct Run<F> {
    state: Mutex<State<F>>,
    meters: Meters,
    begun: Instant,
}

struct State<F> {
    report: F,
    progress: Progress,
    /// How many keys of each part are passed.
    parts: BTreeMap<u32, u64>,
    taken: BTreeSet<u32>,
    /// Pages that are under way.
    pages: usize,
    /// Parts whose cursor somebody else has moved, and where it was seen last.
    elsewhere: BTreeMap<u32, Seen>,
    /// Parts of which nothing more lay within the range that ends with this key, and where they stood.
    beyond: BTreeMap<u32, (Key, Cursor)>,
    /// Where the next look for a part begins: processes do not all begin with the first one.
    next: usize,
}

/// Where a part was seen that somebody else may work on.
struct Seen {
    passed: u64,
    /// When it was seen to have moved; `None` where it only was not where it should have been.
    moved: Option<Instant>,
}

/// What there is to do for a worker.
pub(super) enum Choice {
    /// This part, which nobody else of this run works on until it is given back.
    Part(Cursor),
    /// Others work on all that is left.
    Wait,
    /// Nothing is left but what lies beyond this key.
    Beyond(Key),
    /// Nothing is left.
    Over,
}

impl<F: FnMut(Progress) + Send> Run<F> {
    /// A run that does not know yet how far others have come.
    pub(super) fn new(meters: &Meters, seed: u64, report: F) -> Run<F> {
        Run {
            state: Mutex::new(State {
                report,
                progress: Progress {
                    passed: 0,
                    rows: 0,
                    estimate: 0,
                    rows_per_second: 0.0,
                    held: 0,
                    held_back_by: None,
                    done: false,
                },
                parts: BTreeMap::new(),
                taken: BTreeSet::new(),
                pages: 0,
                elsewhere: BTreeMap::new(),
                beyond: BTreeMap::new(),
                next: usize::from(seed as u8),
            }),
            meters: meters.clone(),
            begun: Instant::now(),
        }
    }

    /// It goes on from here, in a table of about so many keys.
    pub(super) fn goes_on_from(&self, parts: &[Cursor], estimate: u64) {
        let mut state = self.lock();
        state.progress.estimate = estimate;
        state.learn_all(parts);
    }

    /// Whether every part is done, and every page counted.
    pub(super) fn is_over(&self) -> bool {
        let state = self.lock();
        state.progress.done && state.pages == 0
    }

    /// What to do where the parts stand so, and the range ends with this key.
    pub(super) fn choose(&self, parts: &[Cursor], range: Option<&Key>) -> Choice {
        let mut state = self.lock();
        state.learn_all(parts);
        if state.progress.done {
            // Who is left when it is over is dropped, and what a page has brought counts when it ends.
            if state.pages > 0 {
                return Choice::Wait;
            }
            state.tell();
            return Choice::Over;
        }
        let from = state.next;
        state.next = from.wrapping_add(1);
        let mut others = false;
        for n in 0..parts.len() {
            let Some(part) = parts.get(from.wrapping_add(n) % parts.len()) else {
                continue;
            };
            // Unless it was begun again, somebody else may only have brought it further.
            let beyond = state.beyond.get(&part.part).is_some_and(|(end, at)| {
                Some(end) == range && at.base == part.base && at.passed <= part.passed
            });
            if part.done || beyond {
                continue;
            }
            if state.taken.contains(&part.part) {
                others = true;
                continue;
            }
            if let Some(seen) = state.elsewhere.get_mut(&part.part) {
                if seen.passed != part.passed {
                    (seen.passed, seen.moved) = (part.passed, Some(Instant::now()));
                }
                if seen.moved.is_some_and(|moved| moved.elapsed() < LEFT) {
                    others = true;
                    continue;
                }
            }
            state.taken.insert(part.part);
            return Choice::Part(part.clone());
        }
        match range {
            Some(range) if !others => Choice::Beyond(range.clone()),
            _ => Choice::Wait,
        }
    }

    /// Nothing more of a part lies within the range that ends with this key.
    pub(super) fn beyond(&self, at: &Cursor, range: &Key) {
        let seen = (range.clone(), at.clone());
        self.lock().beyond.insert(at.part, seen);
    }

    /// Somebody else may go on with a part.
    pub(super) fn give_back(&self, part: u32) {
        self.lock().taken.remove(&part);
    }

    /// The part was not where it should have been.
    pub(super) fn stands_elsewhere(&self, at: &Cursor) {
        let (passed, moved) = (at.passed, None);
        let seen = Seen { passed, moved };
        self.lock().elsewhere.insert(at.part, seen);
    }

    /// A page of one of the workers, from its beginning to its end.
    pub(super) async fn page<T>(&self, page: impl Future<Output = T>) -> T {
        self.lock().pages += 1;
        let page = page.await;
        let pages = &mut self.lock().pages;
        *pages = pages.saturating_sub(1);
        page
    }

    /// Counts a page, tells of it, and answers where its part stands now.
    pub(super) fn passed(&self, page: Passed) -> Cursor {
        let mut state = self.lock();
        state.progress.rows += page.rows;
        state.progress.held += page.held;
        state.learn(&page.cursor);
        let seconds = self.begun.elapsed().as_secs_f64();
        state.progress.rows_per_second = match seconds > 0.0 {
            true => state.progress.rows as f64 / seconds,
            false => 0.0,
        };
        self.show(&state.progress);
        state.tell();
        page.cursor
    }

    /// Tells what holds the sweep back.
    pub(super) fn held_back(&self, reason: Option<Reason>) {
        let mut state = self.lock();
        state.progress.held_back_by = reason;
        state.tell();
    }

    /// How far it has come in the end.
    pub(super) fn ended(&self) -> Progress {
        let progress = self.lock().progress.clone();
        self.show(&progress);
        progress
    }

    fn show(&self, progress: &Progress) {
        let ratio = match (progress.done, progress.estimate) {
            (true, _) => 1.0,
            (false, 0) => 0.0,
            (false, estimate) => (progress.passed as f64 / estimate as f64).min(1.0),
        };
        self.meters.cursor_ratio.set(ratio);
    }

    fn lock(&self) -> MutexGuard<'_, State<F>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: FnMut(Progress)> State<F> {
    /// Takes up which parts there are, and where they stand.
    fn learn_all(&mut self, parts: &[Cursor]) {
        self.parts.clear();
        for part in parts {
            self.learn(part);
        }
        self.progress.done = parts.iter().all(|part| part.done);
    }

    /// Takes up where a part stands.
    fn learn(&mut self, cursor: &Cursor) {
        self.parts.insert(cursor.part, cursor.passed);
        self.progress.passed = self.parts.values().sum();
        // What is known of the other parts may be of before the sweep was divided.
        self.progress.done = cursor.done && !cursor.is_part();
    }

    fn tell(&mut self) {
        (self.report)(self.progress.clone());
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::memory::Memory;

    fn part(part: u32, passed: u64, done: bool) -> Cursor {
        Cursor {
            part,
            passed,
            done,
            ..Cursor::default()
        }
    }

    fn chosen(choice: &Choice) -> Option<u32> {
        match choice {
            Choice::Part(cursor) => Some(cursor.part),
            Choice::Wait | Choice::Beyond(_) => None,
            Choice::Over => panic!("it is not over"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_somebody_else_moves_is_left_to_them() {
        let copier = Memory::default().copier();
        let at = |first: u64| [part(0, first, false), part(1, 7, true), part(2, 5, false)];
        let run = Run::new(copier.meters(), 0, |_| ());
        run.goes_on_from(&at(0), 30);
        assert_eq!(chosen(&run.choose(&at(0), None)), Some(0));
        assert_eq!(chosen(&run.choose(&at(0), None)), Some(2));
        assert_eq!(chosen(&run.choose(&at(0), None)), None, "both are taken");
        run.stands_elsewhere(&part(0, 0, false));
        run.give_back(0);
        assert_eq!(chosen(&run.choose(&at(3), None)), None, "it has moved");
        assert_eq!(chosen(&run.choose(&at(6), None)), None, "and again");
        tokio::time::advance(LEFT / 2).await;
        assert_eq!(chosen(&run.choose(&at(6), None)), None, "not for long");
        tokio::time::advance(LEFT).await;
        assert_eq!(
            chosen(&run.choose(&at(6), None)),
            Some(0),
            "it stands still"
        );
        run.give_back(0);
        // Where nobody else was, what it found was its own lost answer.
        run.stands_elsewhere(&part(0, 6, false));
        assert_eq!(chosen(&run.choose(&at(6), None)), Some(0));
        assert!(!run.is_over());
        // Its worker has ended it, perhaps, and not counted that yet, however long that takes.
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let mut page = std::pin::pin!(run.page(ended));
        assert!((&mut page).now_or_never().is_none());
        let done = [0, 1, 2].map(|number| part(number, 9, true));
        assert!(matches!(run.choose(&done, None), Choice::Wait));
        tokio::time::advance(10 * LEFT).await;
        assert!(matches!(run.choose(&done, None), Choice::Wait));
        assert!(!run.is_over(), "another worker would end the run");
        drop(end);
        assert!(page.await.is_err(), "nobody has sent anything");
        assert!(matches!(run.choose(&done, None), Choice::Over));
        assert_eq!((run.ended().passed, run.is_over()), (27, true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_beyond_the_range_is_left_until_it_is_begun_again() {
        let copier = Memory::default().copier();
        let at = |first: u64| [part(0, first, false), part(1, 5, false)];
        let run = Run::new(copier.meters(), 0, |_| ());
        run.goes_on_from(&at(6), 30);
        let (end, further) = (Key::from(5), Key::from(6));
        let choose = |first: u64, end: &Key| run.choose(&at(first), Some(end));
        run.beyond(&part(0, 6, false), &end);
        assert_eq!(chosen(&choose(6, &end)), Some(1));
        assert!(matches!(choose(6, &end), Choice::Wait), "it is worked on");
        run.give_back(1);
        run.beyond(&part(1, 5, false), &end);
        for first in [6, 8] {
            assert!(matches!(choose(first, &end), Choice::Beyond(at) if at == end));
        }
        assert_eq!(chosen(&choose(3, &end)), Some(0), "begun again");
        run.give_back(0);
        assert!(chosen(&choose(6, &further)).is_some(), "another range");
    }
}
