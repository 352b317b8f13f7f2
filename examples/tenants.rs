//! Reads move over tenant by tenant: a tenant's listings are all answered by one side, and a bulk
//! write of one tenant holds nobody else up. In memory, so that routing is what is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use changeover::flags::{Entity, Epoch, Flags, KeyList, Percent, Place};
use changeover::proxy::{Changeover, Operation, Refused};
use changeover::shadow::Json;
use tower::{Layer as _, ServiceExt as _, service_fn};

#[derive(Debug, Clone)]
enum Call {
    Get { tenant: u32, id: i64 },
    Newest { tenant: u32 },
    CloseAll { tenant: u32 },
}

/// (which side answered, what)
type Answer = (Place, Vec<i64>);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let flags = Flags::memory(Entity::new("listings")?);
    // What the worker reads from the legacy database.
    flags.learn(&Epoch::READY)?;
    let closed = Arc::new(Mutex::new(BTreeSet::new()));
    let store = |place: Place| {
        let closed = closed.clone();
        service_fn(move |call: Call| {
            let rows = match call {
                Call::Get { id, .. } => vec![id],
                Call::Newest { tenant } => vec![i64::from(tenant) * 10 + 1, i64::from(tenant) * 10],
                Call::CloseAll { tenant } => {
                    closed.lock().expect("nobody panics").insert(tenant);
                    Vec::new()
                }
            };
            async move { Ok::<Answer, Refused>((place, rows)) }
        })
    };
    let layer = Changeover::builder(flags.clone())
        // Every call of a tenant says so: the percentage is taken of the tenant, not of the row.
        .classify(|call: &Call| match call {
            Call::Get { tenant, id } => Operation::read("get", *id).routed_by(tenant.to_string()),
            Call::Newest { tenant } => Operation::list("newest")
                .routed_by(tenant.to_string())
                .tolerates_lag(),
            Call::CloseAll { tenant } => Operation::bulk("close_all", tenant.to_string()),
        })
        .observe(|(_, rows): &Answer| changeover::shadow::Observe::observe(&Json, rows))
        .new_service(store(Place::New))
        .build()?;
    let listings = layer.layer(store(Place::Legacy));
    let side = async |call| listings.clone().oneshot(call).await.map(|(place, _)| place);

    // One tenant first, before any percentage; and one that is not to move yet.
    flags.set_always_new(KeyList::of_routed_by(["3"])?)?;
    flags.set_never_new(KeyList::of_routed_by(["5"])?)?;
    assert_eq!(side(Call::Newest { tenant: 3 }).await?, Place::New);
    assert_eq!(side(Call::Newest { tenant: 4 }).await?, Place::Legacy);

    let mut moved = BTreeMap::new();
    for percent in [0.0, 10.0, 25.0, 50.0, 100.0] {
        flags.set_read_new(Percent::new(percent)?)?;
        for tenant in 1..=40 {
            let list = side(Call::Newest { tenant }).await?;
            for id in 0..3 {
                let id = i64::from(tenant) * 10 + id;
                assert_eq!(
                    side(Call::Get { tenant, id }).await?,
                    list,
                    "one side per tenant"
                );
            }
            let before = moved.insert(tenant, list);
            assert!(
                before != Some(Place::New) || list == Place::New,
                "nobody moves back"
            );
        }
        let on_new = moved.values().filter(|side| **side == Place::New).count();
        println!("{percent:>3} %: {on_new} of 40 tenants read the new side");
    }
    assert_eq!(moved.get(&5), Some(&Place::Legacy), "not even at 100 %");
    side(Call::CloseAll { tenant: 7 }).await?;
    let of = |tenant: u32| Call::Get {
        tenant,
        id: i64::from(tenant) * 10,
    };
    assert_eq!(side(of(7)).await?, Place::Legacy, "until it is copied");
    assert_eq!(side(of(8)).await?, Place::New, "nobody else waits");
    Ok(())
}
