//! Pages of a load that nobody looks into on their way.
//!
//! Where both databases understand each other, and the mapping only moves rows, a page goes from one
//! to the other as it is. When something in it is refused, it is tried again with fewer keys, and in
//! the end as images, which tell which key it is.

use tokio::time::Instant;

use super::range::Reach;
use super::{Backfill, BackfillOptions, Passed};
use crate::copy::Copier;
use crate::pace::{Pacer, RowsPerSecond};
use crate::store::{Cursor, Loaded, RawPage, StoreError};

/// How a load goes on.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// A raw page that was read ahead, with the keys it was asked for.
    ahead: Option<(Option<RawPage>, u32)>,
    /// By how much raw pages are smaller than the pacer says, as a power of 2.
    smaller: u32,
    /// How many keys go as images, before a raw page is tried again.
    images: u64,
}

impl Course {
    /// The fewest keys of a raw page.
    const LEAST: u32 = 100;

    /// Whether the next page is a raw one.
    pub(super) const fn takes_raw(&self) -> bool {
        self.images == 0
    }

    /// The most keys of the next page of images.
    pub(super) fn most_images(&self) -> u32 {
        match self.images {
            0 => u32::MAX,
            left => u32::try_from(left).unwrap_or(u32::MAX),
        }
    }

    /// So many keys went as images.
    pub(super) const fn passed_images(&mut self, keys: u64) {
        self.images = self.images.saturating_sub(keys);
    }

    /// Forgets what was read ahead.
    pub(super) fn forget(&mut self) {
        self.ahead = None;
    }

    fn asks(&self, pacer: &Pacer) -> u32 {
        // At a fixed rate a page of the most keys would be seconds of it, at once.
        let rate = pacer.rate().map_or(u32::MAX, RowsPerSecond::get);
        let most = pacer.page().min(rate / 4);
        (most >> self.smaller.min(31)).max(Self::LEAST)
    }

    /// A raw page of this many keys was refused.
    fn refused(&mut self, asked: u32) {
        self.forget();
        if asked > Self::LEAST {
            self.smaller += 3;
        } else {
            self.images = u64::from(asked);
        }
    }
}

/// Whether pages go from one database to the other as they are.
pub(super) fn is_raw(copier: &Copier) -> bool {
    let format = copier.authority().raw_format();
    format.is_some() && format == copier.follower().raw_format()
}

/// The most keys of a page of any kind.
pub(super) fn most(copier: &Copier, options: BackfillOptions) -> u32 {
    match (options.load, is_raw(copier)) {
        (true, true) => options.page.saturating_mul(BackfillOptions::RAW),
        (true, false) => options.loaded().max(options.page),
        (false, _) => options.page,
    }
}

impl Backfill {
    pub(super) async fn load_raw(
        &self,
        cursor: &Cursor,
        reach: &Reach,
        course: &mut Course,
    ) -> Result<Option<Passed>, StoreError> {
        let (meters, pacer) = (self.copier.meters(), self.turns.pacer());
        let (authority, follower) = (self.copier.authority(), self.copier.follower());
        let begun = Instant::now();
        let (page, asked) = match course.ahead.take() {
            Some(ahead) => ahead,
            None => {
                let asked = course.asks(pacer);
                let page = authority
                    .raw_page(&reach.rest(cursor), asked, cursor.base)
                    .await?;
                (page, asked)
            }
        };
        let nothing = |cursor: Cursor| Passed {
            cursor,
            rows: 0,
            held: 0,
            beyond: false,
        };
        let Some(page) = page else {
            course.refused(asked);
            return Ok(Some(nothing(cursor.clone())));
        };
        let (rows, bytes) = (page.keys, page.bytes());
        pacer.spend(rows, bytes);
        let ended = rows < u64::from(asked);
        let mut to = cursor.clone();
        if let Some(last) = &page.last {
            to.last = Some(last.clone());
            to.passed += rows;
            let rest = reach.rest(&to);
            let next = async {
                // At a fixed rate a page that waits for its turn would be an old one.
                if ended || pacer.is_metered() {
                    return None;
                }
                let asked = course.asks(pacer);
                let page = authority.raw_page(&rest, asked, cursor.base).await;
                Some((page.ok()?, asked))
            };
            let (loaded, next) = tokio::join!(follower.load_raw(&page, cursor, &to), next);
            match loaded? {
                Loaded::Yes => course.ahead = next,
                Loaded::Elsewhere => {
                    meters.pages_retried.increment(1);
                    return Ok(None);
                }
                Loaded::Refused(_) => {
                    meters.pages_retried.increment(1);
                    course.refused(asked);
                    return Ok(Some(nothing(cursor.clone())));
                }
            }
            course.smaller = course.smaller.saturating_sub(1);
            let took = begun.elapsed();
            pacer.passed(rows, bytes, took);
            tracing::debug!(
                rows,
                bytes,
                ?took,
                next = pacer.page(),
                "a raw page is loaded"
            );
        }
        if ended && reach.is_whole() {
            to.done = self.end_part(&to).await?;
            // Somebody else has ended it, or has moved it on. What was brought counts all the same.
            if !to.done && rows == 0 {
                return Ok(None);
            }
        }
        meters.pages_copied.increment(1);
        meters.rows_copied.increment(rows);
        Ok(Some(Passed {
            beyond: ended && !reach.is_whole(),
            cursor: to,
            rows,
            held: 0,
        }))
    }
}
