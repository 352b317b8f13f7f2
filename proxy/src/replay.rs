//! Best effort for a follower that takes no copies: [`Replay`] calls it with the same request.
//!
//! For a store that is not SQL, such as an HTTP service. Everything that shows this tier must say
//! *best effort*.
//!
//! 1. Only acknowledged writes are replayed. A refused one changed nothing; of an unknown one
//!    nobody here knows, so it is left, and its keys stay pinned.
//! 2. Writes that share a key are replayed in the order in which they ended in this process; one
//!    that names no keys waits for all before it, and all after it wait for it.
//! 3. At most so many replays run or wait. What has no room is left, and counted.
//! 4. A replay is no copy: it ends as [`Followed::Replayed`], counted as `replayed` and never as
//!    `applied`. A key's pin goes when *every* write of it was replayed. One that was left, lost or
//!    late, or that was under way together with another of its key, keeps the key with the authority
//!    for as long as this process lives; later writes of it are replayed all the same.
//! 5. So this process reads a key from the new service only where every write that it made of it
//!    arrived, in order. The caller's answer and time depend on the new service no more than
//!    elsewhere: a write does not wait, a read waits for at most
//!    [`Limits::follower_time`](crate::Limits::follower_time).
//!
//! Not promised: anything about writes of other processes or past the layer; a replay after a crash,
//! and a pin after a restart: what was left is missing on the new service, and nothing brings it
//! there; replays of a [`UnitOfWork`](crate::UnitOfWork), which has no request; the order between a
//! write that names no keys and others under way with it; equal results where the write depends on
//! time, generated ids or other writers. Nothing is retried. Sample reads, since comparing finds
//! what is missing, and bring the new service up to date by means of its own before a restart.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use changeover_flags::Key;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use crate::call::Touched;
use crate::pins::lock;
use crate::port::{Ended, Follow, Followed, Written};
use crate::ready::Taken;

/// Replays acknowledged writes on the new service; see the [module page](self).
///
/// `S` is locked for as long as a clone takes, so it need not be `Sync`.
pub struct Replay<S> {
    service: Mutex<S>,
    lanes: Arc<Mutex<Lanes>>,
    room: Arc<Semaphore>,
}

/// Who is last in the line of each key.
#[derive(Debug, Default)]
struct Lanes {
    count: u64,
    keys: BTreeMap<Key, Place>,
    /// The last write that named no keys.
    all: Option<Place>,
}

/// A place in a line: done, or dropped, when cancelled.
#[derive(Debug, Clone)]
struct Place {
    number: u64,
    done: CancellationToken,
}

/// Leaves the lines, however the replay ended.
struct Leave {
    lanes: Arc<Mutex<Lanes>>,
    place: Place,
    keys: Vec<Key>,
}

impl<S> Replay<S> {
    /// At most `at_once` replays run or wait.
    pub fn new(service: S, at_once: usize) -> Replay<S> {
        let permits = at_once.min(Semaphore::MAX_PERMITS);
        Replay {
            service: Mutex::new(service),
            lanes: Arc::default(),
            room: Arc::new(Semaphore::new(permits)),
        }
    }
}

impl<S, Req> Follow<Req> for Replay<S>
where
    S: Service<Req> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send,
    S::Error: Send,
    Req: Send + 'static,
{
    fn follow(&self, write: Written<Req>) -> BoxFuture<'static, Followed> {
        let left = |why: &'static str| -> BoxFuture<'static, Followed> {
            Box::pin(async move { Followed::Left(why) })
        };
        let request = match (write.ended, write.request) {
            (Ended::Refused, _) => return Box::pin(async { Followed::Replayed }),
            (Ended::Unknown, _) => return left("the outcome is not known, so it is not replayed"),
            (Ended::Acknowledged, None) => return left("the request could not be copied"),
            (Ended::Acknowledged, Some(request)) => request,
        };
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            return left("no room for a replay");
        };
        let (before, leave) = enter(&self.lanes, write.touched);
        let service = Taken::clone_of(&*lock(&self.service));
        Box::pin(async move {
            let _leave = (leave, room);
            for place in before {
                place.done.cancelled().await;
            }
            match service.call(request).await {
                Ok(_) => Followed::Replayed,
                Err(_) => Followed::Left("the service answered an error"),
            }
        })
    }

    fn wants_request(&self) -> bool {
        true
    }
}

