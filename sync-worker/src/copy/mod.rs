//! The one operation that moves data: [`Copier::copy`].
//!
//! A copy reads images and versions from the authority at one instant, writes them to the
//! follower, each fenced by its version, and then tells the authority what arrived. Dual write,
//! backfill, drain and repair are this operation with another choice of keys.
//!
//! # Rules
//!
//! 1. A copy may run twice, late, out of order, next to itself, or be dropped at any await: the
//!    follower's fence makes every such copy a copy of nothing.
//! 2. A key is marked synced only after the follower *answered* that it holds the copied version
//!    or a newer one. An error is never an answer: the copy may have arrived, or may yet.
//! 3. A mark that fails is not a failed copy. The follower holds the data; the key merely stays
//!    dirty and is copied, to no effect, once more. It is counted in
//!    `changeover_mark_failures_total` and in [`CopyReport::unmarked`].
//! 4. Where a unique value changes hands, its holders are read again together with the key and
//!    written in one transaction. A conflict that outlives that, at unchanged versions, is the
//!    authority's own data that the follower does not allow: the key is held, and says so.
//! 5. A key below the follower's base is left as it is and not held: once the authority's base is
//!    raised, it is read at a higher version. The same holds while history is
//!    [loaded](crate::backfill): the key stays dirty, and is copied when that is done.
//!
//! # Not promised
//!
//! That the follower is up to date when a copy returns: a later write may be under way. That is
//! what dirty keys and the [`drain`](crate::drain) are for.

mod run;
mod together;

use std::collections::BTreeSet;
use std::sync::Arc;

use changeover_flags::{Entity, Key};

use crate::metrics::Meters;
use crate::store::{Authority, Cursor, Follower, Stamped, StoreError};
use run::Run;

pub use together::{Answer, Left, Together};

/// Who asks for a copy: a label, nothing else differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopySource {
    /// The write that has just happened.
    Inline,
    /// The drain of dirty keys.
    Drain,
    /// The sweep over history.
    Backfill,
    /// A repair.
    Repair,
}

impl CopySource {
    pub(crate) const ALL: [CopySource; 4] = [
        CopySource::Inline,
        CopySource::Drain,
        CopySource::Backfill,
        CopySource::Repair,
    ];

    /// The word in metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            CopySource::Inline => "inline",
            CopySource::Drain => "drain",
            CopySource::Backfill => "backfill",
            CopySource::Repair => "repair",
        }
    }
}

/// What a copy did. Keys that were copied only because they held a unique value of an asked key
/// are included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CopyReport {
    /// Keys whose image was written.
    pub applied: usize,
    /// Keys that the follower already held at this version or a newer one.
    pub stale: usize,
    /// Keys that are not known to be on the follower, and why, without values.
    pub left: Vec<(Key, String)>,
    /// How many of `left` the authority was not told about: keys below the follower's base, or that
    /// came beside a load. Who forgets such a key (a cursor that passes it) loses it.
    pub unrecorded: usize,
    /// Whether the follower copies nothing at the moment, because history is being loaded.
    pub loading: bool,
    /// Keys that were copied, but whose mark was not confirmed: they stay dirty and are copied
    /// once more.
    pub unmarked: usize,
}

/// Copies keys of one entity. A clone shares everything.
#[derive(Clone)]
pub struct Copier {
    authority: Arc<dyn Authority>,
    follower: Arc<dyn Follower>,
    meters: Arc<Meters>,
}

impl std::fmt::Debug for Copier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copier").finish_non_exhaustive()
    }
}

impl Copier {
    /// The most rounds in which a group is tried without a new holder coming to light, because its
    /// keys are being written at the same time.
    pub const MAX_ROUNDS: usize = 8;

    /// The most keys that are written together because unique values pass between them. A circle
    /// of more keys waits until it is broken; a chain of more, that ends in a free value, does not:
    /// it is settled from its end.
    pub const MAX_GROUP: usize = 1_000;

    /// A copier from `authority` to `follower`. Registers the metrics of `entity`.
    #[must_use]
    pub fn new(
        entity: &Entity,
        authority: Arc<dyn Authority>,
        follower: Arc<dyn Follower>,
    ) -> Copier {
        Copier::with_meters(Arc::new(Meters::new(entity)), authority, follower)
    }

    /// A copier that counts into what others of its entity count into already.
    #[must_use]
    pub fn with_meters(
        meters: Arc<Meters>,
        authority: Arc<dyn Authority>,
        follower: Arc<dyn Follower>,
    ) -> Copier {
        Copier {
            authority,
            follower,
            meters,
        }
    }

