//! A verify by sums: it finds what comparing key by key finds, and agrees where that does.

use std::collections::BTreeMap;

use changeover::flags::{Key, Percent};
use changeover::worker::migration::Migration;
use changeover::worker::sum::Span;
use changeover::worker::verify::{Class, Part, Recorded, Sampled, VerifyOptions};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::lifecycle::{everywhere, on_pairs, within_mariadb};
use super::market::{Engine, Market, Topology, backfill, drain, verify};
use super::stock::{Stock, found, verify_by};
use crate::support;

everywhere!(
    a_difference_of_each_class_is_found_through_sums,
    sums_agree_exactly_when_keys_do,
    what_agrees_is_not_read,
    what_is_not_copied_yet_is_pending,
    a_verify_beside_writers_is_clean,
    what_cannot_be_summed_says_why,
    what_looked_at_a_part_is_no_evidence,
    versions_of_many_keys_are_looked_up,
);

within_mariadb!(
    a_difference_of_each_class_is_found_through_sums,
    sums_agree_exactly_when_keys_do,
    what_agrees_is_not_read,
    what_is_not_copied_yet_is_pending,
    what_cannot_be_summed_says_why,
    what_looked_at_a_part_is_no_evidence,
    versions_of_many_keys_are_looked_up,
);

on_pairs!(
    a_difference_of_each_class_is_found_through_sums,
    what_agrees_is_not_read,
    what_is_not_copied_yet_is_pending,
    a_verify_beside_writers_is_clean,
    what_looked_at_a_part_is_no_evidence,
    versions_of_many_keys_are_looked_up,
);

