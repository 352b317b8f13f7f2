//! Loads: history without a version per key, beside which nothing is copied.

use std::time::Duration;

use changeover::flags::Key;
use changeover::worker::backfill::BackfillOptions;
use changeover::worker::copy::CopySource;
use changeover::worker::migration::Migration;
use changeover::worker::pace::Pacing;
use changeover::worker::store::{Cursor, Loaded};
use changeover::worker::sum::Span;
use changeover::worker::verify::Class;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::Notify;

use super::lifecycle::everywhere_and_on_pairs;
use super::market::{Engine, Market, Topology, backfill, drain};
use super::stock::{Stock, found, held, verify_by};
use crate::support;

everywhere_and_on_pairs!(
    rows_of_any_type_are_loaded_as_they_are_copied,
    copies_wait_for_a_load,
    a_late_page_brings_nothing_back,
    what_was_copied_is_not_loaded_over,
    rows_of_an_earlier_installation_are_not_loaded_over,
    what_copies_had_brought_and_is_gone_comes_back,
    what_cannot_be_moved_as_it_is_comes_as_images,
    a_load_that_is_given_up_is_swept_by_copies,
    a_raised_base_ends_a_load,
    a_row_of_nobody_is_found_after_a_load,
    a_load_goes_on_wherever_it_was_interrupted,
);

pub(super) async fn clean(migration: &Migration) {
    for range in [0, 7] {
        let report = verify_by(migration, 5, range).await;
        assert!(report.clean(), "{report:?}");
    }
}

/// The first page of a load that has begun: where it begins, and where it ends.
pub(super) async fn first_page(migration: &Migration) -> (Cursor, Cursor) {
    let follower = migration.copier().follower();
    assert!(follower.start_loading().await.unwrap());
    let from = follower.cursor().await.unwrap();
    let to = Cursor {
        last: Some(Key::from(10)),
        passed: 10,
        ..from.clone()
    };
    assert!(from.loading && from.passed == 0);
    (from, to)
}

/// Loads it, as images.
async fn load(migration: &Migration, from: &Cursor, to: &Cursor) -> Loaded {
    let copier = migration.copier();
    let page = copier.authority().page(&Span::default(), 10).await.unwrap();
    let unstamped: Vec<_> = page
        .stamped
        .into_iter()
        .filter(|one| one.version == from.base && one.key != Key::from(11))
        .collect();
    copier.follower().load(&unstamped, from, to).await.unwrap()
}

mod scenario {
    use super::*;

    pub(super) async fn rows_of_any_type_are_loaded_as_they_are_copied(topology: Topology) {
        let seed = support::seed();
        let mut random = SmallRng::seed_from_u64(seed);
        let stock = Stock::start(topology).await;
        let mut sql = String::new();
        for id in 1..=120 {
            sql += &stock.row(id, &mut random);
        }
        sql += "UPDATE things SET title = 'forbidden' WHERE id IN (7, 8, 60);";
        stock.market.legacy.run(&sql).await;
        let migration = stock.copying().await;
        let raw = migration.copier().authority().raw_format();
        assert_eq!(raw.is_some(), stock.market.legacy.is_postgres());
        backfill(&migration).await;
        let versions = "SELECT count(*) || '' FROM changeover_key WHERE place = 'new'";
        assert_eq!(stock.market.new.text(versions).await, "0");
        let loaded = held(&stock).await;
        let first = found(&verify_by(&migration, 10, 0).await);
        assert!(
            first.values().all(|class| *class == Class::Blocked),
            "seed {seed}: {first:?}"
        );
        for id in ["7", "8", "60"] {
            assert!(first.contains_key(id), "seed {seed}: {first:?}");
        }
        let keys: Vec<Key> = (1..=120).map(Key::from).collect();
        migration.copier().authority().touch(&keys).await.unwrap();
        drain(&migration).await;
        assert_eq!(held(&stock).await, loaded, "seed {seed}");
        assert_eq!(
            found(&verify_by(&migration, 10, 0).await),
            first,
            "seed {seed}"
        );
    }

