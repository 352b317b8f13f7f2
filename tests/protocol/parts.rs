//! Sweeps in parts, which several workers and processes share.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use changeover::flags::Key;
use changeover::worker::backfill::BackfillOptions;
use changeover::worker::copy::CopySource;
use changeover::worker::migration::Migration;
use changeover::worker::pace::{Pacing, Reason};
use changeover::worker::store::{Cursor, Loaded};
use changeover::worker::sum::Span;

use super::lifecycle::everywhere_and_on_pairs;
use super::loads::{clean, first_page};
use super::market::{Topology, backfill, drain};
use super::stock::{Stock, held};

everywhere_and_on_pairs!(
    processes_share_a_sweep,
    a_part_of_copies_is_moved_from_where_it_stands,
    a_sweep_that_others_move_is_divided,
    a_part_has_one_page_for_each_key,
    a_load_is_over_when_each_part_is,
    a_divided_load_is_given_up_as_a_whole,
    what_is_gone_comes_back_with_the_last_part,
    a_range_ends_in_the_order_of_the_database,
);

fn parts(parts: u32, workers: u32) -> BackfillOptions {
    BackfillOptions {
        page: 3,
        load_page: Some(3),
        parts,
        workers,
        pacing: Pacing::UNLIMITED,
        ..BackfillOptions::default()
    }
}

/// A load of 40 keys that has begun: in parts that end with 12 and 25, and one without an end. Answers
/// the cursor before, too.
async fn divided(migration: &Migration) -> (Cursor, Vec<Cursor>) {
    let follower = migration.copier().follower();
    let (from, _) = first_page(migration).await;
    let at = [Key::from(12), Key::from(25)];
    assert!(follower.divide(&from, &at).await.unwrap());
    let parts = follower.cursors().await.unwrap();
    let spans: Vec<Span> = parts.iter().map(Cursor::rest).collect();
    let span = |after: Option<i64>, upto: Option<i64>| Span {
        after: after.map(Key::from),
        upto: upto.map(Key::from),
    };
    let expected = [
        span(None, Some(12)),
        span(Some(12), Some(25)),
        span(Some(25), None),
    ];
    assert_eq!(spans, expected);
    (from, parts)
}

/// Loads what is left of a part, as images.
async fn load(migration: &Migration, part: &Cursor) -> (Loaded, Cursor) {
    let copier = migration.copier();
    let page = copier.authority().page(&part.rest(), 100).await.unwrap();
    let to = Cursor {
        last: page.last,
        passed: part.passed + page.stamped.len() as u64,
        ..part.clone()
    };
    let unstamped = page.stamped.into_iter();
    let unstamped: Vec<_> = unstamped.filter(|one| one.version == part.base).collect();
    let loaded = copier.follower().load(&unstamped, part, &to).await;
    (loaded.unwrap(), to)
}

mod scenario {
    use super::*;

    pub(super) async fn processes_share_a_sweep(topology: Topology) {
        for load in [true, false] {
            shared(topology, load).await;
        }
    }

    async fn shared(topology: Topology, load: bool) {
        let stock = Stock::start(topology).await;
        stock.fill(900).await;
        let migration = stock.copying().await;
        let sweep = |parts, workers, seed| {
            migration.backfill(BackfillOptions {
                seed,
                load,
                ..super::parts(parts, workers)
            })
        };
        let (one, two) = (sweep(4, 2, 1), sweep(1, 1, 2));
        let (first, stock) = (one.control(), &stock);
        first.set_workers(1);
        // The first one waits until the second one has found work of its own.
        let (pages, others) = (AtomicU64::new(0), AtomicU64::new(0));
        let sharing = async {
            tokio::join!(
                one.run(|_| {
                    if pages.fetch_add(1, Relaxed) == 0 {
                        first.pause();
                    }
                }),
                async {
                    while pages.load(Relaxed) == 0 {
                        tokio::task::yield_now().await;
                    }
                    let other = two.run(|_| {
                        others.fetch_add(1, Relaxed);
                        first.resume();
                        first.set_workers(2);
                    });
                    other.await
                },
                stock.market.legacy.run(
                    "UPDATE things SET title = 'now' WHERE id IN (3, 899);
                     DELETE FROM things WHERE id = 450; DELETE FROM thing_tags WHERE thing_id = 450;
                     INSERT INTO things (id, title) VALUES (901, 'new')",
                ),
            )
        };
        let (one, two, ()) = sharing.await;
        let (one, two) = (one.unwrap(), two.unwrap());
        assert!(one.done && two.done);
        let (pages, others) = (pages.into_inner(), others.into_inner());
        assert!(pages > 0 && others > 0, "{pages}, {others}");
        let cursors = migration.copier().follower().cursors().await.unwrap();
        assert_eq!(cursors.len(), 4);
        assert!(cursors.iter().all(|part| part.done && part.loading == load));
        let passed: u64 = cursors.iter().map(|part| part.passed).sum();
        assert!((899..=901).contains(&passed), "{cursors:?}");
        // Nobody counts what the other has brought.
        assert_eq!(one.rows + two.rows, passed);
        drain(&migration).await;
        clean(&migration).await;
    }

