//! [`PageSize`]: how many rows the next page has, by how long the last ones took.

use std::collections::VecDeque;
use std::time::Duration;

use super::BytesPerSecond;

/// Aims at a time for what a page costs by its rows.
///
/// A page also costs what it would cost without rows: round trips, waiting for a file's one
/// writer. Smaller pages do not make that shorter, and a size that goes by the whole time ends
/// with tiny pages that do nothing but wait. So a line is laid through the last pages, time by
/// rows, and its slope alone is held against the target.
#[derive(Debug)]
pub(super) struct PageSize {
    most: u32,
    most_bytes: u64,
    target: Option<Duration>,
    rows: u32,
    /// Rows and seconds of the last pages.
    last: VecDeque<(f64, f64)>,
    /// Which share of a page's time its rows are to blame for.
    share: f64,
    bytes_per_row: f64,
}

/// What a page was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passed {
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) time: Duration,
}

impl PageSize {
    /// How large the first page is at most, before anything is known.
    const FIRST: u32 = 500;
    /// Smaller pages cost more than they spare.
    const LEAST: u32 = 50;
    /// How many pages are remembered.
    const PAGES: usize = 20;
    /// How much of memory a page may take at most, in bytes of values.
    const BYTES: u64 = 8 << 20;

    /// Pages of at most `most` rows and of at most a second of `budget`.
    pub(super) fn new(
        most: u32,
        target: Option<Duration>,
        budget: Option<BytesPerSecond>,
    ) -> PageSize {
        let most = most.max(1);
        let mut page = PageSize {
            most,
            most_bytes: Self::BYTES,
            target,
            rows: most.min(Self::FIRST),
            last: VecDeque::new(),
            share: 1.0,
            bytes_per_row: 0.0,
        };
        page.aim_at(target, budget);
        page
    }

    /// At another time, or with another budget, from the next page on.
    pub(super) fn aim_at(&mut self, target: Option<Duration>, budget: Option<BytesPerSecond>) {
        self.most_bytes = budget.map_or(Self::BYTES, |budget| budget.get().min(Self::BYTES));
        self.target = target;
    }

    /// Rows of the next page, at least 1.
    pub(super) fn rows(&self) -> u32 {
        match self.bytes_per_row > 0.0 {
            // The cast saturates.
            true => self
                .rows
                .min((self.most_bytes as f64 / self.bytes_per_row) as u32)
                .max(1),
            false => self.rows,
        }
    }

    /// Learns from a page.
    pub(super) fn passed(&mut self, page: Passed) {
        if page.rows == 0 {
            return;
        }
        let width = page.bytes as f64 / page.rows as f64;
        // Wider rows count at once, narrower ones when they stay.
        self.bytes_per_row = width.max(0.75 * self.bytes_per_row + 0.25 * width);
        let Some(target) = self.target else {
            // How wide rows are is known now.
            self.rows = self.most;
            return;
        };
        if self.last.len() == Self::PAGES {
            self.last.pop_front();
        }
        self.last
            .push_back((page.rows as f64, page.time.as_secs_f64()));
        let probe = match self.slope_share() {
            Some(share) => {
                self.share = 0.75 * self.share + 0.25 * share;
                false
            }
            None => self.last.len() == Self::PAGES && self.rows < self.most,
        };
        let rows = f64::from(self.rows);
        let blamed = self.share * self.quick() * rows;
        let factor = (target.as_secs_f64() / blamed).clamp(0.5, 1.5);
        let factor = match factor {
            // Pages of one size teach nothing: one of another tells what rows cost.
            _ if probe && self.rows < 2 * Self::LEAST => 2.0,
            _ if probe => 0.5,
            // Each size is a statement of its own on some engines: small changes are not worth one.
            0.8..1.25 => 1.0,
            factor => factor,
        };
        self.rows = ((rows * factor) as u32).max(Self::LEAST).min(self.most);
    }

