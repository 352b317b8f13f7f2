//! The layer's metrics in the application's own Prometheus endpoint: whatever recorder of the
//! `metrics` facade the application has is the one that is used. Serves itself once and ends.

use changeover::flags::{Entity, Epoch, Flags, Percent};
use changeover::proxy::{Changeover, Operation, Refused};
use changeover::shadow::Json;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::PrometheusBuilder;
use tower::{Layer as _, ServiceExt as _, service_fn};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The application's recorder comes first: handles are registered when a layer is built.
    let prometheus = PrometheusBuilder::new().install_recorder()?;
    metrics::counter!("http_requests_total").increment(1);

    let flags = Flags::memory(Entity::new("listings")?);
    flags.learn(&Epoch::READY)?;
    let store = || service_fn(|id: i64| async move { Ok::<_, Refused>(Some(id)) });
    let listings = Changeover::builder(flags.clone())
        .classify(|id: &i64| Operation::read("get", *id))
        .observe(Json)
        .operations(["get"])
        .new_service(store())
        .build()?
        .layer(store());
    flags.set_read_new(Percent::new(50.0)?)?;
    for id in 0..100 {
        listings.clone().oneshot(id).await?;
    }

    let routes = axum::Router::new().route(
        "/metrics",
        axum::routing::get(move || async move { prometheus.render() }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, routes).await });

    let stream = tokio::net::TcpStream::connect(address).await?;
    let (mut client, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = hyper::Request::get("/metrics")
        .header("host", "localhost")
        .body(String::new())?;
    let body = client.send_request(request).await?.into_body();
    let text = String::from_utf8(body.collect().await?.to_bytes().to_vec())?;
    for line in text.lines().filter(|line| {
        line.starts_with("http_requests_total")
            || line.starts_with("changeover_read_percent")
            || (line.starts_with("changeover_calls_total") && !line.ends_with(" 0"))
    }) {
        println!("{line}");
    }
    let calls: u64 = text
        .lines()
        .filter(|line| line.starts_with("changeover_calls_total{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum();
    assert_eq!(calls, 100, "every call is in exactly one series");
    assert!(
        text.contains("http_requests_total 1"),
        "next to the application's own"
    );
    Ok(())
}
