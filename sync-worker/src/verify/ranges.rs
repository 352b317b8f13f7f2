//! The sweeps of a verify that sums rows where they are.
//!
//! Spans of keys are summed on both sides; what is equal agrees as a whole, what is not is divided, and
//! at last compared key by key. A sum has the rows of its span and the versions of their keys in it, so
//! what is left for the other two sweeps are keys that have no rows on either side: of those, versions
//! alone can differ.

use std::collections::HashSet;

use changeover_flags::{Key, Version};

use super::{Class, Sweep, Verify};
use crate::copy::answered;
use crate::store::StoreError;
use crate::sum::Span;

/// The most parts that a span is divided into at once. One statement sums them all: it compares each row's key
/// with the ends of six of them.
const PARTS: u32 = 64;

/// Spans that are beside each other.
pub(super) struct Range {
    parts: Vec<Span>,
    /// How many keys of the root table they had when they were counted off.
    keys: u64,
}

impl Verify {
    /// The most keys without a row in the root table that are remembered, so that no later sweep counts
    /// them again.
    const MAX_GONE: usize = 100_000;

    /// All keys of both sides, those with rows behind `after`; answers how many were found.
    pub(super) async fn sweep_spans(
        &self,
        after: Option<Key>,
        sweep: &mut Sweep<'_>,
    ) -> Result<u64, StoreError> {
        let mut range = self.next_range(Some(Span::above(after))).await?;
        let mut found = 0;
        while let Some((now, rest)) = range {
            // The next range is not counted off while this one is held back, but while both sides sum it.
            sweep.turn().await;
            let upto = rest.as_ref().and_then(|rest| rest.after.clone());
            let (next, seen) = tokio::try_join!(self.next_range(rest), self.ranged(now, sweep))?;
            found += seen;
            range = next;
            sweep.reach(upto);
        }
        found += self.sweep_stamped(sweep).await?;
        found += self.sweep_moved(sweep).await?;
        found += self.sweep_stranded(sweep).await?;
        Ok(found)
    }

    /// Keys per range.
    pub(super) fn range(&self) -> u32 {
        let most = self.copier.authority().most_summed().min(self.second());
        self.options.range.min(most).max(self.page())
    }

    /// The first range of `from`, and what is behind it.
    pub(super) async fn next_range(
        &self,
        from: Option<Span>,
    ) -> Result<Option<(Range, Option<Span>)>, StoreError> {
        let Some(mut left) = from else {
            return Ok(None);
        };
        let (limit, authority) = (self.range(), self.copier.authority());
        // What is compared one by one at a time is not worth a part of its own.
        let parts = (limit / self.page()).clamp(1, PARTS);
        let (keys, ends) = authority.cut(&left, limit, parts).await?;
        let mut parts: Vec<Span> = (ends.into_iter())
            .map(|end| Span {
                after: left.after.replace(end.clone()),
                upto: Some(end),
            })
            .collect();
        if parts.is_empty() {
            parts.push(left);
            return Ok(Some((Range { parts, keys }, None)));
        }
        let rest = Some(left).filter(|left| left.upto.is_none() || left.after != left.upto);
        Ok(Some((Range { parts, keys }, rest)))
    }

    /// Sums the parts of a range and, as far as their sums differ, parts of those, down to single keys. Answers
    /// how many keys or rows there are.
    pub(super) async fn ranged(
        &self,
        range: Range,
        sweep: &mut Sweep<'_>,
    ) -> Result<u64, StoreError> {
        sweep.turn().await;
        let (rows, differ) = self.summed(range.parts.clone(), sweep).await?;
        if differ.is_empty() {
            self.agree(range.keys, sweep);
        } else {
            // What differs may be what came or went since all of them were counted off.
            for span in without(range.parts, &differ) {
                let keys = self.counted(span).await?;
                self.agree(keys, sweep);
            }
        }
        for seen in differ {
            let mut rest = Some(seen.span);
            while let Some(from) = rest.take() {
                sweep.turn().await;
                let (span, keys, next) = self.listed(from).await?;
                rest = next;
                self.divide(span, &keys, seen.one_sided, sweep).await?;
            }
        }
        Ok(range.keys.max(rows))
    }

