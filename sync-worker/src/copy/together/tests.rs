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
    // Four at once and alone, and of the others a hundred at a time.
    assert_eq!(copies(&memory), 4 + 3);
    clean(&memory);
    memory.write(1, "again");
    assert_eq!(together.copy(&[key(1)]).await.unwrap(), []);
    assert_eq!(copies(&memory), 8, "nobody waits for company");
}

/// As many calls as there are lanes, which never end.
async fn hung<'a>(memory: &Memory, together: &'a Together) -> Vec<Copying<'a>> {
    let mut hung = Vec::new();
    for id in 1..=Together::LANES as i64 {
        memory.fault(Op::Read, Fault::Hangs);
        hung.push(begun(together, id).await);
    }
    hung
}

#[tokio::test]
async fn who_leads_may_go_and_the_others_are_served_alone() {
    let (memory, together) = written(1..=8);
    let mut hung = hung(&memory, &together).await;
    let (five, gone, seven) = (
        begun(&together, 5).await,
        begun(&together, 6).await,
        begun(&together, 7).await,
    );
    let mut leads = begun(&together, 8).await;
    drop(gone);
    memory.fault(Op::Read, Fault::Hangs);
    hung.pop();
    // Who came last leads the other two, and hangs as well.
    assert!((&mut leads).now_or_never().is_none());
    assert_eq!(copies(&memory), 4 + 1);
    drop(leads);
    drop(hung);
    let (five, seven) = tokio::join!(five, seven);
    assert_eq!((five.unwrap(), seven.unwrap()), (vec![], vec![]));
    assert_eq!(copies(&memory), 4 + 1 + 2);
    assert_eq!(memory.dirty_ids(), [1, 2, 3, 4, 6, 8].map(key));
    assert!(lock(&together.shared).is_empty());
}

#[tokio::test]
async fn the_right_to_lead_is_not_lost_with_who_was_given_it() {
    let (memory, together) = written(1..=6);
    let mut hung = hung(&memory, &together).await;
    let (five, six) = (begun(&together, 5).await, begun(&together, 6).await);
    hung.pop();
    // Told to lead, and never polled again.
    drop(six);
    assert_eq!(five.await.unwrap(), []);
    drop(hung);
    assert!(lock(&together.shared).is_empty());
}

#[tokio::test]
async fn what_may_be_one_keys_fault_is_tried_alone_and_a_lost_connection_is_everybodys() {
    for (fault, alone) in [
        (Fault::Refused, true),
        (Fault::Busy, true),
        (Fault::Lost, false),
    ] {
        let (memory, together) = written(1..=8);
        let hung = hung(&memory, &together).await;
        let mut asks = Vec::new();
        for id in 5..=8 {
            asks.push(begun(&together, id).await);
        }
        memory.fault(Op::Apply, fault);
        drop(hung);
        let answers = join_all(asks).await;
        assert!(
            answers.iter().all(|answer| answer.is_ok() == alone),
            "{answers:?}"
        );
        let expected = if alone { 4 + 1 + 4 } else { 4 + 1 };
        assert_eq!(copies(&memory), expected, "{fault:?}");
    }
}

#[tokio::test]
async fn what_is_left_is_told_to_whom_it_concerns() {
    let (memory, together) = written(1..=7);
    memory.write(5, "refused");
    // What a copy of 7 takes along is held, and was asked for by nobody.
    memory.write_unique(8, "refused", Some("same"));
    memory.write_unique(7, "row", Some("same"));
    let hung = hung(&memory, &together).await;
    let (five, six) = (begun(&together, 5).await, begun(&together, 6).await);
    let seven = begun(&together, 7).await;
    drop(hung);
    let (five, six, _) = tokio::join!(five, six, seven);
    let five = five.unwrap();
    assert!(five.len() == 1 && five[0].0 == key(5), "{five:?}");
    assert_eq!(six.unwrap(), []);
}

#[tokio::test]
async fn nothing_is_copied_for_nobody() {
    let (memory, together) = written(1..=1);
    assert_eq!(together.copy(&[]).await.unwrap(), []);
    assert_eq!(copies(&memory), 0);
}

/// A runtime that is not driven holds up nobody of another one.
#[test]
fn runtimes_do_not_wait_for_each_other() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.build().expect("a runtime of this thread")
    };
    let (one, two) = (runtime(), runtime());
    let (memory, together) = written(1..=9);
    let idle = one.block_on(hung(&memory, &together));
    let (copied, together) = (two.block_on(together.copy(&[key(9)])), &together);
    assert_eq!(copied.unwrap(), []);
    drop(idle);
    assert!(lock(&together.shared).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_comes_and_goes_leaves_nothing_behind() {
    let (memory, together) = written(1..=50);
    let calls = (0..4_000).map(|call| {
        let together = together.clone();
        tokio::spawn(async move {
            let keys = [key(1 + call % 50)];
            let copying = together.copy(&keys);
            match call % 3 {
                0 => drop(copying.now_or_never()),
                1 => tokio::select! {
                    biased;
                    _ = copying => {}
                    () = tokio::task::yield_now() => {}
                },
                _ => assert_eq!(copying.await.unwrap(), []),
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.expect("no panic");
    }
    assert!(lock(&together.shared).is_empty());
    clean(&memory);
}
