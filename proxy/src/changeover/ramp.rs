//! What a builder says of answers and of reads that the new side serves.

use std::sync::Arc;
use std::time::Duration;

use super::Builder;
use crate::served::Served;

impl<N, Req, Res, E> Builder<N, Req, Res, E>
where
    Res: 'static,
{
    /// Told which side served each answer, and why, to put it where the application wants it: into a
    /// header or an extension of a response, a field, a task-local. Called once for every answer
    /// that is not an error, on the task that polls it, after it was compared and before the caller
    /// has it. Given again, both are called. A panic is contained.
    ///
    /// ```
    /// # use changeover_flags::{Entity, Epoch, Flags, Percent};
    /// # use changeover_proxy::{Changeover, Operation, Refused};
    /// # use changeover_shadow::Json;
    /// # use tower::{Layer as _, ServiceExt as _, service_fn};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let flags = Flags::memory(Entity::new("listings")?);
    /// # flags.learn(&Epoch::READY)?;
    /// # flags.set_read_new(Percent::HUNDRED)?;
    /// # let store = || service_fn(|_: i64| async { Ok::<_, Refused>(("lamp", String::new())) });
    /// let layer = Changeover::builder(flags)
    ///     .classify(|id: &i64| Operation::read("get", *id))
    ///     .observe(Json)
    ///     .mark(|(_row, served_by), served| *served_by = served.to_string())
    ///     .new_service(store())
    ///     .build()?;
    /// let (row, served_by) = layer.layer(store()).oneshot(7).await?;
    /// assert_eq!((row, served_by.as_str()), ("lamp", "new; because=percentage"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn mark(mut self, mark: impl Fn(&mut Res, Served) + Send + Sync + 'static) -> Self {
        self.mark = Some(match self.mark.take() {
            None => Arc::new(mark),
            Some(before) => Arc::new(move |answer: &mut Res, served| {
                // First, so that a panic of the other one does not silence it.
                mark(answer, served);
                before(answer, served);
            }),
        });
        self
    }

    /// Asks the authority as well when the follower has not answered a read after `delay`: the first
    /// good answer is the caller's. Off by default. It shortens the wait for a follower that is slow at
    /// times; a *not found* and an error of the follower are re-asked at once, as ever.
    ///
    /// An authority that lost goes on behind the answer, in the room and the time of a shadow read
    /// ([`Limits::shadows`](crate::Limits::shadows), [`shadow_time`](crate::Limits::shadow_time)). A follower
    /// that lost is dropped as at the end of its time, and so is an authority without room: guard both
    /// pools against a `begin` that is cancelled.
    ///
    /// Every hedge asks the authority once more than a follower that answers in the end would have:
    /// choose a delay that few reads reach (its p95, say), below
    /// [`Limits::follower_time`](crate::Limits::follower_time). `changeover_hedges_total` counts how they end,
    /// and a read that the authority answered first is a fallback with reason `hedge`.
    #[must_use]
    pub fn hedge_after(mut self, delay: Duration) -> Self {
        self.hedge = Some(delay);
        self
    }
}
