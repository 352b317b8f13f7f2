//! The contract test, tried on a contract that holds and on those that do not.

use std::sync::Arc;

use changeover::closures::Closures;
use changeover::kit::{Key, Kit, LostAnswers, Report, Rule};
use changeover::proxy::Refused;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Serialize;
use sqlx::AssertSqlSafe;
use thiserror::Error;

use crate::protocol::lifecycle::everywhere;
use crate::protocol::market::{MAPPING, Market, Plain, Topology};
use crate::protocol::plain::on_pool;

/// Sound writes beside wrong ones.
mod beside;
/// Repositories and writes that are wrong.
mod calls;
/// Errors, and keys that differ.
mod errors;
/// Mappings that are wrong.
mod mappings;

everywhere!(a_sound_contract_holds);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sound_contract_holds_from_mariadb() {
    scenario::a_sound_contract_holds(Topology::MariadbToSqlite).await;
}

#[derive(Debug, Error)]
enum ShopError {
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the layer")]
    Refused(#[from] Refused),
}

/// A listing as both repositories show it.
#[derive(Debug, Serialize)]
struct Shown {
    title: Option<String>,
    status: String,
    urls: Vec<String>,
}

/// The application's queries on one side.
#[derive(Clone)]
struct Shop {
    tables: Plain,
    new: bool,
}

impl Shop {
    fn pair(market: &Market) -> (Shop, Shop) {
        let shop = |tables: &Plain, new| Shop {
            tables: tables.clone(),
            new,
        };
        (shop(&market.legacy, false), shop(&market.new, true))
    }

    async fn get(self, id: i64) -> Result<Option<Shown>, ShopError> {
        let (listing, photos) = if self.new {
            (
                format!("SELECT title, status FROM service_listings WHERE legacy_id = {id}"),
                format!(
                    "SELECT p.url FROM pictures p JOIN service_listings s ON s.id = p.listing_id WHERE s.legacy_id = {id} ORDER BY 1"
                ),
            )
        } else {
            (
                format!("SELECT title, lower(trim(status)) FROM listings WHERE id = {id}"),
                format!("SELECT url FROM photos WHERE listing_id = {id} ORDER BY 1"),
            )
        };
        let Some((title, status)) = self.tables.two(&listing).await? else {
            return Ok(None);
        };
        Ok(Some(Shown {
            title,
            status,
            urls: self.tables.texts(&photos).await,
        }))
    }

    async fn run(self, sql: String) -> Result<(), ShopError> {
        Ok(self.tables.try_run(&sql).await?)
    }
}

impl Plain {
    async fn two(&self, sql: &str) -> Result<Option<(Option<String>, String)>, sqlx::Error> {
        on_pool!(self, |pool| {
            let query = sqlx::query_as(AssertSqlSafe(sql.to_owned()));
            query.fetch_optional(pool).await
        })
    }
}

fn id(key: &Key) -> i64 {
    key.as_str().parse().unwrap()
}

async fn market(topology: Topology) -> Market {
    let market = Market::start(topology).await;
    market.fill(12).await;
    market
}

async fn open(market: &Market, mapping: &str) -> Kit {
    let kit = Kit::open("listings", mapping, &market.legacy_url, &market.new_url).await;
    kit.unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)))
}

/// The kit with a read and two writes, as a team would give them.
async fn equipped(market: &Market, kit: Kit) -> Kit {
    let (legacy, new) = Shop::pair(market);
    let layer = Arc::new(Closures::<ShopError>::around(kit.wiring().builder()).unwrap());
    let answers = kit.lost_answers();
    let (on_legacy, on_new) = (legacy.clone(), new);
    kit.reads_agree(
        "get",
        move |key| on_legacy.clone().get(id(&key)),
        move |key| on_new.clone().get(id(&key)),
    )
    .writes("retitle", through(&layer, &answers, &legacy, |id, n| {
        format!("UPDATE listings SET title = 'title {n}', status = 'SOLD' WHERE id = {id}")
    }))
    .writes("restock", through(&layer, &answers, &legacy, |id, n| {
        format!(
            "BEGIN; UPDATE listings SET stock = {n} WHERE id = {id}; UPDATE listings SET price = {n}.5 WHERE id = {id}; COMMIT"
        )
    }))
}

