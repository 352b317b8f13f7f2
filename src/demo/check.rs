//! The independent check: no code of the product, none of its tables, connections of its own.
//!
//! 1. Legacy and new are compared field by field by SQL of the check's own: `check.sqlite.sql` with
//!    both files attached, or `check.postgres.sql` with both databases read side by side.
//! 2. What either side holds is held against the [`Ledger`](super::ledger).

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr as _;

use futures_util::TryStreamExt as _;
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Row as _};

use super::database::Databases;
use super::ledger::{Found, Ledger};
use super::store::Store;

/// The most problems that are told.
const TOLD: usize = 20;

const LEGACY_ROWS: &str = "SELECT id, tenant_id, journal FROM marketplace_listings";
const LEGACY_PHOTOS: &str = "SELECT listing_id, url FROM listing_photos WHERE url LIKE 'photo:%'";
const NEW_ROWS: &str = "SELECT s.legacy_listing_id, p.tenant_id, s.journal \
     FROM service_listings s JOIN providers p ON p.id = s.provider_id";
const NEW_PHOTOS: &str = "SELECT s.legacy_listing_id, m.url FROM listing_media m \
     JOIN service_listings s ON s.id = m.service_listing_id WHERE m.url LIKE 'photo:%'";

/// Checks everything; answers what is wrong, nothing when all is well.
pub(super) async fn check(
    databases: &Databases,
    ledger: &Ledger,
    before: i64,
) -> Result<Vec<String>, sqlx::Error> {
    let mut wrong = match databases.paths() {
        Some((legacy, new)) => attached(legacy, new).await?,
        None => side_by_side(&databases.legacy_url, &databases.new_url).await?,
    };
    let legacy = found(&databases.legacy, LEGACY_ROWS, LEGACY_PHOTOS).await?;
    let new = found(&databases.new, NEW_ROWS, NEW_PHOTOS).await?;
    for (side, found) in [("legacy", legacy), ("new", new)] {
        let problems = ledger.examine(&found, before);
        wrong.extend(
            problems
                .into_iter()
                .map(|problem| format!("{side}: {problem}")),
        );
    }
    wrong.truncate(TOLD);
    Ok(wrong)
}

/// The statements of a file, without its comments.
fn statements(file: &str) -> Vec<String> {
    let lines: Vec<&str> = file
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"))
        .collect();
    let text = lines.join("\n");
    text.split(';')
        .map(|one| one.trim().to_owned())
        .filter(|one| !one.is_empty())
        .collect()
}

async fn attached(legacy: &Path, new: &Path) -> Result<Vec<String>, sqlx::Error> {
    // Not in memory: what is attached to a database in memory is in memory, too.
    let mut connection = SqliteConnectOptions::new()
        .filename(legacy)
        .connect()
        .await?;
    for (path, name) in [(legacy, "legacy"), (new, "new")] {
        let attach = sqlx::query("ATTACH DATABASE $1 AS $2");
        let attach = attach.bind(path.display().to_string()).bind(name);
        connection.execute(attach).await?;
    }
    let mut wrong = Vec::new();
    for sql in statements(include_str!("check.sqlite.sql")) {
        let mut problems = sqlx::query(AssertSqlSafe(sql)).fetch(&mut connection);
        while let Some(row) = problems.try_next().await? {
            wrong.push(row.try_get(0)?);
            if wrong.len() >= TOLD {
                break;
            }
        }
    }
    connection.close().await?;
    Ok(wrong)
}

async fn side_by_side(legacy: &str, new: &str) -> Result<Vec<String>, sqlx::Error> {
    let options =
        |url| PgConnectOptions::from_str(url).map(|options| options.options([("TimeZone", "UTC")]));
    let mut legacy = options(legacy)?.connect().await?;
    let mut new = options(new)?.connect().await?;
    let mut wrong = Vec::new();
    let statements = statements(include_str!("check.postgres.sql"));
    for pair in statements.chunks_exact(2) {
        let [was, now] = pair else { continue };
        let mut was = sqlx::query(AssertSqlSafe(was.clone())).fetch(&mut legacy);
        let mut now = sqlx::query(AssertSqlSafe(now.clone())).fetch(&mut new);
        let (mut left, mut right) = (was.try_next().await?, now.try_next().await?);
        while (left.is_some() || right.is_some()) && wrong.len() < TOLD {
            let (a, b) = (texts(left.as_ref())?, texts(right.as_ref())?);
            if a == b {
                left = was.try_next().await?;
                right = now.try_next().await?;
                continue;
            }
            // The side whose key comes first goes on alone.
            let (x, y) = (number(&a), number(&b));
            if x <= y {
                wrong.push(format!("row {a:?} of legacy is missing in new, or differs"));
                left = was.try_next().await?;
            }
            if y <= x {
                wrong.push(format!("row {b:?} of new is not in legacy, or differs"));
                right = now.try_next().await?;
            }
        }
    }
    Ok(wrong)
}

/// A row as it is, all of it text.
fn texts(row: Option<&PgRow>) -> Result<Vec<Option<String>>, sqlx::Error> {
    let Some(row) = row else {
        return Ok(Vec::new());
    };
    (0..row.len()).map(|index| row.try_get(index)).collect()
}

/// The number by which rows are ordered; what has none comes last.
fn number(row: &[Option<String>]) -> i64 {
    let first = row.first().and_then(Option::as_deref);
    first.and_then(|text| text.parse().ok()).unwrap_or(i64::MAX)
}

/// The rows of one side, as the ledger asks for them.
async fn found(
    store: &Store,
    rows: &str,
    photos: &str,
) -> Result<BTreeMap<i64, Found>, sqlx::Error> {
    let mut found: BTreeMap<i64, Found> = BTreeMap::new();
    for mut row in store.fetch(rows, &[]).await? {
        let (id, tenant) = (row.int(), row.int());
        let journal = row.text().unwrap_or_default();
        found.insert(
            id,
            Found {
                tenant,
                journal,
                photos: Vec::new(),
            },
        );
    }
    for mut row in store.fetch(photos, &[]).await? {
        let (id, url) = (row.int(), row.text().unwrap_or_default());
        // A photo without its row shows as a photo that the row did not take.
        let number = url.trim_start_matches("photo:").parse().unwrap_or(0);
        found.entry(id).or_default().photos.push(number);
    }
    Ok(found)
}
