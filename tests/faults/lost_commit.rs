//! A COMMIT whose answer is lost, or that is lost itself, on either side.

use std::sync::Arc;

use changeover::worker::copy::CopySource;
use changeover::worker::dialect::session::Database;
use changeover::worker::migration::Migration;
use changeover::worker::store::StoreError;
use changeover::worker::verify::Class;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use crate::protocol::market::{MAPPING, Market, Topology, backfill, drain, verify};
use crate::protocol::stock::{Stock, verify_by};
use crate::support::postgres::shared;
use crate::support::tcp_proxy::{Fault, FaultProxy};

/// A marketplace whose worker reaches one of the databases through a faulty network.
async fn through(side: &str) -> (Market, Migration, FaultProxy) {
    let market = Market::start(Topology::PostgresTwoDatabases).await;
    market.fill(12).await;
    let proxy = FaultProxy::to(shared().port()).await;
    let url = |name: &str, plain: &str| {
        if name == side {
            proxy.through(plain)
        } else {
            plain.to_owned()
        }
    };
    let migration = Migration::open(
        Market::entity(),
        Market::mapping(MAPPING),
        Database::open(&url("legacy", &market.legacy_url)).unwrap(),
        Database::open(&url("new", &market.new_url)).unwrap(),
    )
    .await
    .unwrap();
    migration.install().await.unwrap();
    migration.start_copying().await.unwrap();
    backfill(&migration).await;
    (market, migration, proxy)
}

async fn settle(market: &Market, migration: &Migration) {
    drain(migration).await;
    assert_eq!(market.dirty().await, Vec::<String>::new());
    market.assert_equal().await;
    assert!(verify(migration).await.clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_follower_the_answer_is_lost() {
    let (market, migration, proxy) = through("new").await;
    market
        .legacy
        .run("UPDATE listings SET title = 'arrived' WHERE id = 1")
        .await;
    proxy.once(Fault::LoseCommitAnswer);
    let key = ["1".into()];
    let lost = migration.copier().copy(&key, CopySource::Inline).await;
    assert!(
        matches!(lost, Err(StoreError::Unreachable { .. })),
        "{lost:?}"
    );
    assert_eq!(proxy.fired(Fault::LoseCommitAnswer), 1);
    // The copy arrived; nobody was told; the key is dirty, and a second copy finds it there.
    let title = market
        .new
        .text("SELECT title FROM service_listings WHERE legacy_id = 1")
        .await;
    assert_eq!(title, "arrived");
    assert_eq!(
        market.dirty().await.len(),
        1,
        "an unknown outcome must not count as copied"
    );
    let again = migration
        .copier()
        .copy(&key, CopySource::Inline)
        .await
        .unwrap();
    assert_eq!((again.applied, again.stale), (0, 1));
    settle(&market, &migration).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_follower_the_commit_is_lost() {
    let (market, migration, proxy) = through("new").await;
    market
        .legacy
        .run("UPDATE listings SET title = 'not yet' WHERE id = 1")
        .await;
    proxy.once(Fault::LoseCommit);
    let lost = migration
        .copier()
        .copy(&["1".into()], CopySource::Inline)
        .await;
    assert!(
        matches!(lost, Err(StoreError::Unreachable { .. })),
        "{lost:?}"
    );
    assert_eq!(proxy.fired(Fault::LoseCommit), 1);
    let title = market
        .new
        .text("SELECT title FROM service_listings WHERE legacy_id = 1")
        .await;
    assert_ne!(title, "not yet");
    assert_eq!(
        market.dirty().await.len(),
        1,
        "what was never copied must not count as copied"
    );
    settle(&market, &migration).await;
}

/// The application's own COMMIT, on the authority: unknown to the application, known by its stamp.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_authority_the_answer_is_lost() {
    let (market, migration, proxy) = through("nowhere").await;
    for (fault, arrives) in [(Fault::LoseCommitAnswer, true), (Fault::LoseCommit, false)] {
        let mut connection = PgConnection::connect(&proxy.through(&market.legacy_url))
            .await
            .unwrap();
        let mut transaction = connection.begin().await.unwrap();
        sqlx::query("UPDATE listings SET stock = stock + 1000 WHERE id = 2")
            .execute(&mut *transaction)
            .await
            .unwrap();
        proxy.once(fault);
        assert!(transaction.commit().await.is_err());
        assert_eq!(proxy.fired(fault), 1);
        // Whether it arrived is written in its own commit and nowhere else.
        assert_eq!(
            market.dirty().await.len(),
            usize::from(arrives),
            "{fault:?}"
        );
        settle(&market, &migration).await;
    }
}

/// A mark whose answer is lost: at worst the key is copied once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_mark_costs_a_copy_of_nothing() {
    let (market, migration, proxy) = through("legacy").await;
    let authority = Arc::clone(migration.copier().authority());
    market
        .legacy
        .run("UPDATE listings SET title = 'x' WHERE id = 3")
        .await;
    let copy = authority.read(&["3".into()]).await.unwrap();
    migration
        .copier()
        .follower()
        .apply(&copy, None)
        .await
        .unwrap();
    proxy.set(Fault::Cut);
    let marked = authority
        .mark_synced(&[(copy[0].key.clone(), copy[0].version)])
        .await;
    assert!(
        matches!(marked, Err(StoreError::Unreachable { .. })),
        "{marked:?}"
    );
    proxy.set(Fault::None);
    settle(&market, &migration).await;
}

/// A backfill that loses the answer of every third commit still ends, without a row twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backfill_ends_under_lost_answers() {
    for load in [true, false] {
        let market = Market::start(Topology::PostgresTwoDatabases).await;
        market.fill(300).await;
        let (migration, proxy) = swept(&market, MAPPING, 20, load).await;
        assert_eq!(loaded(&migration).await, load);
        proxy.set(Fault::None);
        settle(&market, &migration).await;
    }
}

