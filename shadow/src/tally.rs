//! [`Tally`]: counts shadow reads so that the counters always add up.

use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Class;

/// Lock-free counters of shadow reads, one per [`Class`].
///
/// 1. A read that starts takes a [`Ticket`]; the ticket ends in exactly one class. Dropped without
///    one (its task was cancelled or panicked) it ends as [`Class::Abandoned`].
/// 2. The total is the sum of the classes, taken when it is asked for: there is no second counter
///    that could disagree.
///    Who has a guard of its own [begins](Tally::begin) and [ends](Tally::end) a read without a ticket.
/// 3. In every [`Totals`] the reads started are at least those ended; once no read is under way they are
///    equal.
///
/// ```
/// use std::sync::Arc;
/// use changeover_shadow::{Class, Tally};
///
/// let tally = Arc::new(Tally::new());
/// tally.record(Class::Shed);
/// tally.start().finish(Class::Match);
/// drop(tally.start());
/// let totals = tally.snapshot();
/// assert_eq!((totals.total, totals.of(Class::Abandoned)), (3, 1));
/// assert_eq!(totals.mismatch_ratio(), Some(0.0));
/// ```
#[derive(Debug, Default)]
pub struct Tally {
    started: AtomicU64,
    ended: [AtomicU64; Class::ALL.len()],
}

impl Tally {
    /// A tally of nothing.
    #[must_use]
    pub fn new() -> Tally {
        Tally::default()
    }

    /// Counts the start of a shadow read.
    #[must_use = "a ticket dropped at once counts as abandoned"]
    pub fn start(self: &Arc<Self>) -> Ticket {
        self.begin();
        Ticket {
            tally: Arc::clone(self),
            class: Class::Abandoned,
        }
    }

    /// Counts the start of a shadow read without a ticket: whoever asks for that has to [end](Tally::end) it once,
    /// whatever becomes of it.
    #[inline]
    pub fn begin(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a read that starts and ends at once, such as one that is shed.
    pub fn record(&self, class: Class) {
        self.begin();
        self.end(class);
    }

    /// The counters at this moment.
    #[must_use]
    pub fn snapshot(&self) -> Totals {
        // The ends first, each acquired: whoever sees an end also sees its start.
        let by_class: [u64; Class::ALL.len()] = array::from_fn(|index| {
            self.ended
                .get(index)
                .map_or(0, |count| count.load(Ordering::Acquire))
        });
        let started = self.started.load(Ordering::Relaxed);
        Totals {
            started,
            total: by_class.iter().sum(),
            by_class,
        }
    }

    /// Counts the end of a read that was [begun](Tally::begin) without a ticket.
    pub fn end(&self, class: Class) {
        // Released after the start was counted; see `snapshot`.
        if let Some(count) = self.ended.get(class as usize) {
            count.fetch_add(1, Ordering::Release);
        }
    }
}

/// One shadow read under way. Ends in one class, however it ends.
#[derive(Debug)]
#[must_use = "a ticket dropped at once counts as abandoned"]
pub struct Ticket {
    tally: Arc<Tally>,
    class: Class,
}

impl Ticket {
    /// Ends the read in `class`.
    pub fn finish(mut self, class: Class) {
        self.class = class;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.tally.end(self.class);
    }
}

/// What a [`Tally`] held at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Reads that started, ended or not.
    pub started: u64,
    /// Reads that ended: the sum of the classes.
    pub total: u64,
    by_class: [u64; Class::ALL.len()],
}

impl Totals {
    /// Reads that ended in `class`.
    #[must_use]
    pub fn of(&self, class: Class) -> u64 {
        self.by_class.get(class as usize).copied().unwrap_or(0)
    }

