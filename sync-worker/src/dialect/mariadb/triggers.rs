//! The product's tables, triggers and procedures on MariaDB.
//!
//! A trigger does nothing as long as no row of `changeover_guard` names its entity and place: that row
//! is what switches all of an entity's triggers on, in one transaction. It holds the incarnation, so
//! raising it is one change as well, which waits for the writers that hold it shared.

use std::time::Duration;

use changeover_flags::Version;
use changeover_shadow::Value;

use super::{COPY_ON_AUTHORITY, Mariadb, key, names, rejects};
use crate::dialect::install::{Stamp, replace_row, row_columns};
use crate::dialect::probe::texts;
use crate::dialect::session::{DbError, Session};
use crate::dialect::statement::Statement;
use crate::dialect::{Dialect, tables};
use crate::mapping::KeyExpression;

/// What switches an entity's triggers on.
pub(super) const GUARD: &str = "changeover_guard";

/// What an entity's triggers do, as in their names.
const KINDS: [&str; 3] = ["stamp", "reject", "lookup"];

/// All of the product's tables but the one that outlives an uninstallation. Their rows go in this order,
/// because copies and writers in flight hold those of the first two; the tables go in the other one: while
/// the first is there, something is to be taken out.
const TABLES: [&str; 6] = [
    tables::EPOCH,
    GUARD,
    tables::KEY,
    tables::ID,
    tables::BACKFILL,
    tables::EXPAND,
];

/// Without the row that switches them on, they do nothing.
pub(super) const STANDING: &str = "SELECT trigger_name, concat(event_object_schema, '.', event_object_table), EXISTS (SELECT 1 FROM changeover_guard \
       WHERE entity = '{entity}' AND place = '{place}' AND incarnation >= 0) FROM information_schema.triggers \
     WHERE event_object_schema = database() AND trigger_name LIKE 'changeover|_%' ESCAPE '|'";

pub(super) fn create_tables() -> Vec<String> {
    let of = named();
    let text = format!("CHARACTER SET utf8mb4 COLLATE {}", key::EXACT);
    let longest = key::LONGEST;
    [
        format!(r#"CREATE TABLE IF NOT EXISTS changeover_key ({of},
  "key" varchar({longest}) {text} NOT NULL, version bigint NOT NULL, synced bigint NOT NULL DEFAULT -1,
  state varchar(16) {text} NOT NULL DEFAULT 'ok', reason longtext {text},
  dirty tinyint AS (synced < version) VIRTUAL,
  PRIMARY KEY (entity, place, "key"), KEY changeover_dirty (entity, place, dirty, "key"))"#),
        format!(r#"CREATE TABLE IF NOT EXISTS changeover_epoch ({of},
  epoch bigint NOT NULL, authority varchar(6) {text} NOT NULL, moving_to varchar(6) {text},
  copying tinyint NOT NULL, incarnation bigint NOT NULL, revision bigint NOT NULL, mapping bigint,
  backfilled tinyint NOT NULL, verified tinyint NOT NULL, doubts bigint NOT NULL DEFAULT 0,
  load_began bigint, loaded bigint, PRIMARY KEY (entity, place))"#),
        // The slot is as long as it likes, and an index is not.
        format!(r#"CREATE TABLE IF NOT EXISTS changeover_id ({of},
  "key" varchar({longest}) {text} NOT NULL, target varchar(128) {text} NOT NULL, slot longtext {text} NOT NULL,
  target_table varchar(129) {text} NOT NULL, id varchar(64) {text} NOT NULL,
  hash binary(32) AS (unhex(sha2(concat(target, char(0), slot), 256))) PERSISTENT,
  UNIQUE KEY changeover_id (entity, place, "key", hash),
  UNIQUE KEY changeover_id_of (place, target_table, id))"#),
        format!(r#"CREATE TABLE IF NOT EXISTS changeover_backfill ({of},
  revision bigint NOT NULL, "cursor" longtext {text}, passed bigint NOT NULL, done tinyint NOT NULL,
  loading tinyint NOT NULL DEFAULT 0, part integer NOT NULL DEFAULT 0, upto longtext {text},
  PRIMARY KEY (entity, place, part))"#),
        format!(r#"CREATE TABLE IF NOT EXISTS changeover_expand (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY, {of},
  source char(8) {text} NOT NULL, source_row longtext {text} NOT NULL, KEY (entity, place, id))"#),
        format!(r#"CREATE TABLE IF NOT EXISTS {GUARD} ({of},
  incarnation bigint NOT NULL, PRIMARY KEY (entity, place))"#),
    ]
    .map(|sql| format!("{sql} ENGINE=InnoDB"))
    .into()
}

