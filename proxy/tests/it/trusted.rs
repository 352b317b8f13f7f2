//! Whether a comparison that finds nothing has looked.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use changeover_flags::Percent;
use changeover_proxy::{Limits, NoVersions, Operation};
use changeover_shadow::{Class, Compared, Redaction, Rules, Tolerance, Value};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tower::ServiceExt as _;

use crate::world::*;

fn sampled(world: World) -> World {
    world.flags.set_sample(Percent::HUNDRED).unwrap();
    world.flags.set_read_new(Percent::ZERO).unwrap();
    world
}

/// One read, to its end; what it added to the class.
async fn read(world: &World, call: Call) -> Class {
    let before = world.handle.compared();
    let _ = world.call(call).await;
    rest().await;
    let after = world.handle.compared();
    let ended = after
        .by_class()
        .find(|(class, count)| *count > before.of(*class));
    ended.expect("it ended").0
}

pub(crate) fn recorded(change: impl FnOnce(Built) -> Built) -> (World, Snapshotter) {
    let recorder = DebuggingRecorder::new();
    let metrics = recorder.snapshotter();
    let world = metrics::with_local_recorder(&recorder, || World::with(change));
    (sampled(world), metrics)
}

/// The values of a counter by its last label.
pub(crate) fn counted(metrics: &Snapshotter, name: &str) -> Vec<(String, u64)> {
    let all = metrics.snapshot().into_vec().into_iter();
    let named = all.filter(|(key, ..)| key.key().name() == name);
    let mut counts: Vec<_> = named
        .map(|(key, _, _, value)| {
            let label = key
                .key()
                .labels()
                .last()
                .map(|label| label.value().to_owned());
            let DebugValue::Counter(count) = value else {
                panic!("not a counter")
            };
            (label.unwrap_or_default(), count)
        })
        .filter(|(_, count)| *count > 0)
        .collect();
    counts.sort();
    counts
}

/// Rows with a field that is another at each read.
fn restless() -> impl Fn(&Answer) -> Option<Value> {
    let reads = AtomicI64::new(0);
    move |answer| {
        let row = observe(answer)?;
        let read_at = Value::from(reads.fetch_add(1, Ordering::Relaxed));
        Some(Value::record([("row", row), ("read_at", read_at)]))
    }
}