    /// What another has moved is not moved again, nor what was read before the sweep was divided.
    pub(super) async fn a_part_of_copies_is_moved_from_where_it_stands(topology: Topology) {
        let stock = Stock::start(topology).await;
        stock.fill(40).await;
        let migration = stock.copying().await;
        let copier = migration.copier();
        let (authority, follower) = (copier.authority(), copier.follower());
        let from = follower.cursor().await.unwrap();
        follower.save_cursor(&from).await.unwrap();
        let first = [1, 2, 3].map(|key: i64| Key::from(key));
        copier.copy(&first, CopySource::Backfill).await.unwrap();
        let whole = |last: i64, passed, done| Cursor {
            last: Some(Key::from(last)),
            passed,
            done,
            ..from.clone()
        };
        assert!(follower.save_cursor(&whole(3, 3, false)).await.unwrap());
        assert!(!follower.save_cursor(&whole(3, 3, false)).await.unwrap());
        let at = [Key::from(12), Key::from(25)];
        // Wherever copies stand, they may be divided.
        assert!(follower.divide(&from, &at).await.unwrap());
        assert!(!follower.divide(&from, &at).await.unwrap());
        let parts = follower.cursors().await.unwrap();
        let stand: Vec<_> = parts
            .iter()
            .map(|part| (part.rest(), part.passed))
            .collect();
        let span = |after, upto: Option<i64>| Span {
            after: Some(Key::from(after)),
            upto: upto.map(Key::from),
        };
        let expected = [
            (span(3_i64, Some(12)), 3),
            (span(12, Some(25)), 0),
            (span(25, None), 0),
        ];
        assert_eq!(stand, expected);
        for done in [false, true] {
            assert!(!follower.save_cursor(&whole(30, 30, done)).await.unwrap());
            let page = authority.page(&parts[0].rest(), 5).await.unwrap();
            let late = whole(30, 30, done);
            follower.apply(&page.stamped, Some(&late)).await.unwrap();
            assert_eq!(follower.cursors().await.unwrap(), parts);
        }
        for part in [2, 0, 1] {
            assert!(!follower.cursor().await.unwrap().done);
            let from = &parts[part];
            let page = authority.page(&from.rest(), 100).await.unwrap();
            let rows = page.stamped.len() as u64;
            let to = Cursor {
                last: page.last,
                passed: from.passed + rows,
                ..from.clone()
            };
            let copied = copier.copy_stamped(page.stamped, None, CopySource::Backfill);
            assert!(copied.await.unwrap().left.is_empty());
            assert!(follower.advance(from, &to).await.unwrap());
            assert!(!follower.advance(from, &to).await.unwrap());
            let end = Cursor {
                done: true,
                ..to.clone()
            };
            let elsewhere = Cursor {
                upto: Some(Key::from(99)),
                ..to.clone()
            };
            let other_base = Cursor {
                base: changeover::flags::Version(to.base.0 + (1 << 44)),
                ..to.clone()
            };
            for wrong in [elsewhere, other_base] {
                assert!(!follower.advance(&wrong, &end).await.unwrap(), "{wrong:?}");
            }
            assert!(follower.advance(&to, &end).await.unwrap());
            assert!(!follower.advance(&end, &end).await.unwrap());
        }
        let over = follower.cursor().await.unwrap();
        assert!(over.done && over.passed == 40, "{over:?}");
        clean(&migration).await;
        // What begins at another base has no parts of before.
        let raise = "UPDATE changeover_epoch SET incarnation = 1 WHERE place = 'new'";
        stock.market.new.run(raise).await;
        migration.install().await.unwrap();
        assert_eq!(follower.cursors().await.unwrap().len(), 1);
        assert!(!follower.advance(&parts[1], &parts[1]).await.unwrap());
        backfill(&migration).await;
        drain(&migration).await;
        clean(&migration).await;
    }

