//! Notes about changed rows that others depend on: left by the triggers, worked on after the commit.

use changeover_flags::Key;
use changeover_shadow::Value;

use super::Postgres;
use crate::dialect::Dialect;
use crate::dialect::session::{DbError, ErrorClass, Session};
use crate::dialect::statement::Statement;

/// Stamps once more the keys that depended on rows whose writers have committed: a dependant that
/// was inserted while the writer ran was invisible to the writer's own trigger. Answers how many
/// rows are left: those that somebody else is at, and those whose dependants are being written.
pub(super) async fn expand(
    dialect: &Postgres,
    session: &mut dyn Session,
    entity: &str,
    place: &str,
) -> Result<u64, DbError> {
    let mut after = 0;
    while count_notes(dialect, session, entity, place).await? > 0 {
        let last = expand_one(dialect, session, entity, place, after).await?;
        match last {
            Some(last) => after = last,
            None => break,
        }
    }
    count_notes(dialect, session, entity, place).await
}

/// Those of `keys` that depend on a row whose note is still there.
pub(super) async fn noted(
    dialect: &Postgres,
    session: &mut dyn Session,
    entity: &str,
    place: &str,
    keys: &[Key],
) -> Result<Vec<Vec<Value>>, DbError> {
    let sources = Statement::of(
        dialect,
        "SELECT DISTINCT source::bigint FROM changeover_expand WHERE entity = ",
    )
    .text(entity)
    .sql(" AND place = ")
    .text(place);
    let mut noted = Vec::new();
    for source in session.fetch(sources).await?.into_iter().flatten() {
        let Value::Integer(source) = source else {
            continue;
        };
        let of = format!(
            "SELECT DISTINCT d.key FROM changeover_expand e, \
             LATERAL changeover_dependants_{place}_{entity}_{source}(e.source_row) AS d(key) \
             WHERE e.entity = '{entity}' AND e.place = '{place}' AND e.source = {source} AND "
        );
        let of = Statement::of(dialect, &of).key_in("d.key", keys.iter().map(Key::as_str));
        match session.fetch(of).await {
            Ok(keys) => noted.extend(keys),
            // Which keys depend on it cannot be told: it may be any.
            Err(error) if error.class == ErrorClass::Data => {
                let text = |key: &Key| vec![Value::Text(key.as_str().to_owned())];
                return Ok(keys.iter().map(text).collect());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(noted)
}

async fn count_notes(
    dialect: &Postgres,
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
    Ok(match rows.first().and_then(|row| row.first()) {
        Some(Value::Integer(count)) => count.unsigned_abs(),
        _ => 0,
    })
}

/// Works on the first note after `after` that is to be had; answers which one it was. Each has a
/// transaction of its own: a stamped key stays locked until its end, and an application that waits
/// for it must never wait for the notes that follow.
async fn expand_one(
    dialect: &Postgres,
    session: &mut dyn Session,
    entity: &str,
    place: &str,
    after: i64,
) -> Result<Option<i64>, DbError> {
    session.script(dialect.begin_write()).await?;
    let note = Statement::of(
        dialect,
        "SELECT id, source::bigint, source_row::text FROM changeover_expand WHERE entity = ",
    )
    .text(entity)
    .sql(" AND place = ")
    .text(place)
    .sql(" AND id > ")
    .int(after)
    .sql(" ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED");
    let rows = session.fetch(note).await?;
    let Some([Value::Integer(id), Value::Integer(source), source_row]) =
        rows.first().map(Vec::as_slice)
    else {
        session.script("COMMIT").await?;
        return Ok(None);
    };
    let call = Statement::of(
        dialect,
        &format!("SELECT changeover_expand_{place}_{entity}_{source}("),
    )
    .bind(source_row.clone(), "jsonb")
    .sql(")");
    match session.fetch(call).await {
        Ok(_) => {
            let done = Statement::of(dialect, "DELETE FROM changeover_expand WHERE id = ").int(*id);
            session.execute(done).await?;
            session.script("COMMIT").await?;
        }
        // A dependant is being written, or the query fails on one: the note stays, and the next
        // ones are worked on.
        Err(error) if matches!(error.class, ErrorClass::Busy | ErrorClass::Data) => {
            if error.class == ErrorClass::Data {
                tracing::warn!(entity, place, source, %error, "the keys that depend on a changed row cannot be told");
            }
            session.script("ROLLBACK").await?;
        }
        Err(error) => return Err(error),
    }
    Ok(Some(*id))
}
