//! The home of decisions: the epoch row in the legacy database.
//!
//! The stage is derived from this row and stored nowhere else. Every change is one transaction
//! that names the epoch it starts from, so two operators cannot both decide.

use changeover_flags::{Entity, Epoch, Place, Version};
use changeover_shadow::Value;

use super::authority::integer;
use super::install::{Patience, Side};
use super::session::{Database, DbError, ErrorClass, Session, on_session};
use super::statement::Statement;
use super::tables;
use crate::store::{Answer, StoreError};

/// The epoch row of an entity.
#[derive(Debug, Clone)]
pub struct Home {
    database: Database,
    entity: Entity,
    place: Place,
}

impl Home {
    /// The epoch row of `entity`; `legacy` is the legacy database.
    #[must_use]
    pub fn new(legacy: Database, entity: Entity) -> Home {
        Home::at(legacy, entity, Place::Legacy)
    }

    /// The row of `entity` at `place`: each side keeps one, and decisions stand in legacy's.
    pub(crate) fn at(database: Database, entity: Entity, place: Place) -> Home {
        Home {
            database,
            entity,
            place,
        }
    }

    /// The row, or `None` when the entity is not installed.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the database does not answer, or holds no entity at all.
    pub fn epoch(&self) -> Answer<'_, Option<Epoch>> {
        on_session!(self, "reading the epoch of", |session| self
            .epoch_in(session))
    }

    /// Replaces the row that was read as `from` by `to`; answers whether it was still there.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the database does not answer: the move may have happened.
    pub fn replace<'a>(&'a self, from: &'a Epoch, to: &'a Epoch) -> Answer<'a, bool> {
        on_session!(self, "moving", |session| self.replace_in(session, from, to))
    }

    /// Records that a backfill reached the end, or that one verify was clean. `epoch` is
    /// the row under which it began: evidence of an older one is not taken. Every move and every
    /// raised revision is a new number.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the database does not answer.
    pub fn record<'a>(&'a self, epoch: &'a Epoch, evidence: Evidence) -> Answer<'a, bool> {
        on_session!(self, "recording evidence of", |session| self
            .record_in(session, epoch, evidence))
    }

    async fn epoch_in(&self, session: &mut dyn Session) -> Result<Option<Epoch>, DbError> {
        let dialect = self.database.dialect();
        let statement = Statement::of(
            dialect,
            "SELECT epoch, authority, moving_to, copying, incarnation, revision, backfilled, verified FROM ",
        )
        .table(tables::EPOCH)
        .sql(" WHERE entity = ")
        .text(self.entity.as_str())
        .sql(" AND place = ")
        .text(self.place.as_str());
        let rows = session.fetch(statement).await?;
        Ok(rows.first().and_then(|row| epoch(row)))
    }

    async fn replace_in(
        &self,
        session: &mut dyn Session,
        from: &Epoch,
        to: &Epoch,
    ) -> Result<bool, DbError> {
        let dialect = self.database.dialect();
        let moving_to = to
            .moving_to
            .map_or(Value::Null, |p| Value::Text(p.as_str().into()));
        let statement = Statement::of(dialect, "UPDATE ")
            .table(tables::EPOCH)
            .sql(" SET epoch = ")
            .int(to.number)
            .sql(", authority = ")
            .text(to.authority.as_str())
            .sql(", moving_to = ")
            .bind(moving_to, "text")
            .sql(&format!(
                ", copying = {}, backfilled = {}, verified = {} WHERE entity = ",
                dialect.boolean(to.copying),
                dialect.boolean(to.backfilled),
                dialect.boolean(to.verified)
            ))
            .text(self.entity.as_str())
            .sql(" AND place = ")
            .text(self.place.as_str())
            .sql(" AND epoch = ")
            .int(from.number);
        Ok(session.execute(statement).await? > 0)
    }

    async fn record_in(
        &self,
        session: &mut dyn Session,
        epoch: &Epoch,
        evidence: Evidence,
    ) -> Result<bool, DbError> {
        let dialect = self.database.dialect();
        let yes = dialect.boolean(true);
        let set = match evidence {
            Evidence::Backfilled => format!(" SET backfilled = {yes}"),
            Evidence::Verified => format!(" SET verified = {yes}"),
            Evidence::NotVerified => format!(" SET verified = {}", dialect.boolean(false)),
        };
        let statement = Statement::of(dialect, "UPDATE ")
            .table(tables::EPOCH)
            .sql(&set)
            .sql(" WHERE entity = ")
            .text(self.entity.as_str())
            .sql(" AND place = ")
            .text(self.place.as_str())
            .sql(" AND epoch = ")
            .int(epoch.number);
        Ok(session.execute(statement).await? > 0)
    }
}

