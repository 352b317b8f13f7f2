use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use changeover_flags::{Entity, Flags, Percent, Shares};
use changeover_proxy::{Changeover, Limits, UnitOfWork};
use futures_util::FutureExt as _;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tower::{Layer as _, ServiceExt as _};

use crate::world::*;

/// Every series that a rule of the metric names: its labels and its value.
fn series(metrics: &Snapshotter) -> BTreeMap<(String, String), f64> {
    let all = metrics.snapshot().into_vec().into_iter();
    let named = all.map(|(key, _, _, value)| {
        let labels: Vec<String> = key
            .key()
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        let value = match value {
            DebugValue::Counter(count) => count as f64,
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Histogram(values) => values.len() as f64,
        };
        ((key.key().name().to_owned(), labels.join(",")), value)
    });
    named.collect()
}

fn sum(series: &BTreeMap<(String, String), f64>, name: &str, label: &str) -> f64 {
    let named = series
        .iter()
        .filter(|((n, labels), _)| n == name && labels.contains(label));
    named.map(|(_, value)| value).sum()
}

/// A snapshot resets what it read; so there is one per test.
fn recorded(change: impl FnOnce(changeover_proxy::Limits) -> Limits) -> (World, Snapshotter) {
    let recorder = DebuggingRecorder::new();
    let metrics = recorder.snapshotter();
    let limits = change(Limits::default());
    let world =
        metrics::with_local_recorder(&recorder, || World::with(|builder| builder.limits(limits)));
    (world, metrics)
}

#[tokio::test(start_paused = true)]
async fn every_series_is_there_at_zero_from_the_start() {
    let (_world, metrics) = recorded(|limits| limits);
    let series = series(&metrics);
    let expected = [
        ("changeover_hedges_total", "entity=rows,outcome=neither"),
        (
            "changeover_reads_total",
            "entity=rows,cohort=new,outcome=fallback",
        ),
        (
            "changeover_reads_total",
            "entity=rows,cohort=legacy,outcome=ok",
        ),
        (
            "changeover_calls_total",
            "entity=rows,op=put,route=authority,outcome=unknown",
        ),
        (
            "changeover_calls_total",
            "entity=rows,op=other,route=none,outcome=rejected",
        ),
        ("changeover_follows_total", "entity=rows,outcome=applied"),
        (
            "changeover_compares_total",
            "entity=rows,class=missing_in_new",
        ),
        ("changeover_fallbacks_total", "entity=rows,reason=not_found"),
        ("changeover_shed_total", "entity=rows,reason=shadows"),
        ("changeover_tasks_in_flight", "entity=rows,kind=copy"),
        ("changeover_pins", "entity=rows,kind=key"),
        ("changeover_kill_switch", "entity=rows"),
        ("changeover_read_excepted", "entity=rows"),
        ("changeover_call_duration_seconds", "entity=rows,op=get"),
        (
            "changeover_store_call_duration_seconds",
            "entity=rows,store=new,kind=shadow,outcome=timeout",
        ),
    ];
    for (name, labels) in expected {
        assert_eq!(
            series.get(&(name.into(), labels.into())),
            Some(&0.0),
            "{name} {labels}"
        );
    }
    assert_eq!(sum(&series, "changeover_read_percent", ""), 100.0);
    assert_eq!(sum(&series, "_total", ""), 0.0);
}

/// 0 % does not mean that nothing is read from new.
#[tokio::test(start_paused = true)]
async fn a_percentage_that_is_not_the_whole_truth_is_told() {
    let shares = Shares {
        read_new: Some(Percent::HUNDRED),
        sample: None,
    };
    for (shares, told) in [(shares, 1.0), (Shares::default(), 0.0)] {
        let (world, metrics) = recorded(|limits| limits);
        world.flags.set_read_new(Percent::ZERO).unwrap();
        world.flags.set_operation("get", shares).unwrap();
        world.call(Call::Get(1)).await.unwrap();
        let series = series(&metrics);
        assert_eq!(sum(&series, "changeover_read_percent", ""), 0.0);
        assert_eq!(sum(&series, "changeover_read_excepted", ""), told);
    }
}

