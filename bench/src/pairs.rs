//! Memory of a backfill and a verify, from each engine to each.

use std::sync::Arc;
use std::time::Instant;

use changeover::flags::Entity;
use changeover::worker::backfill::BackfillOptions;
use changeover::worker::dialect::session::Database;
use changeover::worker::mapping::toml::TomlMapping;
use changeover::worker::migration::Migration;
use changeover::worker::pace::Pacing;
use changeover::worker::verify::VerifyOptions;
use sqlx::mysql::MySqlConnection;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection as _, raw_sql};

use crate::report::{Limit, Report, Row};
use crate::support::mariadb::Mariadb;
use crate::support::postgres::Postgres;

/// A mapping that changes nothing.
const MAPPING: &str = "revision = 1
root = { table = \"orders\", key = [\"id\"] }
[[target]]
table = \"new_orders\"
owned_by.key = [\"id\"]
identity = [\"id\"]
columns = { id = \"id\", name = \"name\", email = \"email\", amount = \"amount\", paid = \"paid\" }
";

/// Types that every engine has.
const COLUMNS: &str = "(id bigint NOT NULL PRIMARY KEY, name varchar(64) NOT NULL, email varchar(190), amount bigint, \
                       paid smallint)";

/// An engine, a database of it with the rows in `orders`, and one for what arrives.
struct Side {
    engine: Engine,
    legacy: String,
    new: String,
}

#[derive(Debug, Clone, Copy)]
enum Engine {
    Postgres,
    Mariadb,
    Sqlite,
}

/// A row for each pair: the most memory that this process had, of which is told how much it had
/// before. Servers are processes of their own and not counted; SQLite's pages are.
pub fn rows(report: &mut Report, rows: u64) {
    crate::multi_thread().block_on(async {
        let folder = tempfile::tempdir().expect("a folder");
        let (postgres, mariadb) = (Postgres::start(), Mariadb::start());
        for name in ["legacy", "new"] {
            postgres.create_database(name).await;
            mariadb.create_database(name).await;
        }
        let file = |name: &str| format!("sqlite://{}", folder.path().join(name).display());
        let sides = [
            Side {
                engine: Engine::Postgres,
                legacy: postgres.url("legacy"),
                new: postgres.url("new"),
            },
            Side {
                engine: Engine::Mariadb,
                legacy: mariadb.url("legacy"),
                new: mariadb.url("new"),
            },
            Side {
                engine: Engine::Sqlite,
                legacy: file("legacy.db"),
                new: file("new.db"),
            },
        ];
        for side in &sides {
            side.fill(rows).await;
        }
        for legacy in &sides {
            for new in &sides {
                report.push(pair(legacy, new, rows).await);
            }
        }
    });
}

/// A backfill and a verify of `rows` rows.
async fn pair(legacy: &Side, new: &Side, rows: u64) -> Row {
    let empty = format!("DROP TABLE IF EXISTS new_orders; CREATE TABLE new_orders {COLUMNS}");
    new.engine.run(&new.new, &empty).await;
    let mapping: TomlMapping = MAPPING.parse().expect("our own mapping");
    let open = |url: &str| Database::open(url).expect("our own URL");
    let entity = Entity::new("orders").expect("a name");
    let (from, to) = (open(&legacy.legacy), open(&new.new));
    let migration = Migration::open(entity, Arc::new(mapping), from, to).await;
    let migration = migration.expect("it fits");
    migration.install().await.expect("installed");
    migration.start_copying().await.expect("it begins");
    let before = megabytes("VmRSS:");
    forget_peak();
    let options = BackfillOptions {
        pacing: Pacing::UNLIMITED,
        ..BackfillOptions::default()
    };
    let began = Instant::now();
    let swept = migration.backfill(options).run(|_| ()).await;
    let swept = swept.expect("it ends");
    assert_eq!((swept.passed, swept.held), (rows, 0));
    let copied = rows as f64 / began.elapsed().as_secs_f64();
    let began = Instant::now();
    let verified = migration.verify(VerifyOptions::default()).await;
    assert!(verified.expect("an answer").clean());
    let verified = rows as f64 / began.elapsed().as_secs_f64();
    let peak = megabytes("VmHWM:");
    migration.uninstall().await.expect("it is there");
    let what = format!(
        "peak memory of backfill and verify, {:?} to {:?}, {rows} rows",
        legacy.engine, new.engine
    );
    Row::new("pairs", what, peak, "MB", Limit::AtMost(100.0))
        .with("before_mb", before)
        .with("copied_per_s", copied)
        .with("verified_per_s", verified)
}

impl Side {
    async fn fill(&self, rows: u64) {
        let series = match self.engine {
            Engine::Postgres => format!("generate_series(1, {rows}) s(i)"),
            Engine::Mariadb => format!("(SELECT seq AS i FROM seq_1_to_{rows}) s"),
            Engine::Sqlite => format!(
                "(WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < {rows}) SELECT i FROM s)"
            ),
        };
        let name = |text: &str, after: &str| match self.engine {
            Engine::Mariadb => format!("concat('{text}', i, '{after}')"),
            Engine::Postgres | Engine::Sqlite => format!("'{text}' || i || '{after}'"),
        };
        let fill = format!(
            "CREATE TABLE orders {COLUMNS}; INSERT INTO orders SELECT i, {}, {}, i % 100000, i % 2 FROM {series}",
            name("name ", ""),
            name("user", "@example.org"),
        );
        self.engine.run(&self.legacy, &fill).await;
    }
}

impl Engine {
    async fn run(self, url: &str, sql: &str) {
        let sql = raw_sql(AssertSqlSafe(sql.to_owned()));
        let done = match self {
            Engine::Postgres => {
                let mut connection = PgConnection::connect(url).await.expect("our own server");
                sql.execute(&mut connection).await.map(drop)
            }
            Engine::Mariadb => {
                let mut connection = MySqlConnection::connect(url).await.expect("our own server");
                sql.execute(&mut connection).await.map(drop)
            }
            Engine::Sqlite => {
                let url = format!("{url}?mode=rwc");
                let mut connection = SqliteConnection::connect(&url).await.expect("our own file");
                sql.execute(&mut connection).await.map(drop)
            }
        };
        done.expect("our own SQL");
    }
}

/// The peak of this process begins anew (proc(5), `clear_refs`).
fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").expect("a process may forget its own peak");
}

/// A figure of `/proc/self/status` in MB.
pub fn megabytes(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kilobytes.unwrap_or(f64::NAN) / 1_024.0
}
