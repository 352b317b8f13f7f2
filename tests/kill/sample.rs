//! "Not dirty means agree", asked with plain SQL while everything runs.
//!
//! Each side is read by one statement, the legacy side first. Then, whatever happened in between:
//!
//! 1. rows at equal versions are equal, since an image is a function of its version;
//! 2. the new side holds at least what the legacy side has recorded as synced, since a copy is
//!    marked after its commit and no version ever goes down.

use std::collections::{BTreeMap, HashMap};

use sqlx::{AssertSqlSafe, Row as _};

use crate::protocol::market::Plain;
use crate::protocol::plain::on_pool;

/// Rows as text, without the tenant's name: a change of it is stamped for rows that are inserted at
/// the same moment only after it, by what the drain does first.
const LEGACY: &str = r#"
SELECT k."key", k.version, k.synced,
  CASE WHEN l.id IS NULL THEN 'no row' ELSE coalesce(l.title, '-') || '|' || lower(trim(l.status)) || '|'
  || coalesce(trim(l.house), '-') || '|' || coalesce(l.sku, '-') || '|' || CAST(l.stock AS text) || '|'
  || coalesce((SELECT min(p.url) FROM photos p WHERE p.listing_id = l.id), '-') END
FROM (SELECT "key", version, synced FROM changeover_key WHERE entity = 'listings' AND place = 'legacy' UNION ALL
  SELECT CAST(o.id AS text), 0, -1 FROM listings o WHERE NOT EXISTS (SELECT 1 FROM changeover_key s
  WHERE s.entity = 'listings' AND s.place = 'legacy' AND s."key" = CAST(o.id AS text))) k
LEFT JOIN listings l ON l.id = CAST(k."key" AS bigint)"#;

const NEW: &str = r#"
SELECT k."key", k.version, k.synced,
  CASE WHEN s.id IS NULL THEN 'no row' ELSE coalesce(s.title, '-') || '|' || s.status || '|'
  || coalesce((SELECT a.house FROM addresses a WHERE a.id = s.address_id), '-') || '|' || coalesce(s.sku, '-') || '|'
  || coalesce((SELECT CAST(v.stock AS text) FROM variants v WHERE v.listing_id = s.id), 'no variant') || '|'
  || coalesce((SELECT min(i.url) FROM pictures i WHERE i.listing_id = s.id), '-') END
FROM (SELECT "key", version, synced FROM changeover_key WHERE entity = 'listings' AND place = 'new' UNION ALL
  SELECT CAST(o.legacy_id AS text), -1, -1 FROM service_listings o WHERE NOT EXISTS (SELECT 1 FROM changeover_key c
  WHERE c.entity = 'listings' AND c.place = 'new' AND c."key" = CAST(o.legacy_id AS text))) k
LEFT JOIN service_listings s ON s.legacy_id = CAST(k."key" AS bigint)"#;

/// What was seen so far.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    pub samples: u64,
    /// Keys found at equal versions, and compared.
    pub compared: u64,
    /// Keys found behind.
    pub behind: u64,
    /// Why keys were held, and how often that was seen.
    pub holds: BTreeMap<String, u64>,
    pub problems: Vec<String>,
}

const HOLDS: &str = "SELECT state || ': ' || coalesce(reason, '') FROM changeover_key \
  WHERE place = 'legacy' AND state <> 'ok'";

struct One {
    version: i64,
    synced: i64,
    row: String,
}

/// Looks once. A database that is away is not looked at.
pub async fn look(legacy_side: &Plain, new: &Plain, seen: &mut Seen) {
    // The statements' order matters: what the legacy side says is synced is there already.
    let Ok(legacy) = side(legacy_side, LEGACY).await else {
        return;
    };
    let Ok(new) = side(new, NEW).await else {
        return;
    };
    seen.samples += 1;
    for hold in texts(legacy_side, HOLDS).await.unwrap_or_default() {
        // Nothing in this workload is refused for good.
        if hold.starts_with("blocked") {
            seen.problems.push(format!("held without need: {hold}"));
        }
        *seen.holds.entry(hold).or_default() += 1;
    }
    for (key, one) in legacy {
        let there = new.get(&key);
        let version = there.map_or(-1, |there| there.version);
        if version < one.synced {
            let problem = format!(
                "{key} is synced at {}, and the new side holds {version}",
                one.synced
            );
            seen.problems.push(problem);
        }
        match there {
            Some(there) if there.version == one.version => {
                seen.compared += 1;
                if there.row != one.row {
                    seen.problems.push(format!(
                        "{key} differs at version {version}: {} / {}",
                        one.row, there.row
                    ));
                }
            }
            _ => seen.behind += 1,
        }
    }
    seen.problems.truncate(20);
}

async fn side(plain: &Plain, sql: &str) -> Result<HashMap<String, One>, sqlx::Error> {
    macro_rules! rows {
        ($pool:expr) => {
            sqlx::query(AssertSqlSafe(plain.said(sql)))
                .fetch_all($pool)
                .await?
                .iter()
                .map(|row| {
                    let one = One {
                        version: row.try_get(1)?,
                        synced: row.try_get(2)?,
                        row: row.try_get(3)?,
                    };
                    Ok((row.try_get(0)?, one))
                })
                .collect()
        };
    }
    on_pool!(plain, |pool| rows!(pool))
}

async fn texts(plain: &Plain, sql: &'static str) -> Result<Vec<String>, sqlx::Error> {
    on_pool!(plain, |pool| sqlx::query_scalar(sql).fetch_all(pool).await)
}
