//! Repairing keys: [`Repair`], which touches their stamps and copies them.
//!
//! Repair has no code of its own for data: a key whose version is raised is dirty, and a dirty key
//! is copied. It goes page by page, so any number of keys is repaired. What it does not repair is a
//! follower that is *ahead* of its authority: there, commits of the authority were lost, a touched version
//! may still lie below the follower's, and which side is right is for a person to say.

use std::collections::BTreeSet;

use changeover_flags::Key;

use crate::copy::{Copier, CopyReport, CopySource, answered};
use crate::store::StoreError;

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepairReport {
    /// Keys that were touched, or would have been.
    pub touched: Vec<Key>,
    /// Keys whose follower is ahead of the authority: left alone.
    pub ahead: Vec<Key>,
    /// What became of the copies; nothing after a dry run.
    pub copied: CopyReport,
    /// Whether nothing was changed because only a dry run was asked for.
    pub dry_run: bool,
}

/// Copies keys again although their versions say that nothing is to be done.
#[derive(Debug, Clone)]
pub struct Repair {
    copier: Copier,
    dry_run: bool,
}

impl Repair {
    /// A repair through `copier`; with `dry_run` it only says what it would do.
    #[must_use]
    pub fn new(copier: Copier, dry_run: bool) -> Repair {
        Repair { copier, dry_run }
    }

    /// Keys at a time. All at once would be more values than a statement may bind, and their images more than
    /// memory may hold.
    const PAGE: usize = 500;

    /// Touches `keys` and copies them, a page at a time. Repeated keys count once.
    ///
    /// Cancellation safe and safe to repeat: the pages before are repaired, and a key that was touched but
    /// not copied is dirty.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when a store did not answer. What was repaired until then stays so; the same again does
    /// the rest.
    pub async fn run(&self, keys: &[Key]) -> Result<RepairReport, StoreError> {
        let mut report = RepairReport {
            dry_run: self.dry_run,
            ..RepairReport::default()
        };
        // Two texts of one key are one key.
        let keys: BTreeSet<Key> = keys
            .iter()
            .map(|key| self.copier.authority().canonical(key))
            .collect();
        let keys: Vec<Key> = keys.into_iter().collect();
        for page in keys.chunks(Self::PAGE) {
            self.page(page, &mut report).await?;
        }
        Ok(report)
    }

    /// Repairs the keys of one page, and adds to the report what became of them.
    async fn page(&self, keys: &[Key], report: &mut RepairReport) -> Result<(), StoreError> {
        // The follower first: read the other way round, a copy in between would look ahead.
        let held = self.copier.follower().versions(keys).await?;
        answered("follower", "reading versions", keys.len(), held.len())?;
        let current = self.copier.authority().versions(keys).await?;
        answered("authority", "reading versions", keys.len(), current.len())?;
        let mut touched = Vec::new();
        for ((key, held), current) in keys.iter().zip(held).zip(current) {
            let ahead = held.is_some_and(|held| held > current);
            if ahead {
                &mut report.ahead
            } else {
                &mut touched
            }
            .push(key.clone());
        }
        if !self.dry_run && !touched.is_empty() {
            self.copier.authority().touch(&touched).await?;
            let copied = self.copier.copy(&touched, CopySource::Repair).await?;
            add(&mut report.copied, copied);
        }
        report.touched.extend(touched);
        Ok(())
    }
}

/// Adds what one page's copy did.
fn add(all: &mut CopyReport, page: CopyReport) {
    let CopyReport {
        applied,
        stale,
        left,
        unrecorded,
        loading,
        unmarked,
    } = page;
    all.applied += applied;
    all.stale += stale;
    all.left.extend(left);
    all.unrecorded += unrecorded;
    all.loading |= loading;
    all.unmarked += unmarked;
}

#[cfg(test)]
mod tests {
    use changeover_flags::Version;

    use super::*;
    use crate::copy::CopySource;
    use crate::memory::{Memory, Op, Row, key};

    #[tokio::test]
    async fn a_divergent_key_is_repaired_and_one_ahead_is_left_alone() -> Result<(), StoreError> {
        let memory = Memory::default();
        let copier = memory.copier();
        (1..=2).for_each(|id| memory.write(id, "row"));
        copier.copy(&[key(1), key(2)], CopySource::Inline).await?;
        let wrong = Row {
            text: "wrong".into(),
            unique: None,
        };
        memory.state().held.insert(key(1), wrong);
        memory.state().fences.insert(key(2), Version(99));

        let keys = [key(1), key(2)];
        let dry = Repair::new(copier.clone(), true).run(&keys).await?;
        assert_eq!((dry.touched, dry.ahead), (vec![key(1)], vec![key(2)]));
        assert!(!memory.agrees());

        let report = Repair::new(copier, false).run(&keys).await?;
        assert_eq!(report.copied.applied, 1);
        assert!(memory.agrees());
        assert_eq!(memory.state().fences.get(&key(2)), Some(&Version(99)));
        Ok(())
    }

    /// Of many keys, each statement and each transaction is about a page of them, and what came before a
    /// failure is repaired.
    #[tokio::test]
    async fn it_goes_page_by_page_and_keeps_what_it_has() -> Result<(), StoreError> {
        let memory = Memory::default();
        let ids = 1..=1_100;
        ids.clone().for_each(|id| memory.write(id, "row"));
        let keys: Vec<Key> = ids.map(key).collect();
        let copier = memory.copier();
        copier.copy(&keys, CopySource::Inline).await?;
        memory.state().held.clear();
        memory.state().log.clear();
        memory.state().unreadable.insert(key(700));
        let repair = Repair::new(copier, false);

        assert!(
            repair.run(&keys).await.is_err(),
            "the second page is not read"
        );
        assert_eq!(memory.state().held.len(), Repair::PAGE);
        assert_eq!(
            memory.dirty_ids(),
            &keys[500..1_000],
            "touched, and not copied"
        );

        memory.state().unreadable.clear();
        memory.state().log.clear();
        let twice: Vec<Key> = keys.iter().chain(&keys).cloned().collect();
        let report = repair.run(&twice).await?;
        let applied = |op: &&Op| **op == Op::Apply;
        assert_eq!(memory.state().log.iter().filter(applied).count(), 3);
        assert_eq!((&report.touched, report.copied.applied), (&keys, 1_100));
        assert!(memory.agrees() && memory.dirty_ids().is_empty());
        Ok(())
    }
}
