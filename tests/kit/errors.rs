//! Repositories that answer errors, and writes that are wrong on some keys alone.

use changeover::kit::{Kit, Options, Report, Rule};
use changeover::shadow::Redaction;
use thiserror::Error;

use super::{Shop, ShopError, Shown, Topology, assert_broken, id, market, open};
use crate::protocol::market::{MAPPING, Market};

/// A value of a row, quoted by the team's own errors.
const CANARY: &str = "canary-of-a-row";

#[derive(Debug, Error)]
enum ClassedError {
    #[error("{CANARY} is sold out")]
    SoldOut,
    #[error("{CANARY} is withdrawn")]
    Withdrawn,
    #[error("{CANARY} in a database in trouble")]
    Database,
}

fn class(error: &ClassedError) -> Option<&'static str> {
    match error {
        ClassedError::SoldOut => Some("sold_out"),
        ClassedError::Withdrawn => Some("withdrawn"),
        ClassedError::Database => None,
    }
}

/// The report of a read that answers `legacy(id)` and `new(id)`.
async fn read(
    legacy: fn(i64) -> Result<Option<i64>, ClassedError>,
    new: fn(i64) -> Result<Option<i64>, ClassedError>,
    redaction: Redaction,
) -> Report {
    let market = market(Topology::SqliteTwoFiles).await;
    let options = Options {
        redaction,
        ..Options::default()
    };
    let kit = open(&market, MAPPING).await.options(options);
    let kit = kit.error_class(class).reads_agree(
        "get",
        move |key| async move { legacy(id(&key)) },
        move |key| async move { new(id(&key)) },
    );
    kit.check().await
}

#[tokio::test]
async fn a_read_that_fails_for_every_key_holds_nothing() {
    let fails = |_| Err(ClassedError::Database);
    let report = read(fails, fails, Redaction::new()).await;
    let words = [
        "get answers on neither side for any of 13 keys",
        "of 13 keys, such as 1: ",
    ];
    assert_broken(&report, Rule::Reads, None, &words);
    assert_eq!(report.tried(Rule::Reads), 0, "{report}");
    // An error that both sides call alike is an answer of neither.
    let sold = |_| Err(ClassedError::SoldOut);
    let report = read(sold, sold, Redaction::new()).await;
    assert_broken(&report, Rule::Reads, None, &["get answers on neither side"]);
}

#[tokio::test]
async fn a_read_that_fails_for_some_keys_says_for_how_many() {
    let fails = |id| match id {
        2 | 7 => Err(ClassedError::Database),
        id => Ok(Some(id)),
    };
    let report = read(fails, fails, Redaction::new()).await;
    report.assert_holds();
    assert_eq!(report.tried(Rule::Reads), 11, "{report}");
    let said = report.to_string();
    assert!(
        said.contains("get of 2 keys, such as 2: both sides"),
        "{said}"
    );
}

#[tokio::test]
async fn errors_that_have_a_class_are_compared() {
    let legacy = |id| match id {
        2..=4 => Err(ClassedError::SoldOut),
        id => Ok(Some(id)),
    };
    let new = |id| match id {
        2 => Err(ClassedError::SoldOut),
        3 => Err(ClassedError::Withdrawn),
        id => Ok(Some(id)),
    };
    let report = read(legacy, new, Redaction::new()).await;
    let words = [
        "key 3: get fails with sold_out on legacy and with withdrawn on new",
        "key 4: get fails on legacy alone: sold_out",
    ];
    assert_broken(&report, Rule::Reads, Some("3"), &words);
    assert_eq!(report.findings().len(), 2, "{report}");
    assert_eq!(report.tried(Rule::Reads), 13, "{report}");
}

/// A read that fails on one side, one that fails on both, and a write that fails.
async fn with_failing_calls(market: &Market, redaction: Redaction) -> Kit {
    let options = Options {
        redaction,
        ..Options::default()
    };
    let shown = |id: i64| async move {
        match id {
            3 => Err(ClassedError::Database),
            _ => Ok(None::<Shown>),
        }
    };
    let kit = open(market, MAPPING).await.options(options);
    kit.reads_agree(
        "once",
        |_| async { Ok::<_, ClassedError>(None::<Shown>) },
        move |key| shown(id(&key)),
    )
    .reads_agree(
        "twice",
        move |key| shown(id(&key)),
        move |key| shown(id(&key)),
    )
    .writes("fail", |_, _| async {
        Err::<(), _>(ClassedError::Database)
    })
}

#[tokio::test]
async fn the_text_of_an_error_is_shown_only_where_it_is_told_to_be() {
    let told = async |redaction| {
        let market = market(Topology::SqliteTwoFiles).await;
        let report = with_failing_calls(&market, redaction).await.check().await;
        assert!(!report.holds(), "{report}");
        let json = serde_json::to_string(&report).unwrap();
        [report.to_string(), format!("{report:?}"), json]
    };
    for said in told(Redaction::new()).await {
        assert!(!said.contains(CANARY), "{said}");
        for word in [
            "once fails on new alone",
            "twice of 1 keys",
            "ClassedError",
            "fail answers",
        ] {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
    for said in told(Redaction::new().show("error")).await {
        assert!(said.matches(CANARY).count() >= 3, "{said}");
    }
}

/// What is whole on the first key may be half on another.
#[tokio::test]
async fn a_write_that_is_wrong_on_the_last_key_alone_is_named() {
    let market = market(Topology::SqliteTwoFiles).await;
    let (legacy, _) = Shop::pair(&market);
    let kit = open(&market, MAPPING)
        .await
        .writes("reprice", move |key, n| {
            let (legacy, id) = (legacy.clone(), id(&key));
            async move {
                let price = format!("UPDATE listings SET price = {n} WHERE id = {id}");
                let title = format!("UPDATE listings SET title = 'now {n}' WHERE id = {id}");
                if id < 12 {
                    return legacy
                        .run(price.replace(" WHERE", ", title = 'x' WHERE"))
                        .await;
                }
                legacy.clone().run(price).await?;
                legacy.run(title).await
            }
        });
    let report = kit.check().await;
    assert_broken(
        &report,
        Rule::Cancelled,
        Some("12"),
        &["reprice, dropped after "],
    );
    assert_eq!(report.findings().len(), 1, "{report}");
}

/// A key that a write refuses says nothing; no key at all is a check that was not made.
#[tokio::test]
async fn a_write_that_is_refused_for_every_key_holds_nothing() {
    for (refused, holds) in [(1..=1, true), (1..=12, false)] {
        let market = market(Topology::SqliteTwoFiles).await;
        let (legacy, _) = Shop::pair(&market);
        let kit = open(&market, MAPPING)
            .await
            .writes("retitle", move |key, n| {
                let (legacy, id) = (legacy.clone(), id(&key));
                let refused = refused.contains(&id);
                let title = format!("UPDATE listings SET title = 'now {n}' WHERE id = {id}");
                async move {
                    match refused {
                        true => Err(ShopError::Database(sqlx::Error::RowNotFound)),
                        false => legacy.run(title).await,
                    }
                }
            });
        let report = kit.check().await;
        assert_eq!(report.holds(), holds, "{report}");
        assert_eq!(report.tried(Rule::Cancelled) > 0, holds, "{report}");
        if !holds {
            let words = ["retitle answers an error for every key that it was tried on"];
            assert_broken(&report, Rule::Cancelled, None, &words);
        }
    }
}
