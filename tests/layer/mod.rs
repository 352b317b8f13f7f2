//! The layer over real databases: what a caller sees, whatever happens to it or to the follower.

use std::future::Future;
use std::task::Poll;
use std::time::Duration;

use changeover::flags::{KeyList, Percent};
use changeover::proxy::UnitOfWork;
use changeover::worker::migration::Migration;

use crate::protocol::lifecycle::{everywhere, everywhere_and_on_pairs, on_pairs};
use crate::protocol::market::{Market, Topology, backfill, drain, verify};

pub mod shop;

/// Shadow reads and the connections of callers.
mod budget;
/// Rows that no backfill has brought yet.
mod history;
/// Lists, compared by key.
mod lists;
/// A key that is spelled in two ways.
mod spelling;

use shop::{Call, Instance, Reply, ShopError, Trouble};

/// How long a new side is waited for that hangs on purpose.
const HASTE: Duration = Duration::from_millis(300);

everywhere!(
    a_write_outlives_its_caller,
    a_read_can_be_dropped_anywhere,
    the_follower_never_changes_an_answer,
    a_caller_reads_its_own_writes,
    a_token_is_honoured_by_another_instance,
    the_kill_switch_sends_reads_back,
    percentages_wait_for_evidence,
    a_test_tenant_is_served_by_new_first,
    a_unit_of_work_copies_after_its_commit,
);

on_pairs!(
    a_write_outlives_its_caller,
    a_caller_reads_its_own_writes,
    a_unit_of_work_copies_after_its_commit,
);

async fn ready(topology: Topology) -> (Market, Migration) {
    let market = Market::start(topology).await;
    market.fill(16).await;
    let migration = market.installed().await;
    backfill(&migration).await;
    assert!(verify(&migration).await.clean());
    (market, migration)
}

async fn settle(market: &Market, migration: &Migration, instances: &[&Instance]) {
    for instance in instances {
        let drained = instance
            .handle
            .close_and_wait(Duration::from_secs(30))
            .await;
        assert!(drained.is_complete(), "{drained:?}");
    }
    drain(migration).await;
    assert_eq!(market.dirty().await, Vec::<String>::new());
    market.assert_equal().await;
    assert!(verify(migration).await.clean());
}

