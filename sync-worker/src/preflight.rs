//! What must be true before anything is written: [`check`] asks both databases and names every
//! problem with the field it stands in and the remedy.

use std::fmt;
use std::sync::Arc;

use changeover_flags::{Entity, Place};
use changeover_shadow::Value;

use crate::dialect::BadSetting;
use crate::dialect::authority::SqlAuthority;
use crate::dialect::catalog::{Column, Table};
use crate::dialect::session::{Database, DbError, ErrorClass, Session};
use crate::dialect::statement::Statement;
use crate::mapping::{Belongs, Identity, KeyExpression, Mapping, Ownership, Shape, Target};
use crate::store::StoreError;

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
    problems.iter().map(|problem| format!("  - {problem}")).collect::<Vec<_>>().join("\n")
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
    let mut check = Check { shape: mapping.shape(), problems: Vec::new(), catalog: Catalog::default() };
    let mut lease = session(authority.1).await?;
    let done = check.authority(authority.1, lease.session()).await;
    done.map_err(|error| failed(authority.1, error))?;
    lease.give_back();
    let mut lease = session(follower.1).await?;
    let done = check.follower(follower.1, lease.session()).await;
    done.map_err(|error| failed(follower.1, error))?;
    lease.give_back();
    check.one_database(authority.1, follower.1);
    if check.problems.is_empty() {
        check.sample(entity, mapping, authority).await?;
    }
    if check.problems.is_empty() { Ok(check.catalog) } else { Err(PreflightError::Problems(check.problems)) }
}

async fn session(
    database: &Database,
) -> Result<crate::dialect::session::Lease, PreflightError> {
    database.session().await.map_err(|error| failed(database, error))
}

fn failed(database: &Database, error: DbError) -> PreflightError {
    error.at(database.dialect().place_name(), "checking the mapping").into()
}

