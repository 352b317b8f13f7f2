use super::*;
use crate::memory::{Fault, Memory, Op, key};
use crate::store::HoldKind;

fn options(page: u32) -> BackfillOptions {
    BackfillOptions {
        page,
        seed: 1,
        ..BackfillOptions::default()
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
        rate: RowsPerSecond::new(10),
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
        rate: RowsPerSecond::new(20),
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
