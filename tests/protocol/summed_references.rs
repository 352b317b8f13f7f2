//! Sums of rows that name other rows: shared ones, the key's own, and those that they belong to.

use std::collections::BTreeMap;

use changeover::worker::migration::Migration;
use changeover::worker::verify::{Class, Recorded};

use super::lifecycle::{everywhere, on_pairs, within_mariadb};
use super::market::{Market, Topology, backfill, drain};
use super::stock::{found, verify_by};

everywhere!(
    what_names_other_rows_is_summed_with_them,
    rows_whose_row_is_gone_are_found,
);
within_mariadb!(
    what_names_other_rows_is_summed_with_them,
    rows_whose_row_is_gone_are_found,
);
on_pairs!(
    what_names_other_rows_is_summed_with_them,
    rows_whose_row_is_gone_are_found,
);

const LEGACY: &str = "
CREATE TABLE ads (id bigint PRIMARY KEY NOT NULL, title {word}, city {word}, street {word}, kind {word},
  price bigint, amount bigint, cover bigint);
CREATE TABLE ad_photos (id bigint PRIMARY KEY NOT NULL, ad_id bigint NOT NULL, url {word});
CREATE TABLE ad_labels (ad_id bigint NOT NULL, photo_id bigint NOT NULL, n bigint NOT NULL, label {word},
  PRIMARY KEY (ad_id, photo_id, n));
CREATE INDEX of_ad ON ad_photos (ad_id)";

/// Without foreign keys: whatever is forged shall fit.
const NEW: &str = "
CREATE TABLE places (id {chosen}, city {word} NOT NULL, street {word} NOT NULL, UNIQUE (city, street));
CREATE TABLE kinds (id {chosen}, name {word} NOT NULL UNIQUE, slug {word});
CREATE TABLE offers (id {chosen}, ad_id bigint, title {word}, place_id bigint, kind_id bigint);
CREATE TABLE stocks (offer_id bigint PRIMARY KEY NOT NULL, amount bigint);
CREATE TABLE shots (id {chosen}, offer_id bigint, url {word});
CREATE TABLE labels (shot_id bigint NOT NULL, n bigint NOT NULL, label {word}, PRIMARY KEY (shot_id, n));
CREATE TABLE prices (ad_id bigint PRIMARY KEY NOT NULL, offer_id bigint, cover_id bigint, price bigint);
CREATE INDEX by_ad ON offers (ad_id);
CREATE INDEX shots_of ON shots (offer_id)";

const MAPPING: &str = r#"
revision = 1
root = { table = "ads", key = ["id"] }
[source.ad_photos]
key = ["ad_id"]
[source.ad_labels]
key = ["ad_id"]

[[target]]
name = "place"
table = "places"
shared_by = ["city", "street"]
id = "id"
[target.columns]
city = "CASE WHEN trim(coalesce(city, '')) = '' THEN NULL ELSE trim(city) END"
street = "coalesce(street, '')"

[[target]]
name = "kind"
table = "kinds"
shared_by = ["name"]
id = "id"
columns = { name = "nullif(lower(kind), '')", slug = "replace(nullif(lower(kind), ''), ' ', '-')" }

[[target]]
name = "offer"
table = "offers"
owned_by = { key = ["ad_id"] }
id = "id"
columns = { ad_id = "id", title = "title", place_id = { row = "place" }, kind_id = { row = "kind" } }

[[target]]
name = "stock"
table = "stocks"
owned_by = { row = "offer", column = "offer_id" }
identity = ["offer_id"]
columns = { offer_id = { row = "offer" }, amount = "amount" }

[[target]]
name = "shot"
table = "shots"
owned_by = { row = "offer", column = "offer_id" }
id = "id"
from = "ad_photos"
key = ["ad_id"]
slot = "id"
columns = { offer_id = { row = "offer" }, url = "url" }

[[target]]
name = "label"
table = "labels"
owned_by = { row = "shot", column = "shot_id" }
identity = ["shot_id", "n"]
from = "ad_labels"
key = ["ad_id"]
columns = { shot_id = { row = "shot", slot = "photo_id" }, n = "n", label = "label" }

[[target]]
name = "price"
table = "prices"
owned_by = { key = ["ad_id"] }
identity = ["ad_id"]
[target.columns]
ad_id = "id"
offer_id = { row = "offer" }
cover_id = { row = "shot", slot = "cover" }
price = "price"
"#;

