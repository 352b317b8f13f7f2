//! A stock of things whose every row can be summed: many types, several rows of a key, on any topology.

use std::collections::BTreeMap;

use changeover::flags::Key;
use changeover::worker::migration::Migration;
use changeover::worker::verify::{Class, VerifyOptions, VerifyReport};
use rand::RngExt as _;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;

use super::market::{Engine, Market, Topology, backfill, drain};

mod columns;

use columns::*;

/// A stock ready to be migrated.
pub struct Stock {
    pub market: Market,
    pub topology: Topology,
    /// Of the new table: name, type, and the old column.
    columns: Vec<NewColumn>,
}

impl Stock {
    pub async fn start(topology: Topology) -> Stock {
        Stock::of(Market::start(topology).await).await
    }

    /// Without what two engines do not write alike, which is summed nowhere.
    pub async fn alike(topology: Topology) -> Stock {
        let unlike = Stock::unlike(topology);
        let columns = Stock::new_columns(topology).iter();
        let columns = columns.filter(|column| !unlike.contains(&column.0));
        Stock::with(Market::start(topology).await, columns.copied().collect()).await
    }

    /// Beside the marketplace.
    pub async fn of(market: Market) -> Stock {
        let columns = Stock::new_columns(market.topology).to_vec();
        Stock::with(market, columns).await
    }

    async fn with(market: Market, new_columns: Vec<NewColumn>) -> Stock {
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
        let columns: String = new_columns
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
        Stock {
            market,
            topology,
            columns: new_columns,
        }
    }

    fn old(topology: Topology) -> Columns {
        match topology.legacy_engine() {
            Engine::Postgres => POSTGRES,
            Engine::Mariadb => MARIADB,
            Engine::Sqlite => SQLITE,
        }
    }

    fn new_columns(topology: Topology) -> &'static [NewColumn] {
        match (topology.legacy_engine(), topology.new_engine()) {
            (Engine::Postgres, Engine::Sqlite) => POSTGRES_TO_SQLITE,
            (Engine::Sqlite, Engine::Postgres) => SQLITE_TO_POSTGRES,
            (Engine::Mariadb, Engine::Postgres) => MARIADB_TO_POSTGRES,
            (Engine::Mariadb, Engine::Sqlite) => MARIADB_TO_SQLITE,
            (Engine::Mariadb, _) => MARIADB_NEW,
            (Engine::Postgres, Engine::Mariadb) => POSTGRES_TO_MARIADB,
            (Engine::Sqlite, Engine::Mariadb) => SQLITE_TO_MARIADB,
            (Engine::Postgres, _) => POSTGRES_NEW,
            _ => SQLITE_NEW,
        }
    }

    /// New columns for which no text is known that both engines write.
    pub fn unlike(topology: Topology) -> &'static [&'static str] {
        match (topology.legacy_engine(), topology.new_engine()) {
            (Engine::Mariadb, Engine::Postgres) => &["small_double", "doc"],
            (Engine::Mariadb, Engine::Sqlite) => &["small", "code"],
            (Engine::Postgres, Engine::Sqlite) => &["code"],
            _ => &[],
        }
    }

    pub fn mapping(topology: Topology) -> String {
        Stock::mapping_of(Stock::new_columns(topology))
    }

    /// The mapping of the columns that it has.
    pub fn own_mapping(&self) -> String {
        Stock::mapping_of(&self.columns)
    }

    fn mapping_of(columns: &[NewColumn]) -> String {
        let columns: String = columns
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
        Stock::row_of(id, &values, random)
    }

    fn row_of(id: i64, values: &str, random: &mut SmallRng) -> String {
        let tag = TEXTS.choose(random).unwrap();
        format!(
            "INSERT INTO things VALUES ({id}{values});
             INSERT INTO thing_tags VALUES ({id}, 0, 'left out'), ({id}, 1, {tag}), ({id}, 2, 'two');"
        )
    }

    /// A statement that sets a column of a new row to a chance value that its old column could have.
    pub fn change(&self, id: i64, random: &mut SmallRng) -> String {
        let (name, _, from) = self.columns.choose(random).unwrap();
        let old = Stock::old(self.topology).iter().find(|old| old.0 == *from);
        let value = old.unwrap().2.choose(random).unwrap();
        format!("UPDATE goods SET {name} = {value} WHERE thing_id = {id}")
    }

    /// Such a row, mostly of values that all engines have.
    pub fn tame_row(&self, id: i64, random: &mut SmallRng) -> String {
        let values: String = Stock::old(self.topology)
            .iter()
            .map(|(_, _, values)| {
                let tame = values.get(..3).filter(|_| random.random_bool(0.85));
                format!(", {}", tame.unwrap_or(values).choose(random).unwrap())
            })
            .collect();
        Stock::row_of(id, &values, random)
    }

    /// A statement that sets a column of a new row to what another row has in it, or to NULL.
    pub fn exchange(&self, one: i64, other: i64, random: &mut SmallRng) -> String {
        let (name, ..) = self.columns.choose(random).unwrap();
        let value = match random.random_range(0..5) {
            0 => "NULL".to_owned(),
            _ => format!("(SELECT o.{name} FROM goods o WHERE o.thing_id = {other})"),
        };
        format!("UPDATE goods SET {name} = {value} WHERE thing_id = {one}")
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
        let mapping = Market::mapping(&self.own_mapping());
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

/// Everything that the new side holds, as its database writes it.
pub async fn held(stock: &Stock) -> Vec<String> {
    let quoted = async |names: &str| -> Vec<String> {
        let names = stock.market.new.texts(names).await;
        names
            .iter()
            .map(|name| format!("quote(g.{name})"))
            .collect()
    };
    let columns = match stock.market.new.engine() {
        Engine::Postgres => vec!["(g.*)::text".into()],
        Engine::Sqlite => quoted("SELECT name FROM pragma_table_info('goods')").await,
        Engine::Mariadb => {
            quoted("SELECT column_name FROM information_schema.columns WHERE table_schema = database() AND table_name = 'goods'").await
        }
    };
    let goods = format!(
        "SELECT {} FROM goods g ORDER BY thing_id",
        columns.join(" || '|' || ")
    );
    let mut rows = stock.market.new.texts(&goods).await;
    let tags = "SELECT thing_id || '|' || position || '|' || coalesce(tag, 'NULL') FROM good_tags \
                ORDER BY thing_id, position";
    rows.extend(stock.market.new.texts(tags).await);
    rows
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
