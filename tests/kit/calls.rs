//! Repositories and writes that break a rule.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use changeover::closures::Closures;
use changeover::kit::{Options, Rule};
use changeover::shadow::{Redaction, Rules, Value};
use changeover::worker::guard;
use futures_util::FutureExt as _;
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::SqlitePoolOptions;

use super::{
    Shop, ShopError, Shown, Topology, assert_broken, by_half, equipped, id, market, open, through,
};
use crate::protocol::market::{MAPPING, Plain};
use crate::protocol::plain::on_pool;

const BOTH: [Topology; 2] = [Topology::SqliteTwoFiles, Topology::PostgresTwoDatabases];

#[tokio::test]
async fn null_as_nothing_is_named() {
    for topology in BOTH {
        let market = market(topology).await;
        let (legacy, new) = Shop::pair(&market);
        let kit = open(&market, MAPPING).await.reads_agree(
            "get",
            move |key| legacy.clone().get(id(&key)),
            move |key| {
                let read = new.clone().get(id(&key));
                read.map(|answer| {
                    answer.map(|shown| {
                        shown.map(|shown| Shown {
                            title: Some(shown.title.unwrap_or_default()),
                            ..shown
                        })
                    })
                })
            },
        );
        // Every fifth title is null.
        let report = kit.check().await;
        let words = ["get answers differ: title: legacy null, new text(0)"];
        assert_broken(&report, Rule::Reads, Some("5"), &words);
        assert_eq!(report.findings().len(), 2, "{report}");
    }
}

/// A difference that is meant is said by a rule, and what counts is the observer's.
#[tokio::test]
async fn what_is_meant_to_differ_is_said_by_a_rule() {
    let market = market(Topology::SqliteTwoFiles).await;
    let (legacy, _) = Shop::pair(&market);
    let other = legacy.clone();
    let observe = |shown: &Option<Shown>| {
        let shown = shown.as_ref()?;
        Some(Value::record([
            (
                "title",
                Value::from(shown.title.clone().unwrap_or_default()),
            ),
            ("status", shown.status.as_str().into()),
        ]))
    };
    let loud = |shown: Shown| Shown {
        status: shown.status.to_uppercase(),
        title: Some(shown.title.unwrap_or_default()),
        urls: Vec::new(),
    };
    let kit = open(&market, MAPPING).await.reads_agree_by(
        "get",
        observe,
        Rules::new().ignore("status"),
        move |key| legacy.clone().get(id(&key)),
        move |key| {
            let read = other.clone().get(id(&key));
            read.map(move |answer| answer.map(|shown| shown.map(loud)))
        },
    );
    let report = kit.check().await;
    report.assert_holds();
    assert_eq!(report.tried(Rule::Reads), 13, "{report}");
}

#[tokio::test]
async fn a_forgotten_filter_is_named() {
    for topology in BOTH {
        let market = market(topology).await;
        let hide = "UPDATE listings SET status = 'Hidden' WHERE id = 8";
        market.legacy.run(hide).await;
        let (legacy, new) = Shop::pair(&market);
        let visible = |shown: &Shown| shown.status != "hidden";
        let kit = open(&market, MAPPING).await.reads_agree(
            "get",
            move |key| {
                let read = legacy.clone().get(id(&key));
                read.map(move |answer| answer.map(|shown| shown.filter(visible)))
            },
            move |key| new.clone().get(id(&key)),
        );
        let report = kit.check().await;
        let words = ["get finds it on new and not on legacy"];
        assert_broken(&report, Rule::Reads, Some("8"), &words);
        assert_eq!(report.findings().len(), 1, "{report}");
    }
}

#[tokio::test]
async fn an_answer_for_a_key_that_does_not_exist_is_named() {
    let market = market(Topology::SqliteTwoFiles).await;
    let (legacy, new) = Shop::pair(&market);
    let kit = open(&market, MAPPING).await.reads_agree(
        "get",
        move |key| legacy.clone().get(id(&key)),
        move |key| {
            // As a LIMIT 1 over a range would.
            new.clone().get(id(&key).min(12))
        },
    );
    let report = kit.check().await;
    assert_broken(&report, Rule::Reads, Some("32749"), &["not on legacy"]);
}

/// Two statements without a transaction, past the layer.
#[tokio::test]
async fn a_write_that_is_done_by_half_is_named() {
    for topology in BOTH {
        let market = market(topology).await;
        let (legacy, _) = Shop::pair(&market);
        let kit = open(&market, MAPPING)
            .await
            .writes("reprice", by_half(&legacy));
        let report = kit.check().await;
        let words = [
            "reprice, dropped after ",
            "changed variant.0.price; undisturbed it changes listing.0.title, variant.0.price",
        ];
        assert_broken(&report, Rule::Cancelled, Some("1"), &words);
    }
}