    pub(super) async fn copies_wait_for_a_load(topology: Topology) {
        let stock = Stock::start(topology).await;
        stock.fill(30).await;
        let migration = stock.copying().await;
        let follower = migration.copier().follower();
        let (from, to) = first_page(&migration).await;
        stock
            .market
            .legacy
            .run(
                "UPDATE things SET title = 'now' WHERE id = 3; DELETE FROM things WHERE id = 5;
                 INSERT INTO things (id, title) VALUES (31, 'new'); DELETE FROM thing_tags WHERE thing_id = 5",
            )
            .await;
        let keys = ["3".into(), "5".into(), "31".into()];
        let report = migration
            .copier()
            .copy(&keys, CopySource::Inline)
            .await
            .unwrap();
        assert!(
            report.loading && report.left.len() == 3 && report.unrecorded == 3,
            "{report:?}"
        );
        assert!(report.left[0].1.contains("being loaded"), "{report:?}");
        let passed = migration.drain(Default::default()).once().await.unwrap();
        assert!(passed.loading && passed.copied == 0, "{passed:?}");
        assert_eq!(
            stock
                .market
                .new
                .text("SELECT count(*) || '' FROM goods")
                .await,
            "0"
        );
        // Another process comes by, and goes on with the same load.
        assert!(follower.start_loading().await.unwrap());
        assert_eq!(load(&migration, &from, &to).await, Loaded::Yes);
        assert_eq!(stock.market.dirty().await.len(), 3);
        backfill(&migration).await;
        assert_eq!(stock.market.dirty().await.len(), 3);
        drain(&migration).await;
        assert_eq!(stock.market.dirty().await, Vec::<String>::new());
        let titles = "SELECT title FROM goods WHERE thing_id IN (3, 5, 31) ORDER BY thing_id";
        assert_eq!(stock.market.new.texts(titles).await, ["now", "new"]);
        clean(&migration).await;
    }

    pub(super) async fn a_late_page_brings_nothing_back(topology: Topology) {
        let stock = Stock::start(topology).await;
        stock.fill(25).await;
        let migration = stock.copying().await;
        let (authority, follower) = (
            migration.copier().authority(),
            migration.copier().follower(),
        );
        let (from, to) = first_page(&migration).await;
        let images = authority.page(&Span::default(), 10).await.unwrap().stamped;
        let raw = authority
            .raw_page(&Span::default(), 10, from.base)
            .await
            .unwrap();
        assert_eq!(
            follower.load(&images, &from, &to).await.unwrap(),
            Loaded::Yes
        );
        let before = held(&stock).await;
        let late = async || {
            assert_eq!(
                follower.load(&images, &from, &to).await.unwrap(),
                Loaded::Elsewhere
            );
            if let Some(raw) = &raw {
                assert_eq!(
                    follower.load_raw(raw, &from, &to).await.unwrap(),
                    Loaded::Elsewhere
                );
            }
            assert!(!follower.end_loading(&from, true).await.unwrap());
        };
        late().await;
        assert_eq!(held(&stock).await, before);
        backfill(&migration).await;
        stock
            .market
            .legacy
            .run(
                "DELETE FROM things WHERE id = 2; DELETE FROM thing_tags WHERE thing_id = 2;
                 UPDATE things SET title = 'later' WHERE id = 4",
            )
            .await;
        drain(&migration).await;
        let before = held(&stock).await;
        late().await;
        assert_eq!(held(&stock).await, before);
        clean(&migration).await;
    }

    pub(super) async fn what_was_copied_is_not_loaded_over(topology: Topology) {
        let stock = Stock::start(topology).await;
        stock.fill(12).await;
        let migration = stock.copying().await;
        let follower = migration.copier().follower();
        // A version of history: no stamp would keep a page from bringing this key once more.
        migration
            .copier()
            .copy(&["4".into()], CopySource::Inline)
            .await
            .unwrap();
        assert!(!follower.start_loading().await.unwrap());
        backfill(&migration).await;
        assert!(!follower.cursor().await.unwrap().loading);
        clean(&migration).await;
    }

    pub(super) async fn rows_of_an_earlier_installation_are_not_loaded_over(topology: Topology) {
        let stock = Stock::start(topology).await;
        stock.fill(12).await;
        let migration = stock.copying().await;
        backfill(&migration).await;
        clean(&migration).await;
        migration.uninstall().await.unwrap();
        // A page adds rows, and takes none out.
        stock
            .market
            .legacy
            .run("DELETE FROM thing_tags WHERE thing_id = 3")
            .await;
        let migration = stock.copying().await;
        assert!(!migration.copier().follower().start_loading().await.unwrap());
        backfill(&migration).await;
        clean(&migration).await;
    }

