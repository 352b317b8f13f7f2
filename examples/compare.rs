//! A compare of the team's own: the new tables name, round and order things differently, and say
//! the same. Rules say what counts as equal; what they do not excuse is reported. In memory.

use std::time::Duration;

use changeover::closures::Closures;
use changeover::flags::{Entity, Epoch, Flags, Percent};
use changeover::proxy::{Changeover, Limits, Refused};
use changeover::shadow::{Redaction, Rules, Value};
use serde_json::{Value as Json, json};

/// What could stand in a file as well, and then be changed without a release.
const RULES: &str = r#"
    ignore = ["**.updated_at"]
    fold_case = ["email"]
    unordered = ["tags"]

    [rename]
    tenant_id = "provider_id"

    [tolerate]
    price = { absolute = 0.005 }
    created_at = { time = "1ms" }

    [allow]
    state = [["ACTIVE", "live"], ["GONE", { null = true }]]
"#;

/// A telephone number is its digits: what only the application can know.
fn same_digits(legacy: Option<&Value>, new: Option<&Value>) -> bool {
    let digits = |value: Option<&Value>| -> Option<String> {
        let Some(Value::Text(text)) = value else {
            return None;
        };
        Some(text.chars().filter(char::is_ascii_digit).collect())
    };
    digits(legacy).is_some_and(|legacy| Some(legacy) == digits(new))
}

async fn legacy(id: i64) -> Result<Json, Refused> {
    Ok(json!({
        "id": id, "tenant_id": 7, "email": "Ada@example.com", "phone": "+49 (30) 123-45",
        "price": 12.5, "state": "ACTIVE", "tags": ["oak", "old"],
        "created_at": "2026-03-01 10:00:00.1234+00", "updated_at": 1, "stock": 3,
    }))
}

/// The same listing, but for the stock of the second one.
async fn new(id: i64) -> Result<Json, Refused> {
    Ok(json!({
        "id": id, "provider_id": 7, "email": "ada@example.com", "phone": "+493012345",
        "price": 12.504, "state": "live", "tags": ["old", "oak"],
        "created_at": "2026-03-01T10:00:00.123Z", "updated_at": 2, "stock": if id == 2 { 4 } else { 3 },
    }))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let flags = Flags::memory(Entity::new("listings")?);
    // What the worker reads from the legacy database.
    flags.learn(&Epoch::READY)?;
    flags.set_sample(Percent::HUNDRED)?;
    let rules = RULES.parse::<Rules>()?.equal_if("phone", same_digits);
    // A rule that cannot be used is an error here, and not a difference at night.
    rules.check()?;
    let builder = Changeover::builder(flags)
        .operations(["listing"])
        .rules(rules)
        // What is in no way personal may be shown; the rest stays a digest.
        .redaction(Redaction::new().show_keys().show("stock"))
        .limits(Limits {
            second_look_after: Duration::from_millis(20),
            ..Limits::default()
        });
    let listings = Closures::around(builder)?;
    for id in [1, 2] {
        let answer = listings
            .read("listing", id, move || legacy(id), move || new(id))
            .await?;
        assert_eq!(answer["tenant_id"], 7, "legacy answers its callers");
    }

    let handle = listings.handle();
    let left = handle.close_and_wait(Duration::from_secs(5)).await;
    assert!(left.is_complete());
    let compared = handle.compared();
    assert_eq!((compared.compared(), compared.confirmed()), (2, 1));
    let fields = handle.samples().fields;
    assert_eq!(fields.len(), 1, "everything else is excused by a rule");
    for evidence in fields.iter().flat_map(|field| &field.kept) {
        println!("{evidence}");
        assert_eq!(
            (evidence.key.as_deref(), &*evidence.path),
            (Some("2"), "stock")
        );
    }
    Ok(())
}
