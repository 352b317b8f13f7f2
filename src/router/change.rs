//! What the router switches.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use changeover_flags::{Flags, KeyList, Percent, Refused, Shares};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::problem::{Code, Problem};
use super::status::{Exceptions, reads};
use super::{Name, Shared};

/// How long an answer waits for a disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// A body, or why there is none.
type Body = Result<Bytes, BytesRejection>;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct KillBody {
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PercentBody {
    read_new: Percent,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SampleBody {
    sample: Percent,
}

/// What is in force now.
#[derive(Serialize)]
pub(super) struct Changed {
    entity: String,
    /// Who answers reads now, in words.
    reads: String,
    read_new: Percent,
    sample: Percent,
    #[serde(flatten)]
    exceptions: Exceptions,
    kill: Option<String>,
    /// Whether it would survive a restart.
    stored: bool,
    troubles: Vec<String>,
}

/// The lists of keys that are excepted from the percentage.
#[derive(Serialize)]
pub(super) struct Lists {
    entity: String,
    always_new: KeyList,
    never_new: KeyList,
}

impl Changed {
    fn of(flags: &Flags, stored: bool) -> Changed {
        let in_force = flags.in_force();
        let (now, exceptions) = (in_force.snapshot, Exceptions::of(&in_force));
        Changed {
            entity: flags.entity().to_string(),
            reads: reads(&now, &exceptions),
            read_new: now.read_new,
            sample: now.sample,
            exceptions,
            kill: flags.killed().map(|kill| kill.reason),
            stored,
            troubles: flags.troubles(),
        }
    }
}

pub(super) async fn kill(
    State(shared): State<Arc<Shared>>,
    entity: Name,
    body: Body,
) -> Result<Json<Changed>, Problem> {
    let reason = reason(body)?;
    let flags = shared.subject(&entity)?.handle.flags();
    flags.kill_now(&reason);
    Ok(Json(stored_kill(flags).await))
}

pub(super) async fn kill_all(
    State(shared): State<Arc<Shared>>,
    body: Body,
) -> Result<Json<Vec<Changed>>, Problem> {
    let reason = reason(body)?;
    let all = || {
        shared
            .subjects
            .values()
            .map(|subject| subject.handle.flags())
    };
    // All of them before any disk is waited for.
    all().for_each(|flags| flags.kill_now(&reason));
    let stored = futures_util::future::join_all(all().map(stored_kill)).await;
    Ok(Json(stored))
}

pub(super) async fn unkill(
    State(shared): State<Arc<Shared>>,
    entity: Name,
) -> Result<Json<Changed>, Problem> {
    let flags = shared.subject(&entity)?.handle.flags();
    changed(flags, Flags::clear_kill).await
}

pub(super) async fn percent(
    State(shared): State<Arc<Shared>>,
    entity: Name,
    body: Body,
) -> Result<Json<Changed>, Problem> {
    let flags = shared.subject(&entity)?.handle.flags();
    let PercentBody { read_new } = parsed(&bytes(body)?, r#"{"read_new": 25.0}"#)?;
    let answer = changed(flags, move |flags| flags.set_read_new(read_new)).await?;
    tracing::warn!(entity = %flags.entity(), %read_new, "read percentage set over HTTP");
    Ok(answer)
}

pub(super) async fn sample(
    State(shared): State<Arc<Shared>>,
    entity: Name,
    body: Body,
) -> Result<Json<Changed>, Problem> {
    let flags = shared.subject(&entity)?.handle.flags();
    let SampleBody { sample } = parsed(&bytes(body)?, r#"{"sample": 1.0}"#)?;
    let answer = changed(flags, move |flags| flags.set_sample(sample)).await?;
    tracing::warn!(entity = %flags.entity(), %sample, "sampling set over HTTP");
    Ok(answer)
}

pub(super) async fn operation(
    State(shared): State<Arc<Shared>>,
    names: Result<Path<(String, String)>, PathRejection>,
    body: Body,
) -> Result<Json<Changed>, Problem> {
    let Ok(Path((entity, operation))) = names else {
        return Err(Problem::of(Code::UnknownEntity));
    };
    let flags = shared.subject(&Ok(Path(entity)))?.handle.flags();
    let expected = r#"{"read_new": 25.0, "sample": 1.0}, or one of them"#;
    let shares: Shares = parsed(&bytes(body)?, expected)?;
    let name = operation.clone();
    let answer = changed(flags, move |flags| flags.set_operation(&name, shares)).await?;
    tracing::warn!(entity = %flags.entity(), operation, ?shares, "percentages of an operation set over HTTP");
    Ok(answer)
}

pub(super) async fn always_new(
    State(shared): State<Arc<Shared>>,
    entity: Name,
    body: Body,
) -> Result<Json<Changed>, Problem> {
    list(&shared, &entity, body, Flags::set_always_new).await
}

pub(super) async fn never_new(
    State(shared): State<Arc<Shared>>,
    entity: Name,
    body: Body,
) -> Result<Json<Changed>, Problem> {
    list(&shared, &entity, body, Flags::set_never_new).await
}

/// The lists in force, as they were typed.
pub(super) async fn lists(
    State(shared): State<Arc<Shared>>,
    entity: Name,
) -> Result<Json<Lists>, Problem> {
    let flags = shared.subject(&entity)?.handle.flags();
    let exceptions = flags.in_force().exceptions.unwrap_or_default();
    Ok(Json(Lists {
        entity: flags.entity().to_string(),
        always_new: exceptions.always_new.clone(),
        never_new: exceptions.never_new.clone(),
    }))
}

async fn list(
    shared: &Shared,
    entity: &Name,
    body: Body,
    set: fn(&Flags, KeyList) -> Result<(), Refused>,
) -> Result<Json<Changed>, Problem> {
    let flags = shared.subject(entity)?.handle.flags();
    let expected = r#"{"keys": ["42"], "routed_by": ["test-tenant"]}, or one of them"#;
    let keys: KeyList = parsed(&bytes(body)?, expected)?;
    let answer = changed(flags, move |flags| set(flags, keys)).await?;
    tracing::warn!(entity = %flags.entity(), always = answer.exceptions.always_new, never = answer.exceptions.never_new, "a list of keys set over HTTP");
    Ok(answer)
}

/// A kill acts whatever becomes of the file, so the answer does not wait long for it.
async fn stored_kill(flags: &Flags) -> Changed {
    let storing = flags.clone();
    let stored = tokio::task::spawn_blocking(move || storing.reload().is_ok());
    let stored = tokio::time::timeout(PATIENCE, stored).await;
    Changed::of(flags, matches!(stored, Ok(Ok(true))))
}

/// Makes a change that stores itself: where that may block.
async fn changed(
    flags: &Flags,
    change: impl FnOnce(&Flags) -> Result<(), Refused> + Send + 'static,
) -> Result<Json<Changed>, Problem> {
    let changing = flags.clone();
    let done = tokio::task::spawn_blocking(move || change(&changing));
    let stored = match tokio::time::timeout(PATIENCE, done).await {
        Ok(Ok(Ok(()))) => true,
        Ok(Ok(Err(Refused::Unsaved(_)))) | Err(_) => false,
        Ok(Ok(Err(error @ Refused::NotReady(_)))) => {
            return Err(Problem::because(Code::NotReady, error.to_string()));
        }
        Ok(Ok(Err(error @ Refused::UnknownOperation(_)))) => {
            return Err(Problem::because(Code::UnknownOperation, error.to_string()));
        }
        Ok(Ok(Err(error @ Refused::Fixed { .. }))) => {
            return Err(Problem::because(Code::Fixed, error.to_string()));
        }
        Ok(Ok(Err(error))) => return Err(Problem::because(Code::Internal, error.to_string())),
        Ok(Err(panicked)) => {
            tracing::error!(error = %panicked, "changing flags panicked");
            return Err(Problem::of(Code::Internal));
        }
    };
    Ok(Json(Changed::of(flags, stored)))
}

fn reason(body: Body) -> Result<String, Problem> {
    let body = bytes(body)?;
    let body: KillBody = if body.trim_ascii().is_empty() {
        KillBody::default()
    } else {
        parsed(&body, r#"{"reason": "why"}, or nothing"#)?
    };
    Ok(body
        .reason
        .unwrap_or_else(|| "over HTTP, no reason given".to_owned()))
}

fn bytes(body: Body) -> Result<Bytes, Problem> {
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::of(Code::TooLarge),
        _ => Problem::of(Code::BadBody),
    })
}

fn parsed<T: DeserializeOwned>(body: &[u8], expected: &str) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let message = format!("the body is not what is expected, {expected}: {error}");
        Problem::because(Code::BadBody, message)
    })
}
