//! The application: the product's layer over [`repository`](super::repository), with the worker's
//! drain and backfill in the same process, under the load of [`workload`](super::workload), until
//! its standard input ends (an orderly end) or it is killed.

use std::io::Read as _;
use std::time::Duration;

use changeover::flags::{Flags, Percent, Place};
use changeover::proxy::{Changeover, Handle, Limits, with_written};
use changeover::shadow::Json;
use changeover::wiring::Wiring;
use changeover::worker::backfill::BackfillOptions;
use changeover::worker::dialect::session::Database;
use changeover::worker::drain::DrainOptions;
use changeover::worker::migration::Migration;
use changeover::worker::pace::{Pacing, RowsPerSecond};
use changeover::worker::verify::VerifyOptions;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::Layer as _;
use tower::util::{BoxCloneService, service_fn};

use super::repository::{self, Answer, Bug, Call, Certainty, Error, Repository};
use super::workload::{CALLERS, Caller, say};
use crate::protocol::market::{MAPPING, Market};

/// The environment variable that carries [`Orders`] to the application.
pub const ORDERS: &str = "CHANGEOVER_KILL_ORDERS";

/// What the application is told by its supervisor.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Orders {
    pub legacy: String,
    pub new: String,
    /// `false`: the repository alone, no layer and no worker.
    pub layer: bool,
    /// `""`, `"ack before commit"` or `"blind retry"`.
    pub bug: String,
    pub seed: u64,
    /// How many call at the same time, at most [`CALLERS`].
    pub callers: u64,
    /// Which of the instances that run at the same time.
    pub instance: u64,
    /// Which life of this instance.
    pub generation: u64,
}

