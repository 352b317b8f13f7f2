//! A mapping written in TOML: columns are SQL expressions of the authority's side.
//!
//! ```toml
//! revision = 1
//! root = { table = "marketplace_listings", key = ["id"] }
//!
//! [source.listing_photos]            # rows that belong to a key
//! key = ["listing_id"]
//! [source.tenants]                   # a lookup on the authority's side: the keys that depend on it
//! keys = "SELECT id FROM marketplace_listings WHERE tenant_id = $row.id"
//!
//! [lookup.provider]                  # a lookup on the follower's side
//! table = "providers"
//! by = "tenant_id"
//! value = "id"
//!
//! [[target]]                         # shared by many keys: inserted if absent
//! name = "address"
//! table = "addresses"
//! shared_by = ["house_number"]
//! id = "id"
//! columns = { house_number = "house_number" }
//!
//! [[target]]                         # the key's own rows
//! table = "service_listings"
//! owned_by = { key = ["legacy_listing_id"] }
//! id = "id"
//! [target.columns]
//! legacy_listing_id = "id"
//! status = "lower(status)"
//! provider_id = { lookup = "provider", by = "tenant_id" }
//! address_id = { row = "address" }
//! ```
//!
//! # Rules
//!
//! 1. A target reads from the root table unless it says `from` (with `key`, the expressions that
//!    equal the key's components, and `where`).
//! 2. `slot` is an expression that names a row within its key, for targets with several rows per
//!    key; a row keeps its generated id as long as it keeps its slot. `{ row }` refers to the one
//!    row without a slot, `{ row, slot }` to the row of that slot.
//! 3. A shared row with a `NULL` in its identity is not written; references to it are `NULL`.
//! 4. Parents stand before children.

use std::collections::BTreeMap;

use changeover_flags::Key;
use changeover_shadow::Value;
use thiserror::Error;

use super::{
    Fingerprint, Lookup, Mapping, MappingError, NamedRow, Pointer, Root, Shape, Source,
    SourceQuery, SourceRow, SourceRows, Target,
};
use crate::image::{Cell, Image, ImageRow};

mod config;
mod read;

pub use config::MappingConfig;
use read::{check_head, read_target, source_key};

/// A mapping that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadMapping {
    /// Not the TOML of a mapping: the message names the field.
    #[error("reading the mapping failed: {0}")]
    Toml(String),
    /// A field says something impossible.
    #[error("{field}: {problem}")]
    Field {
        /// The field's path.
        field: String,
        /// What is wrong and what to write.
        problem: String,
    },
}

/// A mapping written in TOML.
#[derive(Debug, Clone)]
pub struct TomlMapping {
    shape: Shape,
    plans: Vec<Plan>,
}

/// How one target's cells come out of its query's rows, whose first value is the slot.
#[derive(Debug, Clone)]
struct Plan {
    cells: Vec<CellPlan>,
    /// Positions of cells that must not be null, for shared rows.
    identity: Vec<usize>,
}

#[derive(Debug, Clone, Copy)]
enum CellPlan {
    Value(usize),
    Lookup {
        lookup: usize,
        by: usize,
    },
    /// Without a slot: the one row that has none.
    Row {
        target: usize,
        slot: Option<usize>,
    },
}

impl std::str::FromStr for TomlMapping {
    type Err = BadMapping;

    fn from_str(text: &str) -> Result<TomlMapping, BadMapping> {
        let config: MappingConfig =
            ::toml::from_str(text).map_err(|error| BadMapping::Toml(error.to_string()))?;
        TomlMapping::new(config)
    }
}

impl TomlMapping {
    /// The mapping that `config` describes.
    ///
    /// # Errors
    ///
    /// [`BadMapping`] naming the field that says something impossible.
    pub fn new(config: MappingConfig) -> Result<TomlMapping, BadMapping> {
        check_head(&config)?;
        let mut shape = Shape {
            revision: config.revision,
            fingerprint: fingerprint(&config),
            root: Root {
                table: config.root.table.clone(),
                key: config.root.key.clone(),
            },
            lookups: config
                .lookup
                .iter()
                .map(|(name, lookup)| Lookup {
                    name: name.clone(),
                    table: lookup.table.clone(),
                    by: lookup.by.clone(),
                    value: lookup.value.clone(),
                })
                .collect(),
            ..Shape::default()
        };
        for (table, source) in &config.source {
            shape.sources.push(Source {
                table: table.clone(),
                key: source_key(table, source, &shape)?,
            });
        }
        let mut plans = Vec::new();
        for target in &config.target {
            let (target, query, plan) = read_target(target, &shape)?;
            let pointers = pointers(&target, &query, &plan, &shape);
            shape.pointers.extend(pointers);
            shape.targets.push(target);
            shape.queries.push(query);
            plans.push(plan);
        }
        Ok(TomlMapping { shape, plans })
    }
}

