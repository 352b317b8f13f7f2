//! Transactions that overlap, and statements that triggers tend to miss.

use std::time::Duration;

use changeover::flags::Key;
use changeover::worker::store::Stamped;
use changeover::worker::sum::Span;
use changeover::worker::verify::Class;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};

use super::lifecycle::everywhere;
use super::market::{MAPPING, Market, Plain, Topology, backfill, drain, verify};
use super::stock::Stock;

everywhere!(
    replace_and_ignore_are_stamped,
    a_stamped_key_is_its_writers_until_the_commit,
);

async fn ready(topology: Topology) -> (Market, changeover::worker::migration::Migration) {
    let market = Market::start(topology).await;
    market.fill(8).await;
    let migration = market.installed().await;
    backfill(&migration).await;
    (market, migration)
}

async fn settle(market: &Market, migration: &changeover::worker::migration::Migration) {
    drain(migration).await;
    assert_eq!(market.dirty().await, Vec::<String>::new());
    market.assert_equal().await;
    let report = verify(migration).await;
    assert!(report.clean(), "{report:?}");
}

mod scenario {
    use super::*;

    /// Whatever else belongs to a key waits for its stamp. So what a writer reads of its key after
    /// its last statement is what it commits, and only a rollback makes such a read untrue.
    pub(super) async fn a_stamped_key_is_its_writers_until_the_commit(topology: Topology) {
        let (market, migration) = ready(topology).await;
        let write = "UPDATE listings SET title = 'mine' WHERE id = 1";
        let child = "INSERT INTO photos VALUES (9001, 1, 'not yet')";
        let refused = match &market.legacy {
            Plain::Postgres(pool) => {
                let mut writer = pool.begin().await.unwrap();
                writer.execute(write).await.unwrap();
                let child = format!("SET LOCAL lock_timeout = '200ms'; {child}");
                let refused = market.legacy.try_run(&child).await;
                writer.commit().await.unwrap();
                refused
            }
            Plain::Sqlite(pool) => {
                let mut writer = pool.begin().await.unwrap();
                writer.execute(write).await.unwrap();
                let child = format!("PRAGMA busy_timeout = 200; {child}");
                let refused = market.legacy.try_run(&child).await;
                writer.commit().await.unwrap();
                refused
            }
            Plain::Mariadb(pool) => {
                let mut writer = pool.begin().await.unwrap();
                writer.execute(write).await.unwrap();
                let child = format!("SET innodb_lock_wait_timeout = 1; {child}");
                let refused = market.legacy.try_run(&child).await;
                writer.commit().await.unwrap();
                refused
            }
        };
        let error = refused.expect_err("a row of a stamped key").to_string();
        assert!(
            ["lock timeout", "database is locked", "Lock wait timeout"]
                .iter()
                .any(|words| error.contains(words)),
            "{error}"
        );
        market.legacy.run(child).await;
        settle(&market, &migration).await;
    }

    pub(super) async fn replace_and_ignore_are_stamped(topology: Topology) {
        let (market, migration) = ready(topology).await;
        let statements: &[&str] = if topology.is_postgres() {
            &[
                "INSERT INTO listings (id, tenant_id, title, status) VALUES (1, 2, 'upserted', 'SOLD') ON CONFLICT (id) DO UPDATE SET title = excluded.title",
                "INSERT INTO listings (id, tenant_id, title, status) VALUES (1, 2, 'ignored', 'SOLD'), (70, 2, 'added', 'SOLD') ON CONFLICT DO NOTHING",
                // A session that plays a replica skips ordinary triggers.
                "SET session_replication_role = replica; UPDATE listings SET title = 'replica' WHERE id = 2; SET session_replication_role = origin",
                "WITH gone AS (DELETE FROM listings WHERE id = 3 RETURNING *) INSERT INTO listings (id, tenant_id, title, status) SELECT 71, tenant_id, title, status FROM gone",
            ]
        } else {
            &[
                // Displaces row 2 by its sku, without firing its delete triggers.
                "INSERT OR REPLACE INTO listings (id, tenant_id, title, status, sku) VALUES (1, 2, 'replaced', 'SOLD', 'sku-2')",
                "UPDATE OR REPLACE listings SET sku = 'sku-6' WHERE id = 3",
                "INSERT OR IGNORE INTO listings (id, tenant_id, title, status) VALUES (5, 2, 'ignored', 'SOLD'), (70, 2, 'added', 'SOLD')",
                "UPDATE OR IGNORE listings SET title = 'or ignore' WHERE id = 7",
                "INSERT INTO listings (id, tenant_id, title, status) VALUES (7, 2, 'upserted', 'SOLD') ON CONFLICT (id) DO UPDATE SET title = excluded.title",
                "REPLACE INTO photos (id, listing_id, url) VALUES (8, 7, 'moved to 7')",
            ]
        };
        for sql in statements {
            market.legacy.run(sql).await;
            drain(&migration).await;
            assert_eq!(market.dirty().await, Vec::<String>::new(), "{sql}");
            market.assert_equal().await;
        }
        settle(&market, &migration).await;
    }
}