/// What a sweep proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Every key was passed.
    Backfilled,
    /// Every key was compared, and nothing differed that is not lag.
    Verified,
    /// A verify found a difference.
    NotVerified,
}

fn epoch(row: &[Value]) -> Option<Epoch> {
    let place = |value: &Value| match value {
        Value::Text(text) => Place::parse(text),
        _ => None,
    };
    let yes = |value: &Value| matches!(value, Value::Boolean(true) | Value::Integer(1));
    let [
        number,
        authority,
        moving_to,
        copying,
        incarnation,
        revision,
        backfilled,
        verified,
    ] = row
    else {
        return None;
    };
    Some(Epoch {
        number: integer(number),
        authority: place(authority)?,
        copying: yes(copying),
        moving_to: place(moving_to),
        revision: integer(revision),
        base: Version::base(u32::try_from(integer(incarnation)).ok()?),
        backfilled: yes(backfilled),
        verified: yes(verified),
    })
}

/// Raises the mapping revision of an entity on both sides: every key becomes dirty or is swept
/// again, and copiers of the older revision are refused from the first step on.
///
/// The follower comes first. Were the authority first, a copier of the older revision could write
/// its image at a version of the new incarnation, and the new mapping's copy of that version would
/// be refused as stale.
///
/// Repeatable after a crash: both sides are brought to the same incarnation.
///
/// # Errors
///
/// [`StoreError`] when a database does not answer, or holds a newer revision. Calling again
/// continues.
pub async fn raise_revision(
    authority: &Side<'_>,
    follower: &Side<'_>,
    patience: Patience,
) -> Result<(), StoreError> {
    let revision = follower.shape.revision;
    let held = row_of(follower).await?;
    let led = row_of(authority).await?;
    if held.revision > revision {
        return Err(StoreError::Revision {
            held: held.revision,
            mine: revision,
        });
    }
    if held.revision == revision && led.revision == revision && held.base == led.base {
        return Ok(());
    }
    let highest = (held.base.0.max(led.base.0)) >> Version::COUNTER_BITS;
    let incarnation = if held.revision == revision {
        highest
    } else {
        highest + 1
    };
    raise_follower(follower, revision, incarnation, patience).await?;
    raise_authority(authority, revision, incarnation, patience).await
}

async fn row_of(side: &Side<'_>) -> Result<Epoch, StoreError> {
    let home = Home::at(side.database.clone(), side.entity.clone(), side.place);
    home.epoch().await?.ok_or_else(|| StoreError::Refused {
        store: side.database.dialect().place_name().to_owned(),
        doing: format!("reading the epoch of {}", side.entity),
        advice: "the entity is not installed there: run install".into(),
        source: None,
    })
}

/// Only ever upwards, and never two revisions at one incarnation: of two that raise at once, the
/// later one would find copies of the earlier mapping at the versions that its own copies carry.
fn raise<'d>(side: &'d Side<'_>, revision: i64, incarnation: i64, more: &str) -> Statement<'d> {
    Statement::of(side.database.dialect(), "UPDATE ")
        .table(tables::EPOCH)
        .sql(" SET revision = ")
        .int(revision)
        .sql(", incarnation = ")
        .int(incarnation)
        .sql(more)
        .sql(" WHERE entity = ")
        .text(side.entity.as_str())
        .sql(" AND place = ")
        .text(side.place.as_str())
        .sql(" AND (revision = ")
        .int(revision)
        .sql(" AND incarnation <= ")
        .int(incarnation)
        .sql(" OR revision < ")
        .int(revision)
        .sql(" AND incarnation < ")
        .int(incarnation)
        .sql(")")
}

