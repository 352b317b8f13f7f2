//! Status and switches over HTTP, mounted in the application's own server, on the loopback address.
//!
//! Serves on port 8081 until it is stopped. With `--self-check` it serves on a free port, is used as
//! a person on call uses it, and ends. Needs the cargo feature `router`.

use changeover::flags::{Entity, Epoch, Flags};
use changeover::proxy::{Changeover, Operation, Refused};
use changeover::router::Console;
use changeover::shadow::Json;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tower::{Layer as _, ServiceExt as _, service_fn};

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
        service_fn(move |id: i64| async move { Ok::<_, Refused>(format!("{id} from {side}")) })
    };
    let layer = Changeover::builder(flags)
        .classify(|id: &i64| Operation::read("get", *id))
        .observe(Json)
        .new_service(store("new"))
        .build()?;
    // With a worker in this process: `.entity(&wiring, listings.handle())`, which knows the lag, too.
    let console = Console::new().layer(layer.handle()).token(EXAMPLE_TOKEN);
    let routes = axum::Router::new().nest("/changeover", console.build()?);
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

    let listings = layer.layer(store("legacy"));
    let read = async || listings.clone().oneshot(7).await;
    let post = async |path: &str, body: &str| ask(address, "POST", path, body).await;
    assert_eq!(read().await?, "7 from legacy");
    post("/entities/listings/percent", r#"{"read_new": 100}"#).await?;
    assert_eq!(read().await?, "7 from new");
    post("/kill", r#"{"reason": "new is slow"}"#).await?;
    assert_eq!(read().await?, "7 from legacy");
    post("/entities/listings/unkill", "").await?;
    assert_eq!(read().await?, "7 from new");
    let status = ask(address, "GET", "/entities/listings", "").await?;
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
) -> Result<serde_json::Value, Error> {
    let stream = TcpStream::connect(address).await?;
    let (mut client, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = hyper::Request::builder()
        .method(method)
        .uri(format!("/changeover{path}"))
        .header("host", "localhost")
        .header("authorization", format!("Bearer {EXAMPLE_TOKEN}"))
        .body(body.to_owned())?;
    let answer = client.send_request(request).await?;
    assert_eq!(answer.status(), 200, "{path}");
    let body = answer.into_body().collect().await?.to_bytes();
    Ok(serde_json::from_slice(&body)?)
}