    /// A second process that comes with parts, while the first one is between two pages.
    pub(super) async fn a_sweep_that_others_move_is_divided(topology: Topology) {
        for load in [true, false] {
            let stock = Stock::start(topology).await;
            stock.fill(300).await;
            let migration = stock.copying().await;
            let sweep = |parts, seed| {
                migration.backfill(BackfillOptions {
                    seed,
                    load,
                    ..super::parts(parts, 1)
                })
            };
            let (one, two) = (sweep(1, 1), sweep(4, 2));
            let (first, begun) = (one.control(), tokio::sync::Notify::new());
            let paused = AtomicU64::new(0);
            let (done, beside) = tokio::join!(
                one.run(|progress| {
                    if progress.rows > 100 && paused.fetch_add(1, Relaxed) == 0 {
                        first.pause();
                        begun.notify_one();
                    }
                }),
                async {
                    begun.notified().await;
                    two.run(|_| first.resume()).await
                },
            );
            let (done, beside) = (done.unwrap(), beside.unwrap());
            assert!(done.done && beside.done && beside.rows > 0);
            let parts = follower_parts(&migration).await;
            // Its first cut lies before where the other one stood, or not.
            assert!((3..=4).contains(&parts.len()), "{parts:?}");
            assert!(parts.iter().all(|part| part.done && part.loading == load));
            drain(&migration).await;
            clean(&migration).await;
        }
    }

    async fn follower_parts(migration: &Migration) -> Vec<Cursor> {
        migration.copier().follower().cursors().await.unwrap()
    }

    /// A page that was read before a load was divided spans more than a part: what it brings may have come
    /// by another one, and be gone again.
    pub(super) async fn a_part_has_one_page_for_each_key(topology: Topology) {
        let stock = Stock::start(topology).await;
        stock.fill(40).await;
        let migration = stock.copying().await;
        let (authority, follower) = (
            migration.copier().authority(),
            migration.copier().follower(),
        );
        let images = authority.page(&Span::default(), 30).await.unwrap().stamped;
        let (from, parts) = divided(&migration).await;
        let to = Cursor {
            last: Some(Key::from(30)),
            passed: 30,
            ..from.clone()
        };
        for (part, name) in [(1, "the second"), (0, "the first")] {
            let (loaded, to) = load(&migration, &parts[part]).await;
            assert_eq!(loaded, Loaded::Yes, "{name}");
            assert!(follower.end_loading(&to, true).await.unwrap(), "{name}");
            assert!(
                !follower.end_loading(&to, true).await.unwrap(),
                "{name}, again"
            );
            let before = held(&stock).await;
            let (again, _) = load(&migration, &parts[part]).await;
            assert_eq!(again, Loaded::Elsewhere, "{name}");
            assert_eq!(held(&stock).await, before);
        }
        let before = held(&stock).await;
        assert_eq!(
            follower.load(&images, &from, &to).await.unwrap(),
            Loaded::Elsewhere
        );
        assert!(!follower.end_loading(&from, true).await.unwrap());
        assert!(!follower.divide(&from, &[Key::from(3)]).await.unwrap());
        for part in follower.cursors().await.unwrap() {
            let again = follower.divide(&part, &[Key::from(30)]).await;
            assert!(!again.unwrap(), "{part:?}");
        }
        assert_eq!(held(&stock).await, before);
        backfill(&migration).await;
        clean(&migration).await;
    }

    /// A page of before does not stand in a part of after, even where that has not moved.
    pub(super) async fn a_load_is_over_when_each_part_is(topology: Topology) {
        let stock = Stock::start(topology).await;
        stock.fill(40).await;
        let migration = stock.copying().await;
        let copier = migration.copier();
        let follower = copier.follower();
        let images = copier.authority().page(&Span::default(), 30).await;
        let images = images.unwrap().stamped;
        let (from, parts) = divided(&migration).await;
        let to = Cursor {
            last: Some(Key::from(30)),
            passed: 30,
            ..from.clone()
        };
        let late = follower.load(&images, &from, &to).await.unwrap();
        assert_eq!(late, Loaded::Elsewhere);
        stock
            .market
            .legacy
            .run("UPDATE things SET title = 'now' WHERE id IN (1, 20, 40)")
            .await;
        let keys = [Key::from(1), Key::from(20), Key::from(40)];
        for part in [2, 0, 1] {
            assert!(!follower.cursor().await.unwrap().done);
            assert_eq!(follower.versions(&keys).await.unwrap(), [None; 3]);
            let report = copier.copy(&keys, CopySource::Inline).await.unwrap();
            assert!(report.loading && report.unrecorded == 3, "{report:?}");
            let (loaded, to) = load(&migration, &parts[part]).await;
            assert_eq!(loaded, Loaded::Yes);
            assert!(follower.end_loading(&to, true).await.unwrap());
        }
        let over = follower.cursor().await.unwrap();
        assert!(over.done && over.passed == 40, "{over:?}");
        let base = Some(over.base);
        assert_eq!(follower.versions(&keys).await.unwrap(), [base; 3]);
        let report = copier.copy(&keys, CopySource::Inline).await.unwrap();
        assert!(!report.loading, "{report:?}");
        drain(&migration).await;
        clean(&migration).await;
    }

