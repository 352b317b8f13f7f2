//! The product's tables and triggers on PostgreSQL.
//!
//! Trigger functions run with their owner's rights, since the application's role has none on the
//! product's tables, and with a pinned search path, or without a name that it could change: to pin it
//! took as long as a trigger of an empty function. They are `ENABLE ALWAYS`: a session that plays
//! a replica stamps too. The base stands as a number in the function's text and not in a table:
//! a writer with an old snapshot would read an old base from a table, but always runs the newest
//! function.

use changeover_shadow::Value;

use super::Postgres;
use crate::dialect::install::{Guard, Reject};
use crate::dialect::session::{DbError, Session};
use crate::dialect::statement::Statement;
use crate::dialect::{Dialect, tables};

/// SQLSTATE of a copy that reached the authority.
pub(super) const NOT_A_FOLLOWER: &str = "CO001";
/// SQLSTATE of a write that reached the follower.
const NOT_THE_AUTHORITY: &str = "CO002";

/// One that was disabled and enabled again is passed over by sessions that play a replica.
pub(super) const STANDING: &str = "SELECT tgname::text, tgrelid::text, tgenabled = 'A' FROM pg_trigger \
     WHERE NOT tgisinternal AND tgname LIKE 'changeover|_%' ESCAPE '|'";

pub(super) fn create_tables() -> Vec<String> {
    // The key leads in every index: as long as a table's statistics are missing or old, the planner
    // takes an entity for one row, and would walk through all of its keys to find one.
    let key = r#"
CREATE TABLE IF NOT EXISTS changeover_key (
  entity text COLLATE "C" NOT NULL, place text COLLATE "C" NOT NULL, key text COLLATE "C" NOT NULL,
  version bigint NOT NULL, synced bigint NOT NULL DEFAULT -1,
  state text NOT NULL DEFAULT 'ok', reason text,
  PRIMARY KEY (key, place, entity)) WITH (fillfactor = 60);
CREATE INDEX IF NOT EXISTS changeover_dirty ON changeover_key (key, place, entity) WHERE synced < version;
CREATE TABLE IF NOT EXISTS changeover_epoch (
  entity text COLLATE "C" NOT NULL, place text COLLATE "C" NOT NULL, epoch bigint NOT NULL,
  authority text NOT NULL, moving_to text, copying boolean NOT NULL, incarnation bigint NOT NULL,
  revision bigint NOT NULL, mapping bigint, backfilled boolean NOT NULL, verified boolean NOT NULL,
  doubts bigint NOT NULL DEFAULT 0, load_began bigint, loaded bigint,
  PRIMARY KEY (entity, place));
CREATE TABLE IF NOT EXISTS changeover_id (
  entity text COLLATE "C" NOT NULL, place text COLLATE "C" NOT NULL, key text COLLATE "C" NOT NULL,
  target text COLLATE "C" NOT NULL, slot text COLLATE "C" NOT NULL,
  target_table text COLLATE "C" NOT NULL, id text COLLATE "C" NOT NULL,
  PRIMARY KEY (key, target, slot, place, entity));
CREATE UNIQUE INDEX IF NOT EXISTS changeover_id_of ON changeover_id (place, target_table, id);
CREATE TABLE IF NOT EXISTS changeover_backfill (
  entity text COLLATE "C" NOT NULL, place text COLLATE "C" NOT NULL, revision bigint NOT NULL,
  cursor text, passed bigint NOT NULL, done boolean NOT NULL, loading boolean NOT NULL DEFAULT false,
  part integer NOT NULL DEFAULT 0, upto text, PRIMARY KEY (entity, place, part));
CREATE TABLE IF NOT EXISTS changeover_expand (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  entity text NOT NULL, place text NOT NULL, source integer NOT NULL, source_row jsonb NOT NULL);
REVOKE ALL ON changeover_key, changeover_epoch, changeover_id, changeover_backfill, changeover_expand FROM PUBLIC"#;
    vec![format!("{INSTALLERS}{key}")]
}

