//! The driver's defect: a `begin` that is dropped half-way leaves the pool a connection inside a
//! transaction. It is shown here with the guards off, and then with each guard on.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use changeover::flags::{Entity, Epoch, Flags, Place, Version};
use changeover::proxy::{Changeover, Limits, Operation, Refused};
use changeover::shadow::Value;
use changeover::worker::guard;
use sqlx::PgPool;
use sqlx::mysql::MySqlPoolOptions;
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::SqlitePoolOptions;
use tower::util::BoxCloneService;
use tower::{Layer, ServiceExt, service_fn};

use crate::protocol::plain::{Engine, Plain, on_pool};
use crate::support::{self, postgres::Postgres};

/// SQLite's pool has a test of its own.
const ENGINES: [Engine; 2] = [Engine::Postgres, Engine::Mariadb];

async fn pools(guarded: bool) -> (PgPool, PgPool) {
    let url = support::postgres::fresh_one().await;
    let options = PgPoolOptions::new().max_connections(1);
    let options = if guarded {
        guard::postgres(options)
    } else {
        options
    };
    let pool = options.connect(&url).await.unwrap();
    let witness = PgPoolOptions::new()
        .max_connections(1)
        .connect(&url)
        .await
        .unwrap();
    sqlx::raw_sql("CREATE TABLE t (id bigint PRIMARY KEY)")
        .execute(&witness)
        .await
        .unwrap();
    (pool, witness)
}

/// Polls `future` `polls` times, letting the connection work in between, and drops it.
async fn drop_after(polls: u32, future: impl Future) {
    let mut future = pin!(future);
    for _ in 0..polls {
        let mut context = Context::from_waker(Waker::noop());
        if future.as_mut().poll(&mut context).is_ready() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// Cancels a begin after so many polls, some times; after each, one acknowledged insert. Answers
/// how many acknowledged rows nobody else can see.
async fn acknowledged_and_lost(engine: Engine, guarded: bool, polls: u32) -> usize {
    let url = engine.fresh(String::new()).await;
    let witness = Plain::open(&url).await;
    witness
        .run("CREATE TABLE t (id bigint NOT NULL PRIMARY KEY)")
        .await;
    let pool = match engine {
        Engine::Mariadb => {
            let options = MySqlPoolOptions::new().max_connections(1);
            let options = if guarded {
                guard::mariadb(options)
            } else {
                options
            };
            Plain::Mariadb(options.connect(&url).await.unwrap())
        }
        _ => {
            let options = PgPoolOptions::new().max_connections(1);
            let options = if guarded {
                guard::postgres(options)
            } else {
                options
            };
            Plain::Postgres(options.connect(&url).await.unwrap())
        }
    };
    let mut acknowledged = 0;
    // None comes after the last one: on MariaDB its `BEGIN` would commit what is open.
    for n in 0..3 {
        on_pool!(&pool, |pool| drop_after(polls, pool.begin()).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
        let insert = pool.try_run(&format!("INSERT INTO t VALUES ({n})")).await;
        acknowledged += usize::from(insert.is_ok());
    }
    // Ends the session, and with it whatever transaction it is in.
    on_pool!(&pool, |pool| pool.close().await);
    let seen = witness.text("SELECT CAST(count(*) AS text) FROM t").await;
    acknowledged - seen.parse::<usize>().unwrap()
}

#[tokio::test]
async fn without_guards_acknowledged_writes_are_lost() {
    // Which poll finds the `BEGIN` on its way depends on the machine's load.
    for engine in ENGINES {
        let mut lost = 0;
        for attempt in 0..160 {
            lost = acknowledged_and_lost(engine, false, 1 + attempt % 8).await;
            if lost > 0 {
                break;
            }
        }
        assert!(
            lost > 0,
            "the driver of {engine:?} no longer has the defect: its guard can go"
        );
    }
}

#[tokio::test]
async fn the_pool_guard_contains_it() {
    for engine in ENGINES {
        for polls in 1..=8 {
            let lost = acknowledged_and_lost(engine, true, polls).await;
            assert_eq!(lost, 0, "{engine:?}, {polls} polls");
        }
    }
}

/// A guard that warned of each release would fill the server's log, and the application's.
#[tokio::test]
async fn the_pool_guard_is_silent_about_connections_in_order() {
    let (pool, _witness) = pools(true).await;
    let log = tempfile::NamedTempFile::new().unwrap();
    let to_log = Arc::new(log.reopen().unwrap());
    let subscriber = tracing_subscriber::fmt().with_writer(to_log).finish();
    // A pool's hooks run on this thread, as everything does in this runtime.
    let _listening = tracing::subscriber::set_default(subscriber);
    // While there is but one, an event that another test's thread comes by first is off for all.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let logged = || std::fs::read_to_string(log.path()).unwrap();
    for _ in 0..3 {
        sqlx::query("SELECT 1").execute(&pool).await.unwrap();
    }
    assert!(!logged().contains("transaction"), "{}", logged());
    // That it listens is seen by the warning of a connection that is not in order.
    let mut left = pool.acquire().await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut *left).await.unwrap();
    drop(left);
    sqlx::query("SELECT 1").execute(&pool).await.unwrap();
    assert!(logged().contains("already a transaction"), "{}", logged());
}

#[tokio::test]
async fn the_pool_guard_ends_a_transaction_that_has_failed() {
    let (pool, witness) = pools(true).await;
    let mut left = pool.acquire().await.unwrap();
    let failed = sqlx::raw_sql("BEGIN; SELECT 1 / 0")
        .execute(&mut *left)
        .await;
    assert!(failed.is_err());
    drop(left);
    let insert = sqlx::raw_sql("INSERT INTO t VALUES (1)")
        .execute(&pool)
        .await;
    insert.unwrap();
    let (seen,): (i64,) = sqlx::query_as("SELECT count(*) FROM t")
        .fetch_one(&witness)
        .await
        .unwrap();
    assert_eq!(seen, 1);
}

#[tokio::test]
async fn the_pool_guard_ends_a_transaction_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}?mode=rwc", folder.path().join("t.db").display());
    let pool = |options| SqlitePoolOptions::max_connections(options, 1).connect(&url);
    let guarded = pool(guard::sqlite(SqlitePoolOptions::new())).await.unwrap();
    let witness = pool(SqlitePoolOptions::new()).await.unwrap();
    let table = sqlx::raw_sql("CREATE TABLE t (id INTEGER PRIMARY KEY)");
    table.execute(&guarded).await.unwrap();
    let mut left = guarded.acquire().await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut *left).await.unwrap();
    drop(left);
    let insert = sqlx::raw_sql("INSERT INTO t VALUES (1)");
    insert.execute(&guarded).await.unwrap();
    let seen = sqlx::query_scalar("SELECT count(*) FROM t");
    let seen: i64 = seen.fetch_one(&witness).await.unwrap();
    assert_eq!(seen, 1);
}

