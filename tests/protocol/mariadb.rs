//! What sets MariaDB apart as the authority: each trap of its own is refused, covered, or named.

use std::time::Duration;

use changeover::flags::Key;
use changeover::worker::dialect::install::Patience;
use changeover::worker::dialect::session::Database;
use changeover::worker::migration::Migration;
use changeover::worker::verify::Class;
use sqlx::{Connection as _, Executor as _};

use super::market::{MAPPING, Market, Topology, backfill, drain, verify};
use super::races::settle;
use crate::support::mariadb::Mariadb;

async fn ready(rows: u32) -> (Market, Migration) {
    let market = Market::start(Topology::MariadbToSqlite).await;
    market.fill(rows).await;
    let migration = market.installed().await;
    backfill(&migration).await;
    (market, migration)
}

/// A market on a server of its own.
pub(super) async fn apart() -> (Mariadb, Market) {
    let server = Mariadb::start();
    server.create_database("shop").await;
    let topology = Topology::MariadbToSqlite;
    let (folder, _, new) = topology.databases().await;
    let market = Market::on(topology, server.url("shop"), new, folder).await;
    (server, market)
}

/// After a statement that is closed the next one waits for 40 ms.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_close_no_statement() {
    let (_server, market) = apart().await;
    market.fill(30).await;
    let migration = market.installed().await;
    backfill(&migration).await;
    let closed = "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'COM_STMT_CLOSE'";
    let before = market.legacy.text(closed).await;
    for n in 1..=30 {
        let sql = format!("UPDATE listings SET title = 'again' WHERE id <= {n}");
        market.legacy.run(&sql).await;
        drain(&migration).await;
    }
    assert_eq!(market.legacy.text(closed).await, before);
}

/// Why no migration of `market` with this mapping can begin.
pub(super) async fn refused(market: &Market, mapping: &str) -> String {
    let [legacy, new] =
        [&market.legacy_url, &market.new_url].map(|url| Database::open(url).unwrap());
    let opened = Migration::open(Market::entity(), Market::mapping(mapping), legacy, new).await;
    let error = opened.expect_err("it was not refused");
    let source = std::error::Error::source(&error).map(ToString::to_string);
    format!("{error}; {}", source.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_to_write_a_row_is_stamped() {
    let (market, migration) = ready(20).await;
    for (sql, stamped) in [
        // Takes out row 3, which holds the unique value, and puts itself in its place.
        (
            "REPLACE INTO listings (id, tenant_id, title, status, sku) VALUES (2, 1, 'r', 'ACTIVE', 'sku-3')",
            &["2", "3"][..],
        ),
        (
            "INSERT INTO listings (id, tenant_id, title, status, sku) VALUES (90, 1, 'u', 'ACTIVE', 'sku-5') \
             ON DUPLICATE KEY UPDATE title = 'changed instead'",
            &["5"],
        ),
        (
            "INSERT IGNORE INTO listings (id, tenant_id, title, status) VALUES (6, 1, 'i', 'ACTIVE'), (91, 1, 'i', 'ACTIVE')",
            &["91"],
        ),
        (
            "UPDATE listings l JOIN photos p ON p.listing_id = l.id SET l.title = 'joined', p.url = 'joined' WHERE l.id = 8",
            &["8"],
        ),
        (
            "DELETE l, p FROM listings l JOIN photos p ON p.listing_id = l.id WHERE l.id = 12",
            &["12"],
        ),
        ("UPDATE listings SET id = 95 WHERE id = 7", &["7", "95"]),
    ] {
        market.legacy.run(sql).await;
        let dirty = market.dirty().await;
        let keys: Vec<&str> = dirty
            .iter()
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert_eq!(keys, stamped, "{sql}");
        settle(&market, &migration).await;
    }
}

/// Its snapshot is older than the raise, so a plain read in the trigger would find the old base.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_with_an_old_snapshot_stamps_above_a_raised_base() {
    let (market, _) = ready(8).await;
    let mut writer = sqlx::MySqlConnection::connect(&market.legacy_url)
        .await
        .unwrap();
    for sql in [
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT",
        "SELECT * FROM tenants",
    ] {
        writer.execute(sql).await.unwrap();
    }
    // The same mapping under a later number: nothing of the tables' own changes, so no object of
    // theirs has to wait for the snapshot's end.
    market
        .legacy
        .run("UPDATE changeover_guard SET incarnation = 3; UPDATE changeover_epoch SET incarnation = 3")
        .await;
    writer
        .execute("UPDATE listings SET title = 'late' WHERE id = 1")
        .await
        .unwrap();
    writer.execute("COMMIT").await.unwrap();
    let above = format!(
        "SELECT CAST(version > {} AS text) FROM changeover_key WHERE \"key\" = '1'",
        3_i64 << 44
    );
    assert_eq!(market.legacy.text(&above).await, "1");
}

/// Whoever holds the row that switches the triggers on is waited for: after it was changed, no write
/// is left that did not see it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raise_waits_for_writers_in_flight() {
    let (market, migration) = ready(8).await;
    let mut writer = sqlx::MySqlConnection::connect(&market.legacy_url)
        .await
        .unwrap();
    writer.execute("START TRANSACTION").await.unwrap();
    writer
        .execute("UPDATE listings SET title = 'in flight' WHERE id = 1")
        .await
        .unwrap();
    let later = MAPPING.replace("revision = 1", "revision = 2");
    let later = market.open_with(Market::mapping(&later)).await;
    let hasty = later.clone().with_patience(Patience {
        tries: 1,
        ..Patience::default()
    });
    let waited = hasty.raise_revision().await.unwrap_err();
    let source = std::error::Error::source(&waited).unwrap().to_string();
    assert!(source.contains("to end it: KILL"), "{waited}: {source}");
    // Until the raise is done, stamps are of the incarnation that the follower no longer takes.
    market
        .legacy
        .run("UPDATE listings SET title = 'meanwhile' WHERE id = 2")
        .await;
    let below = format!(
        "SELECT CAST(version < {} AS text) FROM changeover_key WHERE \"key\" = '2'",
        1_i64 << 44
    );
    assert_eq!(market.legacy.text(&below).await, "1");
    writer.execute("COMMIT").await.unwrap();
    later.raise_revision().await.unwrap();
    backfill(&later).await;
    settle(&market, &later).await;
    drop(migration);
}

