use std::time::Duration;

use changeover_flags::{Percent, Place};
use changeover_proxy::{Limits, NoVersions};
use changeover_shadow::Class;
use tower::ServiceExt as _;

use crate::world::*;

fn sampled(world: World) -> World {
    world.flags.set_sample(Percent::HUNDRED).unwrap();
    world.flags.set_read_new(Percent::ZERO).unwrap();
    world
}

/// The one class in which one read ended.
fn only(world: &World) -> Class {
    let totals = world.handle.compared();
    assert_eq!((totals.started, totals.total), (1, 1));
    let ended = totals.by_class().find(|(_, count)| *count == 1);
    ended.unwrap().0
}

#[tokio::test(start_paused = true)]
async fn every_difference_has_its_verdict() {
    type Change = fn(&World);
    let cases: [(Change, Class); 8] = [
        (|_| {}, Class::Match),
        (|world| world.new.set(1, 8), Class::Mismatch),
        (|world| world.new.remove(1), Class::MissingInNew),
        (|world| world.legacy.remove(1), Class::ExtraInNew),
        (|world| world.new.fails(Fault::Refuses), Class::ErrorInNew),
        (|world| world.new.fails(Fault::Panics), Class::ErrorInNew),
        (|world| world.new.fails(Fault::Hangs), Class::Timeout),
        (|world| world.new.fails(Fault::NeverReady), Class::Timeout),
    ];
    for (index, (change, class)) in cases.into_iter().enumerate() {
        let world = sampled(World::new());
        world.both(1, 7);
        change(&world);
        let began = tokio::time::Instant::now();
        world.call(Call::Get(1)).await.unwrap();
        assert_eq!(
            began.elapsed(),
            STEP * 2,
            "the caller does not wait, case {index}"
        );
        rest().await;
        assert_eq!(only(&world), class, "case {index}");
    }
}

#[tokio::test(start_paused = true)]
async fn lag_is_never_taken_for_a_mismatch_and_healing_is_seen() {
    for call in [Call::Get(1), Call::List { tolerant: true }] {
        let world = sampled(World::new());
        world.both(1, 7);
        world.legacy.clone().oneshot(Call::Put(1, 8)).await.unwrap();
        world.call(call.clone()).await.unwrap();
        rest().await;
        assert_eq!(only(&world), Class::Lagging, "{call:?}");

        let world = sampled(World::new());
        world.both(1, 7);
        world.legacy.clone().oneshot(Call::Put(1, 8)).await.unwrap();
        world.call(call.clone()).await.unwrap();
        tokio::time::sleep(STEP * 50).await;
        world.port.drain().await;
        rest().await;
        assert_eq!(only(&world), Class::Healed, "{call:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_by_the_follower_is_compared_too_and_so_is_what_it_does_not_find() {
    let world = sampled(World::new());
    world.flags.set_read_new(Percent::HUNDRED).unwrap();
    world.legacy.set(1, 7);
    assert_eq!(world.get(1).await, Some(7));
    rest().await;
    assert_eq!(only(&world), Class::MissingInNew);

    let world = sampled(World::new());
    world.both(1, 7);
    world.flags.learn(&epoch(3, Place::New, true)).unwrap();
    world.get(1).await;
    rest().await;
    assert_eq!((only(&world), world.legacy.asked()), (Class::Match, 1));
}

#[tokio::test(start_paused = true)]
async fn the_budget_is_kept_and_what_is_over_it_is_shed() {
    let limits = Limits {
        shadows: 2,
        shed_over: STEP * 10,
        ..Limits::default()
    };
    let world = sampled(World::with(|builder| builder.limits(limits)));
    world.both(1, 7);
    world.new.fails(Fault::Hangs);
    for _ in 0..5 {
        world.get(1).await;
    }
    assert_eq!(world.handle.compared().of(Class::Shed), 3);
    rest().await;
    world.legacy.fails(Fault::Slow(STEP * 20));
    world.get(1).await;
    let totals = world.handle.compared();
    assert_eq!((totals.of(Class::Shed), totals.of(Class::Timeout)), (4, 2));
    assert_eq!((totals.started, totals.total), (6, 6));
}

#[tokio::test(start_paused = true)]
async fn only_the_sampled_share_is_compared_and_writes_never() {
    let world = sampled(World::new());
    world.both(1, 7);
    world.flags.set_sample(Percent::new(10.0).unwrap()).unwrap();
    for _ in 0..1_000 {
        world.get(1).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let started = world.handle.compared().started;
    assert!((60..140).contains(&started), "{started}");
    world.flags.set_sample(Percent::HUNDRED).unwrap();
    world.call(Call::Put(1, 8)).await.unwrap();
    rest().await;
    assert_eq!(world.handle.compared().started, started);
    let _ = world.handle.close_and_wait(Duration::ZERO).await;
    world.get(1).await;
    assert_eq!(
        world.handle.compared().of(Class::Shed),
        1,
        "nothing new while closing"
    );
}

#[tokio::test(start_paused = true)]
async fn the_layer_that_compares_alone_answers_from_the_service_inside() {
    use tower::Layer as _;
    let world = sampled(World::new());
    world.legacy.set(1, 7);
    world.flags.set_read_new(Percent::HUNDRED).unwrap();
    let layer = changeover_proxy::Changeover::builder(world.flags.clone())
        .classify(classify)
        .observe(observe)
        .new_service(world.new.clone())
        .build_shadow_read()
        .unwrap();
    let service = layer.layer(world.legacy.clone());
    assert_eq!(
        service.clone().oneshot(Call::Get(1)).await,
        Ok(Answer::Row(Some(7)))
    );
    service.oneshot(Call::Put(2, 2)).await.unwrap();
    rest().await;
    assert_eq!(layer.handle().compared().of(Class::MissingInNew), 1);
    assert_eq!(layer.handle().compared().total, 1);
    assert_eq!(world.new.applied(), []);
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_about_versions_no_difference_is_confirmed() {
    let differs = async |world: World| {
        let world = sampled(world);
        world.legacy.set(1, 7);
        world.get(1).await;
        rest().await;
        only(&world)
    };
    let world = World::new();
    *world.port.mute.lock().unwrap() = true;
    assert_eq!(differs(world).await, Class::Timeout);
    let kept_by_nobody = || World::with(|builder| builder.versions(NoVersions));
    assert_eq!(differs(kept_by_nobody()).await, Class::MissingInNew);
    let world = kept_by_nobody();
    world.port.fails(Fault::Refuses);
    world.call(Call::Put(1, 7)).await.unwrap();
    assert_eq!(differs(world).await, Class::Lagging, "it is pinned");
}