    /// How many keys of the root table there are in a span.
    async fn counted(&self, span: Span) -> Result<u64, StoreError> {
        let (mut counted, mut rest) = (0, Some(span));
        while let Some(from) = rest.take() {
            let (keys, mut ends) = self.copier.authority().cut(&from, self.range(), 1).await?;
            counted += keys;
            let last = ends.pop().filter(|last| from.upto.as_ref() != Some(last));
            rest = last.map(|last| Span {
                after: Some(last),
                upto: from.upto,
            });
        }
        Ok(counted)
    }

    /// The keys of the root table in the first part of a span, which mostly is all of it; and the rest. More
    /// may have come since it was counted off, and a list that ends before its span would leave old ones out.
    pub(super) async fn listed(
        &self,
        from: Span,
    ) -> Result<(Span, Vec<Key>, Option<Span>), StoreError> {
        let most = self.range().saturating_mul(2);
        let keys = self.copier.authority().keys(&from, most).await?;
        let full = keys.len() >= most as usize;
        let cut = keys.last().filter(|_| full).cloned();
        let rest = cut.clone().map(|after| Span {
            after: Some(after),
            upto: from.upto.clone(),
        });
        let span = Span {
            after: from.after,
            upto: cut.or(from.upto),
        };
        Ok((span, keys, rest))
    }

    /// Divides a span whose sums differ until those of its parts agree, or few keys are left.
    async fn divide(
        &self,
        span: Span,
        keys: &[Key],
        one_sided: bool,
        sweep: &mut Sweep<'_>,
    ) -> Result<(), StoreError> {
        let mut left = vec![(span, keys, one_sided)];
        while let Some((span, keys, one_sided)) = left.pop() {
            if one_sided || keys.len() <= self.least() {
                self.singly(span, keys, sweep).await?;
                continue;
            }
            let parts = divided(span, keys, self.least());
            let spans = parts.iter().map(|(span, _)| span.clone()).collect();
            sweep.turn().await;
            let (_, differ) = self.summed(spans, sweep).await?;
            let mut agree = keys.len();
            for seen in differ {
                let part = parts.iter().find(|(span, _)| *span == seen.span);
                let keys = part.map_or(&[][..], |(_, keys)| keys);
                agree -= keys.len();
                left.push((seen.span, keys, seen.one_sided));
            }
            self.agree(agree as u64, sweep);
        }
        Ok(())
    }

    /// A span of so many keys is compared key by key: to sum its parts would take as long.
    fn least(&self) -> usize {
        (self.page() as usize / 8).max(1)
    }

    /// Sums spans that are beside each other on both sides; answers how many rows the follower has in them, and
    /// those that differ. Those that agree do so for all of their keys.
    async fn summed(
        &self,
        spans: Vec<Span>,
        sweep: &mut Sweep<'_>,
    ) -> Result<(u64, Vec<Differs>), StoreError> {
        let salt = self.options.seed;
        let (mine, held) = tokio::try_join!(
            self.copier.authority().sums(&spans, salt),
            self.copier.follower().sums(&spans, salt)
        )?;
        answered("authority", "summing rows", spans.len(), mine.len())?;
        answered("follower", "summing rows", spans.len(), held.len())?;
        let (mut rows, mut differ) = (0, Vec::new());
        for ((span, mine), held) in spans.into_iter().zip(mine).zip(held) {
            sweep.report.sums.ranges += 1;
            rows += held.map_or(0, |sum| sum.rows());
            if mine.is_some() && mine == held {
                continue;
            }
            sweep.report.sums.bisected += 1;
            differ.push(Differs {
                span,
                one_sided: [mine, held].iter().flatten().any(|sum| sum.rows() == 0),
            });
        }
        Ok((rows, differ))
    }

    /// So many keys agree.
    fn agree(&self, keys: u64, sweep: &mut Sweep<'_>) {
        sweep.look(usize::try_from(keys).unwrap_or(usize::MAX));
        self.count(Class::Equal, keys, &mut sweep.report);
        sweep.tell();
    }

