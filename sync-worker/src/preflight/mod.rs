//! What must be true before anything is written: [`check`] asks both databases and names every
//! problem with the field it stands in and the remedy.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use changeover_flags::{Entity, Key, Place};
use changeover_shadow::Value;

use crate::dialect::authority::SqlAuthority;
use crate::dialect::catalog::Table;
use crate::dialect::session::{Database, DbError, ErrorClass, Session};
use crate::dialect::{BadSetting, Dialect};
use crate::image::{Cell, Image};
use crate::mapping::{Mapping, Shape, SourceRows};
use crate::store::StoreError;

mod authority;
mod follower;

/// How many keys the preflight maps, to find a mapping that panics or has no image.
const SAMPLE: u32 = 200;

/// One thing that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field of the mapping, or the setting of the database, that it is about.
    pub field: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.field, self.problem, self.remedy)
    }
}

/// Why a migration cannot start.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// A database did not answer.
    #[error("the preflight could not finish")]
    Store(#[from] StoreError),
    /// Something is not as it must be. Nothing was written.
    #[error("{} problem(s) stand in the way; nothing was written\n{}", .0.len(), list(.0))]
    Problems(Vec<Problem>),
}

fn list(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(|problem| format!("  - {problem}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// What the preflight learnt of the databases.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// The authority's tables.
    pub authority: Vec<Table>,
    /// The follower's tables.
    pub follower: Vec<Table>,
    /// The types of what each of the mapping's queries answers.
    pub types: Vec<Vec<String>>,
    /// The types of each query's key expressions.
    pub key_types: Vec<Vec<String>>,
}

/// Checks a mapping against both databases.
///
/// # Errors
///
/// [`PreflightError::Problems`] with every problem found, [`PreflightError::Store`] when a
/// database did not answer.
pub async fn check(
    entity: &Entity,
    mapping: &Arc<dyn Mapping>,
    authority: (Place, &Database),
    follower: (Place, &Database),
) -> Result<Catalog, PreflightError> {
    let mut check = Check {
        shape: mapping.shape(),
        reading: authority.1.dialect().engine(),
        problems: Vec::new(),
        catalog: Catalog::default(),
    };
    let mut lease = session(authority.1).await?;
    let done = check.authority(authority.1, lease.session()).await;
    done.map_err(|error| failed(authority.1, error))?;
    let home = authority.1.dialect().identity(lease.session()).await;
    let home = home.map_err(|error| failed(authority.1, error))?;
    lease.give_back();
    let mut lease = session(follower.1).await?;
    let done = check.follower(follower.1, lease.session()).await;
    done.map_err(|error| failed(follower.1, error))?;
    let away = follower.1.dialect().identity(lease.session()).await;
    if home == away.map_err(|error| failed(follower.1, error))? {
        check.one_database();
    }
    lease.give_back();
    if check.problems.is_empty() {
        let follower = follower.1.dialect();
        check.sample(entity, mapping, authority, follower).await?;
    }
    if check.problems.is_empty() {
        Ok(check.catalog)
    } else {
        Err(PreflightError::Problems(check.problems))
    }
}

async fn session(database: &Database) -> Result<crate::dialect::session::Lease, PreflightError> {
    database
        .session()
        .await
        .map_err(|error| failed(database, error))
}

fn failed(database: &Database, error: DbError) -> PreflightError {
    error
        .at(database.dialect().place_name(), "checking the mapping")
        .into()
}

struct Check<'a> {
    shape: &'a Shape,
    /// The authority's engine.
    reading: &'static str,
    problems: Vec<Problem>,
    catalog: Catalog,
}

impl Check<'_> {
    fn problem(
        &mut self,
        field: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.problems.push(Problem {
            field: field.into(),
            problem: problem.into(),
            remedy: remedy.into(),
        });
    }

    /// Describes a table once; a missing one is a problem.
    async fn table(
        &mut self,
        database: &Database,
        session: &mut dyn Session,
        field: &str,
        name: &str,
    ) -> Result<Option<Table>, DbError> {
        let store = database.dialect().place_name();
        let remedy = "correct the name (upper and lower case count), or create the table first";
        match database.dialect().describe(session, name).await {
            Ok(Some(table)) => {
                if !table.heirs.is_empty() {
                    let heirs = table.heirs.join(", ");
                    self.problem(
                        field,
                        format!("{heirs} inherit(s) from table {name}: what is written there fires no trigger of {name}"),
                        "end it during the migration (ALTER TABLE … NO INHERIT), or make it a partition",
                    );
                }
                return Ok(Some(table));
            }
            Ok(None) => {
                self.problem(
                    field,
                    format!("there is no table {name:?} in {store} (a view is none)"),
                    remedy,
                );
            }
            Err(error) if matches!(error.class, ErrorClass::Connection | ErrorClass::Busy) => {
                return Err(error);
            }
            Err(error) => {
                self.problem(
                    field,
                    format!("{store} does not describe {name:?}: {}", error.summary),
                    remedy,
                );
            }
        }
        Ok(None)
    }

    fn columns(&mut self, field: &str, table: &Table, names: &[String]) -> bool {
        let missing: Vec<&String> = names
            .iter()
            .filter(|name| table.column(name).is_none())
            .collect();
        for name in &missing {
            self.problem(
                field,
                format!("table {} has no column {name:?}", table.name),
                match table
                    .columns
                    .iter()
                    .find(|c| c.name.eq_ignore_ascii_case(name))
                {
                    Some(other) => {
                        format!("upper and lower case count: did you mean {:?}?", other.name)
                    }
                    None => "correct the name, or add the column first".to_owned(),
                },
            );
        }
        missing.is_empty()
    }

    /// A key's text is the key: columns in which other texts equal it would mix up keys.
    fn distinct(&mut self, field: &str, table: &Table, names: &[String]) {
        for column in names.iter().filter_map(|name| table.column(name)) {
            if column.blurred {
                self.problem(
                    field,
                    format!(
                        "column {:?} of {} takes texts that differ for equal (its collation, or its type)",
                        column.name, table.name
                    ),
                    "give it a collation under which only equal texts are equal (SQLite: BINARY; PostgreSQL: a deterministic one, and text for citext; MariaDB: utf8mb4_nopad_bin), or name another key",
                );
            }
        }
    }

    /// Settings under which a database forgets commits it has acknowledged.
    async fn durability(
        &mut self,
        database: &Database,
        session: &mut dyn Session,
        side: &str,
    ) -> Result<(), DbError> {
        for BadSetting {
            setting,
            problem,
            remedy,
        } in database.dialect().durability(session).await?
        {
            let place = database.dialect().place_name();
            let problem = format!("{problem} ({place})");
            self.problem(format!("{side}: {setting}"), problem, remedy);
        }
        Ok(())
    }

    /// A table cannot be read and written, whatever names it goes by.
    fn one_database(&mut self) {
        let shape = self.shape;
        for target in &shape.targets {
            let canonical = |tables: &[Table], name: &str| {
                tables
                    .iter()
                    .find(|table| table.name == name)
                    .map(|table| table.canonical.clone())
            };
            let Some(written) = canonical(&self.catalog.follower, &target.table) else {
                continue;
            };
            if self
                .catalog
                .authority
                .iter()
                .any(|read| read.canonical == written)
            {
                self.problem(
                    format!("target {:?}.table", target.name),
                    format!("table {} stands on both sides", target.table),
                    "name the new table, or the new database",
                );
            }
        }
    }

    /// Maps some rows, to find a mapping that panics or has no image.
    async fn sample(
        &mut self,
        entity: &Entity,
        mapping: &Arc<dyn Mapping>,
        (place, database): (Place, &Database),
        follower: &dyn Dialect,
    ) -> Result<(), PreflightError> {
        self.nothing(entity, mapping);
        let Some(root) = self.catalog.authority.first() else {
            return Ok(());
        };
        let authority = SqlAuthority::new(
            database.clone(),
            entity.clone(),
            place,
            Arc::clone(mapping),
            root,
            self.catalog.types.clone(),
        );
        let images = authority.sample(SAMPLE).await?;
        if follower.engine() == "SQLite" {
            images
                .iter()
                .filter_map(|(key, image)| Some((key, image.as_ref().ok()?)))
                .for_each(|(key, image)| self.forms(key, image));
        }
        let refused: Vec<(String, String)> = images
            .into_iter()
            .filter_map(|(key, image)| Some((key.as_str().to_owned(), image.err()?)))
            .collect();
        // One key without an image is that key's business (it will be blocked and say so); a
        // mapping that panics, or maps nothing at all, is a bug.
        if let Some((key, reason)) = refused
            .iter()
            .find(|(_, reason)| reason.contains("panicked"))
        {
            self.problem(
                "mapping",
                format!("{reason} on key {key:?}"),
                "make it answer an image, or an error, for every row",
            );
        }
        Ok(())
    }

    /// Values that SQLite has no form for: a mapping in Rust can answer any. What a column refuses
    /// beside them depends on the row, and blocks its key.
    fn forms(&mut self, key: &Key, image: &Image) {
        for (target, rows) in self.shape.targets.iter().zip(&image.targets) {
            for (column, cell) in rows
                .iter()
                .flat_map(|row| target.columns.iter().zip(&row.cells))
            {
                let field = format!("target {:?}.columns.{column}", target.name);
                if matches!(cell, Cell::Value(Value::List(_) | Value::Record(_)))
                    && !self.problems.iter().any(|problem| problem.field == field)
                {
                    self.problem(
                        field,
                        format!("a list or record has no form in SQLite (key {key})"),
                        "answer text in its place, such as JSON",
                    );
                }
            }
        }
    }

    /// Maps a key without rows, as after a delete: a mapping that cannot would never copy deletes.
    fn nothing(&mut self, entity: &Entity, mapping: &Arc<dyn Mapping>) {
        let rows = SourceRows {
            queries: vec![Vec::new(); self.shape.queries.len()],
        };
        let key = Key::composite(self.shape.root.key.iter().map(|_| "0"));
        let image = catch_unwind(AssertUnwindSafe(|| mapping.image(&key, &rows)));
        let problem = match image {
            Ok(Ok(image)) if image.targets.len() == self.shape.targets.len() => return,
            Ok(Ok(image)) => format!(
                "its image has {} list(s) of rows for {} target(s)",
                image.targets.len(),
                self.shape.targets.len()
            ),
            Ok(Err(error)) => format!(
                "it has no image for a key of {entity} without rows: {}",
                error.reason
            ),
            Err(_) => format!("it panicked on a key of {entity} without rows, as after a delete"),
        };
        self.problem(
            "mapping",
            problem,
            "answer one list per target, empty for a key without rows",
        );
    }
}