/// Each way in which a key can differ; answers what a verify has to call it.
pub async fn differences(stock: &Stock, migration: &Migration) -> BTreeMap<String, Class> {
    let legacy = |sql: &'static str| stock.market.legacy.run(sql);
    legacy("DELETE FROM things WHERE id IN (9, 19); DELETE FROM thing_tags WHERE thing_id IN (9, 19);
         INSERT INTO thing_tags VALUES (200, 1, 'of nothing'), (201, 1, 'of nothing'); UPDATE things SET num = 1 WHERE id = 11").await;
    legacy("UPDATE things SET title = 'forbidden' WHERE id = 13").await;
    drain(migration).await;
    legacy("UPDATE things SET num = -1 WHERE id = 12").await;
    let bytes = match stock.market.new.engine() {
        Engine::Mariadb => "bytes",
        _ => "blob",
    };
    stock
        .force(
            &"UPDATE goods SET title = 'forged' WHERE thing_id = 7;
             DELETE FROM goods WHERE thing_id = 8;
             DELETE FROM good_tags WHERE thing_id IN (8, 200);
             INSERT INTO goods (thing_id, title) VALUES (9, 'risen'), (500, 'nobody''s'), (-3, 'nobody''s');
             UPDATE goods SET {bytes} = '' WHERE thing_id = 20;
             UPDATE goods SET title = 't22' WHERE thing_id = 21;
             UPDATE goods SET title = 't21' WHERE thing_id = 22;
             UPDATE good_tags SET tag = NULL WHERE thing_id = 23;
             INSERT INTO good_tags VALUES (24, 7, 'extra');
             UPDATE goods SET title = '' WHERE thing_id = 25;
             UPDATE goods SET num = 10 WHERE thing_id = 30;
             UPDATE goods SET num = 10 WHERE thing_id = 60"
                .replace("{bytes}", bytes),
        )
        .await;
    let fence = |key: i64, by: i64| {
        format!(
            "INSERT INTO changeover_key (entity, place, \"key\", version) SELECT 'listings', 'new', '{key}', 0 \
             WHERE NOT EXISTS (SELECT 1 FROM changeover_key WHERE place = 'new' AND \"key\" = '{key}'); \
             UPDATE changeover_key SET version = version + {by} WHERE place = 'new' AND \"key\" = '{key}';"
        )
    };
    let fences = [fence(10, 5), fence(11, -1), fence(19, -1), fence(300, 3)];
    stock.market.new.run(&fences.concat()).await;
    let expected = [
        (Class::Divergent, vec![7, 20, 21, 22, 23, 24, 25, 30, 60]),
        (Class::Missing, vec![8, 200]),
        (Class::Extra, vec![9, 500, -3]),
        (Class::FollowerAhead, vec![10, 300]),
        (Class::Unrecorded, vec![11, 19]),
        (Class::Lagging, vec![12]),
        (Class::Blocked, vec![13]),
    ];
    let expected = expected.into_iter();
    expected
        .flat_map(|(class, keys)| keys.into_iter().map(move |key| (key.to_string(), class)))
        .collect()
}

/// A stock of 90 things, of which 25 has no title.
pub async fn filled(topology: Topology) -> Stock {
    let stock = Stock::alike(topology).await;
    stock.fill(90).await;
    let untitled = "UPDATE things SET title = NULL WHERE id = 25";
    stock.market.legacy.run(untitled).await;
    stock
}

mod scenario {
    use super::*;

    pub(super) async fn a_difference_of_each_class_is_found_through_sums(topology: Topology) {
        let stock = filled(topology).await;
        let migration = stock.ready().await;
        let expected = differences(&stock, &migration).await;
        let single = verify_by(&migration, 10, 0).await;
        assert_eq!(found(&single), expected, "{topology:?}: key by key");
        for (page, range) in [(10, 30), (1, 4), (7, 1_000)] {
            let report = verify_by(&migration, page, range).await;
            assert!(report.unsummed.is_empty(), "{:?}", report.unsummed);
            assert_eq!(found(&report), expected, "{topology:?}: {page} {range}");
            assert_eq!(report.compared, single.compared, "{report:?}");
            assert!(report.sums.bisected > 0 && report.sums.ranges > report.sums.bisected);
            assert!(!report.clean());
        }
        assert!(!migration.epoch().await.unwrap().verified);
    }

    pub(super) async fn sums_agree_exactly_when_keys_do(topology: Topology) {
        let seed = support::seed();
        let mut random = SmallRng::seed_from_u64(seed);
        let stock = Stock::start(topology).await;
        let ids: Vec<i64> = (1..=24).collect();
        let keys: Vec<Key> = ids.iter().copied().map(Key::from).collect();
        let rows: String = ids.iter().map(|id| stock.row(*id, &mut random)).collect();
        stock.market.legacy.run(&rows).await;
        let migration = stock.ready().await;
        let report = verify_by(&migration, 3, 8).await;
        assert!(
            report.clean() && report.sums.bisected == 0,
            "{topology:?}, seed {seed}: {report:?}"
        );
        assert_eq!(report.compared, 24);
        let mut differed = 0;
        for _ in 0..40 {
            let one = random.random_range(1..=24);
            let other = random.random_range(1..=24);
            let change = match random.random_range(0..8) {
                0 => format!("DELETE FROM goods WHERE thing_id = {one}"),
                1 => format!("DELETE FROM good_tags WHERE thing_id = {one} AND position = 2"),
                2 => format!(
                    "UPDATE good_tags SET thing_id = {} WHERE thing_id = {one}",
                    one + 100
                ),
                3 => format!(
                    "UPDATE goods SET title = (SELECT o.title FROM goods o WHERE o.thing_id = {other}) WHERE thing_id = {one}"
                ),
                _ => stock.change(one, &mut random),
            };
            stock.force(&change).await;
            let single = verify_by(&migration, 5, 0).await;
            let summed = verify_by(&migration, 2, 5).await;
            assert_eq!(
                found(&summed),
                found(&single),
                "{topology:?}, seed {seed}: {change}"
            );
            let (all, salt) = (Span::default(), random.random());
            let copier = migration.copier();
            let mine = copier.authority().sum(&all, salt).await.unwrap();
            let held = copier.follower().sum(&all, salt).await.unwrap();
            assert!(mine.is_some() && held.is_some());
            let equal = found(&single).is_empty();
            assert_eq!(
                mine == held,
                equal,
                "{topology:?}, seed {seed}: {change}: {single:?}"
            );
            if !equal {
                differed += 1;
                stock.copied_again(&migration, &keys).await;
                let report = verify_by(&migration, 3, 8).await;
                assert_eq!(
                    (report.sums.bisected, report.clean()),
                    (0, true),
                    "seed {seed}: {report:?}"
                );
            }
        }
        assert!(differed > 10, "{differed} changes differed");
    }

    /// Of 90 keys in ranges of 40: the first has nothing before it to be divided from, nor the last behind it.
    const PARTS: u64 = 1 + 4 + 1;

    pub(super) async fn what_agrees_is_not_read(topology: Topology) {
        let stock = filled(topology).await;
        let migration = stock.ready().await;
        let report = verify_by(&migration, 10, 40).await;
        assert_eq!((report.compared, report.count(Class::Equal)), (90, 90));
        assert_eq!(
            (report.sums.ranges, report.sums.bisected, report.sums.singly),
            (PARTS, 0, 0)
        );
        assert_eq!(report.recorded, Recorded::Yes);
        assert!(migration.epoch().await.unwrap().ready());
        // A deleted key, one without an image on both sides, and a dirty one.
        let writes = "DELETE FROM things WHERE id = 3; DELETE FROM thing_tags WHERE thing_id = 3;
             UPDATE thing_tags SET position = -1 WHERE thing_id = 4";
        stock.market.legacy.run(writes).await;
        drain(&migration).await;
        let report = verify_by(&migration, 10, 40).await;
        assert_eq!(
            (report.compared, report.count(Class::Equal)),
            (90, 90),
            "{report:?}"
        );
        assert_eq!((report.sums.bisected, report.sums.singly), (0, 0));
        let write = "UPDATE things SET num = 0 WHERE id = 50";
        stock.market.legacy.run(write).await;
        let report = verify_by(&migration, 10, 40).await;
        assert_eq!(
            (report.count(Class::Equal), report.count(Class::Lagging)),
            (89, 1)
        );
        // A part of 10 keys, of its 8 parts one of 2 keys, which is halved.
        assert_eq!(
            (report.sums.ranges, report.sums.bisected, report.sums.singly),
            (PARTS + 8 + 2, 3, 1)
        );
    }

    pub(super) async fn what_is_not_copied_yet_is_pending(topology: Topology) {
        let stock = filled(topology).await;
        let migration = stock.open().await;
        migration.install().await.unwrap();
        migration.start_copying().await.unwrap();
        let report = verify_by(&migration, 10, 40).await;
        assert_eq!(
            (report.compared, report.count(Class::Pending)),
            (90, 90),
            "{report:?}"
        );
        // Spans are not divided where one side has nothing.
        assert_eq!(report.sums.ranges, PARTS);
        backfill(&migration).await;
        assert!(verify_by(&migration, 10, 40).await.clean());
    }

    pub(super) async fn a_verify_beside_writers_is_clean(topology: Topology) {
        let seed = support::seed();
        let stock = filled(topology).await;
        let migration = stock.ready().await;
        let legacy = stock.market.legacy.clone();
        let writer = tokio::spawn(async move {
            let mut random = SmallRng::seed_from_u64(seed);
            for n in 0..150 {
                let id = random.random_range(1..=100);
                let sql = match random.random_range(0..4) {
                    0 => format!("DELETE FROM things WHERE id = {id}"),
                    1 => format!(
                        "INSERT INTO things (id, num) SELECT {id}, {n} WHERE NOT EXISTS (SELECT 1 FROM things WHERE id = {id})"
                    ),
                    2 => format!("UPDATE thing_tags SET tag = 'n{n}' WHERE thing_id = {id}"),
                    _ => format!("UPDATE things SET num = {n} WHERE id = {id}"),
                };
                legacy.run(&sql).await;
            }
        });
        while !writer.is_finished() {
            let drained = migration.drain(Default::default());
            let (report, drained) = tokio::join!(verify_by(&migration, 4, 20), drained.once());
            drained.unwrap();
            assert!(report.clean(), "{topology:?}, seed {seed}: {report:?}");
        }
        writer.await.unwrap();
        drain(&migration).await;
        let report = verify_by(&migration, 4, 20).await;
        assert!(
            report.clean() && report.sums.bisected == 0,
            "seed {seed}: {report:?}"
        );
        assert_eq!(report.count(Class::Equal), report.compared);
    }

    pub(super) async fn what_cannot_be_summed_says_why(topology: Topology) {
        let market = Market::start(topology).await;
        market.fill(20).await;
        let migration = market.installed().await;
        backfill(&migration).await;
        let report = verify(&migration).await;
        assert!(report.clean() && report.sums.ranges == 0 && report.sums.singly >= 20);
        let why = |target: &str| {
            let found = report.unsummed.iter().find(|one| one.target == target);
            found.map(|one| one.why.clone()).unwrap_or_default()
        };
        assert!(why("address").contains("shared"), "{:?}", report.unsummed);
        assert!(why("listing.address_id").contains("one thing each"));
        let told = serde_json::to_value(&report).unwrap()["unsummed"].clone();
        assert_eq!(told.as_array().map(Vec::len), Some(2), "{told}");
    }

    /// More than are listed.
    pub(super) async fn versions_of_many_keys_are_looked_up(topology: Topology) {
        let stock = Stock::alike(topology).await;
        stock.fill(300).await;
        let migration = stock.ready().await;
        let (legacy, new) = (&stock.market.legacy, &stock.market.new);
        legacy.run("UPDATE things SET num = num + 1").await;
        drain(&migration).await;
        let report = verify_by(&migration, 50, 100).await;
        assert_eq!((report.sums.bisected, report.count(Class::Equal)), (0, 300));
        new.run("UPDATE changeover_key SET version = version + 1 WHERE place = 'new' AND \"key\" = '77'")
            .await;
        let report = verify_by(&migration, 50, 100).await;
        let ahead = BTreeMap::from([("77".to_owned(), Class::FollowerAhead)]);
        assert_eq!(found(&report), ahead, "{topology:?}");
    }

    pub(super) async fn what_looked_at_a_part_is_no_evidence(topology: Topology) {
        let stock = filled(topology).await;
        let migration = stock.ready().await;
        let part = async |part: Part| {
            let options = VerifyOptions {
                page: 5,
                range: 10,
                part,
                ..VerifyOptions::default()
            };
            migration.verify(options).await.unwrap()
        };
        let all = Part::Sample(Sampled::Share(Percent::HUNDRED));
        for (part_of, compared) in [
            (all.clone(), 90),
            (Part::Above(Key::from(40)), 50),
            (Part::Above(Key::new("0040")), 50),
        ] {
            let report = part(part_of).await;
            assert!(report.clean() && report.conclusive(), "{report:?}");
            assert_eq!(
                (report.compared, report.recorded),
                (compared, Recorded::Part)
            );
            assert!(!migration.epoch().await.unwrap().verified);
        }
        assert!(part(Part::All).await.recorded == Recorded::Yes);
        // What it finds is so, whatever it did not look at.
        stock
            .force("UPDATE goods SET title = 'forged' WHERE thing_id IN (7, 70)")
            .await;
        let report = part(Part::Above(Key::from(40))).await;
        assert_eq!(
            (report.count(Class::Divergent), report.recorded),
            (1, Recorded::Yes)
        );
        assert!(!migration.epoch().await.unwrap().verified);
        assert_eq!(part(all).await.count(Class::Divergent), 2);
    }
}
