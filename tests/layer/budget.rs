use std::sync::Arc;
use std::time::Duration;

use changeover::flags::{Entity, Epoch, Flags, Percent};
use changeover::proxy::{Changeover, Handle, Limits, Operation, Refused};
use changeover::repository::{BoxFuture, Either, Methods};
use changeover::shadow::{Class, Json};
use changeover::wiring::Wiring;
use changeover::worker::guard;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{Connection as _, PgConnection, SqlitePool};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::{Market, Topology, ready};

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

/// Shadow reads ask for versions, and wait for an answer; what callers ask meanwhile is answered.
#[tokio::test]
async fn no_caller_waits_for_a_connection_over_which_a_shadow_read_asks() {
    let (market, _) = ready(Topology::PostgresTwoDatabases).await;
    let flags = Flags::memory(Market::entity());
    let wiring = Wiring::new(market.open().await, flags).await.unwrap();
    wiring.flags().set_read_new(Percent::HUNDRED).unwrap();
    wiring.flags().set_sample(Percent::HUNDRED).unwrap();
    let side = |title: &'static str| {
        service_fn(move |_: Option<i64>| async move { Ok::<_, Refused>(title.to_owned()) })
    };
    let layer = wiring
        .builder()
        .classify(|id: &Option<i64>| match id {
            Some(id) => Operation::read("title", *id),
            None => Operation::list("titles").routed_by("1"),
        })
        .observe(Json)
        .new_service(side("new"))
        .limits(Limits {
            ask_time: Duration::from_secs(10),
            shadow_time: Duration::from_secs(600),
            ..Limits::default()
        })
        .build()
        .unwrap();
    let service = layer.layer(side("legacy"));
    // Nobody learns what the follower holds of a key.
    let mut kept = PgConnection::connect(&market.new_url).await.unwrap();
    let lock = "BEGIN; LOCK TABLE changeover_key IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut kept).await.unwrap();
    for id in 1..=8 {
        assert_eq!(service.clone().oneshot(Some(id)).await.unwrap(), "new");
    }
    let waiting = "SELECT pid::text FROM pg_locks WHERE NOT granted AND relation = 'changeover_key'::regclass";
    while market.new.texts(waiting).await.len() < Wiring::QUESTION_CONNECTIONS {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let list = service.oneshot(None).await.unwrap();
    assert_eq!(list, "new", "its question had no connection");
    assert_eq!(layer.handle().compared().total, 0, "they wait");
    kept.close().await.unwrap();
}

/// A repository of two, as a trait of boxed futures has it.
trait Titles: Send + Sync {
    fn title(&self, id: i64) -> BoxFuture<'_, Result<Option<String>, Refused>>;
}

changeover::repository! {
    struct MovingTitles: Titles, Refused;
    title(id: i64) -> Option<String> = read(id);
}

/// The same as a trait of `async` methods, whose repositories are of two types.
#[changeover::layered(MovingNames)]
trait Names {
    #[call(read(id))]
    async fn name(&self, id: i64) -> Result<Option<String>, Refused>;
}

struct Legacy(SqlitePool);
struct New(SqlitePool);

impl Titles for Legacy {
    fn title(&self, id: i64) -> BoxFuture<'_, Result<Option<String>, Refused>> {
        Box::pin(titles(&self.0).oneshot(id))
    }
}

impl Titles for New {
    fn title(&self, id: i64) -> BoxFuture<'_, Result<Option<String>, Refused>> {
        Box::pin(titles(&self.0).oneshot(id))
    }
}

impl Names for Legacy {
    async fn name(&self, id: i64) -> Result<Option<String>, Refused> {
        self.title(id).await
    }
}

impl Names for New {
    async fn name(&self, id: i64) -> Result<Option<String>, Refused> {
        self.title(id).await
    }
}

/// A layer around repositories over the callers' pools, with a probe over those pools or without;
/// its one caller, and its handle.
type Around = fn([SqlitePool; 2], Option<[SqlitePool; 2]>) -> (Reading, Handle);
type Reading = BoxFuture<'static, Result<Option<String>, Refused>>;

fn by_repository(
    [legacy, new]: [SqlitePool; 2],
    probe: Option<[SqlitePool; 2]>,
) -> (Reading, Handle) {
    let mut builder = Changeover::builder(comparing());
    if let Some([legacy, new]) = probe {
        builder = builder.probe(
            Methods::<dyn Titles>::of(Arc::new(Legacy(legacy))),
            Methods::<dyn Titles>::of(Arc::new(New(new))),
        );
    }
    let titles = MovingTitles::around(builder, Arc::new(Legacy(legacy)), Arc::new(New(new)));
    let titles = titles.unwrap();
    let handle = titles.handle();
    (Box::pin(async move { titles.title(1).await }), handle)
}

fn by_attribute(
    [legacy, new]: [SqlitePool; 2],
    probe: Option<[SqlitePool; 2]>,
) -> (Reading, Handle) {
    let mut builder = Changeover::builder(comparing());
    if let Some([legacy, new]) = probe {
        builder = builder.probe(
            Methods::of(Arc::new(Either::Legacy(Legacy(legacy)))),
            Methods::of(Arc::new(Either::New(New(new)))),
        );
    }
    let names = MovingNames::around(builder, Legacy(legacy), New(new)).unwrap();
    let handle = names.handle();
    (Box::pin(async move { names.name(1).await }), handle)
}

#[tokio::test]
async fn a_probe_of_repositories_is_asked_in_place_of_the_callers() {
    for around in [by_repository as Around, by_attribute as Around] {
        let folder = tempfile::tempdir().unwrap();
        let [legacy, new] = ["legacy.db", "new.db"].map(|file| folder.path().join(file));
        let callers = [pool(&legacy, 1).await, pool(&new, 1).await];
        let probe = [pool(&legacy, 1).await, pool(&new, 1).await];
        for (pool, title) in callers.iter().zip(["lamp", "chair"]) {
            let rows = format!(
                "CREATE TABLE rows (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO rows VALUES (1, '{title}')"
            );
            sqlx::raw_sql(sqlx::AssertSqlSafe(rows))
                .execute(pool)
                .await
                .unwrap();
        }
        let found = async |probe| {
            let (read, handle) = around(callers.clone(), probe);
            assert_eq!(read.await.unwrap().as_deref(), Some("lamp"));
            // From now on the callers have no connection to give.
            let _kept = [
                callers[0].acquire().await.unwrap(),
                callers[1].acquire().await.unwrap(),
            ];
            let _ = handle.close_and_wait(Duration::from_secs(30)).await;
            let totals = handle.compared();
            let ended = totals.by_class().find(|(_, count)| *count == 1);
            ended.expect("it has ended").0
        };
        // Both sides once more for the second look.
        assert_eq!(found(Some(probe)).await, Class::Mismatch);
        assert_eq!(
            found(None).await,
            Class::Timeout,
            "it waits for the callers"
        );
    }
}
