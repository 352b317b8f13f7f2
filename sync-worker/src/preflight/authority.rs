//! What must be true of the authority's side.

use super::Check;
use crate::dialect::catalog::{Column, Table};
use crate::dialect::inspect;
use crate::dialect::install::row_columns;
use crate::dialect::session::{Database, DbError, ErrorClass, Session};
use crate::mapping::{KeyExpression, SourceQuery};

impl Check<'_> {
    pub(super) async fn authority(
        &mut self,
        database: &Database,
        session: &mut dyn Session,
    ) -> Result<(), DbError> {
        self.durability(database, session, "legacy").await?;
        let root = self.shape.root.clone();
        if let Some(table) = self
            .table(database, session, "root.table", &root.table)
            .await?
        {
            if self.columns("root.key", &table, &root.key) {
                self.key(database, session, &table).await?;
            }
            self.evaluable("root.table", &table);
            self.stamped(database, "root.table", &table);
            self.catalog.authority.push(table);
        }
        for source in self.shape.sources.clone() {
            let field = format!("source.{}", source.table);
            if let Some(table) = self.table(database, session, &field, &source.table).await? {
                self.evaluable(&field, &table);
                self.stamped(database, &field, &table);
                let (word, named) = match &source.key {
                    KeyExpression::Columns(columns) => ("key", columns.clone()),
                    KeyExpression::Query(query) => ("keys", row_columns(query)),
                };
                let known = self.columns(&format!("{field}.{word}"), &table, &named);
                match &source.key {
                    KeyExpression::Query(query) if known => {
                        self.notable(database, &format!("{field}.keys"), &table, &named);
                        self.key_query(database, session, &field, &table, query)
                            .await?;
                    }
                    KeyExpression::Columns(columns) if known => {
                        self.key_columns(database, &format!("{field}.key"), &table, columns);
                    }
                    _ => {}
                }
                if !self
                    .catalog
                    .authority
                    .iter()
                    .any(|known| known.name == table.name)
                {
                    self.catalog.authority.push(table);
                }
            }
        }
        for query in &self.shape.queries {
            if !self.expressions(&query.name, query) {
                continue;
            }
            match inspect::query_types(database.dialect(), session, &root, query).await {
                Ok((types, key)) => {
                    self.catalog.types.push(types);
                    self.catalog.key_types.push(key);
                }
                Err(error)
                    if matches!(error.class, ErrorClass::Connection | ErrorClass::Rights) =>
                {
                    return Err(error);
                }
                Err(error) => {
                    self.bad_query(&query.name, query, database, session, &error)
                        .await
                }
            }
        }
        Ok(())
    }

    /// Where a cascade fires no trigger, the rows that it deletes or changes would leave no stamp.
    fn stamped(&mut self, database: &Database, field: &str, table: &Table) {
        if database.dialect().cascades_fire_triggers() {
            return;
        }
        for reference in table
            .references
            .iter()
            .filter(|reference| reference.cascades)
        {
            self.problem(
                field,
                format!(
                    "the foreign key of {} on ({}) deletes or changes its rows by cascade, which fires no trigger on {}: they would leave no stamp",
                    table.name,
                    reference.columns.join(", "),
                    database.dialect().engine(),
                ),
                format!(
                    "declare it ON DELETE RESTRICT ON UPDATE RESTRICT during the migration, and delete those rows before the ones of {}",
                    reference.to_name
                ),
            );
        }
    }

    /// What a source's query takes from the written row is noted by its trigger.
    fn notable(&mut self, database: &Database, field: &str, table: &Table, named: &[String]) {
        for column in named.iter().filter_map(|name| table.column(name)) {
            if let Some(problem) = database.dialect().note_problem(column) {
                self.problem(
                    field,
                    format!("column {:?}: {problem}", column.name),
                    "write the query with the table's key instead",
                );
            }
        }
    }

    /// Rows that are pushed out of a unique index must be found.
    fn evaluable(&mut self, field: &str, table: &Table) {
        for (index, why) in &table.opaque {
            self.problem(
                field,
                format!(
                    "unique index {index:?} of {} cannot be evaluated ({why}): rows that REPLACE takes out of it would leave no stamp",
                    table.name
                ),
                "drop it during the migration, or write it with SQLite's own functions and collations",
            );
        }
    }

    /// A row's key is the text of these columns: it must be the text that the root's key has.
    fn key_columns(&mut self, database: &Database, field: &str, table: &Table, columns: &[String]) {
        self.distinct(field, table, columns);
        let Some(root) = self.catalog.authority.first().cloned() else {
            return;
        };
        let key = self.shape.root.key.iter().map(|name| root.column(name));
        for (mine, roots) in columns.iter().map(|name| table.column(name)).zip(key) {
            if let (Some(mine), Some(roots)) = (mine, roots)
                && !database.dialect().same_key_text(mine, roots)
            {
                self.problem(
                    field,
                    format!(
                        "column {:?} of {} is declared {:?} and {:?} of {} {:?}: one key could have two texts, such as 007 and 7",
                        mine.name, table.name, mine.full_type, roots.name, root.name, roots.full_type
                    ),
                    "declare both alike, or say keys = \"SELECT …\" with the root's key",
                );
            }
        }
    }

    /// Whether every expression is one: a text that ends its statement early could write.
    fn expressions(&mut self, target: &str, query: &SourceQuery) -> bool {
        let field = format!("target {target:?}");
        let columns = query.select.iter().enumerate().map(|(n, (name, e))| {
            (
                if n == 0 {
                    format!("{field}.slot")
                } else {
                    format!("{field}.columns.{name}")
                },
                e,
            )
        });
        let texts = columns
            .chain(std::iter::once((format!("{field}.from"), &query.from)))
            .chain(query.key.iter().map(|e| (format!("{field}.key"), e)))
            .chain(query.filter.iter().map(|e| (format!("{field}.where"), e)));
        let named_root = query.from == self.shape.root.table;
        let broken: Vec<(String, &str)> = texts
            // The root table and its key stand here as names, which may hold anything.
            .filter(|(_, e)| {
                !(named_root && (**e == query.from || self.shape.root.key.contains(e)))
            })
            .filter_map(|(field, e)| Some((field, inspect::not_one_expression(e)?)))
            .collect();
        for (field, why) in &broken {
            self.problem(
                field.clone(),
                *why,
                "write one SQL expression, without comments",
            );
        }
        broken.is_empty()
    }

    /// The query of a source, asked for a row of NULLs.
    async fn key_query(
        &mut self,
        database: &Database,
        session: &mut dyn Session,
        field: &str,
        table: &Table,
        query: &str,
    ) -> Result<(), DbError> {
        let field = format!("{field}.keys");
        if let Some(why) = inspect::not_one_expression(query) {
            self.problem(field, why, "write one SELECT, without comments");
            return Ok(());
        }
        let components = self.shape.root.key.len();
        match inspect::key_query_width(database.dialect(), session, table, query).await {
            Ok(width) if width == components => {}
            Ok(width) => self.problem(
                field,
                format!("the query answers {width} column(s), and root.key has {components}"),
                "select one column per component of root.key, in its order",
            ),
            Err(error) if matches!(error.class, ErrorClass::Connection | ErrorClass::Rights) => {
                return Err(error);
            }
            Err(error) => self.problem(
                field,
                format!(
                    "the legacy database does not understand the query: {}",
                    error.source
                ),
                "correct it; $row.column stands for a column of the row that was written",
            ),
        }
        Ok(())
    }

    /// Finds out which of a query's expressions the database does not understand.
    async fn bad_query(
        &mut self,
        target: &str,
        query: &SourceQuery,
        database: &Database,
        session: &mut dyn Session,
        whole: &DbError,
    ) {
        let dialect = database.dialect();
        let from = inspect::from(dialect, &self.shape.root, query);
        if let Err(error) = inspect::understands(dialect, session, &from, "1").await {
            self.problem(
                format!("target {target:?}.from"),
                format!(
                    "the legacy database does not understand {:?}: {}",
                    query.from, error.source
                ),
                "correct it; it is what stands after FROM in SQL",
            );
            return;
        }
        let mut found = false;
        let key = inspect::key(dialect, &self.shape.root, query);
        let columns = query
            .select
            .iter()
            .map(|(name, e)| (format!("columns.{name}"), e));
        let rest = key.iter().map(|e| ("key".to_owned(), e));
        let filter = query.filter.iter().map(|e| ("where".to_owned(), e));
        for (word, expression) in columns.chain(rest).chain(filter) {
            if let Err(error) = inspect::understands(dialect, session, &from, expression).await {
                found = true;
                self.problem(
                    format!("target {target:?}.{word}"),
                    format!(
                        "the legacy database does not understand {expression:?}: {}",
                        error.source
                    ),
                    "correct the expression; it is SQL over the target's `from`",
                );
            }
        }
        if !found {
            self.problem(
                format!("target {target:?}"),
                format!(
                    "the legacy database does not understand its query: {}",
                    whole.source
                ),
                "correct its from, key, where and columns; they are SQL of the legacy database",
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
        self.distinct("root.key", table, &key);
        for column in key.iter().filter_map(|name| table.column(name)) {
            if !column.not_null {
                self.problem(
                    "root.key",
                    format!("column {:?} of {} may be NULL", column.name, table.name),
                    "declare it NOT NULL, or name a key that is",
                );
            }
            if let Some(problem) = database.dialect().key_type_problem(column) {
                self.problem(
                    "root.key",
                    format!("column {:?}: {problem}", column.name),
                    "name another key",
                );
            }
        }
        let columns: Vec<&Column> = key.iter().filter_map(|name| table.column(name)).collect();
        if let Some(problem) = database.dialect().key_length_problem(&columns) {
            self.problem(
                "root.key",
                problem,
                "declare its columns shorter, or name another key",
            );
        }
        if table.is_unique(&key) {
            return Ok(());
        }
        let columns = key.join(", ");
        match inspect::duplicates(database.dialect(), session, table, &key).await? {
            count if count > 0 => self.problem(
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
}
