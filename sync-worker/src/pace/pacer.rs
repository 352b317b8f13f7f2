//! [`Pacer`]: every rule at once.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::page::{PageSize, Passed};
use super::rate::Bucket;
use super::reason::{Held, Reason};
use super::{Duty, Pacing, RowsPerSecond, Signals};

/// Says when the next page may begin, how large it is, and what it waits for.
///
/// Shared by reference; everything may change while someone waits.
#[derive(Debug)]
pub struct Pacer {
    state: Mutex<State>,
    signals: Signals,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    paused: bool,
    pacing: Pacing,
    rows: Bucket,
    bytes: Bucket,
    /// When the last page ended, how long it took, and the load then.
    worked: (Instant, Duration, f64),
    page: PageSize,
}

impl State {
    /// The share of now: a rate leaves time enough.
    fn duty(&self) -> Duty {
        let unless_told = if self.is_rated() {
            Duty::ALL
        } else {
            Duty::DEFAULT
        };
        self.pacing.duty.unwrap_or(unless_told)
    }

    fn is_rated(&self) -> bool {
        self.pacing.rows_per_second.is_some() || self.pacing.bytes_per_second.is_some()
    }

    /// Until when it rests after the last page.
    fn rests_until(&self) -> Instant {
        let (ended, time, load) = self.worked;
        ended + self.duty().rest(time, load)
    }
}

impl Pacer {
    /// A pacer for pages of at most `page` rows. It stops for `signals` while somebody
    /// [samples](Pacer::sample) them, and for good if nobody does.
    #[must_use]
    pub fn new(pacing: Pacing, page: u32, signals: Signals) -> Pacer {
        let now = Instant::now();
        let (rate, budget) = (pacing.rows_per_second, pacing.bytes_per_second);
        let state = State {
            paused: false,
            pacing,
            rows: Bucket::rows(rate, now),
            bytes: Bucket::bytes(budget, now),
            worked: (now, Duration::ZERO, 0.0),
            page: PageSize::new(page, pacing.statement_time, budget),
        };
        Pacer {
            state: Mutex::new(state),
            signals,
            changed: Notify::new(),
        }
    }

    /// Waits until the next page may begin, and answers for how long. `tell` hears what is waited
    /// for, whenever it may have changed, and `None` in the end. Dropped before, it has taken nothing.
    pub async fn turn(&self, mut tell: impl FnMut(Option<&Held>)) -> Duration {
        let begun = Instant::now();
        let mut waited = Duration::ZERO;
        loop {
            let mut changed = pin!(self.changed.notified());
            // Listening begins before looking, or a change in between would be missed.
            changed.as_mut().enable();
            let Some(held) = self.held() else {
                if !waited.is_zero() {
                    tell(None);
                }
                return waited;
            };
            tell(Some(&held));
            tokio::select! {
                biased;
                () = changed => {}
                () = sleep_until(held.until) => {}
            }
            waited = begun.elapsed().max(Duration::from_nanos(1));
        }
    }

    /// What holds the next page back at this moment.
    #[must_use]
    pub fn held(&self) -> Option<Held> {
        let now = Instant::now();
        let state = self.lock();
        if state.paused {
            return Some(Held {
                reason: Reason::Paused,
                until: None,
            });
        }
        if let Some(held) = self.signals.held(now) {
            return Some(held);
        }
        let Pacing {
            rows_per_second: rate,
            bytes_per_second: budget,
            ..
        } = state.pacing;
        let rows = rate.map(Reason::Rows).zip(state.rows.due());
        let bytes = budget.map(Reason::Bytes).zip(state.bytes.due());
        let rest = Some((Reason::Duty(state.duty()), state.rests_until()));
        let dues = [rest, rows, bytes].into_iter().flatten();
        let (reason, until) = dues.max_by_key(|(_, due)| *due)?;
        (until > now).then_some(Held {
            reason,
            until: Some(until),
        })
    }

    /// Rows of the next page, at least 1.
    #[must_use]
    pub fn page(&self) -> u32 {
        self.lock().page.rows()
    }

    /// Counts what a page reads, whatever becomes of it: the wait is the next one's.
    pub fn spend(&self, rows: u64, bytes: u64) {
        let now = Instant::now();
        let mut state = self.lock();
        state.rows.spend(rows, now);
        state.bytes.spend(bytes, now);
    }

    /// Learns how long a page took that passed: the next one is as large as fits, after a rest.
    pub fn passed(&self, rows: u64, bytes: u64, time: Duration) {
        let load = self.signals.load();
        let mut state = self.lock();
        state.page.passed(Passed { rows, bytes, time });
        state.worked = (Instant::now(), time, load);
    }

    /// Reads the signals, each at its interval. Never ends: run it beside the work.
    pub async fn sample(&self) -> Infallible {
        self.signals.sample(&self.changed).await
    }

    /// The signals.
    #[must_use]
    pub fn signals(&self) -> &Signals {
        &self.signals
    }

    /// Stops before the next page.
    pub fn pause(&self) {
        self.lock().paused = true;
        self.changed.notify_waiters();
    }

    /// Goes on.
    pub fn resume(&self) {
        self.lock().paused = false;
        self.changed.notify_waiters();
    }

    /// Whether it is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.lock().paused
    }

    /// Changes the rate; `None` is none, and the [duty](Pacing::duty) is as if there had never been one. Whoever
    /// waits, waits by the new one, and for rows that passed ahead of their time at the old one.
    pub fn set_rate(&self, rate: Option<RowsPerSecond>) {
        self.change(|pacing| pacing.rows_per_second = rate);
    }

    /// Changes all rules that need nobody to be asked, as [`set_rate`](Pacer::set_rate) changes one.
    pub fn set_pacing(&self, pacing: Pacing) {
        self.change(|old| *old = pacing);
    }

    fn change(&self, change: impl FnOnce(&mut Pacing)) {
        let now = Instant::now();
        let mut state = self.lock();
        change(&mut state.pacing);
        let Pacing {
            rows_per_second,
            bytes_per_second,
            statement_time,
            duty: _,
        } = state.pacing;
        state.rows.go_on_at(Bucket::rows(rows_per_second, now));
        state.bytes.go_on_at(Bucket::bytes(bytes_per_second, now));
        state.page.aim_at(statement_time, bytes_per_second);
        drop(state);
        self.changed.notify_waiters();
    }

    /// The rate at the moment.
    #[must_use]
    pub fn rate(&self) -> Option<RowsPerSecond> {
        self.lock().pacing.rows_per_second
    }

    /// Whether a page that is read ahead would wait for its turn, and be an old one.
    #[must_use]
    pub fn is_metered(&self) -> bool {
        let state = self.lock();
        state.is_rated() || state.duty() < Duty::HALF
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