fn overtaken() -> DbError {
    DbError {
        class: ErrorClass::Other,
        summary:
            "someone else raised the mapping revision meanwhile: look at it, then decide again"
                .into(),
        source: sqlx::Error::RowNotFound,
    }
}

/// Takes out the triggers of the mapping that was and that `script` does not put back where they
/// are: their numbers mean other tables now.
async fn drop_stale(
    side: &Side<'_>,
    session: &mut dyn Session,
    script: &[String],
) -> Result<(), DbError> {
    let dialect = side.database.dialect();
    let (entity, place) = (side.entity.as_str(), side.place.as_str());
    for sql in dialect
        .stale_triggers(session, entity, place, script)
        .await?
    {
        session.script(&sql).await?;
    }
    Ok(())
}

async fn raise_follower(
    side: &Side<'_>,
    revision: i64,
    incarnation: i64,
    patience: Patience,
) -> Result<(), StoreError> {
    let mut tried = 0;
    loop {
        tried += 1;
        match raise_follower_once(side, revision, incarnation, patience).await {
            Ok(()) => return Ok(()),
            Err(error) => {
                side.again("raising the revision of", tried, patience, error)
                    .await?
            }
        }
    }
}

async fn raise_follower_once(
    side: &Side<'_>,
    revision: i64,
    incarnation: i64,
    patience: Patience,
) -> Result<(), DbError> {
    let dialect = side.database.dialect();
    let mut lease = side.database.session().await?;
    let session = lease.session();
    session
        .script(&dialect.begin_install(patience.lock_timeout))
        .await?;
    // Copies in flight end first; later ones see the new revision.
    if let Some(lock) = dialect.lock_epoch(side.entity.as_str(), side.place.as_str()) {
        session.script(&lock).await?;
    }
    let script = side.follower_script();
    drop_stale(side, session, &script).await?;
    for sql in script {
        session.script(&sql).await?;
    }
    if session
        .execute(raise(side, revision, incarnation, ""))
        .await?
        == 0
    {
        return Err(overtaken());
    }
    session.script("COMMIT").await
}

async fn raise_authority(
    side: &Side<'_>,
    revision: i64,
    incarnation: i64,
    patience: Patience,
) -> Result<(), StoreError> {
    let mut tried = 0;
    loop {
        tried += 1;
        match raise_authority_once(side, revision, incarnation, patience).await {
            Ok(()) => return Ok(()),
            Err(error) => {
                side.again("raising the revision of", tried, patience, error)
                    .await?
            }
        }
    }
}

async fn raise_authority_once(
    side: &Side<'_>,
    revision: i64,
    incarnation: i64,
    patience: Patience,
) -> Result<(), DbError> {
    let dialect = side.database.dialect();
    let base = Version(incarnation << Version::COUNTER_BITS);
    let no = dialect.boolean(false);
    let mut lease = side.database.session().await?;
    let session = lease.session();
    session
        .script(&dialect.begin_install(patience.lock_timeout))
        .await?;
    // Writers that stamp with the old base end first, also on tables that only the old mapping
    // names: dropping their triggers waits for them.
    let script = side.authority_script(base);
    drop_stale(side, session, &script).await?;
    for sql in script {
        session.script(&sql).await?;
    }
    let forget = format!(", epoch = epoch + 1, backfilled = {no}, verified = {no}");
    if session
        .execute(raise(side, revision, incarnation, &forget))
        .await?
        == 0
    {
        return Err(overtaken());
    }
    let stamped = Statement::of(dialect, "UPDATE ")
        .table(tables::KEY)
        .sql(" SET version = ")
        .int(base.0)
        .sql(" WHERE version < ")
        .int(base.0)
        .sql(" AND entity = ")
        .text(side.entity.as_str())
        .sql(" AND place = ")
        .text(side.place.as_str());
    session.execute(stamped).await?;
    // Notes about lookups name the old objects; their keys are copied again like all others.
    if let Some(forget) = dialect.forget_notes(side.entity.as_str(), side.place.as_str()) {
        session.script(&forget).await?;
    }
    session.script("COMMIT").await
}
