//! Mappings that break a rule, each found with its row.

use std::sync::Arc;

use changeover::flags::Key;
use changeover::kit::{Kit, Options, Rule};
use changeover::worker::image::Image;
use changeover::worker::mapping::toml::TomlMapping;
use changeover::worker::mapping::{Mapping, MappingError, Shape, SourceRows};

use super::{Topology, assert_broken, market, open};
use crate::protocol::market::{MAPPING, Market};

const BOTH: [Topology; 2] = [Topology::SqliteTwoFiles, Topology::PostgresTwoDatabases];

/// More than are looked at before anything is installed.
const ROWS: u32 = 230;

const TENANTS: &str =
    "[source.tenants]\nkeys = \"SELECT id FROM listings WHERE tenant_id = $row.id\"\n";

#[tokio::test]
async fn a_table_that_is_read_and_not_declared_is_named() {
    for topology in BOTH {
        let market = market(topology).await;
        let report = open(&market, &MAPPING.replace(TENANTS, ""))
            .await
            .check()
            .await;
        let words = [
            "changing column name of tenants (id ",
            "(listing.0.provider_name)",
            "add [source.tenants]",
        ];
        assert_broken(&report, Rule::Stamps, None, &words);
    }
}

#[tokio::test]
async fn a_query_of_keys_that_is_off_by_one_is_named() {
    for topology in BOTH {
        let market = market(topology).await;
        let mapping = MAPPING.replace("SELECT id FROM listings", "SELECT id + 1 FROM listings");
        let report = open(&market, &mapping).await.check().await;
        // Tenants 1 and 2 have the even and the odd keys, so no key of theirs is stamped.
        let words = [
            "changing column name of tenants (id 1)",
            "source.tenants.keys",
        ];
        assert_broken(&report, Rule::Stamps, Some("2"), &words);
    }
}

#[tokio::test]
async fn key_columns_that_name_another_key_are_named() {
    for topology in BOTH {
        let market = market(topology).await;
        let mapping = MAPPING.replace(
            "[source.photos]\nkey = [\"listing_id\"]",
            "[source.photos]\nkey = [\"id\"]",
        );
        let report = open(&market, &mapping).await.check().await;
        let words = [
            "changing column url of photos",
            "source.photos.key = [\"id\"]",
        ];
        assert_broken(&report, Rule::Stamps, None, &words);
    }
}

#[tokio::test]
async fn clocks_and_dice_are_named_with_their_column() {
    for (topology, expressions) in [
        (
            Topology::SqliteTwoFiles,
            ["'t' || random()", "datetime('now')"],
        ),
        (
            Topology::PostgresTwoDatabases,
            ["'t' || random()", "now()::text"],
        ),
    ] {
        for expression in expressions {
            let market = market(topology).await;
            let mapping = MAPPING.replace("\"l.title\"", &format!("\"{expression}\""));
            let report = open(&market, &mapping).await.check().await;
            let words = ["listing.0.title", "12 keys: their images do not rest"];
            assert_broken(&report, Rule::Deterministic, Some("7"), &words);
        }
    }
}

/// Two readings within seconds say nothing of a clock that moves by the day.
#[tokio::test]
async fn a_clock_by_the_day_is_not_called_tried() {
    let market = market(Topology::SqliteTwoFiles).await;
    let mapping = MAPPING.replace("\"l.title\"", "\"CURRENT_DATE\"");
    let report = open(&market, &mapping).await.check().await;
    let not = report.not_tried().iter();
    let mut not = not.filter(|one| one.rule == Rule::Deterministic);
    assert!(
        not.any(|one| one.what == "current_date in query \"listing\""),
        "{report}"
    );
}

