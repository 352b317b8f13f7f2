use changeover_flags::{Entity, Flags, Key, Percent, Place, Version};
use changeover_proxy::{
    KeylessReads, Kind, Operation, Refused, Token, Touched, UnitOfWork, with_written,
};
use tower::{Layer as _, ServiceExt as _};

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn a_kill_sends_every_read_to_the_authority_and_copies_go_on() {
    let world = World::new();
    world.both(1, 0);
    world.flags.set_sample(Percent::HUNDRED).unwrap();
    world.flags.kill("test").unwrap();
    world.get(1).await;
    world.call(Call::List { tolerant: true }).await.unwrap();
    world.call(Call::Put(1, 7)).await.unwrap();
    rest().await;
    assert_eq!(world.new.asked(), 0, "neither read nor compared");
    assert_eq!(world.new.row(1), Some(7), "copied");
    world.flags.clear_kill().unwrap();
    world.get(1).await;
    assert!(world.new.asked() > 0, "the ramp is where it was");
}

#[tokio::test(start_paused = true)]
async fn reads_and_writes_follow_the_stage() {
    let world = World::new();
    world.legacy.set(1, 10);
    world.new.set(1, 20);
    let stages = [
        (3, Place::Legacy, false, 10),
        (4, Place::Legacy, true, 20),
        (5, Place::New, true, 20),
        (6, Place::New, false, 20),
    ];
    for (number, authority, copying, row) in stages {
        world
            .flags
            .learn(&epoch(number, authority, copying))
            .unwrap();
        assert_eq!(world.get(1).await, Some(row), "{number}");
        let (legacy, new) = (world.legacy.applied().len(), world.new.applied().len());
        world.call(Call::Put(number, 1)).await.unwrap();
        let place = if authority == Place::Legacy {
            (1, 0)
        } else {
            (0, 1)
        };
        let wrote = (
            world.legacy.applied().len() - legacy,
            world.new.applied().len() - new,
        );
        assert_eq!(wrote, place, "{number}");
        rest().await;
        assert_eq!(world.handle.pins().total(), 0, "{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_moves_between_ready_and_call_is_served() {
    use tower::Service as _;
    let world = World::new();
    world.both(1, 7);
    let mut service = world.service.clone();
    service.ready().await.unwrap();
    world.flags.learn(&epoch(3, Place::New, true)).unwrap();
    assert_eq!(service.call(Call::Get(1)).await, Ok(Answer::Row(Some(7))));
    assert_eq!((world.legacy.asked(), world.new.asked()), (0, 1));
    let mut service = world.service.clone();
    service.ready().await.unwrap();
    world.flags.learn(&epoch(4, Place::Legacy, true)).unwrap();
    world.flags.set_read_new(Percent::ZERO).unwrap();
    assert_eq!(service.call(Call::Get(1)).await, Ok(Answer::Row(Some(7))));
    assert_eq!((world.legacy.asked(), world.new.asked()), (1, 1));
    world.flags.learn(&epoch(5, Place::New, true)).unwrap();
    service.ready().await.unwrap();
    world.flags.learn(&epoch(6, Place::Legacy, true)).unwrap();
    service.call(Call::Put(1, 8)).await.unwrap();
    assert_eq!(world.legacy.applied(), [Call::Put(1, 8)]);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_awaited_after_a_write_shows_it() {
    use tower::Service as _;
    let world = World::new();
    world.both(1, 0);
    world.port.fails(Fault::Hangs);
    let mut service = world.service.clone();
    let read = service.ready().await.unwrap().call(Call::Get(1));
    world.call(Call::Put(1, 7)).await.unwrap();
    assert_eq!(read.await, Ok(Answer::Row(Some(7))));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_stage_is_refused_with_the_services_own_error() {
    let world = World::new();
    let flags = Flags::memory(Entity::new("rows").unwrap());
    let layer = changeover_proxy::Changeover::builder(flags)
        .classify(classify)
        .observe(observe)
        .new_service(world.new.clone())
        .build()
        .unwrap();
    for call in [Call::Get(1), Call::Put(1, 1)] {
        let answer = layer.layer(world.legacy.clone()).oneshot(call).await;
        assert!(matches!(
            answer,
            Err(Error::Layer(Refused::UnknownStage { .. }))
        ));
    }
    assert_eq!(world.legacy.asked() + world.new.asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_token_newer_than_the_follower_goes_to_the_authority() {
    let world = World::new();
    world.both(1, 7);
    // Another instance writes: nothing is pinned here.
    let other = World::new();
    let token = |version| {
        Token::new(
            other.handle.entity().clone(),
            [(Key::from(1), Version(version))],
        )
    };
    world.call(Call::GetWith(1, token(0))).await.unwrap();
    assert_eq!((world.legacy.asked(), world.new.asked()), (0, 1));
    world.call(Call::GetWith(1, token(1))).await.unwrap();
    assert_eq!(
        (world.legacy.asked(), world.new.asked()),
        (1, 1),
        "not even asked"
    );
    let all = Token::everything(world.handle.entity().clone());
    world.call(Call::GetWith(1, all)).await.unwrap();
    assert_eq!(world.legacy.asked(), 2);
    let foreign = Token::new(Entity::new("other").unwrap(), [(Key::from(1), Version(9))]);
    world.call(Call::GetWith(1, foreign)).await.unwrap();
    assert_eq!(world.legacy.asked(), 2);
    *world.port.mute.lock().unwrap() = true;
    world.call(Call::GetWith(1, token(0))).await.unwrap();
    assert_eq!(world.legacy.asked(), 3, "nobody could tell");
}

#[tokio::test(start_paused = true)]
async fn a_token_is_minted_from_the_authoritys_versions() {
    let world = World::new();
    world.call(Call::Put(1, 7)).await.unwrap();
    let token = world.handle.token([Key::from(1)]).await.unwrap();
    assert_eq!(token.to_string(), "rows:1=1");
    assert_eq!(world.handle.token([]).await.unwrap().to_string(), "rows:*");
    *world.port.mute.lock().unwrap() = true;
    assert!(world.handle.token([Key::from(1)]).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn strict_reads_ask_the_authority_first() {
    let world = World::with(|builder| builder.strict(true));
    world.both(1, 7);
    world.get(1).await;
    assert_eq!(world.new.asked(), 1);
    // Dirty by the commit of another instance.
    world.legacy.clone().oneshot(Call::Put(1, 8)).await.unwrap();
    assert_eq!(world.get(1).await, Some(8));
    world.port.drain().await;
    *world.port.mute.lock().unwrap() = true;
    world.get(1).await;
    assert_eq!(world.new.asked(), 1, "who cannot tell is taken for dirty");
}

#[tokio::test(start_paused = true)]
async fn lists_follow_only_if_they_tolerate_lag_or_nothing_is_dirty() {
    let world = World::new();
    world.both(1, 7);
    let list = |tolerant| world.call(Call::List { tolerant });
    list(false).await.unwrap();
    assert_eq!(world.new.asked(), 1);
    world.legacy.clone().oneshot(Call::Put(1, 8)).await.unwrap();
    assert_eq!(list(false).await, Ok(Answer::Rows(vec![(1, 8)])));
    assert_eq!(list(true).await, Ok(Answer::Rows(vec![(1, 7)])));
    world.port.drain().await;
    assert_eq!(list(false).await, Ok(Answer::Rows(vec![(1, 8)])));
    assert_eq!(world.new.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_read_without_a_key_goes_where_it_was_told() {
    let count = async |keyless, percent: f64| {
        let world = World::with(|builder| {
            builder
                .keyless(keyless)
                .classify(|_: &Call| Operation::list("list").tolerates_lag())
        });
        world
            .flags
            .set_read_new(Percent::new(percent).unwrap())
            .unwrap();
        let mut refused = 0;
        for _ in 0..1_000 {
            let answer = world.call(Call::List { tolerant: true }).await;
            refused += usize::from(matches!(answer, Err(Error::Layer(Refused::NoKey { .. }))));
        }
        (world.legacy.asked(), world.new.asked(), refused)
    };
    assert_eq!(count(KeylessReads::Authority, 100.0).await, (1_000, 0, 0));
    assert_eq!(count(KeylessReads::Refuse, 0.0).await, (0, 0, 1_000));
    let (legacy, new, _) = count(KeylessReads::Draw, 25.0).await;
    assert!((200..300).contains(&new) && legacy + new == 1_000, "{new}");
    assert_eq!(
        count(KeylessReads::Draw, 25.0).await,
        (legacy, new, 0),
        "a seed repeats its draws"
    );
}

#[tokio::test(start_paused = true)]
async fn the_percentage_is_sticky_by_key() {
    let world = World::new();
    let ids: Vec<i64> = (0..400).collect();
    for id in &ids {
        world.both(*id, 1);
    }
    let mut before: Vec<i64> = Vec::new();
    for percent in [10.0, 25.0, 50.0] {
        world
            .flags
            .set_read_new(Percent::new(percent).unwrap())
            .unwrap();
        let mut moved = Vec::new();
        for id in &ids {
            let asked = world.new.asked();
            world.get(*id).await;
            if world.new.asked() > asked {
                moved.push(*id);
            }
        }
        assert!(
            before.iter().all(|id| moved.contains(id)),
            "growing takes none away"
        );
        assert!(moved.len() > before.len());
        before = moved;
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_comes_while_a_question_is_asked_is_seen() {
    let world = World::with(|builder| builder.strict(true));
    world.both(1, 7);
    world.port.fails(Fault::Hangs);
    *world.port.thinks.lock().unwrap() = STEP * 10;
    let write = async {
        tokio::time::sleep(STEP).await;
        world.call(Call::Put(1, 8)).await.unwrap();
    };
    let (row, ()) = futures_util::future::join(world.get(1), write).await;
    assert_eq!((row, world.new.asked()), (Some(8), 0));
}

/// Written as `007` and read as `7`, or the other way round: one key, wherever it enters.
#[tokio::test(start_paused = true)]
async fn a_key_has_one_spelling_behind_the_layer() {
    let spelled = |call: &Call| match call {
        Call::Put(id, _) => Operation::write("put", [format!("{id:03}")]),
        Call::Create(_) => Operation::insert("create"),
        Call::GetWith(id, token) => {
            Operation::read("get", format!("+{id}")).not_older_than(token.clone())
        }
        other => classify(other),
    };
    let shown = |operation: &Operation, answer: &Answer| match answer {
        Answer::Done(id) if operation.kind == Kind::Insert => {
            Some(Touched::keys([format!("{id:05}")]))
        }
        _ => None,
    };
    let world = World::with(|builder| builder.classify(with_written(spelled, shown)));
    world.port.fails(Fault::Refuses);
    world.both(1, 0);
    world.both(7, 0);
    world.call(Call::Put(7, 8)).await.unwrap();
    assert_eq!(world.get(7).await, Some(8), "pinned as 007");
    let made = world.call(Call::Create(9)).await.unwrap();
    let Answer::Done(made) = made else {
        panic!("{made:?}")
    };
    world.new.set(made, 0);
    assert_eq!(world.get(made).await, Some(9), "shown as 00008");
    let mut unit = UnitOfWork::new();
    unit.touch(&world.handle, "01");
    world.legacy.set(1, 2);
    assert_eq!(world.get(1).await, Some(2), "touched as 01");
    assert_eq!(world.handle.pins().keys, 3);
    drop(unit);

    let elsewhere = World::with(|builder| builder.classify(spelled));
    elsewhere.both(7, 0);
    elsewhere
        .legacy
        .clone()
        .oneshot(Call::Put(7, 8))
        .await
        .unwrap();
    let told = elsewhere.handle.token(["007".into()]).await.unwrap();
    assert_eq!(told.to_string(), "rows:7=1");
    for token in [
        told,
        Token::new(
            elsewhere.handle.entity().clone(),
            [("007".into(), Version(1))],
        ),
    ] {
        let read = elsewhere.call(Call::GetWith(7, token)).await;
        assert_eq!(read, Ok(Answer::Row(Some(8))), "seen as 007");
    }
}
