//! SIGKILL at random moments under write load: of the shipped binary at its sweep and at its drain, and
//! of the servers under it. Whoever is killed is started again by the same command line.
//!
//! | file | what it is |
//! | --- | --- |
//! | [`stand`] | the marketplace, the processes, the strikes |
//! | [`servers`] | PostgreSQL and MariaDB, to be killed, and the history on them |
//! | [`victims`] | whom each strike kills |
//! | [`judge`] | what must be so in the end |
//! | [`writers`] | plain SQL on the legacy side, which knows of nothing |
//!
//! Half of the strikes at servers fall while history is being swept, spread over the whole of it, the others
//! while a burst of writes is being drained; at the worker two thirds. A strike counts when it landed: the
//! process was alive, had moved something in this life, and left something to do. Each run counts who died,
//! and says it: the sweep, or each engine's server, as often as `CHANGEOVER_STRIKES` says, else it fails.
//!
//! Every run prints its seed. Another way to sweep history is another [`Lines`](stand::Lines).

mod judge;
mod servers;
mod stand;
mod victims;
mod writers;

use crate::protocol::lifecycle::{everywhere, on_mariadb};
use crate::protocol::market::Topology;
use crate::protocol::plain::Engine;
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
        struck(
            topology,
            Struck::Worker,
            lines,
            super::super::strikes(topology) / 2,
        )
        .await;
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

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn postgres_to_mariadb() {
        killed(Topology::PostgresToMariadb, Struck::Server).await;
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
    struck(topology, whom, lines, super::strikes(topology)).await;
}

async fn struck(topology: Topology, whom: Struck, lines: Lines, kills: u64) {
    let mut stand = Stand::new(topology, whom, lines, kills as usize).await;
    let strikes = stand.strike_all().await;
    let name = |engine| match engine {
        Engine::Postgres => "PostgreSQL",
        Engine::Mariadb => "MariaDB",
        Engine::Sqlite => panic!("SQLite has no server"),
    };
    let die = match whom {
        Struck::Worker => vec!["sweep"],
        Struck::Server => vec![name(topology.legacy_engine()), name(topology.new_engine())],
    };
    stand.judge().await.expect_clean(strikes, &die, kills);
}
