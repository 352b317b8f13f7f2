//! A network that goes silent: nothing is closed, and nothing answers any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use changeover::worker::backfill::BackfillOptions;
use changeover::worker::dialect::session::Database;
use changeover::worker::dialect::statement::Statement;
use changeover::worker::migration::Migration;
use changeover::worker::pace::{Pacing, RowsPerSecond};
use changeover::worker::preflight::PreflightError;

use crate::protocol::market::{MAPPING, Market, Topology, drain, verify};
use crate::support::tcp_proxy::{Fault, FaultProxy};

/// How often a server is asked about an answer that does not come.
const EVERY: Duration = Duration::from_millis(300);

/// A backfill whose connections to one side go silent on their way ends as if nothing had been, and says
/// meanwhile what holds it. `fault` forgets the open ones alone, or the whole server.
async fn ends(topology: Topology, side: &str, fault: Fault) {
    let market = Market::start(topology).await;
    market.fill(300).await;
    let mut urls = [market.legacy_url.clone(), market.new_url.clone()];
    let faulty = &mut urls[usize::from(side == "new")];
    let (proxy, url) = FaultProxy::before(faulty).await;
    *faulty = url;
    // What is not tried again has the patience that everybody has.
    let patient = async || asking(&urls, Database::ASKED_EVERY).await.unwrap();
    let migration = patient().await;
    migration.install().await.unwrap();
    migration.start_copying().await.unwrap();
    let options = BackfillOptions {
        page: 10,
        load: false,
        pacing: Pacing {
            rows_per_second: RowsPerSecond::new(30),
            ..Pacing::default()
        },
        ..BackfillOptions::default()
    };
    let sweep = hasty(&urls).await.backfill(options);
    let control = sweep.control();
    let passed = Arc::new(AtomicU64::new(0));
    let swept = {
        let passed = Arc::clone(&passed);
        tokio::spawn(async move {
            sweep
                .run(|at| passed.store(at.passed, Ordering::SeqCst))
                .await
        })
    };
    until("pages pass", || passed.load(Ordering::SeqCst) > 30).await;
    proxy.set(fault);
    if fault == Fault::Blackhole {
        // It can say so only once it has given the silent connections up.
        until("the silence is said", || {
            let reason = control.held_back_by().map(|reason| reason.to_string());
            reason.is_some_and(|reason| reason.contains("again"))
        })
        .await;
        proxy.set(Fault::None);
    }
    control.set_pacing(Pacing::UNLIMITED);
    let swept = tokio::time::timeout(Duration::from_secs(60), swept);
    let swept = swept.await.expect("it goes on").unwrap().unwrap();
    assert_eq!((swept.passed, swept.held), (300, 0));
    assert!(proxy.fired(Fault::Blackhole) > 0, "it struck");
    proxy.set(Fault::None);
    // Through connections that nobody has forgotten.
    let migration = patient().await;
    drain(&migration).await;
    market.assert_equal().await;
    assert!(verify(&migration).await.clean());
}

/// The migration, asking its servers so often. That is also how long opening a connection may take.
async fn asking(urls: &[String; 2], every: Duration) -> Result<Migration, PreflightError> {
    let [legacy, new] = [0, 1].map(|side| Database::open(&urls[side]).unwrap().asked_every(every));
    let mapping = Market::mapping(MAPPING);
    Migration::open(Market::entity(), mapping, legacy, new).await
}

/// One that asks often: a busy machine may take longer to open a connection, and is asked again.
async fn hasty(urls: &[String; 2]) -> Migration {
    let began = tokio::time::Instant::now();
    loop {
        match asking(urls, EVERY).await {
            Ok(migration) => return migration,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(30), "{error:?}"),
        }
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(tokio::time::Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A statement that takes long is waited for, however often its server is asked.
async fn waits(topology: Topology, sql: &str) {
    let market = Market::start(topology).await;
    let database = Database::open(&market.legacy_url).unwrap();
    let database = database.asked_every(Duration::from_secs(2));
    let mut lease = database.session().await.unwrap();
    let statement = Statement::of(database.dialect(), sql);
    lease.session().fetch(statement).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backfill_outlives_a_postgres_that_answers_nobody() {
    ends(Topology::PostgresTwoDatabases, "new", Fault::Blackhole).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backfill_outlives_connections_that_postgres_has_forgotten() {
    ends(Topology::PostgresTwoDatabases, "new", Fault::Forget).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backfill_outlives_a_mariadb_that_answers_nobody() {
    ends(Topology::MariadbToPostgres, "legacy", Fault::Blackhole).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backfill_outlives_connections_that_mariadb_has_forgotten() {
    ends(Topology::MariadbToPostgres, "legacy", Fault::Forget).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_statement_of_postgres_is_waited_for() {
    waits(Topology::PostgresTwoDatabases, "SELECT pg_sleep(7)::text").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_statement_of_mariadb_is_waited_for() {
    waits(Topology::MariadbToPostgres, "SELECT sleep(7)").await;
}
