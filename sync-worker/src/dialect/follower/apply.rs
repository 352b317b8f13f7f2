//! One transaction that applies copies: mark, revision, lookups, fence, rows, cursor, commit.

use std::collections::HashSet;

use changeover_flags::{Key, Version};
use changeover_shadow::Value;

use super::resolve::{Copy, Resolved};
use super::write::How;
use super::{Refusal, SqlFollower};
use crate::dialect::authority::{integer, key_at, text};
use crate::dialect::held_mapping::HeldMapping;
use crate::dialect::session::{DbError, ErrorClass, Session};
use crate::dialect::statement::{RowColumn, Statement};
use crate::dialect::tables;
use crate::dialect::versions::base_of;
use crate::image::{Cell, Image};
use crate::mapping::Belongs;
use crate::store::{Applied, Cursor, Hold, HoldKind, Stamped};

/// How the follower stands.
pub(super) struct Held {
    pub(super) base: Version,
    /// Whether history is being loaded, beside which nothing is copied.
    pub(super) loading: bool,
}

impl From<DbError> for Refusal {
    fn from(error: DbError) -> Refusal {
        match error.class {
            ErrorClass::Unique | ErrorClass::ForeignKey | ErrorClass::Data => Refusal::Data(error),
            _ => Refusal::Store(error.at("the follower", "applying copies")),
        }
    }
}

impl SqlFollower {
    /// Applies copies in one transaction. With `replace`, all rows of these keys are deleted
    /// first, so that unique values can change hands between them. The cursor is kept only when
    /// every copy was applied or stale: a key that is held must be recorded before it is passed.
    pub(super) async fn apply_once(
        &self,
        copies: &[Stamped],
        replace: bool,
        cursor: Option<&Cursor>,
    ) -> Result<Vec<Applied>, Refusal> {
        let mut lease = self
            .database
            .session()
            .await
            .map_err(|error| self.unreachable(error))?;
        let answer = match self
            .apply_in(lease.session(), copies, replace, cursor)
            .await
        {
            // Only a refusal of the data leaves a connection worth keeping, once it is rolled back.
            Err(Refusal::Data(error)) => {
                if lease.session().script("ROLLBACK").await.is_ok() {
                    lease.give_back();
                }
                return Err(Refusal::Data(error));
            }
            other => other?,
        };
        if let Some(cursor) = cursor
            && let Err(error) = self.tell_planner(lease.session(), cursor.passed).await
        {
            // The copies are committed; statistics only save time. The connection is closed.
            tracing::debug!(%error, "the planner could not be told how large the tables are");
            return Ok(answer);
        }
        lease.give_back();
        Ok(answer)
    }

    fn unreachable(&self, error: DbError) -> Refusal {
        let doing = format!(
            "applying copies of {} on the {} side",
            self.entity, self.place
        );
        Refusal::Store(error.at(self.dialect().place_name(), &doing))
    }

    async fn apply_in(
        &self,
        session: &mut dyn Session,
        copies: &[Stamped],
        replace: bool,
        cursor: Option<&Cursor>,
    ) -> Result<Vec<Applied>, Refusal> {
        let begin = self
            .dialect()
            .begin_copy(self.entity.as_str(), self.place.as_str());
        session.script(&begin).await?;
        let Held { base, loading } = self.check_revision(session).await?;
        if loading && !self.rehearses {
            session.script("ROLLBACK").await?;
            return Ok(vec![Applied::Loading; copies.len()]);
        }

        let mut resolved = Resolved::default();
        let images: Vec<Copy<'_>> = copies
            .iter()
            .filter_map(|copy| Some((copy.key.as_str(), copy.image.as_ref().ok()?)))
            .collect();
        self.resolve_lookups(session, &images, &mut resolved)
            .await?;
        let mut outcomes: Vec<Applied> = copies
            .iter()
            .map(|copy| self.before_fence(copy, base, &resolved))
            .collect();

        let accepted = self.fence(session, copies, &outcomes).await?;
        let images: Vec<Copy<'_>> = images
            .into_iter()
            .filter(|(key, _)| accepted.contains(*key))
            .collect();
        for (copy, outcome) in copies.iter().zip(&mut outcomes) {
            if *outcome == Applied::Stale && accepted.contains(copy.key.as_str()) {
                *outcome = Applied::Applied;
            }
        }
        if !images.is_empty() {
            let how = if replace { How::Replace } else { How::Change };
            self.write(session, &images, how, &mut resolved).await?;
        }

        let all = outcomes
            .iter()
            .all(|outcome| matches!(outcome, Applied::Applied | Applied::Stale));
        if let Some(cursor) = cursor.filter(|_| all) {
            self.save_cursor_in(session, cursor).await?;
        }
        if let Some(sql) = self.dialect().end_copy() {
            session.script(sql).await?;
        }
        let end = match self.rehearses {
            true => self.dialect().end_rehearsal(),
            false => "COMMIT",
        };
        session.script(end).await?;
        Ok(outcomes)
    }

