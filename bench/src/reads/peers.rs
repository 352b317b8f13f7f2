//! What a team would use instead.

use std::future::ready;
use std::sync::Arc;

use futures_util::future::{BoxFuture, LocalBoxFuture};
use launchdarkly_server_sdk::{
    Client, ConfigBuilder, Context, ContextBuilder, ExecutionOrder, Migrator, MigratorBuilder,
    Stage,
};
use tower::{Service as _, ServiceExt as _};

use super::ours::{Get, Row, Store, store};
use crate::rounds::{Contender, Sample, timed};

type Side = fn(&i64) -> BoxFuture<'_, Result<Option<Row>, String>>;

/// LaunchDarkly's migrator without a connection: every call gets the stage that it names itself.
pub struct LaunchDarkly {
    migrator: Migrator<i64, Option<Row>, Side, Side, Side, Side>,
    context: Context,
    stage: Stage,
    /// A client that is dropped ends.
    _client: Arc<Client>,
}

impl LaunchDarkly {
    pub fn new(stage: Stage) -> LaunchDarkly {
        let config = ConfigBuilder::new("no-key").offline(true).build();
        let client = Client::build(config.expect("offline")).expect("offline");
        let client = Arc::new(client);
        let side: Side = |id| Box::pin(ready(Ok(Some(Row::of(*id)))));
        let migrator = MigratorBuilder::new(Arc::clone(&client))
            .read_execution_order(ExecutionOrder::Concurrent)
            .read(side, side, Some(|legacy, new| legacy == new))
            .write(side, side)
            .build()
            .expect("both are given");
        LaunchDarkly {
            migrator,
            context: ContextBuilder::new("caller").build().expect("a good key"),
            stage,
            _client: client,
        }
    }
}

impl Contender for LaunchDarkly {
    fn sample(&mut self, calls: usize) -> LocalBoxFuture<'_, Sample> {
        Box::pin(timed(calls, async |id| {
            let flag = "rows".to_owned();
            let read = self.migrator.read(&self.context, flag, self.stage, id);
            let row = read.await.result.expect("it always answers");
            assert!(std::hint::black_box(row).is_some());
        }))
    }
}

/// A write by LaunchDarkly's migrator, to both sides.
pub struct DualWrite(pub LaunchDarkly);

impl Contender for DualWrite {
    fn sample(&mut self, calls: usize) -> LocalBoxFuture<'_, Sample> {
        Box::pin(timed(calls, async |id| {
            let LaunchDarkly {
                migrator,
                context,
                stage,
                ..
            } = &mut self.0;
            let write = migrator.write(context, "rows".to_owned(), *stage, id).await;
            let row = write.authoritative.result.expect("it always answers");
            assert!(std::hint::black_box(row).is_some());
        }))
    }
}

/// What teams write by hand: both sides at once, compared, the first one's answer.
pub struct Join(Store, Store);

impl Join {
    pub fn new() -> Join {
        Join(store(), store())
    }
}

impl Contender for Join {
    fn sample(&mut self, calls: usize) -> LocalBoxFuture<'_, Sample> {
        Box::pin(timed(calls, async |id| {
            let legacy = self.0.ready().await.expect("always").call(Get(id));
            let new = self.1.ready().await.expect("always").call(Get(id));
            let (legacy, new) = tokio::join!(legacy, new);
            assert!(std::hint::black_box(legacy.is_ok_and(|row| new == Ok(row))));
        }))
    }
}

/// GitHub's scientist and its ports: one side after the other, in a random order, compared, the
/// durations kept.
pub struct Scientist(Store, Store);

impl Scientist {
    pub fn new() -> Scientist {
        Scientist(store(), store())
    }
}

impl Contender for Scientist {
    fn sample(&mut self, calls: usize) -> LocalBoxFuture<'_, Sample> {
        Box::pin(timed(calls, async |id| {
            let mut observed = [None, None];
            let first = usize::from(rand::random::<bool>());
            for side in [first, 1 - first] {
                let store = if side == 0 { &mut self.0 } else { &mut self.1 };
                let began = std::time::Instant::now();
                let answer = store.ready().await.expect("always").call(Get(id)).await;
                observed[side] = Some((answer, began.elapsed()));
            }
            let [control, candidate] = observed.map(|one| one.expect("both were asked"));
            std::hint::black_box((control.1, candidate.1));
            assert!(std::hint::black_box(control.0 == candidate.0));
        }))
    }
}
