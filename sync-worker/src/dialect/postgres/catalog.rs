//! What PostgreSQL's catalog says about a table.

use changeover_shadow::Value;

use super::Postgres;
use crate::dialect::catalog::{Column, Reference, Table, Unique, text};
use crate::dialect::session::{DbError, Session};
use crate::dialect::statement::Statement;
use crate::dialect::{BadSetting, Dialect};

pub(super) async fn describe(
    dialect: &Postgres,
    session: &mut dyn Session,
    name: &str,
) -> Result<Option<Table>, DbError> {
    let quoted = dialect.table(name);
    // A view or a foreign table takes no row triggers that could be relied on.
    let kind = Statement::of(
        dialect,
        "SELECT c.oid::text FROM pg_class c WHERE c.relkind IN ('r', 'p') AND c.oid = to_regclass(",
    )
    .text(&quoted)
    .sql(")");
    let found = session.fetch(kind).await?;
    let Some(oid) = found.first().and_then(|row| text(row, 0)) else {
        return Ok(None);
    };
    let columns = columns(dialect, session, &quoted).await?;
    if columns.is_empty() {
        return Ok(None);
    }
    let mut table = Table {
        name: name.to_owned(),
        canonical: oid,
        columns,
        ..Table::default()
    };
    indexes(dialect, session, &quoted, &mut table).await?;
    references(dialect, session, &quoted, &mut table).await?;
    let heirs = Statement::of(
        dialect,
        "SELECT i.inhrelid::regclass::text FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent \
         WHERE p.relkind = 'r' AND p.oid = to_regclass(",
    )
    .text(&quoted)
    .sql(") ORDER BY 1");
    let heirs = session.fetch(heirs).await?;
    table.heirs = heirs.iter().filter_map(|row| text(row, 0)).collect();
    Ok(Some(table))
}

async fn columns(
    dialect: &Postgres,
    session: &mut dyn Session,
    quoted: &str,
) -> Result<Vec<Column>, DbError> {
    let statement = Statement::of(
        dialect,
        "SELECT a.attname::text, format_type(a.atttypid, -1), format_type(a.atttypid, a.atttypmod), \
                a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attidentity::text, a.attgenerated::text, \
                coalesce(NOT co.collisdeterministic, false) OR format_type(a.atttypid, -1) LIKE '%citext', \
                (WITH RECURSIVE under (id, length) AS (SELECT a.atttypid, a.atttypmod UNION ALL \
                   SELECT t.typbasetype, t.typtypmod FROM under u JOIN pg_type t ON t.oid = u.id AND t.typtype = 'd') \
                 SELECT format_type(u.id, u.length) FROM under u JOIN pg_type t ON t.oid = u.id AND t.typtype <> 'd') \
         FROM pg_attribute a LEFT JOIN pg_collation co ON co.oid = a.attcollation LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
         WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attrelid = to_regclass(",
    )
    .text(quoted)
    .sql(") ORDER BY a.attnum");
    let rows = session.fetch(statement).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let default = text(&row, 4);
            let identity = !text(&row, 5).unwrap_or_default().is_empty();
            let serial = default
                .as_deref()
                .is_some_and(|d| d.starts_with("nextval("));
            let computed = !text(&row, 6).unwrap_or_default().is_empty();
            Column {
                name: text(&row, 0).unwrap_or_default(),
                sql_type: text(&row, 1).unwrap_or_default(),
                full_type: text(&row, 2).unwrap_or_default(),
                stored_type: text(&row, 8).unwrap_or_default(),
                not_null: row.get(3) == Some(&Value::Boolean(true)),
                default: if computed { None } else { default },
                generated: identity || serial,
                computed,
                blurred: row.get(7) == Some(&Value::Boolean(true)),
            }
        })
        .collect())
}

async fn indexes(
    dialect: &Postgres,
    session: &mut dyn Session,
    quoted: &str,
    table: &mut Table,
) -> Result<(), DbError> {
    let statement = Statement::of(
        dialect,
        "SELECT i.indisprimary, i.indisunique AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indisvalid, \
                i.indpred IS NULL AND i.indisvalid, \
                ARRAY(SELECT a.attname::text FROM unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k(n, o) \
                      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n ORDER BY k.o) \
         FROM pg_index i WHERE i.indrelid = to_regclass(",
    )
    .text(quoted)
    .sql(") ORDER BY i.indisprimary DESC, i.indexrelid");
    for row in session.fetch(statement).await? {
        let columns = texts(row.get(3));
        let is = |index: usize| row.get(index) == Some(&Value::Boolean(true));
        if is(1) {
            table.unique.push(Unique {
                columns: columns.clone(),
                primary: is(0),
            });
        }
        if is(2) {
            table.indexes.push(columns);
        }
    }
    Ok(())
}

