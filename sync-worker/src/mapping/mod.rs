//! How the authority's rows of one key become the follower's rows: the [`Mapping`].
//!
//! A mapping has two halves. Its [`Shape`] is data: which tables are stamped, what is read for a
//! key, which tables are written and which of their rows belong to a key. Its
//! [`image`](Mapping::image) is a pure function from what was read to an [`Image`]. A mapping
//! written in TOML ([`toml`]) puts SQL expressions of the authority's side into the shape's queries
//! and moves the answers; a mapping written in Rust may compute whatever it likes.
//!
//! # Rules
//!
//! 1. The image depends on the rows read, the declared lookups and the id map, on nothing else: no
//!    clock, no random number, no other table. What it reads is stamped, or declared immutable.
//! 2. The same rows give the same image, on every machine and at any time.
//! 3. Changing what a mapping answers means raising its revision; a copier of the older revision
//!    is then refused by the follower's database. So is one whose mapping was changed under the
//!    same revision, as far as its [`Fingerprint`] tells.

use std::sync::Arc;

use changeover_flags::Key;
use changeover_shadow::Value;
use thiserror::Error;

use crate::image::Image;

mod fingerprint;
pub mod toml;

pub use fingerprint::Fingerprint;

/// Turns the authority's rows of one key into the follower's rows.
///
/// Called by every copier, once per key and copy, in any order, on any thread, possibly several
/// times for one version. A panic is contained and counts as [`MappingError`].
pub trait Mapping: Send + Sync + 'static {
    /// The tables and queries of this mapping. Must not change during the value's life.
    fn shape(&self) -> &Shape;

    /// The image of `key`, given the rows that the shape's queries answered at one instant.
    ///
    /// # Errors
    ///
    /// [`MappingError`] when these rows can have no image. The key is then *blocked*: it stays
    /// with the authority and says why.
    fn image(&self, key: &Key, rows: &SourceRows) -> Result<Image, MappingError>;

    /// Whether an image is what the queries answer, row by row: each target's rows are those of the
    /// one query that [fills](SourceQuery::fills) it, and a column holds the answer of its name, as it
    /// is. Only then can a verify sum rows where they are, and a load move them as they
    /// are.
    fn is_declared(&self) -> bool {
        false
    }
}

/// Rows that have no image, and why.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("mapping the key failed: {reason}")]
pub struct MappingError {
    /// What is wrong, without values: it is kept beside the key and shown to operators.
    pub reason: String,
}

impl MappingError {
    /// An error with this reason.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> MappingError {
        MappingError {
            reason: reason.into(),
        }
    }
}

/// The tables and queries of a mapping.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Shape {
    /// The mapping's revision, at least 1.
    pub revision: i64,
    /// What the mapping answers, in short. `None`: a change under the same revision goes unnoticed
    /// until a verify finds keys that differ.
    pub fingerprint: Option<Fingerprint>,
    /// The authority's table whose key is the aggregate's key.
    pub root: Root,
    /// The other tables of the authority's side whose rows the image depends on.
    pub sources: Vec<Source>,
    /// What is read for a key, all at one instant.
    pub queries: Vec<SourceQuery>,
    /// Lookups on the follower's side.
    pub lookups: Vec<Lookup>,
    /// What is written, parents before children.
    pub targets: Vec<Target>,
    /// Columns of targets that name a row of another new table, whether or not a foreign key says
    /// so. Copies need none of them: they tell the consistency checks where to look.
    pub pointers: Vec<Pointer>,
}

/// A column of a target that names a row of another table of the follower's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    /// Index of the target.
    pub target: usize,
    /// Its column.
    pub column: String,
    /// The table of the row that is named: a lookup's or a target's.
    pub table: String,
    /// The column of that table that holds the same value.
    pub names: String,
    /// Where it is what a lookup answers: the column that the lookup is asked by. The mapping's query selects
    /// what it is asked for as `COLUMN.by`.
    pub by: Option<String>,
    /// Where it is the id of a row of the same image.
    pub row: Option<NamedRow>,
}

/// A row of an image that another row of it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedRow {
    /// Index of its target.
    pub target: usize,
    /// The expression that is its slot, which the mapping's query selects as `COLUMN.slot`. `None`: it is the empty one.
    pub slot: Option<String>,
}

/// The table whose rows define the keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Root {
    /// Table name.
    pub table: String,
    /// Columns that are unique together and `NOT NULL`, in the key's order.
    pub key: Vec<String>,
}

/// A further table of the authority's side whose writes stamp keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Table name.
    pub table: String,
    /// The keys that one of its rows belongs to.
    pub key: KeyExpression,
}

