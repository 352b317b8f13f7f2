use std::collections::BTreeSet;
use std::time::Duration;

use changeover_flags::Percent;
use changeover_proxy::{Changeover, Limits, NoVersions, Operation, Touched};
use changeover_shadow::{Class, Redaction, Value};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tower::{Layer as _, ServiceExt as _};

use crate::world::*;

const LIST: Call = Call::List { tolerant: true };

/// A list is its elements, each with its key and a row.
fn elements(answer: &Answer) -> Option<Value> {
    let element = |(id, row): &(i64, i64)| Value::record([("id", *id), ("row", *row)]);
    match answer {
        Answer::Rows(rows) => Some(Value::list(rows.iter().map(element))),
        other => observe(other),
    }
}

fn by_id(call: &Call) -> Operation {
    classify(call).keyed_by(["id"])
}

/// Every list is compared; nothing is read from new.
fn keyed(change: impl FnOnce(Built) -> Built) -> World {
    let world = World::with(|builder| {
        let builder = builder.classify(by_id).observe(elements);
        change(builder.redaction(Redaction::new().show_keys()))
    });
    world.flags.set_sample(Percent::HUNDRED).unwrap();
    world.flags.set_read_new(Percent::ZERO).unwrap();
    for id in 1..=4 {
        world.both(id, 0);
    }
    world
}

/// The class in which the one list ended, and the keys and fields in evidence.
async fn compared(world: &World) -> (Class, BTreeSet<String>) {
    world.call(LIST).await.unwrap();
    rest().await;
    let totals = world.handle.compared();
    assert_eq!((totals.started, totals.total), (1, 1));
    let (class, _) = totals.by_class().find(|(_, count)| *count == 1).unwrap();
    let samples = world.handle.samples().fields.into_iter();
    let found = samples.flat_map(|field| field.kept);
    let found = found.map(|one| format!("{} {}", one.key.unwrap_or_default(), one.path));
    (class, found.collect())
}

fn these<const N: usize>(found: [&str; N]) -> BTreeSet<String> {
    found.map(str::to_owned).into()
}

#[tokio::test(start_paused = true)]
async fn two_empty_lists_are_no_match() {
    let empty = || {
        let world = keyed(|builder| builder);
        (1..=4).for_each(|id| {
            world.legacy.remove(id);
            world.new.remove(id);
        });
        world
    };
    let world = empty();
    assert_eq!(compared(&world).await, (Class::Neither, these([])));
    assert_eq!(world.handle.compared().mismatch_ratio(), None);
    let world = empty();
    world.legacy.set(2, 0);
    assert_eq!(compared(&world).await, (Class::MissingInNew, these(["2 "])));
    // Empty at the second look alone.
    let world = empty();
    world.legacy.set(2, 0);
    world.call(LIST).await.unwrap();
    tokio::time::sleep(STEP * 50).await;
    world.legacy.remove(2);
    rest().await;
    assert_eq!(world.handle.compared().of(Class::Healed), 1);
}

#[tokio::test(start_paused = true)]
async fn each_element_has_its_verdict_and_the_list_has_one() {
    let world = keyed(|builder| builder);
    assert_eq!(compared(&world).await, (Class::Match, these([])));
    let world = keyed(|builder| builder);
    world.new.set(2, 7);
    assert_eq!(compared(&world).await, (Class::Mismatch, these(["2 row"])));
    let world = keyed(|builder| builder);
    world.new.remove(2);
    assert_eq!(compared(&world).await, (Class::MissingInNew, these(["2 "])));
    let world = keyed(|builder| builder);
    world.legacy.remove(2);
    assert_eq!(compared(&world).await, (Class::ExtraInNew, these(["2 "])));
    let world = keyed(|builder| builder);
    world.new.set(1, 7);
    world.new.remove(2);
    world.legacy.remove(3);
    let all = these(["1 row", "2 ", "3 "]);
    assert_eq!(compared(&world).await, (Class::Mismatch, all));
}

#[tokio::test(start_paused = true)]
async fn a_dirty_element_is_lag_and_hides_no_other_that_differs() {
    let dirty = async |world: &World| {
        let legacy = world.legacy.clone();
        legacy.oneshot(Call::Put(1, 9)).await.unwrap();
    };
    let world = keyed(|builder| builder);
    dirty(&world).await;
    assert_eq!(compared(&world).await, (Class::Lagging, these([])));
    let world = keyed(|builder| builder);
    dirty(&world).await;
    world.new.set(2, 7);
    assert_eq!(compared(&world).await, (Class::Mismatch, these(["2 row"])));
    // What is on one side alone may have been pushed there by what is dirty.
    let world = keyed(|builder| builder);
    dirty(&world).await;
    world.new.remove(2);
    assert_eq!(compared(&world).await, (Class::Lagging, these([])));
    let world = keyed(|builder| builder);
    dirty(&world).await;
    let list = world.service.clone().oneshot(LIST).await;
    list.unwrap();
    tokio::time::sleep(STEP * 50).await;
    world.port.drain().await;
    rest().await;
    assert_eq!(world.handle.compared().of(Class::Healed), 1);
}

#[tokio::test(start_paused = true)]
async fn pins_say_what_moves_where_nobody_keeps_versions() {
    let world = keyed(|builder| builder.versions(NoVersions));
    world.new.set(2, 7);
    assert_eq!(compared(&world).await, (Class::Mismatch, these(["2 row"])));
    let world = keyed(|builder| builder.versions(NoVersions));
    world.port.fails(Fault::Refuses);
    world.call(Call::Put(1, 9)).await.unwrap();
    assert_eq!(compared(&world).await, (Class::Lagging, these([])));
    let world = keyed(|builder| builder.versions(NoVersions));
    world.port.fails(Fault::Refuses);
    world.call(Call::Put(1, 9)).await.unwrap();
    world.new.set(2, 7);
    assert_eq!(compared(&world).await, (Class::Mismatch, these(["2 row"])));
}