    /// Seconds per row of the quicker ones of the last pages: what others make a page wait for is no
    /// reason for a smaller one.
    fn quick(&self) -> f64 {
        let mut times: Vec<f64> = self.last.iter().map(|(rows, time)| time / rows).collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 4).copied().unwrap_or_default()
    }

    /// The slope of time by rows as a share of time over rows, as far as it is certain: what may as
    /// well be chance is not blamed on the rows. None from few pages, or from pages of about one size.
    fn slope_share(&self) -> Option<f64> {
        let count = self.last.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| self.last.iter().map(of).sum::<f64>() / count;
        let (rows, time) = (mean(|page| page.0), mean(|page| page.1));
        let variance = mean(|page| page.0 * page.0) - rows * rows;
        if self.last.len() < 4 || variance < 0.01 * rows * rows || time <= 0.0 {
            return None;
        }
        let covariance = mean(|page| page.0 * page.1) - rows * time;
        let slope = covariance / variance;
        let rest = mean(|page| page.1 * page.1) - time * time - slope * covariance;
        let error = (rest.max(0.0) / variance / (count - 2.0)).sqrt();
        Some(((slope - error) * rows / time).clamp(0.05, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TARGET: Duration = Duration::from_millis(100);

    /// Passes a page that waits so long and then takes so many microseconds per row.
    fn pass(size: &mut PageSize, waits: Duration, micros: u64) {
        let rows = u64::from(size.rows());
        let time = waits + Duration::from_micros(micros * rows);
        let bytes = rows * 100;
        size.passed(Passed { rows, bytes, time });
    }

    /// What the rows of the next page will take, as a share of the target.
    fn aim(size: &PageSize, micros: u64) -> f64 {
        f64::from(size.rows()) * micros as f64 / 100_000.0
    }

    proptest! {
        /// A failing seed is printed and kept by proptest.
        #[test]
        fn pages_take_their_time_at_any_speed_of_the_database(
            first in 1_u64..1_500, then in 1_u64..1_500,
            noise in proptest::collection::vec(80_u64..125, 80),
        ) {
            let mut size = PageSize::new(1_000_000, Some(TARGET), None);
            for speed in [first, then] {
                for percent in &noise {
                    pass(&mut size, Duration::ZERO, (speed * percent / 100).max(1));
                }
                let aim = aim(&size, speed);
                prop_assert!((0.2..6.0).contains(&aim), "{aim} at {speed} µs per row");
            }
        }

        /// Whatever a page waits for, and however long, that is not made up for by fewer rows.
        #[test]
        fn waiting_makes_no_page_tiny(
            micros in 20_u64..400, constant in 0_u64..1_500,
            waits in proptest::collection::vec(0_u64..400, 400),
        ) {
            let mut size = PageSize::new(10_000, Some(TARGET), None);
            let mut sizes = Vec::new();
            for wait in waits {
                pass(&mut size, Duration::from_millis(constant + wait), micros);
                sizes.push(f64::from(size.rows()));
            }
            let late = sizes.split_off(100);
            let mean = late.iter().sum::<f64>() / late.len() as f64;
            let ideal = 100_000.0 / micros as f64;
            prop_assert!(mean > f64::from(PageSize::FIRST).min(ideal) / 6.0, "{mean}, {ideal}");
            prop_assert!(mean < 10.0 * ideal, "{mean}, {ideal}");
        }

        #[test]
        fn no_page_has_more_rows_or_bytes_than_it_may(
            most in 1_u32..5_000, widths in proptest::collection::vec(1_u64..10_000_000, 1..40),
        ) {
            let mut size = PageSize::new(most, Some(TARGET), None);
            for width in widths {
                prop_assert!((1..=most).contains(&size.rows()));
                let rows = u64::from(size.rows());
                size.passed(Passed { rows, bytes: rows * width, time: Duration::from_micros(rows) });
                let bytes = u64::from(size.rows()) * width;
                prop_assert!(bytes <= PageSize::BYTES || size.rows() == 1, "{bytes}");
            }
        }
    }

    #[test]
    fn without_a_target_pages_are_of_the_most_rows() {
        let mut size = PageSize::new(700, None, None);
        pass(&mut size, Duration::ZERO, 1_000_000);
        assert_eq!(size.rows(), 700);
        let mut size = PageSize::new(700, None, BytesPerSecond::new(1_000));
        pass(&mut size, Duration::ZERO, 1);
        assert_eq!(size.rows(), 10, "a second of the budget");
    }
}
