//! Futures that are suspended on purpose.

use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join;
use tokio::time::timeout;

/// How long a write that may be waiting for a lock is driven alone.
const ALONE: Duration = Duration::from_millis(500);

/// How long two writes have to end once both are driven, and one to be suspended or to end alone.
const TOGETHER: Duration = Duration::from_secs(60);

/// Which of two writes on one key ends first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// The one that began later.
    Overtaking,
    /// The one that began first.
    InTurn,
}

/// How an overlap went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Overlap<E> {
    /// In the order asked for, both carried out.
    Done,
    /// Both ended, at least one with this error: two writes that are carried out were not tried.
    Refused(E),
    /// The first ended before it could be suspended.
    TooShort,
    /// Both ended, but the one that was to end first had to wait for the other.
    Locked,
    /// They did not end, or one did not.
    Stuck,
}

/// Polls `future` at most `polls` times, whenever it has been woken; its answer, if there was one.
/// Dropping what is left is the caller's.
pub(super) async fn at_most<F: Future + Unpin>(polls: u32, future: &mut F) -> Option<F::Output> {
    let mut future = std::pin::Pin::new(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Begins `first`, suspends it after `polls` polls, and lets it and `second` end in `order`.
pub(super) async fn overlap<A, B, E>(
    mut first: A,
    mut second: B,
    polls: u32,
    order: Order,
) -> Overlap<E>
where
    A: Future<Output = Result<(), E>> + Unpin,
    B: Future<Output = Result<(), E>> + Unpin,
{
    match timeout(TOGETHER, at_most(polls, &mut first)).await {
        Ok(None) => {}
        Ok(Some(ended)) => return finish(ended, second, Overlap::TooShort).await,
        Err(_elapsed) => return Overlap::Stuck,
    }
    match order {
        Order::Overtaking => {
            if let Ok(ended) = timeout(ALONE, &mut second).await {
                return finish(ended, first, Overlap::Done).await;
            }
        }
        Order::InTurn => {
            if let Some(ended) = at_most(1, &mut second).await {
                return finish(ended, first, Overlap::TooShort).await;
            }
            if let Ok(ended) = timeout(ALONE, &mut first).await {
                return finish(ended, second, Overlap::Done).await;
            }
        }
    }
    let both = join(first, second).map(|(first, second)| first.and(second));
    finish(Ok(()), both, Overlap::Locked).await
}

/// Waits for the `rest`, after one has `ended`.
async fn finish<E>(
    ended: Result<(), E>,
    rest: impl Future<Output = Result<(), E>>,
    overlap: Overlap<E>,
) -> Overlap<E> {
    match timeout(TOGETHER, rest).await {
        Ok(rest) => match ended.and(rest) {
            Ok(()) => overlap,
            Err(error) => Overlap::Refused(error),
        },
        Err(_elapsed) => Overlap::Stuck,
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::future::BoxFuture;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_never_ends_is_told_wherever_it_stops() {
        const HOUR: Duration = Duration::from_secs(3_600);
        for order in [Order::Overtaking, Order::InTurn] {
            // It is never woken, so it is never polled so often.
            let first = overlap(pending::<Ended>(), ready(Ok(())), 2, order);
            assert_eq!(timeout(HOUR, first).await, Ok(Overlap::Stuck));
            let second = overlap(ready(Ok(())), pending::<Ended>(), 2, order);
            assert_eq!(timeout(HOUR, second).await, Ok(Overlap::Stuck));
        }
    }

    type Ended = Result<(), &'static str>;

    /// Ends after so long.
    fn after(millis: u64, ended: Ended) -> BoxFuture<'static, Ended> {
        Box::pin(async move {
            sleep(Duration::from_millis(millis)).await;
            ended
        })
    }

    #[tokio::test(start_paused = true)]
    async fn writes_of_which_one_is_refused_have_not_overlapped() {
        const BUSY: Ended = Err("busy");
        let whole = overlap(after(20, Ok(())), after(10, Ok(())), 1, Order::Overtaking);
        assert_eq!(whole.await, Overlap::Done);
        for order in [Order::Overtaking, Order::InTurn] {
            // The last two: locked, and too short.
            for (first, second) in [(20, 10), (2_000, 2_000), (0, 10)] {
                let ends = |one, other| overlap(after(first, one), after(second, other), 1, order);
                assert_eq!(ends(BUSY, Ok(())).await, Overlap::Refused("busy"));
                assert_eq!(ends(Ok(()), BUSY).await, Overlap::Refused("busy"));
            }
        }
    }
}
