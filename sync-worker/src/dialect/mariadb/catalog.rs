//! What MariaDB's `information_schema` says about a table, and about the server.

use changeover_shadow::Value;

use super::Mariadb;
use crate::dialect::BadSetting;
use crate::dialect::authority::integer;
use crate::dialect::catalog::{Column, Reference, Table, Unique, text};
use crate::dialect::session::{DbError, ErrorClass, Session};
use crate::dialect::statement::Statement;

/// The oldest server whose `JSON_TABLE` and `SKIP LOCKED` the statements use.
const OLDEST: (u32, u32) = (10, 6);

/// Refuses a server that the statements were not tried on.
pub(super) async fn known_version(
    dialect: &Mariadb,
    session: &mut dyn Session,
) -> Result<(), DbError> {
    let rows = session
        .fetch(Statement::of(dialect, "SELECT version()"))
        .await?;
    let version = rows
        .first()
        .and_then(|row| text(row, 0))
        .unwrap_or_default();
    let mut numbers = version.split('.').map_while(|part| part.parse().ok());
    let version_known = numbers
        .next()
        .zip(numbers.next())
        .is_some_and(|number| number >= OLDEST);
    if version.contains("MariaDB") && version_known {
        return Ok(());
    }
    let (major, minor) = OLDEST;
    Err(DbError::odd(&format!(
        "the server is version {version}: MariaDB {major}.{minor} or later is needed, and MySQL is not supported"
    )))
}

pub(super) async fn describe(
    dialect: &Mariadb,
    session: &mut dyn Session,
    name: &str,
) -> Result<Option<Table>, DbError> {
    let kind = Statement::of(
        dialect,
        "SELECT table_schema, table_name, engine, table_schema = database() FROM information_schema.tables \
         WHERE table_type = 'BASE TABLE' AND ",
    );
    let found = session.fetch(named(kind, "", name)).await?;
    let Some(row) = found.first() else {
        return Ok(None);
    };
    if row.get(3).map_or(0, integer) != 1 {
        return Err(DbError::odd(&format!(
            "table {name} is in another database, where this one's triggers cannot be: name that database in the URL"
        )));
    }
    let of = |index| text(row, index).unwrap_or_default();
    let (place, engine) = ((of(0), of(1)), of(2));
    if !engine.eq_ignore_ascii_case("InnoDB") {
        return Err(DbError {
            class: ErrorClass::Other,
            summary: format!(
                "table {name} is stored by {engine}, whose writes cannot be taken back: ALTER TABLE {name} ENGINE=InnoDB"
            ),
            source: sqlx::Error::RowNotFound,
        });
    }
    let mut table = Table {
        name: name.to_owned(),
        canonical: format!("{}.{}", place.0, place.1),
        columns: columns(dialect, session, name).await?,
        ..Table::default()
    };
    indexes(dialect, session, &mut table).await?;
    table.references = references(dialect, session, &place).await?;
    for child in children(dialect, session, &place).await? {
        let to_it = references(dialect, session, &child).await?.into_iter();
        let to_it = to_it.filter(|one| one.to == table.canonical && one.from != table.canonical);
        table.referenced_by.extend(to_it);
    }
    Ok(Some(table))
}

/// A condition on a table's name, which may begin with its database's.
fn named<'d>(statement: Statement<'d>, alias: &str, name: &str) -> Statement<'d> {
    let (schema, name) = match name.split_once('.') {
        Some((schema, name)) => (Some(schema), name),
        None => (None, name),
    };
    let statement = statement.sql(&format!("{alias}table_schema = "));
    match schema {
        Some(schema) => statement.text(schema),
        None => statement.sql("database()"),
    }
    .sql(&format!(" AND {alias}table_name = "))
    .text(name)
}

