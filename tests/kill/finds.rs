//! The harness is tried itself: without a migration it finds nothing, and with a seeded bug in the
//! application or in the product's SQL it finds that.

use std::time::Duration;

use super::supervisor::{Supervisor, Verdict};
use super::workload::CALLERS;
use crate::protocol::market::Topology;
use tokio::task::block_in_place;

/// The oracle alone: plain repositories, no layer, no worker.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_without_a_migration() {
    for topology in [Topology::PostgresTwoDatabases, Topology::SqliteTwoFiles] {
        let mut supervisor = Supervisor::new(topology, false).await;
        supervisor.callers = CALLERS;
        // Lives are short here: a slow machine needs some of them before much was acknowledged.
        for _ in 0..8 {
            let app = supervisor.start(0);
            supervisor.while_running_unscaled(100..300).await;
            block_in_place(|| app.kill());
            supervisor.strikes += 1;
        }
        supervisor.judge().await.expect_clean();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_before_the_commit() {
    found(&["acknowledged and lost", "stale"], async || {
        let supervisor = Supervisor::new(Topology::PostgresTwoDatabases, true).await;
        killed_thrice(supervisor.with_bug("ack before commit"), &[]).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blind_retry() {
    found(&["there twice"], async || {
        let supervisor = Supervisor::new(Topology::PostgresTwoDatabases, true).await;
        killed_thrice(supervisor.with_bug("blind retry"), &[]).await
    })
    .await;
}

/// The stamp is missing for a moment, as if it were not part of the writing transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_without_stamps() {
    let words = ["differs at version", "Divergent", "Missing", "Extra"];
    found(&words, async || {
        let supervisor = Supervisor::new(Topology::PostgresOneDatabase, true).await;
        let mut supervisor = supervisor.with_bug("in the database");
        let trigger = "changeover_stamp_legacy_listings_0";
        // History is copied by then, which would make good what was missed; and this is the only
        // life, since an application that starts finds a trigger that is off, and copies every key
        // again, as a later write does with its own.
        supervisor.callers = CALLERS;
        let app = supervisor.start(0);
        supervisor.until_ramped().await;
        let legacy = &supervisor.market.legacy;
        let off = format!("ALTER TABLE listings DISABLE TRIGGER {trigger}");
        legacy.run(&off).await;
        supervisor.until_acknowledged(60).await;
        block_in_place(|| app.kill());
        supervisor.strikes += 1;
        let on = format!("ALTER TABLE listings ENABLE ALWAYS TRIGGER {trigger}");
        supervisor.market.legacy.run(&on).await;
        supervisor.judge().await
    })
    .await;
}

/// A fence that goes with its row lets an outdated copy bring the row back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_deleted_with_its_row() {
    let mutant = "CREATE FUNCTION mutant() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        DELETE FROM changeover_key WHERE place = 'new' AND key = OLD.legacy_id::text; RETURN NULL; END $$; \
        CREATE TRIGGER mutant AFTER DELETE ON service_listings FOR EACH ROW EXECUTE FUNCTION mutant()";
    found(&["is synced at", "verify"], async || {
        let supervisor = Supervisor::new(Topology::PostgresOneDatabase, true).await;
        killed_thrice(supervisor.with_bug("in the database"), &[mutant]).await
    })
    .await;
}

/// A mark that names no version calls a key clean that was written meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_without_its_version() {
    let mutant = "CREATE FUNCTION mutant() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        IF NEW.place = 'legacy' AND NEW.synced > OLD.synced THEN NEW.synced := NEW.version; END IF; RETURN NEW; END $$; \
        CREATE TRIGGER mutant BEFORE UPDATE ON changeover_key FOR EACH ROW EXECUTE FUNCTION mutant()";
    found(&["is synced at", "verify"], async || {
        let supervisor = Supervisor::new(Topology::PostgresOneDatabase, true).await;
        killed_thrice(supervisor.with_bug("in the database"), &[mutant]).await
    })
    .await;
}

/// Expects that a run says what is wrong in one of these words. What is seeded takes its moment to
/// show, and a machine that is busy with other things gives it few: three runs are tried.
async fn found(words: &[&str], run: impl AsyncFn() -> Verdict) {
    for _ in 0..2 {
        if run().await.finds(words) {
            return;
        }
    }
    let verdict = run().await;
    assert!(verdict.finds(words), "{words:?} is in none of three runs");
}

/// A short run with three kills, and `steps` of plain SQL on the legacy side in the middle. Under
/// all of the load in the short run, too: what is seeded shows in few of the calls.
async fn killed_thrice(mut supervisor: Supervisor, steps: &[&str]) -> Verdict {
    supervisor.callers = CALLERS;
    let mut steps = steps.iter();
    for _ in 0..3 {
        let app = supervisor.start(0);
        supervisor.while_running_unscaled(300..500).await;
        supervisor.until_acknowledged(100).await;
        if let Some(sql) = steps.next() {
            supervisor.market.legacy.run(sql).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        block_in_place(|| app.kill());
        supervisor.strikes += 1;
    }
    let app = supervisor.start(0);
    supervisor.while_running_unscaled(300..500).await;
    supervisor.until_acknowledged(100).await;
    block_in_place(|| app.end());
    supervisor.judge().await
}