/// The keys that a source row belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyExpression {
    /// One key: these columns of the row, in the key's order.
    Columns(Vec<String>),
    /// A set of keys: a query with one column per key component, in which `$row.column` stands
    /// for the written row's column. For a lookup table: the keys that depend on the row.
    Query(String),
}

/// One question asked of the authority for every key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceQuery {
    /// What messages call it.
    pub name: String,
    /// The target whose columns its answers fill by name, if they do so as they are: their types
    /// are then checked against the target's before anything is written.
    pub fills: Option<usize>,
    /// What is selected: (name, SQL expression).
    pub select: Vec<(String, String)>,
    /// What stands after `FROM`: a table, with an alias or joins if need be.
    pub from: String,
    /// SQL expressions that equal the key's components, in order.
    pub key: Vec<String>,
    /// What else must hold (`WHERE`).
    pub filter: Option<String>,
}

/// A table on the follower's side that answers one column for another. It is declared immutable:
/// rows may be added; changing or deleting an answer is refused by a trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// What messages call it.
    pub name: String,
    /// Table name.
    pub table: String,
    /// The column that is asked by; unique.
    pub by: String,
    /// The column that answers.
    pub value: String,
}

/// One table that a mapping writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What the mapping calls it; the id map keeps this name.
    pub name: String,
    /// Table name.
    pub table: String,
    /// The columns that the mapping sets, without a generated id. Others survive copies.
    pub columns: Vec<String>,
    /// Whose rows they are.
    pub ownership: Ownership,
}

/// Whose rows a target's rows are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ownership {
    /// The key's own: replaced as a set.
    Owned {
        /// How the rows of a key are found.
        belongs: Belongs,
        /// How one row is told from another.
        identity: Identity,
    },
    /// Used by many keys: inserted if absent, never changed or deleted by a copy.
    Shared {
        /// Columns that are unique together and `NOT NULL`.
        identity: Vec<String>,
        /// The generated id that other rows point at, if any.
        id: Option<String>,
    },
}

/// How the rows of a key are found in an owned target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Belongs {
    /// These columns hold the key's components, in order.
    Key(Vec<String>),
    /// This column holds the id of a row of the same key in another target.
    Row {
        /// Column name.
        column: String,
        /// Index of the other target, which has a generated id and stands before this one.
        target: usize,
    },
}

/// How one row of an owned target is told from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Mapped columns that are unique together and `NOT NULL`.
    Columns(Vec<String>),
    /// An id that the database generates: allocated once per (key, slot), kept in the id map.
    Generated(String),
}

impl Target {
    /// The generated id column, if the target has one.
    #[must_use]
    pub fn id_column(&self) -> Option<&str> {
        match &self.ownership {
            Ownership::Owned {
                identity: Identity::Generated(column),
                ..
            } => Some(column),
            Ownership::Owned { .. } => None,
            Ownership::Shared { id, .. } => id.as_deref(),
        }
    }

    /// The columns that tell one row from another.
    #[must_use]
    pub fn identity_columns(&self) -> Vec<String> {
        match &self.ownership {
            Ownership::Owned {
                identity: Identity::Columns(columns),
                ..
            } => columns.clone(),
            Ownership::Owned {
                identity: Identity::Generated(column),
                ..
            } => vec![column.clone()],
            Ownership::Shared { identity, .. } => identity.clone(),
        }
    }

    /// How the rows of a key are found; `None` for shared ones, which are no key's.
    #[must_use]
    pub const fn belongs(&self) -> Option<&Belongs> {
        match &self.ownership {
            Ownership::Owned { belongs, .. } => Some(belongs),
            Ownership::Shared { .. } => None,
        }
    }

    /// Whether the rows are replaced as a set.
    #[must_use]
    pub const fn is_owned(&self) -> bool {
        matches!(self.ownership, Ownership::Owned { .. })
    }
}

/// What a mapping's queries answered for one key, in the order of [`Shape::queries`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourceRows {
    /// Rows by query.
    pub queries: Vec<Vec<SourceRow>>,
}

/// One row that a query answered.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceRow {
    names: Arc<[String]>,
    values: Vec<Value>,
}

impl SourceRow {
    /// A row of `values` named by `names`.
    #[must_use]
    pub fn new(names: Arc<[String]>, values: Vec<Value>) -> SourceRow {
        SourceRow { names, values }
    }

    /// The values, in the order of the query's `select`.
    #[must_use]
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The value of a selected column.
    ///
    /// # Errors
    ///
    /// [`MappingError`] when the query selects no column of that name.
    pub fn get(&self, name: &str) -> Result<&Value, MappingError> {
        self.names
            .iter()
            .position(|known| known == name)
            .and_then(|index| self.values.get(index))
            .ok_or_else(|| MappingError::new(format!("the query selects no column {name:?}")))
    }
}
