//! Raising mapping revision and incarnation of an entity on both sides: every key is copied again,
//! and no evidence stands.
//!
//! Both rise together, and whenever one side lacks what the other stands on: the new revision is
//! not there yet, or a side came back from before, and what versions say about it is not so.
//!
//! No stamp is rewritten: a version below the base counts as the base wherever it is read. The row
//! of the authority in [`BACKFILL`](super::tables::BACKFILL) says that there may be such versions
//! whose keys have to be copied, until somebody found none.

use changeover_flags::{Epoch, Version};

use super::held_mapping;
use super::home::{Home, Row};
use super::install::{Patience, Side};
use super::session::{DbError, ErrorClass, Session, on_session};
use super::statement::Statement;
use super::tables;
use super::uninstall::unused_base;
use crate::store::StoreError;

/// How often in a row somebody else may raise the same revision first.
const RAISERS: u32 = 20;

/// Makes both sides hold the mapping's revision, at one incarnation: where they do not, every key
/// becomes dirty or is swept again, and copiers of an older revision are refused from the first
/// step on. The authority is installed if it has lost its row.
///
/// The follower comes first. Were the authority first, a copier of the older revision could write
/// its image at a version of the new incarnation, and the new mapping's copy of that version would
/// be refused as stale.
///
/// Where the sides differ, the incarnation is one that neither side had. What is copied at the
/// higher of the two may be there already, from before the other side was lost, with other data.
///
/// Where the follower holds copies that the authority cannot have sent, nothing is copied any more
/// until somebody starts it: what they say may be newer.
///
/// Repeatable after a crash.
///
/// # Errors
///
/// [`StoreError`] when a database does not answer, or holds a newer revision. Calling again
/// continues.
pub async fn raise(
    authority: &Side<'_>,
    follower: &Side<'_>,
    patience: Patience,
) -> Result<(), StoreError> {
    raise_for(authority, follower, patience, false).await
}

/// The same though both sides stand: what was written to them meanwhile is not known.
///
/// # Errors
///
/// As [`raise`].
pub async fn raise_anew(
    authority: &Side<'_>,
    follower: &Side<'_>,
    patience: Patience,
) -> Result<(), StoreError> {
    raise_for(authority, follower, patience, true).await
}

async fn raise_for(
    authority: &Side<'_>,
    follower: &Side<'_>,
    patience: Patience,
    mut anew: bool,
) -> Result<(), StoreError> {
    let mut before = sides(authority, follower).await?;
    for _ in 0..RAISERS {
        let raised = raise_from(before, authority, follower, patience, anew);
        let Err(error) = raised.await else {
            return Ok(());
        };
        let now = sides(authority, follower).await?;
        let mine = follower.shape.revision;
        let another = revision(now) != revision(before) && revision(now) != mine;
        if !matches!(error, StoreError::Refused { .. }) || now == before || another {
            return Err(error);
        }
        // Who was first has raised both sides for this one, too.
        (before, anew) = (now, false);
    }
    raise_from(before, authority, follower, patience, anew).await
}

/// The rows of (the authority, the follower). The follower's is read first: it is put in last and
/// taken out first, so where it stands alone the authority's was lost.
type Sides = (Option<Row>, Row);

async fn sides(authority: &Side<'_>, follower: &Side<'_>) -> Result<Sides, StoreError> {
    let held = row_of(follower).await?;
    let held = held.ok_or_else(|| StoreError::NotInstalled {
        store: follower.database.dialect().place_name().to_owned(),
        doing: format!("reading the epoch of {}", follower.entity),
    })?;
    Ok((row_of(authority).await?, held))
}

fn revision((led, held): Sides) -> i64 {
    let held = held.epoch.revision;
    led.map_or(held, |led| led.epoch.revision.max(held))
}

/// The epoch row of a side.
///
/// # Errors
///
/// [`StoreError`] when the database does not answer.
pub(crate) async fn row_of(side: &Side<'_>) -> Result<Option<Row>, StoreError> {
    let home = Home::at(side.database.clone(), side.entity.clone(), side.place);
    match home.row().await {
        // Before the first installation the table itself is missing.
        Err(StoreError::NotInstalled { .. }) => Ok(None),
        answer => answer,
    }
}

