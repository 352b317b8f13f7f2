//! Values of the application's rows, planted where they could be shown, and looked for in every answer.

use std::time::Duration;

use changeover::flags::{KeyList, Percent};
use changeover::shadow::Redaction;
use changeover::worker::verify::VerifyOptions;
use tempfile::TempDir;

use super::client::{Server, TOKEN};
use super::router::{CHANGES, console};
use super::{FORGED, LEGACY, ramped, ramped_showing};
use crate::layer::shop::Call;

/// Looks at every page, with differences in every place that keeps them.
async fn everything_that_is_answered(redaction: Redaction) -> Vec<String> {
    let folder = TempDir::new().unwrap();
    let (_market, instance) = ramped_showing(folder.path(), redaction).await;
    let flags = instance.wiring.flags();
    flags.set_sample(Percent::HUNDRED).unwrap();
    for id in 1..=16 {
        instance.call(Call::Get(id, None)).await.unwrap();
    }
    for _ in 0..4 {
        instance.call(Call::OfTenant(1, None)).await.unwrap();
    }
    let report = instance
        .wiring
        .verify(VerifyOptions::default())
        .await
        .unwrap();
    assert!(!report.clean() && !report.samples.is_empty());
    let drained = instance
        .handle
        .close_and_wait(Duration::from_secs(30))
        .await;
    assert!(drained.is_complete(), "{drained:?}");
    assert!(instance.handle.compared().confirmed() >= 16);

    let console = console(&instance)
        .token(TOKEN)
        .metrics(|| "calls 1\n".into());
    let server = Server::of(console).await;
    let paths = [
        "/status",
        "/metrics",
        "/entities/listings",
        "/entities/listings/differences",
    ];
    for path in paths {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(
            answer.head.contains("cache-control: no-store"),
            "{answer:?}"
        );
        server.post(path, "").await.refused();
    }
    let seen = server.get("/entities/listings/differences").await.json();
    let kept = seen["fields"][0]["kept"].as_array().unwrap();
    assert!(!kept.is_empty(), "{seen}");
    // Nothing agreed, so no difference could be put into answers that do.
    let canary = &seen["compared"]["canary"];
    assert_eq!(
        (&canary["seen"], &canary["last_seen_seconds"]),
        (&0.into(), &serde_json::Value::Null)
    );
    for (path, body) in CHANGES {
        server.post(path, body).await;
        server.post(path, "{").await;
        server.ask("POST", path, &[], body).await;
    }
    server.heard()
}

#[tokio::test]
async fn no_answer_shows_a_value_of_the_application() {
    let holds = |heard: &[String], canary: &str| heard.iter().any(|text| text.contains(canary));
    let heard = everything_that_is_answered(Redaction::new()).await;
    for canary in [LEGACY, FORGED, "canary-"] {
        assert!(!holds(&heard, canary), "{canary}: {heard:?}");
    }
    // Where the application shows a field, it is there: the canaries could have been seen.
    let shown = Redaction::new().show("title").show("*.title");
    let heard = everything_that_is_answered(shown).await;
    assert!(holds(&heard, LEGACY) && holds(&heard, FORGED), "{heard:?}");
}

/// A slip in a list is said to everybody who reaches the console, and what is listed is not.
#[tokio::test]
async fn a_broken_flags_file_shows_no_listed_key() {
    const LISTED: &str = "canary-of-a-list";
    let folder = TempDir::new().unwrap();
    let (_market, instance) = ramped(folder.path()).await;
    let flags = instance.wiring.flags();
    let list = KeyList::of_keys(["another", LISTED]).unwrap();
    flags.set_always_new(list).unwrap();
    let server = Server::of(console(&instance).token(TOKEN)).await;
    let file = folder.path().join("listings.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    let long = format!("[\"{LISTED}{}\"]", "x".repeat(300));
    for broken in [
        &format!("[\"another\" \"{LISTED}\"]"),
        &format!("[\"{LISTED}\", 7]"),
        &format!("[\n  \"another\",\n  {LISTED},\n]"),
        &format!("\"{LISTED}\""),
        &long,
    ] {
        let bad = good.replace(&format!("[\"another\", \"{LISTED}\"]"), broken);
        assert_ne!(bad, good);
        std::fs::write(&file, bad).unwrap();
        flags.reload().unwrap_err();
        let all = server.get("/status").await.json();
        let one = server.get("/entities/listings").await.json();
        let killed = server.post("/entities/listings/kill", "").await.changed();
        for status in [&all[0], &one, &killed] {
            let trouble = status["troubles"][0].as_str().unwrap_or_default();
            let says = trouble.contains("listings.toml") && trouble.contains("line ");
            assert!(says, "{status}");
        }
    }
    let heard = server.heard();
    let shows = |text: &String| text.contains(LISTED);
    assert!(!heard.iter().any(shows), "{heard:?}");
    // Whoever knows the token is shown it: the canary was there.
    let token = format!("authorization: Bearer {TOKEN}");
    let lists = server
        .ask("GET", "/entities/listings/lists", &[&token], "")
        .await;
    assert!(shows(&lists.body), "{lists:?}");
}
