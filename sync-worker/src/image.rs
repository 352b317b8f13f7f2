//! [`Image`]: everything the follower shall hold for one key.

use changeover_shadow::Value;

use crate::mapping::Shape;

/// All follower rows of one key, as a pure function of the authority's rows.
///
/// An image names rows, not statements: writing it twice, or after another image, leaves what the
/// last one says. An image without rows means that the key is gone.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Image {
    /// Rows by target, in the order of [`Shape::targets`](crate::mapping::Shape::targets).
    pub targets: Vec<Vec<ImageRow>>,
}

impl Image {
    /// An image without rows for a mapping of `targets` targets.
    #[must_use]
    pub fn empty(targets: usize) -> Image {
        Image {
            targets: vec![Vec::new(); targets],
        }
    }

    /// Whether no target holds a row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.targets.iter().all(Vec::is_empty)
    }

    /// About how many bytes of values it holds.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let rows = self.targets.iter().flatten();
        let cells = rows.flat_map(|row| &row.cells);
        cells
            .map(|cell| match cell {
                Cell::Value(value) | Cell::Lookup { by: value, .. } => bytes(value),
                _ => bytes(&Value::Null),
            })
            .sum()
    }

    /// The image as a value, for comparing two of them field by field: by target, row (its slot, or
    /// its number among rows without one) and column, whatever the order of rows. What a lookup or an id will answer stands as what it is asked by.
    #[must_use]
    pub fn to_value(&self, shape: &Shape) -> Value {
        let targets = self.targets.iter().zip(&shape.targets);
        Value::record(targets.map(|(rows, target)| {
            let row = |row: &ImageRow| {
                let cells = target.columns.iter().zip(&row.cells);
                let cells = cells.map(|(column, cell)| (column.clone(), cell.to_value()));
                (row.slot.clone(), Value::record(cells))
            };
            let mut rows: Vec<(String, Value)> = rows.iter().map(row).collect();
            // A database answers rows in any order.
            rows.sort_by_cached_key(|(slot, row)| (slot.clone(), format!("{row:?}")));
            let numbered = rows.into_iter().enumerate();
            let named = numbered.map(|(number, (slot, row))| match slot.as_str() {
                "" => (number.to_string(), row),
                _ => (slot, row),
            });
            (target.name.clone(), Value::record(named))
        }))
    }
}

fn bytes(value: &Value) -> u64 {
    match value {
        Value::Decimal(text) | Value::Text(text) => text.len() as u64,
        Value::Bytes(bytes) => bytes.len() as u64,
        Value::List(items) => items.iter().map(bytes).sum(),
        Value::Record(fields) => fields.values().map(bytes).sum(),
        _ => 8,
    }
}

/// One row of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageRow {
    /// Names the row within its key and target, so that it keeps its generated id for ever and
    /// other rows of the image can point at it. Empty where a key has one row.
    pub slot: String,
    /// One cell per mapped column, in the order of [`Target::columns`](crate::mapping::Target::columns).
    pub cells: Vec<Cell>,
}

/// What one column of an image row shall hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// This value.
    Value(Value),
    /// What a lookup on the follower's side answers for `by`; a key whose lookup has no answer
    /// yet waits for it. `by` = `NULL` answers `NULL`.
    Lookup {
        /// Index into [`Shape::lookups`](crate::mapping::Shape::lookups).
        lookup: usize,
        /// What is looked up.
        by: Value,
    },
    /// The id of another row of this image; `NULL` when the image has no such row.
    Row {
        /// Index of that row's target.
        target: usize,
        /// That row's slot.
        slot: String,
    },
}

impl Cell {
    fn to_value(&self) -> Value {
        match self {
            Cell::Value(value) => value.clone(),
            Cell::Lookup { by, .. } => by.clone(),
            Cell::Row { slot, .. } => Value::Text(slot.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::{Belongs, Identity, Ownership, Target};

    #[test]
    fn images_of_the_same_rows_are_one_value_in_any_order() {
        let shape = Shape {
            targets: vec![Target {
                name: "picture".into(),
                table: "pictures".into(),
                columns: vec!["url".into()],
                ownership: Ownership::Owned {
                    belongs: Belongs::Key(vec![]),
                    identity: Identity::Columns(vec![]),
                },
            }],
            ..Shape::default()
        };
        let image = |rows: &[(&str, &str)]| {
            let rows = rows.iter().map(|(slot, url)| ImageRow {
                slot: (*slot).into(),
                cells: vec![Cell::Value(Value::Text((*url).into()))],
            });
            let targets = vec![rows.collect()];
            Image { targets }.to_value(&shape)
        };
        for slots in [["", ""], ["1", "2"]] {
            let [one, two] = slots;
            assert_eq!(
                image(&[(one, "a"), (two, "b")]),
                image(&[(two, "b"), (one, "a")])
            );
            assert_ne!(image(&[(one, "a"), (two, "b")]), image(&[(one, "a")]));
        }
        assert_ne!(
            image(&[("1", "a"), ("2", "b")]),
            image(&[("1", "b"), ("2", "a")])
        );
    }
}