async fn raise_from(
    (led, held): Sides,
    authority: &Side<'_>,
    follower: &Side<'_>,
    patience: Patience,
    anew: bool,
) -> Result<(), StoreError> {
    let mine = follower.shape.revision;
    let newest = revision((led, held));
    if newest > mine {
        return Err(StoreError::Revision { held: newest, mine });
    }
    // Under one revision, only the mapping that stands there already is raised.
    for row in led.iter().chain([&held]) {
        if row.epoch.revision == mine {
            row.held.admits(follower.shape)?;
        }
    }
    let base = held.epoch.base;
    let stands = |row: Row| row.epoch.revision == mine && row.epoch.base == base;
    if stands(held) && led.is_some_and(stands) && !anew {
        return Ok(());
    }
    let highest = led.map_or(base, |led| led.epoch.base.max(base));
    let unused = unused_base(authority, follower).await?;
    let next = Version(highest.0 + Version::base(1).0).max(unused);
    let incarnation = next.0 >> Version::COUNTER_BITS;
    let outranked = match led {
        Some(led) if led.epoch.base < base && holds_above(follower, led.epoch.base).await? => {
            let entity = follower.entity;
            tracing::warn!(%entity, "the legacy side came back from a backup: changeover install --copy puts what it holds over newer rows of the new side");
            Some(led.epoch.base)
        }
        _ => None,
    };
    let doing = "raising the revision of";
    follower
        .patiently(doing, patience, || {
            raise_follower(follower, mine, incarnation, patience)
        })
        .await?;
    if led.is_none() {
        let mut script = authority.authority_script(next);
        // Its stamps may still be there.
        script.push(below_the_base(authority, incarnation));
        return authority
            .install_at(&script, next, decided(next), patience)
            .await;
    }
    authority
        .patiently(doing, patience, || {
            raise_authority(authority, mine, incarnation, outranked, patience)
        })
        .await
}

/// Whether copies of a later incarnation than `base`'s have reached the follower. The authority was
/// there then, so one that stands at `base` came back from a backup: while the follower alone is
/// raised, nothing is copied.
async fn holds_above(follower: &Side<'_>, base: Version) -> Result<bool, StoreError> {
    on_session!(follower, "looking for copies of", |session| async move {
        let copies = Statement::of(follower.database.dialect(), "SELECT 1 FROM ")
            .table(tables::KEY)
            .sql(" WHERE version >= ")
            .int(base.0 + Version::base(1).0)
            .sql(" AND entity = ")
            .text(follower.entity.as_str())
            .sql(" AND place = ")
            .text(follower.place.as_str())
            .sql(" UNION ALL SELECT 1 FROM ")
            .table(tables::EPOCH)
            // Or a load, which leaves no versions of single keys.
            .sql(" WHERE load_began > ")
            .int(base.0 >> Version::COUNTER_BITS)
            .sql(" AND entity = ")
            .text(follower.entity.as_str())
            .sql(" AND place = ")
            .text(follower.place.as_str())
            .sql(" LIMIT 1");
        Ok::<_, DbError>(!session.fetch(copies).await?.is_empty())
    })
    .await
}

/// Only ever upwards, and never two mappings at one incarnation: of two that raise at once, the
/// later one would find copies of the earlier mapping at the versions that its own copies carry.
/// A mapping that cannot tell what it answers leaves what its revision is known to answer.
fn risen<'d>(side: &'d Side<'_>, revision: i64, incarnation: i64, more: &str) -> Statement<'d> {
    let (dialect, mapping) = (side.database.dialect(), held_mapping::column(side.shape));
    Statement::of(dialect, "UPDATE ")
        .table(tables::EPOCH)
        .sql(" SET revision = ")
        .int(revision)
        .sql(", incarnation = ")
        .int(incarnation)
        .sql(", mapping = coalesce(")
        .bind(mapping.clone(), "bigint")
        .sql(", CASE WHEN revision = ")
        .int(revision)
        .sql(" THEN mapping END)")
        .sql(more)
        .sql(" WHERE entity = ")
        .text(side.entity.as_str())
        .sql(" AND place = ")
        .text(side.place.as_str())
        .sql(" AND (revision = ")
        .int(revision)
        .sql(" AND incarnation <= ")
        .int(incarnation)
        .sql(" AND coalesce(mapping = ")
        .bind(mapping, "bigint")
        .sql(&format!(", {})", dialect.boolean(true)))
        .sql(" OR revision < ")
        .int(revision)
        .sql(" AND incarnation < ")
        .int(incarnation)
        .sql(")")
}

