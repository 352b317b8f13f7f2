//! A copy that is in flight when a load begins, beside which nothing may be copied: it ends before.

use std::pin::pin;
use std::time::Duration;

use changeover::flags::Key;
use changeover::worker::copy::CopySource;
use sqlx::{Connection as _, MySqlConnection, PgConnection};

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

/// Waits until somebody waits in the new database for what is held.
async fn until_somebody_waits(stock: &Stock) {
    let waiting = match stock.topology.new_engine() {
        // What InnoDB itself tells of its locks is as old as the questions of others are frequent.
        Engine::Mariadb => {
            "SELECT count(*) || '' FROM information_schema.processlist \
             WHERE db = database() AND id <> connection_id() AND info LIKE '%goods%' AND time_ms > 200"
        }
        _ => {
            "SELECT count(*) || '' FROM pg_stat_activity \
             WHERE wait_event_type = 'Lock' AND datname = current_database()"
        }
    };
    while stock.market.new.text(waiting).await == "0" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn a_load_begins_after_copies_in_flight(topology: Topology) {
    let stock = Stock::start(topology).await;
    stock.fill(5).await;
    let migration = stock.copying().await;
    let update = "UPDATE things SET title = 'now' WHERE id = 3";
    stock.market.legacy.run(update).await;
    let held = Held::open(&stock).await;
    let (keys, follower) = ([Key::from(3)], migration.copier().follower());
    let begins = async {
        until_somebody_waits(&stock).await;
        let mut began = pin!(follower.start_loading());
        tokio::select! {
            began = &mut began => panic!("it began beside a copy: {began:?}"),
            () = tokio::time::sleep(Duration::from_millis(400)) => {}
        }
        drop(held);
        began.await.unwrap()
    };
    let copy = migration.copier().copy(&keys, CopySource::Inline);
    let (_, began) = tokio::join!(copy, begins);
    assert!(began);
    backfill(&migration).await;
    drain(&migration).await;
    clean(&migration).await;
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
