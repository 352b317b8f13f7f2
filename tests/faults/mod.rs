//! Lost answers, cancelled calls and broken connections, on real servers.

mod cancelled_begin;
mod cancelled_copy;
mod lost_commit;
mod lost_requests;
mod silent;

/// Runs a scenario where a network leads to the legacy side, and to the new one.
macro_rules! on_networks {
    ($($name:ident),* $(,)?) => { $(mod $name {
        use super::Topology;
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn postgres_two_databases() { super::scenario::$name(Topology::PostgresTwoDatabases).await }
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn mariadb_to_postgres() { super::scenario::$name(Topology::MariadbToPostgres).await }
    })* };
}
use on_networks;
