//! A stock of things whose every row can be summed: many types, several rows of a key, on any topology.

use std::collections::BTreeMap;

use changeover::flags::Key;
use changeover::worker::migration::Migration;
use changeover::worker::verify::{Class, VerifyOptions, VerifyReport};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;

use super::market::{Engine, Market, Topology, backfill, drain};

/// Columns of the old table: name, type, and values, among which are those that are easily confused.
type Columns = &'static [(&'static str, &'static str, &'static [&'static str])];

const TEXTS: &[&str] = &[
    "NULL",
    "''",
    "' '",
    "'a'",
    "'a '",
    "'A'",
    "'NULL'",
    "'N'",
    "'1'",
    "'a,b'",
    "'a\"b'",
    "'a\\b'",
    "'(a)'",
    "'a\nb'",
    "'é'",
    "'e\u{301}'",
    "'✓'",
];

const POSTGRES: Columns = &[
    ("num", "integer", &["NULL", "0", "1", "-1", "2147483647"]),
    (
        "amount",
        "numeric",
        &[
            "NULL",
            "0",
            "0.00",
            "1.5",
            "1.50",
            "100",
            "12345678901234.5678",
            "'NaN'",
        ],
    ),
    (
        "ratio",
        "double precision",
        &[
            "NULL",
            "0",
            "'-0'",
            "0.1",
            "1e20",
            "1e-7",
            "'NaN'",
            "'Infinity'",
        ],
    ),
    (
        "small",
        "real",
        &["NULL", "0", "'-0'", "0.1", "1e20", "16777217"],
    ),
    ("title", "text", TEXTS),
    ("code", "varchar(20)", TEXTS),
    (
        "fixed",
        "char(5)",
        &["NULL", "''", "'a'", "'a  b'", "'abcde'"],
    ),
    ("flag", "boolean", &["NULL", "true", "false"]),
    (
        "at",
        "timestamptz",
        &[
            "NULL",
            "'2024-01-01 00:00:00+00'",
            "'2024-01-01 00:00:00.000001+00'",
            "'2024-01-01 01:00:00+01'",
            "'infinity'",
            "'-infinity'",
            "'0044-03-15 00:00:00+00 BC'",
        ],
    ),
    (
        "day",
        "date",
        &["NULL", "'2024-01-01'", "'infinity'", "'0001-01-01 BC'"],
    ),
    (
        "blob",
        "bytea",
        &["NULL", "'\\x'", "'\\x00'", "'\\x6100'", "'\\x61'"],
    ),
    (
        "ref",
        "uuid",
        &[
            "NULL",
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
            "'00000000-0000-0000-0000-000000000000'",
        ],
    ),
    (
        "doc",
        "jsonb",
        &[
            "NULL",
            "'null'",
            "'{}'",
            "'{\"a\":1}'",
            "'{\"a\":1.0}'",
            "'[1,2]'",
            "'[2,1]'",
        ],
    ),
    (
        "body",
        "json",
        &[
            "NULL",
            "'{}'",
            "'{\"a\":1, \"c\":2}'",
            "'{\"b\": 1,\"a\":1}'",
        ],
    ),
    (
        "span",
        "interval",
        &["NULL", "'1 day'", "'24:00:00'", "'1 month'", "'30 days'"],
    ),
];

/// The new table's columns: name, type, and the old column.
const POSTGRES_NEW: &[(&str, &str, &str)] = &[
    ("num", "bigint", "num"),
    ("num_text", "text", "num"),
    ("amount", "numeric", "amount"),
    ("amount_4", "numeric(20,4)", "amount"),
    ("ratio", "double precision", "ratio"),
    ("small", "real", "small"),
    ("small_double", "double precision", "small"),
    ("title", "text", "title"),
    // What a mapping calls the name of a row within its key.
    ("slot", "text", "title"),
    ("code", "text", "code"),
    ("fixed", "char(8)", "fixed"),
    ("fixed_text", "varchar(8)", "fixed"),
    ("flag", "boolean", "flag"),
    ("flag_text", "text", "flag"),
    ("at", "timestamptz", "at"),
    ("at_us", "timestamptz(6)", "at"),
    ("day", "date", "day"),
    ("blob", "bytea", "blob"),
    ("ref", "uuid", "ref"),
    ("ref_text", "text", "ref"),
    ("doc", "jsonb", "doc"),
    ("body", "jsonb", "body"),
    ("span", "interval", "span"),
];

const SQLITE: Columns = &[
    (
        "num",
        "INTEGER",
        &[
            "NULL",
            "0",
            "1",
            "-1",
            "'abc'",
            "1.5",
            "9223372036854775807",
        ],
    ),
    (
        "amount",
        "NUMERIC",
        &["NULL", "0", "1.5", "'1.50'", "100", "'x'", "1e20", "0.1"],
    ),
    (
        "ratio",
        "REAL",
        &["NULL", "0", "-0.0", "1", "0.1", "1e20", "9e999", "'x'"],
    ),
    ("title", "TEXT", TEXTS),
    (
        "anything",
        "",
        &["NULL", "1", "1.0", "'1'", "x'31'", "''", "x''", "0.1", "2"],
    ),
    ("flag", "BOOLEAN", &["NULL", "0", "1", "'true'"]),
    (
        "blob",
        "BLOB",
        &["NULL", "x''", "x'00'", "x'6100'", "'a'", "x'61'"],
    ),
];

const SQLITE_NEW: &[(&str, &str, &str)] = &[
    ("num", "BIGINT", "num"),
    ("num_text", "VARCHAR(20)", "num"),
    ("amount", "DECIMAL(12,2)", "amount"),
    ("amount_real", "DOUBLE", "amount"),
    ("ratio", "REAL", "ratio"),
    ("ratio_any", "", "ratio"),
    ("title", "TEXT", "title"),
    ("slot", "TEXT", "title"),
    ("anything", "", "anything"),
    ("anything_number", "NUMERIC", "anything"),
    ("flag", "BOOLEAN", "flag"),
    ("blob", "BLOB", "blob"),
];

/// PostgreSQL's columns in SQLite. What one of these changes is held: numbers with more digits than a
/// float has, and `NaN`.
const POSTGRES_TO_SQLITE: &[(&str, &str, &str)] = &[
    ("num", "BIGINT", "num"),
    ("num_text", "VARCHAR(20)", "num"),
    ("amount", "DECIMAL(12,2)", "amount"),
    ("amount_text", "TEXT", "amount"),
    ("ratio", "DOUBLE PRECISION", "ratio"),
    ("small", "REAL", "small"),
    ("title", "TEXT", "title"),
    ("slot", "TEXT", "title"),
    ("code", "", "code"),
    ("fixed", "VARCHAR(8)", "fixed"),
    ("flag", "BOOLEAN", "flag"),
    ("at", "TEXT", "at"),
    ("at_time", "TIMESTAMP", "at"),
    ("day", "DATE", "day"),
    ("blob", "BLOB", "blob"),
    ("ref", "TEXT", "ref"),
    ("doc", "TEXT", "doc"),
    ("body", "TEXT", "body"),
    ("span", "TEXT", "span"),
];

/// SQLite's columns in PostgreSQL. What has no form there is held: words in columns of numbers.
const SQLITE_TO_POSTGRES: &[(&str, &str, &str)] = &[
    ("num", "bigint", "num"),
    ("num_text", "text", "num"),
    ("amount", "numeric", "amount"),
    ("amount_4", "numeric(20,4)", "amount"),
    ("ratio", "double precision", "ratio"),
    ("title", "text", "title"),
    ("slot", "varchar", "title"),
    ("anything", "text", "anything"),
    ("flag", "boolean", "flag"),
    ("blob", "bytea", "blob"),
];

/// A stock ready to be migrated.
pub struct Stock {
    pub market: Market,
    pub topology: Topology,
}

impl Stock {
    pub async fn start(topology: Topology) -> Stock {
        Stock::of(Market::start(topology).await).await
    }

    /// Beside the marketplace.
    pub async fn of(market: Market) -> Stock {
        let topology = market.topology;
        let columns: String = Stock::old(topology)
            .iter()
            .map(|(name, sql_type, _)| format!(", {name} {sql_type}"))
            .collect();
        market
            .legacy
            .run(&format!(
                "CREATE TABLE things (id bigint PRIMARY KEY NOT NULL{columns});
                 CREATE TABLE thing_tags (thing_id bigint NOT NULL, position bigint NOT NULL, tag text,
                   PRIMARY KEY (thing_id, position))"
            ))
            .await;
        let columns: String = Stock::new_columns(topology)
            .iter()
            .map(|(name, sql_type, _)| format!(", {name} {sql_type}"))
            .collect();
        market
            .new
            .run(&format!(
                "CREATE TABLE goods (thing_id bigint PRIMARY KEY NOT NULL{columns}, note text,
                   CHECK (title <> 'forbidden'));
                 CREATE TABLE good_tags (thing_id bigint NOT NULL, position bigint NOT NULL, tag text,
                   PRIMARY KEY (thing_id, position))"
            ))
            .await;
        Stock { market, topology }
    }

    fn old(topology: Topology) -> Columns {
        match topology.legacy_engine() {
            Engine::Postgres => POSTGRES,
            _ => SQLITE,
        }
    }

    fn new_columns(topology: Topology) -> &'static [(&'static str, &'static str, &'static str)] {
        match (topology.legacy_engine(), topology.new_engine()) {
            (Engine::Postgres, Engine::Sqlite) => POSTGRES_TO_SQLITE,
            (Engine::Sqlite, Engine::Postgres) => SQLITE_TO_POSTGRES,
            (Engine::Postgres, _) => POSTGRES_NEW,
            _ => SQLITE_NEW,
        }
    }

    pub fn mapping(topology: Topology) -> String {
        let columns: String = Stock::new_columns(topology)
            .iter()
            .map(|(name, _, from)| format!("{name} = \"{from}\"\n"))
            .collect();
        format!(
            r#"
            revision = 1
            root = {{ table = "things", key = ["id"] }}
            [source.thing_tags]
            key = ["thing_id"]
            [[target]]
            name = "good"
            table = "goods"
            owned_by = {{ key = ["thing_id"] }}
            identity = ["thing_id"]
            [target.columns]
            thing_id = "id"
            {columns}
            [[target]]
            name = "tag"
            table = "good_tags"
            owned_by = {{ key = ["thing_id"] }}
            identity = ["thing_id", "position"]
            from = "thing_tags"
            key = ["thing_id"]
            where = "position > 0"
            columns = {{ thing_id = "thing_id", position = "position", tag = "tag" }}
            "#
        )
    }

    /// A row of the old table with chance values.
    pub fn row(&self, id: i64, random: &mut SmallRng) -> String {
        let values: String = Stock::old(self.topology)
            .iter()
            .map(|(_, _, values)| format!(", {}", values.choose(random).unwrap()))
            .collect();
        let tag = TEXTS.choose(random).unwrap();
        format!(
            "INSERT INTO things VALUES ({id}{values});
             INSERT INTO thing_tags VALUES ({id}, 0, 'left out'), ({id}, 1, {tag}), ({id}, 2, 'two');"
        )
    }

    /// A statement that sets a column of a new row to a chance value that its old column could have.
    pub fn change(&self, id: i64, random: &mut SmallRng) -> String {
        let columns = Stock::new_columns(self.topology);
        let (name, _, from) = columns.choose(random).unwrap();
        let old = Stock::old(self.topology).iter().find(|old| old.0 == *from);
        let value = old.unwrap().2.choose(random).unwrap();
        format!("UPDATE goods SET {name} = {value} WHERE thing_id = {id}")
    }

    /// Plain rows 1 to `rows`.
    pub async fn fill(&self, rows: i64) {
        let sql: String = (1..=rows)
            .map(|id| {
                format!(
                    "INSERT INTO things (id, num, title) VALUES ({id}, {id}, 't{id}');
                     INSERT INTO thing_tags VALUES ({id}, 1, 'tag {id}');"
                )
            })
            .collect();
        self.market.legacy.run(&sql).await;
    }

    pub async fn open(&self) -> Migration {
        let mapping = Market::mapping(&Stock::mapping(self.topology));
        self.market.open_with(mapping).await
    }

    /// Installed and copying, with nothing copied yet.
    pub async fn copying(&self) -> Migration {
        let migration = self.open().await;
        migration.install().await.unwrap();
        migration.start_copying().await.unwrap();
        migration
    }

    /// Installed, with history copied.
    pub async fn ready(&self) -> Migration {
        let migration = self.copying().await;
        backfill(&migration).await;
        migration
    }

    /// Changes the new side past every guard.
    pub async fn force(&self, sql: &str) {
        self.market.new.force(sql).await;
    }

    /// Takes all rows and versions off the new side, and copies everything again.
    pub async fn copied_again(&self, migration: &Migration, keys: &[Key]) {
        self.force("DELETE FROM goods; DELETE FROM good_tags").await;
        self.market
            .new
            .run("DELETE FROM changeover_key WHERE place = 'new'")
            .await;
        migration.copier().authority().touch(keys).await.unwrap();
        drain(migration).await;
    }
}

/// A verify with pages and spans of so many keys; spans of 0 are none.
pub async fn verify_by(migration: &Migration, page: u32, range: u32) -> VerifyReport {
    let options = VerifyOptions {
        page,
        range,
        samples: 1_000,
        ..VerifyOptions::default()
    };
    migration
        .verify(options)
        .await
        .unwrap_or_else(|error| panic!("{error:?}"))
}

/// What a report says of each key that is not equal.
pub fn found(report: &VerifyReport) -> BTreeMap<String, Class> {
    let samples = report.samples.iter();
    samples.map(|one| (one.key.clone(), one.class)).collect()
}
