use std::future::Future;
use std::pin::Pin;

use futures_util::FutureExt as _;
use futures_util::future::join_all;

use super::*;
use crate::memory::{Fault, Memory, Op, key};

fn written(ids: std::ops::RangeInclusive<i64>) -> (Memory, Together) {
    let memory = Memory::default();
    ids.for_each(|id| memory.write(id, "row"));
    let together = Together::new(memory.copier(), CopySource::Inline);
    (memory, together)
}

type Copying<'a> = Pin<Box<dyn Future<Output = Answer> + 'a>>;

/// A call that has begun to copy, or to wait.
async fn begun(together: &Together, id: i64) -> Copying<'_> {
    let mut copying: Copying<'_> = Box::pin(async move { together.copy(&[key(id)]).await });
    assert!((&mut copying).now_or_never().is_none());
    copying
}

fn copies(memory: &Memory) -> usize {
    let state = memory.state();
    state.log.iter().filter(|op| **op == Op::Read).count()
}

fn clean(memory: &Memory) {
    assert!(memory.agrees() && memory.dirty_ids().is_empty());
}

#[tokio::test]
async fn whoever_waits_shares_the_next_copy() {
    let (memory, together) = written(1..=250);
    let all = (1..=250).map(|id| async move { (id, id) });
    let all = join_all(all).await;
    let together = &together;
    let asks = all
        .iter()
        .map(|(id, _)| async move { together.copy(&[key(*id)]).await });
    for answer in join_all(asks).await {
        assert_eq!(answer.unwrap(), []);
    }
    // Two at once and alone, and of the others a hundred at a time.
    assert_eq!(copies(&memory), 2 + 3);
    clean(&memory);
    memory.write(1, "again");
    assert_eq!(together.copy(&[key(1)]).await.unwrap(), []);
    assert_eq!(copies(&memory), 6, "nobody waits for company");
}

#[tokio::test]
async fn who_leads_may_go_and_the_others_are_served() {
    let (memory, together) = written(1..=6);
    for _ in 0..3 {
        memory.fault(Op::Read, Fault::Hangs);
    }
    let (one, two) = (begun(&together, 1).await, begun(&together, 2).await);
    let mut leads = begun(&together, 3).await;
    let (gone, four, five) = (
        begun(&together, 4).await,
        begun(&together, 5).await,
        begun(&together, 6).await,
    );
    drop(gone);
    drop(one);
    // It leads the other two, and hangs as well.
    assert!((&mut leads).now_or_never().is_none());
    assert_eq!(copies(&memory), 3);
    drop(leads);
    drop(two);
    let (four, five) = tokio::join!(four, five);
    assert_eq!((four.unwrap(), five.unwrap()), (vec![], vec![]));
    assert_eq!(memory.dirty_ids(), [1, 2, 3, 4].map(key));
    assert_eq!(lock(&together.shared).running, 0);
}

#[tokio::test]
async fn the_right_to_lead_is_not_lost_with_who_was_given_it() {
    let (memory, together) = written(1..=4);
    for _ in 0..2 {
        memory.fault(Op::Read, Fault::Hangs);
    }
    let (one, two) = (begun(&together, 1).await, begun(&together, 2).await);
    let (three, four) = (begun(&together, 3).await, begun(&together, 4).await);
    drop(one);
    // Told to lead, and never polled again.
    drop(three);
    assert_eq!(four.await.unwrap(), []);
    drop(two);
    assert_eq!(lock(&together.shared).running, 0);
}

#[tokio::test]
async fn a_refusal_is_each_ones_own_and_a_lost_connection_is_everybodys() {
    for (fault, alone) in [(Fault::Refused, true), (Fault::Lost, false)] {
        let (memory, together) = written(1..=6);
        for _ in 0..2 {
            memory.fault(Op::Read, Fault::Hangs);
        }
        let (one, two) = (begun(&together, 1).await, begun(&together, 2).await);
        let mut asks = Vec::new();
        for id in 3..=6 {
            asks.push(begun(&together, id).await);
        }
        memory.fault(Op::Apply, fault);
        drop((one, two));
        let answers = join_all(asks).await;
        assert!(
            answers.iter().all(|answer| answer.is_ok() == alone),
            "{answers:?}"
        );
        assert_eq!(copies(&memory), if alone { 2 + 1 + 4 } else { 2 + 1 });
    }
}

#[tokio::test]
async fn what_is_left_is_told_to_whom_it_concerns() {
    let (memory, together) = written(1..=4);
    memory.write(3, "refused");
    for _ in 0..2 {
        memory.fault(Op::Read, Fault::Hangs);
    }
    let (one, two) = (begun(&together, 1).await, begun(&together, 2).await);
    let (three, four) = (begun(&together, 3).await, begun(&together, 4).await);
    drop((one, two));
    let (three, four) = tokio::join!(three, four);
    let three = three.unwrap();
    assert!(three.len() == 1 && three[0].0 == key(3), "{three:?}");
    assert_eq!(four.unwrap(), []);
    assert_eq!(copies(&memory), 3);
}