/// Ads 1 to 20, of which every fifth is nowhere, every sixth without a cover, and every seventh of no kind.
async fn market(topology: Topology) -> (Market, Migration) {
    let market = Market::start(topology).await;
    market
        .legacy
        .run(&market.legacy.engine().schema(LEGACY))
        .await;
    market.new.run(&market.new.engine().schema(NEW)).await;
    // Ids that are not the keys'.
    let rows: String = (1..=20)
        .rev()
        .map(|n| {
            let city = ["' '", "'Ulm'", "'Bonn'", "'Ulm'", "'Köln'"][n % 5];
            let kind = ["NULL", "'Old Book'", "'Toy'"][if n % 7 == 0 { 0 } else { 1 + n % 2 }];
            let (first, second) = (100 + n, 200 + n);
            let cover = if n % 6 == 0 {
                "NULL".to_owned()
            } else {
                second.to_string()
            };
            format!(
                "INSERT INTO ads VALUES ({n}, 't{n}', {city}, 'Road', {kind}, {n}, {n}, {cover});
                 INSERT INTO ad_photos VALUES ({first}, {n}, 'same'), ({second}, {n}, 'same');
                 INSERT INTO ad_labels VALUES ({n}, {first}, 1, 'x'), ({n}, {second}, 1, 'x');"
            )
        })
        .collect();
    market.legacy.run(&rows).await;
    let migration = market.installed_with(MAPPING).await;
    backfill(&migration).await;
    let report = verify_by(&migration, 1, 4).await;
    assert!(report.unsummed.is_empty(), "{:?}", report.unsummed);
    assert!(report.clean() && report.sums.bisected == 0, "{report:?}");
    assert_eq!((report.compared, report.recorded), (20, Recorded::Yes));
    (market, migration)
}

/// What a verify finds by sums, which must be what it finds key by key.
async fn differ(migration: &Migration, what: &str) -> BTreeMap<String, Class> {
    let single = found(&verify_by(migration, 10, 0).await);
    let summed = found(&verify_by(migration, 1, 7).await);
    assert_eq!(summed, single, "{what}");
    single
}

/// The id of an ad's offer.
async fn offer(market: &Market, ad: i64) -> String {
    let sql = format!("SELECT id || '' FROM offers WHERE ad_id = {ad}");
    market.new.text(&sql).await
}

async fn shot(market: &Market, ad: i64, which: &str) -> String {
    let offer = offer(market, ad).await;
    let sql = format!("SELECT {which}(id) || '' FROM shots WHERE offer_id = {offer}");
    market.new.text(&sql).await
}

/// What a column asks for has a name among the query's columns, and another column may have that name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_with_the_name_of_a_slot_is_not_summed_as_that() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    let old = "CREATE TABLE ads (id bigint PRIMARY KEY NOT NULL, photo bigint);
         CREATE TABLE ad_photos (id bigint PRIMARY KEY NOT NULL, ad_id bigint NOT NULL);
         INSERT INTO ads VALUES (1, 101), (2, 102); INSERT INTO ad_photos VALUES (101, 1), (102, 2)";
    market.legacy.run(old).await;
    let new = "CREATE TABLE offers (id INTEGER PRIMARY KEY NOT NULL, ad_id bigint NOT NULL);
         CREATE INDEX offers_of ON offers (ad_id);
         CREATE TABLE shots (id INTEGER PRIMARY KEY NOT NULL, ad_id bigint NOT NULL);
         CREATE INDEX shots_of ON shots (ad_id);
         CREATE TABLE covers (ad_id bigint PRIMARY KEY NOT NULL, cover bigint, \"cover.slot\" bigint)";
    market.new.run(new).await;
    let mapping = r#"
        revision = 1
        root = { table = "ads", key = ["id"] }
        [source.ad_photos]
        key = ["ad_id"]
        [[target]]
        name = "offer"
        table = "offers"
        owned_by = { key = ["ad_id"] }
        id = "id"
        columns = { ad_id = "id" }
        [[target]]
        name = "shot"
        table = "shots"
        owned_by = { key = ["ad_id"] }
        id = "id"
        from = "ad_photos"
        key = ["ad_id"]
        slot = "id"
        columns = { ad_id = "ad_id" }
        [[target]]
        table = "covers"
        owned_by = { key = ["ad_id"] }
        identity = ["ad_id"]
        [target.columns]
        ad_id = "id"
        cover = { row = "shot", slot = "photo" }
        "cover.slot" = { row = "offer" }
    "#;
    let migration = market.installed_with(mapping).await;
    backfill(&migration).await;
    assert_eq!(differ(&migration, "as it came").await, BTreeMap::new());
    let forge = "UPDATE covers SET \"cover.slot\" = 101 WHERE ad_id = 1";
    market.new.force(forge).await;
    let found = differ(&migration, forge).await;
    assert_eq!(found.len(), 1, "{found:?}");
}

