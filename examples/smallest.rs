//! The smallest layer, in memory: a write follows to the new store, and reads move over to it. What
//! follows here is a replay, which is best effort; `axum_after` shows the copy that is a promise.
use changeover::flags::{Entity, Epoch, Flags, Percent};
use changeover::proxy::{Changeover, Operation, Refused, Replay};
use std::{collections::BTreeMap, sync::Arc, sync::Mutex, time::Duration};
use tower::{Layer as _, ServiceExt as _, service_fn};
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = |rows: &Arc<Mutex<BTreeMap<i64, &'static str>>>| {
        let rows = rows.clone();
        service_fn(move |(id, row): (i64, Option<&'static str>)| {
            let mut rows = rows.lock().expect("nobody panics");
            let answer = rows.get(&id).copied();
            rows.extend(row.map(|row| (id, row)));
            async move { Ok::<_, Refused>(answer) }
        })
    };
    let (legacy, new) = Default::default();
    let flags = Flags::memory(Entity::new("listings")?);
    #[rustfmt::skip] // What the worker reads from the legacy database.
    flags.learn(&Epoch::READY)?;
    let layer = Changeover::builder(flags.clone())
        .classify(|(id, row): &(i64, Option<_>)| match row {
            None => Operation::read("get", *id),
            Some(_) => Operation::write("put", [*id]),
        })
        .observe(changeover::shadow::Json)
        .new_service(store(&new))
        .follow(Replay::new(store(&new), 16));
    let listings = layer.build()?.layer(store(&legacy));
    listings.clone().oneshot((1, Some("lamp"))).await?;
    let left = listings.handle().close_and_wait(Duration::MAX).await;
    flags.set_read_new(Percent::HUNDRED)?;
    assert!(left.is_complete() && new.lock().expect("nobody panics").contains_key(&1));
    assert_eq!(listings.oneshot((1, None)).await?, Some("lamp"));
    Ok(())
}
