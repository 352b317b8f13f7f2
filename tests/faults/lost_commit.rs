//! A COMMIT whose answer is lost, or that is lost itself, on either side.

use std::sync::Arc;
use std::time::Duration;

use changeover::flags::Percent;
use changeover::worker::copy::CopySource;
use changeover::worker::dialect::session::Database;
use changeover::worker::migration::Migration;
use changeover::worker::store::StoreError;
use changeover::worker::verify::Class;

use super::on_networks;
use crate::layer::shop::{Call, Instance, ShopError};
use crate::protocol::market::{MAPPING, Market, Plain, Topology, backfill, drain, verify};
use crate::protocol::plain::on_pool;
use crate::protocol::stock::{Stock, verify_by};
use crate::support::tcp_proxy::{Fault, FaultProxy};

on_networks!(
    on_the_follower_the_answer_is_lost,
    on_the_follower_the_commit_is_lost,
    on_the_authority_the_answer_is_lost,
    through_the_layer_the_answer_is_lost,
    a_lost_mark_costs_a_copy_of_nothing,
    a_backfill_ends_under_lost_answers,
);

/// How long an application may take to connect again. Its server is never away here.
const RECONNECTED: Duration = Duration::from_secs(30);

/// A marketplace whose worker reaches one of the databases through a faulty network.
async fn through(topology: Topology, side: &str) -> (Market, Migration, FaultProxy) {
    let market = Market::start(topology).await;
    market.fill(12).await;
    let mut urls = [market.legacy_url.clone(), market.new_url.clone()];
    let faulty = &mut urls[usize::from(side == "new")];
    let (proxy, url) = FaultProxy::before(faulty).await;
    *faulty = url;
    let [legacy, new] = urls.map(|url| Database::open(&url).unwrap());
    let mapping = Market::mapping(MAPPING);
    let migration = Migration::open(Market::entity(), mapping, legacy, new)
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

/// With MariaDB as the new side.
mod to_mariadb {
    use super::*;

    const TOPOLOGY: Topology = Topology::MariadbTwoDatabases;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_the_follower_the_answer_is_lost() {
        scenario::on_the_follower_the_answer_is_lost(TOPOLOGY).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_the_follower_the_commit_is_lost() {
        scenario::on_the_follower_the_commit_is_lost(TOPOLOGY).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_backfill_ends_under_lost_answers() {
        scenario::a_backfill_ends_under_lost_answers(TOPOLOGY).await;
    }
}

mod scenario {
    use super::*;

    pub(super) async fn on_the_follower_the_answer_is_lost(topology: Topology) {
        let (market, migration, proxy) = through(topology, "new").await;
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

    pub(super) async fn on_the_follower_the_commit_is_lost(topology: Topology) {
        let (market, migration, proxy) = through(topology, "new").await;
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
    pub(super) async fn on_the_authority_the_answer_is_lost(topology: Topology) {
        let (market, migration, _network) = through(topology, "new").await;
        let (proxy, url) = FaultProxy::before(&market.legacy_url).await;
        for (fault, arrives) in [(Fault::LoseCommitAnswer, true), (Fault::LoseCommit, false)] {
            let application = Plain::few(&url, 1, RECONNECTED).await;
            on_pool!(&application, |pool| {
                let mut transaction = pool.begin().await.unwrap();
                sqlx::query("UPDATE listings SET stock = stock + 1000 WHERE id = 2")
                    .execute(&mut *transaction)
                    .await
                    .unwrap();
                proxy.once(fault);
                assert!(transaction.commit().await.is_err());
            });
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

    /// A call whose outcome nobody knows is an error to its caller and pins its key: whoever reads it
    /// next is told what the authority says.
    pub(super) async fn through_the_layer_the_answer_is_lost(topology: Topology) {
        let (mut market, migration, _network) = through(topology, "new").await;
        assert!(verify(&migration).await.clean());
        let (proxy, url) = FaultProxy::before(&market.legacy_url).await;
        let through = Plain::few(&url, 2, RECONNECTED).await;
        let direct = std::mem::replace(&mut market.legacy, through);
        let instance = Instance::of(&market, false).await;
        instance
            .wiring
            .flags()
            .set_read_new(Percent::HUNDRED)
            .unwrap();
        let (mut arrived, mut lost) = (0, 0);
        // A pool asks now and then whether a connection is there: which request is the write differs.
        for n in 0..80 {
            if n >= 8 && arrived > 0 && lost > 0 {
                break;
            }
            let (id, written) = (1 + n % 12, format!("written {n}"));
            let fault = match n % 2 {
                0 => Fault::LoseAnswer(n / 2 % 4),
                _ => Fault::LoseRequest(n / 2 % 4),
            };
            instance.call(Call::Get(id as i64, None)).await.unwrap();
            proxy.once(fault);
            let told = instance
                .call(Call::Retitle(id as i64, written.clone()))
                .await;
            proxy.set(Fault::None);
            let there = format!("SELECT title FROM listings WHERE id = {id}");
            let there = direct.text(&there).await;
            match told {
                Ok(_) => assert_eq!(there, written),
                Err(ShopError::Database(_)) if there == written => arrived += 1,
                Err(ShopError::Database(_)) => lost += 1,
                Err(error) => panic!("{error:?}"),
            }
            let read = instance.title(id as i64).await.unwrap_or_default();
            assert_eq!(read, there, "{fault:?}");
        }
        assert!(arrived > 0 && lost > 0, "{arrived} arrived, {lost} did not");
        settle(&market, &migration).await;
    }

    /// A mark whose answer is lost: at worst the key is copied once more.
    pub(super) async fn a_lost_mark_costs_a_copy_of_nothing(topology: Topology) {
        let (market, migration, proxy) = through(topology, "legacy").await;
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
    pub(super) async fn a_backfill_ends_under_lost_answers(topology: Topology) {
        for load in [true, false] {
            let market = Market::start(topology).await;
            market.fill(300).await;
            let (migration, proxy) = swept(&market, MAPPING, 20, load).await;
            assert_eq!(loaded(&migration).await, load);
            proxy.set(Fault::None);
            settle(&market, &migration).await;
        }
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
    let (proxy, new) = FaultProxy::before(&market.new_url).await;
    let migration = Migration::open(
        Market::entity(),
        Market::mapping(mapping),
        Database::open(&market.legacy_url).unwrap(),
        Database::open(&new).unwrap(),
    )
    .await
    .unwrap();
    migration.install().await.unwrap();
    migration.start_copying().await.unwrap();
    let options = changeover::worker::backfill::BackfillOptions {
        page,
        load_page: Some(page),
        load,
        parts: 3,
        workers: 2,
        pacing: changeover::worker::pace::Pacing::UNLIMITED,
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
