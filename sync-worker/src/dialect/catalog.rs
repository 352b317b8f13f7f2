//! Tables as the database describes them.

use changeover_shadow::Value;

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// Its name, as the configuration gave it.
    pub name: String,
    /// What the database calls it: equal for all names of one table.
    pub canonical: String,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// Sets of columns that are unique, without condition; the primary key first.
    pub unique: Vec<Unique>,
    /// The columns of each index, in order: what can be searched.
    pub indexes: Vec<Vec<String>>,
    /// References from this table.
    pub references: Vec<Reference>,
    /// References to this table.
    pub referenced_by: Vec<Reference>,
    /// What makes two rows exclude each other, where one can push the other out unseen (SQLite's
    /// `REPLACE`).
    pub exclusions: Vec<Exclusion>,
    /// Unique indexes that exclude rows by what cannot be evaluated here, and why.
    pub opaque: Vec<(String, String)>,
    /// Tables whose rows are read as this table's, and whose writes fire none of its triggers
    /// (PostgreSQL's `INHERITS`).
    pub heirs: Vec<String>,
}

/// A trigger of the product's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// Its name.
    pub name: String,
    /// The table that it is on, as in [`Table::canonical`].
    pub table: String,
    /// Whether it does what it is for in every session.
    pub fires: bool,
}

/// A set of columns that is unique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    /// The columns, in order.
    pub columns: Vec<String>,
    /// Whether it is the primary key.
    pub primary: bool,
}

/// A unique index, by what it compares: columns or expressions, of some rows or of all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exclusion {
    /// The index, for messages.
    pub index: String,
    /// What is compared.
    pub terms: Vec<Term>,
    /// The condition of a partial index, as SQL over the table's columns.
    pub filter: Option<String>,
}

/// What a unique index compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// A quoted column, or an expression over the table's columns.
    pub sql: String,
    /// Whether it is a column.
    pub is_column: bool,
    /// The collation of the index.
    pub collation: String,
}

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The table that refers, as in [`Table::canonical`].
    pub from: String,
    /// Its name for messages.
    pub from_name: String,
    /// The columns that refer.
    pub columns: Vec<String>,
    /// The table referred to, as in [`Table::canonical`].
    pub to: String,
    /// Its name for messages.
    pub to_name: String,
    /// The columns referred to, in the order of `columns`.
    pub to_columns: Vec<String>,
    /// Whether it stands for a part of another one, to a partition of the table that is referred to:
    /// the row need not be in this very partition.
    pub to_part: bool,
    /// Whether deleting or changing a row over there changes rows over here (`CASCADE`,
    /// `SET NULL`, `SET DEFAULT`).
    pub cascades: bool,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type without length and precision, as written in a cast.
    pub sql_type: String,
    /// Its type with length and precision.
    pub full_type: String,
    /// Its type with length and precision, where a domain's name stands for one.
    pub stored_type: String,
    /// Whether it refuses `NULL`.
    pub not_null: bool,
    /// Its default, as SQL.
    pub default: Option<String>,
    /// Whether the database numbers it by itself (serial, identity, integer primary key).
    pub generated: bool,
    /// Whether it is computed from other columns.
    pub computed: bool,
    /// Whether texts that differ can be equal in it, by its collation or type.
    pub blurred: bool,
}

impl Table {
    /// The column of this name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether these columns, in any order, are exactly a unique set.
    #[must_use]
    pub fn is_unique(&self, columns: &[String]) -> bool {
        self.unique
            .iter()
            .any(|unique| same_set(&unique.columns, columns))
    }

    /// Whether an index starts with these columns, in any order.
    #[must_use]
    pub fn is_indexed(&self, columns: &[String]) -> bool {
        self.indexes
            .iter()
            .any(|index| index.len() >= columns.len() && same_set(&index[..columns.len()], columns))
    }
}

fn same_set(a: &[String], b: &[String]) -> bool {
    a.len() == b.len() && a.iter().all(|column| b.contains(column))
}

/// The text at this place of a catalog's row.
pub(super) fn text(row: &[Value], index: usize) -> Option<String> {
    match row.get(index) {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    }
}
