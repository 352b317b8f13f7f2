//! Futures that are suspended on purpose.

use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Duration;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overlap {
    /// In the order asked for.
    Done,
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
pub(super) async fn overlap<A, B>(mut first: A, mut second: B, polls: u32, order: Order) -> Overlap
where
    A: Future + Unpin,
    B: Future + Unpin,
{
    match timeout(TOGETHER, at_most(polls, &mut first)).await {
        Ok(None) => {}
        Ok(Some(_)) => return finish(second, Overlap::TooShort).await,
        Err(_elapsed) => return Overlap::Stuck,
    }
    let alone = match order {
        Order::Overtaking => {
            if timeout(ALONE, &mut second).await.is_ok() {
                return finish(first, Overlap::Done).await;
            }
            Overlap::Locked
        }
        Order::InTurn => {
            if at_most(1, &mut second).await.is_some() {
                return finish(first, Overlap::TooShort).await;
            }
            if timeout(ALONE, &mut first).await.is_ok() {
                return finish(second, Overlap::Done).await;
            }
            Overlap::Locked
        }
    };
    let both = futures_util::future::join(first, second);
    finish(both, alone).await
}

async fn finish(rest: impl Future, overlap: Overlap) -> Overlap {
    match timeout(TOGETHER, rest).await {
        Ok(_) => overlap,
        Err(_) => Overlap::Stuck,
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_never_ends_is_told_wherever_it_stops() {
        const HOUR: Duration = Duration::from_secs(3_600);
        for order in [Order::Overtaking, Order::InTurn] {
            // It is never woken, so it is never polled so often.
            let first = overlap(pending::<()>(), ready(()), 2, order);
            assert_eq!(timeout(HOUR, first).await, Ok(Overlap::Stuck));
            let second = overlap(ready(()), pending::<()>(), 2, order);
            assert_eq!(timeout(HOUR, second).await, Ok(Overlap::Stuck));
        }
    }
}
