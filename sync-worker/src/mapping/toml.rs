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
use std::fmt;

use changeover_flags::Key;
use changeover_shadow::Value;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use thiserror::Error;

use super::{
    Belongs, Identity, KeyExpression, Lookup, Mapping, MappingError, Ownership, Root, Shape,
    Source, SourceQuery, SourceRow, SourceRows, Target,
};
use crate::image::{Cell, Image, ImageRow};

/// An entity's mapping as typed. Unknown fields are errors.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappingConfig {
    revision: i64,
    root: RootConfig,
    #[serde(default)]
    source: BTreeMap<String, SourceConfig>,
    #[serde(default)]
    lookup: BTreeMap<String, LookupConfig>,
    #[serde(default)]
    target: Vec<TargetConfig>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RootConfig {
    table: String,
    key: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceConfig {
    key: Option<Vec<String>>,
    keys: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct LookupConfig {
    table: String,
    by: String,
    value: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetConfig {
    name: Option<String>,
    table: String,
    owned_by: Option<OwnedBy>,
    shared_by: Option<Vec<String>>,
    identity: Option<Vec<String>>,
    id: Option<String>,
    from: Option<String>,
    key: Option<Vec<String>>,
    #[serde(rename = "where")]
    filter: Option<String>,
    slot: Option<String>,
    columns: BTreeMap<String, ColumnConfig>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnedBy {
    key: Option<Vec<String>>,
    row: Option<String>,
    column: Option<String>,
}

#[derive(Debug, Clone)]
enum ColumnConfig {
    Expression(String),
    Reference(ReferenceConfig),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReferenceConfig {
    lookup: Option<String>,
    by: Option<String>,
    row: Option<String>,
    slot: Option<String>,
}

impl<'de> Deserialize<'de> for ColumnConfig {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Column;
        impl<'de> Visitor<'de> for Column {
            type Value = ColumnConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an SQL expression, { lookup, by } or { row, slot }")
            }

            fn visit_str<E>(self, text: &str) -> Result<ColumnConfig, E> {
                Ok(ColumnConfig::Expression(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ColumnConfig, A::Error> {
                ReferenceConfig::deserialize(MapAccessDeserializer::new(map))
                    .map(ColumnConfig::Reference)
            }
        }
        deserializer.deserialize_any(Column)
    }
}

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
            shape.targets.push(target);
            shape.queries.push(query);
            plans.push(plan);
        }
        Ok(TomlMapping { shape, plans })
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

fn bad<T>(field: impl Into<String>, problem: impl Into<String>) -> Result<T, BadMapping> {
    Err(BadMapping::Field {
        field: field.into(),
        problem: problem.into(),
    })
}

fn check_head(config: &MappingConfig) -> Result<(), BadMapping> {
    if config.revision < 1 {
        return bad(
            "revision",
            "must be at least 1; raise it whenever the mapping changes",
        );
    }
    check_names(config)?;
    if config.root.key.is_empty() {
        return bad("root.key", "name the columns of the root table's key");
    }
    if config.target.is_empty() {
        return bad("target", "name at least one table to write, as [[target]]");
    }
    Ok(())
}

/// Names that no database takes.
fn check_names(config: &MappingConfig) -> Result<(), BadMapping> {
    let root = std::iter::once(("root.table".to_owned(), &config.root.table)).chain(
        config
            .root
            .key
            .iter()
            .map(|name| ("root.key".to_owned(), name)),
    );
    let sources = config
        .source
        .keys()
        .map(|name| (format!("source.{name}"), name));
    let lookups = config
        .lookup
        .iter()
        .map(|(name, l)| (format!("lookup.{name}.table"), &l.table));
    let targets = config.target.iter().flat_map(|target| {
        let field = format!("target {:?}", target.name.as_ref().unwrap_or(&target.table));
        let columns = format!("{field}.columns");
        std::iter::once((format!("{field}.table"), &target.table)).chain(
            target
                .columns
                .keys()
                .map(move |name| (columns.clone(), name)),
        )
    });
    for (field, name) in root.chain(sources).chain(lookups).chain(targets) {
        if name.trim().is_empty() || name.contains('\0') {
            return bad(
                field,
                format!("{name:?} is not a name: write the name of a table or column"),
            );
        }
    }
    Ok(())
}

fn source_key(
    table: &str,
    source: &SourceConfig,
    shape: &Shape,
) -> Result<KeyExpression, BadMapping> {
    let field = format!("source.{table}");
    match (&source.key, &source.keys) {
        (Some(columns), None) if columns.len() == shape.root.key.len() => {
            Ok(KeyExpression::Columns(columns.clone()))
        }
        (Some(_), None) => bad(
            format!("{field}.key"),
            format!("name {} columns, as root.key does", shape.root.key.len()),
        ),
        (None, Some(query)) if query.contains("$row.") => Ok(KeyExpression::Query(query.clone())),
        (None, Some(_)) => bad(
            format!("{field}.keys"),
            "the query names no $row.column: it must depend on the row that was written",
        ),
        _ => bad(
            field,
            "say either key = [columns] or keys = \"SELECT … $row.column …\"",
        ),
    }
}

fn read_target(
    config: &TargetConfig,
    shape: &Shape,
) -> Result<(Target, SourceQuery, Plan), BadMapping> {
    let name = config.name.clone().unwrap_or_else(|| config.table.clone());
    let field = format!("target {name:?}");
    if shape.targets.iter().any(|target| target.name == name) {
        return bad(field, "stands twice; give one of them another name");
    }
    if config.columns.is_empty() {
        return bad(format!("{field}.columns"), "name at least one column");
    }
    let mut select = vec![(
        "slot".to_owned(),
        config.slot.clone().unwrap_or_else(|| "''".into()),
    )];
    let mut cells = Vec::new();
    for (column, source) in &config.columns {
        let place = format!("{field}.columns.{column}");
        // What a reference asks by is not the column's value: it bears another name, and no type
        // of the column is expected of it.
        let mut expression = |text: &str, what: &str| {
            select.push((format!("{column}{what}"), text.to_owned()));
            select.len() - 1
        };
        cells.push(match source {
            ColumnConfig::Expression(text) => CellPlan::Value(expression(text, "")),
            ColumnConfig::Reference(ReferenceConfig {
                lookup: Some(lookup),
                by: Some(by),
                row: None,
                slot: None,
            }) => match shape.lookups.iter().position(|known| known.name == *lookup) {
                Some(lookup) => CellPlan::Lookup {
                    lookup,
                    by: expression(by, ".by"),
                },
                None => return bad(place, format!("there is no [lookup.{lookup}]")),
            },
            ColumnConfig::Reference(ReferenceConfig {
                row: Some(row),
                slot,
                lookup: None,
                by: None,
            }) => match shape.targets.iter().position(|known| known.name == *row) {
                Some(target)
                    if shape
                        .targets
                        .get(target)
                        .and_then(Target::id_column)
                        .is_some() =>
                {
                    CellPlan::Row {
                        target,
                        slot: slot.as_deref().map(|slot| expression(slot, ".slot")),
                    }
                }
                Some(_) => return bad(place, format!("target {row:?} has no id to refer to")),
                None => return bad(place, format!("no target {row:?} stands before this one")),
            },
            ColumnConfig::Reference(_) => {
                return bad(place, "say { lookup, by } or { row } or { row, slot }");
            }
        });
    }
    let columns: Vec<String> = config.columns.keys().cloned().collect();
    if let (Some(_), Some(id)) = (&config.owned_by, &config.id)
        && columns.contains(id)
    {
        return bad(
            format!("{field}.id"),
            format!(
                "column {id:?} is mapped, so nothing is to be generated: say identity = [{id:?}]"
            ),
        );
    }
    let ownership = ownership(config, &field, &columns, shape)?;
    let identity = match &ownership {
        Ownership::Shared { identity, .. } => columns
            .iter()
            .enumerate()
            .filter(|(_, c)| identity.contains(c))
            .map(|(n, _)| n)
            .collect(),
        Ownership::Owned { .. } => Vec::new(),
    };
    let key = config.key.clone().unwrap_or_else(|| shape.root.key.clone());
    if key.len() != shape.root.key.len() {
        return bad(
            format!("{field}.key"),
            "give one expression per component of root.key",
        );
    }
    let query = SourceQuery {
        select,
        from: config
            .from
            .clone()
            .unwrap_or_else(|| shape.root.table.clone()),
        key,
        filter: config.filter.clone(),
    };
    let target = Target {
        name,
        table: config.table.clone(),
        columns,
        ownership,
    };
    Ok((target, query, Plan { cells, identity }))
}

fn ownership(
    config: &TargetConfig,
    field: &str,
    columns: &[String],
    shape: &Shape,
) -> Result<Ownership, BadMapping> {
    let mapped = |what: &str, names: &[String]| match names.iter().find(|n| !columns.contains(n)) {
        Some(name) => bad(
            format!("{field}.{what}"),
            format!("column {name:?} is not among the columns"),
        ),
        None => Ok(()),
    };
    match (&config.owned_by, &config.shared_by) {
        (None, Some(identity)) => {
            mapped("shared_by", identity)?;
            Ok(Ownership::Shared {
                identity: identity.clone(),
                id: config.id.clone(),
            })
        }
        (Some(owned), None) => {
            let identity = match (&config.identity, &config.id) {
                (Some(identity), None) => {
                    mapped("identity", identity)?;
                    Identity::Columns(identity.clone())
                }
                (None, Some(id)) => Identity::Generated(id.clone()),
                _ => {
                    return bad(
                        field,
                        "say either id = \"column\" (generated) or identity = [mapped columns]",
                    );
                }
            };
            Ok(Ownership::Owned {
                belongs: belongs(owned, field, columns, shape)?,
                identity,
            })
        }
        _ => bad(
            field,
            "say either owned_by = { key = [columns] } or shared_by = [columns]",
        ),
    }
}

fn belongs(
    owned: &OwnedBy,
    field: &str,
    columns: &[String],
    shape: &Shape,
) -> Result<Belongs, BadMapping> {
    let field = format!("{field}.owned_by");
    if let Some(column) = owned
        .column
        .as_ref()
        .filter(|column| !columns.contains(column))
    {
        return bad(field, format!("column {column:?} is not among the columns"));
    }
    match (&owned.key, &owned.row, &owned.column) {
        (Some(key), None, None) if key.len() == shape.root.key.len() => {
            match key.iter().find(|name| !columns.contains(name)) {
                Some(name) => bad(field, format!("column {name:?} is not among the columns")),
                None => Ok(Belongs::Key(key.clone())),
            }
        }
        (Some(_), None, None) => bad(field, "name one column per component of root.key"),
        (None, Some(_), Some(column)) if !columns.contains(column) => {
            bad(field, format!("column {column:?} is not among the columns"))
        }
        (None, Some(row), Some(column)) => {
            let owner = shape.targets.iter().position(|target| target.name == *row);
            match owner {
                Some(target)
                    if shape
                        .targets
                        .get(target)
                        .is_some_and(|t| t.is_owned() && t.id_column().is_some()) =>
                {
                    Ok(Belongs::Row {
                        column: column.clone(),
                        target,
                    })
                }
                _ => bad(
                    field,
                    format!("no owned target {row:?} with an id stands before this one"),
                ),
            }
        }
        _ => bad(
            field,
            "say { key = [columns] } or { row = \"target\", column = \"column\" }",
        ),
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
