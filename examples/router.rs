//! Status and switches over HTTP, mounted in the application's own server, on the loopback address;
//! and a header by which each answer of the application says which side served it.
//!
//! Serves on port 8081 until it is stopped. With `--self-check` it serves on a free port, is used as
//! a person on call uses it, and ends. Needs the cargo feature `router`.

use axum::extract::Path;
use axum::routing::get;
use changeover::flags::{Entity, Epoch, Flags};
use changeover::proxy::{Changeover, Operation, Refused, Served};
use changeover::router::Console;
use changeover::shadow::Json;
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::http::response::Parts;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tower::util::BoxCloneSyncService;
use tower::{Layer as _, ServiceExt as _, service_fn};

/// What the application answers, and what the layer says of it.
#[derive(Serialize)]
struct Listing {
    title: String,
    #[serde(skip)]
    served: Option<Served>,
}

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Yours comes from a secret of the deployment: `openssl rand -hex 32`.
const EXAMPLE_TOKEN: &str = "not-a-secret-not-a-secret-not-a-secret";

#[tokio::main]
async fn main() -> Result<(), Error> {
    let checked = std::env::args().any(|argument| argument == "--self-check");
    let flags = Flags::memory(Entity::new("listings")?);
    // What the worker reads from the legacy database.
    flags.learn(&Epoch::READY)?;
    let store = |side: &'static str| {
        service_fn(move |id: i64| async move {
            let title = format!("{id} from {side}");
            let served = None;
            Ok::<_, Refused>(Listing { title, served })
        })
    };
    let layer = Changeover::builder(flags)
        .classify(|id: &i64| Operation::read("get", *id))
        .observe(Json)
        .mark(|listing: &mut Listing, served| listing.served = Some(served))
        .new_service(store("new"))
        .build()?;
    // With a worker in this process: `.entity(&wiring, listings.handle())`, which knows the lag, too.
    let console = Console::new().layer(layer.handle()).token(EXAMPLE_TOKEN);
    let listings = BoxCloneSyncService::new(layer.layer(store("legacy")));
    let listing = move |Path(id): Path<i64>| {
        let answer = listings.clone().oneshot(id);
        async move {
            let listing = answer
                .await
                .map_err(|refused| (StatusCode::SERVICE_UNAVAILABLE, refused.to_string()))?;
            let served = listing.served.map(|served| served.to_string());
            let header = ("x-served-by", served.unwrap_or_default());
            Ok::<_, (StatusCode, String)>(([header], listing.title))
        }
    };
    let routes = axum::Router::new()
        .route("/listings/{id}", get(listing))
        .nest("/changeover", console.build()?);
    let port = if checked { 0 } else { 8081 };
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let address = listener.local_addr()?;
    println!("curl http://{address}/changeover/status");
    println!(
        "curl -X POST -H 'authorization: Bearer {EXAMPLE_TOKEN}' http://{address}/changeover/kill"
    );
    let server = tokio::spawn(async move { axum::serve(listener, routes).await });
    if !checked {
        return Ok(server.await??);
    }

    let read = async || {
        let (head, body) = ask(address, "GET", "/listings/7", "").await?;
        let served = head.headers["x-served-by"].to_str()?.to_owned();
        Ok::<_, Error>((String::from_utf8(body.into())?, served))
    };
    let post = async |path: &str, body: &str| {
        ask(address, "POST", &format!("/changeover{path}"), body).await
    };
    let from = |side: &str, because: &str| {
        (
            format!("7 from {side}"),
            format!("{side}; because={because}"),
        )
    };
    assert_eq!(read().await?, from("legacy", "percentage"));
    post("/entities/listings/percent", r#"{"read_new": 100}"#).await?;
    assert_eq!(read().await?, from("new", "percentage"));
    post("/kill", r#"{"reason": "new is slow"}"#).await?;
    assert_eq!(read().await?, from("legacy", "kill"));
    post("/entities/listings/unkill", "").await?;
    assert_eq!(read().await?, from("new", "percentage"));
    let (_, status) = ask(address, "GET", "/changeover/entities/listings", "").await?;
    let status: serde_json::Value = serde_json::from_slice(&status)?;
    println!("reads are answered: {}", status["reads"]);
    assert_eq!(
        status["read_new"], 100.0,
        "the ramp is where it was before the kill"
    );
    Ok(())
}

async fn ask(
    address: std::net::SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> Result<(Parts, Bytes), Error> {
    let stream = TcpStream::connect(address).await?;
    let (mut client, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .header("authorization", format!("Bearer {EXAMPLE_TOKEN}"))
        .body(body.to_owned())?;
    let answer = client.send_request(request).await?;
    assert_eq!(answer.status(), 200, "{path}");
    let (head, body) = answer.into_parts();
    Ok((head, body.collect().await?.to_bytes()))
}
