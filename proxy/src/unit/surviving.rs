use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use metrics::Counter;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Where an abandoned unit goes on.
#[derive(Clone)]
pub(crate) struct Home {
    /// The runtime of the call, else that of the first poll.
    pub(crate) runtime: Option<Handle>,
    pub(crate) tracker: TaskTracker,
    /// How long it goes on there, whoever waits for its room.
    pub(crate) limit: Duration,
    /// For all units.
    pub(crate) room: Arc<Semaphore>,
    pub(crate) abandoned: Counter,
}

impl Home {
    /// The least time between two looks whether somebody waits for room.
    const LOOK: Duration = Duration::from_millis(100);
}

/// A unit's place in the count of units, with or without a caller.
enum Room {
    Waiting(BoxFuture<'static, OwnedSemaphorePermit>),
    Taken { _permit: OwnedSemaphorePermit },
}

impl Room {
    /// The place, at once or as soon as another unit has ended.
    fn of(room: &Arc<Semaphore>) -> Room {
        match Arc::clone(room).try_acquire_owned() {
            Ok(permit) => Room::Taken { _permit: permit },
            Err(_full) => {
                let permit = Arc::clone(room).acquire_owned();
                Room::Waiting(Box::pin(async {
                    permit.await.expect("it is never closed")
                }))
            }
        }
    }

    fn poll_taken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Room::Waiting(permit) = self {
            let permit = ready!(permit.as_mut().poll(cx));
            *self = Room::Taken { _permit: permit };
        }
        Poll::Ready(())
    }
}

/// A future that goes on without its caller; see the module page.
///
/// Cancellation safe: dropping it after its first poll moves the rest of the work to the runtime.
#[must_use = "futures do nothing unless polled"]
pub struct Surviving<T: Send + 'static> {
    inner: Option<BoxFuture<'static, T>>,
    started: bool,
    home: Home,
    room: Option<Room>,
    in_flight: Option<TaskTrackerToken>,
}

impl<T: Send + 'static> Surviving<T> {
    /// It takes its place in the room now, or waits for it before it begins.
    pub(crate) fn new(inner: BoxFuture<'static, T>, home: Home) -> Self {
        let (in_flight, room) = (Some(home.tracker.token()), Room::of(&home.room));
        Surviving {
            inner: Some(inner),
            started: false,
            home,
            room: Some(room),
            in_flight,
        }
    }
}

impl<T: Send + 'static> Future for Surviving<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // Before it has room it has not begun: a caller that leaves now leaves nothing behind.
        if let Some(room) = &mut self.room {
            ready!(room.poll_taken(cx));
        }
        if !self.started && self.home.runtime.is_none() {
            self.home.runtime = Handle::try_current().ok();
        }
        self.started = true;
        // Taken out while polled: a future that panicked must not be moved to the runtime.
        let mut inner = self.inner.take().expect("polled after it was ready");
        let answer = inner.as_mut().poll(cx);
        if answer.is_pending() {
            self.inner = Some(inner);
        } else {
            (self.room, self.in_flight) = (None, None);
        }
        answer
    }
}

impl<T: Send + 'static> Drop for Surviving<T> {
    fn drop(&mut self) {
        let (Some(inner), true) = (self.inner.take(), self.started) else {
            return;
        };
        self.home.abandoned.increment(1);
        let (room, rooms, mut limit) = (
            self.room.take(),
            Arc::clone(&self.home.room),
            self.home.limit,
        );
        let Some(runtime) = &self.home.runtime else {
            return;
        };
        // The timer is made inside the task: this drop may run outside of any runtime.
        let rest = async move {
            let mut inner = inner;
            // Dropped half-way, it may leave its pool a connection inside a transaction: never without need.
            while tokio::time::timeout(limit, &mut inner).await.is_err()
                && rooms.available_permits() > 0
            {
                limit = limit.max(Home::LOOK);
            }
            drop(inner);
            drop(room);
        };
        drop(self.home.tracker.spawn_on(rest, runtime));
    }
}