struct Check<'a> {
    shape: &'a Shape,
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
        let found = database.dialect().describe(session, name).await?;
        if found.is_none() {
            self.problem(
                field,
                format!("there is no table {name:?} in {}", database.dialect().place_name()),
                "correct the name, or create the table first",
            );
        }
        Ok(found)
    }

    fn columns(&mut self, field: &str, table: &Table, names: &[String]) -> bool {
        let missing: Vec<&String> =
            names.iter().filter(|name| table.column(name).is_none()).collect();
        for name in &missing {
            self.problem(
                field,
                format!("table {} has no column {name:?}", table.name),
                "correct the name, or add the column first",
            );
        }
        missing.is_empty()
    }

    async fn authority(
        &mut self,
        database: &Database,
        session: &mut dyn Session,
    ) -> Result<(), DbError> {
        self.durability(database, session, "legacy").await?;
        let root = self.shape.root.clone();
        if let Some(table) = self.table(database, session, "root.table", &root.table).await? {
            if self.columns("root.key", &table, &root.key) {
                self.key(database, session, &table).await?;
            }
            self.catalog.authority.push(table);
        }
        for source in self.shape.sources.clone() {
            let field = format!("source.{}", source.table);
            if let Some(table) = self.table(database, session, &field, &source.table).await? {
                let named = match &source.key {
                    KeyExpression::Columns(columns) => columns.clone(),
                    KeyExpression::Query(query) => crate::dialect::install::row_columns(query),
                };
                self.columns(&field, &table, &named);
                if !self.catalog.authority.iter().any(|known| known.name == table.name) {
                    self.catalog.authority.push(table);
                }
            }
        }
        for (target, query) in self.shape.targets.iter().zip(&self.shape.queries) {
            let select: Vec<String> = query
                .select
                .iter()
                .enumerate()
                .map(|(n, (_, expression))| format!("({expression}) AS c{n}"))
                .chain(query.key.iter().enumerate().map(|(n, e)| format!("({e}) AS k{n}")))
                .collect();
            let filter = query.filter.as_ref().map(|f| format!(" WHERE {f}")).unwrap_or_default();
            let sql = format!("SELECT {} FROM {}{filter}", select.join(", "), query.from);
            match database.dialect().describe_query(session, &sql).await {
                Ok(columns) => self
                    .catalog
                    .types
                    .push(columns.into_iter().take(query.select.len()).map(|(_, t)| t).collect()),
                Err(error) if error.class == ErrorClass::Connection => return Err(error),
                Err(error) => self.bad_query(&target.name, query, database, session, &error).await,
            }
        }
        Ok(())
    }

    /// Finds out which of a query's expressions the database does not understand.
    async fn bad_query(
        &mut self,
        target: &str,
        query: &crate::mapping::SourceQuery,
        database: &Database,
        session: &mut dyn Session,
        whole: &DbError,
    ) {
        let mut found = false;
        for (name, expression) in &query.select {
            let sql = format!("SELECT ({expression}) FROM {}", query.from);
            if let Err(error) = database.dialect().describe_query(session, &sql).await {
                found = true;
                self.problem(
                    format!("target {target:?}.columns.{name}"),
                    format!("the legacy database does not understand {expression:?}: {}", error.source),
                    "correct the expression; it is SQL over the target's `from`",
                );
            }
        }
        if !found {
            self.problem(
                format!("target {target:?}"),
                format!("the legacy database does not understand its from, key or where: {}", whole.source),
                "correct them; they are SQL of the legacy database",
            );
        }
    }

    async fn key(
        &mut self,
        database: &Database,
        session: &mut dyn Session,
        table: &Table,
    ) -> Result<(), DbError> {
        let key = self.shape.root.key.clone();
        for column in key.iter().filter_map(|name| table.column(name)) {
            if !column.not_null {
                self.problem(
                    "root.key",
                    format!("column {:?} of {} may be NULL", column.name, table.name),
                    "declare it NOT NULL, or name a key that is",
                );
            }
            if let Some(problem) = database.dialect().key_type_problem(column) {
                self.problem("root.key", format!("column {:?}: {problem}", column.name), "name another key");
            }
        }
        if table.is_unique(&key) {
            return Ok(());
        }
        let columns: Vec<String> = key.iter().map(|name| database.dialect().quote(name)).collect();
        let columns = columns.join(", ");
        let duplicates = Statement::of(
            database.dialect(),
            &format!("SELECT count(*) FROM (SELECT {columns} FROM "),
        )
        .table(&table.name)
        .sql(&format!(" GROUP BY {columns} HAVING count(*) > 1) d"));
        let rows = session.fetch(duplicates).await?;
        match rows.first().and_then(|row| row.first()) {
            Some(Value::Integer(count)) if *count > 0 => self.problem(
                "root.key",
                format!("{count} key(s) stand more than once in {}", table.name),
                "remove the duplicates, then add a unique index on the key",
            ),
            _ => self.problem(
                "root.key",
                format!("nothing keeps ({columns}) unique in {}", table.name),
                "add a unique index on the key, or name the columns of one",
            ),
        }
        Ok(())
    }

    async fn follower(
        &mut self,
        database: &Database,
        session: &mut dyn Session,
    ) -> Result<(), DbError> {
        self.durability(database, session, "new").await?;
        for (index, target) in self.shape.targets.clone().iter().enumerate() {
            let field = format!("target {:?}", target.name);
            let Some(table) = self.table(database, session, &format!("{field}.table"), &target.table).await? else {
                continue;
            };
            if self.columns(&format!("{field}.columns"), &table, &target.columns) {
                self.types(&field, index, target, &table, database.dialect().engine());
                self.complete(&field, target, &table);
                self.identity(&field, target, &table);
                self.belongs(&field, target, &table);
                self.cascades(&field, target, &table);
            }
            if !self.catalog.follower.iter().any(|known| known.name == table.name) {
                self.catalog.follower.push(table);
            }
        }
        for lookup in self.shape.lookups.clone() {
            let field = format!("lookup.{}", lookup.name);
            let Some(table) = self.table(database, session, &field, &lookup.table).await? else { continue };
            if self.columns(&field, &table, &[lookup.by.clone(), lookup.value.clone()])
                && !table.is_unique(std::slice::from_ref(&lookup.by))
            {
                self.problem(
                    format!("{field}.by"),
                    format!("nothing keeps {:?} unique in {}", lookup.by, lookup.table),
                    "add a unique index: a lookup must have one answer",
                );
            }
            if !self.catalog.follower.iter().any(|known| known.name == table.name) {
                self.catalog.follower.push(table);
            }
        }
        Ok(())
    }

    /// Types that can never be turned into each other.
    fn types(&mut self, field: &str, index: usize, target: &Target, table: &Table, engine: &str) {
        if engine != "PostgreSQL" {
            return;
        }
        let Some(types) = self.catalog.types.get(index).cloned() else { return };
        let Some(query) = self.shape.queries.get(index) else { return };
        for ((name, _), from) in query.select.iter().zip(types).skip(1) {
            let plain = target.columns.contains(name);
            let Some(column) = table.column(name).filter(|_| plain) else { continue };
            if !assignable(&from, &column.sql_type) {
                self.problem(
                    format!("{field}.columns.{name}"),
                    format!("a value of type {from} cannot be put into a column of type {}", column.full_type),
                    "convert it in the expression, e.g. with a CASE or a cast",
                );
            }
        }
    }

    /// Columns that a copy leaves out must be able to do without.
    fn complete(&mut self, field: &str, target: &Target, table: &Table) {
        let left_out = |column: &&Column| {
            column.not_null
                && column.default.is_none()
                && !column.generated
                && !column.computed
                && !target.columns.contains(&column.name)
        };
        for column in table.columns.iter().filter(left_out) {
            self.problem(
                format!("{field}.columns"),
                format!("column {:?} of {} must not be NULL, has no default and is not mapped", column.name, table.name),
                "map it, or give it a default",
            );
        }
    }

    fn identity(&mut self, field: &str, target: &Target, table: &Table) {
        let columns = target.identity_columns();
        let missing = columns.iter().any(|name| table.column(name).is_none());
        if missing || !table.is_unique(&columns) {
            self.problem(
                field,
                format!("nothing keeps ({}) unique in {}", columns.join(", "), table.name),
                "add a unique index on these columns, or name the columns of one",
            );
        }
        for column in columns.iter().filter_map(|name| table.column(name)) {
            if !column.not_null {
                self.problem(
                    field,
                    format!("column {:?} tells rows of {} apart but may be NULL", column.name, table.name),
                    "declare it NOT NULL",
                );
            }
        }
        if let Ownership::Owned { identity: Identity::Generated(name), .. } = &target.ownership
            && let Some(column) = table.column(name)
            && !column.generated
            && column.default.is_none()
        {
            self.problem(
                format!("{field}.id"),
                format!("column {name:?} of {} generates no ids", table.name),
                "make it an identity column (SQLite: INTEGER PRIMARY KEY), or say identity = [mapped columns]",
            );
        }
    }

    fn belongs(&mut self, field: &str, target: &Target, table: &Table) {
        let Ownership::Owned { belongs, .. } = &target.ownership else { return };
        let columns = match belongs {
            Belongs::Key(columns) => columns.clone(),
            Belongs::Row { column, .. } => vec![column.clone()],
        };
        if !table.is_indexed(&columns) {
            self.problem(
                format!("{field}.owned_by"),
                format!("no index of {} starts with ({})", table.name, columns.join(", ")),
                "add one: every copy searches the key's rows by it",
            );
        }
    }

    /// A cascade from outside the key would change rows of other keys behind the fence's back.
    fn cascades(&mut self, field: &str, target: &Target, table: &Table) {
        let Ownership::Owned { belongs, .. } = &target.ownership else { return };
        let owner = match belongs {
            Belongs::Row { target, .. } => self.shape.targets.get(*target).map(|t| t.table.clone()),
            Belongs::Key(_) => None,
        };
        for reference in table.references.clone() {
            if reference.cascades && owner.as_ref() != Some(&reference.to) {
                self.problem(
                    format!("{field}.table"),
                    format!(
                        "{} changes when rows of {} go (ON DELETE or ON UPDATE of its foreign key)",
                        table.name, reference.to
                    ),
                    "make the foreign key RESTRICT or NO ACTION during the migration",
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
        for BadSetting { setting, found, wanted } in database.dialect().durability(session).await? {
            self.problem(
                format!("{side}: {setting}"),
                format!("is {found:?} in {}: acknowledged writes can be lost", database.dialect().place_name()),
                format!("set it to {wanted}"),
            );
        }
        Ok(())
    }

    fn one_database(&mut self, authority: &Database, follower: &Database) {
        if authority.dialect().identity() != follower.dialect().identity() {
            return;
        }
        let shape = self.shape;
        let read: Vec<&String> =
            std::iter::once(&shape.root.table).chain(shape.sources.iter().map(|s| &s.table)).collect();
        for target in &shape.targets {
            if read.contains(&&target.table) {
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
    ) -> Result<(), PreflightError> {
        let Some(root) = self.catalog.authority.first() else { return Ok(()) };
        let authority = SqlAuthority::new(
            database.clone(),
            entity.clone(),
            place,
            Arc::clone(mapping),
            root,
            self.catalog.types.clone(),
        );
        let images = authority.sample(SAMPLE).await?;
        let refused: Vec<(String, String)> = images
            .into_iter()
            .filter_map(|(key, image)| Some((key.as_str().to_owned(), image.err()?)))
            .collect();
        // One key without an image is that key's business (it will be blocked and say so); a
        // mapping that panics, or maps nothing at all, is a bug.
        if let Some((key, reason)) = refused.iter().find(|(_, reason)| reason.contains("panicked")) {
            self.problem(
                "mapping",
                format!("{reason} on key {key:?}"),
                "make it answer an image, or an error, for every row",
            );
        }
        Ok(())
    }
}

/// Whether a PostgreSQL value of type `from` can ever be put into a column of type `to`. Values
/// cross as text, so text can become anything, and anything text.
fn assignable(from: &str, to: &str) -> bool {
    let class = |name: &str| {
        let name = name.to_ascii_lowercase();
        let is = |words: &[&str]| words.iter().any(|word| name.starts_with(word));
        if name.ends_with("[]") {
            "array"
        } else if is(&["int", "smallint", "bigint", "numeric", "real", "double", "float"]) && name != "interval" {
            "number"
        } else if is(&["bool"]) {
            "boolean"
        } else if is(&["timestamp", "date"]) {
            "instant"
        } else if is(&["time"]) {
            "time"
        } else if name == "interval" {
            "interval"
        } else if is(&["bytea"]) {
            "bytes"
        } else if is(&["uuid"]) {
            "uuid"
        } else if is(&["json"]) {
            "json"
        } else {
            "text"
        }
    };
    let (from, to) = (class(from), class(to));
    from == to || from == "text" || to == "text"
}

#[cfg(test)]
mod tests {
    use super::assignable;

    #[test]
    fn text_goes_anywhere_and_kinds_do_not_mix() {
        assert!(assignable("TEXT", "integer"));
        assert!(assignable("INT4", "numeric"));
        assert!(assignable("TIMESTAMPTZ", "date"));
        assert!(assignable("UUID", "character varying"));
        assert!(!assignable("BOOL", "integer"));
        assert!(!assignable("BYTEA", "uuid"));
        assert!(!assignable("INTERVAL", "numeric"));
    }
}