#[tokio::test(start_paused = true)]
async fn a_field_in_which_the_authority_differs_from_itself_is_noise() {
    let (world, metrics) =
        recorded(|builder| builder.observe(restless()).control(Percent::HUNDRED));
    world.both(1, 7);
    assert_eq!(
        read(&world, Call::Get(1)).await,
        Class::Mismatch,
        "nobody knows yet"
    );
    assert_eq!(read(&world, Call::Get(1)).await, Class::Noise);
    let samples = world.handle.samples().fields;
    assert_eq!(
        samples
            .iter()
            .map(|field| field.path.as_str())
            .collect::<Vec<_>>(),
        ["read_at"]
    );
    world.new.set(1, 8);
    assert_eq!(
        read(&world, Call::Get(1)).await,
        Class::Mismatch,
        "another field is none"
    );
    let samples = world.handle.samples().fields;
    let seen: Vec<_> = samples
        .iter()
        .map(|field| (field.path.as_str(), field.seen))
        .collect();
    assert_eq!(seen, [("read_at", 1), ("row", 1)]);
    let noise = world.handle.report().noise;
    assert_eq!(
        (noise.controls, noise.fields[0].path.as_str()),
        (3, "read_at")
    );
    assert_eq!(
        counted(&metrics, "changeover_controls_total"),
        [("noise".to_owned(), 3)]
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_write_may_explain_is_no_noise() {
    let (world, metrics) = recorded(|builder| builder.control(Percent::HUNDRED));
    world.both(1, 7);
    let legacy = world.legacy.clone();
    let writer = tokio::spawn(async move {
        for row in 0.. {
            legacy.clone().oneshot(Call::Put(1, row)).await.unwrap();
        }
    });
    for _ in 0..20 {
        world.get(1).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    writer.abort();
    rest().await;
    let controls = counted(&metrics, "changeover_controls_total");
    assert!(
        controls
            .iter()
            .any(|(end, count)| end == "moved" && *count > 5),
        "{controls:?}"
    );
    assert!(
        controls.iter().all(|(end, _)| end != "noise"),
        "{controls:?}"
    );
    assert_eq!(world.handle.report().noise.fields, []);

    // Nor where nobody keeps versions.
    let (world, metrics) = recorded(|builder| {
        let builder = builder.versions(NoVersions).observe(restless());
        builder.control(Percent::HUNDRED)
    });
    world.both(1, 7);
    read(&world, Call::Get(1)).await;
    assert_eq!(
        counted(&metrics, "changeover_controls_total"),
        [("moved".to_owned(), 1)]
    );
}

#[tokio::test(start_paused = true)]
async fn control_reads_are_within_the_share_and_the_budget() {
    let share = Percent::new(10.0).unwrap();
    let (world, metrics) = recorded(|builder| builder.control(share));
    world.both(1, 7);
    for _ in 0..1_000 {
        world.get(1).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    rest().await;
    let controls = counted(&metrics, "changeover_controls_total");
    // Expected 100, with a standard deviation of 9.5; four of them either way.
    assert!(
        matches!(&controls[..], [(end, 62..=138)] if end == "still"),
        "{controls:?}"
    );

    let limits = Limits {
        shadows: 1,
        ..Limits::default()
    };
    let world = sampled(World::with(|builder| {
        builder.limits(limits).control(Percent::HUNDRED)
    }));
    world.both(1, 7);
    world.get(1).await;
    world.legacy.fails(Fault::Slow(Duration::from_millis(500)));
    tokio::time::sleep(STEP * 5).await;
    world.get(1).await;
    assert_eq!(
        world.handle.compared().of(Class::Shed),
        1,
        "the control read holds the place"
    );
}

#[tokio::test(start_paused = true)]
async fn a_report_is_clean_only_once_the_canary_was_seen() {
    let (world, metrics) = recorded(|builder| builder);
    assert!(!world.handle.report().clean, "nothing was compared");
    assert_eq!(read(&world, Call::Get(1)).await, Class::Neither);
    let report = world.handle.report();
    assert!(
        !report.clean && report.canary.seen == 0 && report.compared == 0,
        "two absent rows hold nothing: {report:?}"
    );
    world.both(1, 7);
    assert_eq!(read(&world, Call::Get(1)).await, Class::Match);
    let report = world.handle.report();
    assert!(report.clean, "{:?}", report.because);
    assert_eq!(
        report.canary.last_seen_seconds.map(|ago| ago.round()),
        Some(30.0)
    );
    assert_eq!(report.differences.fields, [], "it is in no sample");
    assert_eq!(
        world.handle.compared().confirmed(),
        0,
        "nor counted as a difference"
    );
    assert_eq!((world.legacy.row(1), world.new.row(1)), (Some(7), Some(7)));
    read(&world, Call::Get(1)).await;
    read(&world, Call::Get(1)).await;
    assert_eq!(world.handle.report().canary.seen, 2, "once a minute");
    assert_eq!(
        counted(&metrics, "changeover_canary_total"),
        [("seen".to_owned(), 2)]
    );
    world.new.set(1, 8);
    assert_eq!(read(&world, Call::Get(1)).await, Class::Mismatch);
    assert!(!world.handle.report().clean);
}

#[tokio::test(start_paused = true)]
async fn rules_that_leave_nothing_to_compare_are_found() {
    for rules in [
        Rules::new().equal_if("**", |_, _| true),
        Rules::new().ignore("row").ignore("at"),
    ] {
        let (world, metrics) = recorded(|builder| {
            let rows = |answer: &Answer| Some(Value::record([("row", observe(answer)?)]));
            builder.rules(rules).observe(rows)
        });
        world.both(1, 7);
        world.new.set(1, 8);
        assert_eq!(read(&world, Call::Get(1)).await, Class::Match, "blind");
        let report = world.handle.report();
        assert!(!report.clean && report.canary.blind, "{report:?}");
        assert_eq!(
            counted(&metrics, "changeover_canary_total"),
            [("missed".to_owned(), 1)]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_canary_is_seen_in_lists_by_key() {
    let world = sampled(World::with(|builder| {
        builder
            .classify(|_: &Call| Operation::list("list").routed_by("tenant").keyed_by(["id"]))
            .observe(|answer: &Answer| match answer {
                Answer::Rows(rows) => {
                    Some(Value::list(rows.iter().map(|(id, row)| {
                        Value::record([("id", *id), ("row", *row)])
                    })))
                }
                other => observe(other),
            })
    }));
    world.both(1, 7);
    world.both(2, 8);
    assert_eq!(
        read(&world, Call::List { tolerant: true }).await,
        Class::Match
    );
    assert_eq!(world.handle.report().canary.seen, 1);
    assert!(world.handle.report().clean);
}

#[tokio::test(start_paused = true)]
async fn errors_that_have_a_name_are_compared_and_never_match() {
    let named = || {
        sampled(World::with(|builder| {
            builder.error_class(|error: &Error| match error {
                Error::Constraint => Some("constraint"),
                _ => None,
            })
        }))
    };
    let cases = [
        (Fault::Refuses, Fault::Refuses, Class::ErrorsAlike),
        (Fault::Refuses, Fault::None, Class::ErrorsDiffer),
        (Fault::None, Fault::Refuses, Class::ErrorsDiffer),
        (
            Fault::AppliesAndLosesTheAnswer,
            Fault::Refuses,
            Class::ErrorInBoth,
        ),
        (Fault::Refuses, Fault::Hangs, Class::Timeout),
        (Fault::Refuses, Fault::Panics, Class::ErrorInBoth),
    ];
    for (legacy, new, class) in cases {
        let world = named();
        world.both(1, 7);
        world.legacy.fails(legacy);
        world.new.fails(new);
        let found = read(&world, Call::Get(1)).await;
        assert_eq!(found, class, "{legacy:?} {new:?}");
        assert_eq!(world.handle.compared().of(Class::Match), 0);
        let differ = class == Class::ErrorsDiffer;
        assert_eq!(world.handle.compared().confirmed(), u64::from(differ));
        assert!(!world.handle.report().clean);
        if differ {
            let sample = world.handle.samples().fields[0].kept[0].to_string();
            assert!(
                sample.contains("error constraint") && sample.contains("answered"),
                "{sample}"
            );
        }
    }
    let world = sampled(World::new());
    world.legacy.fails(Fault::Refuses);
    world.new.fails(Fault::Refuses);
    assert_eq!(
        read(&world, Call::Get(1)).await,
        Class::ErrorInBoth,
        "without a name"
    );
}

#[tokio::test(start_paused = true)]
async fn an_empty_or_unreachable_new_side_never_reads_as_a_match() {
    let generous = || {
        Rules::new()
            .null_is_absent("**")
            .unordered("**")
            .fold_case("**")
            .fold_space("**")
            .tolerate("**", Tolerance::Absolute(1e300))
            .equal_if("**", |_, _| true)
    };
    let faults = [
        Fault::None,
        Fault::Refuses,
        Fault::Panics,
        Fault::Hangs,
        Fault::NeverReady,
        Fault::Slow(Duration::from_secs(10)),
    ];
    for (fault, named) in faults
        .into_iter()
        .flat_map(|fault| [(fault, false), (fault, true)])
    {
        let world = sampled(World::with(|builder| {
            builder
                .rules(generous())
                .error_class(move |_| named.then_some("any"))
                .control(Percent::HUNDRED)
        }));
        world.legacy.set(1, 7);
        world.new.fails(fault);
        // Rows that legacy has, and one that it has not; then it has none either.
        let list = || Call::List { tolerant: false };
        let calls = [Call::Get(1), Call::Get(1), Call::Get(2), list(), list()];
        for call in calls {
            let class = read(&world, call.clone()).await;
            assert_ne!(class, Class::Match, "{fault:?} {named} {call:?}");
        }
        world.legacy.remove(1);
        for call in [Call::Get(1), list()] {
            let class = read(&world, call.clone()).await;
            let neither = fault == Fault::None;
            assert_eq!(class == Class::Neither, neither, "{fault:?} {call:?}");
            assert_ne!(class, Class::Match, "{fault:?} {named} {call:?}");
        }
        let report = world.handle.report();
        assert!(
            !report.clean && report.canary.seen == 0 && report.compared == report.confirmed,
            "{fault:?}: {report:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_applications_sink_is_told_each_read_once_and_may_panic() {
    type Told = (String, Class, usize, [Option<Duration>; 2]);
    let told: Arc<Mutex<Vec<Told>>> = Arc::default();
    let sink = Arc::clone(&told);
    let world = sampled(World::with(|builder| {
        builder
            .control(Percent::HUNDRED)
            .report(move |compared: &Compared<'_>| {
                let mut told = sink.lock().unwrap();
                told.push((
                    compared.operation.to_owned(),
                    compared.class,
                    compared.evidence.len(),
                    [compared.legacy, compared.new],
                ));
                drop(told);
                std::panic::resume_unwind(Box::new("the sink panics"));
            })
    }));
    world.both(1, 7);
    world.new.fails(Fault::Slow(STEP * 20));
    read(&world, Call::Get(1)).await;
    world.new.set(1, 8);
    read(&world, Call::Get(1)).await;
    world.new.fails(Fault::Refuses);
    read(&world, Call::Get(1)).await;
    let took = [Some(STEP * 2), Some(STEP * 22)];
    let get = |class, pieces| ("get".to_owned(), class, pieces, took);
    assert_eq!(
        *told.lock().unwrap(),
        [
            get(Class::Match, 0),
            get(Class::Mismatch, 1),
            (
                "get".to_owned(),
                Class::ErrorInNew,
                0,
                [took[0], Some(STEP)]
            ),
        ]
    );
    assert_eq!(world.handle.compared().of(Class::Abandoned), 0);
    let report = world.handle.report();
    assert_eq!((report.legacy.count, report.new.count), (3, 3));
    assert_eq!(report.noise.controls, 2, "what comes after it is done");
    assert!(report.legacy.p50_ms >= Some(2.0) && report.legacy.p50_ms < Some(2.3));
    assert!(report.new.p50_ms >= Some(22.0) && report.new.p50_ms < Some(25.0));
}

/// Writes down everything that is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl tracing::field::Visit for Log {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0
            .lock()
            .unwrap()
            .push_str(&format!("{field}={value:?} "));
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        span.record(&mut self.clone());
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        values.record(&mut self.clone());
    }
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// Every text that leaves the layer while rows with secrets in them differ in every way.
async fn outputs(redaction: Redaction) -> Vec<(&'static str, String)> {
    let log = Log::default();
    let _logging = tracing::subscriber::set_default(log.clone());
    let told = Log::default();
    let sink = told.clone();
    let secrets = |answer: &Answer| {
        let row = observe(answer)?;
        let text = format!("SECRET{row:?}");
        Some(Value::record([
            ("text", Value::from(text.as_str())),
            ("list", Value::list([text.as_str()])),
            ("number", Value::Decimal("5550001234".to_owned())),
            ("raw", row),
        ]))
    };
    let (world, metrics) = recorded(|builder| {
        builder
            .observe(secrets)
            .rules(
                Rules::new()
                    .unordered("list")
                    .equal_if("number", |_, _| true),
            )
            .redaction(redaction)
            .control(Percent::HUNDRED)
            .report(move |compared: &Compared<'_>| {
                sink.0
                    .lock()
                    .unwrap()
                    .push_str(&format!("{compared:?}{compared:#?}"));
            })
    });
    const KEY: i64 = 424_242;
    world.both(KEY, 7_770_007);
    read(&world, Call::Get(KEY)).await;
    for new in [Some(7_770_008), None] {
        match new {
            Some(row) => world.new.set(KEY, row),
            None => world.new.remove(KEY),
        }
        read(&world, Call::Get(KEY)).await;
        read(&world, Call::List { tolerant: true }).await;
    }
    // A copy that fails with what it was about to write, and one that is left with it.
    for fault in [Fault::Refuses, Fault::Leaves] {
        world.port.fails(fault);
        world.call(Call::Put(KEY, 7_770_009)).await.unwrap();
        rest().await;
    }
    assert!(world.handle.compared().confirmed() > 2);
    let report = world.handle.report();
    let labels = metrics.snapshot().into_vec();
    let labels: String = labels.iter().map(|(key, ..)| format!("{key:?}")).collect();
    assert!(labels.contains("changeover_canary_total") && report.canary.seen > 0);
    let logged = log.0.lock().unwrap().clone();
    assert!(
        logged.matches("copy left to the worker").count() >= 2,
        "{logged}"
    );
    vec![
        ("debug of the report", format!("{report:?}{report:#?}")),
        ("json", report.json()),
        ("markdown", report.markdown()),
        ("samples", format!("{:?}", world.handle.samples())),
        ("sink", told.0.lock().unwrap().clone()),
        ("labels", labels),
        ("log", logged),
        ("handle", format!("{:?}", world.handle)),
    ]
}

#[tokio::test(start_paused = true)]
async fn no_output_shows_what_was_compared() {
    let planted = ["SECRET", "777000", "555000", "424242"];
    for (output, text) in outputs(Redaction::new()).await {
        for secret in planted {
            assert!(!text.contains(secret), "{output} shows {secret}: {text}");
        }
    }
    let shown = outputs(Redaction::new().show("**").show_keys()).await;
    for (output, text) in &shown[..5] {
        assert!(
            text.contains("SECRET"),
            "a blind test proves nothing: {output} {text}"
        );
        assert!(text.contains("424242"), "{output}");
    }
}
