//! How a backfill goes about it.

use std::time::Duration;

use changeover_flags::Epoch;

use crate::pace::Pacing;

/// How a backfill goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackfillOptions {
    /// Keys per page at most, at least 1; of a load [`RAW`](BackfillOptions::RAW) times as many where the
    /// databases move the rows themselves.
    pub page: u32,
    /// Keys per page of a load whose rows are read, at least 1; `None` is [`LOADED`](BackfillOptions::LOADED)
    /// times as many as [`page`](BackfillOptions::page).
    pub load_page: Option<u32>,
    /// How fast it goes.
    pub pacing: Pacing,
    /// Whether the first sweep [loads](super#loading). If not, a load under way is given up.
    pub load: bool,
    /// Into how many parts a sweep is divided, if it was not divided before: each may be swept by another
    /// worker, of this process or of another one. At least as many as `workers`, at most
    /// [`MOST_PARTS`](BackfillOptions::MOST_PARTS). Counting the keys off takes a walk through the root
    /// table's index, before a load begins; where that fails, the sweep is not divided, nor is a load
    /// that others move whenever it is looked at.
    pub parts: u32,
    /// How many parts this process works on at a time, from 1 to 64; each at the pace of all, but
    /// for [the share of its time](crate::pace::Duty) that it works, which is each one's.
    pub workers: u32,
    /// How often in a row a page may fail before the backfill gives up; `None` is never.
    pub attempts: Option<u32>,
    /// The first pause after a failure; later ones double.
    pub first_pause: Duration,
    /// The longest pause after a failure.
    pub longest_pause: Duration,
    /// Seeds the jitter of pauses.
    pub seed: u64,
}

impl BackfillOptions {
    /// The same for an entity at `epoch`: where the new side was verified, reads may be answered there,
    /// and no copy may wait for a load.
    #[must_use]
    pub const fn at(self, epoch: &Epoch) -> BackfillOptions {
        BackfillOptions {
            load: self.load && !epoch.verified,
            ..self
        }
    }

    /// The keys of a page of a load whose rows are read.
    pub(super) fn loaded(&self) -> u32 {
        let page = self.page.max(1);
        self.load_page
            .map_or(page.saturating_mul(Self::LOADED), |keys| keys.max(1))
    }

    /// The most parts of a sweep.
    pub const MOST_PARTS: u32 = 1024;

    /// The most workers of one process.
    pub const MOST_WORKERS: u32 = 64;

    /// How many times as many keys a page of a load has, unless it is told: there is no copy that would wait
    /// for it.
    pub const LOADED: u32 = 4;

    /// How many times as many keys a page has that nobody looks into on its way. What it costs beside
    /// its rows, four round trips, is then little.
    pub const RAW: u32 = 40;
}

impl Default for BackfillOptions {
    /// Pages of up to 500, of a load 2,000, adaptive pacing, loading, undivided, one worker, never giving up, pauses from
    /// 100 ms to 30 s, a random seed.
    fn default() -> BackfillOptions {
        BackfillOptions {
            page: 500,
            load_page: None,
            pacing: Pacing::default(),
            load: true,
            parts: 1,
            workers: 1,
            attempts: None,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(30),
            seed: rand::random(),
        }
    }
}
