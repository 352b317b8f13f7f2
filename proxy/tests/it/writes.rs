use std::panic::AssertUnwindSafe;
use std::time::Duration;

use changeover_proxy::{Failure, Limits, NoVersions, Operation, PinCount, Touched, with_written};
use futures_util::FutureExt as _;

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_the_services_own_and_is_never_retried() {
    let world = World::new();
    world.legacy.fails(Fault::AppliesAndLosesTheAnswer);
    assert_eq!(world.call(Call::Put(1, 7)).await, Err(Error::LostAnswer));
    assert_eq!(world.legacy.asked(), 1);
    assert_eq!(world.handle.pins().keys, 1, "pinned until copied");
    rest().await;
    assert_eq!(
        (world.new.row(1), world.handle.pins().total()),
        (Some(7), 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_write_lets_go_of_its_pin_and_changes_nothing() {
    let world = World::new();
    world.both(1, 0);
    world.legacy.fails(Fault::Refuses);
    assert_eq!(world.call(Call::Put(1, 7)).await, Err(Error::Constraint));
    rest().await;
    assert_eq!(
        (world.new.row(1), world.handle.pins().total()),
        (Some(0), 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_authority_reaches_the_caller_and_the_key_is_followed() {
    let world = World::new();
    world.legacy.fails(Fault::Panics);
    let answer = AssertUnwindSafe(world.call(Call::Put(1, 7)))
        .catch_unwind()
        .await;
    let panic = answer.expect_err("as without the layer");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the store panics"));
    rest().await;
    assert_eq!((world.port.copies(), world.handle.pins().total()), (1, 0));
    world.flags.kill("read the authority").unwrap();
    let answer = AssertUnwindSafe(world.call(Call::Get(1)))
        .catch_unwind()
        .await;
    assert!(answer.is_err(), "a read's panic too");
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_applications_hooks_after_a_write_is_not_the_callers() {
    let world = World::with(|builder| {
        let asked =
            |_: &Operation, _: &Answer| -> Option<Touched> { panic!("the second question") };
        let builder = builder.classify(with_written(classify, asked));
        builder.outcome(|_: &Error| -> Failure { panic!("the outcome") })
    });
    assert_eq!(world.call(Call::Create(7)).await, Ok(Answer::Done(100)));
    world.legacy.fails(Fault::Refuses);
    assert_eq!(world.call(Call::Put(1, 7)).await, Err(Error::Constraint));
    rest().await;
    assert_eq!(world.handle.pins().total(), 0);
}

/// The first copy is slow and reads early; the second write comes meanwhile.
#[tokio::test(start_paused = true)]
async fn a_slow_copy_of_an_earlier_write_does_not_unpin_a_later_one() {
    let world = World::new();
    world.both(1, 0);
    world.port.fails(Fault::Slow(STEP * 10));
    world.call(Call::Put(1, 1)).await.unwrap();
    tokio::time::sleep(STEP).await;
    world.port.fails(Fault::Hangs);
    world.call(Call::Put(1, 2)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(world.new.row(1), Some(1), "the first copy is there");
    assert_eq!(
        world.handle.pins().keys,
        1,
        "the second write's pin is not the first copy's"
    );
    assert_eq!(world.get(1).await, Some(2));
    world.port.drain().await;
    rest().await;
    assert_eq!(world.handle.pins().keys, 0, "the freshness port says clean");
    assert_eq!(world.get(1).await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn two_writers_on_one_key_end_equal_in_both_finishing_orders() {
    for (first, second) in [(0, 3), (3, 0), (1, 1)] {
        let world = World::new();
        let slow = |after: u32, row| {
            let world = &world;
            async move {
                tokio::time::sleep(STEP * after).await;
                world.call(Call::Put(1, row)).await.unwrap();
                assert!(
                    matches!(world.get(1).await, Some(1 | 2)),
                    "older than its own write"
                );
            }
        };
        futures_util::future::join(slow(first, 1), slow(second, 2)).await;
        rest().await;
        assert_eq!(world.new.row(1), world.legacy.row(1));
        assert_eq!(world.new.version(1), 2);
        assert_eq!(world.handle.pins().total(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_generated_id_is_pinned_once_it_is_known() {
    let world = World::new();
    let Ok(Answer::Done(id)) = world.call(Call::Create(7)).await else {
        panic!("created")
    };
    assert_eq!(world.handle.pins().keys, 1);
    assert_eq!(world.get(id).await, Some(7));
    rest().await;
    assert_eq!((world.new.row(id), world.handle.pins().keys), (Some(7), 0));
    // Its answer lost, nobody knows the key: not found on the follower is re-asked.
    world.legacy.fails(Fault::AppliesAndLosesTheAnswer);
    world.call(Call::Create(8)).await.unwrap_err();
    world.legacy.fails(Fault::None);
    assert_eq!(world.get(id + 1).await, Some(8));
}

#[tokio::test(start_paused = true)]
async fn a_bulk_write_pins_its_scope_until_drained() {
    let world = World::new();
    world.both(1, 1);
    world.both(2, 2);
    world.call(Call::AddToAll(10)).await.unwrap();
    assert_eq!(world.handle.pins(), PinCount { keys: 0, scopes: 1 });
    let list = world.call(Call::List { tolerant: false }).await;
    assert_eq!(list, Ok(Answer::Rows(vec![(1, 11), (2, 12)])));
    assert_eq!(
        world.get(1).await,
        Some(11),
        "a read that does not say its scope"
    );
    rest().await;
    assert_eq!(world.handle.pins().scopes, 1, "nobody drained");
    // Another key is dirty all the time; what the bulk write touched has been clean once.
    let drain = async {
        world.port.drain().await;
        loop {
            world.legacy.clone_put(9).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), drain)
        .await
        .unwrap_err();
    assert_eq!(world.handle.pins().scopes, 0);
}

impl Store {
    async fn clone_put(&self, id: i64) {
        use tower::ServiceExt as _;
        self.clone().oneshot(Call::Put(id, 0)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_no_room_is_skipped_and_stays_pinned_until_clean() {
    let limits = Limits {
        copies: 0,
        pins: 2,
        ..Limits::default()
    };
    let world = World::with(|builder| builder.limits(limits));
    for id in 1..=4 {
        world.both(id, 0);
        world.call(Call::Put(id, id)).await.unwrap();
    }
    assert_eq!(
        world.handle.pins(),
        PinCount { keys: 2, scopes: 1 },
        "the rest pins the entity"
    );
    for id in 1..=4 {
        assert_eq!(world.get(id).await, Some(id));
    }
    rest().await;
    assert_eq!((world.port.copies(), world.handle.pins().total()), (0, 3));
    world.port.drain().await;
    rest().await;
    assert_eq!(world.handle.pins().total(), 0);
    let asked = world.legacy.asked();
    assert_eq!(world.get(4).await, Some(4));
    assert_eq!(world.legacy.asked(), asked, "from new again");
}

#[tokio::test(start_paused = true)]
async fn without_versions_the_follower_itself_is_asked_again() {
    for fault in [Fault::Refuses, Fault::Panics, Fault::Hangs] {
        let world = World::with(|builder| builder.versions(NoVersions));
        world.port.fails(fault);
        world.call(Call::Put(1, 7)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(world.handle.pins().keys, 1, "{fault:?}");
        world.port.fails(Fault::None);
        rest().await;
        assert_eq!(
            (world.new.row(1), world.handle.pins().keys),
            (Some(7), 0),
            "{fault:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_drain_waits_for_what_is_in_flight_and_says_what_is_left() {
    let world = World::new();
    assert!(polls(world.call(Call::Put(1, 7)), 1).await.is_none());
    let drained = world.handle.close_and_wait(Duration::from_secs(5)).await;
    assert!(drained.is_complete());
    assert_eq!((world.new.row(1), drained.pins.total()), (Some(7), 0));

    world.port.fails(Fault::Hangs);
    world.call(Call::Put(1, 8)).await.unwrap();
    world.legacy.fails(Fault::Hangs);
    assert!(polls(world.call(Call::Put(2, 8)), 1).await.is_none());
    let began = tokio::time::Instant::now();
    let drained = world.handle.close_and_wait(Duration::from_secs(5)).await;
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    assert_eq!(
        (drained.writes, drained.copies, drained.pins.keys),
        (1, 1, 2)
    );
}

#[test]
fn without_a_runtime_the_write_is_done_and_stays_pinned() {
    let world = World::new();
    world.both(1, 0);
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
    };
    // Its runtime goes away with the copy under way.
    runtime().block_on(async { world.call(Call::Put(1, 7)).await.unwrap() });
    assert!(world.port.is_dirty(1));
    assert_eq!(world.handle.pins().keys, 1);
    runtime().block_on(async {
        assert_eq!(world.get(1).await, Some(7));
        world.port.drain().await;
        tokio::time::pause();
        rest().await;
    });
    assert_eq!(world.handle.pins().keys, 0, "a sweeper of the next runtime");
}
