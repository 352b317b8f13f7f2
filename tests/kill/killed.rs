//! SIGKILL at random moments under load: of the application, and of PostgreSQL. The first half of
//! the kills strikes while history is being copied, the second while the new side answers reads.

use super::strikes;
use super::supervisor::Supervisor;
use crate::protocol::market::Topology;
use tokio::task::block_in_place;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_application_over_two_postgres_databases() {
    application(Topology::PostgresTwoDatabases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_application_over_one_postgres_database() {
    application(Topology::PostgresOneDatabase).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_application_over_two_sqlite_files() {
    application(Topology::SqliteTwoFiles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_with_two_databases() {
    server(Topology::PostgresTwoDatabases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_with_one_database() {
    server(Topology::PostgresOneDatabase).await;
}

async fn application(topology: Topology) {
    let mut supervisor = Supervisor::new(topology, true).await;
    let kills = strikes(topology);
    for kill in 0..kills {
        let app = supervisor.start(0);
        if kill == kills / 2 {
            supervisor.until_ramped().await;
        }
        supervisor.while_running(100..400).await;
        block_in_place(|| app.kill());
        supervisor.strikes += 1;
    }
    let app = supervisor.start(0);
    supervisor.while_running(800..1200).await;
    block_in_place(|| app.end());
    supervisor.judge().await.expect_clean();
}

async fn server(topology: Topology) {
    let mut supervisor = Supervisor::new(topology, true).await;
    let app = supervisor.start(0);
    let kills = strikes(topology);
    for kill in 0..kills {
        if kill == kills / 2 {
            supervisor.until_ramped().await;
        }
        supervisor.while_running(100..400).await;
        let server = supervisor.server.as_ref().unwrap();
        block_in_place(|| {
            server.kill9();
            server.restart();
        });
        supervisor.strikes += 1;
    }
    supervisor.while_running(800..1200).await;
    block_in_place(|| app.end());
    supervisor.judge().await.expect_clean();
}
