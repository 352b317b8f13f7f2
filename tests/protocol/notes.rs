//! Notes about changed lookups on PostgreSQL: their dependants are stamped once more after the
//! commit, and until then the notes count as dirty.

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};

use changeover::flags::Key;
use changeover::worker::store::Dirt;

use super::market::{MAPPING, Market, Topology, backfill, drain};
use super::races::{ready, settle};

const NOTES: &str = "SELECT source_row ->> 'id' FROM changeover_expand ORDER BY id";

/// A transaction that holds what `sql` locks until it ends.
async fn holding(market: &Market, sql: &'static str) -> PgConnection {
    let mut held = PgConnection::connect(&market.legacy_url).await.unwrap();
    held.execute("BEGIN").await.unwrap();
    held.execute(sql).await.unwrap();
    held
}

/// Both tenants changed, one after the other, with nobody having asked for dirty keys since.
async fn noted() -> (Market, changeover::worker::migration::Migration) {
    let (market, migration) = ready(Topology::PostgresTwoDatabases, 6).await;
    for tenant in [1, 2] {
        market
            .legacy
            .run(&format!(
                "UPDATE tenants SET name = 'renamed' WHERE id = {tenant}"
            ))
            .await;
    }
    // What a row was, and what it is.
    assert_eq!(market.legacy.texts(NOTES).await, ["1", "1", "2", "2"]);
    (market, migration)
}

/// A dependant of the first note is being written, for as long as its writer likes: the note
/// stays and is counted, nobody waits for the writer, and the second note is worked on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_note_whose_dependant_is_being_written_keeps_no_other_from_its_turn() {
    let (market, migration) = noted().await;
    let authority = migration.copier().authority();
    // Of tenant 1, as all even ids are.
    let mut writer = holding(&market, "UPDATE listings SET title = 'long' WHERE id = 2").await;
    let keys = market.dirty().await.len() as u64;
    assert_eq!(keys, 6);
    assert_eq!(authority.lag().await.unwrap().dirty, keys + 2);
    assert_eq!(market.legacy.texts(NOTES).await, ["1", "1"]);
    let listed = authority.dirty(None, 100).await.unwrap();
    assert_eq!(listed.len() as u64, keys);
    writer.execute("COMMIT").await.unwrap();
    assert_eq!(authority.lag().await.unwrap().dirty, keys);
    assert_eq!(market.legacy.texts(NOTES).await, Vec::<String>::new());
    settle(&market, &migration).await;
}

/// Another worker is at a note: it is left to it, and counted until it is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_note_that_somebody_else_is_at_counts_as_dirty() {
    let (market, migration) = noted().await;
    let authority = migration.copier().authority();
    let note = "SELECT id FROM changeover_expand WHERE source_row ->> 'id' = '1' FOR UPDATE";
    let other = holding(&market, note).await;
    drain(&migration).await;
    assert_eq!(market.dirty().await, Vec::<String>::new());
    assert_eq!(authority.lag().await.unwrap().dirty, 2);
    drop(other);
    settle(&market, &migration).await;
}

/// An application writes a dependant of one note while the worker waits for a dependant of the next
/// one, which the same transaction holds. The worker must not hold the first one then: the database
/// would see a deadlock, and end the application's transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_is_no_deadlocks_victim() {
    let (market, migration) = noted().await;
    for _ in 0..5 {
        market
            .legacy
            .run("UPDATE tenants SET name = 'renamed again' WHERE id = 2")
            .await;
    }
    // Of tenant 2, as all odd ids are: the notes of tenant 1 come first.
    let held =
        "SET LOCAL deadlock_timeout = '50ms'; UPDATE listings SET title = 'long' WHERE id = 1";
    let mut writer = holding(&market, held).await;
    let authority = migration.copier().authority().clone();
    let asking = tokio::spawn(async move { authority.lag().await });
    let waits = "SELECT CAST(count(*) AS text) FROM pg_stat_activity WHERE application_name = 'changeover' \
                 AND wait_event_type = 'Lock' AND datname = current_database()";
    while market.legacy.text(waits).await == "0" {
        assert!(!asking.is_finished(), "the worker never waited");
    }
    writer
        .execute("UPDATE listings SET title = 'too' WHERE id = 2")
        .await
        .expect("the worker holds no key while it waits for another");
    writer.execute("COMMIT").await.unwrap();
    asking.await.unwrap().unwrap();
    settle(&market, &migration).await;
}

/// The query that names a lookup's dependants fails on one of them: its note stays, every other key
/// is told and copied, and until the row is mended any key may depend on the change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_note_that_fails_stops_nothing() {
    let market = Market::start(Topology::PostgresTwoDatabases).await;
    market.fill(6).await;
    let all = "WHERE tenant_id = $row.id";
    let mapping = MAPPING.replace(all, &format!("{all} AND 1 / (stock - 13) IS NOT NULL"));
    assert_ne!(mapping, MAPPING);
    let migration = market.installed_with(&mapping).await;
    backfill(&migration).await;
    market
        .legacy
        .run("UPDATE tenants SET name = 'renamed' WHERE id = 1")
        .await;
    market
        .legacy
        .run("INSERT INTO listings (id, tenant_id, title, status, stock) VALUES (80, 1, 'poison', 'ACTIVE', 13)")
        .await;
    let authority = migration.copier().authority();
    assert_eq!(authority.lag().await.unwrap().dirty, 4 + 2);
    drain(&migration).await;
    assert_eq!(market.dirty().await, Vec::<String>::new());
    let keys = [Key::from("1"), Key::from("80")];
    let dirty = authority.dirty_among(&keys).await.unwrap();
    assert!(dirty.values().all(|dirt| *dirt == Dirt::Noted) && dirty.len() == 2);
    market
        .legacy
        .run("UPDATE listings SET stock = 0 WHERE id = 80")
        .await;
    settle(&market, &migration).await;
    assert_eq!(market.legacy.texts(NOTES).await, Vec::<String>::new());
}