    /// A new side that came back from a backup of the same incarnation.
    pub(super) async fn what_copies_had_brought_and_is_gone_comes_back(topology: Topology) {
        let stock = Stock::start(topology).await;
        stock.fill(12).await;
        let migration = stock.copying().await;
        stock
            .market
            .legacy
            .run("UPDATE things SET title = 'now' WHERE id IN (3, 4)")
            .await;
        drain(&migration).await;
        assert_eq!(stock.market.dirty().await, Vec::<String>::new());
        stock
            .force("DELETE FROM goods WHERE thing_id = 3; DELETE FROM good_tags WHERE thing_id = 3")
            .await;
        let forget = "DELETE FROM changeover_key WHERE place = 'new' AND \"key\" = '3'";
        stock.market.new.run(forget).await;
        backfill(&migration).await;
        drain(&migration).await;
        clean(&migration).await;
    }

    /// A mapping that names what only the table itself has.
    pub(super) async fn what_cannot_be_moved_as_it_is_comes_as_images(topology: Topology) {
        let stock = Stock::start(topology).await;
        stock.fill(12).await;
        let only = match topology.legacy_engine() {
            Engine::Postgres => "CASE WHEN things.tableoid > 0 THEN 'here' END",
            Engine::Sqlite => "CASE WHEN rowid > 0 THEN 'here' END",
            Engine::Mariadb => "CASE WHEN id > 0 THEN 'here' END",
        };
        let mapping = Stock::mapping(topology).replacen(
            "thing_id = \"id\"\n",
            &format!("thing_id = \"id\"\nnote = \"{only}\"\n"),
            1,
        );
        assert!(mapping.contains("note"));
        let migration = stock.market.open_with(Market::mapping(&mapping)).await;
        migration.install().await.unwrap();
        migration.start_copying().await.unwrap();
        backfill(&migration).await;
        assert!(
            migration
                .copier()
                .follower()
                .cursor()
                .await
                .unwrap()
                .loading
        );
        let notes = "SELECT count(*) || '' FROM goods WHERE note = 'here'";
        assert_eq!(stock.market.new.text(notes).await, "12");
        clean(&migration).await;
    }

    pub(super) async fn a_load_that_is_given_up_is_swept_by_copies(topology: Topology) {
        let stock = Stock::start(topology).await;
        stock.fill(25).await;
        let migration = stock.copying().await;
        let (from, to) = first_page(&migration).await;
        assert_eq!(load(&migration, &from, &to).await, Loaded::Yes);
        stock
            .market
            .legacy
            .run("DELETE FROM things WHERE id = 6; DELETE FROM thing_tags WHERE thing_id = 6")
            .await;
        let options = BackfillOptions {
            load: false,
            page: 4,
            pacing: Pacing::UNLIMITED,
            ..BackfillOptions::default()
        };
        assert!(migration.backfill(options).run(|_| ()).await.unwrap().done);
        assert!(!migration.copier().follower().start_loading().await.unwrap());
        drain(&migration).await;
        let versions = "SELECT count(*) || '' FROM changeover_key WHERE place = 'new'";
        assert_eq!(stock.market.new.text(versions).await, "25");
        clean(&migration).await;
    }

    pub(super) async fn a_raised_base_ends_a_load(topology: Topology) {
        let stock = Stock::start(topology).await;
        stock.fill(25).await;
        let migration = stock.copying().await;
        let (from, to) = first_page(&migration).await;
        assert_eq!(load(&migration, &from, &to).await, Loaded::Yes);
        stock
            .market
            .legacy
            .run("UPDATE things SET title = 'now' WHERE id = 3")
            .await;
        let raised = Stock::mapping(topology).replace("revision = 1", "revision = 2");
        let migration = stock.market.open_with(Market::mapping(&raised)).await;
        migration.raise_revision().await.unwrap();
        let follower = migration.copier().follower();
        assert!(!follower.cursor().await.unwrap().loading);
        assert!(!follower.start_loading().await.unwrap());
        assert_eq!(load(&migration, &from, &to).await, Loaded::Elsewhere);
        // Copies are taken again at once.
        let report = migration
            .copier()
            .copy(&["3".into()], CopySource::Inline)
            .await
            .unwrap();
        assert_eq!(report.applied, 1, "{report:?}");
        backfill(&migration).await;
        drain(&migration).await;
        clean(&migration).await;
    }