type Written = BoxFuture<'static, Result<(), ShopError>>;

/// A write of SQL through the layer.
fn through(
    layer: &Arc<Closures<ShopError>>,
    answers: &LostAnswers,
    legacy: &Shop,
    sql: impl Fn(i64, u32) -> String + Send + Sync + 'static,
) -> impl Fn(Key, u32) -> Written + Send + Sync + 'static {
    let (layer, answers, legacy) = (Arc::clone(layer), answers.clone(), legacy.clone());
    move |key, n| {
        let (answers, legacy, sql) = (answers.clone(), legacy.clone(), sql(id(&key), n));
        let write = move || {
            let (answers, legacy, sql) = (answers.clone(), legacy.clone(), sql.clone());
            async move { answers.pass(legacy.run(sql)).await }
        };
        layer.write("write", [key], write, || async {
            unreachable!("the new repository's writes are not called while legacy leads")
        })
    }
}

/// A write of a price and a title, each in a transaction of its own.
fn by_half(legacy: &Shop) -> impl Fn(Key, u32) -> Written + Send + Sync + 'static {
    let legacy = legacy.clone();
    move |key, n| {
        let (legacy, id) = (legacy.clone(), id(&key));
        async move {
            let price = format!("UPDATE listings SET price = {n} WHERE id = {id}");
            legacy.clone().run(price).await?;
            let title = format!("UPDATE listings SET title = 'half {n}' WHERE id = {id}");
            legacy.run(title).await
        }
        .boxed()
    }
}

/// The one broken rule is `rule`, and its first finding says `words`.
fn assert_broken(report: &Report, rule: Rule, key: Option<&str>, words: &[&str]) {
    assert!(!report.holds(), "{report}");
    let broken: Vec<Rule> = report.findings().iter().map(|one| one.rule).collect();
    assert!(broken.iter().all(|one| *one == rule), "{rule}: {report}");
    let keyed = |wanted: &str| {
        let keys = report
            .findings()
            .iter()
            .filter_map(|one| one.key.as_deref());
        keys.into_iter().any(|key| key == wanted)
    };
    assert!(key.is_none_or(keyed), "{rule} at {key:?}: {report}");
    let text = report.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} in {report}");
    }
}

mod scenario {
    use super::*;

    /// Every rule is tried, and none is broken.
    pub(super) async fn a_sound_contract_holds(topology: Topology) {
        let market = market(topology).await;
        // An orphan of nobody's table, which the mapping does not read.
        market
            .legacy
            .run("CREATE TABLE audit (id bigint PRIMARY KEY NOT NULL, listing_id bigint, words text); INSERT INTO audit VALUES (1, 2, 'seen')")
            .await;
        let kit = equipped(&market, open(&market, MAPPING).await).await;
        let report = kit.check().await;
        println!("{topology:?}\n{report}");
        report.assert_holds();
        for rule in Rule::ALL {
            assert!(report.tried(rule) > 0, "{rule}: {report}");
        }
        assert_eq!(report.tried(Rule::Total), 12);
        // 12 keys, and one that does not exist.
        assert_eq!(report.tried(Rule::Reads), 13);
        market.assert_equal().await;
        // What it changed and took back is as it was.
        let seen = market.legacy.texts("SELECT words FROM audit").await;
        assert_eq!(seen, ["seen"]);
        let again = Kit::open("listings", MAPPING, &market.legacy_url, &market.new_url).await;
        let again = again.expect_err("they may be somebody's").to_string();
        assert!(
            again.contains("listings is installed in these databases already"),
            "{again}"
        );
    }
}
