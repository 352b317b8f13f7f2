use std::future::{Future, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use changeover_flags::Percent;
use changeover_proxy::{Builder, Limits, Operation, Refused};
use changeover_shadow::{Class, Compared, Value};
use futures_util::FutureExt as _;
use metrics_util::debugging::{DebuggingRecorder, Snapshotter};
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::trusted::{counted, recorded};
use crate::world::*;

fn shed(metrics: &Snapshotter) -> Vec<(String, u64)> {
    counted(metrics, "changeover_shed_total")
}

fn reasons(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    let named = expected
        .iter()
        .map(|(name, count)| ((*name).to_owned(), *count));
    named.collect()
}

#[tokio::test(start_paused = true)]
async fn a_target_rate_bounds_what_is_compared_and_counts_what_it_leaves_out() {
    let limits = Limits {
        shadows_per_second: Some(10),
        ..Limits::default()
    };
    let (world, metrics) = recorded(|builder| builder.limits(limits));
    world.both(1, 7);
    // Some 330 reads a second, for a minute.
    for _ in 0..20_000 {
        world.get(1).await;
        tokio::time::sleep(STEP).await;
    }
    assert!(
        world.handle.sample_share() < 0.05,
        "{}",
        world.handle.sample_share()
    );
    rest().await;
    let totals = world.handle.compared();
    let left_out = shed(&metrics);
    assert_eq!(left_out, reasons(&[("rate", 20_000 - totals.started)]));
    assert!((450..750).contains(&totals.started), "{totals:?}");
    assert_eq!(
        totals.of(Class::Match),
        totals.started,
        "what is left out is no part of the tally"
    );
}

#[tokio::test(start_paused = true)]
async fn a_busy_operation_leaves_a_rare_one_its_part_of_the_rate() {
    let limits = Limits {
        shadows_per_second: Some(10),
        ..Limits::default()
    };
    let [gets, lists] = [Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0))];
    let told = (Arc::clone(&gets), Arc::clone(&lists));
    let (world, _) = recorded(|builder| {
        builder
            .limits(limits)
            .report(move |compared: &Compared<'_>| {
                let count = match compared.operation {
                    "get" => &told.0,
                    _ => &told.1,
                };
                count.fetch_add(1, Ordering::Relaxed);
            })
    });
    world.both(1, 7);
    // Some 330 reads by key a second and three lists, for a minute.
    for read in 0..20_000 {
        world.get(1).await;
        tokio::time::sleep(STEP).await;
        if read % 100 == 0 {
            world.call(Call::List { tolerant: true }).await.unwrap();
        }
    }
    rest().await;
    let [gets, lists] = [gets, lists].map(|count| count.load(Ordering::Relaxed));
    assert!(lists > 180, "{lists} of 200 lists");
    assert!((300..550).contains(&gets), "{gets}");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_not_reached_leaves_the_percentage_as_it_is() {
    let started = async |shadows_per_second| {
        let limits = Limits {
            shadows_per_second,
            ..Limits::default()
        };
        let (world, _) = recorded(|builder| builder.limits(limits));
        world.both(1, 7);
        world.flags.set_sample(Percent::new(5.0).unwrap()).unwrap();
        for _ in 0..10_000 {
            world.get(1).await;
        }
        rest().await;
        (world.handle.compared().started, world.handle.sample_share())
    };
    let (unbound, _) = started(None).await;
    assert!((400..600).contains(&unbound), "{unbound}");
    let (bound, share) = started(Some(1_000)).await;
    assert!((400..600).contains(&bound), "{bound}");
    assert_eq!(share, 1.0);
    assert_eq!(started(Some(0)).await, (0, 0.0));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_compared_while_a_pool_waits_and_a_panic_there_hurts_nobody() {
    let waits = Arc::new(AtomicU64::new(0));
    let waiting = Arc::clone(&waits);
    let (world, metrics) = recorded(|builder| {
        builder.pool_waiting(move || match waiting.load(Ordering::Relaxed) {
            2 => panic!("the application's own closure"),
            waits => waits == 1,
        })
    });
    world.both(1, 7);
    for answer in [1, 2] {
        waits.store(answer, Ordering::Relaxed);
        assert_eq!(world.get(1).await, Some(7));
        rest().await;
        assert_eq!(world.new.asked(), 0, "{answer}");
    }
    waits.store(0, Ordering::Relaxed);
    world.get(1).await;
    rest().await;
    assert_eq!(world.handle.compared().of(Class::Match), 1);
    // A second look takes two connections more: it waits for nobody either.
    world.new.set(1, 8);
    world.get(1).await;
    tokio::time::sleep(STEP * 10).await;
    let asked = world.legacy.asked();
    waits.store(1, Ordering::Relaxed);
    rest().await;
    assert_eq!(world.legacy.asked(), asked);
    assert_eq!(world.handle.compared().of(Class::Shed), 3);
    assert_eq!(shed(&metrics), reasons(&[("pool", 3)]));
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_asked_and_the_services_of_the_callers_never() {
    let (legacy, new) = (Store::new(), Store::new());
    let probe = (legacy.clone(), new.clone());
    let (world, _) = recorded(|builder| builder.probe(probe.0, probe.1).control(Percent::HUNDRED));
    // The callers' legacy service has an old row in its cache.
    world.both(1, 6);
    legacy.set(1, 7);
    new.set(1, 7);
    world.get(1).await;
    rest().await;
    assert_eq!(
        world.handle.compared().of(Class::Healed),
        1,
        "the cache differed, the tables do not"
    );
    new.set(1, 8);
    world.get(1).await;
    rest().await;
    assert_eq!(world.handle.compared().of(Class::Mismatch), 1);
    // By the follower, too.
    world.flags.set_read_new(Percent::HUNDRED).unwrap();
    world.get(1).await;
    rest().await;
    assert_eq!(
        (world.legacy.asked(), world.new.asked()),
        (2, 1),
        "the callers' own calls"
    );
    // Each time: the other side, both once more, and the control read's two.
    assert_eq!(
        (legacy.asked(), new.asked()),
        (1 + 1 + 2 + 3 * 2, 2 + 2 + 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_side_that_never_answers_holds_up_nobody_and_no_more_than_its_room() {
    let limits = Limits {
        shadows: 8,
        ..Limits::default()
    };
    let (world, metrics) = recorded(|builder| builder.limits(limits));
    world.both(1, 7);
    world.new.fails(Fault::Hangs);
    for _ in 0..1_000 {
        let began = tokio::time::Instant::now();
        world.get(1).await;
        assert_eq!(
            began.elapsed(),
            STEP * 2,
            "the caller waits for its own side alone"
        );
        assert!(world.handle.compared().in_flight() <= 8);
    }
    rest().await;
    let totals = world.handle.compared();
    assert_eq!((totals.started, totals.total), (1_000, 1_000));
    // Two seconds, in each of which eight ran into their limit.
    assert_eq!(totals.of(Class::Timeout), 16);
    assert_eq!(totals.of(Class::Shed), 984);
    assert_eq!(shed(&metrics), reasons(&[("shadows", 984)]));
}

#[tokio::test(start_paused = true)]
async fn every_sampled_read_that_is_not_compared_has_its_reason() {
    let pool = Arc::new(AtomicBool::new(false));
    let waiting = Arc::clone(&pool);
    let limits = Limits {
        shadows: 1,
        shed_over: STEP * 10,
        list_elements: 1,
        ..Limits::default()
    };
    let (world, metrics) = recorded(|builder| {
        builder
            .limits(limits)
            .pool_waiting(move || waiting.load(Ordering::Relaxed))
    });
    world.both(1, 7);
    world.both(2, 7);
    world.call(Call::List { tolerant: true }).await.unwrap();
    pool.store(true, Ordering::Relaxed);
    world.get(1).await;
    pool.store(false, Ordering::Relaxed);
    world.legacy.fails(Fault::Slow(STEP * 20));
    world.get(1).await;
    polls(world.get(1), 2).await;
    world.legacy.fails(Fault::None);
    world.new.fails(Fault::Hangs);
    world.get(1).await;
    world.get(1).await;
    rest().await;
    let _ = world.handle.close_and_wait(Duration::from_secs(10)).await;
    world.get(1).await;
    let totals = world.handle.compared();
    assert_eq!((totals.of(Class::Timeout), totals.of(Class::Shed)), (1, 6));
    assert_eq!((totals.started, totals.total), (7, 7));
    let each = ["closing", "long", "pool", "shadows", "slow", "unanswered"];
    assert_eq!(shed(&metrics), reasons(&each.map(|reason| (reason, 1))));
}

/// Sides that differ, need no runtime, and requests that can be copied so many times.
fn read_with(
    copies: u64,
    world: &World,
) -> impl Future<Output = Result<i64, Refused>> + Send + use<> {
    let left = AtomicU64::new(copies);
    let copy = move |id: &i64| {
        let one_less = |left: u64| left.checked_sub(1);
        let copied = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        copied.ok().map(|_| *id)
    };
    let side = |more: i64| service_fn(move |id: i64| ready(Ok::<_, Refused>(id + more)));
    let layer = Builder::new(world.flags.clone(), copy)
        .classify(|id: &i64| Operation::read("get", *id))
        .observe(|row: &i64| Some(Value::from(*row)))
        .new_service(side(1))
        .build()
        .unwrap();
    layer.layer(side(0)).oneshot(7)
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_copied_or_has_no_runtime_is_counted_too() {
    let recorder = DebuggingRecorder::new();
    let metrics = recorder.snapshotter();
    let world = World::new();
    world.flags.set_sample(Percent::HUNDRED).unwrap();
    world.flags.set_read_new(Percent::ZERO).unwrap();
    let [never, once, outside] = metrics::with_local_recorder(&recorder, || {
        [0, 1, 9].map(|copies| read_with(copies, &world))
    });
    assert_eq!(never.await.unwrap(), 7);
    assert_eq!(once.await.unwrap(), 7);
    rest().await;
    let outside = std::thread::spawn(|| outside.now_or_never()).join();
    assert_eq!(outside.unwrap().unwrap().unwrap(), 7);
    assert_eq!(shed(&metrics), reasons(&[("no_runtime", 1), ("plain", 2)]));
}

/// A row whose clone panics at will.
#[derive(Debug, PartialEq)]
struct Stubborn(i64);

impl Clone for Stubborn {
    fn clone(&self) -> Stubborn {
        assert_ne!(self.0, 13, "injected");
        Stubborn(self.0)
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_of_the_answer_is_observed_when_its_caller_has_gone() {
    let world = World::new();
    world.flags.set_sample(Percent::HUNDRED).unwrap();
    world.flags.set_read_new(Percent::ZERO).unwrap();
    let observed = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&observed);
    let side = || service_fn(|id: i64| ready(Ok::<_, Refused>(Stubborn(id))));
    let layer = Builder::new(world.flags.clone(), |id: &i64| Some(*id))
        .classify(|id: &i64| Operation::read("get", *id))
        .observe(move |row: &Stubborn| {
            counting.fetch_add(1, Ordering::Relaxed);
            Some(Value::from(row.0))
        })
        .observe_copies()
        .control(Percent::ZERO)
        .new_service(side())
        .build()
        .unwrap();
    let service = layer.layer(side());
    assert_eq!(service.clone().oneshot(7).await.unwrap(), Stubborn(7));
    assert_eq!(
        observed.load(Ordering::Relaxed),
        0,
        "while the caller waited"
    );
    assert_eq!(service.oneshot(13).await.unwrap(), Stubborn(13));
    rest().await;
    assert_eq!(observed.load(Ordering::Relaxed), 3);
    let totals = layer.handle().compared();
    assert_eq!(
        (totals.of(Class::Match), totals.of(Class::ErrorInLegacy)),
        (1, 1)
    );
}

#[test]
fn no_shadow_read_waits_for_a_runtime_that_is_not_its_own() {
    let world = World::new();
    world.flags.set_sample(Percent::HUNDRED).unwrap();
    world.flags.set_read_new(Percent::ZERO).unwrap();
    let side = || service_fn(|id: i64| ready(Ok::<_, Refused>(id)));
    let layer = Builder::new(world.flags.clone(), |id: &i64| Some(*id))
        .classify(|id: &i64| Operation::read("get", *id))
        .observe(|row: &i64| Some(Value::from(*row)))
        .new_service(side())
        .limits(Limits {
            shadows: 4,
            ..Limits::default()
        })
        .build()
        .unwrap();
    let service = layer.layer(side());
    let read = || {
        let service = service.clone();
        async move { service.oneshot(7).await.unwrap() }
    };
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let still = runtime();
    // The answers are there at once, so nothing is run behind them until somebody comes back.
    still.block_on(async { read().await + read().await });
    let driven = runtime();
    let compared = || layer.handle().compared();
    let matches = async |count| {
        let all = async {
            while compared().of(Class::Match) < count {
                tokio::task::yield_now().await;
            }
        };
        let all = tokio::time::timeout(Duration::from_secs(10), all).await;
        all.expect("they are compared");
    };
    driven.block_on(async {
        read().await;
        read().await;
        matches(2).await;
    });
    assert_eq!(compared().in_flight(), 2);
    drop(still);
    assert_eq!(compared().of(Class::Abandoned), 2);
    // Their places are free again.
    driven.block_on(async {
        for _ in 0..4 {
            read().await;
        }
        matches(6).await;
    });
    assert_eq!(compared().in_flight(), 0);
}