/// Pages that go from one database to the other as they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_by_copy_ends_under_lost_answers() {
    let stock = Stock::start(Topology::PostgresTwoDatabases).await;
    stock.fill(1_500).await;
    let mapping = Stock::mapping(stock.topology);
    let (migration, proxy) = swept(&stock.market, &mapping, 1, true).await;
    assert!(migration.copier().authority().raw_format().is_some());
    assert!(loaded(&migration).await);
    proxy.set(Fault::None);
    drain(&migration).await;
    for range in [0, 100] {
        let report = verify_by(&migration, 100, range).await;
        assert!(
            report.clean() && report.count(Class::Equal) == 1_500,
            "{report:?}"
        );
    }
}

async fn loaded(migration: &Migration) -> bool {
    let cursor = migration.copier().follower().cursor().await.unwrap();
    assert!(cursor.done);
    cursor.loading
}

/// Copying, and swept although every third page loses its COMMIT or the answer to it.
async fn swept(market: &Market, mapping: &str, page: u32, load: bool) -> (Migration, FaultProxy) {
    let proxy = FaultProxy::to(shared().port()).await;
    let migration = Migration::open(
        Market::entity(),
        Market::mapping(mapping),
        Database::open(&market.legacy_url).unwrap(),
        Database::open(&proxy.through(&market.new_url)).unwrap(),
    )
    .await
    .unwrap();
    migration.install().await.unwrap();
    migration.start_copying().await.unwrap();
    let options = changeover::worker::backfill::BackfillOptions {
        page,
        load,
        first_pause: std::time::Duration::from_millis(5),
        ..Default::default()
    };
    let mut pages = 0;
    let done = migration
        .backfill(options)
        .run(|_| {
            pages += 1;
            if pages % 3 == 0 {
                proxy.once(if pages % 2 == 0 {
                    Fault::LoseCommit
                } else {
                    Fault::LoseCommitAnswer
                });
            }
        })
        .await
        .unwrap();
    assert!(done.done);
    assert!(proxy.fired(Fault::LoseCommitAnswer) > 0 && proxy.fired(Fault::LoseCommit) > 0);
    (migration, proxy)
}
