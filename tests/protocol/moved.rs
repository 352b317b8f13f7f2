//! Pages of a load that move from one PostgreSQL database to another as they are.

use changeover::flags::Key;
use changeover::worker::backfill::BackfillOptions;
use changeover::worker::pace::Pacing;
use changeover::worker::store::{Cursor, Loaded, RawPage};
use changeover::worker::sum::Span;
use tokio::task::block_in_place;

use super::loads::{clean, first_page};
use super::market::{Market, Topology, backfill};
use super::stock::{Stock, held};
use crate::support::postgres::Postgres;

/// Pages need not be on disk before the next one is loaded: a crash takes them back, and the cursor with
/// them. What has ended is there to stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_takes_pages_back_with_the_cursor() {
    let server = block_in_place(Postgres::start);
    server.create_database("legacy").await;
    server.create_database("new").await;
    let urls = ["legacy", "new"].map(|name| server.url(name));
    let [legacy, new] = urls;
    let market = Market::on(Topology::PostgresTwoDatabases, legacy, new, None).await;
    let stock = Stock::of(market).await;
    // Nobody but a commit that waits for it brings the log to disk.
    let new = &stock.market.new;
    new.run("ALTER SYSTEM SET wal_writer_delay = '10s'").await;
    new.run("SELECT pg_reload_conf()").await;
    stock.fill(300).await;
    let migration = stock.copying().await;
    let (authority, follower) = (
        migration.copier().authority(),
        migration.copier().follower(),
    );
    assert!(follower.start_loading().await.unwrap());
    let from = follower.cursor().await.unwrap();
    let page = authority
        .raw_page(&Span::default(), 100, from.base)
        .await
        .unwrap();
    let page = page.unwrap();
    let to = Cursor {
        last: page.last.clone(),
        passed: page.keys,
        ..from.clone()
    };
    let loaded = follower.load_raw(&page, &from, &to).await.unwrap();
    assert_eq!((loaded, page.keys), (Loaded::Yes, 100));
    let crashed = async || {
        block_in_place(|| {
            server.kill9();
            server.restart();
        });
        let migration = stock.open().await;
        let cursor = migration.copier().follower().cursor().await.unwrap();
        (migration, cursor, held(&stock).await.len())
    };
    let (migration, cursor, rows) = crashed().await;
    assert_eq!((cursor, rows), (from, 0));
    let sweep = migration.backfill(BackfillOptions {
        pacing: Pacing::UNLIMITED,
        ..BackfillOptions::default()
    });
    assert!(sweep.run(|_| ()).await.unwrap().done);
    let (migration, cursor, rows) = crashed().await;
    assert_eq!((cursor.done, cursor.passed, rows), (true, 300, 600));
    clean(&migration).await;
}

/// Eight bytes are an integer, or a float: rows as their types store them are read by those types alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_type_that_has_changed_is_noticed() {
    let alter = |table: &str| format!("ALTER TABLE {table} ALTER position TYPE double precision");
    let stock = Stock::start(Topology::PostgresTwoDatabases).await;
    stock.fill(30).await;
    let migration = stock.copying().await;
    let (authority, follower) = (
        migration.copier().authority(),
        migration.copier().follower(),
    );
    let (from, _) = first_page(&migration).await;
    let page = async || {
        authority
            .raw_page(&Span::default(), 10, from.base)
            .await
            .unwrap()
            .unwrap()
    };
    let typed = |page: &RawPage| page.targets.iter().map(|one| one.typed).collect::<Vec<_>>();
    let first = page().await;
    assert_eq!(typed(&first), [false, true]);
    let to = Cursor {
        last: first.last.clone(),
        passed: 10,
        ..from.clone()
    };
    stock.market.new.run(&alter("good_tags")).await;
    let refused = follower.load_raw(&first, &from, &to).await.unwrap();
    assert_eq!(refused, Loaded::Refused(Vec::new()));
    assert_eq!(held(&stock).await.len(), 0);
    stock.market.legacy.run(&alter("thing_tags")).await;
    let second = page().await;
    assert_eq!(typed(&second), [false, false]);
    assert_eq!(
        follower.load_raw(&second, &from, &to).await.unwrap(),
        Loaded::Yes
    );
    let migration = stock.open().await;
    backfill(&migration).await;
    clean(&migration).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_ends_where_a_page_of_images_does() {
    let stock = Stock::start(Topology::PostgresTwoDatabases).await;
    stock.fill(30).await;
    let migration = stock.copying().await;
    let (authority, base) = (
        migration.copier().authority(),
        migration.epoch().await.unwrap().base,
    );
    for after in [None, Some(Key::from(9)), Some(Key::from(30))] {
        for limit in [1, 7, 21, 30, 31] {
            let raw = authority
                .raw_page(&Span::above(after.clone()), limit, base)
                .await;
            let raw = raw.unwrap().unwrap();
            let images = authority
                .page(&Span::above(after.clone()), limit)
                .await
                .unwrap();
            let expected = (images.stamped.len() as u64, images.last);
            assert_eq!((raw.keys, raw.last), expected, "{limit} after {after:?}");
        }
    }
}
