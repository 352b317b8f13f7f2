//! Sound writes beside those that break a rule.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use changeover::kit::{Key, Report, Rule};
use futures_util::FutureExt as _;

use super::{Shop, Topology, Written, assert_broken, by_half, id, market, open};
use crate::protocol::market::MAPPING;

/// Where the mapping declares the table of tenants.
const TENANTS: &str =
    "[source.tenants]\nkeys = \"SELECT id FROM listings WHERE tenant_id = $row.id\"";

/// The keys on which a write was called.
type Called = Arc<Mutex<BTreeSet<String>>>;

/// A write that notes the keys it is called on.
fn noted(
    legacy: &Shop,
    sql: fn(i64, u32) -> String,
) -> (Called, impl Fn(Key, u32) -> Written + Send + Sync + 'static) {
    let (called, legacy) = (Called::default(), legacy.clone());
    let notes = Arc::clone(&called);
    let write = move |key: Key, n| -> Written {
        notes.lock().unwrap().insert(key.to_string());
        legacy.clone().run(sql(id(&key), n)).boxed()
    };
    (called, write)
}

fn retitle(id: i64, n: u32) -> String {
    format!("UPDATE listings SET title = 'now {n}' WHERE id = {id}")
}

fn assert_left_out(report: &Report, rule: Rule, what: &str, why: &str) {
    let mut left = report.not_tried().iter();
    let found = left.any(|one| one.rule == rule && one.what == what && one.why.contains(why));
    assert!(found, "[{rule}] {what}: {why} in {report}");
}

/// One write that is wrong hides neither the sound ones nor those that nobody could try.
#[tokio::test]
async fn a_broken_write_leaves_the_others_to_be_tried() {
    let market = market(Topology::SqliteTwoFiles).await;
    let (legacy, _) = Shop::pair(&market);
    let (called, sound) = noted(&legacy, retitle);
    let refused = |_, _| async { Err::<(), _>("sold out") };
    let kit = open(&market, MAPPING).await;
    let kit = kit
        .writes("half", by_half(&legacy))
        .writes("retitle", sound);
    let report = kit.writes("refused", refused).check().await;
    let words = [
        "half, dropped after ",
        "refused answers an error for every key",
    ];
    assert_broken(&report, Rule::Cancelled, Some("1"), &words);
    assert_eq!(report.findings().len(), 2, "{report}");
    assert_eq!(
        *called.lock().unwrap(),
        BTreeSet::from(["1", "12", "6"].map(String::from))
    );
    assert!(report.tried(Rule::Interleaved) > 0, "{report}");
    let why = "it broke a rule on key 1";
    assert_left_out(&report, Rule::Interleaved, "half on key 1", why);
    for key in [6, 12] {
        assert_left_out(&report, Rule::Cancelled, &format!("half on key {key}"), why);
    }
}

/// What does not come to rest would be taken for the next write's.
#[tokio::test]
async fn nothing_is_tried_beside_what_a_write_left_behind() {
    let market = market(Topology::SqliteTwoFiles).await;
    let (legacy, _) = Shop::pair(&market);
    let (called, sound) = noted(&legacy, retitle);
    let forbid = move |key, _| {
        let id = id(&key);
        let sql = format!("UPDATE listings SET status = 'forbidden' WHERE id = {id}");
        legacy.clone().run(sql)
    };
    let kit = open(&market, MAPPING).await.writes("forbid", forbid);
    let report = kit.writes("retitle", sound).check().await;
    let words = ["forbid, undisturbed: leaves 1 keys dirty"];
    assert_broken(&report, Rule::Cancelled, Some("1"), &words);
    assert_eq!(report.findings().len(), 1, "{report}");
    assert_eq!(called.lock().unwrap().len(), 0, "{report}");
    let why = "an earlier write left a transaction open or keys dirty";
    for what in [
        "retitle on key 1",
        "every write on key 6",
        "every write on key 12",
    ] {
        assert_left_out(&report, Rule::Cancelled, what, why);
    }
    assert_left_out(
        &report,
        Rule::LostAnswers,
        "forbid on key 1",
        "it broke a rule",
    );
}