/// Two installers at once would race on CREATE TABLE IF NOT EXISTS, and the last uninstaller would
/// drop the tables under an installer whose row it does not see yet: they queue.
const INSTALLERS: &str = "SELECT pg_advisory_xact_lock(hashtextextended('changeover/install', 0));";

pub(super) fn epoch_lock(entity: &str, place: &str) -> String {
    format!("hashtextextended('{}/{entity}/{place}', 0)", tables::EPOCH)
}

pub(super) const PAST: &str = r#"CREATE TABLE IF NOT EXISTS changeover_past (
  entity text COLLATE "C" NOT NULL, place text COLLATE "C" NOT NULL, incarnation bigint NOT NULL,
  PRIMARY KEY (entity, place));
REVOKE ALL ON changeover_past FROM PUBLIC"#;

pub(super) fn truncate(
    dialect: &Postgres,
    entity: &str,
    place: &str,
    index: usize,
    table: &str,
) -> String {
    function(
        dialect,
        &format!("changeover_truncate_{place}_{entity}_{index}()"),
        "trigger",
        &format!(
            "BEGIN RAISE EXCEPTION 'changeover: TRUNCATE of {} would leave no stamps', {}
  USING ERRCODE = '{NOT_THE_AUTHORITY}', HINT = 'use DELETE: it stamps every key it removes'; END",
            "%",
            literal(table)
        ),
    )
}

pub(super) fn reject(dialect: &Postgres, reject: &Reject<'_>) -> Vec<String> {
    let Reject {
        entity,
        place,
        index,
        ..
    } = *reject;
    let table = dialect.table(&reject.table.name);
    let name = format!("changeover_reject_{place}_{entity}_{index}");
    let (events, unless_copy, advice) = match reject.guard {
        Guard::Owned => (
            "UPDATE OR DELETE".to_owned(),
            true,
            "write to the legacy tables: copies bring the change here",
        ),
        Guard::Shared(columns) => (
            format!("DELETE OR UPDATE OF {}", list(dialect, columns)),
            true,
            "rows shared by copied keys can be added, not changed or deleted",
        ),
        Guard::Lookup(columns) => (
            format!("DELETE OR UPDATE OF {}", list(dialect, columns)),
            false,
            "a lookup that copies depend on can be extended, not changed or deleted",
        ),
    };
    let body = format!(
        "BEGIN
  RAISE EXCEPTION 'changeover: % is the follower of {entity} and takes copies alone', TG_TABLE_NAME
    USING ERRCODE = '{NOT_THE_AUTHORITY}', HINT = '{advice}';
END"
    );
    // A condition costs a copy a tenth of what the call of the function would, for each row.
    let condition = match unless_copy {
        true => " WHEN (current_setting('changeover.copy', true) IS DISTINCT FROM 'on')",
        false => "",
    };
    let refuse = |number: usize, when: &str, each: &str| {
        let numbered = format!("changeover_reject_{place}_{entity}_{number}");
        trigger(
            &numbered,
            &table,
            when,
            &format!("{each}{condition}"),
            &name,
        )
    };
    let mut script = vec![
        function(dialect, &format!("{name}()"), "trigger", &body),
        refuse(index, &format!("BEFORE {events}"), "ROW"),
    ];
    if let Guard::Owned = reject.guard {
        // With a trigger before each row `COPY` writes rows one by one. The one after it is for rows
        // that come without a statement of their own: through a partitioned table, or replicated.
        script.push(refuse(200 + index, "BEFORE INSERT", "STATEMENT"));
        script.push(refuse(300 + index, "AFTER INSERT", "ROW"));
    }
    script.extend([
        truncate(dialect, entity, place, 100 + index, &table),
        trigger(
            &format!("changeover_truncate_{place}_{entity}_{}", 100 + index),
            &table,
            "BEFORE TRUNCATE",
            "STATEMENT",
            &format!("changeover_truncate_{place}_{entity}_{}", 100 + index),
        ),
    ]);
    script
}

