//! The home of decisions: the epoch row in the legacy database.
//!
//! The stage is derived from this row and stored nowhere else. Every change is one transaction
//! that names the epoch it starts from, so two operators cannot both decide.

use changeover_flags::{Entity, Epoch, Place, Version};
use changeover_shadow::Value;
use futures_util::FutureExt as _;

use super::authority::integer;
use super::held_mapping::HeldMapping;
use super::session::{Database, DbError, Session, on_session};
use super::statement::Statement;
use super::tables;
use crate::store::Answer;

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
    /// [`StoreError`](crate::store::StoreError) when the database does not answer, or holds no entity at all.
    pub fn epoch(&self) -> Answer<'_, Option<Epoch>> {
        async move { Ok(self.row().await?.map(|row| row.epoch)) }.boxed()
    }

    /// The same, with the mapping that the side holds.
    ///
    /// # Errors
    ///
    /// As [`epoch`](Home::epoch).
    pub(crate) fn row(&self) -> Answer<'_, Option<Row>> {
        on_session!(self, "reading the epoch of", |session| self.row_in(session))
    }

    /// Replaces the row that was read as `from` by `to`; answers whether it was still there.
    ///
    /// # Errors
    ///
    /// [`StoreError`](crate::store::StoreError) when the database does not answer: the move may have happened.
    pub fn replace<'a>(&'a self, from: &'a Epoch, to: &'a Epoch) -> Answer<'a, bool> {
        on_session!(self, "moving", |session| self.replace_in(session, from, to))
    }

    /// Records that a backfill reached the end, or that one verify was clean. `epoch` is
    /// the row under which it began: evidence of an older one is not taken. Every move and every
    /// raised revision is a new number. Nor is a clean verify taken where nobody copies, since the
    /// next write makes it untrue.
    ///
    /// # Errors
    ///
    /// [`StoreError`](crate::store::StoreError) when the database does not answer.
    pub fn record<'a>(&'a self, epoch: &'a Epoch, evidence: Evidence) -> Answer<'a, bool> {
        on_session!(self, "recording evidence of", |session| self
            .record_in(session, epoch, evidence))
    }

    async fn row_in(&self, session: &mut dyn Session) -> Result<Option<Row>, DbError> {
        let dialect = self.database.dialect();
        let statement = Statement::of(
            dialect,
            "SELECT epoch, authority, moving_to, copying, incarnation, revision, backfilled, verified, mapping, doubts FROM ",
        )
        .table(tables::EPOCH)
        .sql(" WHERE entity = ")
        .text(self.entity.as_str())
        .sql(" AND place = ")
        .text(self.place.as_str());
        let rows = session.fetch(statement).await?;
        Ok(rows.first().and_then(|values| row(values)))
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
        let (set, only) = match evidence {
            Evidence::Backfilled => (format!(" SET backfilled = {yes}"), String::new()),
            Evidence::Verified { doubts } => (
                format!(" SET verified = {yes}"),
                format!("copying = {yes} AND doubts = {doubts} AND "),
            ),
            Evidence::NotVerified => {
                let no = dialect.boolean(false);
                (
                    format!(" SET verified = {no}, doubts = doubts + 1"),
                    String::new(),
                )
            }
        };
        let statement = Statement::of(dialect, "UPDATE ")
            .table(tables::EPOCH)
            .sql(&set)
            .sql(&format!(" WHERE {only}entity = "))
            .text(self.entity.as_str())
            .sql(" AND place = ")
            .text(self.place.as_str())
            .sql(" AND epoch = ")
            .int(epoch.number);
        Ok(session.execute(statement).await? > 0)
    }
}

/// An epoch row, whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// Who decides, and on what evidence.
    pub(crate) epoch: Epoch,
    /// The mapping that the side holds.
    pub(crate) held: HeldMapping,
    /// How many verifies have found a difference.
    pub(crate) doubts: i64,
}

/// What a sweep proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Every key was passed.
    Backfilled,
    /// Every key was compared, and nothing differed that is not lag.
    Verified {
        /// How many verifies had found a difference when this one began: what another has found
        /// since stands.
        doubts: i64,
    },
    /// A verify found a difference.
    NotVerified,
}

fn row(values: &[Value]) -> Option<Row> {
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
        mapping,
        doubts,
    ] = values
    else {
        return None;
    };
    let epoch = Epoch {
        number: integer(number),
        authority: place(authority)?,
        copying: yes(copying),
        moving_to: place(moving_to),
        revision: integer(revision),
        base: Version::base(u32::try_from(integer(incarnation)).ok()?),
        backfilled: yes(backfilled),
        verified: yes(verified),
    };
    let held = HeldMapping::read(revision, mapping);
    Some(Row {
        epoch,
        held,
        doubts: integer(doubts),
    })
}
