//! SIGKILL at random moments under write load: of the shipped binary at its sweep and at its drain, and
//! of the servers under it. Whoever is killed is started again by the same command line.
//!
//! | file | what it is |
//! | --- | --- |
//! | [`stand`] | the marketplace, the processes, the strikes |
//! | [`judge`] | what must be so in the end |
//! | [`writers`] | plain SQL on the legacy side, which knows of nothing |
//!
//! Half of the strikes fall while history is being swept, spread over the whole of it, the others while
//! a burst of writes is being drained. A strike counts when it landed: the process was alive, had moved
//! something in this life, and left something to do.
//!
//! Every run prints its seed. Another way to sweep history is another [`Lines`](stand::Lines).

mod judge;
mod stand;
mod writers;

use crate::protocol::lifecycle::{everywhere, on_mariadb};
use crate::protocol::market::Topology;
use stand::{BACKFILL, Lines, Stand, Struck};

everywhere!(the_worker);
on_mariadb!(the_worker);

mod scenario {
    use super::*;

    pub(super) async fn the_worker(topology: Topology) {
        killed(topology, Struck::Worker).await;
    }

    /// A load in parts, two of them at a time.
    const PARTS: &str = "backfill --parts 5 --workers 2";

    async fn on_parts(topology: Topology, sweep: &'static str) {
        let lines = Lines { sweep, ..BACKFILL };
        struck(topology, Struck::Worker, lines).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_parts_of_postgres() {
        on_parts(Topology::PostgresTwoDatabases, PARTS).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_parts_of_copies() {
        let copies = "backfill --no-load --parts 5 --workers 2";
        on_parts(Topology::PostgresTwoDatabases, copies).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_parts_of_mariadb() {
        on_parts(Topology::MariadbToPostgres, PARTS).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_worker_to_mariadb() {
        the_worker(Topology::PostgresToMariadb).await;
    }
}

mod the_server {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn postgres_two_databases() {
        killed(Topology::PostgresTwoDatabases, Struck::Server).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn postgres_one_database() {
        killed(Topology::PostgresOneDatabase, Struck::Server).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn mariadb_to_postgres() {
        killed(Topology::MariadbToPostgres, Struck::Server).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn mariadb_two_databases() {
        killed(Topology::MariadbTwoDatabases, Struck::Server).await;
    }
}

async fn killed(topology: Topology, whom: Struck) {
    // A sweep that is faster than its servers come back leaves nothing to strike.
    let lines = match whom {
        Struck::Server => Lines {
            sweep: "backfill --rate 200",
            ..BACKFILL
        },
        Struck::Worker => BACKFILL,
    };
    struck(topology, whom, lines).await;
}

async fn struck(topology: Topology, whom: Struck, lines: Lines) {
    let mut stand = Stand::new(topology, whom, lines).await;
    let strikes = super::strikes(topology);
    for strike in 0..strikes / 2 {
        stand.strike_the_sweep(strike, strikes / 2).await;
    }
    stand.until_swept().await;
    for _ in strikes / 2..strikes {
        stand.strike_the_drain().await;
    }
    stand.judge().await.expect_clean(strikes);
}
