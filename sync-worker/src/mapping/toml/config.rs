//! A mapping as it is typed.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Serialize};

/// An entity's mapping as typed. Unknown fields are errors.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MappingConfig {
    pub(super) revision: i64,
    pub(super) root: RootConfig,
    #[serde(default)]
    pub(super) source: BTreeMap<String, SourceConfig>,
    #[serde(default)]
    pub(super) lookup: BTreeMap<String, LookupConfig>,
    #[serde(default)]
    pub(super) target: Vec<TargetConfig>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RootConfig {
    pub(super) table: String,
    pub(super) key: Vec<String>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceConfig {
    pub(super) key: Option<Vec<String>>,
    pub(super) keys: Option<String>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LookupConfig {
    pub(super) table: String,
    pub(super) by: String,
    pub(super) value: String,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TargetConfig {
    pub(super) name: Option<String>,
    pub(super) table: String,
    pub(super) owned_by: Option<OwnedBy>,
    pub(super) shared_by: Option<Vec<String>>,
    pub(super) identity: Option<Vec<String>>,
    pub(super) id: Option<String>,
    pub(super) from: Option<String>,
    pub(super) key: Option<Vec<String>>,
    #[serde(rename = "where")]
    pub(super) filter: Option<String>,
    pub(super) slot: Option<String>,
    pub(super) columns: BTreeMap<String, ColumnConfig>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OwnedBy {
    pub(super) key: Option<Vec<String>>,
    pub(super) row: Option<String>,
    pub(super) column: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(super) enum ColumnConfig {
    Expression(String),
    Reference(ReferenceConfig),
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReferenceConfig {
    pub(super) lookup: Option<String>,
    pub(super) by: Option<String>,
    pub(super) row: Option<String>,
    pub(super) slot: Option<String>,
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
