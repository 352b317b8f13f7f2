//! Lists compared by the keys of their elements: a page that lags is no difference, and one that
//! differs says which element and which field. In memory.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use changeover::flags::{Entity, Epoch, Flags, Percent};
use changeover::proxy::{Changeover, Limits, Operation, Refused};
use changeover::shadow::{Json, Redaction};
use serde::Serialize;
use tower::{Layer as _, ServiceExt as _, service_fn};

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Listing {
    id: i64,
    title: &'static str,
    cents: i64,
}

type Rows = Arc<Mutex<Vec<Listing>>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let flags = Flags::memory(Entity::new("listings")?);
    // What the worker reads from the legacy database.
    flags.learn(&Epoch::READY)?;
    flags.set_sample(Percent::HUNDRED)?;
    let listing = |id, title, cents| Listing { id, title, cents };
    let legacy: Rows = Arc::new(Mutex::new(vec![
        listing(1, "lamp", 2_000),
        listing(2, "chair", 3_500),
        listing(3, "table", 8_000),
    ]));
    // The second one's price was rounded on its way.
    let new: Rows = Arc::new(Mutex::new(vec![
        listing(3, "table", 8_000),
        listing(1, "lamp", 2_000),
        listing(2, "chair", 3_000),
    ]));
    let store = |rows: Rows| {
        service_fn(move |()| {
            let rows = rows.lock().expect("nobody panics").clone();
            async move { Ok::<_, Refused>(rows) }
        })
    };
    let layer = Changeover::builder(flags)
        // Another order is no difference here; `.in_order()` would make it one.
        .classify(|(): &()| Operation::list("newest").keyed_by(["id"]))
        .observe(Json)
        .redaction(Redaction::new().show_keys())
        .limits(Limits {
            second_look_after: Duration::from_millis(20),
            ..Limits::default()
        })
        .new_service(store(new))
        .build()?;
    let listings = layer.layer(store(legacy));
    let answer = listings.clone().oneshot(()).await?;
    assert_eq!(answer.len(), 3, "legacy answers its callers");

    let handle = listings.handle();
    let left = handle.close_and_wait(Duration::from_secs(5)).await;
    assert!(left.is_complete());
    assert_eq!(handle.compared().confirmed(), 1, "one list differs");
    for field in handle.samples().fields {
        for evidence in &field.kept {
            println!("{evidence}");
            assert_eq!(
                (evidence.key.as_deref(), &*evidence.path),
                (Some("2"), "cents")
            );
        }
    }
    Ok(())
}