pub(super) fn create_past() -> String {
    let of = named();
    format!(
        "CREATE TABLE IF NOT EXISTS changeover_past ({of}, incarnation bigint NOT NULL, PRIMARY KEY (entity, place)) ENGINE=InnoDB"
    )
}

fn named() -> String {
    let text = format!("CHARACTER SET utf8mb4 COLLATE {}", key::EXACT);
    format!("entity varchar(128) {text} NOT NULL, place varchar(6) {text} NOT NULL")
}

/// Installers queue for a lock of the connection's, since a transaction's would go with the first
/// object that is created.
pub(super) fn begin_install(lock_timeout: Duration) -> String {
    // Whole seconds, of which the server knows no parts.
    let seconds = lock_timeout.as_secs().max(1);
    format!(
        "SET SESSION lock_wait_timeout = {seconds}, innodb_lock_wait_timeout = {seconds};
         BEGIN NOT ATOMIC
           IF coalesce(GET_LOCK(concat('changeover/', md5(database())), {seconds}), 0) <> 1 THEN
             SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1205, MESSAGE_TEXT = 'another installer is at work';
           END IF;
         END;
         SET SESSION autocommit = 0"
    )
}

pub(super) fn stamp(dialect: &Mariadb, stamp: &Stamp<'_>) -> Vec<String> {
    let Stamp { entity, place, .. } = *stamp;
    let table = dialect.table(&stamp.table.name);
    let source = names::of_table(&stamp.table.name);
    // Below the base until all of them are there: what is copied meanwhile is refused as from below it.
    let below = ((stamp.base >> Version::COUNTER_BITS) - 1).max(0);
    let mut script = vec![format!(
        "INSERT INTO {GUARD} (entity, place, incarnation) VALUES ('{entity}', '{place}', {below}) \
         ON DUPLICATE KEY UPDATE incarnation = {GUARD}.incarnation"
    )];
    if let KeyExpression::Query(query) = stamp.key {
        script.push(dependants(dialect, stamp, query));
    }
    for (event, records) in [
        ("insert", &["NEW"][..]),
        ("update", &["OLD", "NEW"][..]),
        ("delete", &["OLD"][..]),
    ] {
        let keys: Vec<String> = records
            .iter()
            .map(|record| keys(dialect, stamp, record))
            .collect();
        let notes: String = records
            .iter()
            .map(|record| note(dialect, stamp, record))
            .collect();
        // Locked, because a plain read under REPEATABLE READ would answer what was there when the
        // writer began.
        script.push(format!(
            "CREATE OR REPLACE TRIGGER {prefix}{source}_{event} AFTER {event} ON {table} FOR EACH ROW BEGIN
  DECLARE changeover_base bigint;
  SELECT max(g.incarnation) << {bits} INTO changeover_base FROM {GUARD} g
    WHERE g.entity = '{entity}' AND g.place = '{place}' LOCK IN SHARE MODE;
  IF changeover_base IS NOT NULL THEN
    IF @changeover_copy IS NOT NULL THEN
      SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {COPY_ON_AUTHORITY},
        MESSAGE_TEXT = 'changeover: this table is the authority of an entity and takes no copies';
    END IF;
    INSERT INTO changeover_key (entity, place, \"key\", version)
      SELECT '{entity}', '{place}', d.\"key\", changeover_base + 1 FROM ({keys}) AS d
      WHERE d.\"key\" IS NOT NULL ORDER BY d.\"key\"
      ON DUPLICATE KEY UPDATE version = greatest(changeover_key.version, changeover_base) + 1,
        state = 'ok', reason = NULL;{notes}
  END IF;
END",
            prefix = names::prefix("stamp", place, entity),
            bits = Version::COUNTER_BITS,
            keys = keys.join(" UNION "),
        ));
    }
    script
}

/// Lifts the base of an entity's triggers, in the transaction of its epoch row: it waits for every
/// writer whose trigger has read the old one.
pub(super) fn lift(entity: &str, place: &str, base: Version) -> String {
    let incarnation = base.0 >> Version::COUNTER_BITS;
    format!(
        "UPDATE {GUARD} SET incarnation = greatest(incarnation, {incarnation}) \
         WHERE entity = '{entity}' AND place = '{place}'"
    )
}

/// The keys of one record, as a query of one column named `key`.
fn keys(dialect: &Mariadb, stamp: &Stamp<'_>, record: &str) -> String {
    let field = |column: &str| format!("{record}.{}", dialect.quote(column));
    match stamp.key {
        KeyExpression::Columns(columns) => {
            let columns: Vec<String> = columns.iter().map(|column| field(column)).collect();
            format!("SELECT {} AS \"key\"", dialect.key_text(&columns))
        }
        KeyExpression::Query(query) => {
            let names: Vec<String> = (0..stamp.root.key.len()).map(|n| format!("c{n}")).collect();
            let nothing: Vec<String> = names.iter().map(|name| format!("NULL AS {name}")).collect();
            format!(
                "SELECT {} AS \"key\" FROM (SELECT {} FROM DUAL WHERE 1 = 0 UNION ALL ({})) AS q",
                dialect.key_text(&names),
                nothing.join(", "),
                replace_row(query, field)
            )
        }
    }
}

/// What leaves a note about a row that others depend on: a dependant that is inserted while the
/// writer runs is invisible to this trigger.
fn note(dialect: &Mariadb, stamp: &Stamp<'_>, record: &str) -> String {
    let KeyExpression::Query(query) = stamp.key else {
        return String::new();
    };
    let fields: Vec<String> = row_columns(query)
        .iter()
        .enumerate()
        .map(|(n, column)| {
            // Never empty: `JSON_VALUE` answers NULL for that.
            format!(
                "'c{n}', concat('=', CAST({record}.{} AS CHAR))",
                dialect.quote(column)
            )
        })
        .collect();
    format!(
        "
    INSERT INTO changeover_expand (entity, place, source, source_row)
      VALUES ('{}', '{}', '{}', JSON_OBJECT({}));",
        stamp.entity,
        stamp.place,
        names::of_table(&stamp.table.name),
        fields.join(", ")
    )
}

/// The procedure that answers the keys which depend on a noted row.
fn dependants(dialect: &Mariadb, stamp: &Stamp<'_>, query: &str) -> String {
    let fields: String = row_columns(query)
        .iter()
        .enumerate()
        .map(|(n, column)| {
            let column = dialect.quote(column);
            format!(
                "  SET changeover_row.{column} = SUBSTR(JSON_VALUE(source_row, '$.c{n}'), 2);\n"
            )
        })
        .collect();
    format!(
        "CREATE OR REPLACE PROCEDURE {}{}(IN source_row longtext) READS SQL DATA BEGIN
  DECLARE changeover_row ROW TYPE OF {};
{fields}  {};
END",
        names::prefix("dependants", stamp.place, stamp.entity),
        names::of_table(&stamp.table.name),
        dialect.table(&stamp.table.name),
        keys(dialect, stamp, "changeover_row"),
    )
}

/// The triggers of an entity's side that are there.
async fn installed(dialect: &Mariadb, session: &mut dyn Session) -> Result<Vec<String>, DbError> {
    let sql = "SELECT trigger_name FROM information_schema.triggers \
               WHERE event_object_schema = database() AND trigger_name LIKE 'changeover|_%' ESCAPE '|'";
    texts(dialect, session, sql).await
}

/// Triggers of the entity that `script` does not put back.
pub(super) async fn stale(
    dialect: &Mariadb,
    session: &mut dyn Session,
    entity: &str,
    place: &str,
    script: &[String],
) -> Result<Vec<String>, DbError> {
    let replaced = |name: &String| {
        let created = format!("CREATE OR REPLACE TRIGGER {name} ");
        script.iter().any(|sql| sql.starts_with(&created))
    };
    let found = installed(dialect, session).await?;
    Ok(found
        .iter()
        .filter(|name| is_mine(name, place, entity) && !replaced(name))
        .map(|name| format!("DROP TRIGGER IF EXISTS {name}"))
        .collect())
}

fn is_mine(name: &str, place: &str, entity: &str) -> bool {
    KINDS
        .iter()
        .any(|kind| names::is_of(name, &names::prefix(kind, place, entity)))
}

/// The rows go first and together, which switches the triggers off; the triggers before the tables
/// that they name. What a crash leaves does nothing, and the next time takes it out.
pub(super) async fn drop_objects(
    dialect: &Mariadb,
    session: &mut dyn Session,
    entity: &str,
    place: &str,
) -> Result<Vec<String>, DbError> {
    if dialect.describe(session, tables::EPOCH).await?.is_none() {
        return Ok(Vec::new());
    }
    // Dropping a table commits: some may be gone already.
    let there = "SELECT table_name FROM information_schema.tables WHERE table_schema = database()";
    let there = texts(dialect, session, there).await?;
    let here = |table: &&str| there.iter().any(|name| name == table);
    let mut script: Vec<String> = TABLES
        .into_iter()
        .filter(here)
        .map(|table| format!("DELETE FROM {table} WHERE entity = '{entity}' AND place = '{place}'"))
        .collect();
    script.push("COMMIT".to_owned());
    let (mine, others): (Vec<String>, Vec<String>) = installed(dialect, session)
        .await?
        .into_iter()
        .partition(|name| is_mine(name, place, entity));
    for name in mine {
        script.push(format!("DROP TRIGGER IF EXISTS {name}"));
    }
    let routines = "SELECT routine_name FROM information_schema.routines \
                    WHERE routine_schema = database() AND routine_name LIKE 'changeover|_%' ESCAPE '|'";
    let prefix = names::prefix("dependants", place, entity);
    for name in texts(dialect, session, routines).await? {
        if names::is_of(&name, &prefix) {
            script.push(format!("DROP PROCEDURE IF EXISTS {name}"));
        }
    }
    let mut empty = others.is_empty();
    for table in [GUARD, tables::EPOCH].into_iter().filter(here) {
        let left = Statement::of(
            dialect,
            &format!("SELECT 1 FROM {table} WHERE NOT (entity = "),
        )
        .text(entity)
        .sql(" AND place = ")
        .text(place)
        .sql(") LIMIT 1");
        empty &= session.fetch(left).await?.is_empty();
    }
    if empty {
        script.extend(texts(dialect, session, rejects::SEQUENCES).await?);
        script.extend(
            TABLES
                .iter()
                .rev()
                .map(|table| format!("DROP TABLE IF EXISTS {table}")),
        );
    }
    Ok(script)
}

/// The keys that a noted row's dependants have.
pub(super) fn dependants_of<'d>(
    dialect: &'d Mariadb,
    (entity, place): (&str, &str),
    source: &str,
    source_row: Value,
) -> Statement<'d> {
    let name = names::prefix("dependants", place, entity);
    Statement::of(dialect, &format!("CALL {name}{source}("))
        .bind(source_row, "text")
        .sql(")")
}
