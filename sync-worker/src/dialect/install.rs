//! Putting the triggers and tables into the databases.
//!
//! Each side is one transaction: it waits for writers in flight (their rows would be missed), for
//! at most the lock timeout, and starts again when it did not get its locks, so that a long
//! transaction never queues the world behind it. Everything is replaceable: installing twice is
//! installing once.

use std::time::Duration;

use changeover_flags::{Entity, Epoch, Place, Version};
use rand::RngExt;

use super::authority::integer;
use super::catalog::Table;
use super::held_mapping::{self, HeldMapping};
use super::session::{Database, DbError, ErrorClass, Session, on_session};
use super::statement::Statement;
use super::tables;
use crate::mapping::{KeyExpression, Root, Shape};
use crate::store::StoreError;

/// A table whose writes stamp keys.
#[derive(Debug)]
pub struct Stamp<'a> {
    /// The entity.
    pub entity: &'a str,
    /// Where the table is.
    pub place: &'a str,
    /// The table.
    pub table: &'a Table,
    /// Numbers the entity's objects.
    pub index: usize,
    /// The keys that a row belongs to.
    pub key: &'a KeyExpression,
    /// The table whose rows define the keys.
    pub root: &'a Root,
    /// No version is lower.
    pub base: i64,
}

/// A table that refuses all but copies.
#[derive(Debug)]
pub struct Reject<'a> {
    /// The entity.
    pub entity: &'a str,
    /// Where the table is.
    pub place: &'a str,
    /// The table.
    pub table: &'a Table,
    /// Numbers the entity's objects.
    pub index: usize,
    /// What is refused.
    pub guard: Guard<'a>,
}

/// What a follower's table refuses.
#[derive(Debug, Clone, Copy)]
pub enum Guard<'a> {
    /// Every write but a copy.
    Owned,
    /// Deleting rows, and changing these columns.
    Shared(&'a [String]),
    /// Deleting rows, and changing these columns, copies included.
    Lookup(&'a [String]),
}

/// Replaces every `$row.column` of a key query.
#[must_use]
pub fn replace_row(query: &str, mut column: impl FnMut(&str) -> String) -> String {
    let mut parts = query.split("$row.");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(part.len());
        text.push_str(&column(&part[..end]));
        text.push_str(&part[end..]);
    }
    text
}

/// The columns that a key query takes from the written row.
#[must_use]
pub fn row_columns(query: &str) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    let _ = replace_row(query, |column| {
        if !columns.iter().any(|known| known == column) {
            columns.push(column.to_owned());
        }
        String::new()
    });
    columns
}

/// How patiently an installation waits for its locks.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long one try may hold up writers. Below the server's deadlock timeout.
    pub lock_timeout: Duration,
    /// How many tries.
    pub tries: u32,
    /// The longest pause between two tries.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            lock_timeout: Duration::from_millis(800),
            tries: 30,
            pause: Duration::from_secs(2),
        }
    }
}

/// One side of an entity to be installed.
#[derive(Debug)]
pub struct Side<'a> {
    /// Its database.
    pub database: &'a Database,
    /// The entity.
    pub entity: &'a Entity,
    /// Which place it is.
    pub place: Place,
    /// The mapping's shape.
    pub shape: &'a Shape,
    /// The tables named in the shape, as this side's catalog describes them.
    pub tables: &'a [Table],
}

