use std::time::Duration;

use changeover_proxy::Limits;

use crate::world::*;

/// Step by step: what this process knows to be ahead of the follower is pinned.
async fn pinned_until_copied(world: &World, id: i64) {
    for _ in 0..40 {
        let dirty = world.port.is_dirty(id);
        assert!(
            !dirty || world.handle.pins().total() > 0,
            "dirty and not pinned"
        );
        tokio::time::sleep(STEP / 2).await;
    }
}

async fn write_cut_after(polls_before: usize, fault: Fault) -> bool {
    let world = World::new();
    world.both(1, 0);
    world.legacy.fails(fault);
    let done = polls(world.call(Call::Put(1, 7)), polls_before)
        .await
        .is_some();
    assert!(
        done || world.handle.pins().keys == 1,
        "pinned before the authority is called"
    );
    world.legacy.fails(Fault::None);
    pinned_until_copied(&world, 1).await;
    rest().await;
    assert_eq!(world.legacy.applied(), [Call::Put(1, 7)], "exactly once");
    assert_eq!(world.port.copies(), 1, "followed once");
    assert_eq!(world.new.row(1), Some(7));
    assert_eq!(world.handle.pins().total(), 0);
    assert_eq!(world.get(1).await, Some(7));
    done
}

#[tokio::test(start_paused = true)]
async fn a_write_goes_on_wherever_its_caller_leaves() {
    for fault in [Fault::None, Fault::AppliesAndLosesTheAnswer] {
        let mut cuts = 0;
        while !write_cut_after(cuts + 1, fault).await {
            cuts += 1;
        }
        assert!(cuts >= 2, "there are two awaits in the store alone");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_never_polled_never_happens() {
    let world = World::new();
    drop(world.call(Call::Put(1, 7)));
    let mut service = world.service.clone();
    drop(tower::Service::call(&mut service, Call::Put(1, 7)));
    rest().await;
    assert_eq!(world.legacy.applied(), []);
    assert_eq!(world.handle.pins().total(), 0);
}

#[tokio::test(start_paused = true)]
async fn writes_without_a_caller_are_counted_and_given_up_in_time() {
    let limits = Limits {
        writes: 1,
        write_time: Duration::from_secs(9),
        ..Limits::default()
    };
    let world = World::with(|builder| builder.limits(limits));
    world.legacy.fails(Fault::Hangs);
    assert!(polls(world.call(Call::Put(1, 7)), 2).await.is_none());
    world.legacy.fails(Fault::None);
    // It has the only place; this one waits, and leaves nothing behind when it is dropped.
    assert!(polls(world.call(Call::Put(2, 7)), 1).await.is_none());
    let began = tokio::time::Instant::now();
    world.call(Call::Put(3, 7)).await.unwrap();
    assert!(began.elapsed() > Duration::from_secs(8));
    rest().await;
    assert_eq!(world.legacy.applied(), [Call::Put(3, 7)]);
    assert_eq!(world.handle.pins().total(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_cancelled_leaves_nothing_behind() {
    for call in [Call::Get(1), Call::List { tolerant: false }] {
        for fault in [Fault::None, Fault::Refuses, Fault::Hangs] {
            for left in 1.. {
                let world = World::with(|builder| builder.strict(true));
                world.both(1, 7);
                world.new.fails(fault);
                let answer = polls(world.call(call.clone()), left).await;
                assert_eq!(world.handle.pins().total(), 0);
                let drained = world.handle.close_and_wait(Duration::from_secs(1)).await;
                assert!(drained.is_complete());
                if let Some(answer) = answer {
                    assert!(matches!(
                        answer.unwrap(),
                        Answer::Row(Some(7)) | Answer::Rows(_)
                    ));
                    assert!(left > 2);
                    break;
                }
            }
        }
    }
}
