//! The console: a real server, real requests, and SQLite behind the layer.

use std::time::{Duration, Instant};

use changeover::flags::{Entity, FileStore, Flags, Percent};
use changeover::proxy::{Changeover, Handle, Operation};
use changeover::router::{BadConsole, Console};
use changeover::shadow::Json;
use changeover::wiring::Wiring;
use changeover::worker::verify::VerifyOptions;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::{Server, TOKEN};
use super::{FORGED, LEGACY, ramped};
use crate::layer::shop::{Call, Instance, Reply, Shop, ShopError};
use crate::protocol::market::{Market, Topology, backfill};
use crate::support::postgres::Postgres;

/// Everything that changes flags.
pub const CHANGES: [(&str, &str); 8] = [
    ("/kill", ""),
    ("/entities/listings/kill", ""),
    ("/entities/listings/unkill", ""),
    ("/entities/listings/percent", r#"{"read_new": 50}"#),
    ("/entities/listings/operations/get", r#"{"read_new": 60}"#),
    ("/entities/listings/always_new", r#"{"keys": ["7"]}"#),
    ("/entities/listings/never_new", r#"{"routed_by": ["8"]}"#),
    ("/entities/listings/sample", r#"{"sample": 5}"#),
];

pub fn console(instance: &Instance) -> Console {
    Console::new().entity(&instance.wiring, instance.handle.clone())
}

/// A layer of another entity, whose databases nobody knows.
fn another(market: &Market, name: &str) -> Handle {
    let flags = Flags::memory(Entity::new(name).unwrap());
    let layer = Changeover::<(), (), Call, Reply, ShopError>::builder(flags)
        .classify(|_: &Call| Operation::read("get", 1))
        .observe(Json)
        .new_service(Shop::new(market.new.clone(), true))
        .build();
    layer.unwrap().handle()
}

pub fn code(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn without_a_token_it_only_reads() {
    let folder = TempDir::new().unwrap();
    let (_market, instance) = ramped(folder.path()).await;
    let server = Server::of(console(&instance)).await;
    let before = instance.wiring.flags().saved();
    for (path, body) in CHANGES {
        // A token that nobody configured is none.
        for answer in [
            server.ask("POST", path, &[], body).await,
            server.post(path, body).await,
            server
                .ask("POST", path, &["authorization: Bearer "], body)
                .await,
        ] {
            let (why, message) = answer.refused();
            assert_eq!(why, code(403, "read_only"), "{path}");
            assert!(
                message.contains("the flags file or the signal"),
                "{message}"
            );
        }
    }
    assert_eq!(instance.wiring.flags().saved(), before);
    let status = server.get("/entities/listings").await.json();
    assert_eq!(status["stage"], "dual-write");
    assert_eq!(
        (&status["read_new"], &status["kill"]),
        (&json!(100.0), &Value::Null)
    );
    assert_eq!(
        server.get("/status").await.json().as_array().unwrap().len(),
        1
    );
}

#[tokio::test]
async fn a_change_takes_the_token() {
    let folder = TempDir::new().unwrap();
    let (_market, instance) = ramped(folder.path()).await;
    let server = Server::of(console(&instance).token(TOKEN)).await;
    let before = instance.wiring.flags().saved();
    for (path, body) in CHANGES {
        for header in [
            "x-nothing: at all".to_owned(),
            format!("authorization: {TOKEN}"),
            format!("authorization: Basic {TOKEN}"),
            format!("authorization: Bearer {}", TOKEN.replace('6', "7")),
            format!("authorization: Bearer {}", &TOKEN[..31]),
        ] {
            let answer = server.ask("POST", path, &[&header], body).await;
            assert_eq!(
                answer.refused().0,
                code(401, "unauthorized"),
                "{path} {header}"
            );
            assert!(
                answer.head.contains("www-authenticate: bearer"),
                "{answer:?}"
            );
        }
        let page = [
            format!("authorization: Bearer {TOKEN}"),
            "origin: http://localhost".into(),
        ];
        let page: Vec<&str> = page.iter().map(String::as_str).collect();
        let answer = server.ask("POST", path, &page, body).await;
        assert_eq!(answer.refused().0, code(403, "foreign_page"), "{path}");
        assert_eq!(instance.wiring.flags().saved(), before, "{path}");
    }
    for (path, body) in CHANGES {
        server.post(path, body).await.changed();
    }
    assert_eq!(instance.wiring.flags().load().read_new.to_string(), "50%");
}

#[tokio::test]
async fn a_kill_is_seen_by_the_next_read_and_cleared_returns_to_the_ramp() {
    let folder = TempDir::new().unwrap();
    let (market, instance) = ramped(folder.path()).await;
    let orders = another(&market, "orders");
    let both = console(&instance).layer(orders.clone()).token(TOKEN);
    let server = Server::of(both).await;
    let stored = || std::fs::read_to_string(folder.path().join("listings.toml")).unwrap();
    assert_eq!(instance.title(1).await.as_deref(), Some(FORGED));

    let path = "/entities/listings/kill";
    let killed = server
        .post(path, r#"{"reason": "new is slow"}"#)
        .await
        .changed();
    assert_eq!(instance.title(1).await.as_deref(), Some(LEGACY));
    assert_eq!(killed["kill"], "new is slow");
    assert_eq!(killed["stored"], true);
    assert!(
        killed["reads"]
            .as_str()
            .unwrap()
            .starts_with("all from legacy")
    );
    assert!(stored().contains("kill = \"new is slow\""), "{}", stored());
    assert!(!orders.flags().load().kill, "the other entity goes on");

    let cleared = server.post("/entities/listings/unkill", "").await.changed();
    assert_eq!(instance.title(1).await.as_deref(), Some(FORGED));
    assert_eq!(
        (&cleared["kill"], &cleared["read_new"]),
        (&Value::Null, &json!(100.0))
    );
    assert!(stored().contains("kill = false"));

    let all = server.post("/kill", "").await.changed();
    assert_eq!(all.as_array().unwrap().len(), 2);
    assert_eq!(instance.title(1).await.as_deref(), Some(LEGACY));
    assert!(orders.flags().load().kill);
    let status = server.get("/status").await.json();
    let names: Vec<&Value> = status
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["entity"])
        .collect();
    assert_eq!(names, ["listings", "orders"]);
    assert_eq!(
        status[1]["stage"],
        Value::Null,
        "never learnt, and never guessed"
    );
    assert_eq!(status[1]["lag"], Value::Null);
}

/// The disk is full, so to say: a kill acts, and the answer does not claim that it would last.
#[tokio::test]
async fn a_kill_that_cannot_be_stored_acts_and_says_so() {
    let folder = TempDir::new().unwrap();
    let (_market, instance) = ramped(folder.path()).await;
    let server = Server::of(console(&instance).token(TOKEN)).await;
    drop(folder);
    let killed = server.post("/entities/listings/kill", "").await.changed();
    assert_eq!(instance.title(1).await.as_deref(), Some(LEGACY));
    assert_eq!(killed["stored"], false);
    assert!(
        killed["troubles"][0]
            .as_str()
            .unwrap()
            .contains("no directory"),
        "{killed}"
    );
    let status = server.get("/entities/listings").await.json();
    assert_eq!(status["troubles"], killed["troubles"]);
}

#[tokio::test]
async fn a_percentage_waits_for_evidence() {
    let market = Market::start(Topology::SqliteTwoFiles).await;
    market.fill(16).await;
    let migration = market.installed().await;
    let flags = Flags::memory(Market::entity());
    let wiring = Wiring::new(migration.clone(), flags).await.unwrap();
    let instance = Instance::start(&market, wiring, true).await;
    let server = Server::of(console(&instance).token(TOKEN)).await;
    for (path, body) in CHANGES.into_iter().skip(4).take(2) {
        let (why, _) = server.post(path, body).await.refused();
        assert_eq!(why, code(409, "not_ready"), "{path}");
    }
    let path = "/entities/listings/percent";
    let (why, message) = server.post(path, r#"{"read_new": 10}"#).await.refused();
    assert_eq!(why, code(409, "not_ready"));
    assert!(
        message.contains("finish a backfill and one verify"),
        "{message}"
    );
    assert_eq!(instance.wiring.flags().load().read_new, Percent::ZERO);
    let sample = "/entities/listings/sample";
    let changed = server.post(sample, r#"{"sample": 2.5}"#).await.changed();
    assert_eq!(changed["sample"], json!(2.5));
    assert_eq!(instance.wiring.flags().load().sample.to_string(), "2.5%");
    let status = server.get("/entities/listings").await.json();
    assert_eq!(
        (&status["ready"], &status["verified"]),
        (&json!(false), &Value::Null)
    );

    backfill(&migration).await;
    instance
        .wiring
        .verify(VerifyOptions::default())
        .await
        .unwrap();
    let changed = server.post(path, r#"{"read_new": 12.5}"#).await.changed();
    assert_eq!(
        changed["reads"],
        "12.5% of the keys from new, all others from legacy"
    );
    assert_eq!(instance.wiring.flags().load().read_new.to_string(), "12.5%");
    market
        .legacy
        .run("UPDATE listings SET title = 'dirty' WHERE id <= 3")
        .await;
    let status = server.lagging(3).await;
    assert_eq!(status["ready"], true, "{status}");
    assert_eq!(status["verified"]["clean"], true, "{status}");
    assert_eq!(
        status["verified"]["classes"],
        json!({"equal": 16}),
        "{status}"
    );
}

#[tokio::test]
async fn what_cannot_be_answered_says_why() {
    let folder = TempDir::new().unwrap();
    let (_market, instance) = ramped(folder.path()).await;
    let server = Server::of(console(&instance).token(TOKEN)).await;
    let before = instance.wiring.flags().saved();
    let (kill, percent) = ("/entities/listings/kill", "/entities/listings/percent");
    let large = format!(r#"{{"reason": "{}"}}"#, "x".repeat(20_000));
    for (method, path, body, status, expected, word) in [
        ("GET", "/nowhere", "", 404, "unknown_path", "GET /status"),
        ("GET", "/metrics", "", 404, "no_metrics", "exporter"),
        (
            "GET",
            "/entities/orders",
            "",
            404,
            "unknown_entity",
            "GET /status",
        ),
        (
            "POST",
            "/entities/orders/kill",
            "",
            404,
            "unknown_entity",
            "GET /status",
        ),
        (
            "GET",
            "/entities/%ff",
            "",
            404,
            "unknown_entity",
            "GET /status",
        ),
        ("GET", kill, "", 405, "wrong_method", "POST"),
        ("DELETE", "/status", "", 405, "wrong_method", "GET"),
        ("POST", percent, "", 400, "bad_body", "read_new"),
        (
            "POST",
            percent,
            "{}",
            400,
            "bad_body",
            "missing field `read_new`",
        ),
        (
            "POST",
            percent,
            r#"{"read_new": 101}"#,
            400,
            "bad_body",
            "0 to 100",
        ),
        (
            "POST",
            percent,
            r#"{"read_new": 0, "sample": 1}"#,
            400,
            "bad_body",
            "sample",
        ),
        (
            "POST",
            kill,
            r#"{"why": "slow"}"#,
            400,
            "bad_body",
            "reason",
        ),
        ("POST", kill, "slow", 400, "bad_body", "reason"),
        ("POST", kill, &large, 413, "too_large", "a few words"),
    ] {
        let token = format!("authorization: Bearer {TOKEN}");
        let answer = server.ask(method, path, &[&token], body).await;
        let (why, message) = answer.refused();
        assert_eq!(why, code(status, expected), "{method} {path}: {message}");
        assert!(message.contains(word), "{method} {path}: {message}");
    }
    assert_eq!(instance.wiring.flags().saved(), before);
}

#[tokio::test]
async fn a_kill_without_a_token_is_a_choice_and_opens_nothing_else() {
    let folder = TempDir::new().unwrap();
    let (_market, instance) = ramped(folder.path()).await;
    for with in [None, Some(TOKEN)] {
        let console = console(&instance).kill_without_token();
        let console = with
            .into_iter()
            .fold(console, |console, token| console.token(token));
        let server = Server::of(console).await;
        for path in ["/kill", "/entities/listings/kill"] {
            assert_eq!(server.ask("POST", path, &[], "").await.status, 200);
            assert!(instance.wiring.flags().load().kill);
            let page = server
                .ask("POST", path, &["origin: https://example.org"], "")
                .await;
            assert_eq!(page.refused().0, code(403, "foreign_page"));
        }
        for (path, body) in CHANGES.into_iter().skip(2) {
            let (why, _) = server.ask("POST", path, &[], body).await.refused();
            let closed = with.map_or((403, "read_only"), |_| (401, "unauthorized"));
            assert_eq!(why, code(closed.0, closed.1), "{path}");
        }
        assert!(instance.wiring.flags().load().kill, "nothing cleared it");
    }
}

#[tokio::test]
async fn what_the_environment_fixes_is_said() {
    let folder = TempDir::new().unwrap();
    let (_market, instance) = ramped(folder.path()).await;
    let flags = instance.wiring.flags();
    let environment = changeover::flags::Environment {
        read_new: Some(Percent::new(25.0).unwrap()),
        ..Default::default()
    };
    let _ = flags.clone().fixed_by(environment);
    let server = Server::of(console(&instance).token(TOKEN)).await;
    let status = server.get("/entities/listings").await.json();
    assert_eq!(status["fixed_by"], json!(["CHANGEOVER_LISTINGS_READ_NEW"]));
    assert_eq!(status["read_new"], 25.0);
    let answer = server
        .post("/entities/listings/percent", r#"{"read_new": 50}"#)
        .await;
    let (why, message) = answer.refused();
    assert_eq!(why, code(409, "fixed"));
    assert!(
        message.contains("CHANGEOVER_LISTINGS_READ_NEW"),
        "{message}"
    );
}

#[tokio::test]
async fn a_console_that_does_not_fit_together_is_not_built() {
    let folder = TempDir::new().unwrap();
    let (market, instance) = ramped(folder.path()).await;
    let built = |console: Console| console.build().map(drop).unwrap_err();
    for weak in ["", "   ", "hunter2", &TOKEN[..31]] {
        let error = built(console(&instance).token(TOKEN).token(weak));
        assert!(matches!(error, BadConsole::WeakToken { .. }), "{weak}");
        assert!(
            error.to_string().contains("openssl rand -hex 32"),
            "{error}"
        );
    }
    let twice = console(&instance).layer(instance.handle.clone());
    assert_eq!(built(twice), BadConsole::Twice(Market::entity()));
    let mixed = Console::new().entity(&instance.wiring, another(&market, "orders"));
    assert!(matches!(built(mixed), BadConsole::Mixed { .. }));
    let shown = format!("{:?}", console(&instance).token(TOKEN));
    assert!(!shown.contains(TOKEN), "{shown}");
}

/// The databases hang: the status is answered all the same, with what was known, and so is a kill.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_answers_while_the_databases_hang() {
    let server = Postgres::start();
    server.create_database("legacy").await;
    server.create_database("new").await;
    let (legacy, new) = (server.url("legacy"), server.url("new"));
    let market = Market::on(Topology::PostgresTwoDatabases, legacy, new, None).await;
    let folder = TempDir::new().unwrap();
    let entity = Market::entity();
    let flags = Flags::open(entity.clone(), FileStore::new(folder.path(), &entity)).unwrap();
    let wiring = Wiring::new(market.installed().await, flags).await.unwrap();
    let instance = Instance::start(&market, wiring, true).await;
    let console = Server::of(console(&instance).token(TOKEN)).await;
    console.lagging(0).await;
    tokio::task::block_in_place(|| server.freeze());
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let began = Instant::now();
    let asked = (0..8).map(|_| console.get("/status"));
    for answer in futures_util::future::join_all(asked).await {
        let lag = &answer.json()[0]["lag"];
        assert_eq!(lag["dirty"], 0);
        assert!(lag["seconds_old"].as_f64().unwrap() > 1.0, "{lag}");
    }
    let killed = console.post("/kill", "").await.changed();
    assert_eq!(killed[0]["stored"], true);
    let took = began.elapsed();
    tokio::task::block_in_place(|| server.thaw());
    // Each waits for a second, and none for another.
    assert!(took < Duration::from_secs(7), "{took:?}");
}