/// Polls for at most `polls` times, then drops; the answer, if there was one.
async fn for_polls<T>(polls: u32, future: impl Future<Output = T>) -> Option<T> {
    let mut future = Box::pin(future);
    let mut left = polls;
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending if left <= 1 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

/// Clean keys are let go of by the next sweep.
async fn no_pins(instance: &Instance) {
    for _ in 0..500 {
        if instance.handle.pins().total() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!(
        "pins stay although nothing is dirty: {:?}",
        instance.handle.pins()
    );
}

mod scenario {
    use super::*;

    /// Dropped after any number of polls, a write that began ends exactly once on the authority
    /// and reaches the follower.
    pub(super) async fn a_write_outlives_its_caller(topology: Topology) {
        let (market, migration) = ready(topology).await;
        let instance = Instance::of(&market, true).await;
        market
            .legacy
            .run("UPDATE listings SET title = '' WHERE id <= 4")
            .await;
        let (mut dropped, mut polls) = (0u32, 1);
        loop {
            let id = i64::from(polls % 4) + 1;
            let call = instance.call(Call::Append(id, format!("t{polls}")));
            let answered = for_polls(polls, call).await;
            if answered.is_none() {
                dropped += 1;
            }
            polls += 1;
            if answered.is_some() && dropped > 0 || polls > 60 {
                break;
            }
        }
        assert!(dropped > 0, "no write was cancelled");
        settle(&market, &migration, &[&instance]).await;
        let titles = market
            .legacy
            .texts("SELECT coalesce(title, '') FROM listings WHERE id <= 4")
            .await;
        let all: String = titles.concat();
        for n in 1..polls {
            let times = all.matches(&format!("t{n};")).count();
            assert_eq!(
                times, 1,
                "{topology:?}: the write dropped after {n} polls is there {times} times"
            );
        }
    }

    pub(super) async fn a_read_can_be_dropped_anywhere(topology: Topology) {
        let (market, migration) = ready(topology).await;
        let instance = Instance::of(&market, true).await;
        instance.read_new(Percent::HUNDRED);
        instance
            .wiring
            .flags()
            .set_sample(Percent::HUNDRED)
            .unwrap();
        let expected = market
            .legacy
            .text("SELECT title FROM listings WHERE id = 1")
            .await;
        for polls in 1..12 {
            for_polls(polls, instance.call(Call::Get(1, None))).await;
            assert_eq!(instance.title(1).await.as_deref(), Some(expected.as_str()));
        }
        settle(&market, &migration, &[&instance]).await;
    }

    pub(super) async fn the_follower_never_changes_an_answer(topology: Topology) {
        let (market, migration) = ready(topology).await;
        let instance = Instance::hasty(&market, HASTE).await;
        instance.read_new(Percent::HUNDRED);
        for trouble in [
            Trouble::Fails,
            Trouble::Hangs,
            Trouble::Panics,
            Trouble::NotReady,
            Trouble::Absent,
        ] {
            for (percent, sample) in [
                (Percent::HUNDRED, Percent::ZERO),
                (Percent::ZERO, Percent::HUNDRED),
            ] {
                instance.read_new(percent);
                instance.wiring.flags().set_sample(sample).unwrap();
                instance.new.trouble(trouble);
                let title = format!("{trouble:?} {percent}");
                let write = instance.call(Call::Retitle(3, title.clone())).await;
                assert!(
                    matches!(write, Ok(Reply::Done)),
                    "{topology:?} {trouble:?}: {write:?}"
                );
                assert_eq!(
                    instance.title(3).await,
                    Some(title),
                    "{topology:?} {trouble:?}"
                );
                let other = market
                    .legacy
                    .text("SELECT title FROM listings WHERE id = 4")
                    .await;
                assert_eq!(
                    instance.title(4).await,
                    Some(other),
                    "{topology:?} {trouble:?}"
                );
            }
        }
        instance.new.trouble(Trouble::None);
        settle(&market, &migration, &[&instance]).await;
    }

    /// Every write is read back at once, at 100 %, while copies and the drain run.
    pub(super) async fn a_caller_reads_its_own_writes(topology: Topology) {
        let (market, migration) = ready(topology).await;
        let instance = Instance::of(&market, true).await;
        instance.read_new(Percent::HUNDRED);
        for n in 0..40i64 {
            let id = n % 5 + 1;
            instance
                .call(Call::Retitle(id, format!("w{n}")))
                .await
                .unwrap();
            assert_eq!(
                instance.title(id).await,
                Some(format!("w{n}")),
                "{topology:?}"
            );
        }
        let Reply::Id(id) = instance.call(Call::Create("born".into())).await.unwrap() else {
            panic!("an id was expected");
        };
        assert_eq!(instance.title(id).await.as_deref(), Some("born"));
        instance.call(Call::Delete(id)).await.unwrap();
        assert_eq!(
            instance.title(id).await,
            None,
            "a deleted row must not be read from the follower"
        );
        instance.call(Call::CloseAll).await.unwrap();
        settle(&market, &migration, &[&instance]).await;
        no_pins(&instance).await;
    }

    /// Instance B has no pin for what A wrote; the token makes it ask the authority.
    pub(super) async fn a_token_is_honoured_by_another_instance(topology: Topology) {
        let (market, migration) = ready(topology).await;
        // Nothing copies: the follower stays behind.
        let (a, b) = (
            Instance::of(&market, false).await,
            Instance::of(&market, false).await,
        );
        b.read_new(Percent::HUNDRED);
        a.call(Call::Retitle(2, "newest".into())).await.unwrap();
        assert_ne!(
            b.title(2).await.as_deref(),
            Some("newest"),
            "the follower is not behind"
        );
        let token = a.handle.token(["2".into()]).await.unwrap();
        let token: changeover::proxy::Token = token.to_string().parse().unwrap();
        let read = b.call(Call::Get(2, Some(token))).await.unwrap();
        assert_eq!(read, Reply::Title(Some("newest".into())));
        drain(&migration).await;
        settle(&market, &migration, &[]).await;
    }

    pub(super) async fn the_kill_switch_sends_reads_back(topology: Topology) {
        let (market, migration) = ready(topology).await;
        let instance = Instance::hasty(&market, HASTE).await;
        instance.read_new(Percent::HUNDRED);
        instance.new.trouble(Trouble::Hangs);
        instance.wiring.flags().kill("the new side hangs").unwrap();
        let before = instance.new.asked();
        for id in 1..=8 {
            instance.title(id).await;
        }
        assert_eq!(
            instance.new.asked(),
            before,
            "a killed read asked the follower"
        );
        // Writes go on being stamped and copied; clearing returns to the ramp that was.
        instance
            .call(Call::Retitle(1, "while killed".into()))
            .await
            .unwrap();
        instance.new.trouble(Trouble::None);
        instance.wiring.flags().clear_kill().unwrap();
        assert_eq!(instance.wiring.flags().load().read_new, Percent::HUNDRED);
        assert_eq!(instance.title(1).await.as_deref(), Some("while killed"));
        settle(&market, &migration, &[&instance]).await;
    }

    pub(super) async fn percentages_wait_for_evidence(topology: Topology) {
        let market = Market::start(topology).await;
        market.fill(4).await;
        let migration = market.installed().await;
        let instance = Instance::of(&market, true).await;
        let flags = instance.wiring.flags();
        flags
            .set_read_new(Percent::HUNDRED)
            .expect_err("before the backfill");
        backfill(&migration).await;
        instance.wiring.learn().await.unwrap();
        flags
            .set_read_new(Percent::HUNDRED)
            .expect_err("before a clean verify");
        assert!(verify(&migration).await.clean());
        instance.wiring.learn().await.unwrap();
        flags.set_read_new(Percent::HUNDRED).unwrap();
        // Back to legacy: no read is answered by the new side any more.
        migration.stop_copying().await.unwrap();
        instance.wiring.learn().await.unwrap();
        instance.new.trouble(Trouble::Panics);
        instance
            .call(Call::Retitle(1, "back".into()))
            .await
            .unwrap();
        assert_eq!(instance.title(1).await.as_deref(), Some("back"));
        assert_eq!(market.dirty().await.len(), 1, "stamping goes on");
        // Returning needs a drain, not a new backfill.
        migration.start_copying().await.unwrap();
        settle(&market, &migration, &[&instance]).await;
    }

    /// At 0 %. The new side hangs, so that its answer is never the one.
    pub(super) async fn a_test_tenant_is_served_by_new_first(topology: Topology) {
        let market = Market::start(topology).await;
        market.fill(16).await;
        let migration = market.installed().await;
        let instance = Instance::hasty(&market, HASTE).await;
        let flags = instance.wiring.flags();
        let allowed = || KeyList::of_keys(["1", "2", "3"]).unwrap();
        backfill(&migration).await;
        instance.wiring.learn().await.unwrap();
        flags
            .set_always_new(allowed())
            .expect_err("before a clean verify");
        assert!(verify(&migration).await.clean());
        instance.wiring.learn().await.unwrap();
        flags.set_always_new(allowed()).unwrap();
        let by_new = async |id: i64| {
            instance.new.trouble(Trouble::Hangs);
            let before = instance.new.asked();
            let title = instance.title(id).await;
            instance.new.trouble(Trouble::None);
            let legacy = format!("SELECT coalesce(title, '') FROM listings WHERE id = {id}");
            assert_eq!(title.unwrap_or_default(), market.legacy.text(&legacy).await);
            let asked = instance.new.asked() - before;
            assert!(asked <= 1, "{topology:?}: {asked} times");
            asked == 1
        };
        assert!(
            by_new(1).await && by_new(2).await && by_new(3).await,
            "{topology:?}"
        );
        assert!(
            !by_new(4).await && !by_new(5).await,
            "{topology:?}: nobody else"
        );
        flags
            .set_never_new(KeyList::of_keys(["2"]).unwrap())
            .unwrap();
        assert!(!by_new(2).await, "{topology:?}: denied beats allowed");
        // Pinned: read from where it was written.
        instance.new.trouble(Trouble::Absent);
        instance
            .call(Call::Retitle(1, "pinned".into()))
            .await
            .unwrap();
        assert_eq!(instance.title(1).await.as_deref(), Some("pinned"));
        instance.new.trouble(Trouble::None);
        settle(&market, &migration, &[&instance]).await;
        // Dirty, by a write that passed the layer by, and asked for strictly.
        let strict = Instance::strict(&market, flags.clone()).await;
        market
            .legacy
            .run("UPDATE listings SET title = 'dirty' WHERE id = 3")
            .await;
        assert_eq!(
            strict.title(3).await.as_deref(),
            Some("dirty"),
            "{topology:?}"
        );
        drain(&migration).await;
        assert_eq!(strict.title(3).await.as_deref(), Some("dirty"));
        flags.kill("beats all").unwrap();
        assert!(!by_new(3).await, "{topology:?}");
    }

    pub(super) async fn a_unit_of_work_copies_after_its_commit(topology: Topology) {
        let (market, migration) = ready(topology).await;
        let instance = Instance::of(&market, true).await;
        instance.read_new(Percent::HUNDRED);
        let mut unit = UnitOfWork::new();
        unit.touch(&instance.handle, 5).touch(&instance.handle, 6);
        let legacy = market.legacy.clone();
        let committed: Result<(), ShopError> = unit
            .commit(async move {
                legacy
                    .try_run("BEGIN; UPDATE listings SET title = 'both' WHERE id IN (5, 6); INSERT INTO photos VALUES (900, 5, 'unit'); COMMIT")
                    .await?;
                Ok(())
            })
            .await;
        committed.unwrap();
        assert_eq!(instance.title(5).await.as_deref(), Some("both"));
        assert_eq!(instance.title(6).await.as_deref(), Some("both"));
        // A unit that is dropped before its commit keeps nobody waiting.
        let mut rolled_back = UnitOfWork::new();
        rolled_back.touch(&instance.handle, 7);
        drop(rolled_back);
        settle(&market, &migration, &[&instance]).await;
        no_pins(&instance).await;
    }
}