    /// The side that is read.
    #[must_use]
    pub fn authority(&self) -> &Arc<dyn Authority> {
        &self.authority
    }

    /// The side that is written.
    #[must_use]
    pub fn follower(&self) -> &Arc<dyn Follower> {
        &self.follower
    }

    /// What this entity's operations count into.
    #[must_use]
    pub fn meters(&self) -> &Arc<Meters> {
        &self.meters
    }

    /// Copies `keys` as they are on the authority after this call began. Repeated keys count once.
    ///
    /// Cancellation safe: dropped at any await, each key was copied or is still dirty.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when a store did not answer. Some keys may have been copied all the same;
    /// those whose copy was confirmed are marked, nothing else is known.
    pub async fn copy(&self, keys: &[Key], source: CopySource) -> Result<CopyReport, StoreError> {
        // Under another text of the same key, a copy would have a fence of its own.
        let keys: Vec<Key> = keys
            .iter()
            .map(|key| self.authority.canonical(key))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        if keys.is_empty() {
            return Ok(CopyReport::default());
        }
        let run = Run::new(self, source, &keys);
        let stamped = self.read(&keys).await?;
        run.copy(stamped, None).await
    }

    /// Copies what was read before: a page of a sweep is a copy like any other. `cursor` is
    /// recorded on the follower with these images; it must only speak of keys that are settled
    /// already, since it stands even where some of these images are refused.
    ///
    /// Cancellation safe, as [`copy`](Copier::copy).
    ///
    /// # Errors
    ///
    /// As [`copy`](Copier::copy).
    pub async fn copy_stamped(
        &self,
        stamped: Vec<Stamped>,
        cursor: Option<&Cursor>,
        source: CopySource,
    ) -> Result<CopyReport, StoreError> {
        let keys: Vec<Key> = stamped.iter().map(|one| one.key.clone()).collect();
        Run::new(self, source, &keys).copy(stamped, cursor).await
    }

    async fn read(&self, keys: &[Key]) -> Result<Vec<Stamped>, StoreError> {
        let stamped = self.authority.read(keys).await?;
        answered("authority", "reading images", keys.len(), stamped.len())?;
        Ok(stamped)
    }
}

