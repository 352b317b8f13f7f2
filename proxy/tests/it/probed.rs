//! Shadow reads ask for versions where no caller waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use changeover_flags::{Key, Percent, Role, Version};
use changeover_proxy::{BoxError, Versions};
use changeover_shadow::Class;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use crate::world::*;

/// A port with one connection, which each question holds for so long.
#[derive(Clone)]
struct Narrow {
    port: Port,
    connection: Arc<Semaphore>,
    holds: Duration,
    asked: Arc<AtomicUsize>,
}

impl Narrow {
    fn of(port: &Port, holds: Duration) -> Narrow {
        Narrow {
            port: port.clone(),
            connection: Arc::new(Semaphore::new(1)),
            holds,
            asked: Arc::default(),
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn answer<T: Send + 'static>(
        &self,
        answer: BoxFuture<'static, Result<T, BoxError>>,
    ) -> BoxFuture<'static, Result<T, BoxError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let (connection, holds) = (Arc::clone(&self.connection), self.holds);
        Box::pin(async move {
            let _held = connection.acquire_owned().await?;
            tokio::time::sleep(holds).await;
            answer.await
        })
    }
}

impl Versions for Narrow {
    fn dirty(&self, keys: Vec<Key>) -> BoxFuture<'static, Result<Vec<Key>, BoxError>> {
        self.answer(self.port.dirty(keys))
    }

    fn any_dirty(&self) -> BoxFuture<'static, Result<bool, BoxError>> {
        self.answer(self.port.any_dirty())
    }

    fn held(
        &self,
        role: Role,
        keys: Vec<Key>,
    ) -> BoxFuture<'static, Result<Vec<Option<Version>>, BoxError>> {
        self.answer(self.port.held(role, keys))
    }
}

/// Everything is read from new and compared, and key 1 differs; the port of callers, and that of shadow reads,
/// which holds its connection for so long.
fn probed(holds: Duration) -> (World, Narrow, Narrow) {
    let mut ports = None;
    // The ports are of the stores of the world that is being made.
    let world = World::around(|builder, port| {
        let narrow = (Narrow::of(port, Duration::ZERO), Narrow::of(port, holds));
        let builder = builder.strict(true).versions(narrow.0.clone());
        let builder = builder.probe_versions(narrow.1.clone());
        ports = Some(narrow);
        builder.control(Percent::HUNDRED)
    });
    world.flags.set_sample(Percent::HUNDRED).unwrap();
    world.legacy.set(1, 7);
    world.new.set(1, 8);
    let (callers, shadows) = ports.unwrap();
    (world, callers, shadows)
}

#[tokio::test(start_paused = true)]
async fn what_a_shadow_read_asks_is_not_asked_of_the_callers_port() {
    for call in [Call::Get(1), Call::List { tolerant: false }] {
        let (world, callers, shadows) = probed(Duration::ZERO);
        world.call(call.clone()).await.unwrap();
        assert_eq!((callers.asked(), shadows.asked()), (1, 0), "{call:?}");
        rest().await;
        assert_eq!(world.handle.compared().of(Class::Mismatch), 1, "{call:?}");
        assert_eq!(callers.asked(), 1, "{call:?}");
        // Before the second look and after it, and for the control read of a key: both sides each time.
        let asked = match call {
            Call::Get(_) => 8,
            _ => 2,
        };
        assert_eq!(shadows.asked(), asked, "{call:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_caller_waits_for_a_connection_that_a_shadow_read_holds() {
    let (world, _, shadows) = probed(Duration::from_secs(3_600));
    for _ in 0..8 {
        world.get(1).await;
    }
    tokio::time::sleep(STEP * 10).await;
    assert_eq!(shadows.asked(), 8, "all of them wait");
    let token = world.handle.token([Key::from(1)]).await.unwrap();
    for call in [
        Call::Get(1),
        Call::GetWith(1, token),
        Call::List { tolerant: false },
    ] {
        let began = tokio::time::Instant::now();
        world.call(call.clone()).await.unwrap();
        assert_eq!(began.elapsed(), STEP * 2, "{call:?}");
    }
    let cohorts = world.handle.cohorts();
    assert_eq!(
        (cohorts.legacy.ok, cohorts.new.ok),
        (0, 11),
        "new answers all of them"
    );
}

/// The databases are what a kill is to relieve.
#[tokio::test(start_paused = true)]
async fn after_a_kill_nobody_asks_for_versions() {
    for call in [Call::Get(1), Call::List { tolerant: false }] {
        let (world, _, shadows) = probed(Duration::ZERO);
        world.legacy.fails(Fault::Slow(STEP * 100));
        world.call(call.clone()).await.unwrap();
        tokio::time::sleep(STEP * 10).await;
        assert_eq!(world.legacy.asked(), 1, "{call:?}: the first look");
        world.flags.kill("legacy is on its knees").unwrap();
        rest().await;
        assert_eq!(shadows.asked(), 0, "{call:?}");
        assert_eq!(world.legacy.asked(), 1, "{call:?}");
        assert_eq!(world.handle.compared().of(Class::Shed), 1, "{call:?}");
    }
}
