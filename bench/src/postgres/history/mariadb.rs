//! From MariaDB to PostgreSQL, beside what copies in bulk from MariaDB: pt-archiver, to MariaDB.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use changeover::flags::Entity;
use changeover::worker::backfill::BackfillOptions;
use changeover::worker::dialect::session::Database;
use changeover::worker::mapping::toml::TomlMapping;
use changeover::worker::migration::Migration;
use changeover::worker::pace::Pacing;
use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use super::verify::both_ways;
use super::{History, MAPPING, grouped};
use crate::report::{Limit, Report, Row};
use crate::support::mariadb::Mariadb;

/// The table of [`super::COLUMNS`], as MariaDB declares it.
const COLUMNS: &str = "(id bigint PRIMARY KEY, name varchar(64) NOT NULL, email varchar(190), amount decimal(12,2), \
                       at datetime NOT NULL, paid tinyint(1))";

impl History {
    /// A backfill of `rows` rows, and the same rows by pt-archiver.
    pub(super) async fn from_mariadb(&self, report: &mut Report, rows: u64) {
        let server = Mariadb::start();
        for name in ["shop", "archive"] {
            server.create_database(name).await;
        }
        let mut connection = MySqlConnection::connect(&server.url("shop"))
            .await
            .expect("our own server");
        let fill = format!(
            "CREATE TABLE orders {COLUMNS}; CREATE TABLE archive.orders {COLUMNS}; \
             INSERT INTO orders SELECT seq, concat('name ', seq), concat('user', seq, '@example.org'), \
             (seq % 100000) / 100, '2024-01-01' + INTERVAL seq SECOND, seq % 3 = 0 FROM seq_1_to_{rows}; \
             ANALYZE TABLE orders"
        );
        sqlx::raw_sql(AssertSqlSafe(fill))
            .execute(&mut connection)
            .await
            .expect("our own SQL");
        let archived = archived(&server, rows);
        let (ours, verified) = self.of_mariadb(&server.url("shop"), rows).await;
        let what = format!("backfill, MariaDB to PostgreSQL, {} rows", grouped(rows));
        let row = match archived {
            Ok(peer) => Row::new(
                "history",
                format!("{what} / pt-archiver"),
                ours / peer,
                "×",
                Limit::AtLeast(1.0),
            )
            .with("ours_per_s", ours)
            .with("archiver_per_s", peer),
            Err(problem) => {
                report.note(problem);
                Row::orientation("history", what, ours, "rows/s")
            }
        };
        report.push(row);
        report.push(verified);
    }

    /// Rows per second of a backfill, and of a verify by sums and one key by key.
    async fn of_mariadb(&self, url: &str, rows: u64) -> (f64, Row) {
        self.empty(&self.new).await;
        let mapping: TomlMapping = MAPPING.parse().expect("our own mapping");
        let open = |url: &str| Database::open(url).expect("our own URL");
        let entity = Entity::new("orders").expect("a name");
        self.migration(&self.new)
            .await
            .uninstall()
            .await
            .expect("it is taken out");
        let migration =
            Migration::open(entity, Arc::new(mapping), open(url), open(&self.new)).await;
        let migration = migration.expect("it fits");
        migration.install().await.expect("installed");
        migration.start_copying().await.expect("it begins");
        let options = BackfillOptions {
            pacing: Pacing::UNLIMITED,
            ..BackfillOptions::default()
        };
        let began = Instant::now();
        let swept = migration.backfill(options).run(|_| ()).await;
        let swept = swept.expect("it ends");
        assert_eq!((swept.passed, swept.held), (rows, 0));
        let per_second = |began: Instant| rows as f64 / began.elapsed().as_secs_f64();
        let copied = per_second(began);
        (copied, both_ways(&migration, rows).await)
    }
}

/// Rows per second of pt-archiver, which can only copy to MariaDB; or why there are none.
fn archived(server: &Mariadb, rows: u64) -> Result<f64, String> {
    let at = |database: &str| {
        let port = server.port();
        format!("h=127.0.0.1,P={port},u=root,D={database},t=orders,L=1")
    };
    let mut archiver = Command::new("pt-archiver");
    archiver
        .args(["--source", &at("shop"), "--dest", &at("archive")])
        .args(["--where", "1=1", "--limit", "10000", "--bulk-insert"])
        .args(["--no-delete", "--commit-each", "--no-check-charset"])
        .args([
            "--no-safe-auto-increment",
            "--no-version-check",
            "--statistics",
        ])
        .stdin(Stdio::null());
    let began = Instant::now();
    let done = archiver.output().map_err(|problem| {
        format!("pt-archiver, of percona-toolkit, is not measured beside it: {problem}")
    })?;
    let per_second = rows as f64 / began.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&done.stdout);
    match said.contains(&format!("INSERT {rows}\n")) {
        true => Ok(per_second),
        false => Err(format!(
            "pt-archiver did not copy all rows: {said}{}",
            String::from_utf8_lossy(&done.stderr)
        )),
    }
}
