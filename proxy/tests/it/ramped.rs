use std::collections::BTreeSet;

use changeover_flags::{KeyList, Percent, Shares};
use changeover_proxy::{KeylessReads, Operation};

use crate::world::*;

/// What legacy and new answer for every row: whose answer it is can be seen.
const LEGACY: i64 = 1;
const NEW: i64 = 2;

fn list(keys: &[&str]) -> KeyList {
    KeyList::of_keys(keys.iter().copied()).unwrap()
}

fn percent(percent: f64) -> Percent {
    Percent::new(percent).unwrap()
}

/// Rows `0..rows` on both sides, told apart, at 0 %.
fn apart(rows: i64, change: impl FnOnce(Built) -> Built) -> World {
    let world = World::with(change);
    for id in 0..rows {
        world.legacy.set(id, LEGACY);
        world.new.set(id, NEW);
    }
    world.flags.set_read_new(Percent::ZERO).unwrap();
    world
}

/// The rows of `0..rows` that new answers for.
async fn from_new(world: &World, rows: i64) -> BTreeSet<i64> {
    let mut from_new = BTreeSet::new();
    for id in 0..rows {
        if world.get(id).await == Some(NEW) {
            from_new.insert(id);
        }
    }
    from_new
}

#[tokio::test(start_paused = true)]
async fn a_test_tenant_is_served_by_new_at_0_percent_and_nobody_else() {
    let world = apart(8, |builder| {
        builder.classify(|call: &Call| match call {
            Call::Get(id) => Operation::read("get", *id).routed_by((id % 4).to_string()),
            other => classify(other),
        })
    });
    assert_eq!(from_new(&world, 8).await, BTreeSet::new());
    let tenant = KeyList::of_routed_by(["1"]).unwrap();
    world.flags.set_always_new(tenant).unwrap();
    assert_eq!(from_new(&world, 8).await, BTreeSet::from([1, 5]));
    world.flags.set_always_new(list(&["2", "3"])).unwrap();
    assert_eq!(from_new(&world, 8).await, BTreeSet::from([2, 3]), "by key");
    // Of the tenant that is never to be there: not even its key that is listed.
    let tenant = KeyList::of_routed_by(["3"]).unwrap();
    world.flags.set_never_new(tenant).unwrap();
    assert_eq!(from_new(&world, 8).await, BTreeSet::from([2]));
    world.flags.set_read_new(Percent::HUNDRED).unwrap();
    assert_eq!(
        from_new(&world, 8).await,
        BTreeSet::from([0, 1, 2, 4, 5, 6])
    );
    world.flags.kill("a kill beats all").unwrap();
    assert_eq!(from_new(&world, 8).await, BTreeSet::new());
}

/// A list is typed by people; the port spells keys as numbers.
#[tokio::test(start_paused = true)]
async fn a_listed_key_is_found_in_the_spelling_of_its_database() {
    let world = apart(4, |builder| builder);
    world.flags.set_always_new(list(&["+2", "003"])).unwrap();
    assert_eq!(from_new(&world, 4).await, BTreeSet::from([2, 3]));
    world.flags.set_never_new(list(&["03"])).unwrap();
    assert_eq!(from_new(&world, 4).await, BTreeSet::from([2]));
    world.flags.set_always_new(list(&["01"])).unwrap();
    assert_eq!(
        from_new(&world, 4).await,
        BTreeSet::from([1]),
        "not the last list"
    );
}

