//! Shadow reads of an authority that is slow, while the follower answers.

use std::time::Duration;

use changeover_flags::Percent;
use changeover_proxy::Limits;
use changeover_shadow::Class;
use metrics_util::debugging::Snapshotter;
use tokio::time::{Instant, sleep};

use crate::trusted::{counted, recorded};
use crate::world::*;

/// Slow is what takes longer than this.
const OVER: Duration = Duration::from_millis(20);

/// Every read is answered by new, and compared with legacy.
fn routed() -> (World, Snapshotter) {
    let (world, metrics) = recorded(|builder| {
        builder.limits(Limits {
            shed_over: OVER,
            ..Limits::default()
        })
    });
    world.flags.set_read_new(Percent::HUNDRED).unwrap();
    world.both(1, 7);
    (world, metrics)
}

/// Some 300 reads a second; how many of them legacy was asked for.
async fn reads(world: &World, time: Duration) -> usize {
    let asked = world.legacy.asked();
    let began = Instant::now();
    while began.elapsed() < time {
        let sent = Instant::now();
        assert_eq!(world.get(1).await, Some(7));
        assert_eq!(sent.elapsed(), STEP * 2, "the caller waits for new alone");
        sleep(STEP).await;
    }
    world.legacy.asked() - asked
}

fn shed(world: &World) -> u64 {
    world.handle.compared().of(Class::Shed)
}

#[tokio::test(start_paused = true)]
async fn a_slow_authority_is_tried_by_one_read_at_a_time_until_it_is_fast_again() {
    for fault in [Fault::Slow(OVER * 5), Fault::Hangs] {
        let (world, metrics) = routed();
        let second = Duration::from_secs(1);
        assert!(reads(&world, second).await > 300);
        assert_eq!(shed(&world), 0, "it is fast");
        world.legacy.fails(fault);
        // What was under way before the first slow answer goes on.
        reads(&world, second).await;
        let asked = reads(&world, second * 10).await;
        let most = match fault {
            Fault::Hangs => 10,
            _ => 99,
        };
        assert!((most - 5..=most + 1).contains(&asked), "{fault:?}: {asked}");
        world.legacy.fails(Fault::None);
        // The last one that tried may be under way.
        reads(&world, second * 2).await;
        let before = shed(&world);
        assert!(reads(&world, second).await > 300);
        rest().await;
        assert_eq!(shed(&world), before, "it is fast again");
        let reasons = counted(&metrics, "changeover_shed_total");
        let slow = reasons.iter().find(|(reason, _)| reason == "slow");
        // Before the first one that hangs runs into its limit, the places are taken.
        assert!(slow.is_some_and(|(_, reads)| *reads > 3_000), "{reasons:?}");
        assert_eq!(reasons.iter().map(|(_, reads)| reads).sum::<u64>(), before);
        let totals = world.handle.compared();
        assert_eq!((totals.in_flight(), totals.of(Class::Abandoned)), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn reads_that_come_one_by_one_are_all_compared() {
    let (world, _) = routed();
    world.legacy.fails(Fault::Slow(OVER * 5));
    for _ in 0..20 {
        world.get(1).await;
        sleep(OVER * 10).await;
    }
    assert_eq!(shed(&world), 0);
    assert_eq!(world.handle.compared().of(Class::Match), 20);
}

#[tokio::test(start_paused = true)]
async fn a_slow_follower_sheds_nothing() {
    let (world, _) = routed();
    world.flags.set_read_new(Percent::ZERO).unwrap();
    world.new.fails(Fault::Slow(OVER * 5));
    reads(&world, Duration::from_secs(1)).await;
    rest().await;
    assert_eq!(shed(&world), 0);
    let totals = world.handle.compared();
    assert_eq!(totals.of(Class::Match), totals.started);
}