impl<T: Send + 'static> fmt::Debug for Surviving<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surviving")
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::FutureExt as _;

    use super::*;

    fn home() -> Home {
        Home {
            runtime: Some(Handle::current()),
            tracker: TaskTracker::new(),
            limit: Duration::from_secs(60),
            room: Arc::new(Semaphore::new(1)),
            abandoned: Counter::noop(),
        }
    }

    fn steps(done: &Arc<AtomicU32>) -> BoxFuture<'static, u32> {
        let done = Arc::clone(done);
        Box::pin(async move {
            for _ in 0..3 {
                done.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            done.fetch_add(1, Ordering::SeqCst) + 1
        })
    }

    fn unit<T: Send>(inner: BoxFuture<'static, T>, home: &Home) -> Surviving<T> {
        Surviving::new(inner, home.clone())
    }

    #[tokio::test(start_paused = true)]
    async fn without_room_it_waits_and_has_not_begun() {
        let (home, done) = (home(), Arc::new(AtomicU32::new(0)));
        let room = &home.room;
        let new = || unit(steps(&done), &home);
        let mut first = new();
        assert_eq!((&mut first).now_or_never(), None);
        let mut second = new();
        assert_eq!((&mut second).now_or_never(), None);
        drop(second);
        // Without a caller it still takes its place.
        drop(first);
        assert_eq!(room.available_permits(), 0);
        assert_eq!(new().await, 4 + 4);
        assert_eq!(room.available_permits(), 1);
    }

    async fn wait(home: &Home) {
        home.tracker.close();
        home.tracker.wait().await;
    }

    #[tokio::test(start_paused = true)]
    async fn goes_on_after_a_drop_but_not_if_it_never_began() {
        let (home, done) = (home(), Arc::new(AtomicU32::new(0)));
        drop(unit(steps(&done), &home));
        wait(&home).await;
        assert_eq!(done.load(Ordering::SeqCst), 0);

        let mut unit = unit(steps(&done), &home);
        assert_eq!((&mut unit).now_or_never(), None);
        drop(unit);
        wait(&home).await;
        assert_eq!(done.load(Ordering::SeqCst), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn is_given_up_after_its_limit() {
        let home = home();
        let mut unit = unit(Box::pin(std::future::pending::<()>()), &home);
        assert_eq!((&mut unit).now_or_never(), None);
        drop(unit);
        let before = tokio::time::Instant::now();
        wait(&home).await;
        assert_eq!(before.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn is_not_given_up_while_there_is_room_for_others() {
        let home = Home {
            room: Arc::new(Semaphore::new(2)),
            ..home()
        };
        let mut late = unit(Box::pin(std::future::pending::<()>()), &home);
        assert_eq!((&mut late).now_or_never(), None);
        drop(late);
        let before = tokio::time::Instant::now();
        tokio::time::sleep(Duration::from_secs(150)).await;
        assert_eq!(home.tracker.len(), 1);
        let other = Arc::clone(&home.room).acquire_owned().await;
        wait(&home).await;
        assert_eq!(before.elapsed().as_secs(), 180);
        drop(other);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_reaches_the_caller_and_moves_nothing() {
        let home = home();
        let broken: BoxFuture<'static, ()> =
            Box::pin(async { std::panic::resume_unwind(Box::new("as it is")) });
        let mut unit = unit(broken, &home);
        assert!(AssertUnwindSafe(&mut unit).catch_unwind().await.is_err());
        drop(unit);
        assert_eq!(home.tracker.len(), 0);
    }

    #[test]
    fn without_a_runtime_it_just_ends() {
        let homeless = Home {
            runtime: None,
            tracker: TaskTracker::new(),
            limit: Duration::ZERO,
            room: Arc::new(Semaphore::new(1)),
            abandoned: Counter::noop(),
        };
        let mut unit = unit(Box::pin(std::future::pending::<()>()), &homeless);
        assert_eq!((&mut unit).now_or_never(), None);
    }
}