mod scenario {
    use super::*;

    pub(super) async fn what_names_other_rows_is_summed_with_them(topology: Topology) {
        let (market, migration) = market(topology).await;
        // What a shared row says is said of each who names it.
        for (forge, back, keys) in [
            (
                "UPDATE kinds SET slug = 'other'",
                "UPDATE kinds SET slug = 'toy'",
                9,
            ),
            (
                "UPDATE kinds SET slug = NULL",
                "UPDATE kinds SET slug = 'toy'",
                9,
            ),
            (
                "UPDATE kinds SET name = 'tot'",
                "UPDATE kinds SET name = 'toy'",
                9,
            ),
        ] {
            let which = |sql: &str| format!("{sql} WHERE name IN ('toy', 'tot')");
            market.new.force(&which(forge)).await;
            let now = differ(&migration, &format!("{topology:?}: {forge}")).await;
            assert_eq!(now.len(), keys, "{topology:?}: {forge}: {now:?}");
            market.new.force(&which(back)).await;
            assert_eq!(differ(&migration, back).await, BTreeMap::new());
        }
        let place = async |city: &str| {
            let sql = format!("SELECT id || '' FROM places WHERE city = '{city}'");
            market.new.text(&sql).await
        };
        let (ulm, bonn) = (place("Ulm").await, place("Bonn").await);
        let kind = "SELECT id || '' FROM kinds WHERE name = 'toy'";
        let toy = market.new.text(kind).await;
        let at = async |ad: i64| offer(&market, ad).await;
        let set = |column: &str, value: &str, ad: i64| {
            format!("UPDATE offers SET {column} = {value} WHERE ad_id = {ad}")
        };
        let six = at(6).await;
        let (least, most) = (shot(&market, 9, "min").await, shot(&market, 9, "max").await);
        let forged = [
            // Another place, none, one of nobody; one for nowhere, and one of nobody for nowhere.
            set("place_id", &bonn, 1),
            set("place_id", "NULL", 2),
            set("place_id", "999", 3),
            set("place_id", &ulm, 5),
            set("place_id", "999", 10),
            set("kind_id", "NULL", 4),
            set("kind_id", &toy, 7),
            // Who has whose stock.
            format!(
                "DELETE FROM stocks WHERE offer_id = {six}; UPDATE stocks SET offer_id = {six} WHERE offer_id = {}",
                at(8).await
            ),
            format!("UPDATE stocks SET offer_id = 999 WHERE offer_id = {}", at(9).await),
            format!("UPDATE shots SET offer_id = NULL WHERE id = {}", shot(&market, 11, "min").await),
            // Pictures in each other's place, or another offer's; and their labels.
            format!(
                "UPDATE shots SET id = -1 WHERE id = {least}; UPDATE shots SET id = {least} WHERE id = {most};
                 UPDATE shots SET id = {most} WHERE id = -1"
            ),
            format!(
                "UPDATE shots SET offer_id = {} WHERE id = {}",
                at(12).await,
                shot(&market, 13, "min").await
            ),
            format!(
                "UPDATE labels SET shot_id = {}, n = 2 WHERE shot_id = {}",
                shot(&market, 14, "min").await,
                shot(&market, 14, "max").await
            ),
            // The offer of another, none, nobody's; the other picture, another ad's.
            format!("UPDATE prices SET offer_id = {} WHERE ad_id = 15", at(16).await),
            "UPDATE prices SET offer_id = NULL WHERE ad_id = 16".to_owned(),
            "UPDATE prices SET offer_id = 999 WHERE ad_id = 17".to_owned(),
            format!(
                "UPDATE prices SET cover_id = {} WHERE ad_id = 18",
                shot(&market, 18, "max").await
            ),
            format!(
                "UPDATE prices SET cover_id = {} WHERE ad_id = 19",
                shot(&market, 18, "max").await
            ),
            "UPDATE prices SET cover_id = NULL WHERE ad_id = 20".to_owned(),
        ];
        let mut before = 0;
        for forge in forged {
            market.new.force(&forge).await;
            let now = differ(&migration, &format!("{topology:?}: {forge}")).await;
            // To swap the ids of two that say the same changes what labels and a cover are of, and no more.
            assert!(
                now.len() > before || forge.contains("-1"),
                "{topology:?}: {forge}: {now:?}"
            );
            before = now.len();
        }
    }

