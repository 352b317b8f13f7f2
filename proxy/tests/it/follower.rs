use std::time::Duration;

use changeover_proxy::{Limits, Operation, Refused};
use changeover_shadow::Value;
use tokio::time::Instant;
use tower::{Layer as _, ServiceExt as _};

use crate::world::*;

const FAULTS: [Fault; 6] = [
    Fault::None,
    Fault::Refuses,
    Fault::Panics,
    Fault::Hangs,
    Fault::NeverReady,
    Fault::Slow(Duration::from_secs(3)),
];

/// A write's answer, its time, and the answer of a read right after.
async fn write_beside(store: Fault, copier: Fault) -> (Result<Answer, Error>, Duration, Answer) {
    let world = World::new();
    world.both(1, 0);
    world.new.fails(store);
    world.port.fails(copier);
    let began = Instant::now();
    let answer = world.call(Call::Put(1, 7)).await;
    let took = began.elapsed();
    let read = world.call(Call::Get(1)).await.unwrap();
    (answer, took, read)
}

#[tokio::test(start_paused = true)]
async fn a_write_answers_the_same_in_the_same_time_whatever_the_follower_does() {
    let expected = (Ok(Answer::Done(1)), STEP * 2, Answer::Row(Some(7)));
    for store in FAULTS {
        for copier in FAULTS {
            assert_eq!(
                write_beside(store, copier).await,
                expected,
                "{store:?} {copier:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_answers_the_same_whatever_the_follower_does_and_waits_for_a_limited_time() {
    let limit = Limits::default().follower_time;
    for fault in FAULTS {
        let world = World::new();
        world.both(1, 7);
        world.new.fails(fault);
        let began = Instant::now();
        assert_eq!(world.get(1).await, Some(7), "{fault:?}");
        assert!(
            began.elapsed() <= limit + STEP * 2,
            "{fault:?} took {:?}",
            began.elapsed()
        );
        assert_eq!(
            world.legacy.asked(),
            usize::from(fault != Fault::None),
            "{fault:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_authority_is_asked_within_the_callers_own_deadline() {
    let deadline = Duration::from_millis(40);
    let world = World::with(|builder| {
        builder.classify(move |call: &Call| match call {
            Call::Get(id) => Operation::read("get", *id).within(deadline),
            other => classify(other),
        })
    });
    world.both(1, 7);
    world.new.fails(Fault::Hangs);
    let answer = tokio::time::timeout(deadline, world.get(1)).await;
    assert_eq!(answer.expect("within the deadline"), Some(7));
}

#[tokio::test(start_paused = true)]
async fn a_read_at_the_authority_takes_no_longer_beside_a_broken_follower() {
    for fault in FAULTS {
        let world = World::new();
        world.both(1, 7);
        world.flags.kill("test").unwrap();
        world.new.fails(fault);
        let began = Instant::now();
        assert_eq!(world.get(1).await, Some(7));
        assert_eq!(
            (began.elapsed(), world.new.asked()),
            (STEP * 2, 0),
            "{fault:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_follower_does_not_find_the_authority_is_asked_for() {
    let world = World::new();
    world.legacy.set(1, 7);
    assert_eq!(world.get(1).await, Some(7));
    assert_eq!(world.get(2).await, None, "neither has it");
    assert_eq!((world.new.asked(), world.legacy.asked()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_copied_takes_the_plain_path() {
    use changeover_proxy::Builder;
    use tower::{Layer as _, ServiceExt as _};
    let world = World::new();
    world.both(1, 7);
    let layer = Builder::new(world.flags.clone(), |_: &Call| None)
        .classify(classify)
        .observe(observe)
        .new_service(world.new.clone())
        .build()
        .unwrap();
    let service = layer.layer(world.legacy.clone());
    assert_eq!(
        service.oneshot(Call::Get(1)).await,
        Ok(Answer::Row(Some(7)))
    );
    assert_eq!((world.new.asked(), world.legacy.asked()), (0, 1));
}

/// There is no timer there, and a follower may need more of a runtime than that.
#[tokio::test(start_paused = true)]
async fn outside_of_a_runtime_no_follower_is_asked() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt as _;
    use futures_util::future::ready;
    use tower::service_fn;
    for strict in [false, true] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let new = service_fn(move |id: i64| {
            count.fetch_add(1, Ordering::Relaxed);
            ready(Ok::<_, Refused>(id + 1))
        });
        let layer = changeover_proxy::Changeover::builder(World::new().flags.clone())
            .classify(|id: &i64| Operation::read("get", *id))
            .observe(|row: &i64| Some(Value::from(*row)))
            .new_service(new)
            .strict(strict)
            .build()
            .unwrap();
        let service = layer.layer(service_fn(|id: i64| ready(Ok::<_, Refused>(id))));
        let inside = service.clone().oneshot(7);
        let outside = std::thread::spawn(|| service.oneshot(7).now_or_never()).join();
        let outside = outside.unwrap().expect("it does not wait").unwrap();
        assert_eq!((outside, asked.load(Ordering::Relaxed)), (7, 0));
        if !strict {
            assert_eq!(inside.await.unwrap(), 8);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_panics_before_it_has_a_future_is_asked_in_vain() {
    let world = World::new();
    world.both(1, 7);
    let broken = tower::service_fn(|_: Call| -> std::future::Ready<Result<Answer, Error>> {
        panic!("at the call itself")
    });
    let layer = changeover_proxy::Changeover::builder(world.flags.clone())
        .classify(classify)
        .observe(observe)
        .new_service(broken)
        .build()
        .unwrap();
    let service = layer.layer(world.legacy.clone());
    for _ in 0..2 {
        let answer = service.clone().oneshot(Call::Get(1)).await;
        assert_eq!(answer, Ok(Answer::Row(Some(7))));
    }
    assert_eq!(world.legacy.asked(), 2);
}