    pub(super) async fn a_divided_load_is_given_up_as_a_whole(topology: Topology) {
        let stock = Stock::start(topology).await;
        stock.fill(40).await;
        let migration = stock.copying().await;
        let follower = migration.copier().follower();
        let (_, parts) = divided(&migration).await;
        let (_, to) = load(&migration, &parts[0]).await;
        assert!(follower.end_loading(&to, true).await.unwrap());
        let copies = BackfillOptions {
            load: false,
            ..super::parts(3, 2)
        };
        let swept = migration.backfill(copies).run(|_| ()).await.unwrap();
        assert!(swept.done && swept.passed == 40, "{swept:?}");
        let copies = follower.cursors().await.unwrap();
        assert!(copies.len() == 3 && copies.iter().all(|part| part.done && !part.loading));
        let (late, _) = load(&migration, &parts[1]).await;
        assert_eq!(late, Loaded::Elsewhere);
        clean(&migration).await;
    }

    /// 100 comes after 99, and a part that begins behind the range's end waits with the others.
    pub(super) async fn a_range_ends_in_the_order_of_the_database(topology: Topology) {
        for load in [true, false] {
            let stock = Stock::start(topology).await;
            stock.fill(400).await;
            let migration = stock.copying().await;
            let sweep = migration.backfill(BackfillOptions {
                load,
                ..parts(3, 2)
            });
            let control = sweep.control();
            control.set_upto(Some(Key::from(99)));
            let (told, mut hears) = tokio::sync::mpsc::unbounded_channel();
            let sweeping = sweep.run(move |progress| {
                if let Some(Reason::Range(key)) = progress.held_back_by {
                    told.send((key, progress.passed)).unwrap();
                }
            });
            let widening = async {
                for (upto, next) in [(99, Some(250)), (250, None)] {
                    while hears.recv().await.unwrap() != (Key::from(upto), upto as u64) {}
                    let there = stock
                        .market
                        .new
                        .text("SELECT count(*) || '' FROM goods")
                        .await;
                    assert_eq!(there, upto.to_string());
                    control.set_upto(next.map(|key: i64| Key::from(key)));
                }
            };
            let (swept, ()) = tokio::join!(sweeping, widening);
            let swept = swept.unwrap();
            assert!(swept.done && swept.passed == 400, "{swept:?}");
            clean(&migration).await;
        }
    }

    /// A new side that came back from a backup of the time when its last part was over, and others not.
    pub(super) async fn what_is_gone_comes_back_with_the_last_part(topology: Topology) {
        let stock = Stock::start(topology).await;
        stock.fill(40).await;
        let migration = stock.copying().await;
        let update = "UPDATE things SET title = 'now' WHERE id IN (3, 4)";
        stock.market.legacy.run(update).await;
        drain(&migration).await;
        let follower = migration.copier().follower();
        let (_, parts) = divided(&migration).await;
        for (part, last) in [(2, false), (0, false), (1, true)] {
            let (loaded, to) = load(&migration, &parts[part]).await;
            assert_eq!(loaded, Loaded::Yes);
            let ended = follower.end_loading(&to, false).await.unwrap();
            assert_eq!(ended, !last, "{to:?}");
        }
        let gone = "DELETE FROM goods WHERE thing_id = 3; DELETE FROM good_tags WHERE thing_id = 3";
        stock.force(gone).await;
        let forget = "DELETE FROM changeover_key WHERE place = 'new' AND \"key\" = '3'";
        stock.market.new.run(forget).await;
        backfill(&migration).await;
        drain(&migration).await;
        clean(&migration).await;
    }
}