/// What the columns of the next target name.
fn pointers(target: &Target, query: &SourceQuery, plan: &Plan, shape: &Shape) -> Vec<Pointer> {
    let cells = target.columns.iter().zip(&plan.cells);
    let named = cells.filter_map(|(column, cell)| {
        let (table, names, by, row) = match *cell {
            CellPlan::Value(_) => return None,
            CellPlan::Lookup { lookup, .. } => {
                let lookup = shape.lookups.get(lookup)?;
                (&lookup.table, lookup.value.as_str(), Some(&lookup.by), None)
            }
            CellPlan::Row { target, slot } => {
                let slot = slot.and_then(|slot| query.select.get(slot));
                let slot = slot.map(|(_, expression)| expression.clone());
                let row = NamedRow { target, slot };
                let target = shape.targets.get(target)?;
                (&target.table, target.id_column()?, None, Some(row))
            }
        };
        Some(Pointer {
            target: shape.targets.len(),
            column: column.clone(),
            table: table.clone(),
            names: names.to_owned(),
            by: by.cloned(),
            row,
        })
    });
    named.collect()
}

/// Of the mapping as it was read, without its revision.
fn fingerprint(config: &MappingConfig) -> Option<Fingerprint> {
    let mut read = serde_json::to_value(config).ok()?;
    read.as_object_mut()?.remove("revision");
    Some(Fingerprint::of(&canonical(&read)))
}

/// JSON with sorted fields, without those that say nothing: an unused field of a later release
/// changes no text.
fn canonical(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields
                .iter()
                .map(|(name, value)| (name, canonical(value)))
                .filter(|(_, text)| !matches!(text.as_str(), "null" | "{}"))
                .collect();
            let fields: Vec<String> = fields
                .into_iter()
                .map(|(name, text)| format!("{name:?}:{text}"))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        serde_json::Value::Array(items) => {
            let items: Vec<String> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        value => value.to_string(),
    }
}

impl Mapping for TomlMapping {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn image(&self, _key: &Key, rows: &SourceRows) -> Result<Image, MappingError> {
        let mut image = Image::empty(self.shape.targets.len());
        for ((plan, read), written) in self.plans.iter().zip(&rows.queries).zip(&mut image.targets)
        {
            for row in read {
                written.extend(image_row(plan, row)?);
            }
        }
        Ok(image)
    }

    fn is_declared(&self) -> bool {
        true
    }
}

fn image_row(plan: &Plan, row: &SourceRow) -> Result<Option<ImageRow>, MappingError> {
    let value = |index: usize| {
        row.values()
            .get(index)
            .ok_or_else(|| MappingError::new("the query answered too few columns"))
    };
    let mut cells = Vec::with_capacity(plan.cells.len());
    for cell in &plan.cells {
        cells.push(match *cell {
            CellPlan::Value(index) => Cell::Value(value(index)?.clone()),
            CellPlan::Lookup { lookup, by } => Cell::Lookup {
                lookup,
                by: value(by)?.clone(),
            },
            CellPlan::Row { target, slot } => {
                let slot = slot
                    .map(value)
                    .transpose()?
                    .map(slot_text)
                    .unwrap_or_default();
                Cell::Row { target, slot }
            }
        });
    }
    let unknown = |position: &usize| matches!(cells.get(*position), Some(Cell::Value(Value::Null)));
    if plan.identity.iter().any(unknown) {
        return Ok(None);
    }
    Ok(Some(ImageRow {
        slot: slot_text(value(0)?),
        cells,
    }))
}

