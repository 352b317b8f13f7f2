//! Repairing keys: [`Repair`], which touches their stamps and copies them.
//!
//! Repair has no code of its own for data: a key whose version is raised is dirty, and a dirty key
//! is copied. What it does not repair is a follower that is *ahead* of its authority: there,
//! commits of the authority were lost, a touched version may still lie below the follower's, and
//! which side is right is for a person to say.

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

    /// Touches `keys` and copies them. Cancellation safe and safe to repeat: a key that was
    /// touched but not copied is dirty.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when a store did not answer.
    pub async fn run(&self, keys: &[Key]) -> Result<RepairReport, StoreError> {
        let mut report = RepairReport {
            dry_run: self.dry_run,
            ..RepairReport::default()
        };
        if keys.is_empty() {
            return Ok(report);
        }
        let keys: Vec<Key> = keys
            .iter()
            .map(|key| self.copier.authority().canonical(key))
            .collect();
        let keys = keys.as_slice();
        // The follower first: read the other way round, a copy in between would look ahead.
        let held = self.copier.follower().versions(keys).await?;
        answered("follower", "reading versions", keys.len(), held.len())?;
        let current = self.copier.authority().versions(keys).await?;
        answered("authority", "reading versions", keys.len(), current.len())?;
        for ((key, held), current) in keys.iter().zip(held).zip(current) {
            let ahead = held.is_some_and(|held| held > current);
            if ahead {
                &mut report.ahead
            } else {
                &mut report.touched
            }
            .push(key.clone());
        }
        if self.dry_run || report.touched.is_empty() {
            return Ok(report);
        }
        self.copier.authority().touch(&report.touched).await?;
        report.copied = self
            .copier
            .copy(&report.touched, CopySource::Repair)
            .await?;
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use changeover_flags::Version;

    use super::*;
    use crate::copy::CopySource;
    use crate::memory::{Memory, Row, key};

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
}
