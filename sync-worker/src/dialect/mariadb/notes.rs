//! Notes about changed rows that others depend on: left by the triggers, worked on after the commit.

use std::collections::HashSet;

use changeover_flags::{Key, Version};
use changeover_shadow::Value;

use super::{Mariadb, triggers};
use crate::dialect::Dialect;
use crate::dialect::authority::integer;
use crate::dialect::session::{DbError, ErrorClass, Session};
use crate::dialect::statement::Statement;
use crate::dialect::tables;

/// One note: its number, the source's name, the row.
type Note = (i64, String, Value);

/// Stamps once more the keys that depended on rows whose writers have committed. Answers how many
/// rows are left: those that somebody else is at, and those whose dependants are being written.
pub(super) async fn expand(
    dialect: &Mariadb,
    session: &mut dyn Session,
    entity: &str,
    place: &str,
) -> Result<u64, DbError> {
    let mut after = 0;
    while count(dialect, session, entity, place).await? > 0 {
        match expand_one(dialect, session, (entity, place), after).await? {
            Some(last) => after = last,
            None => break,
        }
    }
    count(dialect, session, entity, place).await
}

/// Those of `keys` that depend on a row whose note is still there.
pub(super) async fn noted(
    dialect: &Mariadb,
    session: &mut dyn Session,
    entity: &str,
    place: &str,
    keys: &[Key],
) -> Result<Vec<Vec<Value>>, DbError> {
    let asked: HashSet<&str> = keys.iter().map(Key::as_str).collect();
    let notes = Statement::of(
        dialect,
        "SELECT DISTINCT 0, source, source_row FROM changeover_expand WHERE entity = ",
    )
    .text(entity)
    .sql(" AND place = ")
    .text(place);
    let mut noted = Vec::new();
    for row in session.fetch(notes).await? {
        let Some((_, source, source_row)) = note(row) else {
            continue;
        };
        let of = triggers::dependants_of(dialect, (entity, place), &source, source_row);
        match session.fetch(of).await {
            Ok(found) => noted.extend(found.into_iter().filter(
                |row| matches!(row.first(), Some(Value::Text(key)) if asked.contains(key.as_str())),
            )),
            // Which keys depend on it cannot be told: it may be any.
            Err(error) if untold(&error) => {
                let text = |key: &Key| vec![Value::Text(key.as_str().to_owned())];
                return Ok(keys.iter().map(text).collect());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(noted)
}

async fn count(
    dialect: &Mariadb,
    session: &mut dyn Session,
    entity: &str,
    place: &str,
) -> Result<u64, DbError> {
    let count = Statement::of(
        dialect,
        "SELECT count(*) FROM changeover_expand WHERE entity = ",
    )
    .text(entity)
    .sql(" AND place = ")
    .text(place);
    let rows = session.fetch(count).await?;
    Ok(rows
        .first()
        .and_then(|row| row.first())
        .map_or(0, integer)
        .unsigned_abs())
}

/// Works on the first note after `after` that is to be had; answers which one it was. Each has a
/// transaction of its own: a stamped key stays locked until its end.
async fn expand_one(
    dialect: &Mariadb,
    session: &mut dyn Session,
    of: (&str, &str),
    after: i64,
) -> Result<Option<i64>, DbError> {
    session.script(dialect.begin_write()).await?;
    let next = Statement::of(
        dialect,
        "SELECT id, source, source_row FROM changeover_expand WHERE entity = ",
    )
    .text(of.0)
    .sql(" AND place = ")
    .text(of.1)
    .sql(" AND id > ")
    .int(after)
    .sql(" ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED");
    let rows = session.fetch(next).await?;
    let Some((id, source, source_row)) = rows.into_iter().next().and_then(note) else {
        session.script("COMMIT").await?;
        return Ok(None);
    };
    match stamp(dialect, session, of, &source, source_row).await {
        Ok(()) => {
            let done = Statement::of(dialect, "DELETE FROM changeover_expand WHERE id = ").int(id);
            session.execute(done).await?;
            session.script("COMMIT").await?;
        }
        // A dependant is being written, or the query fails on one: the note stays, and the next
        // ones are worked on.
        Err(error) if error.class == ErrorClass::Busy || untold(&error) => {
            if untold(&error) {
                tracing::warn!(entity = of.0, place = of.1, %error, "the keys that depend on a changed row cannot be told");
            }
            session.script("ROLLBACK").await?;
        }
        Err(error) => return Err(error),
    }
    Ok(Some(id))
}

/// Stamps the keys that depend on a row, as its trigger would have.
async fn stamp(
    dialect: &Mariadb,
    session: &mut dyn Session,
    (entity, place): (&str, &str),
    source: &str,
    source_row: Value,
) -> Result<(), DbError> {
    let call = triggers::dependants_of(dialect, (entity, place), source, source_row);
    let found = session.fetch(call).await?;
    let keys: Vec<Key> = found
        .into_iter()
        .flatten()
        .filter_map(|value| match value {
            Value::Text(key) => Some(Key::new(key)),
            _ => None,
        })
        .collect();
    if keys.is_empty() {
        return Ok(());
    }
    let bits = Version::COUNTER_BITS;
    let table = dialect.table(tables::KEY);
    let statement = Statement::of(dialect, "INSERT INTO ")
        .table(tables::KEY)
        .sql(&format!(
            " (entity, place, \"key\", version) SELECT g.entity, g.place, r.\"key\", (g.incarnation << {bits}) + 1 \
             FROM changeover_guard g CROSS JOIN "
        ))
        .keys("r", &keys)
        .sql(" WHERE g.entity = ")
        .text(entity)
        .sql(" AND g.place = ")
        .text(place)
        .sql(&format!(
            " ORDER BY r.\"key\" ON DUPLICATE KEY UPDATE \
             version = greatest({table}.version, VALUES(version) - 1) + 1, state = 'ok', reason = NULL"
        ));
    session.execute(statement).await.map(drop)
}

/// Whether the query fails, on a row or because its procedure is gone, say after a backup without
/// routines was restored.
const fn untold(error: &DbError) -> bool {
    matches!(error.class, ErrorClass::Data | ErrorClass::Other)
}

fn note(row: Vec<Value>) -> Option<Note> {
    match <[Value; 3]>::try_from(row) {
        Ok([Value::Integer(id), Value::Text(source), row]) => Some((id, source, row)),
        _ => None,
    }
}
