use changeover::flags::{Entity, Flags};
use changeover::proxy::{Changeover, Operation, Refused};
use changeover::shadow::Json;
use changeover::wiring::Wiring;
use changeover::worker::dialect::session::Database;
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::*;
use crate::protocol::market::Plain;
use crate::support;

everywhere_and_on_pairs!(a_key_written_under_one_spelling_is_read_under_any);

mod scenario {
    use super::*;

    /// Nothing copies, so whoever misses the pin or the version reads the follower's old row.
    pub(super) async fn a_key_written_under_one_spelling_is_read_under_any(topology: Topology) {
        let (market, migration) = ready(topology).await;
        let (a, b) = (
            Instance::of(&market, false).await,
            Instance::of(&market, false).await,
        );
        a.read_new(Percent::HUNDRED);
        b.read_new(Percent::HUNDRED);
        let spelled = |key, call| Call::As(key, Box::new(call));
        a.call(spelled("007", Call::Retitle(7, "seven".into())))
            .await
            .unwrap();
        let mut unit = UnitOfWork::new();
        unit.touch(&a.handle, " 3");
        let legacy = market.legacy.clone();
        let commit = async move {
            legacy
                .try_run("UPDATE listings SET title = 'three' WHERE id = 3")
                .await
        };
        unit.commit(commit).await.unwrap();
        for (key, id, title) in [
            ("7", 7, "seven"),
            ("07", 7, "seven"),
            ("3", 3, "three"),
            ("03", 3, "three"),
        ] {
            let read = a.call(spelled(key, Call::Get(id, None))).await.unwrap();
            let title = Some(title.to_owned());
            assert_eq!(read, Reply::Title(title), "{topology:?}: {key}");
        }
        let token = a.handle.token(["0007".into()]).await.unwrap();
        let read = b.call(Call::Get(7, Some(token))).await.unwrap();
        assert_eq!(read, Reply::Title(Some("seven".into())), "{topology:?}");
        drain(&migration).await;
        settle(&market, &migration, &[&a, &b]).await;
        no_pins(&a).await;
    }
}

const ID: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";

/// An application that hands uuids on as its clients wrote them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_uuid_in_capitals_finds_its_pin() {
    let (legacy_url, new_url) = support::postgres::fresh_pair().await;
    let (legacy, new) = (Plain::open(&legacy_url).await, Plain::open(&new_url).await);
    legacy
        .run("CREATE TABLE notes (id uuid PRIMARY KEY, body text)")
        .await;
    new.run("CREATE TABLE papers (id uuid PRIMARY KEY, body text)")
        .await;
    legacy
        .run(&format!("INSERT INTO notes VALUES ('{ID}', 'old')"))
        .await;
    let mapping = r#"
        revision = 1
        root = { table = "notes", key = ["id"] }
        [[target]]
        table = "papers"
        owned_by.key = ["id"]
        identity = ["id"]
        columns = { id = "id", body = "body" }
    "#;
    let entity = Entity::new("notes").unwrap();
    let (from, to) = (
        Database::open(&legacy_url).unwrap(),
        Database::open(&new_url).unwrap(),
    );
    let migration = Migration::open(entity.clone(), Market::mapping(mapping), from, to);
    let migration = migration.await.unwrap();
    migration.install().await.unwrap();
    migration.start_copying().await.unwrap();
    backfill(&migration).await;
    assert!(verify(&migration).await.clean());
    let wiring = Wiring::new(migration.clone(), Flags::memory(entity)).await;
    let wiring = wiring.unwrap();
    wiring.flags().set_read_new(Percent::HUNDRED).unwrap();

    let side = |tables: Plain, table: &'static str| {
        service_fn(move |(id, body): (String, Option<&'static str>)| {
            let tables = tables.clone();
            async move {
                if let Some(body) = body {
                    let sql = format!("UPDATE {table} SET body = '{body}' WHERE id = '{id}'");
                    tables.run(&sql).await;
                }
                let sql = format!("SELECT body FROM {table} WHERE id = '{id}'");
                Ok::<_, Refused>(tables.text(&sql).await)
            }
        })
    };
    // Nothing follows a write, so its pin alone keeps reads away from the follower's old row.
    let layer = Changeover::builder(wiring.flags().clone())
        .classify(|(id, body): &(String, Option<&'static str>)| match body {
            None => Operation::read("get", id.as_str()),
            Some(_) => Operation::write("put", [id.as_str()]),
        })
        .observe(Json)
        .versions(wiring.versions())
        .new_service(side(new, "papers"))
        .build()
        .unwrap();
    let service = layer.layer(side(legacy, "notes"));
    let braced = format!("{{{}}}", ID.to_uppercase());
    service
        .clone()
        .oneshot((braced, Some("newest")))
        .await
        .unwrap();
    for id in [ID.to_owned(), ID.to_uppercase()] {
        let read = service.clone().oneshot((id, None)).await.unwrap();
        assert_eq!(read, "newest");
    }
}
