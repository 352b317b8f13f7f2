//! One entity from install to uninstall.

use super::market::{Market, Topology, backfill, drain, verify};

/// Runs a scenario in every topology.
macro_rules! everywhere {
    ($($name:ident),* $(,)?) => { $(mod $name {
        use super::Topology;
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn sqlite_two_files() { super::scenario::$name(Topology::SqliteTwoFiles).await }
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn sqlite_one_file() { super::scenario::$name(Topology::SqliteOneFile).await }
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn postgres_two_databases() { super::scenario::$name(Topology::PostgresTwoDatabases).await }
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn postgres_one_database() { super::scenario::$name(Topology::PostgresOneDatabase).await }
    })* };
}
pub(crate) use everywhere;

/// Runs a scenario between PostgreSQL and SQLite.
macro_rules! between_postgres_and_sqlite {
    ($($name:ident),* $(,)?) => { mod pairs { $(mod $name {
        use super::super::{Topology, scenario};
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn postgres_to_sqlite() { scenario::$name(Topology::PostgresToSqlite).await }
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn sqlite_to_postgres() { scenario::$name(Topology::SqliteToPostgres).await }
    })* } };
}
pub(crate) use between_postgres_and_sqlite;

/// Runs a scenario from MariaDB to the other engines.
macro_rules! on_mariadb {
    ($($name:ident),* $(,)?) => { mod from_mariadb { $(mod $name {
        use super::super::{Topology, scenario};
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn mariadb_to_postgres() { scenario::$name(Topology::MariadbToPostgres).await }
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn mariadb_to_sqlite() { scenario::$name(Topology::MariadbToSqlite).await }
    })* } };
}
pub(crate) use on_mariadb;

/// Runs a scenario with MariaDB as the new side.
macro_rules! into_mariadb {
    ($($name:ident),* $(,)?) => { mod to_mariadb { $(mod $name {
        use super::super::{Topology, scenario};
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn postgres_to_mariadb() { scenario::$name(Topology::PostgresToMariadb).await }
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn sqlite_to_mariadb() { scenario::$name(Topology::SqliteToMariadb).await }
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn mariadb_two_databases() { scenario::$name(Topology::MariadbTwoDatabases).await }
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn mariadb_one_database() { scenario::$name(Topology::MariadbOneDatabase).await }
    })* } };
}
pub(crate) use into_mariadb;

/// Runs a scenario between databases of MariaDB, and within one.
macro_rules! within_mariadb {
    ($($name:ident),* $(,)?) => { mod on_mariadb { $(mod $name {
        use super::super::{Topology, scenario};
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn mariadb_two_databases() { scenario::$name(Topology::MariadbTwoDatabases).await }
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn mariadb_one_database() { scenario::$name(Topology::MariadbOneDatabase).await }
    })* } };
}
pub(crate) use within_mariadb;

/// Runs a scenario on all pairs of engines.
macro_rules! on_pairs {
    ($($name:ident),* $(,)?) => {
        crate::protocol::lifecycle::between_postgres_and_sqlite!($($name),*);
        crate::protocol::lifecycle::on_mariadb!($($name),*);
        crate::protocol::lifecycle::into_mariadb!($($name),*);
    };
}
pub(crate) use on_pairs;

/// Runs a scenario in every topology and on pairs of engines.
macro_rules! everywhere_and_on_pairs {
    ($($name:ident),* $(,)?) => {
        crate::protocol::lifecycle::everywhere!($($name),*);
        crate::protocol::lifecycle::on_pairs!($($name),*);
    };
}
pub(crate) use everywhere_and_on_pairs;

everywhere_and_on_pairs!(
    a_whole_life,
    uninstall_leaves_nothing_but_the_past,
    writes_follow,
    rows_that_no_copy_wrote_are_not_replaced,
);

mod scenario {
    use super::*;