/// The lowest number of an authority's row that was raised: whoever starts must not take it for a
/// first installation's, and begin to copy.
const fn decided(base: Version) -> i64 {
    Epoch::first(base) + 1
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
) -> Result<(), DbError> {
    let dialect = side.database.dialect();
    let mut lease = side.database.session().await?;
    let session = lease.session();
    session
        .script(&dialect.begin_install(patience.lock_timeout))
        .await?;
    let script = side.follower_script();
    let atomic = dialect.transactional_ddl();
    // Copies in flight end first; later ones see the new revision.
    if atomic {
        side.wait_for_copies(session, patience).await?;
        drop_stale(side, session, &script).await?;
    } else if !would_rise(side, session, revision, incarnation, "").await? {
        return Err(overtaken());
    } else {
        side.drop_strays(session).await?;
    }
    for sql in &script {
        session.script(sql).await?;
    }
    // What is created does not end with the transaction, but a lock does with what is created.
    if !atomic {
        side.wait_for_copies(session, patience).await?;
    }
    if session
        .execute(risen(side, revision, incarnation, ""))
        .await?
        == 0
    {
        return Err(overtaken());
    }
    // Where a sweep had come to is what it had copied at the lower base.
    let cursor = Statement::of(dialect, "DELETE FROM ")
        .table(tables::BACKFILL)
        .sql(" WHERE entity = ")
        .text(side.entity.as_str())
        .sql(" AND place = ")
        .text(side.place.as_str());
    session.execute(cursor).await?;
    side.lift_base(session, Version(incarnation << Version::COUNTER_BITS))
        .await?;
    session.script("COMMIT").await?;
    // Until now the old mapping may have needed them.
    if !atomic {
        drop_stale(side, session, &script).await?;
    }
    Ok(())
}

/// Records on the authority that versions of keys may lie below the base of this incarnation.
fn below_the_base(side: &Side<'_>, incarnation: i64) -> String {
    let (dialect, revision) = (side.database.dialect(), side.shape.revision);
    let (table, no) = (dialect.table(tables::BACKFILL), dialect.boolean(false));
    let newer = ["revision", "passed", "done"].map(|column| dialect.incoming(column));
    format!(
        "INSERT INTO {table} (entity, place, revision, \"cursor\", passed, done) \
         VALUES ('{}', '{}', {revision}, NULL, {incarnation}, {no}){}",
        side.entity.as_str(),
        side.place.as_str(),
        dialect.or_update(
            tables::BACKFILL,
            "entity, place, part",
            &[
                ("revision", &newer[0]),
                ("passed", &newer[1]),
                ("done", &newer[2])
            ],
            ""
        )
    )
}

impl Side<'_> {
    /// From here on every writer stamps at `base`, whoever began before.
    pub(super) async fn lift_base(
        &self,
        session: &mut dyn Session,
        base: Version,
    ) -> Result<(), DbError> {
        let dialect = self.database.dialect();
        let (entity, place) = (self.entity.as_str(), self.place.as_str());
        if let Some(lift) = dialect.lift_base(entity, place, base) {
            session.script(&lift).await?;
        }
        Ok(())
    }
}

async fn raise_authority(
    side: &Side<'_>,
    revision: i64,
    incarnation: i64,
    outranked: Option<Version>,
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
    let (greatest, first) = (dialect.greatest_name(), decided(base));
    let mut forget =
        format!(", epoch = {greatest}(epoch + 1, {first}), backfilled = {no}, verified = {no}");
    if let Some(from) = outranked {
        // Where another has raised the row since, somebody may have decided to copy.
        let from = from.0 >> Version::COUNTER_BITS;
        forget += &format!(", copying = CASE WHEN incarnation = {from} THEN {no} ELSE copying END");
    }
    let script = side.authority_script(base);
    let atomic = dialect.transactional_ddl();
    // Writers that stamp with the old base end first, also on tables that only the old mapping
    // names: dropping their triggers waits for them.
    if atomic {
        drop_stale(side, session, &script).await?;
    } else if !would_rise(side, session, revision, incarnation, &forget).await? {
        return Err(overtaken());
    } else {
        side.drop_strays(session).await?;
    }
    dialect.unwaited().await?;
    for sql in &script {
        session.script(sql).await?;
    }
    // Again, for one that was prepared meanwhile. Before the row that every writer reads is locked.
    dialect.unwaited().await?;
    if session
        .execute(risen(side, revision, incarnation, &forget))
        .await?
        == 0
    {
        return Err(overtaken());
    }
    side.lift_base(session, base).await?;
    session.script(&below_the_base(side, incarnation)).await?;
    // Notes about lookups name the old objects; their keys are copied again like all others.
    if let Some(forget) = dialect.forget_notes(side.entity.as_str(), side.place.as_str()) {
        session.script(&forget).await?;
    }
    session.script("COMMIT").await?;
    // Until now the old mapping may have needed them.
    if !atomic {
        drop_stale(side, session, &script).await?;
    }
    Ok(())
}

/// Whether the row will rise, asked before what is not taken back. Installers queue, so nobody changes
/// the answer meanwhile.
async fn would_rise(
    side: &Side<'_>,
    session: &mut dyn Session,
    revision: i64,
    incarnation: i64,
    forget: &str,
) -> Result<bool, DbError> {
    let rises = session
        .execute(risen(side, revision, incarnation, forget))
        .await?
        > 0;
    session.script("ROLLBACK").await?;
    Ok(rises)
}