#[tokio::test(start_paused = true)]
async fn order_matters_where_the_application_says_so() {
    for (ordered, class) in [(false, Class::Match), (true, Class::Mismatch)] {
        let world = keyed(|builder| builder);
        let backwards = world.new.clone().map_response(|answer| match answer {
            Answer::Rows(rows) => Answer::Rows(rows.into_iter().rev().collect()),
            other => other,
        });
        let layer = Changeover::builder(world.flags.clone())
            .classify(move |call: &Call| match ordered {
                true => by_id(call).in_order(),
                false => by_id(call),
            })
            .observe(elements)
            .versions(world.port.clone())
            .new_service(backwards)
            .build()
            .unwrap();
        let service = layer.layer(world.legacy.clone());
        service.oneshot(LIST).await.unwrap();
        rest().await;
        assert_eq!(layer.handle().compared().of(class), 1, "ordered: {ordered}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_too_long_is_shed_whichever_side_answered_it() {
    let limits = Limits {
        list_elements: 4,
        ..Limits::default()
    };
    for in_new in [false, true] {
        let world = keyed(|builder| builder.limits(limits.clone()));
        match in_new {
            true => world.new.set(5, 0),
            false => world.legacy.set(5, 0),
        }
        world.call(LIST).await.unwrap();
        rest().await;
        let totals = world.handle.compared();
        assert_eq!((totals.total, totals.of(Class::Shed)), (1, 1));
    }
}

/// The versions before the second look are half of the proof that nothing moved.
#[tokio::test(start_paused = true)]
async fn versions_that_were_told_once_confirm_nothing() {
    for call in [LIST, Call::Get(2)] {
        let world = keyed(|builder| builder);
        world.new.set(2, 7);
        *world.port.mute.lock().unwrap() = true;
        world.call(call.clone()).await.unwrap();
        tokio::time::sleep(STEP * 50).await;
        *world.port.mute.lock().unwrap() = false;
        rest().await;
        let totals = world.handle.compared();
        assert_eq!(
            (totals.total, totals.of(Class::Timeout)),
            (1, 1),
            "{call:?}"
        );
    }
}

/// Writes, deletes, re-inserts and copies at every moment of a list: nothing is ever confirmed,
/// be it a whole list, a page of it, a list without keys, or a read of several keys; and what is forged is.
#[tokio::test(start_paused = true)]
async fn a_list_under_writes_is_never_confirmed_to_differ() {
    let seed = rand::random();
    println!("seed {seed}");
    let page = |answer: &Answer| match answer {
        Answer::Rows(rows) => elements(&Answer::Rows(
            rows.iter().skip(1).take(3).copied().collect(),
        )),
        other => elements(other),
    };
    let whole = || keyed(|builder| builder);
    let pages = || keyed(|builder| builder.observe(page));
    let unkeyed = || keyed(|builder| builder.classify(classify));
    // Whose versions say no more than whether anything is dirty.
    let several = || {
        keyed(|builder| {
            builder.classify(|call: &Call| {
                let mut operation = classify(call);
                if let Call::List { .. } = call {
                    operation = Operation::read("several", 1_i64);
                    operation.touched = Touched::keys(1_i64..9);
                }
                operation
            })
        })
    };
    for (name, world, forged) in [
        ("whole", whole(), true),
        ("page", pages(), false),
        ("unkeyed", unkeyed(), false),
        ("several", several(), false),
    ] {
        let mut random = SmallRng::seed_from_u64(seed);
        let delay = |random: &mut SmallRng| Duration::from_micros(random.random_range(0..4_000));
        let (writer, mut dice) = (world.legacy.clone(), SmallRng::seed_from_u64(seed ^ 1));
        let port = world.port.clone();
        let writes = tokio::spawn(async move {
            for value in 1.. {
                let id = dice.random_range(1..9);
                let write = match dice.random_bool(0.3) {
                    true => Call::Remove(id),
                    false => Call::Put(id, value),
                };
                writer.clone().oneshot(write).await.unwrap();
                tokio::time::sleep(Duration::from_micros(dice.random_range(0..3_000))).await;
                if dice.random_bool(0.8) {
                    port.drain().await;
                }
            }
        });
        for _ in 0..3_000 {
            world.legacy.fails(Fault::Slow(delay(&mut random)));
            world.new.fails(Fault::Slow(delay(&mut random)));
            world.call(LIST).await.unwrap();
            tokio::time::sleep(delay(&mut random)).await;
        }
        rest().await;
        let totals = world.handle.compared();
        assert_eq!(totals.started, totals.total, "{name}");
        assert_eq!(totals.confirmed(), 0, "{name}, seed {seed}: {totals:?}");
        let moved = totals.of(Class::Lagging) + totals.of(Class::Healed);
        assert!(moved > 200, "{name}: the race was not run: {totals:?}");
        // A forged row is confirmed while all others are written.
        world.both(20, 0);
        world.new.set(20, 7);
        for _ in 0..100 {
            world.call(LIST).await.unwrap();
        }
        rest().await;
        let mismatches = world.handle.compared().of(Class::Mismatch);
        assert!(!forged || mismatches > 20, "{name}: {mismatches}");
        writes.abort();
    }
}