/// A snapshot of before an `ALTER TABLE` had rewritten its table sees no row of it. A load would end
/// there, and a copy would delete what the new side holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_being_rewritten_is_not_taken_for_empty() {
    const WAITING: &str = "SELECT (count(*) > 0)::text FROM pg_locks WHERE NOT granted AND relation = 'things'::regclass";
    let stock = Stock::start(Topology::PostgresTwoDatabases).await;
    stock.fill(30).await;
    let migration = stock.copying().await;
    let (copier, base) = (migration.copier(), migration.epoch().await.unwrap().base);
    for (way, sql_type) in ["bigint", "numeric", "integer", "bigint"]
        .iter()
        .enumerate()
    {
        let mut writer = connect(&stock.market).await;
        let alter = format!("BEGIN; ALTER TABLE things ALTER num TYPE {sql_type}");
        let alter = sqlx::raw_sql(sqlx::AssertSqlSafe(alter));
        writer.execute(alter).await.unwrap();
        let reading = async {
            let authority = copier.authority();
            let goods = |stamped: &Stamped| stamped.image.as_ref().unwrap().targets[0].len();
            match way {
                0 => {
                    let page = authority
                        .raw_page(&Span::default(), 100, base)
                        .await
                        .unwrap();
                    page.unwrap().keys as usize
                }
                1 => authority
                    .page(&Span::default(), 100)
                    .await
                    .unwrap()
                    .stamped
                    .len(),
                2 => {
                    let keys: Vec<Key> = (1..=30).map(Key::from).collect();
                    authority.read(&keys).await.unwrap().iter().map(goods).sum()
                }
                _ => {
                    let sum = authority.sum(&Span::default(), 7).await.unwrap();
                    // As many tags.
                    sum.unwrap().rows() as usize / 2
                }
            }
        };
        let rewriting = async {
            while stock.market.legacy.text(WAITING).await != "true" {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            writer.execute("COMMIT").await.unwrap();
        };
        let (found, ()) = tokio::join!(reading, rewriting);
        assert_eq!(found, 30, "way {way}");
    }
}

async fn connect(market: &Market) -> PgConnection {
    PgConnection::connect(&market.legacy_url).await.unwrap()
}

/// A dependant that is inserted while its lookup row is being changed: the change's own trigger
/// cannot see it, and it cannot see the change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dependant_born_during_a_lookups_change_is_not_missed() {
    for isolation in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        let (market, migration) = ready(Topology::PostgresTwoDatabases).await;
        let mut change = connect(&market).await;
        change
            .execute(sqlx::AssertSqlSafe(format!(
                "BEGIN ISOLATION LEVEL {isolation}"
            )))
            .await
            .unwrap();
        change
            .execute("UPDATE tenants SET name = 'Ada, renamed' WHERE id = 1")
            .await
            .unwrap();
        market.legacy.run("INSERT INTO listings (id, tenant_id, title, status) VALUES (80, 1, 'born', 'ACTIVE')").await;
        drain(&migration).await;
        let name = "SELECT provider_name FROM service_listings WHERE legacy_id = 80";
        assert_eq!(market.new.text(name).await, "Ada");
        change.execute("COMMIT").await.unwrap();
        settle(&market, &migration).await;
        assert_eq!(market.new.text(name).await, "Ada, renamed", "{isolation}");
    }
}

