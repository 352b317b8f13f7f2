//! The product's tables and triggers on SQLite.
//!
//! A copy marks itself by a row in `changeover_copying`, written and deleted within its own
//! transaction: with one writer no other transaction can ever see it, and a crash rolls it back.
//!
//! `INSERT OR REPLACE` removes another row that holds the same unique value without firing delete
//! triggers (unless `recursive_triggers` is on), so a trigger before each insert and update stamps
//! the keys of the rows that would be displaced: see [`replace`](super::replace).

use changeover_flags::Version;
use changeover_shadow::Value;

use super::{Sqlite, replace};
use crate::dialect::install::{Guard, Reject, Stamp, replace_row};
use crate::dialect::session::{DbError, Session};
use crate::dialect::statement::Statement;
use crate::dialect::{Dialect, tables};
use crate::mapping::KeyExpression;

/// Nothing switches them off.
pub(super) const STANDING: &str = "SELECT name, lower(tbl_name), 1 FROM sqlite_schema WHERE type = 'trigger' AND name GLOB 'changeover_*'";

pub(super) fn create_tables() -> Vec<String> {
    vec![
        "CREATE TABLE IF NOT EXISTS changeover_key (
  entity TEXT NOT NULL, place TEXT NOT NULL, key TEXT NOT NULL,
  version INTEGER NOT NULL, synced INTEGER NOT NULL DEFAULT -1,
  state TEXT NOT NULL DEFAULT 'ok', reason TEXT, PRIMARY KEY (entity, place, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS changeover_dirty ON changeover_key (entity, place, key) WHERE synced < version;
CREATE TABLE IF NOT EXISTS changeover_epoch (
  entity TEXT NOT NULL, place TEXT NOT NULL, epoch INTEGER NOT NULL, authority TEXT NOT NULL,
  moving_to TEXT, copying INTEGER NOT NULL, incarnation INTEGER NOT NULL, revision INTEGER NOT NULL, mapping INTEGER,
  backfilled INTEGER NOT NULL, verified INTEGER NOT NULL, doubts INTEGER NOT NULL DEFAULT 0, load_began INTEGER, loaded INTEGER,
  PRIMARY KEY (entity, place)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS changeover_id (
  entity TEXT NOT NULL, place TEXT NOT NULL, key TEXT NOT NULL, target TEXT NOT NULL, slot TEXT NOT NULL,
  target_table TEXT NOT NULL, id NOT NULL, PRIMARY KEY (entity, place, key, target, slot)) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS changeover_id_of ON changeover_id (place, target_table, id);
CREATE TABLE IF NOT EXISTS changeover_backfill (
  entity TEXT NOT NULL, place TEXT NOT NULL, revision INTEGER NOT NULL, cursor TEXT,
  passed INTEGER NOT NULL, done INTEGER NOT NULL, loading INTEGER NOT NULL DEFAULT 0,
  part INTEGER NOT NULL DEFAULT 0, upto TEXT, PRIMARY KEY (entity, place, part)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS changeover_copying (entity TEXT NOT NULL)"
            .to_owned(),
    ]
}

pub(super) const PAST: &str = "CREATE TABLE IF NOT EXISTS changeover_past (
  entity TEXT NOT NULL, place TEXT NOT NULL, incarnation INTEGER NOT NULL, PRIMARY KEY (entity, place)) WITHOUT ROWID";

/// Holds while a copy's own transaction runs, and never for anybody else.
const COPYING: &str = "EXISTS (SELECT 1 FROM changeover_copying)";

pub(super) fn stamp(dialect: &Sqlite, stamp: &Stamp<'_>) -> Vec<String> {
    let Stamp {
        entity,
        place,
        index,
        ..
    } = *stamp;
    let table = dialect.table(&stamp.table.name);
    let name = |event: &str| format!("changeover_stamp_{place}_{entity}_{index}_{event}");
    let mut script = Vec::new();
    for (event, records) in [
        ("insert", &["NEW"][..]),
        ("update", &["OLD", "NEW"][..]),
        ("delete", &["OLD"][..]),
    ] {
        let keys: Vec<String> = records
            .iter()
            .map(|record| keys(dialect, stamp, record))
            .collect();
        script.push(format!("DROP TRIGGER IF EXISTS {}", name(event)));
        script.push(format!(
            "CREATE TRIGGER {} AFTER {event} ON {table} BEGIN
  SELECT RAISE(ABORT, 'changeover: this table is the authority of {entity} and takes no copies') WHERE {COPYING};
  {};
END",
            name(event),
            upsert(stamp, &keys.join(" UNION "))
        ));
    }
    for (event, timing) in [("replace_insert", "INSERT"), ("replace_update", "UPDATE")] {
        script.push(format!("DROP TRIGGER IF EXISTS {}", name(event)));
        let displaced = replace::displaced(dialect, stamp, timing);
        if !displaced.is_empty() {
            script.push(format!(
                "CREATE TRIGGER {} BEFORE {timing} ON {table} BEGIN {}; END",
                name(event),
                upsert(stamp, &displaced.join(" UNION "))
            ));
        }
    }
    script
}

/// One version more for each of `keys`. The conflict clause wins over an `OR REPLACE` or
/// `OR IGNORE` of the statement that fired the trigger.
fn upsert(stamp: &Stamp<'_>, keys: &str) -> String {
    let Stamp { entity, place, .. } = *stamp;
    let base = format!(
        "(SELECT incarnation << {} FROM changeover_epoch WHERE entity = '{entity}' AND place = '{place}')",
        Version::COUNTER_BITS
    );
    format!(
        "INSERT INTO changeover_key (entity, place, key, version)
    SELECT '{entity}', '{place}', d.key, {base} + 1 FROM ({keys}) d WHERE d.key IS NOT NULL
  ON CONFLICT (entity, place, key) DO UPDATE
    SET version = max(changeover_key.version, {base}) + 1, state = 'ok', reason = NULL"
    )
}

/// The keys of one record, as a query of one column named `key`.
fn keys(dialect: &Sqlite, stamp: &Stamp<'_>, record: &str) -> String {
    let field = |column: &str| format!("{record}.{}", dialect.quote(column));
    match stamp.key {
        KeyExpression::Columns(columns) => {
            let columns: Vec<String> = columns.iter().map(|column| field(column)).collect();
            format!("SELECT {} AS key", dialect.key_text(&columns))
        }
        KeyExpression::Query(query) => {
            let names: Vec<String> = (0..stamp.root.key.len()).map(|n| format!("c{n}")).collect();
            let nothing: Vec<String> = names.iter().map(|name| format!("NULL AS {name}")).collect();
            format!(
                "SELECT {} AS key FROM (SELECT {} WHERE 0 UNION ALL {})",
                dialect.key_text(&names),
                nothing.join(", "),
                replace_row(query, field)
            )
        }
    }
}

pub(super) fn reject(dialect: &Sqlite, reject: &Reject<'_>) -> Vec<String> {
    let Reject {
        entity,
        place,
        index,
        ..
    } = *reject;
    let table = dialect.table(&reject.table.name);
    let list = |columns: &[String]| {
        columns
            .iter()
            .map(|column| dialect.quote(column))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (events, when) = match reject.guard {
        Guard::Owned => (
            vec![
                "INSERT".to_owned(),
                "UPDATE".to_owned(),
                "DELETE".to_owned(),
            ],
            format!(" WHEN NOT {COPYING}"),
        ),
        Guard::Shared(columns) => (
            vec![format!("UPDATE OF {}", list(columns)), "DELETE".to_owned()],
            format!(" WHEN NOT {COPYING}"),
        ),
        Guard::Lookup(columns) => (
            vec![format!("UPDATE OF {}", list(columns)), "DELETE".to_owned()],
            String::new(),
        ),
    };
    let mut script = Vec::new();
    for event in events {
        let word = event
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let name = format!("changeover_reject_{place}_{entity}_{index}_{word}");
        script.push(format!("DROP TRIGGER IF EXISTS {name}"));
        script.push(format!(
            "CREATE TRIGGER {name} BEFORE {event} ON {table}{when} BEGIN
  SELECT RAISE(ABORT, 'changeover: this table is the follower of {entity} and takes copies alone');
END"
        ));
    }
    script
}

pub(super) async fn drop_objects(
    dialect: &Sqlite,
    session: &mut dyn Session,
    entity: &str,
    place: &str,
) -> Result<Vec<String>, DbError> {
    let known = |kind: &str, pattern: &str| {
        Statement::of(dialect, "SELECT name FROM sqlite_schema WHERE type = ")
            .text(kind)
            .sql(" AND name GLOB ")
            .text(pattern)
    };
    if session
        .fetch(known("table", tables::EPOCH))
        .await?
        .is_empty()
    {
        return Ok(Vec::new());
    }
    let mut script = Vec::new();
    for kind in ["stamp", "reject"] {
        let pattern = format!("changeover_{kind}_{place}_{entity}_[0-9]*");
        for row in session.fetch(known("trigger", &pattern)).await? {
            if let Some(Value::Text(name)) = row.first()
                && is_numbered(name, &format!("changeover_{kind}_{place}_{entity}_"))
            {
                script.push(format!("DROP TRIGGER {}", dialect.quote(name)));
            }
        }
    }
    for table in [tables::KEY, tables::EPOCH, tables::ID, tables::BACKFILL] {
        script.push(format!(
            "DELETE FROM {table} WHERE entity = '{entity}' AND place = '{place}'"
        ));
    }
    let others = Statement::of(
        dialect,
        "SELECT 1 FROM changeover_epoch WHERE NOT (entity = ",
    )
    .text(entity)
    .sql(" AND place = ")
    .text(place)
    .sql(")");
    if session.fetch(others).await?.is_empty() {
        for table in [
            tables::KEY,
            tables::EPOCH,
            tables::ID,
            tables::BACKFILL,
            "changeover_copying",
        ] {
            script.push(format!("DROP TABLE {table}"));
        }
    }
    Ok(script)
}

/// Whether `name` is `prefix`, one number, and the name of an event: entity `a` must not take the
/// triggers of entity `a_1` for its own.
fn is_numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix)
        .map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()))
        .and_then(|rest| rest.strip_prefix('_'))
        .is_some_and(|event| event.starts_with(|c: char| c.is_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::is_numbered;

    #[test]
    fn an_entity_takes_its_own_triggers_alone() {
        assert!(is_numbered(
            "changeover_stamp_legacy_a_1_insert",
            "changeover_stamp_legacy_a_"
        ));
        assert!(!is_numbered(
            "changeover_stamp_legacy_a_1_0_insert",
            "changeover_stamp_legacy_a_"
        ));
    }
}
