use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::memory::{Fault, Memory, Op, key, watching};
use crate::pace::{Pacing, RowsPerSecond};

fn options() -> DrainOptions {
    DrainOptions {
        batch: 2,
        concurrency: 2,
        seed: 1,
        ..DrainOptions::default()
    }
}

fn dirty(rows: i64) -> Memory {
    let memory = Memory::default();
    (1..=rows).for_each(|id| memory.write(id, "row"));
    memory
}

#[tokio::test(start_paused = true)]
async fn a_pass_reaches_every_key_behind_held_ones() -> Result<(), StoreError> {
    let memory = dirty(11);
    (1..=8).for_each(|id| memory.write(id, "refused"));
    let drain = Drain::new(memory.copier(), options());
    let report = drain.once().await?;
    assert_eq!((report.seen, report.copied, report.left), (11, 3, 8));
    assert_eq!(memory.dirty_ids().len(), 8);
    assert_eq!(report.samples.len(), 8);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn one_unreadable_key_does_not_cost_its_batch() -> Result<(), StoreError> {
    let memory = dirty(6);
    memory.state().unreadable.insert(key(3));
    let report = Drain::new(memory.copier(), options()).once().await?;
    assert_eq!((report.copied, report.failed), (5, 1));
    assert_eq!(memory.dirty_ids(), [key(3)]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn it_runs_through_failures_and_stops_when_told() {
    let memory = dirty(9);
    for op in [Op::Dirty, Op::Apply, Op::Mark, Op::Lag] {
        memory.fault(op, Fault::AnswerLost);
    }
    let drain = Drain::new(memory.copier(), options());
    drain.run(tokio::time::sleep(Duration::from_secs(60))).await;
    assert!(memory.agrees() && memory.dirty_ids().is_empty());
    assert!(memory.state().faults.is_empty());
}

#[tokio::test(start_paused = true)]
async fn clean_within_a_limit_or_an_honest_count() -> Result<(), StoreError> {
    let memory = dirty(5);
    let drain = Drain::new(memory.copier(), options());
    assert_eq!(drain.until_clean(None).await?, Lag::default());
    memory.write(3, "orphan");
    let lag = drain.until_clean(Some(Duration::from_secs(5))).await?;
    assert_eq!(
        lag,
        Lag {
            dirty: 1,
            waiting: 1,
            blocked: 0
        }
    );
    let arrives = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        memory.state().parent = true;
    };
    let (lag, ()) = tokio::join!(drain.until_clean(None), arrives);
    assert_eq!(lag?.dirty, 0);
    assert!(memory.agrees());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn blocked_keys_are_retried_rarely_and_waiting_ones_sooner() {
    let memory = dirty(0);
    memory.write(1, "refused");
    let drain = Drain::new(memory.copier(), options());
    drain
        .run(tokio::time::sleep(Duration::from_secs(100)))
        .await;
    let tried = |memory: &Memory| {
        memory
            .state()
            .log
            .iter()
            .filter(|op| **op == Op::Apply)
            .count()
    };
    let blocked = tried(&memory);
    assert!((3..=6).contains(&blocked), "{blocked}");
    memory.write(1, "orphan");
    drain
        .run(tokio::time::sleep(Duration::from_secs(100)))
        .await;
    let waiting = tried(&memory) - blocked;
    assert!((60..=110).contains(&waiting), "{waiting}");
}

#[tokio::test(start_paused = true)]
async fn a_paused_drain_copies_nothing() {
    let memory = dirty(3);
    let drain = Drain::new(memory.copier(), options());
    drain.pause();
    drain
        .clone()
        .run(tokio::time::sleep(Duration::from_secs(60)))
        .await;
    assert_eq!(memory.dirty_ids().len(), 3);
    drain.resume();
    assert!(!drain.is_paused());
    drain.run(tokio::time::sleep(Duration::from_secs(1))).await;
    assert!(memory.dirty_ids().is_empty());
}

#[tokio::test(start_paused = true)]
async fn it_keeps_its_pace_and_stops_for_signals() -> Result<(), StoreError> {
    let memory = dirty(40);
    let paced = DrainOptions {
        pacing: Pacing {
            rows_per_second: RowsPerSecond::new(2),
            ..Pacing::UNLIMITED
        },
        ..options()
    };
    let began = Instant::now();
    let report = Drain::new(memory.copier(), paced).once().await?;
    let took = began.elapsed().as_secs();
    assert!(report.copied == 40 && (17..22).contains(&took), "{took}");

    memory.write(1, "again");
    let level = Arc::new(AtomicU64::new(9));
    let signals = watching(&level);
    let drain = Drain::new(memory.copier(), options()).with_signals(signals);
    let lag = drain.until_clean(Some(Duration::from_secs(60))).await?;
    assert_eq!(lag.dirty, u64::MAX, "a pass ended while it was held back");
    let mut events = Vec::new();
    let until = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        level.store(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(5)).await;
    };
    drain.run_telling(until, |event| events.push(event)).await;
    assert!(memory.agrees() && memory.dirty_ids().is_empty());
    let is_load = |event: &DrainEvent| matches!(event, DrainEvent::Held(Some(why)) if why.to_string() == "signal load is 9, above its limit 5");
    let held = events.iter().position(is_load);
    let freed = events
        .iter()
        .position(|event| matches!(event, DrainEvent::Held(None)));
    let passed = events
        .iter()
        .position(|event| matches!(event, DrainEvent::Passed));
    assert!(
        held.is_some() && held < freed && freed < passed,
        "{events:?}"
    );
    Ok(())
}