    /// Refuses copies of another mapping revision; answers how the follower stands. Both rows were
    /// locked against changes when the transaction began.
    pub(super) async fn check_revision(&self, session: &mut dyn Session) -> Result<Held, Refusal> {
        let select = format!(
            "SELECT {}, {}, ",
            HeldMapping::COLUMNS,
            base_of("incarnation")
        );
        let statement = Statement::of(self.dialect(), &select)
            .sql("(SELECT count(*) FROM ")
            .table(tables::BACKFILL)
            .sql(" b WHERE b.loading AND NOT b.done AND ");
        let statement = self
            .here(statement, "b.")
            .sql(") FROM ")
            .table(tables::EPOCH)
            .sql(" e WHERE ");
        let rows = session.fetch(self.here(statement, "e.")).await?;
        let Some([revision, mapping, base, loads]) = rows.first().map(Vec::as_slice) else {
            return Err(Refusal::Store(self.not_installed("applying copies of")));
        };
        HeldMapping::read(revision, mapping)
            .admits(self.mapping.shape())
            .map_err(Refusal::Store)?;
        Ok(Held {
            base: Version(integer(base)),
            loading: integer(loads) > 0,
        })
    }

    /// What is known of a copy before the fence; `Stale` until the fence accepts it.
    pub(super) fn before_fence(
        &self,
        copy: &Stamped,
        base: Version,
        resolved: &Resolved<'_>,
    ) -> Applied {
        match &copy.image {
            Err(reason) => Applied::Held(Hold {
                kind: HoldKind::Blocked,
                reason: reason.clone(),
            }),
            Ok(_) if copy.version < base => Applied::BehindBase,
            Ok(image) => {
                if let Some(lookup) = resolved.missing_lookup(image) {
                    let name = self
                        .lookups
                        .get(lookup)
                        .map_or("?", |known| &known.lookup.name);
                    let reason = format!("waits for an answer of lookup {name}");
                    Applied::Held(Hold {
                        kind: HoldKind::Waiting,
                        reason,
                    })
                } else if let Some(reason) = self
                    .orphan(image)
                    .or_else(|| self.respelt(copy.key.as_str(), image))
                    .or_else(|| self.altered(copy.key.as_str(), image, resolved))
                {
                    Applied::Held(Hold {
                        kind: HoldKind::Blocked,
                        reason,
                    })
                } else {
                    Applied::Stale
                }
            }
        }
    }

    /// Why an image cannot be: a row in it belongs to a row that is not in it.
    fn orphan(&self, image: &Image) -> Option<String> {
        let rows = image.targets.iter().zip(self.targets.iter());
        for (rows, target) in rows {
            let Some(Belongs::Row { column, .. }) = target.target.belongs() else {
                continue;
            };
            let position = target
                .columns
                .iter()
                .position(|known| known.name == *column);
            for row in rows {
                if let Some(Cell::Row {
                    target: parent,
                    slot,
                }) = position.and_then(|position| row.cells.get(position))
                    && let Some(parents) = image.targets.get(*parent)
                    && let Some(parent) = self.targets.get(*parent)
                    && !parents.iter().any(|row| row.slot == *slot)
                {
                    return Some(format!(
                        "a row of {} belongs to a row of {} that the key does not have",
                        target.target.name, parent.target.name
                    ));
                }
            }
        }
        None
    }

    /// Why rows of an image would not be its key's: the columns that name their owner write the key in
    /// another way, in which it is another key, or nobody's.
    fn respelt(&self, key: &str, image: &Image) -> Option<String> {
        let has_rows = image.targets.iter().any(|rows| !rows.is_empty());
        if has_rows && !self.names(key) {
            let engine = self.dialect().engine();
            return Some(format!(
                "{engine} has no text for its key, which holds a NUL: change the key"
            ));
        }
        let targets = image.targets.iter().zip(self.targets.iter());
        let mut held = targets.filter(|(rows, _)| !rows.is_empty());
        held.find_map(|(_, target)| {
            let Some(Belongs::Key(names)) = target.target.belongs() else {
                return None;
            };
            let components = Key::new(key).components(names.len())?;
            let mut columns = components
                .iter()
                .zip(names.iter().filter_map(|name| target.table.column(name)));
            let (_, column) = columns.find(|(component, column)| {
                self.dialect().canonical_component(component, column) != **component
            })?;
            Some(format!(
                "{} would hold the key in another spelling: give it the type of the legacy key, or text",
                target.names(column)
            ))
        })
    }