#[tokio::test(start_paused = true)]
async fn the_counters_sum_to_the_calls() {
    let (world, metrics) = recorded(|limits| Limits {
        copies: 2,
        shadows: 3,
        shadows_per_second: Some(60),
        time_one_in: 1,
        ..limits
    });
    world.both(1, 7);
    world.flags.set_sample(Percent::new(50.0).unwrap()).unwrap();
    let faults = [
        Fault::None,
        Fault::Refuses,
        Fault::Panics,
        // Longer than every limit.
        Fault::Slow(Duration::from_secs(200)),
        Fault::AppliesAndLosesTheAnswer,
        Fault::NeverReady,
    ];
    let (mut calls, mut writes) = (0, 0);
    for (legacy, new, copier) in
        (0..216).map(|n| (faults[n % 6], faults[n / 6 % 6], faults[n / 36]))
    {
        world.legacy.fails(legacy);
        world.new.fails(new);
        world.port.fails(copier);
        let kinds = [
            Call::Get(1),
            Call::Get(2),
            Call::List { tolerant: true },
            Call::Put(1, 8),
            Call::Create(9),
            Call::AddToAll(0),
        ];
        for call in kinds {
            if legacy == Fault::NeverReady {
                continue;
            }
            let write = matches!(call, Call::Put(..) | Call::Create(_) | Call::AddToAll(_));
            let cut = tokio::time::timeout(Duration::from_millis(3), world.call(call));
            let _ = AssertUnwindSafe(cut).catch_unwind().await;
            calls += 1;
            writes += usize::from(write);
        }
    }
    let mut unit = UnitOfWork::new();
    unit.touch(&world.handle, 1);
    unit.commit(async { Ok::<_, Error>(()) }).await.unwrap();
    drop(tower::Service::call(
        &mut world.service.clone(),
        Call::Put(1, 1),
    ));
    tokio::time::sleep(Duration::from_secs(300)).await;
    let series = series(&metrics);
    for name in ["changeover_calls_total", "changeover_call_duration_seconds"] {
        assert_eq!(sum(&series, name, ""), f64::from(calls + 1), "{name}");
    }
    let reads = f64::from(calls) - writes as f64;
    assert_eq!(sum(&series, "changeover_reads_total", ""), reads);
    assert_eq!(
        sum(&series, "changeover_follows_total", ""),
        (writes + 1) as f64
    );
    let totals = world.handle.compared();
    assert_eq!(totals.started, totals.total);
    assert_eq!(
        sum(&series, "changeover_compares_total", ""),
        totals.total as f64
    );
    assert!(totals.total > 50, "{totals:?}");
    // Of what was shed, copies end elsewhere, and what the rate left out was not sampled.
    let shed = |label| sum(&series, "changeover_shed_total", label);
    assert_eq!(
        sum(&series, "changeover_compares_total", "class=shed"),
        shed("") - shed("reason=copies") - shed("reason=rate")
    );
    for label in ["copies", "rate", "shadows", "unanswered"] {
        assert!(shed(label) > 0.0, "{label} was not reached");
    }
    assert_eq!(sum(&series, "changeover_tasks_in_flight", ""), 0.0);
    for label in [
        "outcome=ok",
        "outcome=error",
        "outcome=unknown",
        "outcome=fallback",
        "cancelled",
    ] {
        assert!(
            sum(&series, "changeover_calls_total", label) > 0.0,
            "{label} was not reached"
        );
    }
    for label in ["applied", "left", "timeout", "panic", "skipped"] {
        assert!(
            sum(&series, "changeover_follows_total", label) > 0.0,
            "{label} was not reached"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_is_counted_as_rejected() {
    let recorder = DebuggingRecorder::new();
    let world = World::new();
    let layer = metrics::with_local_recorder(&recorder, || {
        Changeover::builder(Flags::memory(Entity::new("rows").unwrap()))
            .classify(classify)
            .observe(observe)
            .new_service(world.new.clone())
            .build()
            .unwrap()
    });
    layer
        .layer(world.legacy.clone())
        .oneshot(Call::Get(1))
        .await
        .unwrap_err();
    let series = series(&recorder.snapshotter());
    assert_eq!(sum(&series, "changeover_calls_total", ""), 1.0);
    assert_eq!(
        sum(
            &series,
            "changeover_calls_total",
            "op=other,route=none,outcome=rejected"
        ),
        1.0
    );
}

#[tokio::test(start_paused = true)]
async fn every_fallback_has_its_reason() {
    let (world, metrics) = recorded(|limits| limits);
    world.legacy.set(1, 7);
    for fault in [
        Fault::None,
        Fault::Refuses,
        Fault::Panics,
        Fault::Hangs,
        Fault::NeverReady,
    ] {
        world.new.fails(fault);
        assert_eq!(world.get(1).await, Some(7));
    }
    let series = series(&metrics);
    for (reason, count) in [
        ("not_found", 1.0),
        ("error", 1.0),
        ("panic", 1.0),
        ("timeout", 2.0),
    ] {
        assert_eq!(
            sum(&series, "changeover_fallbacks_total", reason),
            count,
            "{reason}"
        );
    }
    assert_eq!(
        sum(&series, "changeover_calls_total", "outcome=fallback"),
        5.0
    );
}