impl Side<'_> {
    /// The first target with generated ids that holds rows, if any does.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the database does not answer.
    pub async fn occupied(&self) -> Result<Option<String>, StoreError> {
        let owner = self;
        on_session!(owner, "looking for rows of", |session| async move {
            let dialect = owner.database.dialect();
            for target in owner.shape.targets.iter() {
                if !target.is_owned() || target.id_column().is_none() {
                    continue;
                }
                let statement = Statement::of(dialect, "SELECT 1 FROM ")
                    .table(&target.table)
                    .sql(" LIMIT 1");
                if !session.fetch(statement).await?.is_empty() {
                    return Ok(Some(target.table.clone()));
                }
            }
            Ok::<_, DbError>(None)
        })
        .await
    }

    /// Creates the product's tables and this side's epoch row, and installs `script`, made for
    /// `base`, in one
    /// transaction that is tried again when its locks are not to be had.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] naming who holds the locks when no try got them, else what the
    /// database says. A failed installation changed nothing.
    pub async fn install(
        &self,
        script: &[String],
        base: Version,
        patience: Patience,
    ) -> Result<(), StoreError> {
        self.install_at(script, base, Epoch::first(base), patience)
            .await
    }

    /// The same, where the epoch row begins with this number.
    pub(super) async fn install_at(
        &self,
        script: &[String],
        base: Version,
        number: i64,
        patience: Patience,
    ) -> Result<(), StoreError> {
        self.patiently("installing", patience, || {
            self.install_once(script, base, number, patience)
        })
        .await
    }

    /// Tries `once` until it gets its locks, as often as `patience` says.
    pub(super) async fn patiently<F>(
        &self,
        doing: &str,
        patience: Patience,
        once: impl Fn() -> F,
    ) -> Result<(), StoreError>
    where
        F: Future<Output = Result<(), DbError>>,
    {
        let mut tried = 0;
        loop {
            tried += 1;
            match once().await {
                Ok(()) => return Ok(()),
                Err(error) => self.again(doing, tried, patience, error).await?,
            }
        }
    }

    /// Waits before the next try, if there is to be one.
    async fn again(
        &self,
        doing: &str,
        tried: u32,
        patience: Patience,
        error: DbError,
    ) -> Result<(), StoreError> {
        let store = self.database.dialect().place_name().to_owned();
        let doing = format!("{doing} {} on the {} side", self.entity, self.place);
        if error.class != ErrorClass::Busy {
            return Err(error.at(&store, &doing));
        }
        let by = self.blockers().await;
        if tried >= patience.tries {
            let source = error.into();
            return Err(StoreError::Locked {
                store,
                doing,
                by,
                source,
            });
        }
        tracing::info!(entity = %self.entity, place = %self.place, tried, by, "a table is locked, trying again");
        let fraction: f64 = rand::rng().random_range(0.2..1.0);
        tokio::time::sleep(patience.pause.mul_f64(fraction)).await;
        Ok(())
    }

    /// Who holds locks on this side's tables, as one line.
    async fn blockers(&self) -> String {
        let names = self.table_names();
        let found = async {
            let mut lease = self.database.session().await?;
            let found = self
                .database
                .dialect()
                .blockers(lease.session(), &names)
                .await?;
            lease.give_back();
            Ok::<_, DbError>(found)
        };
        match found.await {
            Ok(found) if !found.is_empty() => found.join("; "),
            _ => "another transaction on the same tables".to_owned(),
        }
    }

    /// Waits until no copy to this side is in flight, for longer than for a lock of a table: only
    /// copies queue behind it.
    pub(super) async fn wait_for_copies(
        &self,
        session: &mut dyn Session,
        patience: Patience,
    ) -> Result<(), DbError> {
        let (dialect, entity, place) = (
            self.database.dialect(),
            self.entity.as_str(),
            self.place.as_str(),
        );
        match dialect.lock_epoch(entity, place, patience.lock_timeout) {
            Some(lock) => session.script(&lock).await,
            None => Ok(()),
        }
    }

    /// The tables that get triggers, in one order for every installer.
    fn table_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .tables
            .iter()
            .map(|table| table.name.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    async fn install_once(
        &self,
        script: &[String],
        base: Version,
        number: i64,
        patience: Patience,
    ) -> Result<(), DbError> {
        let dialect = self.database.dialect();
        let mut lease = self.database.session().await?;
        let session = lease.session();
        session
            .script(&dialect.begin_install(patience.lock_timeout))
            .await?;
        if let Some(lock) = dialect.lock_tables(&self.table_names(), patience.lock_timeout) {
            session.script(&lock).await?;
        }
        for sql in dialect.create_tables() {
            session.script(&sql).await?;
        }
        dialect.unwaited().await?;
        // Before the script, where it is not taken back with the rest.
        if !dialect.transactional_ddl() {
            if self.stands_at(session, base).await? == Some(false) {
                return Err(overtaken());
            }
            self.drop_strays(session).await?;
        }
        for sql in script {
            session.script(sql).await?;
        }
        // Again, for one that was prepared meanwhile. Before the row that every writer reads is locked.
        dialect.unwaited().await?;
        let no = dialect.boolean(false);
        let epoch = Statement::of(dialect, "INSERT INTO ")
            .table(tables::EPOCH)
            .sql(" (entity, place, epoch, authority, copying, incarnation, revision, mapping, backfilled, verified) SELECT ")
            .text(self.entity.as_str())
            .sql(", ")
            .text(self.place.as_str())
            .sql(&format!(", {number}, 'legacy', {no}, "))
            .int(base.0 >> Version::COUNTER_BITS)
            .sql(", ")
            .int(self.shape.revision)
            .sql(", ")
            .bind(held_mapping::column(self.shape), "bigint")
            .sql(&format!(", {no}, {no} WHERE true"))
            .sql(&dialect.or_update(tables::EPOCH, "entity, place", &[], ""));
        session.execute(epoch).await?;
        self.lift_base(session, base).await?;
        // Asked again under the locks.
        if self.stands_at(session, base).await? != Some(true) {
            return Err(overtaken());
        }
        // The connection is closed: it waits for locks as an installation does.
        session.script("COMMIT").await
    }

    /// Whether what is installed is this mapping at `base`: triggers of an older base would stamp below
    /// the new one, and an incarnation that another installation used meanwhile must not be given out
    /// twice. `None` where nothing is installed and nothing forbids it.
    async fn stands_at(
        &self,
        session: &mut dyn Session,
        base: Version,
    ) -> Result<Option<bool>, DbError> {
        let dialect = self.database.dialect();
        let incarnation = base.0 >> Version::COUNTER_BITS;
        let past = self.past_in(session).await?;
        if past.is_some_and(|past| past >= incarnation) {
            return Ok(Some(false));
        }
        let select = format!("SELECT {}, incarnation FROM ", HeldMapping::COLUMNS);
        let held = Statement::of(dialect, &select)
            .table(tables::EPOCH)
            .sql(" WHERE entity = ")
            .text(self.entity.as_str())
            .sql(" AND place = ")
            .text(self.place.as_str());
        let rows = session.fetch(held).await?;
        Ok(match rows.first().map(Vec::as_slice) {
            Some([revision, mapping, held]) => Some(
                integer(held) == incarnation
                    && HeldMapping::read(revision, mapping)
                        .admits(self.shape)
                        .is_ok(),
            ),
            _ => None,
        })
    }
}

fn overtaken() -> DbError {
    DbError {
        class: ErrorClass::Other,
        summary:
            "the mapping was raised or changed meanwhile, or the entity uninstalled: look at it, then install again"
                .into(),
        source: sqlx::Error::RowNotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_replaced_by_name() {
        let query = "SELECT id FROM l WHERE t = $row.tenant_id AND u = $row.u";
        assert_eq!(
            replace_row(query, |column| format!("NEW.{column}")),
            "SELECT id FROM l WHERE t = NEW.tenant_id AND u = NEW.u"
        );
        assert_eq!(row_columns(query), ["tenant_id", "u"]);
        assert_eq!(replace_row("no row", |_| "x".into()), "no row");
    }
}