/// A transaction that the pool does not know of, past the layer.
#[tokio::test]
async fn a_transaction_that_stays_open_is_named() {
    for topology in BOTH {
        let market = market(topology).await;
        let pool = match &market.legacy {
            Plain::Postgres(_) => {
                let pool = PgPoolOptions::new().connect(&market.legacy_url).await;
                Plain::Postgres(pool.unwrap())
            }
            Plain::Sqlite(_) => {
                let pool = SqlitePoolOptions::new().connect(&market.legacy_url).await;
                Plain::Sqlite(pool.unwrap())
            }
            Plain::Mariadb(_) => Plain::open(&market.legacy_url).await,
        };
        let options = Options {
            redaction: Redaction::new().show("error"),
            ..Options::default()
        };
        let kit = open(&market, MAPPING)
            .await
            .options(options)
            .writes("retitle", move |key, n| {
                let (pool, id) = (pool.clone(), id(&key));
                async move {
                    let title = format!("UPDATE listings SET title = 'now {n}' WHERE id = {id}");
                    macro_rules! by_hand {
                        ($pool:expr) => {{
                            let mut connection = $pool.acquire().await?;
                            for sql in ["BEGIN", &title, "COMMIT"] {
                                let sql = sqlx::AssertSqlSafe(sql.to_owned());
                                sqlx::raw_sql(sql).execute(&mut *connection).await?;
                                // Where another service would be asked.
                                tokio::task::yield_now().await;
                            }
                            Ok::<(), sqlx::Error>(())
                        }};
                    }
                    on_pool!(pool, |pool| by_hand!(pool))
                }
            });
        let report = kit.check().await;
        assert_broken(&report, Rule::Cancelled, Some("1"), &["worker::guard"]);
        // SQLite tells of a transaction only once it has written; before, the next one fails.
        let told = report.to_string();
        let open = told.contains("leaves a transaction open: ");
        let next = !topology.is_postgres() && told.contains("within a transaction");
        assert!(open || next, "{report}");
    }
}

/// The same with the guard, and through the layer: nothing is open.
#[tokio::test]
async fn the_guard_is_enough_for_a_transaction_that_is_dropped() {
    let market = market(Topology::SqliteTwoFiles).await;
    let pool = guard::sqlite(SqlitePoolOptions::new());
    let pool = pool.connect(&market.legacy_url).await.unwrap();
    let kit = open(&market, MAPPING)
        .await
        .writes("retitle", move |key, n| {
            let (pool, id) = (pool.clone(), id(&key));
            async move {
                let mut connection = pool.acquire().await?;
                let title = format!("UPDATE listings SET title = 'now {n}' WHERE id = {id}");
                for sql in ["BEGIN", &title, "COMMIT"] {
                    let sql = sqlx::AssertSqlSafe(sql.to_owned());
                    sqlx::raw_sql(sql).execute(&mut *connection).await?;
                    // Where another service would be asked.
                    tokio::task::yield_now().await;
                }
                Ok::<(), sqlx::Error>(())
            }
        });
    let report = kit.check().await;
    report.assert_holds();
    assert!(report.tried(Rule::Cancelled) > 2, "{report}");
}

/// Writes that are under way, and whether two of them have met.
#[derive(Default)]
struct Meeting {
    under_way: AtomicUsize,
    met: AtomicBool,
}

impl Meeting {
    fn enter(self: &Arc<Meeting>) -> Guest {
        if self.under_way.fetch_add(1, Ordering::SeqCst) > 0 {
            self.met.store(true, Ordering::SeqCst);
        }
        Guest(Arc::clone(self))
    }
}

struct Guest(Arc<Meeting>);

impl Drop for Guest {
    fn drop(&mut self) {
        if self.0.under_way.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.met.store(false, Ordering::SeqCst);
        }
    }
}

/// Two writes that meet change a table that is not declared, and that never reaches the new side.
#[tokio::test]
async fn a_result_that_the_new_side_does_not_share_is_named() {
    let tenants = "[source.tenants]\nkeys = \"SELECT id FROM listings WHERE tenant_id = $row.id\"";
    let market = market(Topology::SqliteTwoFiles).await;
    let kit = open(&market, &MAPPING.replace(tenants, "")).await;
    let (legacy, _) = Shop::pair(&market);
    let meeting = Arc::new(Meeting::default());
    let kit = kit.writes("rename", move |key, n| {
        let (legacy, meeting, id) = (legacy.clone(), Arc::clone(&meeting), id(&key));
        async move {
            let guest = meeting.enter();
            tokio::task::yield_now().await;
            let sql = if guest.0.met.load(Ordering::SeqCst) {
                format!("UPDATE tenants SET name = 'now {n}'")
            } else {
                format!("UPDATE listings SET title = 'now {n}' WHERE id = {id}")
            };
            legacy.run(sql).await
        }
    });
    let report = kit.check().await;
    let of = |rule| report.findings().iter().filter(move |one| one.rule == rule);
    assert_eq!(of(Rule::Cancelled).count(), 0, "{report}");
    let found = of(Rule::Interleaved).next();
    let found = found.unwrap_or_else(|| panic!("{report}"));
    assert_eq!(found.key.as_deref(), Some("1"));
    for word in [
        "rename and rename, overtaking",
        "divergent",
        "provider_name",
    ] {
        assert!(found.found.contains(word), "{report}");
    }
}