    pub(super) async fn a_row_of_nobody_is_found_after_a_load(topology: Topology) {
        let stock = Stock::start(topology).await;
        stock.fill(30).await;
        let migration = stock.copying().await;
        backfill(&migration).await;
        clean(&migration).await;
        stock
            .force(
                "INSERT INTO goods (thing_id, title) VALUES (99, 'whose'); \
                 DELETE FROM goods WHERE thing_id = 20; DELETE FROM good_tags WHERE thing_id = 20; \
                 UPDATE goods SET title = 'other' WHERE thing_id = 21",
            )
            .await;
        for range in [0, 7] {
            let found = found(&verify_by(&migration, 5, range).await);
            let expected = [
                ("20".to_owned(), Class::Missing),
                ("21".to_owned(), Class::Divergent),
                ("99".to_owned(), Class::Extra),
            ];
            assert_eq!(found, expected.into(), "spans of {range}");
        }
    }

    pub(super) async fn a_load_goes_on_wherever_it_was_interrupted(topology: Topology) {
        let seed = support::seed();
        let mut random = SmallRng::seed_from_u64(seed);
        let stock = Stock::start(topology).await;
        stock.fill(400).await;
        stock
            .market
            .legacy
            .run("UPDATE things SET title = 'forbidden' WHERE id IN (33, 250)")
            .await;
        let migration = stock.copying().await;
        let options = |random: &mut SmallRng| BackfillOptions {
            // A raw page has forty times as many keys.
            page: random.random_range(1..=3),
            parts: random.random_range(1..=5),
            workers: random.random_range(1..=3),
            seed: random.random(),
            first_pause: Duration::from_millis(1),
            pacing: Pacing::UNLIMITED,
            ..BackfillOptions::default()
        };
        let (mut interrupted, mut next) = (0, 401);
        for turn in 0..200 {
            let mut options = options(&mut random);
            let mut within = Duration::from_micros(random.random_range(0..5_000 << (turn % 7)));
            if turn == 0 {
                // Once for certain, after its first page.
                (options.page, options.workers, within) = (1, 1, Duration::from_secs(60));
            }
            let (sweep, passed) = (migration.backfill(options), Notify::new());
            let run = sweep.run(|at| {
                if turn == 0 && at.passed > 0 {
                    passed.notify_one();
                }
            });
            let swept = tokio::select! {
                biased;
                () = passed.notified() => None,
                swept = tokio::time::timeout(within, run) => swept.ok(),
            };
            let cursor = migration.copier().follower().cursor().await.unwrap();
            if cursor.done {
                break;
            }
            interrupted += u32::from(swept.is_none() && cursor.loading);
            let id = random.random_range(1..=400);
            let write = match random.random_range(0..3) {
                0 => format!("UPDATE things SET title = 'at {next}' WHERE id = {id}"),
                1 => format!(
                    "DELETE FROM things WHERE id = {id}; DELETE FROM thing_tags WHERE thing_id = {id}"
                ),
                _ => format!("INSERT INTO things (id, title) VALUES ({next}, 'born')"),
            };
            next += 1;
            stock.market.legacy.run(&write).await;
            drain(&migration).await;
        }
        backfill(&migration).await;
        assert!(interrupted > 0, "seed {seed}");
        stock
            .market
            .legacy
            .run("UPDATE things SET title = 'fine' WHERE title = 'forbidden'")
            .await;
        drain(&migration).await;
        assert_eq!(
            stock.market.dirty().await,
            Vec::<String>::new(),
            "seed {seed}"
        );
        let begun = "SELECT load_began || ' ' || loaded FROM changeover_epoch WHERE place = 'new'";
        assert_eq!(stock.market.new.text(begun).await, "0 0", "seed {seed}");
        clean(&migration).await;
    }
}
