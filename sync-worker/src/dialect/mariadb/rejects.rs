//! The follower's tables on MariaDB: what refuses all but copies, and where new ids come from.
//!
//! As a stamp's, a guard's trigger does nothing until the entity's row of `changeover_guard` says so:
//! it is there from the first on, below any incarnation, so that lifting it waits for every writer
//! whose trigger has read it.

use changeover_shadow::Value;

use super::triggers::GUARD;
use super::{Mariadb, WRITE_ON_FOLLOWER, key, names};
use crate::dialect::Dialect as _;
use crate::dialect::catalog::{Column, Table};
use crate::dialect::install::{Guard, Reject};
use crate::dialect::statement::{RowColumn, Statement};

/// How long a copy and an installer queue behind each other, in seconds.
const PATIENCE: u32 = 10;
/// The most characters that the server takes as a message.
const MESSAGE: usize = 128;

pub(super) fn reject(dialect: &Mariadb, reject: &Reject<'_>) -> Vec<String> {
    let Reject { entity, place, .. } = *reject;
    let (kind, columns, unless_copy, advice) = match reject.guard {
        Guard::Owned => ("reject", &[][..], true, "write to the legacy tables"),
        Guard::Shared(columns) => (
            "reject",
            columns,
            true,
            "its rows can be added, not changed or deleted",
        ),
        Guard::Lookup(columns) => (
            "lookup",
            columns,
            false,
            "its rows can be added, not changed or deleted",
        ),
    };
    let events: &[&str] = match reject.guard {
        Guard::Owned => &["insert", "update", "delete"],
        _ => &["update", "delete"],
    };
    let table = dialect.table(&reject.table.name);
    // Two targets may share a table, and fix other columns of it.
    let named = names::of_table(&format!("{} {}", reject.table.name, columns.join(" ")));
    let prefix = names::prefix(kind, place, entity);
    let message = format!(
        "changeover: {} is a follower of {entity} and takes copies alone: {advice}",
        reject.table.name
    );
    let message: String = message.chars().take(MESSAGE).collect();
    let message = message.replace('\'', "''");
    let mut script = vec![format!(
        "INSERT INTO {GUARD} (entity, place, incarnation) VALUES ('{entity}', '{place}', -1) \
         ON DUPLICATE KEY UPDATE incarnation = {GUARD}.incarnation"
    )];
    for event in events {
        let changed: Vec<String> = columns
            .iter()
            .map(|column| dialect.quote(column))
            .map(|column| format!("NOT (BINARY OLD.{column} <=> BINARY NEW.{column})"))
            .collect();
        let mut when = vec!["1 = 1".to_owned()];
        if unless_copy {
            when.push("@changeover_copy IS NULL".to_owned());
        }
        if *event == "update" && !changed.is_empty() {
            when.push(format!("({})", changed.join(" OR ")));
        }
        // Locked, because a plain read under REPEATABLE READ would answer what was there when the
        // writer began; and asked apart, because nothing else is to be locked by a copy.
        script.push(format!(
            "CREATE OR REPLACE TRIGGER {prefix}{named}_{event} BEFORE {event} ON {table} FOR EACH ROW BEGIN
  DECLARE changeover_incarnation bigint;
  IF {when} THEN
    SELECT max(g.incarnation) INTO changeover_incarnation FROM {GUARD} g
      WHERE g.entity = '{entity}' AND g.place = '{place}' LOCK IN SHARE MODE;
    IF changeover_incarnation >= 0 THEN
      SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {WRITE_ON_FOLLOWER}, MESSAGE_TEXT = '{message}';
    END IF;
  END IF;
END",
            when = when.join(" AND "),
        ));
    }
    let id = reject.table.columns.iter().find(|column| column.generated);
    if let (Guard::Owned, Some(id)) = (reject.guard, id) {
        script.push(numbered(dialect, reject.table, id));
    }
    script
}

/// The epoch's row is shared by copies, and held alone by what must not run beside them.
pub(super) fn begin_copy(entity: &str, place: &str) -> String {
    format!(
        "SET @changeover_copy = 1; START TRANSACTION; SET STATEMENT innodb_lock_wait_timeout = {PATIENCE} FOR \
         SELECT 1 FROM changeover_epoch WHERE entity = '{entity}' AND place = '{place}' LOCK IN SHARE MODE"
    )
}

/// Before the first installation there is no such table, and no copy.
pub(super) fn lock_epoch(entity: &str, place: &str) -> String {
    format!(
        "BEGIN NOT ATOMIC DECLARE CONTINUE HANDLER FOR 1146 BEGIN END; \
           SET STATEMENT innodb_lock_wait_timeout = {PATIENCE} FOR \
           SELECT 1 FROM changeover_epoch WHERE entity = '{entity}' AND place = '{place}' FOR UPDATE; \
         END"
    )
}

/// What numbers the ids of a table: `AUTO_INCREMENT` gives none out before their rows.
fn sequence(table: &Table) -> String {
    format!("changeover_ids_{}", names::of_table(&table.canonical))
}

/// Makes the sequence, or lifts it above all that was given out without it. To make one waits for whoever
/// has used it, there or not.
fn numbered(dialect: &Mariadb, table: &Table, id: &Column) -> String {
    let (name, sequence, id) = (
        dialect.table(&table.name),
        sequence(table),
        dialect.quote(&id.name),
    );
    let (schema, bare) = match table.canonical.split_once('.') {
        Some((schema, bare)) => (schema, bare),
        None => ("", table.canonical.as_str()),
    };
    let literal = |text: &str| text.replace('\'', "''");
    format!(
        "BEGIN NOT ATOMIC
  DECLARE changeover_next bigint;
  SELECT greatest(coalesce((SELECT max({id}) FROM {name}), 0) + 1,
      coalesce((SELECT max(t.auto_increment) FROM information_schema.tables t
        WHERE t.table_schema = '{}' AND t.table_name = '{}'), 1), 1) INTO changeover_next;
  IF NOT EXISTS (SELECT 1 FROM information_schema.tables t
      WHERE t.table_schema = database() AND t.table_name = '{sequence}') THEN
    EXECUTE IMMEDIATE concat('CREATE SEQUENCE {sequence} START WITH ', changeover_next);
  END IF;
  EXECUTE IMMEDIATE concat('DO SETVAL({sequence}, ', changeover_next, ', 0)');
END",
        literal(schema),
        literal(bare),
    )
}

/// New ids of a column: from its table's sequence, or by its default, where that is a function.
pub(super) fn allocate<'d>(
    dialect: &'d Mariadb,
    table: &Table,
    column: &Column,
    count: usize,
) -> Option<Statement<'d>> {
    let next = match &column.default {
        _ if column.generated => format!("NEXTVAL({})", sequence(table)),
        // The id map keeps texts.
        Some(default) if default.contains('(') && key::type_problem(column).is_none() => {
            format!("({default})")
        }
        _ => return None,
    };
    let rows: Vec<Vec<Value>> = (0i64..)
        .take(count)
        .map(|number| vec![Value::Integer(number)])
        .collect();
    let statement = Statement::of(dialect, &format!("SELECT {next} FROM "));
    Some(statement.rows("r", &[RowColumn::new("n", "bigint")], &rows))
}

/// What drops the sequences of this database.
pub(super) const SEQUENCES: &str = "SELECT concat('DROP SEQUENCE IF EXISTS ', table_name) FROM information_schema.tables \
     WHERE table_schema = database() AND table_type = 'SEQUENCE' AND table_name LIKE 'changeover|_ids|_%' ESCAPE '|'";