async fn references(
    dialect: &Postgres,
    session: &mut dyn Session,
    quoted: &str,
    table: &mut Table,
) -> Result<(), DbError> {
    let statement = Statement::of(
        dialect,
        "SELECT c.conrelid = t.oid, c.conrelid::oid::text, c.confrelid::oid::text, c.conrelid::regclass::text, c.confrelid::regclass::text, \
                c.confdeltype IN ('c', 'n', 'd') OR c.confupdtype IN ('c', 'n', 'd'), \
                ARRAY(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY AS k(n, o) \
                      JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.n ORDER BY k.o), \
                ARRAY(SELECT a.attname::text FROM unnest(c.confkey) WITH ORDINALITY AS k(n, o) \
                      JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.n ORDER BY k.o), \
                EXISTS (SELECT 1 FROM pg_constraint w WHERE w.oid = c.conparentid AND w.conrelid = c.conrelid) \
         FROM pg_constraint c, (SELECT to_regclass(",
    )
    .text(quoted)
    .sql(")::oid AS oid) t WHERE c.contype = 'f' AND (c.conrelid = t.oid OR c.confrelid = t.oid)");
    for row in session.fetch(statement).await? {
        let reference = Reference {
            from: text(&row, 1).unwrap_or_default(),
            to: text(&row, 2).unwrap_or_default(),
            from_name: text(&row, 3).unwrap_or_default(),
            to_name: text(&row, 4).unwrap_or_default(),
            cascades: row.get(5) == Some(&Value::Boolean(true)),
            columns: texts(row.get(6)),
            to_columns: texts(row.get(7)),
            to_part: row.get(8) == Some(&Value::Boolean(true)),
        };
        if row.first() == Some(&Value::Boolean(true)) {
            table.references.push(reference);
        } else {
            table.referenced_by.push(reference);
        }
    }
    Ok(())
}

pub(super) async fn durability(
    dialect: &Postgres,
    session: &mut dyn Session,
) -> Result<Vec<BadSetting>, DbError> {
    // The role's and the database's own settings count, not this session's, which sets its own.
    let statement = Statement::of(
        dialect,
        "SELECT name, 'is \"' || setting || '\", so acknowledged writes can be lost', 'set it to ' || wanted FROM (
           SELECT s.name::text, CASE WHEN s.name = 'synchronous_commit' THEN s.reset_val ELSE s.setting END AS setting,
                  CASE WHEN s.name = 'synchronous_commit' THEN 'on (or remote_write, remote_apply)' ELSE 'on' END AS wanted,
                  CASE WHEN s.name = 'synchronous_commit' THEN ARRAY['on', 'remote_write', 'remote_apply', 'local'] ELSE ARRAY['on'] END AS good
           FROM pg_settings s WHERE s.name IN ('fsync', 'full_page_writes', 'synchronous_commit')
           UNION ALL SELECT 'synchronous_commit of ' || coalesce('role ' || r.rolname, 'every role')
             || coalesce(' in database ' || d.datname, ''), split_part(c.setting, '=', 2), 'on', ARRAY['on', 'remote_write', 'remote_apply', 'local']
             FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase,
               unnest(s.setconfig) AS c(setting)
             WHERE c.setting LIKE 'synchronous_commit=%' AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
         ) x WHERE NOT setting = ANY(good)
         UNION ALL SELECT 'the server', 'is a standby, which takes no writes', 'connect to the primary' WHERE pg_is_in_recovery()",
    );
    let rows = session.fetch(statement).await?;
    Ok(rows
        .iter()
        .filter_map(|row| {
            Some(BadSetting {
                setting: text(row, 0)?,
                problem: text(row, 1)?,
                remedy: text(row, 2)?,
            })
        })
        .collect())
}

/// One server process and one database: two names of a host are one server.
pub(super) async fn identity(
    dialect: &Postgres,
    session: &mut dyn Session,
) -> Result<String, DbError> {
    let statement = Statement::of(
        dialect,
        "SELECT 'postgres ' || pg_postmaster_start_time()::text || ' ' || current_setting('port') || ' ' || oid::text \
         FROM pg_database WHERE datname = current_database()",
    );
    let rows = session.fetch(statement).await?;
    Ok(rows
        .first()
        .and_then(|row| text(row, 0))
        .unwrap_or_default())
}

/// Who holds, or waits longer for, a lock on these tables that keeps triggers from being made.
/// Statements are not shown: they hold values.
pub(super) async fn blockers(
    dialect: &Postgres,
    session: &mut dyn Session,
    tables: &[&str],
) -> Result<Vec<String>, DbError> {
    let names: Vec<Vec<Value>> = tables
        .iter()
        .map(|name| vec![Value::Text(dialect.table(name))])
        .collect();
    let statement = Statement::of(
        dialect,
        "SELECT format('pid %s (user %s, application %s, %s, its transaction began %s s ago, its last statement %s s ago) on %s; \
           to end it: SELECT pg_terminate_backend(%s)', a.pid, coalesce(a.usename, '?'), coalesce(nullif(a.application_name, ''), '?'), \
           coalesce(a.state, 'state not shown to this role'), coalesce(round(extract(epoch FROM now() - a.xact_start))::text, '?'), \
           coalesce(round(extract(epoch FROM now() - a.query_start))::text, '?'), string_agg(DISTINCT l.relation::regclass::text, ', '), a.pid) \
         FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid \
         JOIN ",
    )
    .rows("r", &[crate::dialect::RowColumn::new("name", "text")], &names)
    .sql(
        " ON l.relation = to_regclass(r.name)::oid \
         WHERE l.granted AND a.pid <> pg_backend_pid() AND l.mode NOT IN ('AccessShareLock', 'RowShareLock') \
         GROUP BY a.pid, a.usename, a.application_name, a.state, a.xact_start, a.query_start ORDER BY a.xact_start LIMIT 10",
    );
    Ok(session
        .fetch(statement)
        .await?
        .iter()
        .filter_map(|row| text(row, 0))
        .collect())
}

fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::List(items)) => items
            .iter()
            .filter_map(|item| match item {
                Value::Text(text) => Some(text.clone()),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// The bytes of `\x…`.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?.as_bytes();
    digits
        .chunks(2)
        .map(|pair| {
            let text = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(text, 16).ok()
        })
        .collect()
}
