//! What stamps a write on PostgreSQL: the function of a table's trigger, and those by which dependants are found.

use std::fmt::Write as _;

use super::Postgres;
use super::triggers::{NOT_A_FOLLOWER, function, trigger, truncate};
use crate::dialect::Dialect;
use crate::dialect::install::{Stamp, replace_row, row_columns};
use crate::mapping::KeyExpression;

pub(super) fn stamp(dialect: &Postgres, stamp: &Stamp<'_>) -> Vec<String> {
    let (entity, place, index) = (stamp.entity, stamp.place, stamp.index);
    let table = dialect.table(&stamp.table.name);
    let keys = keys(dialect, stamp);
    let stamps = stamp_both(dialect, stamp);
    let mut body = format!(
        "BEGIN
  IF pg_catalog.current_setting('changeover.copy', true) OPERATOR(pg_catalog.=) 'on' THEN
    RAISE EXCEPTION 'changeover: % is the authority of {entity} and takes no copies', TG_TABLE_NAME
      USING ERRCODE = '{NOT_A_FOLLOWER}';
  END IF;
  {stamps};
"
    );
    let mut script = vec![format!("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")];
    if let KeyExpression::Query(query) = stamp.key {
        let columns = row_columns(query);
        for (record, unless) in [("OLD", "INSERT"), ("NEW", "DELETE")] {
            let fields: Vec<String> = columns
                .iter()
                .map(|name| {
                    format!(
                        "'{}', {record}.{}",
                        name.replace('\'', "''"),
                        dialect.quote(name)
                    )
                })
                .collect();
            let _ = writeln!(
                body,
                "  IF TG_OP <> '{unless}' THEN INSERT INTO changeover_expand (entity, place, source, source_row) \
                 VALUES ('{entity}', '{place}', {index}, jsonb_build_object({})); END IF;",
                fields.join(", ")
            );
        }
        let dependants = format!("changeover_dependants_{place}_{entity}_{index}");
        let declare = format!(
            "DECLARE r {table}; BEGIN r := jsonb_populate_record(NULL::{table}, source_row);"
        );
        script.push(function(
            dialect,
            &format!("{dependants}(source_row jsonb)"),
            "SETOF text",
            &format!("{declare}\n  RETURN QUERY {}; END", keys("r")),
        ));
        let expand = format!("changeover_expand_{place}_{entity}_{index}");
        script.push(function(
            dialect,
            &format!("{expand}(source_row jsonb)"),
            "void",
            &format!(
                "BEGIN {}; END",
                raise_all(
                    stamp,
                    &format!("SELECT key FROM {dependants}(source_row) AS k(key)")
                )
            ),
        ));
        // Unlike a trigger's function these can be called, with their owner's rights.
        script.push(format!(
            "REVOKE ALL ON FUNCTION {expand}(jsonb), {dependants}(jsonb) FROM PUBLIC"
        ));
    }
    body.push_str("  RETURN NULL;\nEND");
    let name = format!("changeover_stamp_{place}_{entity}_{index}");
    script.push(match stamp.key {
        KeyExpression::Columns(_) => unpinned(&format!("{name}()"), &body),
        KeyExpression::Query(_) => function(dialect, &format!("{name}()"), "trigger", &body),
    });
    script.push(trigger(
        &name,
        &table,
        "AFTER INSERT OR UPDATE OR DELETE",
        "ROW",
        &name,
    ));
    script.push(truncate(dialect, entity, place, index, &table));
    script.push(trigger(
        &format!("changeover_truncate_{place}_{entity}_{index}"),
        &table,
        "BEFORE TRUNCATE",
        "STATEMENT",
        &format!("changeover_truncate_{place}_{entity}_{index}"),
    ));
    script
}

/// What a trigger does for the keys of the old record and of the new one.
fn stamp_both(dialect: &Postgres, stamp: &Stamp<'_>) -> String {
    let keys = keys(dialect, stamp);
    let both = raise_all(stamp, &format!("{} UNION {}", keys("OLD"), keys("NEW")));
    let KeyExpression::Columns(columns) = stamp.key else {
        return both;
    };
    // Most writes leave a key as it is: to find it in a set took a fifth of a stamp's time.
    let (old, new) = (
        key_of(dialect, columns, "OLD"),
        key_of(dialect, columns, "NEW"),
    );
    let (entity, place, base) = (stamp.entity, stamp.place, stamp.base);
    let first = base + 1;
    let one = raise(
        stamp,
        &format!("VALUES ('{entity}', '{place}', {new}, {first})"),
    );
    format!(
        "IF coalesce({old}, {new}) COLLATE pg_catalog.\"C\" OPERATOR(pg_catalog.=) {new} THEN
  {one};
  ELSE
  {both};
  END IF"
    )
}

/// Raises the versions of every key that the query lists, in the keys' order.
fn raise_all(stamp: &Stamp<'_>, keys: &str) -> String {
    let (entity, place, first) = (stamp.entity, stamp.place, stamp.base + 1);
    raise(
        stamp,
        &format!(
            "SELECT '{entity}', '{place}', d.key, {first} FROM ({keys}) d WHERE d.key IS NOT NULL ORDER BY d.key"
        ),
    )
}

/// Inserts rows of entity, place, key and version, or raises the versions that stand there.
fn raise(stamp: &Stamp<'_>, rows: &str) -> String {
    let base = stamp.base;
    let schema = match stamp.key {
        KeyExpression::Columns(_) => format!("{SCHEMA}."),
        KeyExpression::Query(_) => String::new(),
    };
    format!(
        "INSERT INTO {schema}changeover_key AS c (entity, place, key, version)
    {rows}
  ON CONFLICT (entity, place, key) DO UPDATE
    SET version = greatest(c.version, {base}) OPERATOR(pg_catalog.+) 1, state = 'ok', reason = NULL"
    )
}

/// The keys of one record, as a query of one column named `key`.
fn keys<'a>(dialect: &'a Postgres, stamp: &'a Stamp<'_>) -> impl Fn(&str) -> String + 'a {
    move |record| match stamp.key {
        KeyExpression::Columns(columns) => {
            format!("SELECT {} AS key", key_of(dialect, columns, record))
        }
        KeyExpression::Query(query) => {
            let names: Vec<String> = (0..stamp.root.key.len()).map(|n| format!("c{n}")).collect();
            let query = replace_row(query, |column| {
                format!("{record}.{}", dialect.quote(column))
            });
            format!(
                "SELECT {} AS key FROM ({query}) AS q({})",
                dialect.key_text(
                    &names
                        .iter()
                        .map(|name| format!("q.{name}"))
                        .collect::<Vec<_>>()
                ),
                names.join(", ")
            )
        }
    }
}

/// The key that these columns of a record hold.
fn key_of(dialect: &Postgres, columns: &[String], record: &str) -> String {
    let columns: Vec<String> = columns
        .iter()
        .map(|column| format!("{record}.{}", dialect.quote(column)))
        .collect();
    dialect.key_text(&columns)
}

/// What stands in a function's text for the product's own schema.
const SCHEMA: &str = "{changeover_schema}";

/// A trigger's function in whose text no name depends on the search path, which is its caller's. It reads and writes
/// the product's own table alone, on which a policy that hides a row is an error of the `INSERT`.
fn unpinned(signature: &str, body: &str) -> String {
    format!(
        "DO $install$ BEGIN EXECUTE replace($function$CREATE OR REPLACE FUNCTION {signature} RETURNS trigger LANGUAGE plpgsql \
SECURITY DEFINER AS $changeover$\n{body};\n$changeover$$function$, '{SCHEMA}', quote_ident(current_schema())); END $install$"
    )
}
