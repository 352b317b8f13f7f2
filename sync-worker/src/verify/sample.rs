//! A verify of spans that are drawn by chance.

use changeover_flags::Percent;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use rand::seq::index;

use super::report::PartReport;
use super::{Sampled, Sweep, Verify};
use crate::store::StoreError;
use crate::sum::Span;

impl Verify {
    /// The most keys of a span that is drawn: of larger ones a share would be of few.
    const DRAWN: u32 = 8_192;

    /// Looks at some spans of all, in their order; answers how many keys there are. All spans are listed
    /// first, two keys of each in memory: drawn while they come, the last ones would not be known.
    pub(super) async fn sweep_sample(
        &self,
        sampled: Sampled,
        summed: bool,
        sweep: &mut Sweep<'_>,
    ) -> Result<u64, StoreError> {
        let authority = self.copier.authority();
        let (mut spans, mut found) = (Vec::new(), 0);
        let each = self.range().min(Self::DRAWN).max(self.page());
        let mut rest = Some(Span::default());
        while let Some(from) = rest.take() {
            sweep.turn().await;
            let (keys, mut ends) = authority.cut(&from, each, 1).await?;
            let upto = ends.pop();
            found += keys;
            rest = upto.clone().map(|upto| Span::above(Some(upto)));
            let after = from.after;
            spans.push(Span { after, upto });
        }
        let drawn = sampled.of(spans.len());
        sweep.report.part = Some(PartReport::Sample {
            ranges: drawn as u64,
            of: spans.len() as u64,
            seed: self.options.seed,
        });
        let mut random = SmallRng::seed_from_u64(self.options.seed);
        let mut drawn = index::sample(&mut random, spans.len(), drawn).into_vec();
        drawn.sort_unstable();
        for position in drawn {
            let Some(span) = spans.get(position).cloned() else {
                continue;
            };
            sweep.turn().await;
            let mut rest = Some(span);
            if summed {
                // It was counted long ago: there may be more.
                while let Some((range, behind)) = self.next_range(rest.take()).await? {
                    found = found.max(self.ranged(range, sweep).await?);
                    rest = behind;
                }
                continue;
            }
            while let Some(from) = rest.take() {
                let (span, keys, next) = self.listed(from).await?;
                rest = next;
                self.singly(span, &keys, sweep).await?;
            }
        }
        Ok(found)
    }
}

impl Sampled {
    /// How many of `all` spans, at least one of any.
    fn of(self, all: usize) -> usize {
        let wanted = match self {
            Sampled::Share(share) => {
                (all as f64 * share.as_f64() / Percent::HUNDRED.as_f64()).ceil() as usize
            }
            Sampled::Ranges(ranges) => ranges as usize,
        };
        wanted.max(1).min(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;
    use crate::verify::{Part, VerifyOptions};

    #[tokio::test]
    async fn spans_that_are_drawn_are_smaller_than_ranges() -> Result<(), StoreError> {
        let memory = Memory::default();
        (1..=9_000).for_each(|id| memory.history(id, "row"));
        let options = VerifyOptions {
            part: Part::Sample(Sampled::Ranges(1)),
            ..VerifyOptions::default()
        };
        assert!(options.range > 9_000);
        let report = Verify::new(memory.copier(), options).run().await?;
        match report.part {
            Some(PartReport::Sample { ranges, of, .. }) => assert_eq!((ranges, of), (1, 2)),
            other => unreachable!("{other:?}"),
        }
        Ok(())
    }

    #[test]
    fn a_share_is_rounded_up_and_never_more_than_all() -> Result<(), changeover_flags::BadPercent> {
        let share = |percent| Percent::new(percent).map(Sampled::Share);
        assert_eq!(share(1.0)?.of(1_000), 10);
        assert_eq!(share(1.0)?.of(1_001), 11);
        assert_eq!(share(0.0)?.of(10), 1);
        assert_eq!(share(100.0)?.of(10), 10);
        assert_eq!(
            (Sampled::Ranges(0).of(10), Sampled::Ranges(99).of(10)),
            (1, 10)
        );
        Ok(())
    }
}
