//! Repositories that answer errors or nothing, and writes that are wrong on some keys alone.

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
        "get shows something on neither side for any of 12 keys that are on both",
        "of 13 keys, such as 1: ",
    ];
    assert_broken(&report, Rule::Reads, None, &words);
    assert_eq!(report.tried(Rule::Reads), 0, "{report}");
    // An error that both sides call alike is an answer of neither.
    let sold = |_| Err(ClassedError::SoldOut);
    let report = read(sold, sold, Redaction::new()).await;
    let words = ["get shows something on neither side for any of 12 keys"];
    assert_broken(&report, Rule::Reads, None, &words);
}

/// What the keys that do not exist say is no comparison.
#[tokio::test]
async fn a_read_that_shows_nothing_of_any_row_holds_nothing() {
    fn fails(id: i64) -> Result<Option<i64>, ClassedError> {
        match id {
            1..=12 => Err(ClassedError::Database),
            _ => Ok(None),
        }
    }
    for (answer, why) in [
        (fails as fn(i64) -> _, "both sides answer an error"),
        (|_| Ok(None), "both sides show nothing: no row"),
    ] {
        let report = read(answer, answer, Redaction::new()).await;
        let why = format!("not tried: get of 12 keys, such as 1: {why}");
        let words = ["get shows something on neither side for any of 12", &why];
        assert_broken(&report, Rule::Reads, None, &words);
        assert_eq!(report.tried(Rule::Reads), 1, "{report}");
    }
}

/// A list without elements is what a filter leaves that fits no row.
#[tokio::test]
async fn lists_without_elements_are_not_compared() {
    for (rows, holds) in [(12, true), (0, false)] {
        let market = market(Topology::SqliteTwoFiles).await;
        let of = move |id: i64| async move {
            let items = if id % 2 == 0 && id <= rows {
                vec![id]
            } else {
                vec![]
            };
            Ok::<_, ClassedError>(items)
        };
        let kit = open(&market, MAPPING).await.reads_agree(
            "photos_of",
            move |key| of(id(&key)),
            move |key| of(id(&key)),
        );
        let report = kit.check().await;
        assert_eq!(report.holds(), holds, "{report}");
        let count = if holds { 6 } else { 12 };
        let left = format!("photos_of of {count} keys, such as 1: both sides show nothing");
        assert!(report.to_string().contains(&left), "{report}");
        assert_eq!(report.tried(Rule::Reads), 13 - count, "{report}");
    }
}

/// A call that panics, before its first await or later, is one answer of many.
#[tokio::test]
async fn a_read_or_a_write_that_panics_is_named_beside_the_rest() {
    let market = market(Topology::SqliteTwoFiles).await;
    let (legacy, new) = Shop::pair(&market);
    let writer = legacy.clone();
    let kit = open(&market, MAPPING)
        .await
        .reads_agree(
            "get",
            move |key| {
                assert_ne!(key.as_str(), "3", "before the first await");
                legacy.clone().get(id(&key))
            },
            move |key| {
                let new = new.clone();
                async move {
                    assert_ne!(key.as_str(), "4", "after it");
                    new.get(id(&key)).await
                }
            },
        )
        .writes("retitle", move |key, n| {
            assert_ne!(key.as_str(), "1", "before the first await");
            let id = id(&key);
            let title = format!("UPDATE listings SET title = 'now {n}' WHERE id = {id}");
            writer.clone().run(title)
        });
    let report = kit.check().await;
    let words = [
        "key 3: get fails on legacy alone: it panicked",
        "key 4: get fails on new alone: it panicked",
        "undisturbed, on key 1, it answers an error: it panicked",
    ];
    assert_broken(&report, Rule::Reads, Some("3"), &words);
    assert_eq!(report.findings().len(), 2, "{report}");
    assert_eq!(report.tried(Rule::Reads), 13, "{report}");
    assert!(report.tried(Rule::Cancelled) > 0, "{report}");
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
