//! Whom a shadow read asks.

use std::sync::{Arc, Mutex, OnceLock};

use changeover_flags::Place;
use changeover_shadow::Answer;
use futures_util::future::BoxFuture;
use tower_service::Service;

use crate::metrics::StoreEnd;
use crate::pins::lock;
use crate::plan::{Eye, Plan};
use crate::ready::Taken;

/// A service that can stand at a side: calls of it may be made of clones, and in the background.
/// The public types spell it out, since what must hold should be readable where it is asked for.
pub(crate) trait Side<Req, Res, E>:
    Service<Req, Response = Res, Error = E, Future: Send + 'static> + Clone + Send + 'static
{
}

impl<S, Req, Res, E> Side<Req, Res, E> for S where
    S: Service<Req, Response = Res, Error = E, Future: Send + 'static> + Clone + Send + 'static
{
}

/// Asks one of the two sides of a layer, for its shadow reads. One for all clones of a service, so
/// that a call that is compared does not copy services while its caller waits.
pub(crate) trait Sides<Req>: Send + Sync {
    fn ask(&self, place: Place, request: Req) -> BoxFuture<'static, (StoreEnd, Answer)>;
}

/// What all shadow reads of a service and its clones stand on.
pub(crate) struct Ground<Req, Res, E> {
    pub(super) plan: Arc<Plan<Req, Res, E>>,
    pub(super) sides: Arc<dyn Sides<Req>>,
}

/// The same, made by the first shadow read.
pub(crate) type LazyGround<Req, Res, E> = Arc<OnceLock<Arc<Ground<Req, Res, E>>>>;

/// Sides that are given to the builder, and look at answers as it will be told.
pub(crate) type Probe<Req, Res, E> =
    Box<dyn FnOnce(Arc<Eye<Res, E>>) -> Arc<dyn Sides<Req>> + Send>;

/// The sides that the two services are.
pub(crate) fn sides<L, N, Req, Res, E>(
    legacy: L,
    new: N,
    eye: Arc<Eye<Res, E>>,
) -> Arc<dyn Sides<Req>>
where
    L: Side<Req, Res, E>,
    N: Side<Req, Res, E>,
    Req: Send + 'static,
    Res: Send + 'static,
    E: Send + 'static,
{
    Arc::new(Both {
        services: Mutex::new((legacy, new)),
        eye,
    })
}

/// The same, for an eye that is not there yet.
pub(crate) fn probe<L, N, Req, Res, E>(legacy: L, new: N) -> Probe<Req, Res, E>
where
    L: Side<Req, Res, E>,
    N: Side<Req, Res, E>,
    Req: Send + 'static,
    Res: Send + 'static,
    E: Send + 'static,
{
    Box::new(move |eye| sides(legacy, new, eye))
}

struct Both<L, N, Res, E> {
    /// Locked to be cloned: services need not be `Sync`.
    services: Mutex<(L, N)>,
    eye: Arc<Eye<Res, E>>,
}

impl<L, N, Req, Res, E> Sides<Req> for Both<L, N, Res, E>
where
    L: Side<Req, Res, E>,
    N: Side<Req, Res, E>,
    Req: Send + 'static,
    Res: Send + 'static,
    E: Send + 'static,
{
    fn ask(&self, place: Place, request: Req) -> BoxFuture<'static, (StoreEnd, Answer)> {
        let eye = Arc::clone(&self.eye);
        match place {
            Place::Legacy => looked(Taken::clone_of(&lock(&self.services).0), request, eye),
            Place::New => looked(Taken::clone_of(&lock(&self.services).1), request, eye),
        }
    }
}

fn looked<S, Req, Res, E>(
    side: Taken<S>,
    request: Req,
    eye: Arc<Eye<Res, E>>,
) -> BoxFuture<'static, (StoreEnd, Answer)>
where
    S: Side<Req, Res, E>,
    Req: Send + 'static,
    Res: Send + 'static,
    E: Send + 'static,
{
    Box::pin(async move {
        let answer = side.call(request).await;
        (StoreEnd::of(&answer), eye(&answer))
    })
}
