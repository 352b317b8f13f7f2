//! [`DrainReport`].

use changeover_flags::Key;

use crate::copy::CopyReport;
use crate::store::StoreError;

/// What one pass did.
#[derive(Debug, Default)]
pub struct DrainReport {
    /// Dirty keys found, those skipped included.
    pub seen: u64,
    /// Keys whose image was written, or was there already.
    pub copied: u64,
    /// Keys that were tried and are held.
    pub left: u64,
    /// Held keys whose time had not come.
    pub skipped: u64,
    /// Keys whose copy failed.
    pub failed: u64,
    /// Copied keys whose mark failed: the next pass finds them again.
    pub unmarked: u64,
    /// Whether the pass ended early, because history is being loaded, beside which nothing is copied.
    pub loading: bool,
    /// Some of the keys that were left, and why: at most [`DrainReport::MAX_SAMPLES`].
    pub samples: Vec<(Key, String)>,
    /// The last failure.
    pub error: Option<StoreError>,
}

impl DrainReport {
    /// The most samples that a report carries.
    pub const MAX_SAMPLES: usize = 20;

    /// Whether nothing was dirty.
    #[must_use]
    pub const fn found_nothing(&self) -> bool {
        self.seen == 0
    }

    pub(super) fn add(&mut self, keys: usize, copied: Result<CopyReport, StoreError>) {
        match copied {
            Ok(copied) => {
                self.copied += (copied.applied + copied.stale) as u64;
                self.left += copied.left.len() as u64;
                self.unmarked += copied.unmarked as u64;
                self.loading |= copied.loading;
                let room = Self::MAX_SAMPLES - self.samples.len().min(Self::MAX_SAMPLES);
                self.samples.extend(copied.left.into_iter().take(room));
            }
            Err(error) => {
                self.failed += keys as u64;
                self.error = Some(error);
            }
        }
    }
}
