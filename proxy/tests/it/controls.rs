//! A control read asks the authority twice more: only where that hurts nobody, and tells something.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use changeover_flags::Percent;
use changeover_proxy::{Changeover, Limits};
use changeover_shadow::Class;
use metrics_util::debugging::Snapshotter;
use tower::{Layer as _, ServiceExt as _};

use crate::trusted::{counted, recorded};
use crate::world::*;

/// Every read is compared, and followed by a control read if one is due.
fn controlled() -> (World, Snapshotter) {
    let (world, metrics) = recorded(|builder| {
        builder.control(Percent::HUNDRED).limits(Limits {
            shed_over: STEP * 10,
            ..Limits::default()
        })
    });
    world.both(1, 7);
    (world, metrics)
}

fn controls(metrics: &Snapshotter) -> Vec<(String, u64)> {
    counted(metrics, "changeover_controls_total")
}

fn unanswered() -> [(String, u64); 1] {
    [("unanswered".to_owned(), 1)]
}

#[tokio::test(start_paused = true)]
async fn none_follows_a_read_that_a_side_did_not_answer() {
    for fault in [Fault::Hangs, Fault::Refuses, Fault::Panics] {
        // Legacy is asked in the shadow.
        let (world, metrics) = controlled();
        world.flags.set_read_new(Percent::HUNDRED).unwrap();
        world.legacy.fails(fault);
        world.get(1).await;
        rest().await;
        assert_eq!(world.legacy.asked(), 1, "{fault:?}");
        assert_eq!(controls(&metrics), [], "{fault:?}");
        // And where new is.
        let (world, metrics) = controlled();
        world.new.fails(fault);
        world.get(1).await;
        rest().await;
        assert_eq!(world.legacy.asked(), 1, "{fault:?}");
        assert_eq!(controls(&metrics), [], "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn none_is_made_of_an_authority_that_is_slow() {
    let (world, metrics) = controlled();
    world.flags.set_read_new(Percent::HUNDRED).unwrap();
    world.legacy.fails(Fault::Slow(STEP * 20));
    world.get(1).await;
    rest().await;
    assert_eq!(world.handle.compared().of(Class::Match), 1, "it did answer");
    assert_eq!(world.legacy.asked(), 1);
    assert_eq!(controls(&metrics), unanswered());
    // It is found to be slow by the first of the two.
    let (world, metrics) = controlled();
    world.get(1).await;
    world.legacy.fails(Fault::Slow(STEP * 20));
    rest().await;
    assert_eq!(world.legacy.asked(), 2);
    assert_eq!(controls(&metrics), unanswered());
}

#[tokio::test(start_paused = true)]
async fn one_without_an_answer_counts_as_such_and_asks_no_more() {
    for fault in [Fault::Hangs, Fault::Refuses] {
        let (world, metrics) = controlled();
        world.get(1).await;
        world.legacy.fails(fault);
        rest().await;
        assert_eq!(world.handle.compared().of(Class::Match), 1);
        assert_eq!(world.legacy.asked(), 2, "{fault:?}");
        assert_eq!(controls(&metrics), unanswered(), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn none_is_made_while_callers_wait_for_connections() {
    let waits = Arc::new(AtomicBool::new(false));
    let waiting = Arc::clone(&waits);
    let (world, metrics) = recorded(|builder| {
        let builder = builder.control(Percent::HUNDRED);
        builder.pool_waiting(move || waiting.load(Ordering::Relaxed))
    });
    world.both(1, 7);
    world.get(1).await;
    waits.store(true, Ordering::Relaxed);
    rest().await;
    assert_eq!(world.handle.compared().of(Class::Match), 1);
    assert_eq!(world.legacy.asked(), 1);
    assert_eq!(controls(&metrics), unanswered());
}

#[tokio::test(start_paused = true)]
async fn one_in_a_hundred_is_made_where_nothing_is_said() {
    let world = World::new();
    world.flags.set_sample(Percent::HUNDRED).unwrap();
    world.flags.set_read_new(Percent::ZERO).unwrap();
    world.both(1, 7);
    let layer = Changeover::builder(world.flags.clone())
        .classify(classify)
        .observe(observe)
        .versions(world.port.clone())
        .new_service(world.new.clone())
        .seed(7)
        .build()
        .unwrap();
    let service = layer.layer(world.legacy.clone());
    for _ in 0..2_000 {
        service.clone().oneshot(Call::Get(1)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    rest().await;
    let made = layer.handle().report().noise.controls;
    // Expected 20, with a standard deviation of 4.4; four of them either way.
    assert!((3..=37).contains(&made), "{made}");
}
