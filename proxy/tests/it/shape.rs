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