fn slot_text(value: &Value) -> String {
    match value {
        Value::Text(text) | Value::Decimal(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Boolean(value) => value.to_string(),
        Value::Float(number) => number.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTINGS: &str = r#"
        revision = 1
        root = { table = "listings", key = ["id"] }
        lookup.provider = { table = "providers", by = "tenant_id", value = "id" }

        [[target]]
        name = "address"
        table = "addresses"
        shared_by = ["street"]
        id = "id"
        columns = { street = "trim(street)" }

        [[target]]
        table = "service_listings"
        owned_by = { key = ["legacy_id"] }
        id = "id"
        [target.columns]
        legacy_id = "id"
        provider_id = { lookup = "provider", by = "tenant_id" }
        address_id = { row = "address" }
    "#;

    fn field_of(text: &str) -> String {
        match text.parse::<TomlMapping>() {
            Err(BadMapping::Field { field, .. }) => field,
            Err(BadMapping::Toml(message)) => message,
            Ok(_) => "no error".into(),
        }
    }

    #[test]
    fn a_fingerprint_is_of_what_was_read() -> Result<(), Box<dyn std::error::Error>> {
        let of = |text: &str| -> Result<String, BadMapping> {
            let fingerprint = text.parse::<TomlMapping>()?.shape.fingerprint;
            Ok(fingerprint
                .map(|found| found.to_string())
                .unwrap_or_default())
        };
        // A release that finds another one here stops every deployment of the one before.
        assert_eq!(of(LISTINGS)?, "d00062db2729ba4f");
        let same = [
            LISTINGS.replace("revision = 1", "revision = 2"),
            LISTINGS.replace(
                "id = \"id\"\n        [",
                "# the id\n        id = \"id\"\n        [",
            ),
            LISTINGS
                .replace("        legacy_id = \"id\"\n", "")
                .replace(
                    "row = \"address\" }",
                    "row = \"address\" }\n        legacy_id = 'id'",
                ),
        ];
        for text in same {
            assert_ne!(text, LISTINGS);
            assert_eq!(of(&text)?, of(LISTINGS)?, "{text}");
        }
        let other = [
            ("trim(street)", "street"),
            ("by = \"tenant_id\" }", "by = \"owner_id\" }"),
            ("table = \"addresses\"", "table = \"places\""),
            ("key = [\"id\"]", "key = [\"number\"]"),
            (
                "shared_by = [\"street\"]",
                "shared_by = [\"street\"]\n        where = \"true\"",
            ),
        ];
        for (from, to) in other {
            let text = LISTINGS.replace(from, to);
            assert_ne!(of(&text)?, of(LISTINGS)?, "{text}");
        }
        Ok(())
    }

    #[test]
    fn rows_become_an_image() -> Result<(), Box<dyn std::error::Error>> {
        let mapping: TomlMapping = LISTINGS.parse()?;
        let shape = mapping.shape();
        let rows = |values: [&[Value]; 2]| SourceRows {
            queries: shape
                .queries
                .iter()
                .zip(values)
                .map(|(query, values)| {
                    let names = query.select.iter().map(|(name, _)| name.clone()).collect();
                    vec![SourceRow::new(names, values.to_vec())]
                })
                .collect(),
        };
        let text = |text: &str| Value::Text(text.into());
        let listing = [text(""), Value::Null, Value::Integer(7), Value::Integer(3)];
        // Columns stand in name order: address_id, legacy_id, provider_id.
        let listing = [&listing[..1], &listing[2..]].concat();
        let image = mapping.image(
            &Key::from(7),
            &rows([&[text(""), text("Mill Lane")], &listing]),
        )?;
        assert_eq!(
            image.targets[1][0].cells,
            [
                Cell::Row {
                    target: 0,
                    slot: String::new()
                },
                Cell::Value(Value::Integer(7)),
                Cell::Lookup {
                    lookup: 0,
                    by: Value::Integer(3)
                },
            ]
        );
        let nowhere = mapping.image(&Key::from(7), &rows([&[text(""), Value::Null], &listing]))?;
        assert!(
            nowhere.targets[0].is_empty(),
            "a shared row without identity is not written"
        );
        Ok(())
    }

    #[test]
    fn mistakes_name_their_field() {
        let change = |from: &str, to: &str| LISTINGS.replace(from, to);
        assert!(field_of(&change("revision = 1", "revision = 1\nrevison = 2")).contains("revison"));
        assert_eq!(
            field_of(&change("revision = 1", "revision = 0")),
            "revision"
        );
        assert_eq!(
            field_of(&change("lookup = \"provider\"", "lookup = \"none\"")),
            "target \"service_listings\".columns.provider_id"
        );
        assert_eq!(
            field_of(&change("row = \"address\"", "row = \"nowhere\"")),
            "target \"service_listings\".columns.address_id"
        );
        assert_eq!(
            field_of(&change(
                "shared_by = [\"street\"]",
                "shared_by = [\"city\"]"
            )),
            "target \"address\".shared_by"
        );
        assert_eq!(
            field_of(&change("key = [\"legacy_id\"]", "key = [\"a\", \"b\"]")),
            "target \"service_listings\".owned_by"
        );
        assert!(
            field_of(&change(
                "by = \"tenant_id\" }\n        address",
                "via = \"x\" }\n        address"
            ))
            .contains("via")
        );
    }
}
