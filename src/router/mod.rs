//! Status and switches over HTTP: an [`axum::Router`] that an application mounts in its own server.
//!
//! With the cargo feature `router`. Off by default: it brings axum, and so hyper.
//!
//! ```no_run
//! # use changeover::proxy::Handle;
//! # use changeover::wiring::Wiring;
//! # fn build(wiring: &Wiring, handle: Handle) -> Result<axum::Router, changeover::router::BadConsole> {
//! use changeover::router::Console;
//!
//! let console = Console::new()
//!     .entity(wiring, handle)
//!     .token(std::env::var("OPERATOR_TOKEN").unwrap_or_default())
//!     .build()?;
//! let service = axum::Router::new().nest("/changeover", console);
//! # Ok(service)
//! # }
//! ```
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /status` | every entity, as the next one |
//! | `GET /entities/{entity}` | stage, percentage, sampling, kill switch, troubles of the flags, pins, lag, the last verify, what shadow reads found, how reads fared that were sent to either side |
//! | `GET /entities/{entity}/differences` | redacted examples of what differs, by field |
//! | `GET /metrics` | what the application's own exporter renders, if it was handed in |
//! | `POST /kill` | throws every kill switch; the body may be `{"reason": "…"}` or nothing |
//! | `POST /entities/{entity}/kill` | throws one |
//! | `POST /entities/{entity}/unkill` | clears it |
//! | `POST /entities/{entity}/percent` | `{"read_new": 25.0}` |
//! | `POST /entities/{entity}/sample` | the share of reads that are also compared, in percent: `{"sample": 1.0}` |
//! | `POST /entities/{entity}/operations/{operation}` | percentages of one operation: `{"read_new": 25.0, "sample": 1.0}`; what is left out is the entity's again |
//! | `POST /entities/{entity}/always_new`, `…/never_new` | the whole list of keys that are always, or never, read from new: `{"keys": ["42"], "routed_by": ["test-tenant"]}` |
//! | `GET /entities/{entity}/lists` | both lists; takes the token, as a change does |
//!
//! # Rules
//!
//! 1. Without a [`token`](Console::token) nothing can be changed: 403, and the answer names the
//!    other ways. With one, a change needs it as `Authorization: Bearer …`: 401 otherwise.
//! 2. That holds for the kill switch, too: whoever can throw it undoes a ramp and puts the load
//!    back. A person on call who has no token, or an instance that has none, uses the flags file or
//!    [`signal`](mod@crate::signal), which take no secret but access to the machine. Where only
//!    operators reach the listener, [`kill_without_token`](Console::kill_without_token) lets anybody
//!    who does throw it; clearing it still takes the token.
//! 3. A request that carries an `Origin` is refused a change: no page in somebody's browser can
//!    throw a switch, whatever its network reaches.
//! 4. A change answers when it is in force in this process, and says in `stored` whether it would
//!    survive a restart. It does not reach other instances: ask each of them.
//! 5. No answer holds a key or a value of the application's rows, but for the lists of keys that
//!    operators wrote, which take the token: differences are redacted as the
//!    layer was told ([`Redaction`](changeover_shadow::Redaction)), and what databases say in errors
//!    goes to the log. Still, mount it where the world does not reach it: on a listener of its own
//!    at 127.0.0.1, or behind what guards your other internal pages.
//! 6. A status never hangs and costs at most one question to the database per second and entity,
//!    however many ask.
//!
//! Every error is `{"error": {"code": "…", "message": "…"}}`; [`Code`] has the codes.

mod access;
mod change;
mod checks;
mod lag;
mod problem;
mod status;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, middleware};
use changeover_flags::Entity;
use changeover_proxy::Handle;
use thiserror::Error;

use crate::wiring::Wiring;
use access::Access;
use lag::LastLag;
use problem::Problem;

pub use checks::Checks;
pub use problem::Code;
pub use status::{Cohort, Differences, Exceptions, Lag, Shadowed, Status, Verified};

/// What is to be shown and switched; [`build`](Console::build) makes the router.
#[derive(Default)]
pub struct Console {
    subjects: Vec<Subject>,
    tokens: Vec<String>,
    kill_without_token: bool,
    metrics: Option<Render>,
}

type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// One entity.
struct Subject {
    handle: Handle,
    wiring: Option<Wiring>,
    lag: LastLag,
}

/// An entity as it stands in a path, which may be no text at all.
type Name = Result<Path<String>, PathRejection>;

/// What the handlers share.
struct Shared {
    subjects: BTreeMap<String, Subject>,
    metrics: Option<Render>,
}

/// A console that cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BadConsole {
    /// A token that could be guessed, or is missing.
    #[error(
        "a token of {length} characters: use at least {} random ones, such as `openssl rand -hex 32` gives, or none at all for a console that only reads",
        Console::SHORTEST_TOKEN
    )]
    WeakToken {
        /// How long it is.
        length: usize,
    },
    /// Two layers of one entity.
    #[error("entity {0} was added twice: give the console one handle of each")]
    Twice(Entity),
    /// The layer and the worker are of different entities.
    #[error("a layer of {layer} beside a wiring of {wiring}: hand in those of one entity")]
    Mixed {
        /// The layer's entity.
        layer: Entity,
        /// The wiring's entity.
        wiring: Entity,
    },
}

impl Console {
    /// The fewest characters of a token.
    pub const SHORTEST_TOKEN: usize = 32;

    /// The largest body of a request, in bytes.
    pub const LARGEST_BODY: usize = 16 * 1024;

    /// The largest list of keys, in bytes.
    pub const LARGEST_LIST: usize = 512 * 1024;

    /// A console of nothing.
    #[must_use]
    pub fn new() -> Console {
        Console::default()
    }

    /// Adds an entity: the layer, and the migration behind it, which knows lag and the last verify.
    #[must_use]
    pub fn entity(self, wiring: &Wiring, handle: Handle) -> Console {
        self.subject(handle, Some(wiring.clone()))
    }

    /// Adds an entity whose databases this process does not know: lag and verify stay unknown.
    #[must_use]
    pub fn layer(self, handle: Handle) -> Console {
        self.subject(handle, None)
    }

    fn subject(mut self, handle: Handle, wiring: Option<Wiring>) -> Console {
        let lag = LastLag::new(wiring.as_ref());
        self.subjects.push(Subject {
            handle,
            wiring,
            lag,
        });
        self
    }

    /// Lets those change flags who know `token`. Several may be valid at once, to be rotated.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Console {
        self.tokens.push(token.into());
        self
    }

    /// Lets anybody who reaches the router throw kill switches. Clearing them still takes a token.
    #[must_use]
    pub fn kill_without_token(mut self) -> Console {
        self.kill_without_token = true;
        self
    }

    /// Serves what `render` gives, in Prometheus' text format: with `metrics-exporter-prometheus`,
    /// `move || handle.render()`.
    #[must_use]
    pub fn metrics(mut self, render: impl Fn() -> String + Send + Sync + 'static) -> Console {
        self.metrics = Some(Arc::new(render));
        self
    }

    /// The router, to be nested where the application likes.
    ///
    /// # Errors
    ///
    /// [`BadConsole`] says what does not fit together. An empty token is one that is too short, so
    /// a secret that was not set does not open anything.
    pub fn build(self) -> Result<Router, BadConsole> {
        let weak = |token: &&String| token.trim().len() < Self::SHORTEST_TOKEN;
        if let Some(token) = self.tokens.iter().find(weak) {
            let length = token.trim().len();
            return Err(BadConsole::WeakToken { length });
        }
        let access = Access::new(&self.tokens);
        let killing = access.clone().open(self.kill_without_token);
        let shared = Arc::new(Shared {
            subjects: subjects(self.subjects)?,
            metrics: self.metrics,
        });
        let kills = Router::new()
            .route("/kill", post(change::kill_all))
            .route("/entities/{entity}/kill", post(change::kill))
            .route_layer(middleware::from_fn_with_state(killing, access::guard));
        let lists = Router::new()
            .route("/entities/{entity}/always_new", post(change::always_new))
            .route("/entities/{entity}/never_new", post(change::never_new))
            .route("/entities/{entity}/lists", get(change::lists))
            .layer(DefaultBodyLimit::max(Self::LARGEST_LIST));
        let changes = Router::new()
            .route("/entities/{entity}/unkill", post(change::unkill))
            .route("/entities/{entity}/percent", post(change::percent))
            .route("/entities/{entity}/sample", post(change::sample))
            .route(
                "/entities/{entity}/operations/{operation}",
                post(change::operation),
            )
            .merge(lists)
            .route_layer(middleware::from_fn_with_state(access, access::guard));
        Ok(Router::new()
            .route("/status", get(every_status))
            .route("/entities/{entity}", get(one_status))
            .route("/entities/{entity}/differences", get(differences))
            .route("/metrics", get(metrics))
            .merge(kills)
            .merge(changes)
            .fallback(async || Problem::of(Code::UnknownPath))
            .method_not_allowed_fallback(async || Problem::of(Code::WrongMethod))
            .layer(DefaultBodyLimit::max(Self::LARGEST_BODY))
            .layer(middleware::map_response(unkept))
            .with_state(shared))
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entities: Vec<&Entity> = self
            .subjects
            .iter()
            .map(|one| one.handle.entity())
            .collect();
        f.debug_struct("Console")
            .field("entities", &entities)
            .field("tokens", &self.tokens.len())
            .field("kill_without_token", &self.kill_without_token)
            .finish_non_exhaustive()
    }
}

fn subjects(all: Vec<Subject>) -> Result<BTreeMap<String, Subject>, BadConsole> {
    let mut subjects = BTreeMap::new();
    for subject in all {
        let layer = subject.handle.entity().clone();
        if let Some(wiring) = &subject.wiring
            && wiring.flags().entity() != &layer
        {
            let wiring = wiring.flags().entity().clone();
            return Err(BadConsole::Mixed { layer, wiring });
        }
        if subjects.insert(layer.to_string(), subject).is_some() {
            return Err(BadConsole::Twice(layer));
        }
    }
    Ok(subjects)
}

impl Shared {
    fn subject(&self, name: &Name) -> Result<&Subject, Problem> {
        let name = name.as_ref().ok();
        let subject = name.and_then(|Path(name)| self.subjects.get(name));
        subject.ok_or_else(|| Problem::of(Code::UnknownEntity))
    }
}

async fn every_status(State(shared): State<Arc<Shared>>) -> Json<Vec<Status>> {
    let all = shared.subjects.values().map(Status::of);
    Json(futures_util::future::join_all(all).await)
}

async fn one_status(
    State(shared): State<Arc<Shared>>,
    entity: Name,
) -> Result<Json<Status>, Problem> {
    Ok(Json(Status::of(shared.subject(&entity)?).await))
}

async fn differences(
    State(shared): State<Arc<Shared>>,
    entity: Name,
) -> Result<Json<Differences>, Problem> {
    Ok(Json(Differences::of(&shared.subject(&entity)?.handle)))
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let Some(render) = &shared.metrics else {
        return Err(Problem::of(Code::NoMetrics));
    };
    let format = (
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    );
    Ok(([format], render()).into_response())
}

/// Nothing here may be kept by what stands between, or be taken for a page.
async fn unkept(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}
