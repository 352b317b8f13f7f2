use changeover_flags::Key;

use super::*;
use crate::memory::{Fault, Memory, Op, key};
use crate::pace::{Limit, Pacing, RowsPerSecond};
use crate::store::HoldKind;

fn options(page: u32) -> BackfillOptions {
    BackfillOptions {
        page,
        seed: 1,
        ..BackfillOptions::default()
    }
}

fn fixed(rows: u32) -> Pacing {
    Pacing {
        rows_per_second: RowsPerSecond::new(rows),
        ..Pacing::default()
    }
}

fn history(rows: i64) -> Memory {
    let memory = Memory::default();
    (1..=rows).for_each(|id| memory.history(id, "row"));
    memory
}

#[tokio::test(start_paused = true)]
async fn history_arrives_and_a_second_run_has_nothing_to_do() -> Result<(), StoreError> {
    let memory = history(25);
    let backfill = Backfill::new(memory.copier(), options(10));
    let mut pages = Vec::new();
    let progress = backfill.run(|progress| pages.push(progress.passed)).await?;
    assert_eq!(pages, [10, 20, 25]);
    assert!(progress.done && progress.passed == 25 && progress.estimate == 25);
    assert!(memory.agrees() && memory.dirty_ids().is_empty());
    memory.state().log.clear();
    assert!(backfill.run(|_| ()).await?.done);
    assert!(!memory.state().log.contains(&Op::Page));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_page_of_held_keys_does_not_end_it_and_is_held_before_it_is_passed()
-> Result<(), StoreError> {
    let memory = history(6);
    for (id, text) in [(3, "unmappable"), (4, "refused")] {
        memory.history(id, text);
    }
    let backfill = Backfill::new(memory.copier(), options(2));
    let progress = backfill.run(|progress| {
        let cursor = memory.state().cursor.clone();
        let trails = cursor.passed < progress.passed || progress.done;
        assert!(
            trails || cursor.last == Some(key(4)),
            "it trails by one page, but for one that held keys"
        );
        if cursor.last >= Some(key(4)) {
            assert!(memory.hold_of(3).is_some() && memory.hold_of(4).is_some());
        }
    });
    let progress = progress.await?;
    assert_eq!((progress.passed, progress.held), (6, 2));
    assert_eq!(memory.dirty_ids(), [key(3), key(4)]);
    assert_eq!(memory.hold_of(4), Some(HoldKind::Blocked));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_fails_keeps_the_cursor_back() {
    let memory = history(4);
    memory.history(2, "refused");
    memory.fault(Op::Hold, Fault::Refused);
    let backfill = Backfill::new(memory.copier(), options(2));
    assert!(backfill.run(|_| ()).await.is_err());
    assert_eq!(memory.state().cursor, Cursor::default());
}

#[tokio::test(start_paused = true)]
async fn it_resumes_where_it_was_dropped() -> Result<(), StoreError> {
    let memory = history(40);
    let slow = BackfillOptions {
        pacing: fixed(10),
        ..options(10)
    };
    let backfill = Backfill::new(memory.copier(), slow);
    let within = Duration::from_millis(1_500);
    assert!(
        tokio::time::timeout(within, backfill.run(|_| ()))
            .await
            .is_err()
    );
    assert_eq!(memory.state().cursor.last, Some(key(10)));
    memory.state().log.clear();
    backfill.control().set_rate(None);
    assert_eq!(backfill.run(|_| ()).await?.passed, 40);
    let pages = memory
        .state()
        .log
        .iter()
        .filter(|op| **op == Op::Page)
        .count();
    assert_eq!(pages, 4, "from the second page on, and the empty one");
    assert!(memory.agrees());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_rate_holds_and_a_pause_stops_it() -> Result<(), StoreError> {
    let memory = history(100);
    let paced = BackfillOptions {
        pacing: fixed(20),
        ..options(10)
    };
    let backfill = Backfill::new(memory.copier(), paced);
    let control = backfill.control();
    let begun = Instant::now();
    let pausing = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        control.pause();
        assert!(control.is_paused());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(memory.state().cursor.passed < 60);
        control.resume();
    };
    let (progress, ()) = tokio::join!(backfill.run(|_| ()), pausing);
    assert!(progress?.done);
    let took = begun.elapsed().as_secs_f64();
    assert!((64.0..=67.0).contains(&took), "{took}");
    Ok(())
}

/// What holds it back is over when what failed has an answer, and not with the next page.
#[tokio::test(start_paused = true)]
async fn a_failure_that_is_over_holds_nothing_back() -> Result<(), StoreError> {
    let memory = history(4);
    memory.fault(Op::SaveCursor, Fault::Lost);
    let copies = BackfillOptions {
        load: false,
        ..options(2)
    };
    let mut told = Vec::new();
    let backfill = Backfill::new(memory.copier(), copies);
    let swept = backfill
        .run(|progress| {
            let label = progress.held_back_by.as_ref().map(Reason::label);
            let copied = memory.state().log.contains(&Op::Apply);
            told.push((label.map(str::to_owned), copied));
        })
        .await?;
    assert!(swept.done && memory.state().faults.is_empty());
    let failed = told
        .iter()
        .position(|(label, _)| label.as_deref() == Some("failure"));
    let failed = failed.expect("the failure is told");
    assert_eq!(told.get(failed + 1), Some(&(None, false)), "{told:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn failures_are_tried_again_until_the_limit() -> Result<(), StoreError> {
    let memory = history(4);
    for op in [Op::Page, Op::Apply, Op::Apply, Op::SaveCursor] {
        memory.fault(op, Fault::AnswerLost);
    }
    assert!(
        Backfill::new(memory.copier(), options(2))
            .run(|_| ())
            .await?
            .done
    );
    assert!(memory.agrees() && memory.state().faults.is_empty());

    let memory = history(4);
    (0..3).for_each(|_| memory.fault(Op::Page, Fault::Lost));
    let limited = BackfillOptions {
        attempts: Some(3),
        ..options(2)
    };
    assert!(
        Backfill::new(memory.copier(), limited)
            .run(|_| ())
            .await
            .is_err()
    );
    assert!(memory.state().faults.is_empty());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_load_has_larger_pages_than_copies_and_no_more_than_a_quarter_of_a_second() {
    let memory = history(1);
    let asks = |page: u32, load_page: Option<u32>, rate: u32| {
        let options = BackfillOptions {
            load_page,
            pacing: fixed(rate),
            ..options(page)
        };
        let backfill = Backfill::new(memory.copier(), options);
        (backfill.asks(false), backfill.asks(true))
    };
    assert_eq!(asks(10, None, 0), (10, 40));
    assert_eq!(asks(10, Some(25), 0), (10, 25));
    assert_eq!(asks(10, Some(3), 0), (10, 3));
    assert_eq!(asks(10, None, 120), (10, 30));
    assert_eq!(asks(10, None, 20), (10, 10));
    assert_eq!(asks(10, Some(3), 20), (10, 3));
}

#[tokio::test(start_paused = true)]
async fn a_page_below_the_base_is_not_passed() -> Result<(), StoreError> {
    let memory = history(4);
    let base = changeover_flags::Version::base(1);
    memory.state().follower_base = base;
    let backfill = Backfill::new(memory.copier(), options(2));
    let raise = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(memory.state().cursor.passed, 0);
        memory.state().base = base;
    };
    let (progress, ()) = tokio::join!(backfill.run(|_| ()), raise);
    assert!(progress?.done && memory.agrees());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_signal_holds_it_back_with_its_reason_and_whoever_stops_it_does_not_wait()
-> Result<(), StoreError> {
    let memory = history(30);
    let full = std::sync::atomic::AtomicBool::new(false);
    let full = Arc::new(full);
    let disk = {
        let full = Arc::clone(&full);
        move || {
            let full = full.load(std::sync::atomic::Ordering::SeqCst);
            async move { Ok(if full { 95.0 } else { 20.0 }) }
        }
    };
    let limit = Limit {
        most: 90.0,
        older_than: Duration::from_secs(5),
    };
    let signals = Signals::default().watch("disk", disk, limit, Duration::from_secs(1));
    let paced = BackfillOptions {
        pacing: fixed(5),
        ..options(10)
    };
    let backfill = Backfill::new(memory.copier(), paced).with_signals(signals);
    let control = backfill.control();
    let mut said = Vec::new();
    let mut run = Box::pin(backfill.run(|progress| {
        let why = progress.held_back_by.map(|reason| reason.to_string());
        said.push((progress.passed, why));
        full.store(progress.passed >= 20, std::sync::atomic::Ordering::SeqCst);
    }));
    let hours = tokio::time::timeout(Duration::from_secs(7_200), &mut run).await;
    assert!(hours.is_err(), "it is held back");
    let why = control.held_back_by().map(|reason| reason.to_string());
    let above = "signal disk is 95, above its limit 90";
    assert_eq!(why.as_deref(), Some(above));
    let stopped = Instant::now();
    drop(run);
    assert_eq!(Instant::now(), stopped);
    let rate = Some("its rate, 5 rows per second".to_owned());
    assert!(
        said.contains(&(10, rate)),
        "a wait of two seconds is told: {said:?}"
    );
    assert_eq!(said.last(), Some(&(20, Some(above.into()))));

    full.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(backfill.run(|_| ()).await?.passed, 30);
    assert!(memory.agrees());
    Ok(())
}

#[test]
fn what_holds_it_back_is_counted_by_reason_also_when_it_is_dropped() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of this thread");
    let gauges = || {
        let series = snapshotter.snapshot().into_vec();
        let told = series.into_iter().filter_map(|(key, _, _, value)| {
            let (_, key) = key.into_parts();
            let reason = key.labels().find(|label| label.key() == "reason")?;
            let DebugValue::Gauge(value) = value else {
                return None;
            };
            let name = key.name().trim_start_matches("changeover_throttle_");
            (value.0 != 0.0).then(|| format!("{name} {} {}", reason.value(), value.0))
        });
        told.collect::<std::collections::BTreeSet<String>>()
    };
    metrics::with_local_recorder(&recorder, || {
        let memory = history(40);
        let never = std::future::pending::<Result<f64, crate::pace::SignalError>>;
        let limit = Limit {
            most: 1.0,
            older_than: Duration::from_secs(9),
        };
        let signals = Signals::default().watch("hung", never, limit, Duration::from_secs(1));
        let backfill = Backfill::new(memory.copier(), options(10)).with_signals(signals);
        runtime.block_on(async {
            let mut told = Vec::new();
            let mut run = Box::pin(backfill.run(|progress| told.extend(progress.held_back_by)));
            let within = Duration::from_secs(60);
            assert!(tokio::time::timeout(within, &mut run).await.is_err());
            // A snapshot takes away what it tells.
            let held = ["held hung 1", "wait_seconds_total hung 54"];
            assert_eq!(Vec::from_iter(gauges()), held);
            drop(run);
            let after = ["held hung -1", "wait_seconds_total hung 6"];
            assert_eq!(Vec::from_iter(gauges()), after);
            let silent = told.first().map(ToString::to_string);
            assert_eq!(silent.as_deref(), Some("signal hung has not answered yet"));
        });
    });
}

#[tokio::test(start_paused = true)]
async fn a_range_is_swept_to_its_end_and_from_there_when_it_has_another() -> Result<(), StoreError>
{
    let memory = history(25);
    let copies = BackfillOptions {
        load: false,
        ..options(3)
    };
    let backfill = Backfill::new(memory.copier(), copies);
    let control = backfill.control();
    control.set_upto(Some(key(12)));
    let ranges = std::sync::Mutex::new(Vec::new());
    let last = std::sync::Mutex::new(None);
    let sweep = backfill.run(|progress| {
        let before = std::mem::replace(&mut *last.lock().unwrap(), progress.held_back_by.clone());
        if let Some(Reason::Range(key)) = progress.held_back_by {
            assert!(!progress.done && before.is_none(), "it is said once");
            ranges.lock().unwrap().push((key, progress.passed));
        }
    });
    let change = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(memory.state().cursor.last, Some(key(12)), "it is kept");
        assert_eq!(control.held_back_by(), Some(Reason::Range(key(12))));
        // Between two keys, before what was passed, and behind the last one that is there.
        control.set_upto(Some(Key::new("00155")));
        tokio::time::sleep(Duration::from_secs(60)).await;
        control.set_upto(Some(key(10)));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(memory.state().cursor.last, Some(key(15)));
        // Nearer while it is on its way: a page of three takes three seconds.
        control.set_rate(RowsPerSecond::new(1));
        control.set_upto(Some(Key::new("99")));
        tokio::time::sleep(Duration::from_secs(1)).await;
        control.set_upto(Some(key(17)));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(memory.state().cursor.last, Some(key(18)));
        control.set_upto(None);
    };
    let (swept, ()) = tokio::join!(sweep, change);
    let swept = swept?;
    assert!(
        swept.done && (swept.passed, swept.rows) == (25, 25),
        "{swept:?}"
    );
    let held = control.held_back_by();
    assert!(!matches!(held, Some(Reason::Range(_))), "{held:?}");
    let ranges = ranges.into_inner().unwrap();
    let expected = [
        (key(12), 12),
        (Key::new("00155"), 15),
        (key(10), 15),
        (key(17), 18),
    ];
    assert_eq!(ranges, expected);
    assert!(memory.agrees());
    Ok(())
}
