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
    let supervisor = Supervisor::new(Topology::PostgresTwoDatabases, true).await;
    let verdict = killed_thrice(supervisor.with_bug("ack before commit"), &[]).await;
    verdict.expect_found(&["acknowledged and lost", "stale"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blind_retry() {
    let supervisor = Supervisor::new(Topology::PostgresTwoDatabases, true).await;
    let verdict = killed_thrice(supervisor.with_bug("blind retry"), &[]).await;
    verdict.expect_found(&["there twice"]);
}

/// The stamp is missing for a moment, as if it were not part of the writing transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_without_stamps() {
    let supervisor = Supervisor::new(Topology::PostgresOneDatabase, true).await;
    let mut supervisor = supervisor.with_bug("in the database");
    let trigger = "changeover_stamp_legacy_listings_0";
    let off = format!("ALTER TABLE listings DISABLE TRIGGER {trigger}");
    let on = format!("ALTER TABLE listings ENABLE ALWAYS TRIGGER {trigger}");
    // History is copied by then, which would make good what was missed; and in one life, since an
    // application that starts finds a trigger that is off, and copies every key again.
    supervisor.callers = CALLERS;
    let app = supervisor.start(0);
    supervisor.until_ramped().await;
    let missed = format!("BEGIN; {off}; COMMIT; SELECT pg_sleep(0.5); BEGIN; {on}; COMMIT");
    supervisor.market.legacy.run(&missed).await;
    block_in_place(|| app.kill());
    let verdict = killed_thrice(supervisor, &[]).await;
    verdict.expect_found(&["differs at version", "Divergent", "Missing", "Extra"]);
}

/// A fence that goes with its row lets an outdated copy bring the row back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_deleted_with_its_row() {
    let supervisor = Supervisor::new(Topology::PostgresOneDatabase, true).await;
    let supervisor = supervisor.with_bug("in the database");
    let mutant = "CREATE FUNCTION mutant() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        DELETE FROM changeover_key WHERE place = 'new' AND key = OLD.legacy_id::text; RETURN NULL; END $$; \
        CREATE TRIGGER mutant AFTER DELETE ON service_listings FOR EACH ROW EXECUTE FUNCTION mutant()";
    let verdict = killed_thrice(supervisor, &[mutant]).await;
    verdict.expect_found(&["is synced at", "verify"]);
}

/// A mark that names no version calls a key clean that was written meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_without_its_version() {
    let supervisor = Supervisor::new(Topology::PostgresOneDatabase, true).await;
    let supervisor = supervisor.with_bug("in the database");
    let mutant = "CREATE FUNCTION mutant() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        IF NEW.place = 'legacy' AND NEW.synced > OLD.synced THEN NEW.synced := NEW.version; END IF; RETURN NEW; END $$; \
        CREATE TRIGGER mutant BEFORE UPDATE ON changeover_key FOR EACH ROW EXECUTE FUNCTION mutant()";
    let verdict = killed_thrice(supervisor, &[mutant]).await;
    verdict.expect_found(&["is synced at", "verify"]);
}

/// A short run with three kills, and `steps` of plain SQL on the legacy side in the middle. Under
/// all of the load in the short run, too: what is seeded shows in few of the calls.
async fn killed_thrice(mut supervisor: Supervisor, steps: &[&str]) -> Verdict {
    supervisor.callers = CALLERS;
    let mut steps = steps.iter();
    for _ in 0..3 {
        let app = supervisor.start(0);
        supervisor.while_running_unscaled(300..500).await;
        if let Some(sql) = steps.next() {
            supervisor.market.legacy.run(sql).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        block_in_place(|| app.kill());
        supervisor.strikes += 1;
    }
    let app = supervisor.start(0);
    supervisor.while_running_unscaled(300..500).await;
    block_in_place(|| app.end());
    supervisor.judge().await
}
