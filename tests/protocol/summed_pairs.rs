//! Sums beside another engine: they agree where keys do, and what engines do not write alike is said.

use std::collections::BTreeMap;

use changeover::flags::Key;
use changeover::worker::sum::Span;
use changeover::worker::verify::Class;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::lifecycle::on_pairs;
use super::market::{Engine, Topology};
use super::stock::{Stock, found, verify_by};
use super::sums::filled;
use crate::support;

on_pairs!(
    sums_of_two_engines_agree_when_keys_do,
    what_engines_do_not_write_alike_is_found_key_by_key,
);

/// SQLite keeps bytes in a text that are no text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_read_is_found_and_stops_nothing() {
    for topology in [Topology::PostgresToSqlite, Topology::SqliteTwoFiles] {
        let stock = filled(topology).await;
        let migration = stock.ready().await;
        let forged = "UPDATE goods SET title = CAST(x'ff' AS TEXT) WHERE thing_id = 7;
            UPDATE goods SET num = 1 WHERE thing_id = 70";
        stock.force(forged).await;
        let single = found(&verify_by(&migration, 10, 0).await);
        let keys: Vec<&str> = single.keys().map(String::as_str).collect();
        assert_eq!(keys, ["7", "70"], "{topology:?}: {single:?}");
        assert_eq!(found(&verify_by(&migration, 10, 30).await), single);
    }
}

mod scenario {
    use super::*;

    pub(super) async fn what_engines_do_not_write_alike_is_found_key_by_key(topology: Topology) {
        let stock = Stock::start(topology).await;
        stock.fill(90).await;
        let migration = stock.ready().await;
        let forged = "UPDATE goods SET title = 'forged' WHERE thing_id = 7";
        stock.force(forged).await;
        for (page, range) in [(10, 0), (7, 30)] {
            let report = verify_by(&migration, page, range).await;
            let expected = BTreeMap::from([("7".to_owned(), Class::Divergent)]);
            assert_eq!(found(&report), expected, "{topology:?}: {page} {range}");
            let told: Vec<&str> = (report.unsummed.iter())
                .filter_map(|one| one.target.strip_prefix("good."))
                .collect();
            let mut unlike = Stock::unlike(topology).to_vec();
            unlike.sort_unstable();
            if !unlike.is_empty() && range > 0 {
                assert_eq!(told, unlike[..1], "{:?}", report.unsummed);
                assert!(report.unsummed[0].why.contains("both sides write"));
            }
            assert_eq!(
                report.sums.ranges > 0,
                unlike.is_empty() && range > 0,
                "{report:?}"
            );
        }
        assert!(!migration.epoch().await.unwrap().verified);
    }

    /// Whatever each engine's literals are: what differs is made of what was copied.
    pub(super) async fn sums_of_two_engines_agree_when_keys_do(topology: Topology) {
        let seed = support::seed();
        let mut random = SmallRng::seed_from_u64(seed);
        let stock = Stock::alike(topology).await;
        let ids: Vec<i64> = (1..=24).collect();
        let rows: String = (ids.iter().map(|id| stock.tame_row(*id, &mut random))).collect();
        stock.market.legacy.run(&rows).await;
        let migration = stock.ready().await;
        let copier = migration.copier();
        // SQLite's old columns have values of any class, of which no other engine writes the text.
        let from_sqlite = stock.market.legacy.engine() == Engine::Sqlite;
        let (mut agreed, mut differed) = (0, 0);
        for round in 0..25 {
            let (one, other) = (random.random_range(1..=24), random.random_range(1..=24));
            let change = match random.random_range(0..6) {
                _ if round == 0 => "DELETE FROM goods WHERE thing_id = 0".to_owned(),
                0 => format!("DELETE FROM good_tags WHERE thing_id = {one} AND position = 2"),
                1 => format!(
                    "UPDATE good_tags SET thing_id = {} WHERE thing_id = {one}",
                    one + 100
                ),
                _ => stock.exchange(one, other, &mut random),
            };
            stock.force(&change).await;
            let single = found(&verify_by(&migration, 5, 0).await);
            let summed = found(&verify_by(&migration, 2, 5).await);
            assert_eq!(summed, single, "{topology:?}, seed {seed}: {change}");
            for id in &ids {
                let span = Span {
                    after: Some(Key::from(id - 1)),
                    upto: Some(Key::from(*id)),
                };
                let salt = random.random();
                let mine = copier.authority().sum(&span, salt).await.unwrap();
                let held = copier.follower().sum(&span, salt).await.unwrap();
                let equal = !single.contains_key(&id.to_string());
                let agree = mine.is_some() && mine == held;
                assert!(
                    agree == equal || (equal && from_sqlite),
                    "{topology:?}, seed {seed}: {change}: {id}: {mine:?} {held:?} {single:?}"
                );
                agreed += u32::from(agree);
                differed += u32::from(!equal);
            }
        }
        assert!(
            agreed > 100 && differed > 20,
            "{topology:?}, seed {seed}: {agreed} agreed, {differed} differed"
        );
    }
}