/// A store that answers fewer or more than it was asked cannot be matched with the question.
pub(crate) fn answered(
    store: &str,
    doing: &str,
    asked: usize,
    got: usize,
) -> Result<(), StoreError> {
    if asked == got {
        return Ok(());
    }
    Err(StoreError::Refused {
        store: store.to_owned(),
        doing: doing.to_owned(),
        advice: format!("it answered {got} of {asked} keys, which is a defect of this adapter"),
        source: None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use changeover_flags::Version;
    use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

    use super::*;
    use crate::memory::{Fault, Memory, Op, key};
    use crate::store::HoldKind;

    async fn copy(memory: &Memory, ids: &[i64]) -> Result<CopyReport, StoreError> {
        let keys: Vec<Key> = ids.iter().map(|id| key(*id)).collect();
        memory.copier().copy(&keys, CopySource::Inline).await
    }

    #[tokio::test]
    async fn a_copied_key_is_clean_and_copying_it_again_changes_nothing() -> Result<(), StoreError>
    {
        let memory = Memory::default();
        memory.write(1, "one");
        memory.write(2, "two");
        let report = copy(&memory, &[2, 1, 2]).await?;
        assert_eq!((report.applied, report.stale, report.left.len()), (2, 0, 0));
        assert!(memory.agrees() && memory.dirty_ids().is_empty());
        assert_eq!(copy(&memory, &[1, 2]).await?.stale, 2);
        memory.delete(1);
        assert_eq!(copy(&memory, &[1]).await?.applied, 1);
        assert!(memory.agrees() && memory.dirty_ids().is_empty());
        Ok(())
    }

    #[tokio::test]
    async fn nothing_is_marked_on_an_answer_that_did_not_come() {
        for fault in [Fault::Lost, Fault::AnswerLost, Fault::Refused] {
            let memory = Memory::default();
            memory.write(1, "one");
            memory.fault(Op::Apply, fault);
            assert!(copy(&memory, &[1]).await.is_err());
            assert_eq!(memory.dirty_ids(), [key(1)], "{fault:?}");
            assert!(!memory.state().log.contains(&Op::Mark), "{fault:?}");
            assert!(copy(&memory, &[1]).await.is_ok());
            assert!(
                memory.agrees() && memory.dirty_ids().is_empty(),
                "{fault:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_lost_mark_is_a_copied_key_that_stays_dirty() -> Result<(), StoreError> {
        let memory = Memory::default();
        memory.write(1, "one");
        memory.fault(Op::Mark, Fault::Lost);
        let report = copy(&memory, &[1]).await?;
        assert_eq!(
            (report.applied, report.unmarked, report.left.len()),
            (1, 1, 0)
        );
        assert_eq!(memory.dirty_ids(), [key(1)]);
        assert_eq!(copy(&memory, &[1]).await?.stale, 1);
        assert!(memory.dirty_ids().is_empty());
        Ok(())
    }

    /// A stale answer may mean that the follower holds what the authority has lost.
    #[tokio::test]
    async fn what_is_stale_is_marked_once_both_versions_are_known() -> Result<(), StoreError> {
        let memory = Memory::default();
        memory.write(1, "one");
        copy(&memory, &[1]).await?;
        memory.write(1, "after the failover");
        memory.state().fences.insert(key(1), Version(100));
        let copier = memory.copier();
        let stamped = copier.read(&[key(1)]).await?;
        memory.fault(Op::Read, Fault::Lost);
        let unknown = copier.copy_stamped(stamped, None, CopySource::Drain).await;
        assert!(unknown.is_err() && memory.state().faults.is_empty());
        assert_eq!(memory.dirty_ids(), [key(1)]);
        copy(&memory, &[1]).await?;
        assert_eq!(memory.hold_of(1), Some(HoldKind::Blocked));
        Ok(())
    }

    #[tokio::test]
    async fn unique_values_that_change_hands_arrive_together() -> Result<(), StoreError> {
        let memory = Memory::default();
        let names = ["a", "b", "c", "d"];
        for (id, name) in (1..).zip(names) {
            memory.write_unique(id, "row", Some(name));
        }
        copy(&memory, &[1, 2, 3, 4]).await?;
        // Each takes its neighbour's: the group is found holder by holder.
        for (id, name) in (1..).zip(["b", "c", "d", "a"]) {
            memory.write_unique(id, "row", Some(name));
        }
        let report = copy(&memory, &[1]).await?;
        assert_eq!((report.applied, report.left.len()), (4, 0));
        assert!(memory.agrees() && memory.dirty_ids().is_empty());
        Ok(())
    }

    #[tokio::test]
    async fn a_conflict_that_the_authority_has_itself_is_blocked() -> Result<(), StoreError> {
        let memory = Memory::default();
        memory.write_unique(1, "one", Some("same"));
        copy(&memory, &[1]).await?;
        memory.write_unique(2, "two", Some("same"));
        let report = copy(&memory, &[2]).await?;
        assert_eq!(report.left.len(), 1, "{report:?}");
        assert_eq!(memory.hold_of(2), Some(HoldKind::Blocked));
        assert_eq!(memory.hold_of(1), None);
        assert_eq!(memory.dirty_ids(), [key(2)]);
        memory.write_unique(1, "one", None);
        copy(&memory, &[2]).await?;
        assert!(memory.agrees() && memory.dirty_ids().is_empty());
        Ok(())
    }

    /// Values that went round a circle: found one holder at a time, or all in one batch.
    #[tokio::test]
    async fn a_long_circle_of_unique_values_is_copied() -> Result<(), StoreError> {
        for asked in [1, 30] {
            let memory = Memory::default();
            let ids: Vec<i64> = (1..=30).collect();
            for id in &ids {
                memory.write_unique(*id, "before", Some(&format!("value {id}")));
            }
            copy(&memory, &ids).await?;
            for id in &ids {
                memory.write_unique(*id, "after", Some(&format!("value {}", id % 30 + 1)));
            }
            let report = copy(&memory, ids.get(..asked).unwrap_or_default()).await?;
            assert_eq!((report.applied, report.left.len()), (30, 0), "{asked}");
            assert!(memory.agrees() && memory.dirty_ids().is_empty());
        }
        Ok(())
    }

    /// The holder let go of the value between the refusal and the question for the holder.
    #[tokio::test]
    async fn a_conflict_whose_holder_is_gone_is_tried_again() -> Result<(), StoreError> {
        let memory = Memory::default();
        memory.write_unique(1, "one", Some("same"));
        copy(&memory, &[1]).await?;
        memory.write_unique(1, "one", None);
        memory.write_unique(2, "two", Some("same"));
        memory.state().holders_gone = true;
        let report = copy(&memory, &[2]).await?;
        assert_eq!((report.applied, report.left.len()), (2, 0));
        assert!(memory.agrees() && memory.dirty_ids().is_empty());
        Ok(())
    }

    #[tokio::test]
    async fn a_conflict_with_a_key_that_is_held_itself_waits() -> Result<(), StoreError> {
        let memory = Memory::default();
        memory.write_unique(1, "one", Some("same"));
        copy(&memory, &[1]).await?;
        memory.write_unique(1, "unmappable", None);
        memory.write_unique(2, "two", Some("same"));
        copy(&memory, &[2]).await?;
        assert_eq!(memory.hold_of(1), Some(HoldKind::Blocked));
        assert_eq!(memory.hold_of(2), Some(HoldKind::Waiting));
        Ok(())
    }

    #[tokio::test]
    async fn a_key_below_the_base_is_neither_marked_nor_held() -> Result<(), StoreError> {
        let memory = Memory::default();
        memory.write(1, "one");
        memory.state().follower_base = Version::base(1);
        let report = copy(&memory, &[1]).await?;
        assert_eq!((report.left.len(), report.unrecorded), (1, 1));
        assert_eq!(
            (memory.dirty_ids(), memory.hold_of(1)),
            (vec![key(1)], None)
        );
        memory.state().base = Version::base(1);
        assert_eq!(copy(&memory, &[1]).await?.applied, 1);
        assert!(memory.dirty_ids().is_empty());
        Ok(())
    }

    fn outcomes(snapshotter: &Snapshotter) -> BTreeMap<String, u64> {
        let mut outcomes = BTreeMap::new();
        for (name, _, _, value) in snapshotter.snapshot().into_vec() {
            if name.key().name() != "changeover_copies_total" {
                continue;
            }
            let label = name.key().labels().find(|label| label.key() == "outcome");
            if let (Some(label), DebugValue::Counter(keys)) = (label, value) {
                *outcomes.entry(label.value().to_owned()).or_default() += keys;
            }
        }
        outcomes
    }

    /// Each key of each copy ends in one counter, whatever becomes of it.
    #[test]
    fn the_counters_sum_up_to_the_keys_asked_for() {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime of this thread");
        metrics::with_local_recorder(&recorder, || {
            let memory = Memory::default();
            let copier = memory.copier();
            assert_eq!(
                outcomes(&snapshotter).len(),
                8,
                "every series stands at 0 from the start"
            );
            assert_eq!(outcomes(&snapshotter).values().sum::<u64>(), 0);
            for (id, text) in [(1, "one"), (2, "refused"), (3, "orphan"), (4, "unmappable")] {
                memory.write(id, text);
            }
            memory.write_unique(5, "five", Some("same"));
            memory.write_unique(6, "six", Some("same"));
            let keys: Vec<Key> = (1..=6).map(key).collect();
            runtime.block_on(async {
                let report = copier
                    .copy(&keys, CopySource::Drain)
                    .await
                    .expect("no fault is set");
                assert_eq!(report.applied + report.stale + report.left.len(), 6);
                memory.fault(Op::Read, Fault::Lost);
                copier
                    .copy(&keys, CopySource::Drain)
                    .await
                    .expect_err("its read is lost");
                memory.fault(Op::Apply, Fault::AnswerLost);
                copier
                    .copy(&keys, CopySource::Drain)
                    .await
                    .expect_err("its answer is lost");
                memory.fault(Op::Apply, Fault::Hangs);
                let hanging = copier.copy(&keys, CopySource::Drain);
                let dropped = tokio::time::timeout(std::time::Duration::from_secs(9), hanging);
                dropped.await.expect_err("it hangs, and is dropped");
            });
        });
        // The key that has no image is blocked whatever the follower answers, once it was read.
        let counted: BTreeMap<String, u64> = outcomes(&snapshotter)
            .into_iter()
            .filter(|(_, keys)| *keys > 0)
            .collect();
        let expected = [
            ("applied", 2),
            ("blocked", 5),
            ("waiting", 1),
            ("error", 16),
        ];
        let expected: BTreeMap<String, u64> = expected
            .into_iter()
            .map(|(outcome, keys)| (outcome.to_owned(), keys))
            .collect();
        assert_eq!(counted, expected);
    }
}