/// Small limits, so that being stopped for some seconds is being stopped past all of them.
fn limits() -> Limits {
    Limits {
        write_time: Duration::from_secs(1),
        // Not many more than the worker has connections: a copy that runs out of time while it waits
        // for one, or soon after, costs a connection and brings nothing.
        copies: 6,
        copy_time: Duration::from_secs(1),
        follower_time: Duration::from_millis(100),
        ask_time: Duration::from_millis(50),
        shadow_time: Duration::from_millis(300),
        second_look_after: Duration::from_millis(100),
        sweep_every: Duration::from_millis(100),
        ..Limits::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process, not a test: `cargo test --test integration kill` starts, kills and stops it"]
async fn application() {
    let Ok(orders) = std::env::var(ORDERS) else {
        return;
    };
    let orders: Orders = serde_json::from_str(&orders).unwrap();
    let bug = match orders.bug.as_str() {
        "" | "in the database" => Bug::Nothing,
        "ack before commit" => Bug::AckBeforeCommit,
        "blind retry" => Bug::BlindRetry,
        other => panic!("no such bug: {other}"),
    };
    let recorder = DebuggingRecorder::new();
    let counted = recorder.snapshotter();
    recorder.install().unwrap();

    // Callers leave while a transaction begins. The layer sees to it that no connection stays in
    // one; without the layer it is the pool's part.
    let guarded = !orders.layer;
    let legacy = Repository::open(&orders.legacy, Place::Legacy, bug, guarded);
    let (stop, stopped) = watch::channel(false);
    std::thread::spawn(move || {
        // Ends with the supervisor, too.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        stop.send_replace(true);
    });
    let mut background = JoinSet::new();
    let (service, handle) = if orders.layer {
        let wiring = wiring(&orders).await;
        let (service, handle) = layered(&orders, &wiring, legacy.clone());
        background.spawn(drain(wiring.clone()));
        let load = orders.bug.is_empty();
        background.spawn(history(wiring.clone(), handle.clone(), load));
        background.spawn(async move { wiring.watch(Duration::from_millis(300)).await });
        (service, Some(handle))
    } else {
        let legacy = legacy.clone();
        let plain = service_fn(move |call| legacy.clone().call(call));
        (BoxCloneService::new(plain), None)
    };
    background.spawn(tell_counters(counted.clone()));
    say("ready");
    let mut callers = JoinSet::new();
    for number in 0..orders.callers.min(CALLERS) {
        let identity = (orders.seed, orders.instance, orders.generation, number);
        let caller = Caller::new(service.clone(), handle.clone(), legacy.clone(), identity);
        callers.spawn(caller.run(stopped.clone()));
    }
    // A caller that panics ends the run as a failure: its stdout says why.
    while let Some(ended) = callers.join_next().await {
        if let Err(error) = ended {
            say(&format!("problem a caller ended: {error}"));
        }
    }
    if let Some(handle) = handle {
        let drained = handle.close_and_wait(Duration::from_secs(10)).await;
        if !drained.is_complete() {
            say(&format!(
                "problem work was cut off by an orderly end: {drained:?}"
            ));
        }
        tell_compared(&handle);
    }
    background.shutdown().await;
    tell(&counted);
    say("end");
}

/// The migration, however long its databases take to come up.
async fn wiring(orders: &Orders) -> Wiring {
    let mapping = Market::mapping(MAPPING);
    loop {
        let legacy = Database::open(&orders.legacy).unwrap();
        let new = Database::open(&orders.new).unwrap();
        let migration = Migration::open(Market::entity(), mapping.clone(), legacy, new).await;
        let wiring = match migration {
            Ok(migration) => Wiring::new(migration, Flags::memory(Market::entity()))
                .await
                .map_err(|e| format!("{e:?}")),
            Err(error) => Err(format!("{error:?}")),
        };
        match wiring {
            Ok(wiring) => return wiring,
            Err(error) => {
                say(&format!("waits {error}"));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn layered(
    orders: &Orders,
    wiring: &Wiring,
    legacy: Repository,
) -> (BoxCloneService<Call, Answer, Error>, Handle) {
    let new = Repository::open(&orders.new, Place::New, Bug::Nothing, false);
    let layer = Changeover::builder(wiring.flags().clone())
        .classify(with_written(repository::operation, repository::written))
        .observe(|answer: &Answer| match answer {
            Answer::Title(title) => title.clone().map(changeover::shadow::Value::Text),
            other => changeover::shadow::Observe::observe(&Json, other),
        })
        .outcome(Certainty)
        .limits(limits())
        .seed(orders.seed)
        .operations([
            "get", "append", "put", "delete", "create", "swap", "restock", "rename",
        ])
        .new_service(service_fn(move |call| new.clone().call(call)))
        .follow(wiring.follow())
        .versions(wiring.versions())
        .build()
        .unwrap();
    let handle = layer.handle();
    let legacy = service_fn(move |call| legacy.clone().call(call));
    (BoxCloneService::new(layer.layer(legacy)), handle)
}

async fn drain(wiring: Wiring) {
    let options = DrainOptions {
        batch: 20,
        idle_pause: Duration::from_millis(20),
        waiting_pause: Duration::from_millis(100),
        blocked_pause: Duration::from_millis(100),
        first_pause: Duration::from_millis(20),
        longest_pause: Duration::from_millis(200),
        ..DrainOptions::default()
    };
    wiring
        .migration()
        .drain(options)
        .run(std::future::pending())
        .await;
}

/// Copies history slowly, so that kills strike in the middle; then verifies while everything runs,
/// and lets the new side answer half of the reads.
async fn history(wiring: Wiring, handle: Handle, load: bool) {
    let options = BackfillOptions {
        page: 7,
        load_page: Some(7),
        pacing: Pacing {
            rows_per_second: RowsPerSecond::new(300),
            ..Pacing::UNLIMITED
        },
        first_pause: Duration::from_millis(20),
        longest_pause: Duration::from_millis(200),
        // The end of a load makes good some of what the planted bugs do.
        load,
        ..BackfillOptions::default()
    };
    let half = Percent::new(50.0).unwrap();
    // Where an earlier life has recorded its evidence, reads are routed at once.
    if wiring.flags().set_read_new(half).is_ok() {
        let _ = wiring.flags().set_sample(half);
        say("half");
    }
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let migration = wiring.migration();
        let Ok(epoch) = migration.epoch().await else {
            continue;
        };
        if migration.backfill(options).run(|_| {}).await.is_err() {
            continue;
        }
        if migration.record_backfill(&epoch).await.is_err() {
            continue;
        }
        match migration
            .verify(VerifyOptions {
                page: 100,
                ..VerifyOptions::default()
            })
            .await
        {
            Ok(report) if report.clean() => {}
            Ok(report) => say(&format!("problem not clean under load: {report:?}")),
            Err(_) => continue,
        }
        if wiring.learn().await.is_err() || wiring.flags().set_read_new(half).is_err() {
            continue;
        }
        let _ = wiring.flags().set_sample(half);
        say("half");
        break;
    }
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        tell_compared(&handle);
    }
}

fn tell_compared(handle: &Handle) {
    let compared = handle.compared();
    if compared.confirmed() > 0 {
        say(&format!(
            "problem confirmed differences: {compared:?}, {:?}",
            handle.samples()
        ));
    }
}

async fn tell_counters(counted: Snapshotter) {
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        tell(&counted);
    }
}

/// What was counted since the last time.
fn tell(counted: &Snapshotter) {
    for (name, _, _, value) in counted.snapshot().into_vec() {
        let DebugValue::Counter(count @ 1..) = value else {
            continue;
        };
        if name.key().name() == "changeover_copies_total" {
            let outcome = name.key().labels().find(|label| label.key() == "outcome");
            if let Some(outcome) = outcome {
                say(&format!("copies {} {count}", outcome.value()));
            }
        }
    }
}
