//! Installing while somebody holds the tables: it waits for a short time, lets others through,
//! tries again, and gives up with an error that names who is in the way.

use std::time::{Duration, Instant};

use changeover::worker::dialect::install::Patience;

use super::stand::{MAPPING, Stand, both_engines, chain};
use crate::protocol::market::Plain;

both_engines!(
    gives_up_and_leaves_nothing,
    gets_through_when_they_end,
    a_start_takes_no_locks,
);

const PATIENCE: Patience = Patience {
    lock_timeout: Duration::from_millis(300),
    tries: 3,
    pause: Duration::from_millis(100),
};

/// A transaction that has written a table and does not end until it is dropped.
enum Held {
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
    Mariadb(sqlx::Transaction<'static, sqlx::MySql>),
}

impl Held {
    async fn on(side: &Plain, sql: &'static str) -> Held {
        match side {
            Plain::Postgres(pool) => {
                let mut transaction = pool.begin().await.unwrap();
                sqlx::raw_sql(sql).execute(&mut *transaction).await.unwrap();
                Held::Postgres(transaction)
            }
            Plain::Sqlite(pool) => {
                let mut transaction = pool.begin().await.unwrap();
                sqlx::raw_sql(sql).execute(&mut *transaction).await.unwrap();
                Held::Sqlite(transaction)
            }
            Plain::Mariadb(pool) => {
                let mut transaction = pool.begin().await.unwrap();
                sqlx::raw_sql(sql).execute(&mut *transaction).await.unwrap();
                Held::Mariadb(transaction)
            }
        }
    }

    /// The server process that holds the lock, where there is one.
    async fn pid(&mut self) -> Option<i32> {
        match self {
            Held::Postgres(transaction) => Some(
                sqlx::query_scalar("SELECT pg_backend_pid()")
                    .fetch_one(&mut **transaction)
                    .await
                    .unwrap(),
            ),
            Held::Sqlite(_) | Held::Mariadb(_) => None,
        }
    }

    async fn end(self) {
        match self {
            Held::Postgres(transaction) => transaction.rollback().await.unwrap(),
            Held::Sqlite(transaction) => transaction.rollback().await.unwrap(),
            Held::Mariadb(transaction) => transaction.rollback().await.unwrap(),
        }
    }
}

mod scenario {
    use super::*;

    pub(super) async fn gives_up_and_leaves_nothing(postgres: bool) {
        let stand = Stand::usual(postgres).await;
        let before = stand.census().await;
        let migration = stand.open(MAPPING).await.unwrap().with_patience(PATIENCE);
        // The last table of either side: the ones before it are locked already when it is reached.
        for (side, sql) in [
            (
                &stand.legacy,
                "UPDATE parts SET label = 'secret-value' WHERE id = 10",
            ),
            (&stand.new, "INSERT INTO makers VALUES (77, 'secret-value')"),
        ] {
            let mut held = Held::on(side, sql).await;
            let pid = held.pid().await;
            let started = Instant::now();
            let error = chain(&migration.install().await.expect_err("the table is held"));
            let took = started.elapsed();
            assert!(
                took >= PATIENCE.lock_timeout * 2,
                "gave up after {took:?}, without trying again"
            );
            assert!(took < Duration::from_secs(8), "{took:?}");
            let mut says = vec![
                "did not get its locks",
                "nothing was changed",
                "in the way: ",
                "end them, then run it again",
            ];
            let shown = pid.map(|pid| {
                [
                    format!("pid {pid} "),
                    format!("pg_terminate_backend({pid})"),
                    "idle in transaction".to_owned(),
                    "s ago".to_owned(),
                ]
            });
            says.extend(shown.iter().flatten().map(String::as_str));
            for word in says {
                assert!(error.contains(word), "does not say {word:?}: {error}");
            }
            assert!(!error.contains("secret-value"), "{error}");
            held.end().await;
            assert_eq!(
                stand.census().await,
                before,
                "{sql}: something was left behind"
            );
        }
        migration.install().await.unwrap();
        // Taking it out again waits as politely.
        let installed = stand.census().await;
        let held = Held::on(&stand.new, "INSERT INTO makers VALUES (77, 'secret-value')").await;
        let error = chain(&migration.uninstall().await.expect_err("the table is held"));
        assert!(
            error.contains("uninstalling items") && error.contains("in the way: "),
            "{error}"
        );
        held.end().await;
        assert_eq!(stand.census().await, installed);
        migration.uninstall().await.unwrap();
        assert_eq!(stand.census_without_past().await, before);
    }

    /// While the installation waits and tries, another writer is never held up for longer than
    /// the lock timeout, and when the holder ends the installation succeeds.
    pub(super) async fn gets_through_when_they_end(postgres: bool) {
        let stand = Stand::usual(postgres).await;
        let patience = Patience {
            tries: 100,
            ..PATIENCE
        };
        let migration = stand.open(MAPPING).await.unwrap().with_patience(patience);
        let held = Held::on(&stand.legacy, "UPDATE parts SET label = 'x' WHERE id = 10").await;
        let installing = tokio::spawn(async move { migration.install().await.map(|()| migration) });
        if postgres {
            // `items` is locked by then, and `parts` is waited for.
            let (mut waited, writing) = (Vec::new(), Instant::now());
            while writing.elapsed() < Duration::from_secs(4) {
                let started = Instant::now();
                stand
                    .legacy
                    .run("UPDATE items SET name = 'y' WHERE id = 2")
                    .await;
                waited.push(started.elapsed());
            }
            waited.sort_unstable();
            let &[.., second, longest] = waited.as_slice() else {
                panic!("no two writes in four seconds: {waited:?}");
            };
            assert!(
                longest > Duration::from_millis(30),
                "the installation never stood in the way: {longest:?}"
            );
            // It stands in the way at each of its tries; one write alone the machine may have held up.
            assert!(
                second < patience.lock_timeout + Duration::from_millis(700)
                    && longest < Duration::from_secs(3),
                "writers waited {second:?} and {longest:?}"
            );
        }
        assert!(!installing.is_finished());
        held.end().await;
        let migration = installing.await.unwrap().unwrap();
        stand
            .legacy
            .run("UPDATE items SET name = 'z' WHERE id = 2")
            .await;
        assert_eq!(
            stand
                .legacy
                .texts("SELECT key FROM changeover_key WHERE place = 'legacy' AND key = '2'")
                .await,
            ["2"]
        );
        migration.uninstall().await.unwrap();
    }

    /// Every start of an application installs; where that was done, nobody is waited for or kept
    /// waiting.
    pub(super) async fn a_start_takes_no_locks(postgres: bool) {
        let stand = Stand::usual(postgres).await;
        let migration = stand.open(MAPPING).await.unwrap();
        migration.install().await.unwrap();
        let started = stand.open(MAPPING).await.unwrap().with_patience(Patience {
            tries: 1,
            ..PATIENCE
        });
        for (side, sql) in [
            (&stand.legacy, "UPDATE parts SET label = 'x' WHERE id = 10"),
            (&stand.new, "INSERT INTO makers VALUES (77, 'm77')"),
        ] {
            let held = Held::on(side, sql).await;
            started.install().await.unwrap();
            held.end().await;
        }
    }
}
