//! What must be true of the follower's side.

use changeover_shadow::Value;

use super::Check;
use crate::dialect::Dialect;
use crate::dialect::catalog::{Column, Table};
use crate::dialect::session::{Database, DbError, Session};
use crate::mapping::{Belongs, Target};

impl Check<'_> {
    pub(super) async fn follower(
        &mut self,
        database: &Database,
        session: &mut dyn Session,
    ) -> Result<(), DbError> {
        let dialect = database.dialect();
        self.durability(database, session, "new").await?;
        let mut described = Vec::new();
        for target in &self.shape.targets {
            let field = format!("target {:?}.table", target.name);
            let table = self.table(database, session, &field, &target.table).await?;
            if let Some(table) = &table
                && !self
                    .catalog
                    .follower
                    .iter()
                    .any(|known| known.name == table.name)
            {
                self.catalog.follower.push(table.clone());
            }
            described.push(table);
        }
        let shape = self.shape;
        for (index, (target, table)) in shape.targets.iter().zip(described).enumerate() {
            let field = format!("target {:?}", target.name);
            let Some(table) = table else { continue };
            let known = self.columns(&format!("{field}.columns"), &table, &target.columns);
            if self.own_columns(&field, target, &table) && known {
                self.types(&field, index, target, &table, database.dialect().engine());
                self.complete(&field, target, &table);
                self.identity(dialect, &field, target, &table);
                self.belongs(dialect, &field, target, &table);
                // A verify asks what the columns make of values, which takes a right of its own.
                let first: Vec<Column> = table.columns.iter().take(1).cloned().collect();
                let nothing = vec![vec![Value::Null; first.len()]];
                dialect.normalise(session, &first, nothing).await?;
                self.cascades(&field, target, &table);
            }
        }
        for lookup in self.shape.lookups.clone() {
            let field = format!("lookup.{}", lookup.name);
            let Some(table) = self.table(database, session, &field, &lookup.table).await? else {
                continue;
            };
            let by = std::slice::from_ref(&lookup.by);
            if !self.columns(&field, &table, &[lookup.by.clone(), lookup.value.clone()]) {
            } else if table.is_unique(by) {
                // What is asked for `B` is not what `b` says.
                self.distinct(&format!("{field}.by"), &table, by);
                self.searchable(dialect, &format!("{field}.by"), &table, by);
            } else {
                self.problem(
                    format!("{field}.by"),
                    format!("nothing keeps {:?} unique in {}", lookup.by, lookup.table),
                    "add a unique index: a lookup must have one answer",
                );
            }
            if !self
                .catalog
                .follower
                .iter()
                .any(|known| known.name == table.name)
            {
                self.catalog.follower.push(table);
            }
        }
        Ok(())
    }

    /// The columns that a target names beside those it sets.
    fn own_columns(&mut self, field: &str, target: &Target, table: &Table) -> bool {
        let id: Vec<String> = target.id_column().map(str::to_owned).into_iter().collect();
        let belongs = match target.belongs() {
            Some(Belongs::Row { column, .. }) => vec![column.clone()],
            Some(Belongs::Key(columns)) => columns.clone(),
            None => Vec::new(),
        };
        let id = self.columns(&format!("{field}.id"), table, &id);
        self.columns(&format!("{field}.owned_by"), table, &belongs) && id
    }

    /// Columns in which every copy looks for a value.
    fn searchable(&mut self, dialect: &dyn Dialect, field: &str, table: &Table, names: &[String]) {
        for column in names.iter().filter_map(|name| table.column(name)) {
            if let Some(problem) = dialect.search_problem(column) {
                self.problem(
                    field,
                    format!("column {:?} of {}: {problem}", column.name, table.name),
                    "give it the character set utf8mb4",
                );
            }
        }
    }

    /// Types that can never be turned into each other.
    fn types(&mut self, field: &str, index: usize, target: &Target, table: &Table, engine: &str) {
        if engine != "PostgreSQL" {
            return;
        }
        let queries = self.shape.queries.iter().zip(&self.catalog.types);
        let filling: Vec<(String, String)> = queries
            .filter(|(query, _)| query.fills == Some(index))
            .flat_map(|(query, types)| query.select.iter().zip(types))
            .map(|((name, _), from)| (name.clone(), from.clone()))
            .collect();
        for (name, from) in &filling {
            let plain = target.columns.contains(name);
            let Some(column) = table.column(name).filter(|_| plain) else {
                continue;
            };
            let truth_is_number = self.reading != "PostgreSQL";
            if !assignable(from, &column.sql_type, truth_is_number) {
                self.problem(
                    format!("{field}.columns.{name}"),
                    format!(
                        "a value of type {from} cannot be put into a column of type {}",
                        column.full_type
                    ),
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
        for column in table
            .columns
            .iter()
            .filter(|c| c.computed && target.columns.contains(&c.name))
        {
            self.problem(
                format!("{field}.columns.{}", column.name),
                format!("{} computes this column by itself", table.name),
                "leave it out of the mapping",
            );
        }
        for column in table.columns.iter().filter(left_out) {
            self.problem(
                format!("{field}.columns"),
                format!(
                    "column {:?} of {} must not be NULL, has no default and is not mapped",
                    column.name, table.name
                ),
                "map it, or give it a default",
            );
        }
    }

    fn identity(&mut self, dialect: &dyn Dialect, field: &str, target: &Target, table: &Table) {
        let columns = target.identity_columns();
        self.searchable(dialect, field, table, &columns);
        let missing = columns.iter().any(|name| table.column(name).is_none());
        if missing || !table.is_unique(&columns) {
            self.problem(
                field,
                format!(
                    "nothing keeps ({}) unique in {}",
                    columns.join(", "),
                    table.name
                ),
                "add a unique index on these columns, or name the columns of one",
            );
        }
        for column in columns.iter().filter_map(|name| table.column(name)) {
            if !column.not_null {
                self.problem(
                    field,
                    format!(
                        "column {:?} tells rows of {} apart but may be NULL",
                        column.name, table.name
                    ),
                    "declare it NOT NULL",
                );
            }
        }
        if let Some(name) = target.id_column()
            && let Some(column) = table.column(name)
            && dialect.allocate_ids(table, column, "new", 1).is_none()
            && !target.columns.contains(name_of(column))
        {
            self.problem(
                format!("{field}.id"),
                format!("column {name:?} of {} generates no ids", table.name),
                "make it an identity column (SQLite: INTEGER PRIMARY KEY), or say identity = [mapped columns]",
            );
        }
    }

    fn belongs(&mut self, dialect: &dyn Dialect, field: &str, target: &Target, table: &Table) {
        let Some(belongs) = target.belongs() else {
            return;
        };
        let columns = match belongs {
            Belongs::Key(columns) => columns.clone(),
            Belongs::Row { column, .. } => vec![column.clone()],
        };
        if let Belongs::Key(columns) = belongs {
            self.distinct(&format!("{field}.owned_by"), table, columns);
        }
        self.searchable(dialect, &format!("{field}.owned_by"), table, &columns);
        if !table.is_indexed(&columns) {
            self.problem(
                format!("{field}.owned_by"),
                format!(
                    "no index of {} starts with ({})",
                    table.name,
                    columns.join(", ")
                ),
                "add one: every copy searches the key's rows by it",
            );
        }
    }

    /// A cascade that crosses keys changes rows of other keys behind the fence's back; one into a
    /// table of nobody deletes rows there whenever a copy replaces a row.
    fn cascades(&mut self, field: &str, target: &Target, table: &Table) {
        let remedy = "make the foreign key RESTRICT or NO ACTION during the migration";
        let owner = match target.belongs() {
            Some(Belongs::Row { target, .. }) => self.table_of(*target),
            _ => None,
        };
        for reference in table
            .references
            .iter()
            .filter(|reference| reference.cascades)
        {
            if owner.as_ref() != Some(&reference.to) {
                self.problem(
                    format!("{field}.table"),
                    format!(
                        "{} changes when rows of {} go (ON DELETE or ON UPDATE of its foreign key)",
                        table.name, reference.to_name
                    ),
                    remedy,
                );
            }
        }
        if !target.is_owned() {
            return;
        }
        let mine: Vec<String> = (0..self.shape.targets.len())
            .filter_map(|n| self.table_of(n))
            .collect();
        for reference in table
            .referenced_by
            .iter()
            .filter(|reference| reference.cascades)
        {
            // A target's own references are its own problem, named above.
            if !mine.contains(&reference.from) {
                self.problem(
                    format!("{field}.table"),
                    format!(
                        "rows of {}, which this mapping does not write, change when rows of {} go (ON DELETE or ON UPDATE of its foreign key)",
                        reference.from_name, table.name
                    ),
                    remedy,
                );
            }
        }
    }

    /// What the database calls the table of a target that was described.
    fn table_of(&self, target: usize) -> Option<String> {
        let name = &self.shape.targets.get(target)?.table;
        let table = self
            .catalog
            .follower
            .iter()
            .find(|table| table.name == *name)?;
        Some(table.canonical.clone())
    }
}

fn name_of(column: &Column) -> &String {
    &column.name
}

/// Whether a value of type `from` can ever be put into a PostgreSQL column of type `to`. Values cross
/// as text, so text can become anything, and anything text but bytes, which a text would only describe.
/// `truth_is_number` where the engine that is read has no type of its own for true and false.
fn assignable(from: &str, to: &str, truth_is_number: bool) -> bool {
    let class = |name: &str| {
        let name = name.to_ascii_lowercase();
        let is = |words: &[&str]| words.iter().any(|word| name.starts_with(word));
        if name.ends_with("[]") {
            "array"
        } else if is(&[
            "int", "smallint", "bigint", "numeric", "real", "double", "float",
        ]) && name != "interval"
        {
            "number"
        } else if is(&["bit", "varbit"]) {
            "bits"
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
    match (class(from), class(to)) {
        ("bytes", "text") => false,
        ("number", "boolean") | ("boolean", "number") => truth_is_number,
        // MariaDB's time is how long something takes, and its bits are a number.
        ("time", "interval") | ("bits", "number") => truth_is_number,
        ("bits", "boolean") => true,
        (from, to) => from == to || from == "text" || to == "text",
    }
}

#[cfg(test)]
mod tests {
    use super::assignable;

    #[test]
    fn text_goes_anywhere_and_kinds_do_not_mix() {
        let assignable = |from, to| super::assignable(from, to, false);
        assert!(assignable("TEXT", "integer"));
        assert!(assignable("INT4", "numeric"));
        assert!(assignable("TIMESTAMPTZ", "date"));
        assert!(assignable("UUID", "character varying"));
        assert!(assignable("TEXT", "bytea"));
        assert!(!assignable("BOOL", "integer"));
        assert!(!assignable("BYTEA", "uuid"));
        assert!(!assignable("BYTEA", "text"));
        assert!(!assignable("INTERVAL", "numeric"));
    }

    #[test]
    fn truth_is_a_number_where_it_has_no_type() {
        for (from, to) in [("INTEGER", "boolean"), ("BOOLEAN", "integer")] {
            assert!(assignable(from, to, true) && !assignable(from, to, false));
        }
        assert!(!assignable("INTEGER", "timestamp", true));
    }

    #[test]
    fn bits_and_times_are_those_of_mariadb_where_it_is_read() {
        for (from, to) in [("TIME", "interval"), ("BIT", "integer")] {
            assert!(assignable(from, to, true) && !assignable(from, to, false));
        }
        // A number's decimal digits would be read as bits.
        assert!(!assignable("INT", "bit varying", true) && !assignable("INT4", "bit", false));
        assert!(assignable("VARBIT", "bit", false) && assignable("BIT", "text", false));
    }
}
