//! Defects made on purpose, past every trigger: what proves that the check can fail.

use super::database::Databases;

/// A defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Sabotage {
    /// One price of the new side is off by one cent.
    Changed,
    /// One listing of the new side has lost its only variant.
    Missing,
    /// One acknowledged write vanishes from legacy, and the copies faithfully follow.
    Lost,
}

impl Sabotage {
    /// Whether it is done to legacy, before the last copies.
    pub(super) fn before_the_drain(self) -> bool {
        self == Sabotage::Lost
    }

    /// Does it.
    pub(super) async fn commit(self, databases: &Databases) -> Result<(), sqlx::Error> {
        match self {
            Sabotage::Changed => {
                let sql = "UPDATE listing_variants SET price_cents = price_cents - 1 \
                     WHERE id = (SELECT max(id) FROM listing_variants WHERE price_cents > 0)";
                behind_the_triggers(databases, sql).await
            }
            Sabotage::Missing => {
                let sql = "DELETE FROM listing_variants \
                     WHERE id = (SELECT max(id) FROM listing_variants)";
                behind_the_triggers(databases, sql).await
            }
            Sabotage::Lost => {
                let sql = "UPDATE marketplace_listings SET journal = '0;' WHERE id = \
                     (SELECT max(id) FROM marketplace_listings WHERE journal LIKE '0;_%')";
                databases.legacy.execute(sql, &[]).await.map(drop)
            }
        }
    }
}

/// Writes `listing_variants` while its triggers are not there.
async fn behind_the_triggers(databases: &Databases, sql: &str) -> Result<(), sqlx::Error> {
    let mut work = databases.new.begin().await?;
    if databases.paths().is_none() {
        work.execute("ALTER TABLE listing_variants DISABLE TRIGGER USER", &[])
            .await?;
        work.execute(sql, &[]).await?;
        work.execute("ALTER TABLE listing_variants ENABLE TRIGGER USER", &[])
            .await?;
        return work.commit().await;
    }
    let triggers = "SELECT name, sql FROM sqlite_schema \
         WHERE type = 'trigger' AND tbl_name = 'listing_variants'";
    let mut again = Vec::new();
    for mut row in work.fetch(triggers, &[]).await? {
        let name = row.text().unwrap_or_default();
        again.extend(row.text());
        work.execute(&format!("DROP TRIGGER \"{name}\""), &[])
            .await?;
    }
    work.execute(sql, &[]).await?;
    for trigger in again {
        work.execute(&trigger, &[]).await?;
    }
    work.commit().await
}