async fn columns(
    dialect: &Mariadb,
    session: &mut dyn Session,
    name: &str,
) -> Result<Vec<Column>, DbError> {
    let statement = Statement::of(
        dialect,
        "SELECT column_name, data_type, column_type, is_nullable, column_default, extra, is_generated, \
                collation_name, character_set_name FROM information_schema.columns WHERE ",
    );
    let statement = named(statement, "", name).sql(" ORDER BY ordinal_position");
    let rows = session.fetch(statement).await?;
    Ok(rows
        .iter()
        .map(|row| {
            let of = |index| text(row, index).unwrap_or_default();
            // It doubles the backslash of a label, which no statement of the product's does.
            let full_type = of(2).replace(r"\\", r"\");
            let mut sql_type = of(1).to_ascii_lowercase();
            if full_type.contains("unsigned") && sql_type.ends_with("int") {
                sql_type.push_str(" unsigned");
            }
            let collation = of(7);
            let stored_type = match collation.is_empty() {
                true => full_type.clone(),
                false => format!("{full_type} CHARACTER SET {} COLLATE {collation}", of(8)),
            };
            Column {
                name: of(0),
                sql_type,
                stored_type,
                full_type,
                not_null: of(3) == "NO",
                // The word, where the default is no value.
                default: text(row, 4).filter(|default| default != "NULL"),
                generated: of(5).contains("auto_increment"),
                computed: of(6) == "ALWAYS",
                // Any other collation takes texts for equal that differ, if only by spaces at the end.
                blurred: !(collation.is_empty() || collation.ends_with("nopad_bin")),
            }
        })
        .collect())
}

async fn indexes(
    dialect: &Mariadb,
    session: &mut dyn Session,
    table: &mut Table,
) -> Result<(), DbError> {
    // An index over a part of a column says nothing about the whole.
    let statement = Statement::of(
        dialect,
        "SELECT index_name, non_unique, column_name, sub_part IS NOT NULL FROM information_schema.statistics \
         WHERE index_type = 'BTREE' AND ",
    );
    let statement = named(statement, "", &table.name)
        .sql(" ORDER BY index_name <> 'PRIMARY', index_name, seq_in_index");
    let mut found: Vec<(String, bool, bool, Vec<String>)> = Vec::new();
    for row in session.fetch(statement).await? {
        let of = |index| text(&row, index).unwrap_or_default();
        let yes = |index: usize| row.get(index).map_or(0, integer) == 1;
        let (name, unique, part) = (of(0), !yes(1), yes(3));
        match found.last_mut() {
            Some(last) if last.0 == name => {
                last.2 |= part;
                last.3.push(of(2));
            }
            _ => found.push((name, unique, part, vec![of(2)])),
        }
    }
    for (name, unique, part, columns) in found {
        if part {
            continue;
        }
        if unique {
            table.unique.push(Unique {
                columns: columns.clone(),
                primary: name == "PRIMARY",
            });
        }
        table.indexes.push(columns);
    }
    Ok(())
}

/// The foreign keys of a table, which its schema and its name say.
///
/// Both views are asked by both names: else MariaDB opens every table of every database for them.
async fn references(
    dialect: &Mariadb,
    session: &mut dyn Session,
    (schema, name): &(String, String),
) -> Result<Vec<Reference>, DbError> {
    let select = "SELECT k.constraint_name, \
                concat(k.table_schema, '.', k.table_name), k.table_name, \
                concat(k.referenced_table_schema, '.', k.referenced_table_name), k.referenced_table_name, \
                k.column_name, k.referenced_column_name, \
                r.delete_rule IN ('CASCADE', 'SET NULL', 'SET DEFAULT') OR r.update_rule IN ('CASCADE', 'SET NULL', 'SET DEFAULT') \
         FROM information_schema.key_column_usage k \
         JOIN information_schema.referential_constraints r ON r.constraint_name = k.constraint_name \
         WHERE k.referenced_table_name IS NOT NULL";
    let mut statement = Statement::of(dialect, select);
    for (column, value) in [
        ("k.table_schema", schema),
        ("k.table_name", name),
        ("r.constraint_schema", schema),
        ("r.table_name", name),
    ] {
        statement = statement.sql(&format!(" AND {column} = ")).text(value);
    }
    let statement = statement.sql(" ORDER BY 1, k.ordinal_position");
    let mut found: Vec<(String, Reference)> = Vec::new();
    for row in session.fetch(statement).await? {
        let of = |index| text(&row, index).unwrap_or_default();
        if found.last().is_none_or(|(name, _)| *name != of(0)) {
            let reference = Reference {
                from: of(1),
                from_name: of(2),
                to: of(3),
                to_name: of(4),
                cascades: row.get(7).map_or(0, integer) == 1,
                columns: Vec::new(),
                to_columns: Vec::new(),
                to_part: false,
            };
            found.push((of(0), reference));
        }
        if let Some((_, reference)) = found.last_mut() {
            reference.columns.push(of(5));
            reference.to_columns.push(of(6));
        }
    }
    Ok(found.into_iter().map(|(_, reference)| reference).collect())
}

/// The tables whose foreign keys name this one, of whatever database: their schemas and names.
///
/// InnoDB's own list has names as it has them on disk, which the character set `filename` reads.
async fn children(
    dialect: &Mariadb,
    session: &mut dyn Session,
    (schema, name): &(String, String),
) -> Result<Vec<(String, String)>, DbError> {
    let read = |part: &str| {
        format!(
            "convert(convert(CAST(substring_index(for_name, '/', {part}) AS binary) USING filename) USING utf8mb4)"
        )
    };
    let sql = format!(
        "SELECT DISTINCT {}, {} FROM information_schema.innodb_sys_foreign \
         WHERE CAST(ref_name AS binary) = concat(CAST(convert(",
        read("1"),
        read("-1")
    );
    let statement = Statement::of(dialect, &sql)
        .text(schema)
        .sql(" USING filename) AS binary), '/', CAST(convert(")
        .text(name)
        .sql(" USING filename) AS binary)) ORDER BY 1, 2");
    let rows = session.fetch(statement).await?;
    let of = |row: &[Value], index| text(row, index).unwrap_or_default();
    Ok(rows.iter().map(|row| (of(row, 0), of(row, 1))).collect())
}

pub(super) async fn durability(
    dialect: &Mariadb,
    session: &mut dyn Session,
) -> Result<Vec<BadSetting>, DbError> {
    let statement = Statement::of(
        dialect,
        "SELECT 'innodb_flush_log_at_trx_commit', concat('is ', @@global.innodb_flush_log_at_trx_commit, ', so acknowledged writes can be lost'), 'set it to 1' \
           FROM DUAL WHERE @@global.innodb_flush_log_at_trx_commit NOT IN (1, 3) \
         UNION ALL SELECT 'sync_binlog', concat('is ', @@global.sync_binlog, ' with the binary log on, so acknowledged writes can be lost'), 'set it to 1' \
           FROM DUAL WHERE @@global.log_bin = 1 AND @@global.sync_binlog <> 1 \
         UNION ALL SELECT 'binlog_format', 'is STATEMENT, under which InnoDB refuses the writes of copies', 'set it to ROW or MIXED' \
           FROM DUAL WHERE @@global.log_bin = 1 AND @@global.binlog_format = 'STATEMENT' \
         UNION ALL SELECT 'the server', 'is read-only', 'connect to the primary' FROM DUAL WHERE @@global.read_only = 1 \
         UNION ALL SELECT 'innodb_snapshot_isolation', 'is on, so a transaction of the application fails when one of its keys is marked as copied meanwhile', 'set it to OFF' \
           FROM information_schema.global_variables WHERE variable_name = 'INNODB_SNAPSHOT_ISOLATION' AND variable_value = 'ON' \
         UNION ALL SELECT 'wsrep_on', 'is on: a cluster''s other nodes may commit what this one certifies too late', 'connect to a server that is no node of a cluster' \
           FROM information_schema.global_variables WHERE variable_name = 'WSREP_ON' AND variable_value = 'ON'",
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
    dialect: &Mariadb,
    session: &mut dyn Session,
) -> Result<String, DbError> {
    let sql = "SELECT concat('mariadb ', @@hostname, ' ', @@port, ' ', @@datadir, ' ', database())";
    let rows = session.fetch(Statement::of(dialect, sql)).await?;
    Ok(rows
        .first()
        .and_then(|row| text(row, 0))
        .unwrap_or_default())
}
