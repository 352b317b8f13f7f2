//! History from one table to another: a backfill, its peers, and a verify.

use std::time::{Duration, Instant};

use changeover::flags::Entity;
use changeover::worker::backfill::BackfillOptions;
use changeover::worker::dialect::session::Database;
use changeover::worker::mapping::toml::TomlMapping;
use changeover::worker::migration::Migration;
use changeover::worker::pace::Pacing;
use futures_util::StreamExt as _;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _};

use crate::report::{Limit, Report, Row};
use crate::support::postgres::Postgres;

mod beside;
mod mariadb;
mod shop;
mod steady;
mod verify;

/// A mapping that changes nothing.
const MAPPING: &str = "revision = 1
root = { table = \"orders\", key = [\"id\"] }
[[target]]
table = \"new_orders\"
owned_by.key = [\"id\"]
identity = [\"id\"]
columns = { id = \"id\", name = \"name\", email = \"email\", amount = \"amount\", at = \"at\", paid = \"paid\" }
";

/// A table of usual columns.
const COLUMNS: &str = "(id bigint PRIMARY KEY, name text NOT NULL, email text, amount numeric(12,2), \
                       at timestamptz NOT NULL, paid boolean)";

/// How many rows the loop copies.
const LOOPED: u64 = 5_000;

/// Two databases of one server, and how many rows lie in one of them.
struct History {
    legacy: String,
    new: String,
    rows: u64,
    server: Postgres,
}

/// How long a fixed rate is watched; a sixth of it where there are fewer rows than that takes.
const WATCHED: Duration = Duration::from_secs(60);

pub fn rows(report: &mut Report, rows: u64) {
    crate::multi_thread().block_on(async {
        let history = History::start(rows).await;
        let millions = format!("{} rows", grouped(rows));
        let pipe = history.pipe().await;
        let looped = history.looped().await;
        let copied = history.copied().await;
        let (paced, _) = history.backfill(&history.new, Pacing::default()).await;
        let (ours, pages) = history.backfill(&history.new, Pacing::UNLIMITED).await;
        report.push(
            Row::new(
                "history",
                format!("backfill / binary COPY pipe, two databases, {millions}"),
                ours / pipe,
                "×",
                Limit::AtLeast(0.5),
            )
            .with("ours_per_s", ours)
            .with("pipe_per_s", pipe)
            .with("paced_per_s", paced),
        );
        report.push(
            Row::new(
                "history",
                "  the same / a loop over rows",
                ours / looped,
                "×",
                Limit::AtLeast(40.0),
            )
            .with("loop_per_s", looped),
        );
        report.push(Row::new(
            "history",
            "  a row's time, last tenth / first tenth",
            pages,
            "×",
            Limit::AtMost(1.2),
        ));
        report.push(
            Row::orientation(
                "history",
                "  the same / a sweep by copies, with a version per key",
                ours / copied,
                "×",
            )
            .with("copies_per_s", copied),
        );
        report.push(memory("of loads and a sweep"));
        history.verify(report).await;
        let select = history.select().await;
        let (ours, _) = history.backfill(&history.legacy, Pacing::UNLIMITED).await;
        report.push(
            Row::new(
                "history",
                "backfill / INSERT … SELECT … ON CONFLICT, one database",
                ours / select,
                "×",
                Limit::AtLeast(0.7),
            )
            .with("ours_per_s", ours)
            .with("select_per_s", select),
        );
        let watched = if rows >= 1_000_000 {
            WATCHED
        } else {
            WATCHED / 6
        };
        report.push(history.rate(watched).await);
        report.push(history.stamps().await);
        history.beside(report).await;
        for row in history.shop(rows / 5).await {
            report.push(row);
        }
        history.from_mariadb(report, rows / 5).await;
        report.push(memory("of verifies, the demo's mapping and MariaDB too"));
    });
}

/// The most memory that this process had so far.
fn memory(of: &str) -> Row {
    let what = format!("the most memory of this process so far: {of}");
    Row::new(
        "history",
        what,
        crate::pairs::megabytes("VmHWM:"),
        "MB",
        Limit::AtMost(100.0),
    )
}

impl History {
    async fn start(rows: u64) -> History {
        let server = Postgres::start();
        server.create_database("legacy").await;
        server.create_database("new").await;
        let history = History {
            legacy: server.url("legacy"),
            new: server.url("new"),
            rows,
            server,
        };
        history
            .run(
                &history.legacy,
                &format!(
                    "CREATE TABLE orders {COLUMNS}; INSERT INTO orders SELECT i, 'name ' || i, \
                     'user' || i || '@example.org', (i % 100000) / 100.0, \
                     timestamptz '2024-01-01' + i * interval '1 s', i % 3 = 0 \
                     FROM generate_series(1, {rows}) i; VACUUM ANALYZE orders"
                ),
            )
            .await;
        history
    }

    async fn connect(url: &str) -> PgConnection {
        PgConnection::connect(url).await.expect("our own server")
    }

    async fn run(&self, url: &str, sql: &str) {
        let mut connection = History::connect(url).await;
        for sql in sql.split(';').filter(|sql| !sql.trim().is_empty()) {
            let sql = AssertSqlSafe(sql.to_owned());
            connection.execute(sql).await.expect("our own SQL");
        }
    }

    /// An empty new table, and nothing left to be written of what was before.
    async fn empty(&self, url: &str) {
        self.run(
            url,
            &format!(
                "DROP TABLE IF EXISTS new_orders; CREATE TABLE new_orders {COLUMNS}; CHECKPOINT"
            ),
        )
        .await;
    }

    fn per_second(&self, began: Instant) -> f64 {
        self.rows as f64 / began.elapsed().as_secs_f64()
    }

    /// What one `COPY` piped into another does.
    async fn pipe(&self) -> f64 {
        self.empty(&self.new).await;
        let (mut from, mut to) = (
            History::connect(&self.legacy).await,
            History::connect(&self.new).await,
        );
        let began = Instant::now();
        let mut rows = from
            .copy_out_raw("COPY orders TO STDOUT (FORMAT binary)")
            .await
            .expect("a copy");
        let mut copy = to
            .copy_in_raw("COPY new_orders FROM STDIN (FORMAT binary)")
            .await
            .expect("a copy");
        let mut part = Vec::new();
        while let Some(row) = rows.next().await {
            part.extend_from_slice(&row.expect("a row"));
            if part.len() > 64 << 10 {
                copy.send(&*part).await.expect("sent");
                part.clear();
            }
        }
        copy.send(&*part).await.expect("sent");
        assert_eq!(copy.finish().await.expect("copied"), self.rows);
        self.per_second(began)
    }

    /// What one statement within a database does.
    async fn select(&self) -> f64 {
        self.empty(&self.legacy).await;
        let began = Instant::now();
        self.run(
            &self.legacy,
            "INSERT INTO new_orders SELECT * FROM orders ON CONFLICT (id) DO NOTHING",
        )
        .await;
        self.per_second(began)
    }

    /// What a loop over rows does, each its own transaction.
    async fn looped(&self) -> f64 {
        self.empty(&self.new).await;
        let (mut from, mut to) = (
            History::connect(&self.legacy).await,
            History::connect(&self.new).await,
        );
        let rows = LOOPED.min(self.rows);
        let began = Instant::now();
        for id in 1..=rows {
            let read =
                "SELECT id, name, email, amount::text, at::text, paid FROM orders WHERE id = $1";
            let row = sqlx::query(read).bind(id as i64).fetch_one(&mut from);
            let row = row.await.expect("a row");
            let write = "INSERT INTO new_orders VALUES ($1, $2, $3, $4::numeric, $5::timestamptz, $6) \
                         ON CONFLICT (id) DO UPDATE SET name = excluded.name, email = excluded.email, \
                         amount = excluded.amount, at = excluded.at, paid = excluded.paid";
            sqlx::query(write)
                .bind(row.get::<i64, _>(0))
                .bind(row.get::<String, _>(1))
                .bind(row.get::<Option<String>, _>(2))
                .bind(row.get::<Option<String>, _>(3))
                .bind(row.get::<String, _>(4))
                .bind(row.get::<Option<bool>, _>(5))
                .execute(&mut to)
                .await
                .expect("a write");
        }
        rows as f64 / began.elapsed().as_secs_f64()
    }

    async fn migration(&self, new: &str) -> Migration {
        let mapping: TomlMapping = MAPPING.parse().expect("our own mapping");
        let open = |url: &str| Database::open(url).expect("our own URL");
        Migration::open(
            Entity::new("orders").expect("a name"),
            std::sync::Arc::new(mapping),
            open(&self.legacy),
            open(new),
        )
        .await
        .expect("it fits")
    }

    /// Rows per second of a sweep by copies, over the part that it comes to within some seconds.
    async fn copied(&self) -> f64 {
        const WITHIN: Duration = Duration::from_secs(20);
        let migration = self.begun(&self.new).await;
        let options = BackfillOptions {
            pacing: Pacing::UNLIMITED,
            load: false,
            ..BackfillOptions::default()
        };
        let (began, mut passed) = (Instant::now(), (0, Duration::from_nanos(1)));
        let sweep = migration.backfill(options);
        let swept = sweep.run(|at| passed = (at.passed, began.elapsed()));
        let _ = tokio::time::timeout(WITHIN, swept).await;
        passed.0 as f64 / passed.1.as_secs_f64()
    }

    /// Installed anew over an empty table, and copying.
    async fn begun(&self, new: &str) -> Migration {
        self.empty(new).await;
        let migration = self.migration(new).await;
        migration.uninstall().await.expect("nothing is there");
        migration.install().await.expect("installed");
        migration.start_copying().await.expect("it begins");
        migration
    }

    /// Rows per second of a backfill into an empty table, and how much longer its last tenth took for
    /// a row than its first.
    async fn backfill(&self, new: &str, pacing: Pacing) -> (f64, f64) {
        let migration = self.begun(new).await;
        let epoch = migration.epoch().await.expect("it is installed");
        let options = BackfillOptions {
            pacing,
            ..BackfillOptions::default()
        };
        let began = Instant::now();
        let mut passed: Vec<(u64, Duration)> = Vec::new();
        let sweep = migration.backfill(options);
        let swept = sweep.run(|at| passed.push((at.passed, began.elapsed())));
        assert_eq!(swept.await.expect("it ends").passed, self.rows);
        let per_second = self.per_second(began);
        migration.record_backfill(&epoch).await.expect("recorded");
        (per_second, slowing(&passed, self.rows))
    }
}

/// A row's time in the last tenth of a sweep against that in its first.
fn slowing(passed: &[(u64, Duration)], rows: u64) -> f64 {
    let at = |keys: u64| {
        let found = passed.iter().find(|(passed, _)| *passed >= keys);
        found.map_or((rows, 0.0), |(passed, at)| (*passed, at.as_secs_f64()))
    };
    let rate = |from: u64, to: u64| {
        let ((from, began), (to, ended)) = (at(from), at(to));
        (ended - began) / (to.saturating_sub(from).max(1)) as f64
    };
    // The first page is small, and opens the connections; the last one is told of when the load has
    // ended, which asks for statistics of what was loaded.
    let first = rate(rows / 20, rows / 20 + rows / 10);
    let before = passed.iter().rev().find(|(passed, _)| *passed < rows);
    let last = before.map_or(rows, |(passed, _)| *passed);
    rate(last - rows / 10, last) / first
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let parts: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|part| std::str::from_utf8(part).unwrap_or_default())
        .collect();
    parts.join(",")
}
