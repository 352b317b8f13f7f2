use std::collections::BTreeMap;
use std::time::Duration;

use changeover_flags::{Entity, Epoch, Flags, Percent, Place};
use changeover_proxy::{Changeover, Handle, Limits, Operation, Refused};
use changeover_shadow::Value;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tower::util::BoxCloneService;
use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};

type Store = BoxCloneService<i64, Option<i64>, Refused>;

const CALLS: usize = 1_600;

/// Two stores that answer after `wait`, which is a while, or at once.
struct Timed {
    flags: Flags,
    service: Store,
    handle: Handle,
    metrics: Snapshotter,
}

impl Timed {
    fn new(wait: Duration, time_one_in: u32, deadline: Option<Duration>) -> Timed {
        let store = || -> Store {
            BoxCloneService::new(service_fn(move |id: i64| async move {
                if !wait.is_zero() {
                    tokio::time::sleep(wait).await;
                }
                Ok(Some(id))
            }))
        };
        let flags = Flags::memory(Entity::new("rows").unwrap());
        let limits = Limits {
            time_one_in,
            shadows: CALLS,
            ..Limits::default()
        };
        let builder = Changeover::builder(flags.clone())
            .classify(move |id: &i64| match deadline {
                Some(deadline) => Operation::read("get", *id).within(deadline),
                None => Operation::read("get", *id),
            })
            .operations(["get"])
            .observe(|row: &Option<i64>| row.map(Value::from))
            .limits(limits)
            .new_service(store());
        let recorder = DebuggingRecorder::new();
        let layer = metrics::with_local_recorder(&recorder, || builder.build().unwrap());
        flags.learn(&Epoch::READY).unwrap();
        Timed {
            flags,
            handle: layer.handle(),
            service: BoxCloneService::new(layer.layer(store())),
            metrics: recorder.snapshotter(),
        }
    }

    async fn reads(&mut self) {
        for id in 0..CALLS as i64 {
            let service = self.service.ready().await.unwrap();
            assert_eq!(service.call(id).await, Ok(Some(id)));
        }
    }

    /// How long reads took, in milliseconds, by what was timed; and how many were counted.
    fn told(&self) -> (BTreeMap<String, Vec<u64>>, u64) {
        let (mut took, mut counted) = (BTreeMap::<String, Vec<u64>>::new(), 0);
        for (key, _, _, value) in self.metrics.snapshot().into_vec() {
            match value {
                DebugValue::Histogram(values) => {
                    let name = key.key().name().trim_start_matches("changeover_");
                    let millis = values.iter().map(|took| (took.into_inner() * 1e3) as u64);
                    took.entry(name.to_owned()).or_default().extend(millis);
                }
                DebugValue::Counter(count) if key.key().name() == "changeover_calls_total" => {
                    counted += count;
                }
                _ => {}
            }
        }
        (took, counted)
    }
}

const OF_ALL: [&str; 2] = ["call_duration_seconds", "store_call_duration_seconds"];

#[tokio::test(start_paused = true)]
async fn of_reads_that_are_answered_at_once_one_in_sixteen_is_timed_and_stands_for_all() {
    for percent in [Percent::ZERO, Percent::HUNDRED] {
        let mut timed = Timed::new(Duration::ZERO, Limits::default().time_one_in, None);
        timed.flags.set_read_new(percent).unwrap();
        timed.reads().await;
        let (took, counted) = timed.told();
        assert_eq!(counted, CALLS as u64, "all are counted");
        let cohorts = timed.handle.cohorts();
        let (legacy, new) = (cohorts.legacy, cohorts.new);
        assert_eq!(legacy.ok + new.ok, CALLS as u64);
        let near = |count: usize| count.is_multiple_of(16) && count.abs_diff(CALLS) <= 3 * 16;
        assert!(near((legacy.took.count + new.took.count) as usize));
        for name in OF_ALL.into_iter().chain(["read_duration_seconds"]) {
            assert!(near(took[name].len()), "{name}: {}", took[name].len());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_waits_is_timed_whoever_answers_it() {
    let wait = Duration::from_millis(7);
    for percent in [Percent::ZERO, Percent::HUNDRED] {
        for time_one_in in [1, 16, u32::MAX] {
            let mut timed = Timed::new(wait, time_one_in, None);
            timed.flags.set_read_new(percent).unwrap();
            timed.reads().await;
            let (took, _) = timed.told();
            for name in OF_ALL.into_iter().chain(["read_duration_seconds"]) {
                assert_eq!(took[name], [7; CALLS], "{name}, one in {time_one_in}");
            }
        }
    }
}

/// Those that are answered at once, for so many; and those that wait, all.
#[tokio::test(start_paused = true)]
async fn a_read_that_is_compared_is_timed_as_any_other_and_the_other_side_always() {
    let near = |count: u64| count.is_multiple_of(16) && count.abs_diff(CALLS as u64) <= 3 * 16;
    for (percent, wait) in [
        (Percent::ZERO, 0),
        (Percent::HUNDRED, 0),
        (Percent::ZERO, 7),
        (Percent::HUNDRED, 7),
    ] {
        let wait = Duration::from_millis(wait);
        let mut timed = Timed::new(wait, Limits::default().time_one_in, None);
        timed.flags.set_read_new(percent).unwrap();
        timed.flags.set_sample(Percent::HUNDRED).unwrap();
        timed.reads().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(timed.handle.compared().compared(), CALLS as u64);
        let report = timed.handle.report();
        let (answering, other) = match percent {
            Percent::ZERO => (report.legacy.count, report.new.count),
            _ => (report.new.count, report.legacy.count),
        };
        assert_eq!(other, CALLS as u64);
        match wait.is_zero() {
            true => assert!(near(answering), "{answering}"),
            false => assert_eq!(answering, CALLS as u64),
        }
        assert!(near(timed.told().0[OF_ALL[0]].len() as u64));
    }
}

/// What the follower gets of a deadline depends on when the call began, not on when it waited.
#[tokio::test(start_paused = true)]
async fn a_deadline_is_counted_from_the_call() {
    let deadline = Duration::from_millis(100);
    let mut timed = Timed::new(Duration::from_secs(9), u32::MAX, Some(deadline));
    timed.flags.set_read_new(Percent::HUNDRED).unwrap();
    let kept = timed.service.ready().await.unwrap().call(1);
    tokio::time::sleep(Duration::from_millis(60)).await;
    let began = tokio::time::Instant::now();
    kept.await.unwrap();
    let waited = began.elapsed() - Duration::from_secs(9);
    assert_eq!(waited.as_millis(), 20, "half of what was left");
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_copied_reads_are_timed_alike() {
    let mut timed = Timed::new(Duration::ZERO, 1, None);
    let legacy_alone = Epoch {
        number: 2,
        authority: Place::Legacy,
        copying: false,
        ..Epoch::READY
    };
    timed.flags.learn(&legacy_alone).unwrap();
    timed.reads().await;
    let (took, counted) = timed.told();
    assert_eq!(counted, CALLS as u64);
    for name in OF_ALL {
        assert_eq!(took[name].len(), CALLS, "1 times all: {name}");
    }
}
