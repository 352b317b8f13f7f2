//! Notes about changed lookups on PostgreSQL: their dependants are stamped once more after the
//! commit, and until then the notes count as dirty.

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};

use super::market::{Market, Topology, drain};
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
