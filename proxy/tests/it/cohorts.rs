use std::time::Duration;

use changeover_flags::{Percent, Place};
use changeover_proxy::{Cohort, Limits};

use crate::world::*;

/// `ok`, `fallback`, `error`, `cancelled`.
fn counts(cohort: Cohort) -> [u64; 4] {
    let all = cohort.ok + cohort.fallback + cohort.error;
    assert_eq!(cohort.took.count, all, "the given up are not timed");
    [cohort.ok, cohort.fallback, cohort.error, cohort.cancelled]
}

fn both(world: &World) -> ([u64; 4], [u64; 4]) {
    let cohorts = world.handle.cohorts();
    (counts(cohorts.legacy), counts(cohorts.new))
}

#[tokio::test(start_paused = true)]
async fn a_read_belongs_to_the_side_that_it_was_sent_to() {
    let world = World::new();
    (1..=4).for_each(|id| world.both(id, 7));
    assert_eq!(both(&world), ([0; 4], [0; 4]));
    world.get(1).await;
    assert_eq!(both(&world), ([0; 4], [1, 0, 0, 0]));
    world.flags.set_read_new(Percent::ZERO).unwrap();
    world.get(1).await;
    assert_eq!(both(&world), ([1, 0, 0, 0], [1, 0, 0, 0]));
    world.flags.set_read_new(Percent::HUNDRED).unwrap();
    // A failure of new is new's, whoever answers in the end.
    world.new.fails(Fault::Refuses);
    world.get(1).await;
    world.legacy.fails(Fault::Refuses);
    world.call(Call::Get(1)).await.unwrap_err();
    assert_eq!(both(&world), ([1, 0, 0, 0], [1, 1, 1, 0]));
    // And so is a caller that left while it waited, for new or for the authority after it.
    world.new.fails(Fault::Hangs);
    assert_eq!(polls(world.call(Call::Get(1)), 1).await, None);
    world.legacy.fails(Fault::Hangs);
    let left = tokio::time::timeout(Duration::from_secs(5), world.call(Call::Get(1)));
    left.await.unwrap_err();
    assert_eq!(both(&world), ([1, 0, 0, 0], [1, 1, 1, 2]));
    // Writes belong to nobody; what was just written is legacy's.
    world.legacy.fails(Fault::None);
    world.new.fails(Fault::None);
    world.port.fails(Fault::Hangs);
    world.call(Call::Put(2, 8)).await.unwrap();
    world.get(2).await;
    assert_eq!(both(&world), ([2, 0, 0, 0], [1, 1, 1, 2]));
    // Where one side alone can serve there is nothing to compare.
    world.flags.learn(&epoch(3, Place::Legacy, false)).unwrap();
    world.get(1).await;
    assert_eq!(both(&world), ([2, 0, 0, 0], [1, 1, 1, 2]));
}

/// Routed to new, and written before it was polled: the authority answers as if it had been routed
/// there, and new has failed nobody.
#[tokio::test(start_paused = true)]
async fn a_read_that_a_write_overtook_is_the_authoritys() {
    let world = World::new();
    world.both(1, 7);
    world.port.fails(Fault::Hangs);
    let mut service = world.service.clone();
    let ready = tower::ServiceExt::<Call>::ready(&mut service)
        .await
        .unwrap();
    let kept = tower::Service::call(ready, Call::Get(1));
    world.call(Call::Put(1, 8)).await.unwrap();
    assert_eq!(kept.await, Ok(Answer::Row(Some(8))));
    assert_eq!(both(&world), ([1, 0, 0, 0], [0; 4]));
}

/// Found out by asking, after the percentage had sent it to new.
#[tokio::test(start_paused = true)]
async fn a_read_of_a_dirty_key_is_the_authoritys() {
    let world = World::with(|builder| builder.strict(true));
    world.both(1, 7);
    let elsewhere = tower::ServiceExt::oneshot(world.legacy.clone(), Call::Put(1, 8));
    elsewhere.await.unwrap();
    assert_eq!(world.get(1).await, Some(8));
    assert_eq!(both(&world), ([1, 0, 0, 0], [0; 4]));
}

#[tokio::test(start_paused = true)]
async fn what_new_kept_its_callers_waiting_is_news() {
    let world = World::new();
    world.both(1, 7);
    let limit = Limits::default().follower_time.as_secs_f64() * 1_000.0;
    for _ in 0..9 {
        world.get(1).await;
    }
    world.new.fails(Fault::Hangs);
    world.get(1).await;
    world.flags.set_read_new(Percent::ZERO).unwrap();
    world.get(1).await;
    let cohorts = world.handle.cohorts();
    let (new, legacy) = (cohorts.new.took, cohorts.legacy.took);
    assert!(
        new.p50_ms.is_some_and(|ms| (2.0..3.0).contains(&ms)),
        "{new:?}"
    );
    assert!(new.p95_ms.is_some_and(|ms| ms > limit), "{new:?}");
    assert!(legacy.p99_ms.is_some_and(|ms| ms < 3.0), "{legacy:?}");
}