    /// Compares every key of a span: the root table's, those that have rows without it, and those that
    /// the follower alone has rows of.
    pub(super) async fn singly(
        &self,
        span: Span,
        keys: &[Key],
        sweep: &mut Sweep<'_>,
    ) -> Result<(), StoreError> {
        for keys in keys.chunks(self.page() as usize) {
            sweep.turn().await;
            let stamped = self.read(keys).await?;
            self.compare(stamped, sweep).await?;
        }
        let (authority, follower) = (self.copier.authority(), self.copier.follower());
        self.sweep_orphans(span.clone(), sweep).await?;
        let mut rest = span;
        loop {
            sweep.turn().await;
            let held = follower.keys(&rest, self.page()).await?;
            // A key that no bound is beyond, of a column that holds what it should not, would come for ever.
            let last = held.last().filter(|last| rest.after.as_ref() != Some(last));
            let Some(last) = last else { break };
            rest.after = Some(last.clone());
            let gone = authority.rootless(&held).await?;
            self.compare_once(gone, false, sweep).await?;
        }
        Ok(())
    }

    /// Keys that were stamped: of those that are gone, and of those without rows, versions alone are
    /// left to compare.
    async fn sweep_stamped(&self, sweep: &mut Sweep<'_>) -> Result<u64, StoreError> {
        let authority = self.copier.authority();
        let (mut after, mut seen) = (None, 0);
        loop {
            sweep.turn().await;
            let keys = authority.stamped_keys(after.as_ref(), self.page()).await?;
            let Some(last) = keys.last() else {
                return Ok(seen);
            };
            after = Some(last.clone());
            seen += keys.len() as u64;
            let gone: HashSet<Key> = authority.rootless(&keys).await?.into_iter().collect();
            let mut differ = Vec::new();
            let mut agree = 0;
            for (key, mine, held) in self.versions(&keys).await? {
                if held != Some(mine) {
                    differ.push(key);
                } else if gone.contains(&key) && !sweep.gone.contains(&key) {
                    agree += 1;
                }
            }
            self.count(Class::Equal, agree, &mut sweep.report);
            self.compare_once(differ, true, sweep).await?;
        }
    }

    /// Keys of which the follower holds another version than those of history have.
    async fn sweep_moved(&self, sweep: &mut Sweep<'_>) -> Result<u64, StoreError> {
        let (mut after, mut seen) = (None, 0);
        loop {
            sweep.turn().await;
            let follower = self.copier.follower();
            let keys = follower.moved_keys(after.as_ref(), self.page()).await?;
            let Some(last) = keys.last() else {
                return Ok(seen);
            };
            after = Some(last.clone());
            seen += keys.len() as u64;
            let versions = self.versions(&keys).await?.into_iter();
            let differ = versions.filter(|(_, mine, held)| *held != Some(*mine));
            let differ = differ.map(|(key, _, _)| key).collect();
            self.compare_once(differ, true, sweep).await?;
        }
    }

    /// Keys that have rows of which the sums know nothing.
    async fn sweep_stranded(&self, sweep: &mut Sweep<'_>) -> Result<u64, StoreError> {
        let (follower, limit) = (self.copier.follower(), self.page());
        let mut seen = 0;
        for target in 0.. {
            let mut after: Option<Key> = None;
            loop {
                sweep.turn().await;
                let keys = follower.stranded(target, after.as_ref(), limit).await?;
                let Some(keys) = keys else {
                    return Ok(seen);
                };
                let Some(last) = keys.last() else { break };
                after = Some(last.clone());
                seen += keys.len() as u64;
                self.compare_once(keys, false, sweep).await?;
            }
        }
        Ok(seen)
    }

    /// Both versions of each key.
    async fn versions(
        &self,
        keys: &[Key],
    ) -> Result<Vec<(Key, Version, Option<Version>)>, StoreError> {
        let (mine, held) = tokio::try_join!(
            self.copier.authority().versions(keys),
            self.copier.follower().versions(keys)
        )?;
        answered("authority", "reading versions", keys.len(), mine.len())?;
        answered("follower", "reading versions", keys.len(), held.len())?;
        let keys = keys.iter().cloned();
        Ok(keys
            .zip(mine)
            .zip(held)
            .map(|((k, m), h)| (k, m, h))
            .collect())
    }

