//! Chinook from install to uninstall.

use super::shop::{Shop, data};
use crate::protocol::market::{Engine, Plain, Topology, verify};

/// Customers, orders, entries and songs in [`Shop::migrations`].
const ORDERS: usize = 1;

async fn whole_life(topology: Topology, test: &str) {
    let Some(data) = data(test) else { return };
    let shop = Shop::start(topology, &data).await;
    let before = [catalog(&shop.legacy).await, catalog(&shop.new).await];
    for migration in &shop.migrations {
        migration
            .install()
            .await
            .unwrap_or_else(|error| panic!("{error:?}"));
        migration.start_copying().await.unwrap();
    }
    children_wait_for_their_parents(&shop).await;
    for index in [2, 3] {
        shop.backfill(index).await;
    }
    for (index, rows) in [59, 412 + 2240, 8715, 3503].into_iter().enumerate() {
        shop.assert_equal(index, Some(rows)).await;
    }
    clean(&shop).await;
    writes_follow(&shop, topology).await;
    clean(&shop).await;
    for migration in &shop.migrations {
        migration
            .uninstall()
            .await
            .unwrap_or_else(|error| panic!("{error:?}"));
    }
    shop.legacy.forget_past().await;
    shop.new.forget_past().await;
    assert_eq!(
        [catalog(&shop.legacy).await, catalog(&shop.new).await],
        before,
        "{topology:?}: what is left"
    );
    shop.assert_all_equal().await;
    shop.new.run("UPDATE orders SET note = 'free again'").await;
}

/// Orders are copied before the customers they refer to: they wait, and then they heal.
async fn children_wait_for_their_parents(shop: &Shop) {
    shop.backfill(ORDERS).await;
    let waiting = shop.dirty().await;
    assert_eq!(waiting.len(), 412, "{:?}", &waiting[..waiting.len().min(3)]);
    for line in &waiting {
        assert!(
            line.starts_with("orders ") && line.contains(" waiting "),
            "{line}"
        );
    }
    assert_eq!(
        shop.new.texts("SELECT CAST(id AS text) FROM orders").await,
        Vec::<String>::new()
    );
    shop.backfill(0).await;
    shop.drain().await;
    assert_eq!(shop.dirty().await, Vec::<String>::new());
}

async fn clean(shop: &Shop) {
    for migration in &shop.migrations {
        let report = verify(migration).await;
        assert!(
            report.clean() && report.compared > 50,
            "{}: {report:?}",
            migration.entity()
        );
    }
}

