//! A kill ends what compares at once: no side is asked for it any more.

use changeover_flags::Percent;
use changeover_shadow::Class;

use crate::trusted::{counted, recorded};
use crate::world::*;

fn calls() -> [Call; 2] {
    [Call::Get(1), Call::List { tolerant: true }]
}

#[tokio::test(start_paused = true)]
async fn between_the_callers_answer_and_the_comparison() {
    for call in calls() {
        let (world, metrics) = recorded(|builder| builder.control(Percent::HUNDRED));
        world.both(1, 7);
        world.call(call.clone()).await.unwrap();
        world.flags.kill("new is on its knees").unwrap();
        rest().await;
        let asked = (world.legacy.asked(), world.new.asked());
        assert_eq!(asked, (1, 0), "{call:?}: the caller's own");
        assert_eq!(world.handle.compared().of(Class::Shed), 1, "{call:?}");
        let shed = counted(&metrics, "changeover_shed_total");
        assert_eq!(shed, [("killed".to_owned(), 1)], "{call:?}");
        // With it goes what held it up.
        world.flags.clear_kill().unwrap();
        world.call(call.clone()).await.unwrap();
        rest().await;
        assert_eq!(world.handle.compared().of(Class::Match), 1, "{call:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn between_the_first_look_and_the_second() {
    for call in calls() {
        let (world, metrics) = recorded(|builder| builder);
        world.both(1, 7);
        world.new.set(1, 8);
        world.call(call.clone()).await.unwrap();
        tokio::time::sleep(STEP * 10).await;
        assert_eq!(world.new.asked(), 1, "{call:?}");
        world.flags.kill("new is on its knees").unwrap();
        rest().await;
        let asked = (world.legacy.asked(), world.new.asked());
        assert_eq!(asked, (1, 1), "{call:?}");
        assert_eq!(world.handle.compared().of(Class::Shed), 1, "{call:?}");
        let shed = counted(&metrics, "changeover_shed_total");
        assert_eq!(shed, [("killed".to_owned(), 1)], "{call:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn before_the_control_read() {
    let (world, metrics) = recorded(|builder| builder.control(Percent::HUNDRED));
    world.both(1, 7);
    world.get(1).await;
    tokio::time::sleep(STEP).await;
    world.flags.kill("legacy is on its knees").unwrap();
    rest().await;
    assert_eq!(world.handle.compared().of(Class::Match), 1);
    assert_eq!((world.legacy.asked(), world.new.asked()), (1, 1));
    let controls = counted(&metrics, "changeover_controls_total");
    assert_eq!(controls, [("unanswered".to_owned(), 1)]);
}
