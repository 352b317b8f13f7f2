//! Lists of keys and percentages of operations, over HTTP.

use serde_json::json;
use tempfile::TempDir;

use super::client::{Server, TOKEN};
use super::router::{code, console};
use super::{FORGED, LEGACY, ramped};

#[tokio::test]
async fn a_test_tenant_is_listed_and_shown_to_those_who_know_the_token() {
    let folder = TempDir::new().unwrap();
    let (_market, instance) = ramped(folder.path()).await;
    let server = Server::of(console(&instance).token(TOKEN)).await;
    let post = |what: &str, body: &str| {
        let (path, body) = (format!("/entities/listings/{what}"), body.to_owned());
        let server = &server;
        async move { server.post(&path, &body).await.changed() }
    };
    post("percent", r#"{"read_new": 0}"#).await;
    assert_eq!(instance.title(1).await.as_deref(), Some(LEGACY));
    let listed = post("always_new", r#"{"keys": ["01", "3"], "routed_by": ["9"]}"#).await;
    assert_eq!(
        listed["reads"],
        "all from legacy; 3 listed keys always from new"
    );
    assert_eq!(
        (&listed["always_new"], &listed["stored"]),
        (&json!(3), &json!(true))
    );
    assert_eq!(
        instance.title(1).await.as_deref(),
        Some(FORGED),
        "as its database spells it"
    );
    assert_eq!(instance.title(2).await.as_deref(), Some(LEGACY));
    post("never_new", r#"{"keys": ["1"]}"#).await;
    assert_eq!(instance.title(1).await.as_deref(), Some(LEGACY));
    assert_eq!(instance.title(3).await.as_deref(), Some(FORGED));
    let shares = post("operations/get", r#"{"read_new": 100, "sample": 0.5}"#).await;
    assert_eq!(instance.title(2).await.as_deref(), Some(FORGED));
    assert_eq!(
        shares["reads"],
        "all from legacy; 3 listed keys always from new; 1 listed keys never from new; 100% of \"get\""
    );
    let status = server.get("/entities/listings").await.json();
    assert_eq!(
        status["operations"],
        json!({"get": {"read_new": 100.0, "sample": 0.5}})
    );
    assert_eq!(
        (&status["always_new"], &status["never_new"]),
        (&json!(3), &json!(1))
    );

    // Every read so far, by the side it was sent to; the first one by `ramped`.
    let sent = |side: &str| status["cohorts"][side]["ok"].as_u64().unwrap();
    assert_eq!((sent("legacy"), sent("new")), (3, 4), "{status}");
    assert!(status["cohorts"]["new"]["took"]["p99_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(status["cohorts"]["new"]["fallback"], 0);

    // Keys are data of the application.
    let path = "/entities/listings/lists";
    let (why, _) = server.get(path).await.refused();
    assert_eq!(why, code(401, "unauthorized"));
    let token = format!("authorization: Bearer {TOKEN}");
    let lists = server.ask("GET", path, &[&token], "").await.json();
    assert_eq!(
        lists["always_new"],
        json!({"keys": ["01", "3"], "routed_by": ["9"]})
    );
    let stored = std::fs::read_to_string(folder.path().join("listings.toml")).unwrap();
    assert!(
        stored.contains(r#"always_new.keys = ["01", "3"]"#),
        "{stored}"
    );

    post("operations/get", "{}").await;
    post("always_new", "{}").await;
    let cleared = post("never_new", "{}").await;
    assert_eq!(cleared["reads"], "all from legacy");
    assert_eq!(instance.title(3).await.as_deref(), Some(LEGACY));
}

#[tokio::test]
async fn a_list_that_is_none_is_refused_with_the_remedy() {
    let folder = TempDir::new().unwrap();
    let (_market, instance) = ramped(folder.path()).await;
    let server = Server::of(console(&instance).token(TOKEN)).await;
    let before = instance.wiring.flags().saved();
    for (what, body, expected, word) in [
        (
            "operations/gte",
            "{}",
            code(404, "unknown_operation"),
            "get, retitle",
        ),
        (
            "operations/get",
            r#"{"read": 1}"#,
            code(400, "bad_body"),
            "read_new",
        ),
        (
            "always_new",
            r#"{"keys": [7]}"#,
            code(400, "bad_body"),
            "routed_by",
        ),
        (
            "always_new",
            r#"{"keys": [""]}"#,
            code(400, "bad_body"),
            "1 to 256",
        ),
    ] {
        let answer = server
            .post(&format!("/entities/listings/{what}"), body)
            .await;
        let (why, message) = answer.refused();
        assert_eq!(why, expected, "{what}: {message}");
        assert!(message.contains(word), "{what}: {message}");
    }
    assert_eq!(instance.wiring.flags().saved(), before);
    // A long list fits, and one that is too long says how long it may be.
    let long = |count: usize| json!({"keys": (0..count).map(|n| format!("{n:0>200}")).collect::<Vec<_>>()});
    let path = "/entities/listings/never_new";
    let changed = server.post(path, &long(1_000).to_string()).await.changed();
    assert_eq!(changed["never_new"], 1_000);
    let answer = server.post(path, &long(1_001).to_string()).await;
    assert!(answer.refused().1.contains("at most 1000"));
}
