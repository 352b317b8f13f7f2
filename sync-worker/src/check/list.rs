//! The built-in checks of a mapping, from its shape and the catalog.

use super::Question;
use crate::dialect::Dialect;
use crate::dialect::catalog::Table;
use crate::dialect::check::{Referring, orphans};
use crate::migration::Migration;

/// What the checks of references have in common.
struct Orphans<'a> {
    dialect: &'a dyn Dialect,
    tables: &'a [Table],
    /// (referring table, columns, table referred to, its columns): each is asked for once.
    known: Vec<(String, Vec<String>, String, Vec<String>)>,
    found: Vec<(String, Question)>,
}

/// Each by name.
pub(super) fn built_in(migration: &Migration) -> impl Iterator<Item = (String, Question)> {
    let shape = migration.mapping.shape();
    let tables = &migration.catalog.follower;
    let named = |name: &str| tables.iter().find(|table| table.name == name);
    let mut targets: Vec<&Table> = Vec::new();
    for target in &shape.targets {
        let new = named(&target.table).filter(|table| !targets.contains(table));
        targets.extend(new);
    }
    let mut all = Orphans {
        dialect: migration.new.dialect(),
        tables,
        known: Vec::new(),
        found: vec![("rows".to_owned(), Question::Rows)],
    };
    for table in &targets {
        for reference in table.references.iter().chain(&table.referenced_by) {
            if reference.to_part {
                continue;
            }
            all.add(
                (&reference.from, &reference.from_name, &reference.columns),
                (&reference.to, &reference.to_name, &reference.to_columns),
            );
        }
    }
    for pointer in &shape.pointers {
        let from = shape.targets.get(pointer.target);
        let from = from.and_then(|target| named(&target.table));
        if let (Some(from), Some(to)) = (from, named(&pointer.table)) {
            let (columns, names) = ([pointer.column.clone()], [pointer.names.clone()]);
            all.add_named((from, &columns), (to, &names));
        }
    }
    let sequences = targets.into_iter().flat_map(|table| {
        let generated = table.columns.iter().filter(|column| column.generated);
        generated.map(|column| {
            let asked = Question::Sequence(Box::new((table.clone(), column.clone())));
            (format!("sequence:{}.{}", table.name, column.name), asked)
        })
    });
    all.found.extend(sequences);
    all.found.into_iter()
}

impl Orphans<'_> {
    /// A reference between tables as the catalog names them: what it calls each, its name for
    /// messages, and the columns.
    fn add(&mut self, from: (&str, &str, &[String]), to: (&str, &str, &[String])) {
        let checks = self.dialect.checks();
        let (from_sql, to_sql) = (checks.referenced(from.1), checks.referenced(to.1));
        self.put(
            (from.0, from.1, &from_sql, from.2),
            (to.0, to.1, &to_sql, to.2),
        );
    }

    /// A reference between tables as the mapping names them.
    fn add_named(&mut self, from: (&Table, &[String]), to: (&Table, &[String])) {
        let sql = |table: &Table| self.dialect.table(&table.name);
        let (from_sql, to_sql) = (sql(from.0), sql(to.0));
        self.put(
            (&from.0.canonical, &from.0.name, &from_sql, from.1),
            (&to.0.canonical, &to.0.name, &to_sql, to.1),
        );
    }

    /// By what the catalog calls each table, its name for messages, its SQL, and the columns.
    fn put(&mut self, from: (&str, &str, &str, &[String]), to: (&str, &str, &str, &[String])) {
        let (canonical, from_name, from_sql, columns) = from;
        let (to_canonical, to_name, to_sql, to_columns) = to;
        let known = (
            canonical.to_owned(),
            columns.to_vec(),
            to_canonical.to_owned(),
            to_columns.to_vec(),
        );
        if columns.is_empty() || columns.len() != to_columns.len() || self.known.contains(&known) {
            return;
        }
        self.known.push(known);
        let table = self
            .tables
            .iter()
            .find(|table| table.canonical == canonical);
        let primary = table.and_then(|table| table.unique.iter().find(|unique| unique.primary));
        let sql = orphans(
            self.dialect,
            &Referring {
                from: from_sql,
                columns,
                // A table that the mapping does not name: what it refers to must do.
                key: primary.map_or(columns, |unique| &unique.columns),
                to: to_sql,
                to_columns,
            },
        );
        let mut name = format!("orphan:{from_name}.{}", columns.join("+"));
        if self.found.iter().any(|(known, _)| *known == name) {
            name = format!("{name}:{to_name}.{}", to_columns.join("+"));
        }
        self.found.push((name, Question::Sql(sql)));
    }
}