    /// Every class with its count, in the order of [`Class::ALL`].
    pub fn by_class(&self) -> impl Iterator<Item = (Class, u64)> + '_ {
        Class::ALL.into_iter().zip(self.by_class)
    }

    /// Reads that started and have not ended.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.started.saturating_sub(self.total)
    }

    /// Reads that ended in a confirmed difference.
    #[must_use]
    pub fn confirmed(&self) -> u64 {
        let confirmed = self.by_class().filter(|(class, _)| class.confirmed());
        confirmed.map(|(_, count)| count).sum()
    }

    /// Reads that settled something: matches and confirmed differences. Not those in which
    /// [neither](crate::Verdict::Neither) side had anything: traffic of what is not there would drown the rest.
    #[must_use]
    pub fn compared(&self) -> u64 {
        self.of(Class::Match) + self.confirmed()
    }

    /// Confirmed differences out of [`compared`](Totals::compared) reads, from 0 to 1. `None` when
    /// nothing was compared: no data is inconclusive, never a pass.
    #[must_use]
    pub fn mismatch_ratio(&self) -> Option<f64> {
        ratio(self.confirmed(), self.compared())
    }

    /// [`compared`](Totals::compared) reads out of all that ended, those in which neither side had anything among them,
    /// from 0 to 1; `None` when none ended. A gate asks for a floor here too: a handful of matches among errors, timeouts and shed
    /// reads proves little.
    #[must_use]
    pub fn compared_ratio(&self) -> Option<f64> {
        ratio(self.compared(), self.total)
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;

    fn sum(totals: &Totals) -> u64 {
        totals.by_class().map(|(_, count)| count).sum()
    }

    #[test]
    fn counters_sum_to_the_total_under_threads() {
        let tally = Arc::new(Tally::new());
        let done = Arc::new(AtomicBool::new(false));
        let watcher = thread::spawn({
            let (tally, done) = (Arc::clone(&tally), Arc::clone(&done));
            move || {
                while !done.load(Ordering::Relaxed) {
                    let totals = tally.snapshot();
                    assert_eq!(sum(&totals), totals.total);
                    assert!(
                        totals.started >= totals.total,
                        "ended before it started: {totals:?}"
                    );
                }
            }
        });
        let rounds = 5_000_usize;
        let workers: Vec<_> = (0..4_usize)
            .map(|worker| {
                let tally = Arc::clone(&tally);
                thread::spawn(move || {
                    for round in 0..rounds {
                        let class = Class::ALL[(worker + round) % Class::ALL.len()];
                        match round % 3 {
                            0 => tally.record(class),
                            1 => tally.start().finish(class),
                            _ => drop(tally.start()),
                        }
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().expect("worker");
        }
        done.store(true, Ordering::Relaxed);
        watcher.join().expect("watcher");
        let totals = tally.snapshot();
        assert_eq!((totals.started, totals.total), (20_000, 20_000));
        assert_eq!(totals.in_flight(), 0);
    }

    #[test]
    fn no_read_is_seen_to_end_before_it_starts() {
        let tally = Arc::new(Tally::new());
        // One worker alone, and the class that is read last: others would fill the gap.
        let worker = thread::spawn({
            let tally = Arc::clone(&tally);
            move || (0..300_000).for_each(|_| tally.record(Class::Abandoned))
        });
        while !worker.is_finished() {
            let totals = tally.snapshot();
            assert!(totals.started >= totals.total, "{totals:?}");
        }
        worker.join().expect("worker");
    }

    #[test]
    fn a_panicking_read_is_abandoned_not_lost() {
        let tally = Arc::new(Tally::new());
        let ticket = tally.start();
        assert_eq!(tally.snapshot().in_flight(), 1);
        let task = thread::spawn(move || {
            let _ticket = ticket;
            std::panic::resume_unwind(Box::new("an observer panicked"));
        });
        assert!(task.join().is_err());
        let totals = tally.snapshot();
        assert_eq!((totals.of(Class::Abandoned), totals.in_flight()), (1, 0));
    }

    #[test]
    fn no_data_is_inconclusive() {
        let tally = Tally::new();
        assert_eq!(tally.snapshot().mismatch_ratio(), None);
        for class in Class::ALL {
            if class != Class::Match && !class.confirmed() {
                tally.record(class);
            }
        }
        assert_eq!(
            tally.snapshot().mismatch_ratio(),
            None,
            "only reads that settled something count"
        );
        assert_eq!(tally.snapshot().compared_ratio(), Some(0.0));
        tally.record(Class::ExtraInNew);
        for _ in 0..3 {
            tally.record(Class::Match);
        }
        assert_eq!(tally.snapshot().mismatch_ratio(), Some(0.25));
    }
}