/// Its new image is under its old version for as long as somebody writes another dependant of the
/// same lookup row: that is lag, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dependant_whose_lookup_has_just_changed_is_lagging() {
    let (market, migration) = ready(Topology::PostgresTwoDatabases).await;
    let mut change = connect(&market).await;
    change
        .execute("BEGIN; UPDATE tenants SET name = 'renamed' WHERE id = 1")
        .await
        .unwrap();
    market
        .legacy
        .run("INSERT INTO listings (id, tenant_id, title, status) VALUES (80, 1, 'born', 'ACTIVE')")
        .await;
    drain(&migration).await;
    change.execute("COMMIT").await.unwrap();
    let mut writer = connect(&market).await;
    writer
        .execute("BEGIN; UPDATE listings SET stock = 7 WHERE id = 4")
        .await
        .unwrap();
    // A difference in another key must be seen meanwhile.
    market.new.run("SET changeover.copy = 'on'; UPDATE service_listings SET title = 'forged' WHERE legacy_id = 3; RESET changeover.copy").await;
    let report = verify(&migration).await;
    let class = |key: &str| {
        let found = report.samples.iter().find(|sample| sample.key == key);
        found.map(|sample| sample.class)
    };
    assert_eq!(class("80"), Some(Class::Lagging), "{report:?}");
    assert_eq!(class("3"), Some(Class::Divergent), "{report:?}");
    writer.execute("ROLLBACK").await.unwrap();
    let keys = [Key::from("3")];
    migration.repair(false).run(&keys).await.unwrap();
    settle(&market, &migration).await;
}

/// A writer whose snapshot is older than the raised base: its stamp must not be lost among the
/// versions of the new incarnation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_snapshot_writes_above_a_raised_base() {
    for isolation in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        let (market, _) = ready(Topology::PostgresTwoDatabases).await;
        let mut old = connect(&market).await;
        old.execute(sqlx::AssertSqlSafe(format!(
            "BEGIN ISOLATION LEVEL {isolation}"
        )))
        .await
        .unwrap();
        // Takes the snapshot without touching the table that will be written.
        old.execute("SELECT count(*) FROM tenants").await.unwrap();
        let next = MAPPING.replace("revision = 1", "revision = 2");
        let migration = market.open_with(Market::mapping(&next)).await;
        migration.raise_revision().await.unwrap();
        backfill(&migration).await;
        drain(&migration).await;
        old.execute("UPDATE listings SET title = 'from the past' WHERE id = 5")
            .await
            .unwrap();
        old.execute("COMMIT").await.unwrap();
        assert_eq!(
            market.dirty().await.len(),
            1,
            "{isolation}: the write is not known"
        );
        settle(&market, &migration).await;
        let title = market
            .new
            .text("SELECT title FROM service_listings WHERE legacy_id = 5")
            .await;
        assert_eq!(title, "from the past");
    }
}

/// Raising the revision waits for a writer in flight, in short tries, and is then complete.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raising_waits_for_writers_in_flight() {
    let (market, _) = ready(Topology::PostgresTwoDatabases).await;
    let mut writer = connect(&market).await;
    writer.execute("BEGIN").await.unwrap();
    writer
        .execute("UPDATE listings SET title = 'in flight' WHERE id = 5")
        .await
        .unwrap();
    let next = MAPPING.replace("revision = 1", "revision = 2");
    let migration = market.open_with(Market::mapping(&next)).await;
    let raising = tokio::spawn({
        let migration = migration.clone();
        async move { migration.raise_revision().await }
    });
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert!(
        !raising.is_finished(),
        "the base was raised past a writer in flight"
    );
    writer.execute("COMMIT").await.unwrap();
    raising.await.unwrap().unwrap();
    backfill(&migration).await;
    settle(&market, &migration).await;
}
