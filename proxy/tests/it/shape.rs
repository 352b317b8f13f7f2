use changeover_proxy::{DualWrite, ShadowRead, Surviving, UnitOfWork};
use tower::Service;

use crate::world::*;

fn is_service<S: Service<Call, Response = Answer, Error = Error> + Clone + Send + Sync + 'static>()
where
    S::Future: Send + 'static,
{
}

fn is_send_and_sync<T: Send + Sync>() {}

#[test]
fn a_layer_is_clone_send_and_sync_and_its_future_is_send() {
    is_service::<Layered>();
    is_service::<DualWrite<Store, Call, Answer, Error>>();
    is_service::<ShadowRead<Store, Store, Call, Answer, Error>>();
    is_send_and_sync::<Layer>();
    is_send_and_sync::<UnitOfWork>();
    fn is_send<T: Send>() {}
    is_send::<Surviving<Result<Answer, Error>>>();
}

#[test]
fn a_call_made_outside_of_a_runtime_finds_it_at_the_first_poll() {
    let world = World::new();
    world.both(1, 0);
    world
        .flags
        .learn(&epoch(3, changeover_flags::Place::Legacy, true))
        .unwrap();
    let mut service = world.service.clone();
    let mut nobody = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(Service::poll_ready(&mut service, &mut nobody).is_ready());
    let write = Service::call(&mut service, Call::Put(1, 7));
    let paused = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    paused.block_on(async {
        assert!(polls(write, 1).await.is_none());
        rest().await;
    });
    assert_eq!(world.new.row(1), Some(7));
    assert_eq!(world.handle.pins().total(), 0);
}