#[tokio::test(start_paused = true)]
async fn an_allowed_key_that_is_not_clean_stays_with_the_authority() {
    let world = apart(3, |builder| builder.strict(true));
    world.flags.set_always_new(list(&["1", "2"])).unwrap();
    assert_eq!(from_new(&world, 3).await, BTreeSet::from([1, 2]));
    // A write does not go where its reads go. Nobody copies it: pinned here.
    world.port.fails(Fault::Hangs);
    world.call(Call::Put(1, 5)).await.unwrap();
    assert_eq!(world.new.applied(), [], "lists never concern writes");
    assert_eq!(world.get(1).await, Some(5));
    // Written by somebody else: not pinned, but dirty.
    let elsewhere = world.legacy.clone();
    let put = tower::ServiceExt::oneshot(elsewhere, Call::Put(2, 6));
    put.await.unwrap();
    assert_eq!(world.get(2).await, Some(6));
    world.port.fails(Fault::None);
    world.port.drain().await;
    rest().await;
    world.new.set(2, NEW);
    assert_eq!(world.get(2).await, Some(NEW), "clean again");
}

#[tokio::test(start_paused = true)]
async fn growing_an_operations_percentage_only_adds_keys_and_moves_no_other_operation() {
    const ROWS: i64 = 300;
    let world = apart(ROWS, |builder| builder);
    world.flags.set_always_new(list(&["7"])).unwrap();
    world.flags.set_never_new(list(&["8"])).unwrap();
    let mut last = BTreeSet::new();
    for share in [0.0, 0.5, 10.0, 50.0, 99.0, 100.0] {
        let shares = Shares {
            read_new: Some(percent(share)),
            sample: None,
        };
        world.flags.set_operation("get", shares).unwrap();
        let now = from_new(&world, ROWS).await;
        assert!(
            now.is_superset(&last),
            "{share} lost {:?}",
            last.difference(&now)
        );
        assert!(now.contains(&7) && !now.contains(&8), "at {share}");
        // The entity's own percentage says nothing here.
        world.flags.set_read_new(Percent::HUNDRED).unwrap();
        assert_eq!(from_new(&world, ROWS).await, now);
        world.flags.set_read_new(Percent::ZERO).unwrap();
        let Answer::Rows(rows) = world.call(Call::List { tolerant: true }).await.unwrap() else {
            panic!("not a list");
        };
        assert_eq!(rows[0].1, LEGACY, "another operation, at {share}");
        last = now;
    }
    assert_eq!(last.len(), ROWS as usize - 1);
    world.flags.set_operation("get", Shares::default()).unwrap();
    assert_eq!(from_new(&world, ROWS).await, BTreeSet::from([7]));
}

#[tokio::test(start_paused = true)]
async fn a_hundred_percent_of_an_operation_is_every_call_without_a_key_too() {
    for (keyless, expected) in [(KeylessReads::Draw, NEW), (KeylessReads::Authority, LEGACY)] {
        let world = apart(1, |builder| {
            builder.keyless(keyless).classify(|call: &Call| match call {
                Call::List { .. } => Operation::list("list").tolerates_lag(),
                other => classify(other),
            })
        });
        let shares = Shares {
            read_new: Some(Percent::HUNDRED),
            sample: None,
        };
        world.flags.set_operation("list", shares).unwrap();
        for _ in 0..50 {
            let answer = world.call(Call::List { tolerant: true }).await;
            assert_eq!(answer, Ok(Answer::Rows(vec![(0, expected)])), "{keyless:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn sampling_is_by_operation() {
    let world = World::new();
    world.both(1, 1);
    world.flags.set_sample(Percent::HUNDRED).unwrap();
    let shares = Shares {
        read_new: None,
        sample: Some(Percent::ZERO),
    };
    world.flags.set_operation("get", shares).unwrap();
    for _ in 0..10 {
        world.get(1).await;
    }
    rest().await;
    assert_eq!(world.handle.compared().total, 0);
    world.call(Call::List { tolerant: true }).await.unwrap();
    rest().await;
    assert_eq!(world.handle.compared().total, 1);
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_was_not_declared_has_no_percentages() {
    let world = World::new();
    let shares = Shares {
        read_new: Some(Percent::ZERO),
        sample: None,
    };
    let error = world.flags.set_operation("gte", shares).unwrap_err();
    assert!(
        error.to_string().contains("create, get, list, put"),
        "{error}"
    );
    assert_eq!(world.flags.saved().exceptions.operations.len(), 0);
}