/// What is copied while some of the new triggers are missing must count as from below the base. A reader holds up
/// the trigger of a table, but not the row that switches the triggers on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_base_is_lifted_when_all_triggers_are_there() {
    let (market, migration) = ready(8).await;
    let once = Patience {
        tries: 1,
        ..Patience::default()
    };
    let mut reader = sqlx::MySqlConnection::connect(&market.legacy_url)
        .await
        .unwrap();
    let newest = "SELECT CAST(max(version) >> 44 AS text) FROM changeover_key";
    let later = MAPPING.replace("revision = 1", "revision = 2");
    // Each attempt takes an incarnation of its own: the raise 1, then 2, and the installation 3.
    for (again, below) in [(false, "0"), (true, "2")] {
        let patient = market.open_with(Market::mapping(&later)).await;
        let held = patient.clone().with_patience(once);
        if again {
            patient.uninstall().await.unwrap();
            market
                .new
                .run("DELETE FROM pictures; DELETE FROM variants; DELETE FROM service_listings; DELETE FROM addresses")
                .await;
        }
        reader.execute("START TRANSACTION").await.unwrap();
        reader.execute("SELECT * FROM photos").await.unwrap();
        let waited = match again {
            false => held.raise_revision().await.map(drop),
            true => held.install().await.map(drop),
        };
        let waited = waited.expect_err("the reader was not waited for");
        let source = std::error::Error::source(&waited).unwrap().to_string();
        assert!(source.contains("to end it: KILL"), "{waited}: {source}");
        market
            .legacy
            .run("UPDATE listings SET title = 'meanwhile' WHERE id = 2")
            .await;
        assert_eq!(market.legacy.text(newest).await, below, "again: {again}");
        reader.execute("COMMIT").await.unwrap();
        match again {
            false => patient.raise_revision().await.map(drop),
            true => patient.install().await.map(drop),
        }
        .unwrap();
    }
    drop(migration);
}

