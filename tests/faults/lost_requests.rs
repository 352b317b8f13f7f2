//! Every request that the worker sends to the authority is lost once, or its answer is: whatever was
//! being done, doing it again ends well, and no write is missed meanwhile.
//!
//! A lost request leaves the server as the lost answer to the one before it does, so all answers are lost
//! and the first request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use changeover::flags::Stage;
use changeover::worker::dialect::session::Database;
use changeover::worker::drain::DrainOptions;
use changeover::worker::migration::Migration;
use changeover::worker::verify::Class;

use super::on_networks;
use crate::protocol::market::{MAPPING, Market, Topology, backfill, drain, verify};
use crate::protocol::races::settle;
use crate::support;
use crate::support::tcp_proxy::{Fault, FaultProxy};

on_networks!(
    an_installation_and_an_uninstallation,
    a_raise,
    a_move,
    a_drain,
);

/// One listing, its photo, and what both take from another table.
const WRITES: [&str; 4] = [
    "UPDATE listings SET stock = stock + 1 WHERE id = 1",
    "UPDATE photos SET url = url || '.' WHERE listing_id = 4",
    "UPDATE tenants SET name = name || '.' WHERE id = 1",
    "INSERT INTO listings (tenant_id, title, status) VALUES (1, 'born', 'ACTIVE')",
];

/// Where the network is faulty.
#[derive(Debug, Clone, Copy)]
struct Before {
    topology: Topology,
    new: bool,
}

impl From<Topology> for Before {
    fn from(topology: Topology) -> Before {
        Before {
            topology,
            new: false,
        }
    }
}

/// A small marketplace with a faulty network before one side.
struct Network {
    place: Before,
    market: Market,
    proxy: FaultProxy,
    urls: [String; 2],
    struck: AtomicU64,
}

impl Network {
    async fn before(place: impl Into<Before>) -> Network {
        let place = place.into();
        let market = Market::start(place.topology).await;
        market.fill(8).await;
        let mut urls = [market.legacy_url.clone(), market.new_url.clone()];
        let side = &mut urls[usize::from(place.new)];
        let (proxy, url) = FaultProxy::before(side).await;
        *side = url;
        Network {
            place,
            market,
            proxy,
            urls,
            struck: AtomicU64::new(0),
        }
    }

    /// The worker behind it.
    async fn worker(&self, mapping: &str) -> Migration {
        let [legacy, new] = self.urls.each_ref().map(|url| Database::open(url).unwrap());
        let mapping = Market::mapping(mapping);
        Migration::open(Market::entity(), mapping, legacy, new)
            .await
            .unwrap()
    }

    /// Does something while the `n`th fault strikes; whether it did.
    async fn losing<T>(&self, n: u64, work: impl Future<Output = T>) -> (T, bool) {
        let fault = match n {
            0 => Fault::LoseRequest(0),
            n => Fault::LoseAnswer(n - 1),
        };
        let before = self.proxy.fired(fault);
        self.proxy.once(fault);
        let done = work.await;
        self.proxy.set(Fault::None);
        let struck = self.proxy.fired(fault) > before;
        self.struck.fetch_add(u64::from(struck), Ordering::Relaxed);
        (done, struck)
    }

    /// At least so many faults struck: before the legacy side, before the new one, in a short run.
    fn struck(&self, legacy: u64, new: u64, fast: u64) {
        let struck = self.struck.load(Ordering::Relaxed);
        println!("{:?}: {struck} faults", self.place);
        let least = match (support::fast(), self.place.new) {
            (true, _) => fast,
            (false, true) => new,
            (false, false) => legacy,
        };
        assert!(struck >= least, "{struck}");
    }

    async fn write(&self) {
        for sql in WRITES {
            self.market.legacy.run(sql).await;
        }
    }

    /// Every table's triggers count, above the base.
    async fn every_write_is_stamped(&self, worker: &Migration, n: u64) {
        for sql in WRITES {
            drain(worker).await;
            assert_eq!(self.market.dirty().await, Vec::<String>::new(), "{n}");
            self.market.legacy.run(sql).await;
            let dirty = self.market.dirty().await.len();
            assert_ne!(dirty, 0, "{:?}, {n}: {sql} left no stamp", self.place);
        }
    }
}

/// The number of each fault. A short run leaves most of them out, and one before the new side some.
fn numbers(new: bool) -> impl Iterator<Item = u64> {
    (0..500).step_by(match (support::fast(), new) {
        (true, _) => 7,
        (false, true) => 3,
        (false, false) => 1,
    })
}

fn revision(n: u64) -> String {
    MAPPING
        .replace("revision = 1", &format!("revision = {n}"))
        .replace("\"l.title\"", &format!("\"'v{n} ' || l.id\""))
}

/// The same before a new side whose installation is no transaction.
mod new_side {
    use super::*;

