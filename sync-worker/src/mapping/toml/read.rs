//! From a mapping as it is typed to its shape and plans.

use super::config::{
    ColumnConfig, MappingConfig, OwnedBy, ReferenceConfig, SourceConfig, TargetConfig,
};
use super::{BadMapping, CellPlan, Plan};
use crate::mapping::{Belongs, Identity, KeyExpression, Ownership, Shape, SourceQuery, Target};

pub(super) fn bad<T>(
    field: impl Into<String>,
    problem: impl Into<String>,
) -> Result<T, BadMapping> {
    Err(BadMapping::Field {
        field: field.into(),
        problem: problem.into(),
    })
}

pub(super) fn check_head(config: &MappingConfig) -> Result<(), BadMapping> {
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

pub(super) fn source_key(
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

pub(super) fn read_target(
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
        name: name.clone(),
        fills: Some(shape.targets.len()),
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