impl<S> fmt::Debug for Replay<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay")
            .field("room", &self.room.available_permits())
            .finish_non_exhaustive()
    }
}

/// Takes a place behind everybody who shares a key.
fn enter(lanes: &Arc<Mutex<Lanes>>, touched: Touched) -> (Vec<Place>, Leave) {
    let mut line = lock(lanes);
    line.count += 1;
    let place = Place {
        number: line.count,
        done: CancellationToken::new(),
    };
    let mut before: Vec<Place> = line.all.clone().into_iter().collect();
    let keys = match touched {
        Touched::Key(_) | Touched::Keys(_) => touched.into_keys(),
        Touched::None | Touched::Scope(_) | Touched::All => {
            before.extend(line.keys.values().cloned());
            line.all = Some(place.clone());
            Vec::new()
        }
    };
    for key in &keys {
        before.extend(line.keys.insert(key.clone(), place.clone()));
    }
    // A key named twice must not wait for itself.
    before.retain(|other| other.number != place.number);
    drop(line);
    (
        before,
        Leave {
            lanes: Arc::clone(lanes),
            place,
            keys,
        },
    )
}

impl Drop for Leave {
    fn drop(&mut self) {
        let number = self.place.number;
        let mut line = lock(&self.lanes);
        for key in &self.keys {
            if line.keys.get(key).is_some_and(|last| last.number == number) {
                line.keys.remove(key);
            }
        }
        line.all.take_if(|last| last.number == number);
        drop(line);
        self.place.done.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use futures_util::future::join_all;
    use tower::service_fn;

    use super::*;

    fn acknowledged(touched: Touched, request: u64) -> Written<u64> {
        Written::new(touched, Ended::Acknowledged, Some(request))
    }

    #[tokio::test(start_paused = true)]
    async fn writes_of_one_key_keep_their_order_whoever_is_polled_first() {
        let done = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&done);
        // The earlier, the slower.
        let service = service_fn(move |request: u64| {
            let log = Arc::clone(&log);
            async move {
                tokio::time::sleep(Duration::from_secs(10 - request)).await;
                lock(&log).push(request);
                Ok::<_, Infallible>(())
            }
        });
        let replay = Replay::new(service, 9);
        let line = [
            replay.follow(acknowledged(Touched::keys([1]), 1)),
            replay.follow(acknowledged(Touched::keys([1, 2]), 2)),
            replay.follow(acknowledged(Touched::keys([3]), 3)),
            replay.follow(acknowledged(Touched::All, 4)),
            replay.follow(acknowledged(Touched::keys([3, 3]), 5)),
        ];
        let ends = join_all(line.into_iter().rev()).await;
        assert!(ends.iter().all(|end| *end == Followed::Replayed));
        assert_eq!(*lock(&done), [3, 1, 2, 4, 5]);
        let lanes = lock(&replay.lanes);
        assert!(lanes.keys.is_empty() && lanes.all.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_was_acknowledged_is_replayed_and_only_with_room() {
        let service = service_fn(|_: u64| std::future::pending::<Result<(), Infallible>>());
        let replay = Replay::new(service, 1);
        let unknown = Written::new(Touched::keys([1]), Ended::Unknown, Some(1));
        assert!(matches!(replay.follow(unknown).await, Followed::Left(_)));
        let refused = Written::new(Touched::keys([1]), Ended::Refused, None);
        assert_eq!(replay.follow(refused).await, Followed::Replayed);
        let waits = replay.follow(acknowledged(Touched::keys([1]), 1));
        let over = replay.follow(acknowledged(Touched::keys([2]), 2)).await;
        assert!(matches!(over, Followed::Left(_)));
        // Dropped on its way, it leaves its place to the next.
        drop(waits);
        assert!(lock(&replay.lanes).keys.is_empty());
        assert_eq!(replay.room.available_permits(), 1);
    }
}
