//! Which part of a set of copies the follower takes, and what a refusal of the rest means.

use changeover_flags::Key;

use super::{Refusal, SqlFollower, TargetTable};
use crate::dialect::catalog::Column;
use crate::dialect::session::{DbError, ErrorClass, Session, on_session};
use crate::image::{Cell, Image, ImageRow};
use crate::store::{Answer, Applied, Cursor, Hold, HoldKind, Stamped, StoreError};

/// How often a copy must be refused for a unique value that no key holds, before it is blocked.
const LOOKS: u32 = 3;

impl TargetTable {
    /// A column, for messages.
    pub(super) fn names(&self, column: &Column) -> String {
        let Column {
            name, full_type, ..
        } = column;
        format!("target {:?}: column {name} ({full_type})", self.target.name)
    }
}

impl SqlFollower {
    /// Applies copies together if the follower takes them together; otherwise halves them until
    /// those that are refused stand alone.
    pub(super) async fn apply_parts(
        &self,
        copies: &[Stamped],
        cursor: Option<&Cursor>,
    ) -> Result<Vec<Applied>, StoreError> {
        let mut outcomes: Vec<Option<Applied>> = vec![None; copies.len()];
        let mut parts = vec![(0, copies.len())];
        while let Some((from, to)) = parts.pop() {
            let Some(part) = copies.get(from..to) else {
                continue;
            };
            let whole = part.len() == copies.len();
            let answer = match self.apply_once(part, false, cursor.filter(|_| whole)).await {
                Ok(answer) => answer,
                Err(Refusal::Store(error)) => return Err(error),
                Err(Refusal::Data(_)) if part.len() > 1 => {
                    let middle = from + part.len() / 2;
                    parts.push((middle, to));
                    parts.push((from, middle));
                    continue;
                }
                Err(Refusal::Data(error)) => vec![self.refused(part, error).await?],
            };
            for (slot, outcome) in outcomes.iter_mut().skip(from).zip(answer) {
                *slot = Some(outcome);
            }
        }
        Ok(outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or(Applied::BehindBase))
            .collect())
    }

    /// What the refusal of a single copy means.
    pub(super) async fn refused(
        &self,
        part: &[Stamped],
        error: DbError,
    ) -> Result<Applied, StoreError> {
        let held = |kind, reason| Ok(Applied::Held(Hold { kind, reason }));
        match error.class {
            ErrorClass::ForeignKey => held(HoldKind::Waiting, error.summary),
            // Nobody holds the value: whoever did was copied meanwhile, or it is no key's row. The
            // next try tells.
            ErrorClass::Unique => match self.holders(part).await? {
                Ok(holders) => Ok(Applied::Conflict(holders)),
                Err(reason) => held(HoldKind::Blocked, reason),
            },
            _ => {
                let column = self.refusing(part).await?;
                let column = column.map_or_else(String::new, |column| format!("{column}: "));
                held(HoldKind::Blocked, format!("{column}{}", error.summary))
            }
        }
    }

    /// The column that cannot hold a value of these copies, if it is one by itself.
    fn refusing<'a>(&'a self, copies: &'a [Stamped]) -> Answer<'a, Option<String>> {
        on_session!(self, "asking which column refuses a value of", |session| {
            self.refusing_in(session, copies)
        })
    }

    async fn refusing_in(
        &self,
        session: &mut dyn Session,
        copies: &[Stamped],
    ) -> Result<Option<String>, DbError> {
        let images = copies.iter().filter_map(|copy| copy.image.as_ref().ok());
        let images: Vec<&Image> = images.collect();
        for (index, target) in self.targets.iter().enumerate() {
            let rows = images.iter().filter_map(|image| image.targets.get(index));
            let rows: Vec<&ImageRow> = rows.flatten().collect();
            for (position, column) in target.columns.iter().enumerate() {
                let cells = rows.iter().filter_map(|row| row.cells.get(position));
                let values = cells.filter_map(|cell| match cell {
                    Cell::Value(value) => Some(vec![value.clone()]),
                    _ => None,
                });
                let column = std::slice::from_ref(column);
                let held = self.dialect().normalise(session, column, values.collect());
                match (held.await, column) {
                    (Err(error), [column]) if error.class == ErrorClass::Data => {
                        return Ok(Some(target.names(column)));
                    }
                    // To name the column is not worth more than the key.
                    (Err(error), _) if error.class == ErrorClass::Rights => return Ok(None),
                    (Err(error), _) => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(None)
    }

    /// Who holds a unique value of these copies; or why the follower's columns cannot hold what
    /// one of them wants, which is found out while asking.
    fn holders<'a>(&'a self, copies: &'a [Stamped]) -> Answer<'a, Result<Vec<Key>, String>> {
        on_session!(
            self,
            "asking who holds a unique value of",
            |session| async move {
                match self.holders_in(session, copies).await {
                    Ok(holders) => Ok(Ok(holders)),
                    Err(error) if error.class == ErrorClass::Data => Ok(Err(error.summary)),
                    Err(error) => Err(error),
                }
            }
        )
    }

    /// Applies copies in one transaction, all deleted before any is inserted.
    pub(super) async fn group(&self, copies: &[Stamped]) -> Result<Vec<Applied>, StoreError> {
        let mut looks = 0;
        loop {
            let error = match self.apply_once(copies, true, None).await {
                Ok(answer) => return Ok(answer),
                Err(Refusal::Store(error)) => return Err(error),
                Err(Refusal::Data(error)) => error,
            };
            let hold = |kind, reason| Ok(vec![Applied::Held(Hold { kind, reason }); copies.len()]);
            match error.class {
                ErrorClass::Unique => {}
                ErrorClass::ForeignKey => return hold(HoldKind::Waiting, error.summary),
                // One image must not block the others: apart, each shows what it is.
                _ if copies.len() > 1 => return self.apply_parts(copies, None).await,
                _ => return hold(HoldKind::Blocked, error.summary),
            }
            // Either keys outside the group hold a value, or the group's own keys claim one value
            // twice, or the holder was copied between the refusal and this question.
            let outside = match self.holders(copies).await? {
                Ok(outside) => outside,
                Err(_) if copies.len() > 1 => return self.apply_parts(copies, None).await,
                Err(reason) => return hold(HoldKind::Blocked, reason),
            };
            if !outside.is_empty() || copies.len() > 1 {
                return Ok(conflicts(copies, &outside));
            }
            looks += 1;
            if looks == LOOKS {
                return hold(HoldKind::Blocked, error.summary);
            }
        }
    }
}

/// Each of these copies is refused because of keys outside, or else because of the others.
fn conflicts(copies: &[Stamped], outside: &[Key]) -> Vec<Applied> {
    let others = |mine: &Key| {
        copies
            .iter()
            .map(|copy| copy.key.clone())
            .filter(|key| key != mine)
            .collect()
    };
    copies
        .iter()
        .map(|copy| {
            let holders = if outside.is_empty() {
                others(&copy.key)
            } else {
                outside.to_vec()
            };
            Applied::Conflict(holders)
        })
        .collect()
}
