//! What each mutant changes in the SQL that is shipped.

const FENCE: &str = " WHERE c.version < excluded.version RETURNING key";

pub fn no_change(sql: &str) -> String {
    sql.to_owned()
}

pub fn fence_removed(sql: &str) -> String {
    sql.replace(FENCE, " RETURNING key")
}

pub fn fence_takes_equal_versions(sql: &str) -> String {
    sql.replace(FENCE, " WHERE c.version <= excluded.version RETURNING key")
}

pub fn fence_row_deleted_with_its_row(sql: &str) -> String {
    // As if every copy had taken the fence rows of the rows it deleted with it.
    if sql.contains("SET LOCAL changeover.copy = 'on'")
        || sql.contains("INSERT INTO changeover_copying")
    {
        return format!(
            "{sql}; DELETE FROM changeover_key WHERE place = 'new' AND NOT EXISTS \
             (SELECT 1 FROM service_listings s WHERE CAST(s.legacy_id AS text) = key)"
        );
    }
    sql.to_owned()
}

pub fn mark_without_version(sql: &str) -> String {
    if sql.contains("SET synced = r.version") {
        return sql
            .replace("SET synced = r.version", "SET synced = c.version")
            .replace(" AND c.synced < r.version AND r.version <= ", " AND 0 <= ");
    }
    sql.to_owned()
}

pub fn revision_not_checked(sql: &str) -> String {
    sql.replace(
        "SELECT revision, mapping, incarnation * 17592186044416",
        "SELECT 1, CAST(NULL AS bigint), incarnation * 17592186044416",
    )
}

pub fn fingerprint_not_checked(sql: &str) -> String {
    sql.replace(
        "SELECT revision, mapping, incarnation * 17592186044416",
        "SELECT revision, CAST(NULL AS bigint), incarnation * 17592186044416",
    )
}

pub fn stamp_dropped(sql: &str) -> String {
    let sql = sql.replace(
        "AFTER INSERT OR UPDATE OR DELETE ON",
        "AFTER INSERT OR UPDATE ON",
    );
    if sql.starts_with("CREATE TRIGGER changeover_stamp") && sql.contains(" AFTER delete ON ") {
        // One that is not there is missed before anything is copied.
        return sql.replacen(" BEGIN", " WHEN 0 BEGIN", 1);
    }
    sql
}

pub fn version_restarts(sql: &str) -> String {
    let sql = sql.replace("greatest(c.version, 0) OPERATOR(pg_catalog.+) 1", "1");
    if sql.contains("SET version = max(changeover_key.version, ") {
        return sql.replace(
            "SET version = max(changeover_key.version, ",
            "SET version = min(1, ",
        );
    }
    sql
}

pub fn not_looked_at_again(sql: &str) -> String {
    sql.replace(
        "SELECT count(*) FROM changeover_expand WHERE",
        "SELECT count(*) FROM changeover_expand WHERE false AND",
    )
}

pub fn stamps_below_the_base_forgotten(sql: &str) -> String {
    if sql.starts_with("SELECT passed FROM") {
        return sql.replace("WHERE NOT done", "WHERE 1 = 0 AND NOT done");
    }
    sql.to_owned()
}

pub fn settled_without_looking(sql: &str) -> String {
    sql.replace(" WHERE version < ", " WHERE 1 = 0 AND version < ")
}

pub fn base_in_a_table(sql: &str) -> String {
    if !sql.contains("FUNCTION changeover_stamp_") {
        return sql.to_owned();
    }
    let row = "(SELECT incarnation << 44 FROM changeover_epoch WHERE place = 'legacy')";
    let base = 1i64 << 44;
    sql.replace(&format!("{base} + 1"), &format!("{row} + 1"))
        .replace(&(base + 1).to_string(), &format!("{row} + 1"))
        .replace(&format!(", {base})"), &format!(", {row})"))
}

/// A write of key 1 that rolls back.
pub const WRITE: &str = "UPDATE listings SET title = 'never happened' WHERE id = 1";

/// As if a copy were read on the writer's own connection, before its commit, and the writer then
/// rolled back: the transaction of the read begins with the write, and undoes it at its end.
pub fn read_inside_the_write(sql: &str) -> String {
    let read = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;";
    if sql == "COMMIT" {
        "ROLLBACK".to_owned()
    } else if let Some(rest) = sql.strip_prefix(read) {
        format!("BEGIN; {WRITE};{rest}")
    } else if let Some(rest) = sql.strip_prefix("BEGIN;") {
        format!("BEGIN IMMEDIATE; {WRITE};{rest}")
    } else {
        sql.to_owned()
    }
}