fn list(dialect: &Postgres, columns: &[String]) -> String {
    columns
        .iter()
        .map(|column| dialect.quote(column))
        .collect::<Vec<_>>()
        .join(", ")
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

pub(super) fn function(_: &Postgres, signature: &str, returns: &str, body: &str) -> String {
    // The session's own search path was pinned when it connected: it is this database's schema. A
    // policy that hides a row from the owner is an error: a key that is not seen is not stamped.
    format!(
        "CREATE OR REPLACE FUNCTION {signature} RETURNS {returns} LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT SET row_security = off AS $changeover$\n{body};\n$changeover$"
    )
}

pub(super) fn trigger(name: &str, table: &str, when: &str, each: &str, function: &str) -> String {
    format!(
        "CREATE OR REPLACE TRIGGER {name} {when} ON {table} FOR EACH {each} EXECUTE FUNCTION {function}();
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}"
    )
}

pub(super) async fn drop_objects(
    dialect: &Postgres,
    session: &mut dyn Session,
    entity: &str,
    place: &str,
) -> Result<Vec<String>, DbError> {
    session.script(INSTALLERS).await?;
    let installed = Statement::of(
        dialect,
        "SELECT to_regclass('changeover_epoch') IS NOT NULL",
    );
    if session.fetch(installed).await? != [[Value::Boolean(true)]] {
        return Ok(Vec::new());
    }
    let functions = Statement::of(
        dialect,
        "SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = current_schema()::regnamespace AND p.proname ~ ",
    )
    .text(&format!("^changeover_(stamp|reject|truncate|expand|dependants)_{place}_{entity}_[0-9]+$"));
    let mut script: Vec<String> = session
        .fetch(functions)
        .await?
        .into_iter()
        .flatten()
        .filter_map(|value| match value {
            Value::Text(name) => Some(format!("DROP FUNCTION {name} CASCADE")),
            _ => None,
        })
        .collect();
    for table in [
        tables::KEY,
        tables::EPOCH,
        tables::ID,
        tables::BACKFILL,
        tables::EXPAND,
    ] {
        script.push(format!(
            "DELETE FROM {table} WHERE entity = '{entity}' AND place = '{place}'"
        ));
    }
    script.push(
        "DO $$ BEGIN IF NOT EXISTS (SELECT FROM changeover_epoch) THEN \
         DROP TABLE changeover_key, changeover_epoch, changeover_id, changeover_backfill, changeover_expand; \
         END IF; END $$"
            .to_owned(),
    );
    Ok(script)
}

/// Triggers of the entity that `script` does not replace on the table they are on. The others stay:
/// dropping one waits for every reader of its table, replacing it does not.
pub(super) async fn stale(
    dialect: &Postgres,
    session: &mut dyn Session,
    entity: &str,
    place: &str,
    script: &[String],
) -> Result<Vec<String>, DbError> {
    let found = Statement::of(
        dialect,
        "SELECT t.tgname::text, c.relname::text, n.nspname::text FROM pg_trigger t \
         JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE NOT t.tgisinternal AND t.tgname ~ ",
    )
    .text(&format!(
        "^changeover_(stamp|reject|truncate)_{place}_{entity}_[0-9]+$"
    ));
    let mut stale = Vec::new();
    for row in session.fetch(found).await? {
        let [Value::Text(name), Value::Text(table), Value::Text(schema)] = row.as_slice() else {
            continue;
        };
        let plain = dialect.quote(table);
        let full = format!("{}.{plain}", dialect.quote(schema));
        let replaced = script.iter().any(|sql| {
            sql.starts_with(&format!("CREATE OR REPLACE TRIGGER {name} "))
                && [&plain, &full]
                    .iter()
                    .any(|table| sql.contains(&format!(" ON {table} FOR EACH")))
        });
        if !replaced {
            stale.push(format!("DROP TRIGGER {name} ON {full}"));
        }
    }
    Ok(stale)
}
