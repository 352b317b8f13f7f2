use std::time::Duration;

use changeover::flags::{Entity, Epoch, Flags, Percent};
use changeover::proxy::{Changeover, Operation, Refused};
use changeover::shadow::{Class, Json};
use changeover::worker::guard;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use tower::{Layer, Service, ServiceExt, service_fn};

/// An application's query over `pool`.
fn titles(
    pool: &SqlitePool,
) -> impl Service<i64, Response = Option<String>, Error = Refused, Future: Send> + Clone + Send + 'static
{
    let pool = pool.clone();
    service_fn(move |id: i64| {
        let pool = pool.clone();
        async move {
            let title = sqlx::query_scalar("SELECT title FROM rows WHERE id = ?");
            Ok(title.bind(id).fetch_optional(&pool).await.unwrap())
        }
    })
}

async fn pool(file: &std::path::Path, connections: u32) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true);
    let pool = SqlitePoolOptions::new().max_connections(connections);
    pool.connect_with(options).await.unwrap()
}

/// Dual-write, read from legacy, every read compared.
fn comparing() -> Flags {
    let flags = Flags::memory(Entity::new("rows").unwrap());
    flags.learn(&Epoch::READY).unwrap();
    flags.set_sample(Percent::HUNDRED).unwrap();
    flags
}

#[tokio::test]
async fn shadow_reads_need_no_connection_of_the_callers_pools() {
    let folder = tempfile::tempdir().unwrap();
    let [legacy, new] = ["legacy.db", "new.db"].map(|file| folder.path().join(file));
    let (callers_legacy, callers_new) = (pool(&legacy, 1).await, pool(&new, 1).await);
    for pool in [&callers_legacy, &callers_new] {
        sqlx::raw_sql("CREATE TABLE rows (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO rows VALUES (1, 'lamp')")
            .execute(pool)
            .await
            .unwrap();
    }
    let builder = || {
        Changeover::builder(comparing())
            .classify(|id: &i64| Operation::read("title", *id))
            .observe(Json)
            .new_service(titles(&callers_new))
    };
    // Somebody keeps the only connection to the new side.
    let waiting = guard::waiting(&callers_new);
    // A connection comes back to its pool by a task of its own.
    while waiting() {
        tokio::task::yield_now().await;
    }
    let kept = callers_new.acquire().await.unwrap();
    assert!(waiting());

    let probes = (pool(&legacy, 1).await, pool(&new, 1).await);
    let layer = builder()
        .probe(titles(&probes.0), titles(&probes.1))
        .build()
        .unwrap();
    let compared = async |layer: &changeover::proxy::ChangeoverLayer<_, i64, _, Refused>| {
        let title = layer
            .layer(titles(&callers_legacy))
            .oneshot(1)
            .await
            .unwrap();
        assert_eq!(title.as_deref(), Some("lamp"));
        let _ = layer.handle().close_and_wait(Duration::from_secs(30)).await;
        layer.handle().compared()
    };
    assert_eq!(compared(&layer).await.of(Class::Match), 1);

    // Without pools of its own it would wait for that connection, so it is shed.
    let layer = builder().pool_waiting(waiting).build().unwrap();
    assert_eq!(compared(&layer).await.of(Class::Shed), 1);
    drop(kept);
}