    /// Compares keys that no sweep has compared, and remembers them. With `blank`, those alone that
    /// have no rows on the authority: the spans have seen the others.
    pub(super) async fn compare_once(
        &self,
        keys: Vec<Key>,
        blank: bool,
        sweep: &mut Sweep<'_>,
    ) -> Result<(), StoreError> {
        let mut keys = keys;
        keys.retain(|key| !sweep.gone.contains(key));
        if keys.is_empty() {
            return Ok(());
        }
        let mut stamped = self.read(&keys).await?;
        if blank {
            let empty = |image: &Result<crate::image::Image, String>| {
                image.as_ref().is_ok_and(crate::image::Image::is_empty)
            };
            stamped.retain(|one| empty(&one.image));
        }
        let room = Self::MAX_GONE.saturating_sub(sweep.gone.len());
        let seen = stamped.iter().take(room).map(|one| one.key.clone());
        sweep.gone.extend(seen);
        self.compare(stamped, sweep).await
    }
}

/// A span whose sums differ.
struct Differs {
    span: Span,
    /// One side has none.
    one_sided: bool,
}

/// What is left of parts, those that are beside each other as one.
fn without(parts: Vec<Span>, differ: &[Differs]) -> Vec<Span> {
    let mut left: Vec<Span> = Vec::new();
    for part in parts {
        if differ.iter().any(|seen| seen.span == part) {
            continue;
        }
        match left.last_mut().filter(|last| last.upto == part.after) {
            Some(last) => last.upto = part.upto,
            None => left.push(part),
        }
    }
    left
}

/// The parts of a span, of about as many keys each, and, but for two of them, no fewer than `least`.
fn divided(span: Span, keys: &[Key], least: usize) -> Vec<(Span, &[Key])> {
    // A power of two, since each number of parts is a statement of its own.
    let most = (keys.len() / least.max(1)).clamp(2, PARTS as usize);
    let parts = (1 << most.ilog2()).min(keys.len());
    let mut after = span.after;
    let mut divided: Vec<(Span, &[Key])> = (0..parts)
        .filter_map(|part| keys.get(keys.len() * part / parts..keys.len() * (part + 1) / parts))
        .map(|keys| {
            let upto = keys.last().cloned();
            let after = std::mem::replace(&mut after, upto.clone());
            (Span { after, upto }, keys)
        })
        .collect();
    // What lies behind the last key belongs to the last part.
    if let Some((last, _)) = divided.last_mut() {
        last.upto = span.upto;
    }
    divided
}

#[cfg(test)]
mod tests {
    use super::{Differs, divided, without};
    use crate::memory::key;
    use crate::sum::Span;

    #[test]
    fn what_agrees_is_counted_in_as_few_spans_as_can_be() {
        let span = |after: i64, upto: i64| Span {
            after: Some(key(after)),
            upto: Some(key(upto)),
        };
        let parts: Vec<Span> = (0..6).map(|n| span(n, n + 1)).collect();
        let left = |differing: &[i64]| {
            let differ = differing.iter().map(|n| Differs {
                span: span(*n, n + 1),
                one_sided: false,
            });
            without(parts.clone(), &differ.collect::<Vec<_>>())
        };
        assert_eq!(left(&[2]), [span(0, 2), span(3, 6)]);
        assert_eq!(left(&[0, 3, 5]), [span(1, 3), span(4, 5)]);
        assert_eq!(left(&[0, 1, 2, 3, 4, 5]), []);
    }

    #[test]
    fn parts_leave_nothing_out() {
        let keys: Vec<_> = (1..=10).map(key).collect();
        for least in 1..=12 {
            for upto in [None, Some(key(12))] {
                let span = Span {
                    after: Some(key(0)),
                    upto,
                };
                let parts = divided(span.clone(), &keys, least);
                let all: Vec<_> = parts.iter().flat_map(|(_, keys)| keys.to_vec()).collect();
                assert_eq!(all, keys);
                assert_eq!(
                    parts.first().map(|(part, _)| &part.after),
                    Some(&span.after)
                );
                assert_eq!(parts.last().map(|(part, _)| &part.upto), Some(&span.upto));
                for pair in parts.windows(2) {
                    assert_eq!(pair[0].0.upto, pair[1].0.after);
                }
                for id in 0..=13 {
                    let within = parts
                        .iter()
                        .filter(|(part, _)| part.contains_text(&key(id)));
                    assert_eq!(within.count(), usize::from(span.contains_text(&key(id))));
                }
            }
        }
    }
}
