use changeover_proxy::UnitOfWork;
use tower::ServiceExt as _;

use crate::world::*;

/// A transaction over two entities: two writes, and a commit that takes two steps.
async fn transact(orders: Store, lines: Store, fails: bool) -> Result<&'static str, Error> {
    tokio::time::sleep(STEP).await;
    if fails {
        return Err(Error::LostAnswer);
    }
    orders.oneshot(Call::Put(1, 7)).await?;
    lines.oneshot(Call::Put(5, 8)).await?;
    Ok("committed")
}

fn begin(orders: &World, lines: &World) -> UnitOfWork {
    let mut unit = UnitOfWork::new();
    unit.touch(&orders.handle, 1)
        .touch(&lines.handle, 5)
        .touch(&lines.handle, 6);
    assert_eq!(
        (orders.handle.pins().keys, lines.handle.pins().keys),
        (1, 2),
        "pinned at once"
    );
    unit
}

#[tokio::test(start_paused = true)]
async fn a_commit_goes_on_wherever_its_caller_leaves_and_every_entity_follows() {
    for left in 1.. {
        let (orders, lines) = (World::new(), World::new());
        let unit = begin(&orders, &lines);
        let commit = transact(orders.legacy.clone(), lines.legacy.clone(), false);
        let done = polls(unit.commit(commit), left).await;
        rest().await;
        assert_eq!((orders.new.row(1), lines.new.row(5)), (Some(7), Some(8)));
        assert_eq!((orders.port.copies(), lines.port.copies()), (1, 1));
        assert_eq!(
            orders.handle.pins().total() + lines.handle.pins().total(),
            0
        );
        if let Some(answer) = done {
            assert_eq!(answer, Ok("committed"));
            assert!(left > 3);
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_commit_and_a_dropped_unit_let_go_of_their_pins() {
    let (orders, lines) = (World::new(), World::new());
    let commit = transact(orders.legacy.clone(), lines.legacy.clone(), true);
    let answer = begin(&orders, &lines).commit(commit).await;
    assert_eq!(answer, Err(Error::LostAnswer));
    rest().await;
    assert_eq!(
        orders.handle.pins().total() + lines.handle.pins().total(),
        0
    );

    drop(begin(&orders, &lines));
    let commit = transact(orders.legacy.clone(), lines.legacy.clone(), false);
    drop(begin(&orders, &lines).commit(commit));
    rest().await;
    assert_eq!(
        orders.handle.pins().total() + lines.handle.pins().total(),
        0
    );
    assert_eq!(orders.legacy.applied(), [], "never polled, never committed");
}
