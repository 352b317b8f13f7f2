//! The layer, and the bare call inside it.

use std::future::{Ready, pending, ready};
use std::sync::Arc;
use std::time::Duration;

use changeover::flags::{Entity, Epoch, Flags, Percent, Place, Version};
use changeover::proxy::{Changeover, ChangeoverLayer, Limits, Operation, Refused};
use changeover::shadow::Value;
use futures_util::future::LocalBoxFuture;
use tower::util::BoxCloneService;
use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};

use crate::rounds::{Contender, Sample, timed};

/// A call.
#[derive(Debug, Clone)]
pub struct Get(pub i64);

/// An answer that allocates nothing, so that what is counted is the layer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub id: i64,
    pub price: i64,
}

impl Row {
    pub fn of(id: i64) -> Row {
        Row { id, price: 7 * id }
    }
}

/// One side: a boxed call, as a repository behind a trait is.
pub type Store = BoxCloneService<Get, Option<Row>, Refused>;

/// A store with a pool of something, as stores have: a clone of its box allocates.
pub fn store() -> Store {
    let pool = Arc::new(7);
    BoxCloneService::new(service_fn(move |get: Get| -> Ready<Result<_, Refused>> {
        let row = Row {
            id: get.0,
            price: *pool * get.0,
        };
        ready(Ok(Some(row)))
    }))
}

fn silent() -> Store {
    BoxCloneService::new(service_fn(|_: Get| pending()))
}

/// The stages of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Stage `legacy`.
    Legacy,
    /// Stage `dual-write`, every read by the new side.
    Routed,
    /// Stage `dual-write`, every read by legacy and compared.
    Shadowed,
    /// The same, with copies of the answers observed behind the caller.
    Copied,
    /// Compared, and the new side never answers.
    Silent,
}

/// The bare boxed call.
pub struct Bare(Store);

impl Bare {
    pub fn new() -> Bare {
        Bare(store())
    }

    pub async fn call(&mut self, id: i64) {
        let ready = self.0.ready().await.expect("it is always ready");
        let row = ready.call(Get(id)).await.expect("it always answers");
        assert!(std::hint::black_box(row).is_some());
    }
}

impl Contender for Bare {
    fn sample(&mut self, calls: usize) -> LocalBoxFuture<'_, Sample> {
        Box::pin(timed(calls, async |id| self.call(id).await))
    }
}

/// The same call through the layer.
pub struct Layered {
    layer: ChangeoverLayer<Store, Get, Option<Row>, Refused>,
    service: Changeover<Store, Store, Get, Option<Row>, Refused>,
}

impl Layered {
    /// A layer in `stage` with room for `shadows` shadow reads at once.
    pub fn new(stage: Stage, shadows: usize) -> Layered {
        let entity = Entity::new("rows").expect("a good name");
        let flags = Flags::memory(entity);
        let copying = stage != Stage::Legacy;
        let epoch = Epoch {
            number: 1,
            authority: Place::Legacy,
            copying,
            moving_to: None,
            revision: 1,
            base: Version(0),
            backfilled: copying,
            verified: copying,
        };
        flags.learn(&epoch).expect("memory can be saved to");
        match stage {
            Stage::Legacy => {}
            Stage::Routed => flags.set_read_new(Percent::HUNDRED).expect("it is ready"),
            Stage::Shadowed | Stage::Copied | Stage::Silent => flags
                .set_sample(Percent::HUNDRED)
                .expect("memory can be saved to"),
        }
        let limits = Limits {
            shadows,
            shadow_time: Duration::from_millis(if stage == Stage::Silent { 2 } else { 1_000 }),
            ..Limits::default()
        };
        let new = if stage == Stage::Silent {
            silent()
        } else {
            store()
        };
        let mut builder = Changeover::builder(flags)
            .classify(|get: &Get| Operation::read("get", get.0))
            .operations(["get"])
            .observe(|row: &Option<Row>| {
                row.map(|row| Value::record([("id", row.id), ("price", row.price)]))
            })
            .found(|row: &Option<Row>| row.is_some())
            .new_service(new)
            .limits(limits);
        if stage == Stage::Copied {
            builder = builder.observe_copies();
        }
        let layer = builder.build().expect("nothing is missing");
        let service = layer.layer(store());
        Layered { layer, service }
    }

    pub async fn call(&mut self, id: i64) {
        let ready = self.service.ready().await.expect("it is always ready");
        let row = ready.call(Get(id)).await.expect("it always answers");
        assert!(std::hint::black_box(row).is_some());
    }

    /// Waits until no shadow read is in flight.
    pub fn rest(&self) -> impl Future<Output = ()> + Send + 'static {
        let handle = self.layer.handle();
        async move {
            for turn in 0.. {
                match handle.compared().in_flight() {
                    0 => break,
                    _ if turn < 100 => tokio::task::yield_now().await,
                    _ => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            }
        }
    }
}

impl Contender for Layered {
    fn sample(&mut self, calls: usize) -> LocalBoxFuture<'_, Sample> {
        Box::pin(timed(calls, async |id| self.call(id).await))
    }

    fn settle(&mut self) -> LocalBoxFuture<'_, ()> {
        Box::pin(self.rest())
    }
}
