//! [`TargetTable`]: a mapping's target in the table that the catalog describes.

use crate::dialect::catalog::{Column, Table};
use crate::mapping::{Identity, Ownership, Target};

/// A target with the catalog's view of it.
#[derive(Debug)]
pub(super) struct TargetTable {
    pub(super) target: Target,
    pub(super) table: Table,
    /// The mapped columns, in the mapping's order.
    pub(super) columns: Vec<Column>,
    /// The columns that tell rows apart.
    pub(super) identity: Vec<Column>,
    /// The generated id, if there is one.
    pub(super) id: Option<Column>,
    /// Columns that no mapping names and no database computes: they survive copies.
    pub(super) unmapped: Vec<Column>,
}

impl TargetTable {
    /// The target in this table; `None` where a column of it is missing.
    pub(super) fn new(target: &Target, table: &Table) -> Option<TargetTable> {
        let columns = |names: &[String]| {
            names
                .iter()
                .map(|name| table.column(name).cloned())
                .collect::<Option<Vec<_>>>()
        };
        let id = match target.id_column() {
            Some(name) => Some(table.column(name)?.clone()),
            None => None,
        };
        let unmapped = table
            .columns
            .iter()
            .filter(|column| {
                !target.columns.contains(&column.name)
                    && target.id_column() != Some(column.name.as_str())
                    && !column.computed
            })
            .cloned()
            .collect();
        Some(TargetTable {
            columns: columns(&target.columns)?,
            identity: columns(&target.identity_columns())?,
            id,
            unmapped,
            table: table.clone(),
            target: target.clone(),
        })
    }

    /// The columns that a copy writes: the mapped ones, and a generated id before them where the
    /// rows are the key's own.
    pub(super) fn written(&self) -> Vec<&Column> {
        self.own_id().into_iter().chain(&self.columns).collect()
    }

    /// The generated id of an owned target.
    pub(super) fn own_id(&self) -> Option<&Column> {
        self.id.as_ref().filter(|_| self.target.is_owned())
    }

    /// The positions of the identity columns among [`written`](TargetTable::written).
    pub(super) fn identity_positions(&self) -> Vec<usize> {
        let written = self.written();
        self.identity
            .iter()
            .filter_map(|column| written.iter().position(|other| other.name == column.name))
            .collect()
    }

    pub(super) fn is_generated(&self) -> bool {
        matches!(
            &self.target.ownership,
            Ownership::Owned {
                identity: Identity::Generated(_),
                ..
            }
        )
    }
}
