//! Stopped past every timeout, and continued: an application next to one that goes on meanwhile, and
//! PostgreSQL.

use std::time::Duration;

use super::supervisor::Supervisor;
use crate::protocol::market::{Plain, Topology};
use crate::support;
use tokio::task::block_in_place;

/// Longer than every limit of the application (see [`super::child`]) and every lock timeout of the
/// worker.
const STOPPED: Duration = Duration::from_millis(2_500);

fn rounds() -> u64 {
    if support::fast() { 2 } else { 8 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_over_two_postgres_databases() {
    application(Topology::PostgresTwoDatabases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_over_one_postgres_database() {
    application(Topology::PostgresOneDatabase).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_over_two_sqlite_files() {
    application(Topology::SqliteTwoFiles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_frozen() {
    let mut supervisor = Supervisor::new(Topology::PostgresTwoDatabases, true).await;
    let app = supervisor.start(0);
    for _ in 0..rounds() {
        supervisor.while_running(100..500).await;
        let server = supervisor.server.as_ref().unwrap();
        block_in_place(|| {
            server.freeze();
            std::thread::sleep(STOPPED);
            server.thaw();
        });
        supervisor.strikes += 1;
    }
    supervisor.while_running(800..1200).await;
    block_in_place(|| app.end());
    supervisor.judge().await.expect_clean();
}

/// Two instances write the same keys; one of them is stopped, holding whatever it holds, and comes
/// back with copies that are long outdated.
async fn application(topology: Topology) {
    let mut supervisor = Supervisor::new(topology, true).await;
    let apps = [supervisor.start(0), supervisor.start(1)];
    for round in 0..rounds() {
        supervisor.while_running(100..400).await;
        let Some(app) = apps.get((round % 2) as usize) else {
            continue;
        };
        app.stop_running();
        tokio::time::sleep(STOPPED / 2).await;
        if round % 4 > 1 {
            time_out_sessions(&supervisor.market.legacy).await;
        }
        tokio::time::sleep(STOPPED / 2).await;
        app.go_on();
        supervisor.strikes += 1;
    }
    supervisor.while_running(500..800).await;
    for app in apps {
        block_in_place(|| app.end());
    }
    supervisor.judge().await.expect_clean();
}

/// What `idle_in_transaction_session_timeout` does after its minute, now: the server ends the
/// sessions that the stopped application left in a transaction, in every database.
async fn time_out_sessions(legacy: &Plain) {
    if let Plain::Postgres(_) = legacy {
        legacy
            .run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE state LIKE 'idle in transaction%' AND now() - state_change > interval '1 s'",
            )
            .await;
    }
}
