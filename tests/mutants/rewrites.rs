//! What each mutant changes in the SQL that is shipped.

const FENCE: &str = " WHERE c.version < excluded.version RETURNING key";

pub fn no_change(sql: &str) -> String {
    sql.to_owned()
}

/// On MariaDB, which asks for the older rows and then raises them.
const JOINED: &str = " AND c.key = r.key AND c.version < r.version";

pub fn fence_removed(sql: &str) -> String {
    sql.replace(FENCE, " RETURNING key")
        .replace(JOINED, " AND c.key = r.key")
}

pub fn fence_takes_equal_versions(sql: &str) -> String {
    sql.replace(FENCE, " WHERE c.version <= excluded.version RETURNING key")
        .replace(JOINED, " AND c.key = r.key AND c.version <= r.version")
}

/// The rows are locked and asked for, and none is raised.
pub fn fence_not_raised(sql: &str) -> String {
    match sql.starts_with("UPDATE") {
        true => sql.replace(JOINED, &format!("{JOINED} AND 1 = 0")),
        false => sql.to_owned(),
    }
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
    if sql.starts_with("SET @changeover_copy = 1; START TRANSACTION;") {
        return format!(
            "{sql}; DELETE FROM changeover_key WHERE place = 'new' AND NOT EXISTS \
             (SELECT 1 FROM service_listings s WHERE CAST(s.legacy_id AS char) = changeover_key.\"key\")"
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
    if sql.contains("SET c.synced = r.version WHERE free.key") {
        return sql
            .replace("SET c.synced = r.version", "SET c.synced = c.version")
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
    if sql.starts_with("CREATE OR REPLACE TRIGGER changeover_stamp")
        && sql.contains(" AFTER delete ON ")
    {
        return sql.replace("IF changeover_base IS NOT NULL THEN", "IF 1 = 0 THEN");
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
    sql.replace(
        "UPDATE version = greatest(changeover_key.version, changeover_base) + 1",
        "UPDATE version = changeover_base + 1",
    )
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

/// How MariaDB begins to read.
const SNAPSHOT: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT";

/// Between MariaDB's versions and its images there is time for a write.
pub fn slow_versions(sql: &str) -> String {
    match sql.starts_with("SELECT r.key, (SELECT e.incarnation") {
        true => sql.replacen(" FROM (SELECT j.c0", ", SLEEP(3) FROM (SELECT j.c0", 1),
        false => sql.to_owned(),
    }
}

/// Each statement has a snapshot of its own.
pub fn slow_versions_without_a_snapshot(sql: &str) -> String {
    let sql = slow_versions(sql);
    match sql.contains(SNAPSHOT) {
        true => sql
            .replace(SNAPSHOT, "START TRANSACTION")
            .replace("REPEATABLE READ", "READ COMMITTED"),
        false => sql,
    }
}

/// MariaDB's guard row read without a lock: as it was when the writer's transaction began.
pub fn base_of_the_snapshot(sql: &str) -> String {
    match sql.starts_with("CREATE OR REPLACE TRIGGER changeover_stamp") {
        true => sql.replace(" LOCK IN SHARE MODE;", ";"),
        false => sql.to_owned(),
    }
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
    } else if sql.contains(SNAPSHOT) {
        sql.replace(SNAPSHOT, &format!("START TRANSACTION; {WRITE}"))
    } else if let Some(rest) = sql.strip_prefix("BEGIN;") {
        format!("BEGIN IMMEDIATE; {WRITE};{rest}")
    } else {
        sql.to_owned()
    }
}