/// The layer around inserts in a transaction of their own, on a pool without a guard.
fn layered(
    pool: &PgPool,
    limits: Limits,
) -> (BoxCloneService<i64, (), Refused>, changeover::proxy::Handle) {
    let pool = pool.clone();
    let flags = Flags::memory(Entity::new("t").unwrap());
    flags
        .learn(&Epoch {
            number: 1,
            authority: Place::Legacy,
            copying: false,
            moving_to: None,
            revision: 1,
            base: Version(0),
            backfilled: false,
            verified: false,
        })
        .unwrap();
    let service = service_fn(move |id: i64| {
        let pool = pool.clone();
        async move {
            let mut transaction = pool
                .begin()
                .await
                .map_err(|_| Refused::NoKey { operation: "put" })?;
            let insert = sqlx::query("INSERT INTO t VALUES ($1)").bind(id);
            insert
                .execute(&mut *transaction)
                .await
                .map_err(|_| Refused::NoKey { operation: "put" })?;
            transaction
                .commit()
                .await
                .map_err(|_| Refused::NoKey { operation: "put" })
        }
    });
    let layer = Changeover::builder(flags)
        .classify(|id: &i64| Operation::write("put", [*id]))
        .observe(|(): &()| Some(Value::Null))
        .limits(limits)
        .new_service(service.clone())
        .build()
        .unwrap();
    let handle = layer.handle();
    (BoxCloneService::new(layer.layer(service)), handle)
}

/// The layer's guard: its caller is dropped while the service is inside `begin`.
#[tokio::test]
async fn the_layer_contains_it() {
    let (pool, witness) = pools(false).await;
    let (service, handle) = layered(&pool, Limits::default());
    for id in 0..24i64 {
        drop_after(1 + (id as u32) % 8, service.clone().oneshot(id)).await;
    }
    assert!(
        handle
            .close_and_wait(Duration::from_secs(20))
            .await
            .is_complete()
    );
    // Every write that began was finished: none was lost half-way, and none is in limbo.
    let (seen,): (i64,) = sqlx::query_as("SELECT count(*) FROM t")
        .fetch_one(&witness)
        .await
        .unwrap();
    assert_eq!(seen, 24);
}

/// A database that is stopped for longer than a write goes on without its caller: it is not dropped inside
/// `begin` even then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_layer_contains_it_past_its_time() {
    const TIME: Duration = Duration::from_millis(100);
    let server = tokio::task::block_in_place(Postgres::start);
    server.create_database("shop").await;
    let options = PgPoolOptions::new().max_connections(1);
    let witness = options.connect(&server.url("shop")).await.unwrap();
    sqlx::raw_sql("CREATE TABLE t (id bigint PRIMARY KEY)")
        .execute(&witness)
        .await
        .unwrap();
    let options = PgPoolOptions::new().max_connections(1);
    // Nothing is asked before the `BEGIN`.
    let options = options.test_before_acquire(false);
    let pool = options.connect(&server.url("shop")).await.unwrap();
    let limits = Limits {
        write_time: TIME,
        ..Limits::default()
    };
    let (service, handle) = layered(&pool, limits);
    tokio::task::block_in_place(|| server.freeze());
    drop_after(2, service.oneshot(1)).await;
    tokio::time::sleep(4 * TIME).await;
    tokio::task::block_in_place(|| server.thaw());
    sqlx::raw_sql("INSERT INTO t VALUES (2)")
        .execute(&pool)
        .await
        .unwrap();
    let drained = handle.close_and_wait(Duration::from_secs(20)).await;
    assert!(drained.is_complete());
    let seen = sqlx::query_scalar("SELECT id FROM t ORDER BY id");
    let seen: Vec<i64> = seen.fetch_all(&witness).await.unwrap();
    assert_eq!(seen, [1, 2], "acknowledged, and begun");
}