    pub(super) async fn a_whole_life(topology: Topology) {
        let market = Market::start(topology).await;
        market.fill(230).await;
        let migration = market.installed().await;
        backfill(&migration).await;
        market.assert_equal().await;
        let report = verify(&migration).await;
        assert!(report.clean(), "{report:?}");
        assert!(report.compared >= 230, "{report:?}");
        let epoch = migration.epoch().await.unwrap();
        assert!(epoch.backfilled && epoch.verified, "{epoch:?}");
        // Doing everything again changes nothing.
        migration.install().await.unwrap();
        backfill(&migration).await;
        drain(&migration).await;
        market.assert_equal().await;
        assert_eq!(market.dirty().await, Vec::<String>::new());
    }

    pub(super) async fn writes_follow(topology: Topology) {
        let market = Market::start(topology).await;
        market.fill(40).await;
        let migration = market.installed().await;
        backfill(&migration).await;
        for sql in [
            "UPDATE listings SET title = 'changed', status = 'SOLD' WHERE id <= 5",
            "DELETE FROM listings WHERE id = 6",
            "DELETE FROM photos WHERE listing_id = 8",
            "INSERT INTO photos VALUES (9001, 9, 'nine'), (9002, 9, 'neun')",
            "UPDATE photos SET listing_id = 10 WHERE id = 9002",
            "UPDATE tenants SET name = 'Ada II' WHERE id = 1",
            "DELETE FROM listings WHERE id = 7; INSERT INTO listings (id, tenant_id, title, status, stock) VALUES (7, 2, 'again', 'active', 3)",
            "INSERT INTO listings (tenant_id, title, status, house, stock) VALUES (2, 'new', 'Active', 'House 1', 1)",
            "UPDATE listings SET id = 4000 WHERE id = 11",
            "UPDATE listings SET house = NULL, sku = NULL, price = NULL WHERE id = 12",
        ] {
            market.legacy.run(sql).await;
            assert_ne!(
                market.dirty().await,
                Vec::<String>::new(),
                "{topology:?}: {sql} left no stamp"
            );
            drain(&migration).await;
            assert_eq!(
                market.dirty().await,
                Vec::<String>::new(),
                "{topology:?}: {sql}"
            );
            market.assert_equal().await;
        }
        let report = verify(&migration).await;
        assert!(report.clean(), "{report:?}");
    }

    pub(super) async fn rows_that_no_copy_wrote_are_not_replaced(topology: Topology) {
        let market = Market::start(topology).await;
        market.fill(4).await;
        market
            .new
            .run("INSERT INTO service_listings (legacy_id, provider_id, status) VALUES (1, 101, 'mine')")
            .await;
        let migration = market.open().await;
        let error = migration
            .install()
            .await
            .expect_err("the table is not empty");
        assert!(error.to_string().contains("service_listings"), "{error}");
        market.legacy.run("UPDATE listings SET title = 'x'").await;
        market
            .new
            .run("UPDATE service_listings SET status = 'still mine'; DELETE FROM service_listings")
            .await;
        migration.install().await.unwrap();
    }

    pub(super) async fn uninstall_leaves_nothing_but_the_past(topology: Topology) {
        let market = Market::start(topology).await;
        market.fill(20).await;
        let migration = market.installed().await;
        backfill(&migration).await;
        migration.uninstall().await.unwrap();
        // One row for each side: what a new installation must not repeat.
        for (side, place) in [(&market.legacy, "legacy"), (&market.new, "new")] {
            let past = "SELECT entity || ' ' || CAST(incarnation AS text) FROM changeover_past";
            let past = format!("{past} WHERE place = '{place}'");
            assert_eq!(side.texts(&past).await, ["listings 0"]);
        }
        for side in [&market.legacy, &market.new] {
            side.forget_past().await;
            let left = side.texts(side.engine().installed()).await;
            assert_eq!(left, Vec::<String>::new());
        }
        market.assert_equal().await;
        market
            .new
            .run("UPDATE service_listings SET title = 'free again'")
            .await;
    }
}
