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
        let last = expand_some(dialect, session, entity, place, after).await?;
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
        noted.extend(session.fetch(of).await?);
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

/// Works on some notes after `after`; answers the last one, or `None` when there was none to be had.
async fn expand_some(
    dialect: &Postgres,
    session: &mut dyn Session,
    entity: &str,
    place: &str,
    after: i64,
) -> Result<Option<i64>, DbError> {
    session.script(dialect.begin_write()).await?;
    let rows = Statement::of(
        dialect,
        "SELECT id, source::bigint, source_row::text FROM changeover_expand WHERE entity = ",
    )
    .text(entity)
    .sql(" AND place = ")
    .text(place)
    .sql(" AND id > ")
    .int(after)
    .sql(" ORDER BY id LIMIT 200 FOR UPDATE SKIP LOCKED");
    let rows = session.fetch(rows).await?;
    let mut last = None;
    for row in rows {
        let [Value::Integer(id), Value::Integer(source), source_row] = row.as_slice() else {
            continue;
        };
        last = Some(*id);
        session.script("SAVEPOINT note").await?;
        let call = Statement::of(
            dialect,
            &format!("SELECT changeover_expand_{place}_{entity}_{source}("),
        )
        .bind(source_row.clone(), "jsonb")
        .sql(")");
        match session.fetch(call).await {
            Ok(_) => {
                let done =
                    Statement::of(dialect, "DELETE FROM changeover_expand WHERE id = ").int(*id);
                session.execute(done).await?;
            }
            // A dependant is being written: its note stays, and the next ones are worked on.
            Err(error) if error.class == ErrorClass::Busy => {
                session.script("ROLLBACK TO SAVEPOINT note").await?;
            }
            Err(error) => return Err(error),
        }
    }
    session.script("COMMIT").await?;
    Ok(last)
}
