//! [`Turns`]: work that waits for its turn by a [`Pacer`], counts what it waits for, and tells it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::Meters;
use crate::pace::{Held, Pacer, Pacing, Reason, Signals};

/// What is held back.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    Backfill,
    Drain,
    Verify,
}

impl Work {
    pub(crate) const ALL: [Work; 3] = [Work::Backfill, Work::Drain, Work::Verify];

    /// A metric's label.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Work::Backfill => "backfill",
            Work::Drain => "drain",
            Work::Verify => "verify",
        }
    }
}

/// The turns of one piece of work. A clone takes turns by the same pacer.
#[derive(Debug, Clone)]
pub(crate) struct Turns {
    work: Work,
    pacer: Arc<Pacer>,
    meters: Meters,
}

impl Turns {
    /// What holds the work back for less than this is counted, and not told, unless its end is not known.
    const TOLD: Duration = Duration::from_secs(1);

    /// The same of a rest, of which there is one after each page.
    const RESTS_TOLD: Duration = Duration::from_secs(10);

    /// Turns of at most `page` rows.
    pub(crate) fn new(
        work: Work,
        (pacing, signals): (Pacing, Signals),
        page: u32,
        meters: &Meters,
    ) -> Turns {
        for signal in signals.states() {
            meters.may_hold_back(work, &signal.name);
        }
        Turns {
            work,
            pacer: Arc::new(Pacer::new(pacing, page, signals)),
            meters: meters.clone(),
        }
    }

    pub(crate) fn pacer(&self) -> &Arc<Pacer> {
        &self.pacer
    }

    /// Waits for the next turn, and answers for how long. `told` hears of a pause, a signal and what takes
    /// longer than a second (a rest: than ten), again with each reading, and `None` when that is over.
    /// Dropped before, it has taken nothing.
    pub(crate) async fn next(&self, mut told: impl FnMut(Option<Reason>)) -> Duration {
        let (mut meter, mut before, mut logged) = (None, None, None);
        let turn = self.pacer.turn(|held| {
            // The one before counts itself first: both may be of one series.
            drop(meter.take());
            meter = held.map(|held| self.meters.held_back(self.work, held.reason.label()));
            let long = held.filter(|Held { reason, until }| {
                let told = match reason {
                    Reason::Duty(_) => Self::RESTS_TOLD,
                    _ => Self::TOLD,
                };
                reason.is_open() || until.is_some_and(|until| until - Instant::now() > told)
            });
            let reason = long.map(|held| held.reason.clone());
            if reason != before {
                // Not for each reading.
                let label = reason.as_ref().map(|reason| reason.label().to_owned());
                if let Some(reason) = reason.as_ref().filter(|_| label != logged) {
                    tracing::info!(work = self.work.label(), %reason, "held back");
                }
                logged = label;
                before.clone_from(&reason);
                told(reason);
            }
        });
        turn.await
    }

    /// Does `work` with the signals being read beside it.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            done = work => done,
            never = self.pacer.sample() => match never {},
        }
    }
}