/// As by a version check, or `NOWAIT`: where two meet one is refused, so no two were carried out.
#[tokio::test]
async fn two_writes_of_which_one_is_refused_are_not_tried() {
    let market = market(Topology::SqliteTwoFiles).await;
    let (legacy, _) = Shop::pair(&market);
    let meeting = Arc::new(Meeting::default());
    let write = move |key, n| {
        let (legacy, meeting, id) = (legacy.clone(), Arc::clone(&meeting), id(&key));
        async move {
            let guest = meeting.enter();
            tokio::task::yield_now().await;
            if guest.0.met.load(Ordering::SeqCst) {
                return Err("somebody else writes it".to_owned());
            }
            let sql = format!("UPDATE listings SET title = 'now {n}' WHERE id = {id}");
            legacy.run(sql).await.map_err(|error| error.to_string())
        }
    };
    let kit = open(&market, MAPPING).await.writes("rename", write);
    let report = kit.check().await;
    report.assert_holds();
    assert!(report.tried(Rule::Cancelled) > 0, "{report}");
    assert_eq!(report.tried(Rule::Interleaved), 0, "{report}");
    for order in ["overtaking", "in turn"] {
        let what = format!("rename and rename, {order}");
        let left = report.not_tried().iter();
        let mut left = left.filter(|one| one.rule == Rule::Interleaved && one.what == what);
        let why = "when they meet, one of them answers an error: ";
        assert!(left.any(|one| one.why.starts_with(why)), "{report}");
    }
}

/// A lost answer that somebody takes for a success.
#[tokio::test]
async fn a_lost_answer_that_is_told_as_done_is_named() {
    let market = market(Topology::SqliteTwoFiles).await;
    let kit = open(&market, MAPPING).await;
    let (legacy, _) = Shop::pair(&market);
    let layer = Arc::new(Closures::<ShopError>::around(kit.wiring().builder()).unwrap());
    let write = through(&layer, &kit.lost_answers(), &legacy, |id, n| {
        format!("UPDATE listings SET title = 'title {n}' WHERE id = {id}")
    });
    let kit = kit.writes("retitle", move |key, n| {
        let written = std::panic::AssertUnwindSafe(write(key, n)).catch_unwind();
        written.map(|answer| answer.unwrap_or(Ok(())))
    });
    let report = kit.check().await;
    let words = ["retitle, its answer lost: was told to its caller as done"];
    assert_broken(&report, Rule::LostAnswers, Some("1"), &words);
}

/// What the new tables refuse for good stays dirty for ever.
#[tokio::test]
async fn a_key_that_stays_dirty_is_named() {
    for topology in BOTH {
        let market = market(topology).await;
        let (legacy, _) = Shop::pair(&market);
        let kit = open(&market, MAPPING)
            .await
            .writes("forbid", move |key, _| {
                let id = id(&key);
                let sql = format!("UPDATE listings SET status = 'forbidden' WHERE id = {id}");
                legacy.clone().run(sql)
            });
        let report = kit.check().await;
        let words = ["forbid, undisturbed: leaves 1 keys dirty that no copy makes clean"];
        assert_broken(&report, Rule::Cancelled, Some("1"), &words);
    }
}

/// What a team did not give is not tried, and says what to give.
#[tokio::test]
async fn what_was_not_given_is_not_tried() {
    let market = market(Topology::SqliteTwoFiles).await;
    let report = open(&market, MAPPING).await.check().await;
    report.assert_holds();
    for (rule, word) in [
        (Rule::Reads, "Kit::reads_agree"),
        (Rule::Cancelled, "Kit::writes"),
        (Rule::Interleaved, "Kit::writes"),
        (Rule::LostAnswers, "Kit::writes"),
    ] {
        assert_eq!(report.tried(rule), 0);
        let not = report.not_tried().iter().find(|one| one.rule == rule);
        assert!(not.is_some_and(|one| one.why.contains(word)), "{report}");
    }
    // And a write that is given without the loser of answers.
    let other = super::market(Topology::SqliteTwoFiles).await;
    let kit = equipped(&other, open(&other, MAPPING).await).await;
    let (legacy, _) = Shop::pair(&other);
    let kit = kit.writes("bare", move |key, n| {
        let sql = format!(
            "UPDATE listings SET title = 'bare {n}' WHERE id = {}",
            id(&key)
        );
        legacy.clone().run(sql)
    });
    let report = kit.check().await;
    let not = report.not_tried().iter();
    let mut not = not.filter(|one| one.rule == Rule::LostAnswers);
    assert!(
        not.any(|one| one.what == "bare" && one.why.contains("Kit::lost_answers")),
        "{report}"
    );
}
