//! Images of keys among whose rows some make an expression of the mapping fail.
//!
//! A database fails the whole statement and does not say for which row. The keys are halved until
//! the failing ones stand alone; these have no image, and the others have theirs, all of the one
//! instant at which the snapshot was taken.

use changeover_flags::Key;

use super::SqlAuthority;
use super::query::Query;
use crate::dialect::session::{DbError, ErrorClass, Session};
use crate::dialect::statement::Statement;
use crate::image::Image;

/// What a failed statement is taken back to: PostgreSQL refuses everything after one otherwise.
const SAVEPOINT: &str = "SAVEPOINT changeover_images";
const ROLLBACK: &str = "ROLLBACK TO SAVEPOINT changeover_images";

impl SqlAuthority {
    /// Opens a transaction of one instant in which statements that fail can be taken back.
    pub(super) async fn begin_snapshot(&self, session: &mut dyn Session) -> Result<(), DbError> {
        let begin = self.snapshot();
        session.script(&format!("{begin}; {SAVEPOINT}")).await
    }

    /// What opens a transaction of one instant.
    pub(super) fn snapshot(&self) -> String {
        let shape = self.mapping.shape();
        let sources = shape.sources.iter().map(|source| &*source.table);
        let tables: Vec<&str> = sources.chain([&*shape.root.table]).collect();
        self.dialect().begin_snapshot_of(&tables)
    }

    /// Reads images of `keys` after reading them all together failed.
    pub(super) async fn images_apart(
        &self,
        session: &mut dyn Session,
        keys: &[Key],
    ) -> Result<Vec<Result<Image, String>>, DbError> {
        session.script(ROLLBACK).await?;
        let mut images = Vec::with_capacity(keys.len());
        let mut parts = vec![keys];
        while let Some(part) = parts.pop() {
            // A filter may be asked of rows of other keys first: a whole table must not be blamed
            // for one row.
            match self
                .images_of(session, part, |query| &query.sql_where_own)
                .await
            {
                Ok(read) => images.extend(read),
                Err(error) if error.class == ErrorClass::Data => {
                    session.script(ROLLBACK).await?;
                    if part.len() > 1 {
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.push(second);
                        parts.push(first);
                    } else {
                        images.push(Err(self.blame(session, part, error).await?));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(images)
    }

    /// Which expression fails on the rows of one key.
    async fn blame(
        &self,
        session: &mut dyn Session,
        key: &[Key],
        error: DbError,
    ) -> Result<String, DbError> {
        for query in self.queries.iter() {
            let names: Vec<&str> = query.answers.iter().map(|one| one.name.as_str()).collect();
            if let Some(error) = self.fails(session, key, query, "1").await? {
                let (names, why) = (names.join(", "), error.summary);
                return Ok(format!(
                    "target {names:?}: its from, key or where fails: {why}"
                ));
            }
            for answer in &query.answers {
                let target = &answer.name;
                for (name, expression) in &answer.expressions {
                    let expression = self.dialect().exact(expression);
                    if let Some(error) = self.fails(session, key, query, &expression).await? {
                        let why = error.summary;
                        return Ok(format!("target {target:?}.columns.{name} fails: {why}"));
                    }
                }
            }
        }
        Ok(format!("the mapping fails: {}", error.summary))
    }

    async fn fails(
        &self,
        session: &mut dyn Session,
        key: &[Key],
        query: &Query,
        expression: &str,
    ) -> Result<Option<DbError>, DbError> {
        let statement = Statement::of(self.dialect(), &format!("SELECT {expression} FROM "));
        let statement = self.bound_keys(statement, key).sql(&query.sql_where_own);
        match session.fetch(statement).await {
            Ok(_) => Ok(None),
            Err(error) if error.class == ErrorClass::Data => {
                session.script(ROLLBACK).await?;
                Ok(Some(error))
            }
            Err(error) => Err(error),
        }
    }
}