/// `TRUNCATE` fires no trigger, and nothing refuses it: a verify names what it leaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_truncate_leaves_behind_are_found() {
    let (market, migration) = ready(10).await;
    market.legacy.run("TRUNCATE TABLE photos").await;
    let report = verify(&migration).await;
    assert!(!report.clean());
    assert_eq!(report.count(Class::Divergent), 2, "{report:?}");
    migration
        .copier()
        .authority()
        .touch(&[Key::new("4"), Key::new("8")])
        .await
        .unwrap();
    drain(&migration).await;
    assert!(verify(&migration).await.clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_leave_no_stamp_is_refused() {
    let refers = "ALTER TABLE photos ADD FOREIGN KEY (listing_id) REFERENCES listings (id)";
    let market = Market::start(Topology::MariadbToSqlite).await;
    market.legacy.run(refers).await;
    market.open().await;
    let market = Market::start(Topology::MariadbToSqlite).await;
    let cascades = format!("{refers} ON DELETE CASCADE");
    market.legacy.run(&cascades).await;
    let why = refused(&market, MAPPING).await;
    assert!(why.contains("fires no trigger on MariaDB"), "{why}");
    let market = Market::start(Topology::MariadbToSqlite).await;
    market.legacy.run("ALTER TABLE photos ENGINE=MyISAM").await;
    let why = refused(&market, MAPPING).await;
    assert!(why.contains("ENGINE=InnoDB"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_whose_texts_are_not_one_value_is_refused() {
    let mapping = "revision = 1\nroot = { table = 'codes', key = ['code'] }\n[[target]]\nname = 'label'\n\
        table = 'labels'\nowned_by = { key = ['code'] }\nidentity = ['code']\ncolumns = { code = 'code' }";
    for (sql_type, says) in [
        ("varchar(40)", "MariaDB: utf8mb4_nopad_bin"),
        // Trailing spaces do not count in it.
        (
            "varchar(40) COLLATE utf8mb4_bin",
            "MariaDB: utf8mb4_nopad_bin",
        ),
        (
            "varchar(700) COLLATE utf8mb4_nopad_bin",
            "at most 600 characters",
        ),
        ("decimal(10,0)", "must be an integer"),
        // Its text is 00007, and the number's is 7.
        ("int(5) unsigned zerofill", "must be an integer"),
    ] {
        let sql = format!("CREATE TABLE codes (code {sql_type} NOT NULL PRIMARY KEY)");
        let market = Market::start(Topology::MariadbToSqlite).await;
        market.legacy.run(&sql).await;
        market
            .new
            .run("CREATE TABLE labels (code text PRIMARY KEY NOT NULL)")
            .await;
        let why = refused(&market, mapping).await;
        assert!(why.contains(says), "{sql_type}: {why}");
    }
}

/// A database whose triggers a half-done installation left does nothing with them, and a new
/// installation is whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_an_installation_does_nothing() {
    let (market, migration) = ready(8).await;
    // As a crash leaves it: the rows are gone, the triggers are not.
    market
        .legacy
        .run("DELETE FROM changeover_guard; DELETE FROM changeover_epoch; DELETE FROM changeover_key")
        .await;
    market
        .legacy
        .run("UPDATE listings SET title = 'free'")
        .await;
    let stamps = "SELECT CAST(count(*) AS text) FROM changeover_key";
    assert_eq!(market.legacy.text(stamps).await, "0");
    migration.uninstall().await.unwrap();
    let left = market
        .legacy
        .texts(market.legacy.engine().installed())
        .await;
    let left: Vec<&String> = left
        .iter()
        .filter(|one| !one.contains("changeover_past"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guarded_pool_hands_no_transaction_on() {
    let market = Market::start(Topology::MariadbToSqlite).await;
    let pool = changeover::worker::guard::mariadb(sqlx::mysql::MySqlPoolOptions::new())
        .max_connections(1)
        .connect(&market.legacy_url)
        .await
        .unwrap();
    let mut left = pool.acquire().await.unwrap();
    left.execute("START TRANSACTION").await.unwrap();
    left.execute("DELETE FROM tenants").await.unwrap();
    drop(left);
    sqlx::query("INSERT INTO tenants VALUES (3, 'Cy')")
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    let tenants = "SELECT name FROM tenants ORDER BY id";
    assert_eq!(market.legacy.texts(tenants).await, ["Ada", "Bo", "Cy"]);
}

/// Creating a trigger does not wait for it, and it commits without a stamp. Nor does anybody see it who asks
/// while another asks ten times a second what is open: the server shows both an old list.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_installation_passes_a_prepared_transaction() {
    // Nothing can be installed on its server meanwhile.
    let (_server, market) = apart().await;
    market.fill(4).await;
    let monitor = tokio::spawn({
        let legacy = market.legacy.clone();
        async move {
            loop {
                let list = "SELECT CAST(trx_id AS text) FROM information_schema.innodb_trx";
                legacy.texts(list).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    let mut writer = sqlx::MySqlConnection::connect(&market.legacy_url)
        .await
        .unwrap();
    let xa = |what: &str| format!("XA {what} 'one'");
    for sql in [
        xa("START"),
        "UPDATE listings SET title = 'prepared' WHERE id = 1".to_owned(),
        xa("END"),
        xa("PREPARE"),
    ] {
        writer
            .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql)))
            .await
            .unwrap();
    }
    drop(writer);
    let migration = market.open().await.with_patience(Patience {
        tries: 1,
        ..Patience::default()
    });
    let hidden = causes(&migration.install().await.unwrap_err());
    let seen = "XA RECOVER";
    assert!(
        hidden.contains("more often than every 100 ms") || hidden.contains(seen),
        "{hidden}"
    );
    monitor.abort();
    let refused = causes(&migration.install().await.unwrap_err());
    assert!(refused.contains(seen), "{refused}");
    market.legacy.run(&xa("ROLLBACK")).await;
    migration.install().await.unwrap();
}

/// An error with what it comes from.
fn causes(error: &dyn std::error::Error) -> String {
    let all = std::iter::successors(Some(error), |error| error.source());
    all.map(|error| format!("{error}; ")).collect()
}

/// What a note says of its row is what was written, the empty text included.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_note_keeps_the_empty_text() {
    let by_name = MAPPING.replace(
        "SELECT id FROM listings WHERE tenant_id = $row.id",
        "SELECT l.id FROM listings l JOIN tenants t ON t.id = l.tenant_id WHERE t.name = $row.name",
    );
    let market = Market::start(Topology::MariadbToSqlite).await;
    market.fill(4).await;
    let migration = market.installed_with(&by_name).await;
    backfill(&migration).await;
    let mut writer = sqlx::MySqlConnection::connect(&market.legacy_url)
        .await
        .unwrap();
    // Under REPEATABLE READ the trigger's query locks what it reads, and the row waits.
    writer
        .execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        .await
        .unwrap();
    writer.execute("START TRANSACTION").await.unwrap();
    writer
        .execute("UPDATE tenants SET name = '' WHERE id = 2")
        .await
        .unwrap();
    // Neither sees the other.
    market
        .legacy
        .run("INSERT INTO listings (id, tenant_id, status) VALUES (50, 2, 'ACTIVE')")
        .await;
    drain(&migration).await;
    writer.execute("COMMIT").await.unwrap();
    settle(&market, &migration).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_note_cannot_say_is_refused() {
    let market = Market::start(Topology::MariadbToSqlite).await;
    market
        .legacy
        .run("ALTER TABLE tenants ADD COLUMN seen timestamp NULL")
        .await;
    let by_time = MAPPING.replace("tenant_id = $row.id", "$row.seen IS NOT NULL");
    let why = refused(&market, &by_time).await;
    assert!(why.contains("depends on the writer's session"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_authority_takes_no_copies() {
    let (market, _) = ready(4).await;
    let copy = market
        .legacy
        .engine()
        .forced("UPDATE listings SET title = 'copied' WHERE id = 1");
    let refused = market.legacy.try_run(&copy).await.unwrap_err();
    assert!(refused.to_string().contains("takes no copies"), "{refused}");
}
