//! Transactions that the application opens itself: [`UnitOfWork`].
//!
//! A transaction that goes across repositories and entities does not pass through the layer as one
//! call. It names its keys as it goes and hands its commit over:
//!
//! 1. [`UnitOfWork::touch`] pins at once, so that this process reads the key from the authority.
//! 2. [`UnitOfWork::commit`] runs the commit as a unit that outlives its caller, then brings every
//!    entity's follower after it. A failed commit is an unknown outcome: it is followed too.
//! 3. Dropped without a commit (rolled back, most likely), the pins are let go the same way: by a
//!    copy that begins now, or by the word of the freshness port.
//!
//! Not promised: a transaction whose stage is not known is not refused here; the databases refuse
//! a write to the wrong side.

use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;

use changeover_flags::Key;
use futures_util::FutureExt as _;
use metrics::Counter;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::call::Touched;
use crate::desk::{Desk, Handle};
use crate::limits::Limits;
use crate::pins::Ticket;
use crate::port::Ended;
use crate::unit::{Home, Surviving};

/// The keys of one transaction of the application. See the module page.
#[derive(Default)]
pub struct UnitOfWork {
    parts: Vec<Part>,
}

/// What the transaction touches of one entity. Dropped, it has ended in a way nobody knows.
struct Part {
    desk: Arc<Desk>,
    touched: Touched,
    ticket: Option<Ticket>,
}

impl UnitOfWork {
    /// A transaction that has touched nothing yet.
    #[must_use]
    pub fn new() -> UnitOfWork {
        UnitOfWork::default()
    }

    /// The transaction writes `key` of the entity behind `handle`. Call it before the write.
    pub fn touch(&mut self, handle: &Handle, key: impl Into<Key>) -> &mut UnitOfWork {
        self.touch_all(handle, Touched::Key(key.into()))
    }

    /// The transaction writes these keys, this scope, or everything.
    pub fn touch_all(&mut self, handle: &Handle, touched: Touched) -> &mut UnitOfWork {
        let touched = handle.desk.touched(touched);
        let same = |part: &&mut Part| Arc::ptr_eq(&part.desk, &handle.desk);
        if let Some(part) = self.parts.iter_mut().find(same) {
            part.add(touched);
        } else {
            let ticket = Some(handle.desk.pins.begin(&touched));
            self.parts.push(Part {
                desk: Arc::clone(&handle.desk),
                touched,
                ticket,
            });
        }
        self
    }

    /// Runs the commit, then brings the followers after it. The error is the commit's own.
    ///
    /// Cancellation safe: once polled, the commit and what follows it go on without the caller.
    /// Nothing happens before the first poll.
    pub fn commit<T, E, F>(self, commit: F) -> Surviving<Result<T, E>>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let home = match self.parts.first() {
            Some(part) => part.desk.home(),
            None => Home {
                runtime: tokio::runtime::Handle::try_current().ok(),
                tracker: TaskTracker::new(),
                limit: Limits::default().write_time,
                room: Arc::new(Semaphore::new(1)),
                abandoned: Counter::noop(),
            },
        };
        let inner = async move {
            let mut parts = self.parts;
            let answer = AssertUnwindSafe(commit).catch_unwind().await;
            let ended = match &answer {
                Ok(Ok(_)) => Ended::Acknowledged,
                Ok(Err(_)) | Err(_) => Ended::Unknown,
            };
            for part in &mut parts {
                part.end(ended);
            }
            answer.unwrap_or_else(|panic| resume_unwind(panic))
        };
        Surviving::new(Box::pin(inner), home)
    }
}

impl Part {
    fn add(&mut self, touched: Touched) {
        if let Some(ticket) = &mut self.ticket {
            ticket.add(&touched);
        }
        self.touched = std::mem::take(&mut self.touched).and(touched);
    }

    fn end(&mut self, ended: Ended) {
        let Some(ticket) = self.ticket.take() else {
            return;
        };
        let touched = std::mem::take(&mut self.touched);
        let desk = &self.desk;
        if desk
            .flags
            .load()
            .serving()
            .is_ok_and(|stage| !stage.copies())
        {
            ticket.let_go();
        } else {
            desk.copy(ticket, || (desk.follow_keys)(touched, ended));
        }
        desk.metrics.pins(desk.pins.count());
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.end(Ended::Unknown);
    }
}

impl std::fmt::Debug for UnitOfWork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnitOfWork")
            .field("entities", &self.parts.len())
            .finish_non_exhaustive()
    }
}