    const BEFORE: Before = Before {
        topology: Topology::MariadbTwoDatabases,
        new: true,
    };

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_installation_and_an_uninstallation() {
        scenario::an_installation_and_an_uninstallation(BEFORE).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_raise() {
        scenario::a_raise(BEFORE).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_drain() {
        scenario::a_drain(BEFORE).await;
    }
}

mod scenario {
    use super::*;

    pub(super) async fn an_installation_and_an_uninstallation(place: impl Into<Before>) {
        let network = Network::before(place).await;
        let market = &network.market;
        let (flawed, sound) = (network.worker(MAPPING).await, market.open().await);
        for n in numbers(network.place.new) {
            let (installed, lost) = network.losing(n, flawed.install()).await;
            assert_eq!(installed.is_err(), lost, "{n}: {installed:?}");
            // What is half there refuses no write, and nothing counts on its stamps.
            network.write().await;
            sound
                .install()
                .await
                .unwrap_or_else(|e| panic!("{n}: {e:?}"));
            sound.start_copying().await.unwrap();
            backfill(&sound).await;
            network.every_write_is_stamped(&sound, n).await;
            settle(market, &sound).await;
            sound.stop_copying().await.unwrap();
            let (taken, too) = network.losing(n, flawed.uninstall()).await;
            assert_eq!(taken.is_err(), too, "{n}: {taken:?}");
            network.write().await;
            sound
                .uninstall()
                .await
                .unwrap_or_else(|e| panic!("{n}: {e:?}"));
            for side in [&market.legacy, &market.new] {
                let left = side.texts(side.engine().installed()).await;
                let past = |one: &&String| !one.contains("changeover_past");
                assert_eq!(left.iter().find(past), None, "{n}");
            }
            market
                .new
                .run("DELETE FROM pictures; DELETE FROM variants; DELETE FROM service_listings")
                .await;
            if !lost && !too {
                break;
            }
        }
        network.struck(51, 21, 5);
    }

    pub(super) async fn a_raise(place: impl Into<Before>) {
        let network = Network::before(place).await;
        let market = &network.market;
        let mut old = market.installed().await;
        backfill(&old).await;
        for n in numbers(network.place.new) {
            let mapping = revision(n + 2);
            let flawed = network.worker(&mapping).await;
            let sound = market.open_with(Market::mapping(&mapping)).await;
            let before = old.epoch().await.unwrap();
            let (raised, lost) = network.losing(n, flawed.raise_revision()).await;
            assert_eq!(raised.is_err(), lost, "{n}: {raised:?}");
            network.write().await;
            // A process of the mapping before copies on, if it is let.
            let _ = old.drain(DrainOptions::default()).once().await;
            let raised = sound.raise_revision().await;
            raised.unwrap_or_else(|e| panic!("{n}: {e:?}"));
            let after = sound.epoch().await.unwrap();
            assert!(after.base > before.base && after.copying, "{n}: {after:?}");
            network.write().await;
            backfill(&sound).await;
            // At the new base: a stamp below it would not show.
            network.every_write_is_stamped(&sound, n).await;
            drain(&sound).await;
            let report = verify(&sound).await;
            assert!(report.clean() && report.compared >= 8, "{n}: {report:?}");
            old = sound;
            if !lost {
                break;
            }
        }
        network.struck(21, 6, 2);
    }

    pub(super) async fn a_move(place: impl Into<Before>) {
        let network = Network::before(place).await;
        let market = &network.market;
        let (flawed, sound) = (network.worker(MAPPING).await, market.installed().await);
        backfill(&sound).await;
        for n in 0..500 {
            let mut lost = false;
            for to in [Stage::Legacy, Stage::DualWrite] {
                let from = sound.epoch().await.unwrap();
                let (moved, cut) = network.losing(n, flawed.step(to)).await;
                assert_eq!(moved.is_err(), cut, "{n}: {moved:?}");
                network.write().await;
                // Whether it was moved or not is in the row and nowhere else; once it is, it stays.
                let then = sound.epoch().await.unwrap();
                assert!(then.number - from.number <= 1, "{from:?} {then:?}");
                let now = sound.step(to).await.unwrap();
                assert_eq!((now.stage(), now.number), (to, from.number + 1), "{n}");
                lost |= cut;
            }
            settle(market, &sound).await;
            if !lost {
                break;
            }
        }
        network.struck(4, 4, 4);
    }

    /// Marks, holds, notes about lookups.
    pub(super) async fn a_drain(place: impl Into<Before>) {
        let network = Network::before(place).await;
        let market = &network.market;
        let (flawed, sound) = (network.worker(MAPPING).await, market.installed().await);
        backfill(&sound).await;
        let options = DrainOptions {
            waiting_pause: Duration::ZERO,
            blocked_pause: Duration::ZERO,
            ..DrainOptions::default()
        };
        let flawed = flawed.drain(options);
        // The more rows there are, the more is asked of the new side: each fault would be one of many.
        for n in numbers(network.place.new).take(if network.place.new { 25 } else { 500 }) {
            network.write().await;
            let status =
                |status: &str| format!("UPDATE listings SET status = '{status}' WHERE id = 5");
            market.legacy.run(&status("forbidden")).await;
            let (drained, lost) = network.losing(n, flawed.once()).await;
            // What is not dirty agrees, whatever was lost.
            let report = verify(&sound).await;
            let known = [Class::Equal, Class::Lagging, Class::Waiting, Class::Blocked];
            let known: u64 = known.into_iter().map(|class| report.count(class)).sum();
            assert_eq!(known, report.compared, "{n}: {drained:?}, {report:?}");
            drain(&sound).await;
            let held = market.dirty().await;
            assert!(
                held.len() == 1 && held[0].starts_with("5 blocked "),
                "{n}: {held:?}"
            );
            market.legacy.run(&status("ACTIVE")).await;
            settle(market, &sound).await;
            if !lost {
                assert!(drained.is_ok(), "{drained:?}");
                break;
            }
        }
        network.struck(11, 11, 2);
    }
}