    /// Why an image cannot be held as it is: a column would change one of its values without a word.
    fn altered(&self, key: &str, image: &Image, resolved: &Resolved<'_>) -> Option<String> {
        let rows = image.targets.iter().zip(self.targets.iter());
        let mut cells = rows.flat_map(|(rows, target)| {
            let cells = rows
                .iter()
                .flat_map(|row| row.cells.iter().zip(&target.columns));
            cells.map(move |(cell, column)| (target, cell, column))
        });
        cells.find_map(|(target, cell, column)| match cell {
            // An id is of the column's own kind.
            Cell::Row { .. } => None,
            Cell::Value(_) | Cell::Lookup { .. } => {
                let changed = |value: &Value| self.dialect().alters(column, value);
                let altered = match cell {
                    Cell::Value(value) => changed(value),
                    other => resolved.value(key, other).as_ref().is_some_and(changed),
                };
                altered.then(|| {
                    format!(
                        "{} would change the value: let the mapping's expression say how, or let the column take it as it is",
                        target.names(column)
                    )
                })
            }
        })
    }

    /// Raises the version of every key that is offered a newer one; answers these keys.
    async fn fence(
        &self,
        session: &mut dyn Session,
        copies: &[Stamped],
        outcomes: &[Applied],
    ) -> Result<HashSet<String>, DbError> {
        let mut offered: Vec<&Stamped> = copies
            .iter()
            .zip(outcomes)
            .filter(|(_, outcome)| **outcome == Applied::Stale)
            .map(|(copy, _)| copy)
            // A key without a text here has nothing here, at any version.
            .filter(|copy| self.names(copy.key.as_str()))
            .collect();
        if offered.is_empty() {
            return Ok(HashSet::new());
        }
        // Every copier locks keys in one order, so copiers never wait for each other in a circle.
        offered.sort_by(|a, b| a.key.cmp(&b.key));
        let rows: Vec<Vec<Value>> = offered
            .iter()
            .map(|copy| vec![text(copy.key.as_str()), Value::Integer(copy.version.0)])
            .collect();
        let columns = [
            RowColumn::new("key", "text"),
            RowColumn::new("version", "bigint"),
        ];
        let accepted = match self.dialect().update_joins() {
            true => self.raise_joined(session, &columns, &rows).await?,
            false => self.raise(session, &columns, &rows).await?,
        };
        Ok(accepted
            .iter()
            .filter_map(|row| key_at(row, 0))
            .map(|key| key.as_str().to_owned())
            .collect())
    }

    async fn raise(
        &self,
        session: &mut dyn Session,
        columns: &[RowColumn<'_>],
        rows: &[Vec<Value>],
    ) -> Result<Vec<Vec<Value>>, DbError> {
        let statement = Statement::of(self.dialect(), "INSERT INTO ")
            .table(tables::KEY)
            .sql(" AS c (entity, place, key, version, synced) SELECT ")
            .text(self.entity.as_str())
            .sql(", ")
            .text(self.place.as_str())
            .sql(", r.key, r.version, r.version FROM ")
            .rows("r", columns, rows)
            .sql(
                " WHERE true ON CONFLICT (entity, place, key) DO UPDATE \
                 SET version = excluded.version, synced = excluded.version, state = 'ok', reason = NULL \
                 WHERE c.version < excluded.version RETURNING key",
            );
        session.fetch(statement).await
    }

    /// The same where an `INSERT` cannot tell which rows it changed: it locks them, and makes those
    /// that are not there; then the older ones are asked for, and raised.
    async fn raise_joined(
        &self,
        session: &mut dyn Session,
        columns: &[RowColumn<'_>],
        rows: &[Vec<Value>],
    ) -> Result<Vec<Vec<Value>>, DbError> {
        let dialect = self.dialect();
        let key = dialect.table(tables::KEY);
        let unchanged = format!("{key}.version");
        let locked = Statement::of(dialect, "INSERT INTO ")
            .table(tables::KEY)
            .sql(" (entity, place, \"key\", version) SELECT ")
            .text(self.entity.as_str())
            .sql(", ")
            .text(self.place.as_str())
            .sql(", r.key, -1 FROM ")
            .rows("r", columns, rows)
            .sql(" ORDER BY r.key")
            .sql(&dialect.or_update(tables::KEY, "", &[("version", &unchanged)], ""));
        session.execute(locked).await?;
        let older = |statement: Statement<'_>, before: &str, after: &str| {
            let statement = statement
                .sql(before)
                .rows("r", columns, rows)
                .sql(&format!(" STRAIGHT_JOIN {key} AS c{after} WHERE "));
            self.here(statement, "c.")
                .sql(" AND c.key = r.key AND c.version < r.version")
                .into_parts()
        };
        let select = older(Statement::new(dialect), "SELECT r.key FROM ", "");
        let accepted = session
            .fetch(Statement::from_parts(dialect, select))
            .await?;
        if !accepted.is_empty() {
            let set =
                " SET c.synced = r.version, c.state = 'ok', c.reason = NULL, c.version = r.version";
            let update = older(Statement::new(dialect), "UPDATE ", set);
            session
                .execute(Statement::from_parts(dialect, update))
                .await?;
        }
        Ok(accepted)
    }
}
