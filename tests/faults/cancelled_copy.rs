//! A copy that is dropped at any of its awaits, on real servers: the key was copied or is still
//! dirty, no lock and no transaction stays behind, and the next copy works.

use std::future::Future;
use std::task::Poll;
use std::time::{Duration, Instant};

use changeover::flags::Key;
use changeover::worker::copy::CopySource;

use crate::protocol::lifecycle::everywhere_and_on_pairs;
use crate::protocol::market::{Market, Topology, backfill, drain, verify};

everywhere_and_on_pairs!(a_dropped_copy_leaves_nothing);

/// Runs `future` for at most `polls` polls, then drops it; whether it ended.
async fn for_polls(polls: u32, future: impl Future) -> bool {
    let mut future = Box::pin(future);
    let mut left = polls;
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(_) => Poll::Ready(true),
        Poll::Pending if left <= 1 => Poll::Ready(false),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

mod scenario {
    use super::*;

    pub(super) async fn a_dropped_copy_leaves_nothing(topology: Topology) {
        let market = Market::start(topology).await;
        market.fill(8).await;
        let migration = market.installed().await;
        backfill(&migration).await;
        let keys: Vec<Key> = (1..=8i64).map(Key::from).collect();
        let (mut dropped, mut polls) = (0, 1);
        loop {
            market
                .legacy
                .run(&format!(
                    "UPDATE listings SET stock = {polls}, title = 't{polls}'"
                ))
                .await;
            let copy = migration.copier().copy(&keys, CopySource::Inline);
            let ended = for_polls(polls, copy).await;
            // Whatever happened: what is not dirty agrees. The dropped copy's statement may still
            // be running, so the application must be able to write at once all the same.
            let write = market
                .legacy
                .try_run("UPDATE listings SET stock = stock + 1 WHERE id = 1");
            let write = tokio::time::timeout(Duration::from_secs(15), write).await;
            assert!(
                matches!(write, Ok(Ok(()))),
                "{topology:?}: a dropped copy blocks the application: {write:?}"
            );
            if ended {
                break;
            }
            dropped += 1;
            polls += 1;
            assert!(polls < 400, "the copy never ends");
        }
        assert!(dropped >= 5, "only {dropped} awaits were cancelled");
        tokio::time::sleep(Duration::from_millis(50)).await;
        drain(&migration).await;
        assert_eq!(market.dirty().await, Vec::<String>::new());
        market.assert_equal().await;
        assert!(verify(&migration).await.clean());
        if market.legacy.is_postgres() {
            let open = "SELECT query FROM pg_stat_activity WHERE application_name = 'changeover' \
                AND state LIKE 'idle in transaction%' AND datname IN (current_database())";
            // The server notices a little later that a connection was closed.
            let began = Instant::now();
            loop {
                let open = market.legacy.texts(open).await;
                if open.is_empty() {
                    break;
                }
                let left = began.elapsed() > Duration::from_secs(20);
                assert!(!left, "a transaction was left open: {open:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}
