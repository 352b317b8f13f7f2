//! What is in flight when something begins beside which it must not be: it ends before.

use std::pin::pin;
use std::time::{Duration, Instant};

use changeover::flags::Key;
use changeover::worker::copy::CopySource;
use sqlx::{Connection as _, Executor as _, MySqlConnection, PgConnection};

use super::loads::clean;
use super::market::{Topology, backfill, drain};
use super::plain::Engine;
use super::stock::Stock;

/// A transaction on the new side for which whoever writes to `goods` waits, until it is dropped.
enum Held {
    Postgres { _connection: PgConnection },
    Mariadb { _connection: MySqlConnection },
}

impl Held {
    async fn open(stock: &Stock) -> Held {
        let url = &stock.market.new_url;
        match stock.topology.new_engine() {
            Engine::Mariadb => {
                let mut connection = MySqlConnection::connect(url).await.unwrap();
                // Of an empty table, the gap before its end.
                let lock = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; \
                            START TRANSACTION; SELECT * FROM goods FOR UPDATE";
                sqlx::raw_sql(lock).execute(&mut connection).await.unwrap();
                Held::Mariadb {
                    _connection: connection,
                }
            }
            _ => {
                let mut connection = PgConnection::connect(url).await.unwrap();
                let lock = "BEGIN; LOCK TABLE goods IN SHARE MODE";
                sqlx::raw_sql(lock).execute(&mut connection).await.unwrap();
                Held::Postgres {
                    _connection: connection,
                }
            }
        }
    }
}

/// Whether somebody waits in the new database for what is held.
async fn somebody_waits(stock: &Stock) -> bool {
    let waiting = match stock.topology.new_engine() {
        // What InnoDB itself tells of its locks is as old as the questions of others are frequent.
        Engine::Mariadb => {
            "SELECT count(*) || '' FROM information_schema.processlist \
             WHERE db = database() AND id <> connection_id() AND info LIKE '%goods%' AND time_ms > 50"
        }
        _ => {
            "SELECT count(*) || '' FROM pg_stat_activity \
             WHERE wait_event_type = 'Lock' AND datname = current_database()"
        }
    };
    stock.market.new.text(waiting).await != "0"
}

/// A copy waits for locks no longer than for a second. A machine that is so busy that it gives up before
/// its time is given another try.
async fn a_load_begins_after_copies_in_flight(topology: Topology) {
    for _ in 0..5 {
        if begins_after_copies_in_flight(topology).await {
            return;
        }
    }
    panic!("the copy never waited long enough");
}

/// Whether the copy waited for as long as it had to.
async fn begins_after_copies_in_flight(topology: Topology) -> bool {
    let stock = Stock::start(topology).await;
    stock.fill(5).await;
    let migration = stock.copying().await;
    let update = "UPDATE things SET title = 'now' WHERE id = 3";
    stock.market.legacy.run(update).await;
    let held = Held::open(&stock).await;
    let (keys, follower) = ([Key::from(3)], migration.copier().follower());
    let begins = async {
        let until = Instant::now() + Duration::from_secs(5);
        while !somebody_waits(&stock).await {
            if Instant::now() > until {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut began = pin!(follower.start_loading());
        tokio::select! {
            began = &mut began => {
                let beside = somebody_waits(&stock).await;
                assert!(!beside, "it began beside a copy: {began:?}");
                return None;
            }
            () = tokio::time::sleep(Duration::from_millis(150)) => {}
        }
        drop(held);
        Some(began.await.unwrap())
    };
    let copy = migration.copier().copy(&keys, CopySource::Inline);
    let (_, began) = tokio::join!(copy, begins);
    let Some(began) = began else {
        return false;
    };
    assert!(began);
    backfill(&migration).await;
    drain(&migration).await;
    clean(&migration).await;
    true
}

macro_rules! on_servers {
    ($($name:ident: $topology:ident,)*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            a_load_begins_after_copies_in_flight(Topology::$topology).await;
        }
    )* };
}

on_servers! {
    on_postgres: PostgresTwoDatabases,
    on_mariadb: MariadbTwoDatabases,
    from_postgres_to_mariadb: PostgresToMariadb,
    from_mariadb_to_postgres: MariadbToPostgres,
}

/// MariaDB's triggers are there before they refuse anything. Who wrote to the new side before that is
/// done when they begin to, or the new side would hold a row that came past them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_begin_after_writers_in_flight() {
    let stock = Stock::start(Topology::MariadbTwoDatabases).await;
    let migration = stock.copying().await;
    let refusing = async |incarnation: i64| {
        let mut connection = MySqlConnection::connect(&stock.market.new_url).await?;
        let sql = format!(
            "SET STATEMENT innodb_lock_wait_timeout = 1 FOR UPDATE changeover_guard \
             SET incarnation = {incarnation} WHERE entity = '{}' AND place = 'new'",
            migration.entity()
        );
        let done = sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
        done.execute(&mut connection).await
    };
    // As in an installation that has made its triggers.
    assert_eq!(refusing(-1).await.unwrap().rows_affected(), 1);
    let mut writer = MySqlConnection::connect(&stock.market.new_url)
        .await
        .unwrap();
    writer.execute("START TRANSACTION").await.unwrap();
    let row = "INSERT INTO goods (thing_id, title) VALUES (7, 'by hand')";
    writer.execute(row).await.unwrap();
    let waited = refusing(0).await.unwrap_err().to_string();
    assert!(waited.contains("Lock wait timeout"), "{waited}");
    writer.execute("ROLLBACK").await.unwrap();
    assert_eq!(refusing(0).await.unwrap().rows_affected(), 1);
    let refused = writer.execute(row).await.unwrap_err().to_string();
    assert!(refused.contains("takes copies alone"), "{refused}");
}
