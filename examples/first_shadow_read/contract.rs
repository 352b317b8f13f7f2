//! The mapping and both queries, tried on scratch copies of the databases.

use changeover::kit::{Key, Kit};
use changeover::prelude::*;
use sqlx::SqlitePool;

use super::{Error, MAPPING, RULES, legacy_product, new_product};

use super::proof;

#[tokio::test]
async fn the_mapping_and_both_queries_hold() -> Result<(), Error> {
    let urls = ["sqlite:scratch/legacy.db", "sqlite:scratch/new.db"].map(String::from);
    let (urls, _folder) = proof::scratch(urls).await?;
    let [legacy_url, new_url] = &urls;
    let legacy = SqlitePool::connect(legacy_url).await?;
    let new = SqlitePool::connect(new_url).await?;
    let id = |key: Key| key.as_str().parse().expect("ids are numbers");
    let on_legacy = move |key| legacy_product(legacy.clone(), id(key));
    let on_new = move |key| new_product(new.clone(), id(key));

    let kit = Kit::open("listings", MAPPING, legacy_url, new_url).await?;
    let kit = kit.reads_agree_by("product", Json, RULES.parse()?, on_legacy, on_new);
    let report = kit.check().await;
    println!("{report}");
    report.assert_holds();
    Ok(())
}