/// The marketplace's mapping, but for one row.
struct Partial(TomlMapping, &'static str);

impl Mapping for Partial {
    fn shape(&self) -> &Shape {
        self.0.shape()
    }

    fn image(&self, key: &Key, rows: &SourceRows) -> Result<Image, MappingError> {
        assert_ne!(key.as_str(), self.1, "no branch for this row");
        self.0.image(key, rows)
    }
}

#[tokio::test]
async fn a_row_without_an_image_is_named() {
    for topology in BOTH {
        let market = Market::start(topology).await;
        market.fill(ROWS).await;
        let (legacy, new) = (&market.legacy_url, &market.new_url);
        let with = |key| Arc::new(Partial(MAPPING.parse().unwrap(), key));
        // The first rows are looked at before anything is installed.
        let early = Kit::with_mapping("listings", with("5"), legacy, new).await;
        let early = format!("{:?}", early.unwrap_err());
        assert!(early.contains("the mapping panicked on key"), "{early}");
        let kit = Kit::with_mapping("listings", with("217"), legacy, new).await;
        let report = kit.unwrap().check().await;
        let words = ["blocked and cannot be copied: the mapping panicked"];
        assert_broken(&report, Rule::Total, Some("217"), &words);
        assert_eq!(report.findings().len(), 1, "{report}");
    }
}

#[tokio::test]
async fn a_row_that_the_new_tables_refuse_is_named() {
    for topology in BOTH {
        let market = market(topology).await;
        let forbid = "UPDATE listings SET status = 'Forbidden' WHERE id = 9";
        market.legacy.run(forbid).await;
        let report = open(&market, MAPPING).await.check().await;
        assert_broken(&report, Rule::Total, Some("9"), &["blocked", "check"]);
    }
}

/// What the new tables make of a copy.
async fn with_new(topology: Topology, sqlite: &str, postgres: &str) -> Market {
    let market = market(topology).await;
    let sql = if topology.is_postgres() {
        postgres
    } else {
        sqlite
    };
    market.new.run(sql).await;
    market
}

#[tokio::test]
async fn a_trigger_that_changes_what_is_copied_is_named() {
    for topology in BOTH {
        let market = with_new(
            topology,
            "CREATE TRIGGER loud AFTER INSERT ON variants WHEN NEW.stock = 4 BEGIN \
               UPDATE variants SET stock = 5 WHERE rowid = NEW.rowid; END",
            "CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS \
               $$ BEGIN IF NEW.stock = 4 THEN NEW.stock := 5; END IF; RETURN NEW; END $$; \
             CREATE TRIGGER loud BEFORE INSERT ON variants FOR EACH ROW EXECUTE FUNCTION loud()",
        )
        .await;
        let report = open(&market, MAPPING).await.check().await;
        let broken: Vec<Rule> = report.findings().iter().map(|one| one.rule).collect();
        assert_eq!(broken, [Rule::RoundTrip, Rule::Deletes], "{report}");
        assert!(
            report
                .to_string()
                .contains("[round trip] key 4: it is divergent"),
            "{report}"
        );
        assert!(report.to_string().contains("stock"), "{report}");
    }
}

#[tokio::test]
async fn a_table_that_keeps_new_rows_from_their_delete_is_named() {
    for topology in BOTH {
        let favour = "CREATE TABLE favourites (listing_id bigint NOT NULL REFERENCES service_listings); \
             CREATE TRIGGER fan AFTER INSERT ON service_listings";
        let market = with_new(
            topology,
            &format!(
                "{favour} WHEN NEW.legacy_id = 6 BEGIN INSERT INTO favourites VALUES (NEW.id); END"
            ),
            &format!(
                "CREATE FUNCTION fan() RETURNS trigger LANGUAGE plpgsql AS \
                   $$ BEGIN INSERT INTO favourites VALUES (NEW.id); RETURN NULL; END $$; \
                 {favour} FOR EACH ROW WHEN (NEW.legacy_id = 6) EXECUTE FUNCTION fan()"
            ),
        )
        .await;
        let report = open(&market, MAPPING).await.check().await;
        let words = ["the new tables refuse its delete: a referenced row is not there"];
        assert_broken(&report, Rule::Deletes, Some("6"), &words);
        assert_eq!(report.findings().len(), 1, "{report}");
    }
}

/// Keys that refer to each other come and go in turn, which is no finding; nor is it in a part of them.
#[tokio::test]
async fn keys_that_refer_to_each_other_hold() {
    const NODES: &str = r#"
        revision = 1
        root = { table = "nodes", key = ["id"] }
        [[target]]
        table = "branches"
        owned_by.key = ["legacy_id"]
        identity = ["legacy_id"]
        columns = { legacy_id = "id", parent = "parent" }
    "#;
    for topology in BOTH {
        for keys in [None, Some(2)] {
            let market = Market::start(topology).await;
            market
                .legacy
                .run("CREATE TABLE nodes (id bigint PRIMARY KEY NOT NULL, parent bigint); INSERT INTO nodes VALUES (1, NULL), (2, 1), (3, 2), (9, 3)")
                .await;
            market
                .new
                .run("CREATE TABLE branches (legacy_id bigint PRIMARY KEY NOT NULL, parent bigint REFERENCES branches)")
                .await;
            let options = Options {
                keys,
                ..Options::default()
            };
            let kit = open(&market, NODES).await.options(options);
            let report = kit.check().await;
            report.assert_holds();
            let not = report.not_tried().iter();
            let not = not
                .filter(|one| one.rule != Rule::Stamps && one.what.starts_with("key "))
                .count();
            assert_eq!(not > 0, keys.is_some(), "{report}");
        }
    }
}

/// Of hundreds of rows the mapping reads one, which no row by row trial comes across.
#[tokio::test]
async fn a_table_of_which_one_row_is_read_is_named() {
    for topology in BOTH {
        let market = market(topology).await;
        market
            .legacy
            .run("CREATE TABLE words (id bigint PRIMARY KEY NOT NULL, word text NOT NULL)")
            .await;
        for id in 1..300 {
            let word = format!("INSERT INTO words VALUES ({id}, 'word {id}')");
            market.legacy.run(&word).await;
        }
        let read = "(SELECT w.word FROM words w WHERE w.id = 150 AND l.id = 11)";
        let mapping = MAPPING.replace("\"l.title\"", &format!("\"coalesce({read}, l.title)\""));
        let report = open(&market, &mapping).await.check().await;
        let words = [
            "changing column word of every row of words changes its image (listing.0.title)",
            "add [source.words]",
        ];
        assert_broken(&report, Rule::Stamps, Some("11"), &words);
    }
}

/// What constraints refuse, and what is not there, is not tried.
#[tokio::test]
async fn a_column_that_takes_no_other_value_is_not_tried() {
    for topology in BOTH {
        let market = market(topology).await;
        market
            .legacy
            .run("CREATE TABLE modes (id bigint PRIMARY KEY NOT NULL, mode text NOT NULL CHECK (mode = 'on')); INSERT INTO modes VALUES (1, 'on'); CREATE TABLE empties (id bigint)")
            .await;
        let report = open(&market, MAPPING).await.check().await;
        report.assert_holds();
        let why = |what: &str| {
            let mut not = report.not_tried().iter();
            not.find(|one| one.what == what).map(|one| one.why.as_str())
        };
        assert!(
            why("modes.mode").is_some_and(|why| why.contains("check")),
            "{report}"
        );
        assert_eq!(why("table empties"), Some("it has no rows"), "{report}");
    }
}

/// A source of which no row that was changed shows in a watched image is not called kept.
#[tokio::test]
async fn what_a_sample_cannot_see_is_not_tried() {
    let market = market(Topology::SqliteTwoFiles).await;
    let options = Options {
        keys: Some(1),
        seed: 3,
        ..Options::default()
    };
    let kit = open(&market, MAPPING).await.options(options);
    market.legacy.run("UPDATE photos SET listing_id = 12").await;
    let report = kit.check().await;
    report.assert_holds();
    assert_eq!(report.tried(Rule::Total), 1, "{report}");
    let not = report.not_tried().iter();
    let mut not = not.filter(|one| one.rule == Rule::Stamps && one.what == "table photos");
    assert!(
        not.all(|one| one.why.contains("its keys are not confirmed")),
        "{report}"
    );
    assert!(
        report
            .to_string()
            .contains("[stamps] not tried: table photos: none of "),
        "{report}"
    );
}

#[tokio::test]
async fn no_rows_hold_nothing() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    let report = open(&market, MAPPING).await.check().await;
    assert!(!report.holds(), "{report}");
}
