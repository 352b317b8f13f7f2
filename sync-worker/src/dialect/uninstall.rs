//! Taking an installation out again, and what stays of it: the past.
//!
//! A new installation must not count from the beginning again. A copier that was stopped meanwhile
//! holds an image of a version that the new one will give to another; an instance knows an epoch
//! number that the new one has yet to reach; a verify that began before would be evidence. So each
//! side keeps one row, with the highest incarnation that was used there, and the next installation
//! begins above it.

use changeover_flags::{Epoch, Version};

use super::authority::integer;
use super::install::{Patience, Side};
use super::session::{DbError, Session, on_session};
use super::statement::Statement;
use super::tables;
use crate::store::StoreError;

impl Side<'_> {
    /// Takes this side's objects out again, and its rows from the product's tables; the tables
    /// too when no entity is left in them. What a new installation must not repeat stays.
    ///
    /// # Errors
    ///
    /// As [`install`](Side::install).
    pub async fn uninstall(&self, patience: Patience) -> Result<(), StoreError> {
        self.take_out(None, patience).await
    }

    /// What [`uninstall`](Side::uninstall) would run, but for what it keeps.
    ///
    /// # Errors
    ///
    /// What the database says.
    pub async fn uninstall_plan(&self) -> Result<Vec<String>, StoreError> {
        on_session!(self, "planning to uninstall", |session| async {
            let dialect = self.database.dialect();
            let (entity, place) = (self.entity.as_str(), self.place.as_str());
            dialect.drop_objects(session, entity, place).await
        })
        .await
    }

    /// Takes out an installation at `base` that nobody has moved since; nothing stays of it.
    ///
    /// # Errors
    ///
    /// As [`install`](Side::install).
    pub async fn take_back(&self, base: Version, patience: Patience) -> Result<(), StoreError> {
        self.take_out(Some(Epoch::first(base)), patience).await
    }

    async fn take_out(&self, unmoved: Option<i64>, patience: Patience) -> Result<(), StoreError> {
        self.patiently("uninstalling", patience, || {
            self.take_out_once(unmoved, patience)
        })
        .await
    }

    async fn take_out_once(&self, unmoved: Option<i64>, patience: Patience) -> Result<(), DbError> {
        let dialect = self.database.dialect();
        let mut lease = self.database.session().await?;
        let session = lease.session();
        session
            .script(&dialect.begin_install(patience.lock_timeout))
            .await?;
        // A copy that has passed its checks still writes, and needs the guards to be its own.
        self.wait_for_copies(session, patience).await?;
        let (entity, place) = (self.entity.as_str(), self.place.as_str());
        let script = dialect.drop_objects(session, entity, place).await?;
        if let Some(number) = unmoved {
            let row = Statement::of(dialect, "DELETE FROM ")
                .table(tables::EPOCH)
                .sql(" WHERE epoch = ")
                .int(number)
                .sql(" AND entity = ")
                .text(entity)
                .sql(" AND place = ")
                .text(place);
            // The lease closes the connection, and with it the transaction.
            if session.execute(row).await? == 0 {
                return Ok(());
            }
        } else if !script.is_empty() {
            self.keep_the_past(session).await?;
        }
        for sql in script {
            session.script(&sql).await?;
        }
        session.script("COMMIT").await
    }

    async fn keep_the_past(&self, session: &mut dyn Session) -> Result<(), DbError> {
        let dialect = self.database.dialect();
        let (past, greatest) = (dialect.table(tables::PAST), dialect.greatest_name());
        session.script(&dialect.create_past()).await?;
        // Where the epoch numbers ran over into a later incarnation's, that one counts as used.
        let numbers = Epoch::NUMBERS;
        let higher = format!(
            "{greatest}({past}.incarnation, {})",
            dialect.incoming("incarnation")
        );
        let keep = Statement::of(dialect, "INSERT INTO ")
            .table(tables::PAST)
            .sql(&format!(
                " (entity, place, incarnation) SELECT entity, place, \
                 {greatest}(incarnation, (epoch - epoch % {numbers}) / {numbers}) FROM "
            ))
            .table(tables::EPOCH)
            .sql(" WHERE entity = ")
            .text(self.entity.as_str())
            .sql(" AND place = ")
            .text(self.place.as_str())
            .sql(&dialect.or_update(
                tables::PAST,
                "entity, place",
                &[("incarnation", &higher)],
                "",
            ));
        session.execute(keep).await.map(drop)
    }

    async fn past(&self) -> Result<Option<i64>, StoreError> {
        let side = self;
        on_session!(side, "reading the past of", |session| side.past_in(session)).await
    }

    /// The highest incarnation that an installation which was taken out has used here.
    pub(super) async fn past_in(&self, session: &mut dyn Session) -> Result<Option<i64>, DbError> {
        let dialect = self.database.dialect();
        if dialect.describe(session, tables::PAST).await?.is_none() {
            return Ok(None);
        }
        let past = Statement::of(dialect, "SELECT incarnation FROM ")
            .table(tables::PAST)
            .sql(" WHERE entity = ")
            .text(self.entity.as_str())
            .sql(" AND place = ")
            .text(self.place.as_str());
        let rows = session.fetch(past).await?;
        Ok(rows.first().and_then(|row| row.first()).map(integer))
    }
}

/// The lowest base that no installation which was taken out has used on either side.
pub(crate) async fn unused_base(one: &Side<'_>, other: &Side<'_>) -> Result<Version, StoreError> {
    let past = one.past().await?.max(other.past().await?);
    Ok(Version(
        past.map_or(0, |past| past + 1) << Version::COUNTER_BITS,
    ))
}