/// A write to a table that is not declared leaves keys apart, and others would be blamed for it.
#[tokio::test]
async fn nothing_is_tried_on_a_key_that_another_write_left_apart() {
    // Of the keys that are tried, 1 is of tenant 2, and 6 and 12 are of tenant 1.
    for (renamed, tried, apart) in [
        ("2", vec!["12", "6"], vec![1]),
        ("id", vec![], vec![1, 6, 12]),
    ] {
        let market = market(Topology::SqliteTwoFiles).await;
        let kit = open(&market, &MAPPING.replace(TENANTS, "")).await;
        let (legacy, _) = Shop::pair(&market);
        let (called, idle) = noted(&legacy, |_, _| "SELECT 1".to_owned());
        let rename = move |_, n| {
            let sql = format!("UPDATE tenants SET name = 'now {n}' WHERE id = {renamed}");
            legacy.clone().run(sql)
        };
        let kit = kit.writes("rename", rename).writes("idle", idle);
        let report = kit.check().await;
        let found = report.findings().iter();
        let mut found = found.filter(|one| one.rule == Rule::Cancelled);
        let first = found.next().unwrap_or_else(|| panic!("{report}"));
        assert!(
            first.found.starts_with("rename, undisturbed: leaves"),
            "{report}"
        );
        assert!(found.next().is_none(), "{report}");
        let called: Vec<String> = called.lock().unwrap().iter().cloned().collect();
        assert_eq!(called, tried, "{report}");
        for key in apart {
            let why = "an earlier write left the sides different on this key";
            assert_left_out(
                &report,
                Rule::Interleaved,
                &format!("idle on key {key}"),
                why,
            );
        }
    }
}

/// Two writes that are sound but for each other: a finding is of both.
#[tokio::test]
async fn of_two_writes_that_break_a_rule_together_neither_is_tried_further() {
    let market = market(Topology::SqliteTwoFiles).await;
    let kit = open(&market, &MAPPING.replace(TENANTS, "")).await;
    let (legacy, _) = Shop::pair(&market);
    let (called, sound) = noted(&legacy, retitle);
    let under_way = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let one_of_two = |own: usize| {
        let (legacy, under_way) = (legacy.clone(), Arc::clone(&under_way));
        move |key, n| {
            let (legacy, id) = (legacy.clone(), id(&key));
            let here = Here::enter(&under_way, own);
            async move {
                tokio::task::yield_now().await;
                // What is not declared never reaches the new side.
                let sql = match here.is_met() {
                    true => format!("UPDATE tenants SET name = 'now {n}' WHERE id = 2"),
                    false => retitle(id, n),
                };
                legacy.run(sql).await
            }
        }
    };
    let kit = kit
        .writes("one", one_of_two(0))
        .writes("two", one_of_two(1));
    let report = kit.writes("retitle", sound).check().await;
    let found = report.findings().iter();
    let found: Vec<_> = found.filter(|one| one.rule != Rule::Stamps).collect();
    let [found] = found[..] else {
        panic!("{report}");
    };
    assert!(
        found.found.starts_with("one and two, overtaking"),
        "{report}"
    );
    for name in ["one", "two"] {
        let what = format!("{name} on key 6");
        assert_left_out(&report, Rule::Cancelled, &what, "it broke a rule on key 1");
    }
    let expected = BTreeSet::from(["1", "12", "6"].map(String::from));
    assert_eq!(*called.lock().unwrap(), expected, "{report}");
}

/// A call that is under way, of one of two kinds.
struct Here {
    under_way: Arc<[AtomicUsize; 2]>,
    own: usize,
}

impl Here {
    fn enter(under_way: &Arc<[AtomicUsize; 2]>, own: usize) -> Here {
        under_way[own].fetch_add(1, Ordering::SeqCst);
        Here {
            under_way: Arc::clone(under_way),
            own,
        }
    }

    /// Whether one of the other kind is under way as well.
    fn is_met(&self) -> bool {
        self.under_way[1 - self.own].load(Ordering::SeqCst) > 0
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        self.under_way[self.own].fetch_sub(1, Ordering::SeqCst);
    }
}
