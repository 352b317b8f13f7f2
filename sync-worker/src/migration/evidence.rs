//! What is put on record, and on what ground.

use changeover_flags::{Epoch, Place};

use super::{Migration, MigrationError};
use crate::dialect::held_mapping::HeldMapping;
use crate::dialect::home::{Evidence, Row};
use crate::verify::{Recorded, Verify, VerifyOptions, VerifyProgress, VerifyReport};

impl Migration {
    /// The tables, each with its side, whose triggers are not as they were installed: gone, another
    /// table's, or switched off. Their writes leave no stamp, or are no longer refused. None where the
    /// entity is in order, or the databases hold another mapping, whose tables are not known here.
    ///
    /// # Errors
    ///
    /// [`MigrationError::NotInstalled`], and [`MigrationError::Store`] when a database does not answer.
    pub async fn bare_tables(&self) -> Result<Vec<String>, MigrationError> {
        let mut tables = Vec::new();
        if self.same_mapping(self.row().await?.held).is_err() {
            return Ok(tables);
        }
        for (place, bare) in [
            (Place::Legacy, self.authority_side().unstamped().await?),
            (Place::New, self.follower_side().unguarded().await?),
        ] {
            tables.extend(bare.into_iter().map(|table| format!("{table} ({place})")));
        }
        Ok(tables)
    }

    /// Whether every write is stamped that should be.
    ///
    /// # Errors
    ///
    /// [`MigrationError::Triggers`] where one may not be, [`MigrationError::Store`] when a database does not
    /// answer.
    pub async fn triggers_stand(&self) -> Result<(), MigrationError> {
        match self.bare_tables().await?.join(", ") {
            tables if tables.is_empty() => Ok(()),
            tables => Err(MigrationError::Triggers {
                entity: self.entity.clone(),
                tables,
            }),
        }
    }

    /// Records that a backfill that began at `epoch` reached the end.
    ///
    /// # Errors
    ///
    /// [`MigrationError::Triggers`] when writes may have been missed, [`MigrationError::Store`] when a
    /// database does not answer.
    pub async fn record_backfill(&self, epoch: &Epoch) -> Result<bool, MigrationError> {
        self.same_mapping(HeldMapping::of_revision(epoch.revision))?;
        self.triggers_stand().await?;
        Ok(self.home.record(epoch, Evidence::Backfilled).await?)
    }

    /// Compares everything, and records whether it was clean: a percentage above 0 needs one
    /// clean verify, of all keys, by which as many agreed as lagged at the least. What is not recorded says
    /// so in [`VerifyReport::recorded`].
    ///
    /// # Errors
    ///
    /// [`MigrationError`] when a database did not answer; nothing is recorded then.
    pub async fn verify(&self, options: VerifyOptions) -> Result<VerifyReport, MigrationError> {
        self.verify_telling(options, |_| ()).await
    }

    /// The same, with the same errors; `told` hears after each page and span how far it has come.
    pub async fn verify_telling(
        &self,
        options: VerifyOptions,
        told: impl FnMut(VerifyProgress) + Send,
    ) -> Result<VerifyReport, MigrationError> {
        let Row {
            epoch,
            held,
            doubts,
        } = self.row().await?;
        self.same_mapping(held)?;
        let record = options.record;
        let verify = Verify::new(self.copier.clone(), options);
        let mut report = verify.run_telling(told).await?;
        report.bare_tables = self.bare_tables().await?;
        let evidence = match (report.clean(), report.proves_too_little()) {
            (true, Some(why)) => {
                report.recorded = why;
                return Ok(report);
            }
            _ if !record => return Ok(report),
            (true, None) => Evidence::Verified { doubts },
            (false, _) => Evidence::NotVerified,
        };
        report.recorded = match self.home.record(&epoch, evidence).await? {
            true => Recorded::Yes,
            false if !epoch.copying => Recorded::NotCopied,
            false => Recorded::Moved,
        };
        Ok(report)
    }
}