    /// Of a row that is gone while others still belong to it, no join has these.
    pub(super) async fn rows_whose_row_is_gone_are_found(topology: Topology) {
        let (market, migration) = market(topology).await;
        let (third, gone) = (offer(&market, 3).await, offer(&market, 20).await);
        let label = shot(&market, 19, "min").await;
        let delete = "DELETE FROM ad_labels WHERE ad_id IN (19, 20); DELETE FROM ad_photos WHERE ad_id IN (19, 20);
             DELETE FROM ads WHERE id IN (19, 20)";
        market.legacy.run(delete).await;
        drain(&migration).await;
        assert_eq!(differ(&migration, "deleted").await, BTreeMap::new());
        let extra = |key: &str| (key.to_owned(), Class::Extra);
        for (forge, found) in [
            // Of nobody: no copy wrote it, and none would take it away.
            ("INSERT INTO stocks VALUES (999, 1)".to_owned(), vec![]),
            (
                format!("INSERT INTO stocks VALUES ({gone}, 1)"),
                vec![extra("20")],
            ),
            (
                format!("INSERT INTO labels VALUES ({label}, 1, 'x')"),
                vec![extra("19"), extra("20")],
            ),
            (
                format!("DELETE FROM offers WHERE id = {third}"),
                vec![extra("19"), extra("20"), ("3".to_owned(), Class::Divergent)],
            ),
        ] {
            market.new.force(&forge).await;
            let now = differ(&migration, &format!("{topology:?}: {forge}")).await;
            assert_eq!(now, found.into_iter().collect(), "{topology:?}: {forge}");
        }
        // Ids of pictures that are gone on both sides, and of an offer: the map still has them.
        let (cover, other) = (
            shot(&market, 17, "max").await,
            shot(&market, 16, "min").await,
        );
        let gone = offer(&market, 15).await;
        market
            .legacy
            .run(
                "DELETE FROM ad_labels WHERE photo_id IN (116, 217, 115, 215);
                 DELETE FROM ad_photos WHERE id IN (116, 217, 115, 215); DELETE FROM ads WHERE id = 15",
            )
            .await;
        drain(&migration).await;
        let before = differ(&migration, "pictures are gone").await;
        let none = |key: &str| !before.contains_key(key);
        assert!(none("15") && none("16") && none("17"), "{before:?}");
        for (forge, key) in [
            // Named without a row, with one that belongs to nothing, with one of another.
            (
                format!("UPDATE prices SET cover_id = {cover} WHERE ad_id = 17"),
                "17",
            ),
            (
                format!("INSERT INTO shots (id, offer_id) VALUES ({cover}, NULL)"),
                "17",
            ),
            (
                format!(
                    "UPDATE shots SET offer_id = {} WHERE id = {cover}",
                    offer(&market, 1).await
                ),
                "17",
            ),
            // Of a picture that belongs to nothing, and of an offer that has no key.
            (
                format!(
                    "INSERT INTO shots (id, offer_id) VALUES ({other}, NULL);
                     INSERT INTO labels VALUES ({other}, 7, 'x')"
                ),
                "16",
            ),
            (
                format!(
                    "INSERT INTO offers (id, ad_id) VALUES ({gone}, NULL); INSERT INTO stocks VALUES ({gone}, 7)"
                ),
                "15",
            ),
        ] {
            market.new.force(&forge).await;
            let now = differ(&migration, &format!("{topology:?}: {forge}")).await;
            assert!(now.contains_key(key), "{topology:?}: {forge}: {now:?}");
        }
    }
}
