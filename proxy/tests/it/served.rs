use std::sync::{Arc, Mutex};

use changeover_flags::{KeyList, Percent, Place};
use changeover_proxy::{Because, Fallback, Reason, Served};
use tower::{Layer as _, ServiceExt as _};

use crate::world::*;

/// What was said of answers.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<Served>>>);

impl Said {
    /// A layer whose answers are remembered here.
    fn by(&self, builder: Built) -> Built {
        let said = self.clone();
        builder.mark(move |_answer, served| said.0.lock().unwrap().push(served))
    }

    /// What was said since it was last asked for: of one answer.
    fn once(&self) -> Served {
        let said = std::mem::take(&mut *self.0.lock().unwrap());
        assert_eq!(said.len(), 1, "{said:?}");
        said[0]
    }
}

fn served(place: Place, because: Because) -> Served {
    Served { place, because }
}

fn routed(place: Place, reason: Reason) -> Served {
    served(place, Because::Routed(reason))
}

#[tokio::test(start_paused = true)]
async fn every_answer_says_who_served_it_and_why() {
    let said = Said::default();
    let world = World::with(|builder| said.by(builder.strict(true)));
    (1..=4).for_each(|id| world.both(id, 7));
    let read = async |id: i64| {
        assert_eq!(world.get(id).await, Some(7));
        said.once()
    };
    let (legacy, new) = (Place::Legacy, Place::New);
    assert_eq!(read(1).await, routed(new, Reason::Percentage));
    world.flags.set_read_new(Percent::ZERO).unwrap();
    assert_eq!(read(1).await, routed(legacy, Reason::Percentage));
    let list = |key| KeyList::of_keys([key]).unwrap();
    world.flags.set_always_new(list("1")).unwrap();
    world.flags.set_never_new(list("2")).unwrap();
    assert_eq!(read(1).await, routed(new, Reason::Listed));
    world.flags.set_read_new(Percent::HUNDRED).unwrap();
    assert_eq!(read(2).await, routed(legacy, Reason::Listed));
    world.flags.kill("slow").unwrap();
    assert_eq!(read(1).await, routed(legacy, Reason::Kill));
    world.flags.clear_kill().unwrap();

    // By the layer: pinned. Past it: dirty.
    world.port.fails(Fault::Hangs);
    world.call(Call::Put(3, 7)).await.unwrap();
    assert_eq!(said.once(), routed(legacy, Reason::Write));
    assert_eq!(read(3).await, routed(legacy, Reason::Pinned));
    world.legacy.clone().oneshot(Call::Put(4, 7)).await.unwrap();
    assert_eq!(read(4).await, routed(legacy, Reason::Dirty));

    for (number, authority, copying, place) in [
        (3, legacy, false, legacy),
        (4, new, true, new),
        (5, new, false, new),
    ] {
        world
            .flags
            .learn(&epoch(number, authority, copying))
            .unwrap();
        assert_eq!(read(1).await, routed(place, Reason::Stage));
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_the_follower_is_behind_is_a_reason() {
    let said = Said::default();
    let world = World::with(|builder| said.by(builder));
    let elsewhere = world.legacy.clone();
    elsewhere.oneshot(Call::Put(1, 7)).await.unwrap();
    let token = world.handle.token([1.into()]).await.unwrap();
    world.call(Call::GetWith(1, token)).await.unwrap();
    assert_eq!(said.once(), routed(Place::Legacy, Reason::Token));
}

#[tokio::test(start_paused = true)]
async fn an_answer_after_the_follower_failed_says_how_it_failed() {
    let said = Said::default();
    let world = World::with(|builder| said.by(builder));
    for (fault, fallback, word) in [
        (
            Fault::Refuses,
            Fallback::Error,
            "legacy; because=fallback_error",
        ),
        (
            Fault::Panics,
            Fallback::Panic,
            "legacy; because=fallback_panic",
        ),
        (
            Fault::Hangs,
            Fallback::Timeout,
            "legacy; because=fallback_timeout",
        ),
        (
            Fault::NeverReady,
            Fallback::Timeout,
            "legacy; because=fallback_timeout",
        ),
        (
            Fault::None,
            Fallback::NotFound,
            "legacy; because=fallback_not_found",
        ),
    ] {
        world.legacy.set(1, 7);
        world.new.fails(fault);
        assert_eq!(world.get(1).await, Some(7));
        let expected = served(Place::Legacy, Because::Fallback(fallback));
        let said = said.once();
        assert_eq!((said, said.to_string().as_str()), (expected, word));
    }
    // An error is no answer to be marked.
    world.legacy.fails(Fault::Refuses);
    world.call(Call::Get(1)).await.unwrap_err();
    assert_eq!(*said.0.lock().unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_mark_is_no_difference_and_its_panic_is_nobodys() {
    let world = World::with(|builder| {
        builder.mark(|answer: &mut Answer, _served| {
            if let Answer::Row(Some(row)) = answer {
                *row += 1_000;
            }
            panic!("in the application's hook");
        })
    });
    world.both(1, 7);
    world.flags.set_sample(Percent::HUNDRED).unwrap();
    assert_eq!(world.get(1).await, Some(1_007), "by new");
    world.flags.set_read_new(Percent::ZERO).unwrap();
    assert_eq!(world.get(1).await, Some(1_007), "by legacy");
    world.call(Call::Put(2, 8)).await.unwrap();
    rest().await;
    let compared = world.handle.compared();
    assert_eq!((compared.total, compared.confirmed()), (2, 0));
    assert_eq!(compared.compared(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_asks_one_side_says_so() {
    let said = Said::default();
    let world = World::new();
    world.both(1, 7);
    let builder = || {
        let builder = changeover_proxy::Changeover::builder(world.flags.clone());
        said.by(builder
            .classify(classify)
            .observe(observe)
            .new_service(world.new.clone()))
    };
    let comparing = builder().build_shadow_read().unwrap();
    comparing
        .layer(world.legacy.clone())
        .oneshot(Call::Get(1))
        .await
        .unwrap();
    assert_eq!(said.once(), served(Place::Legacy, Because::Alone));
    let writing = builder().build_dual_write().unwrap();
    let writing = writing.layer(world.legacy.clone());
    writing.clone().oneshot(Call::Get(1)).await.unwrap();
    assert_eq!(said.once(), served(Place::Legacy, Because::Alone));
    writing.oneshot(Call::Put(1, 8)).await.unwrap();
    assert_eq!(said.once(), routed(Place::Legacy, Reason::Write));
}
