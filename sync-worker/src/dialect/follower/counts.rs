//! How many rows the follower holds of each key, without their values.

use std::collections::HashMap;

use changeover_flags::Key;

use super::SqlFollower;
use crate::dialect::authority::key_at;
use crate::dialect::session::{Database, DbError, Session, on_session};
use crate::store::Answer;

impl SqlFollower {
    /// The same, through the connections of `database`.
    pub(crate) fn on(&self, database: Database) -> SqlFollower {
        SqlFollower {
            database,
            ..self.clone()
        }
    }

    /// By target, whether its rows belong to keys.
    pub(crate) fn owned(&self) -> Vec<bool> {
        let targets = self.targets.iter();
        targets.map(|target| target.target.is_owned()).collect()
    }

    /// Rows of `keys` by target, in the order asked and that of the mapping's targets. Shared
    /// targets belong to no key, and count 0.
    pub(crate) fn row_counts<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Vec<usize>>> {
        on_session!(self, "counting rows of", |session| self
            .row_counts_in(session, keys))
    }

    async fn row_counts_in(
        &self,
        session: &mut dyn Session,
        keys: &[Key],
    ) -> Result<Vec<Vec<usize>>, DbError> {
        let mut counts = vec![vec![0; self.targets.len()]; keys.len()];
        let texts: Vec<&str> = keys.iter().map(Key::as_str).collect();
        let places: HashMap<&str, usize> = texts.iter().copied().zip(0..).collect();
        for (index, target) in self.targets.iter().enumerate() {
            let Some(statement) = self.rows_of_keys(target, &texts, "") else {
                continue;
            };
            for row in session.fetch(statement).await? {
                let place = key_at(&row, 0).and_then(|key| places.get(key.as_str()).copied());
                let count = place.and_then(|place| counts.get_mut(place)?.get_mut(index));
                if let Some(count) = count {
                    *count += 1;
                }
            }
        }
        Ok(counts)
    }
}