async fn writes_follow(shop: &Shop, topology: Topology) {
    // Ids that others point at must not change: they are what the new side's references hold.
    let ids = "SELECT legacy_line || ' ' || id FROM order_lines WHERE legacy_line IN (1, 2, 40) ORDER BY legacy_line";
    let before = shop.new.texts(ids).await;
    for sql in [
        "UPDATE @customer SET @company = 'Größe & Söhne \"OHG\" \\ ''Ltd''', @phone = NULL WHERE @customer_id <= 3",
        "UPDATE @customer SET @address = NULL WHERE @customer_id = 4",
        "UPDATE @customer SET @address = ' 1 Microsoft Way ' WHERE @customer_id = 5",
        // Two unique values change hands in one transaction.
        "UPDATE @customer SET @email = 'a' || @email WHERE @customer_id = 6; UPDATE @customer SET @email = (SELECT substr(@email, 2) FROM @customer WHERE @customer_id = 6) WHERE @customer_id = 7",
        "UPDATE @invoice SET @total = 0.10, @invoice_date = '1999-12-31 23:59:59' WHERE @invoice_id IN (1, 2)",
        // A line moves; two lines change places; all lines of one invoice move to another.
        "UPDATE @invoice_line SET @invoice_id = 5 WHERE @invoice_line_id = 1",
        "UPDATE @invoice_line SET @invoice_id = 8 - @invoice_id WHERE @invoice_id IN (3, 5)",
        "UPDATE @invoice_line SET @invoice_id = 10 WHERE @invoice_id = 11",
        "DELETE FROM @invoice_line WHERE @invoice_id = 12; DELETE FROM @invoice WHERE @invoice_id = 12",
        "INSERT INTO @invoice (@invoice_id, @customer_id, @invoice_date, @total) VALUES (12, 9, '2026-02-28 00:00:00', 1.5);
         INSERT INTO @invoice_line (@invoice_line_id, @invoice_id, @track_id, @unit_price, @quantity) VALUES (9001, 12, 7, 0.99, 2), (9002, 12, 8, 0.51, 1)",
        // The key itself changes, with its lines.
        "INSERT INTO @invoice (@invoice_id, @customer_id, @invoice_date, @total) SELECT 9013, @customer_id, @invoice_date, @total FROM @invoice WHERE @invoice_id = 13;
         UPDATE @invoice_line SET @invoice_id = 9013 WHERE @invoice_id = 13; DELETE FROM @invoice WHERE @invoice_id = 13",
        "UPDATE @invoice SET @invoice_id = 9011 WHERE @invoice_id = 11",
        "UPDATE @track SET @name = 'Für Elise — \"50 %\" o''clock \\ ; -- ✓ 🎵' WHERE @track_id IN (1, 3402)",
        "UPDATE @album SET @title = 'Ünïcode ''II''' WHERE @album_id = 1",
        "UPDATE @playlist_track SET @playlist_id = 2 WHERE @playlist_id = 1 AND @track_id BETWEEN 10 AND 20",
        "DELETE FROM @playlist_track WHERE @track_id = 30",
        "INSERT INTO @playlist_track (@playlist_id, @track_id) VALUES (1, 30), (2, 30)",
    ] {
        shop.write(sql).await;
        assert_ne!(shop.dirty().await, Vec::<String>::new(), "{topology:?}: {sql} left no stamp");
        shop.drain().await;
        assert_eq!(shop.dirty().await, Vec::<String>::new(), "{topology:?}: {sql}");
        shop.assert_all_equal().await;
    }
    let after = shop.new.texts(ids).await;
    assert_eq!(
        before[1..],
        after[1..],
        "rows that did not move keep their ids"
    );
}

/// Every object of a database, with its definition where the engine tells it.
async fn catalog(side: &Plain) -> Vec<String> {
    let sql = match side.engine() {
        Engine::Postgres => {
            "SELECT 'class ' || relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
             UNION ALL SELECT 'function ' || oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace
             UNION ALL SELECT 'trigger ' || tgname::text FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1"
        }
        Engine::Sqlite => "SELECT type || ' ' || name FROM sqlite_schema ORDER BY 1",
        Engine::Mariadb => {
            "SELECT concat_ws(' ', 'column', table_name, column_name, column_type) FROM information_schema.columns WHERE table_schema = database()
             UNION ALL SELECT 'routine ' || routine_name FROM information_schema.routines WHERE routine_schema = database()
             UNION ALL SELECT 'trigger ' || trigger_name FROM information_schema.triggers WHERE trigger_schema = database() ORDER BY 1"
        }
    };
    side.texts(sql).await
}

macro_rules! in_every_topology {
    ($($name:ident: $topology:ident),* $(,)?) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() { whole_life(Topology::$topology, concat!("chinook::life::", stringify!($name))).await }
    )* };
}
in_every_topology!(
    sqlite_two_files: SqliteTwoFiles,
    sqlite_one_file: SqliteOneFile,
    postgres_two_databases: PostgresTwoDatabases,
    postgres_one_database: PostgresOneDatabase,
    postgres_to_sqlite: PostgresToSqlite,
    sqlite_to_postgres: SqliteToPostgres,
    mariadb_to_postgres: MariadbToPostgres,
    mariadb_to_sqlite: MariadbToSqlite,
    postgres_to_mariadb: PostgresToMariadb,
    mariadb_two_databases: MariadbTwoDatabases,
);
