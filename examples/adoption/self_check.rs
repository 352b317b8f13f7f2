//! Starts one of the two services, uses it over HTTP as its clients do, and ends it. This is the
//! examples' own test; the same file serves both, and the service knows nothing of it.

#![allow(dead_code, reason = "each of the two services uses its part")]

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::{Duration, Instant};

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, SqlitePool};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::Error;

/// A service under way.
pub(crate) struct Server {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), Error>>,
}

impl Server {
    pub(crate) async fn start<S, F>(serve: S, folder: &Path) -> Result<Server, Error>
    where
        S: FnOnce(TcpListener, Box<Path>, Pin<Box<dyn Future<Output = ()> + Send>>) -> F,
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let stopped = Box::pin(async { drop(stopped.await) });
        let task = tokio::spawn(serve(listener, folder.into(), stopped));
        Ok(Server {
            address,
            stop,
            task,
        })
    }

    pub(crate) async fn stop(self) -> Result<(), Error> {
        drop(self.stop);
        self.task.await?
    }

    /// One request; the status and the answer, null if it has none.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        body: Value,
    ) -> Result<(u16, Value), Error> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no end of the head")?;
        let status = head.split(' ').nth(1).ok_or("no status")?.parse()?;
        let body = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(body)?
        };
        Ok((status, body))
    }

    pub(crate) async fn get(&self, path: &str) -> Result<(u16, Value), Error> {
        self.call("GET", path, Value::Null).await
    }
}

/// Checks a service that starts empty.
pub(crate) async fn service<S, F>(serve: S) -> Result<(), Error>
where
    S: FnOnce(TcpListener, Box<Path>, Pin<Box<dyn Future<Output = ()> + Send>>) -> F,
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let folder = tempfile::tempdir()?;
    let server = Server::start(serve, folder.path()).await?;
    every_route(&server, 1).await?;
    server.stop().await?;
    println!("every route answers as it should");
    Ok(())
}

/// A listing's life, all of it `seller`'s.
pub(crate) async fn every_route(server: &Server, seller: i64) -> Result<(), Error> {
    let draft =
        |title: &str, cents: i64| json!({"seller": seller, "title": title, "price_cents": cents});
    let (status, lamp) = server
        .call("POST", "/listings", draft("Lamp", 1250))
        .await?;
    assert_eq!(status, 201);
    let id = lamp["id"].as_i64().ok_or("no id")?;
    let path = format!("/listings/{id}");
    let shown = |title: &str, cents: i64, state: &str, photos: &[&str]| json!({"id": id, "seller": seller, "title": title, "state": state, "price_cents": cents, "photos": photos});
    assert_eq!(lamp, shown("Lamp", 1250, "active", &[]));
    assert_eq!(server.get(&path).await?, (200, lamp));

    assert_eq!(
        server.call("PUT", &path, draft("Lámpara", 990)).await?.0,
        204
    );
    assert_eq!(
        server.get(&path).await?.1,
        shown("Lámpara", 990, "active", &[])
    );
    for photos in [["b.jpg", "a.jpg"], ["a.jpg", "c.jpg"]] {
        assert_eq!(
            server
                .call("PUT", &format!("{path}/photos"), json!(photos))
                .await?
                .0,
            204
        );
        assert_eq!(
            server.get(&path).await?.1,
            shown("Lámpara", 990, "active", &photos)
        );
    }

    let chair = server
        .call("POST", "/listings", draft("Chair", 4000))
        .await?
        .1;
    let list = format!("/sellers/{seller}/listings");
    let both = json!([shown("Lámpara", 990, "active", &["a.jpg", "c.jpg"]), chair]);
    assert_eq!(server.get(&list).await?, (200, both));
    let close = format!("/sellers/{seller}/close");
    assert_eq!(
        server.call("POST", &close, Value::Null).await?,
        (200, json!(2))
    );
    assert_eq!(
        server.call("POST", &close, Value::Null).await?,
        (200, json!(0))
    );
    let closed = shown("Lámpara", 990, "closed", &["a.jpg", "c.jpg"]);
    assert_eq!(server.get(&path).await?.1, closed);

    for status in [204, 404] {
        assert_eq!(server.call("DELETE", &path, Value::Null).await?.0, status);
        assert_eq!(server.get(&path).await?.0, 404);
    }
    assert_eq!(server.call("PUT", &path, draft("Gone", 1)).await?.0, 404);
    assert_eq!(
        server
            .call("PUT", &format!("{path}/photos"), json!(["x"]))
            .await?
            .0,
        404
    );
    let left = server.get(&list).await?.1;
    assert_eq!(left.as_array().map(Vec::len), Some(1));
    Ok(())
}

/// How many listings the legacy tables hold before the layer comes.
const HISTORY: i64 = 1_000;

/// Whose they are.
const SELLERS: i64 = 40;

/// Checks a service that starts on a thousand legacy listings and carries them over: as an
/// operator would, with the flags file in hand.
pub(crate) async fn migration<S, F>(serve: S) -> Result<(), Error>
where
    S: Fn(TcpListener, Box<Path>, Pin<Box<dyn Future<Output = ()> + Send>>) -> F,
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let recorder = DebuggingRecorder::new();
    let counters = recorder.snapshotter();
    recorder.install()?;
    let folder = tempfile::tempdir()?;
    let both = Both::open(folder.path()).await?;
    let server = Server::start(&serve, folder.path()).await?;
    let operator = Operator(folder.path().join("listings.toml"));

    // Clients use the service while history is carried over; nothing is read from the new side.
    let mut seller = HISTORY;
    until("the new side is ready", async || {
        seller += 1;
        every_route(&server, seller).await?;
        Ok(operator.says("ready = true"))
    })
    .await?;
    assert_eq!(follower_reads(&counters), 0);
    let before = all(&server).await?;
    assert_eq!(before.len() as i64, HISTORY + SELLERS);

    for (percent, least, most) in [("25.0", 180, 320), ("100.0", 1_000, 1_000)] {
        operator.edit("read_new", percent)?;
        // Buckets are pinned: the same keys are on the new side in every round.
        until("the percentage is taken up", async || {
            follower_reads(&counters);
            assert!(
                all(&server).await? == before,
                "an answer changed with its side"
            );
            Ok((least..=most).contains(&follower_reads(&counters)))
        })
        .await?;
        println!("read_new = {percent}: the new tables answer, and clients see no difference");
        seller += 1;
        every_route(&server, seller).await?;
    }

    operator.edit("kill", "\"the self-check threw it\"")?;
    until("the kill switch is taken up", async || {
        follower_reads(&counters);
        all(&server).await?;
        Ok(follower_reads(&counters) == 0)
    })
    .await?;
    println!("kill: every read is back at the legacy tables");
    operator.edit("kill", "false")?;
    for seller in 1..=5 {
        assert_eq!(
            server
                .call("POST", &format!("/sellers/{seller}/close"), Value::Null)
                .await?
                .0,
            200
        );
    }
    until("both sides are equal", async || both.equal().await).await?;
    server.stop().await?;
    assert!(
        both.equal().await?,
        "the end of the service changed something"
    );

    let server = Server::start(&serve, folder.path()).await?;
    follower_reads(&counters);
    all(&server).await?;
    assert_eq!(
        follower_reads(&counters),
        1_000,
        "a restart forgot the percentage"
    );
    server.stop().await?;
    println!(
        "restarted: the flags stand, {} rows are equal on both sides",
        both.rows().await?
    );
    Ok(())
}

/// What the service answers for each listing of history, and for each of its sellers.
async fn all(server: &Server) -> Result<Vec<Value>, Error> {
    let mut listings = Vec::new();
    for id in 1..=HISTORY {
        let (status, listing) = server.get(&format!("/listings/{id}")).await?;
        assert_eq!(status, 200, "listing {id}");
        listings.push(listing);
    }
    for seller in 0..SELLERS {
        listings.push(server.get(&format!("/sellers/{seller}/listings")).await?.1);
    }
    Ok(listings)
}

/// Waits for at most 30 seconds.
async fn until(
    what: &str,
    mut done: impl AsyncFnMut() -> Result<bool, Error>,
) -> Result<(), Error> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done().await? {
        assert!(Instant::now() < deadline, "waited 30 seconds until {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Reads of single listings that the new side answered since this was last asked.
fn follower_reads(counters: &Snapshotter) -> u64 {
    let mut reads = 0;
    for (key, _, _, value) in counters.snapshot().into_vec() {
        let has = |name, value| {
            key.key()
                .labels()
                .any(|l| l.key() == name && l.value() == value)
        };
        if let DebugValue::Counter(count) = value
            && key.key().name() == "changeover_calls_total"
            && has("op", "get")
            && has("route", "follower")
        {
            reads += count;
        }
    }
    reads
}

/// Somebody with an editor.
struct Operator(PathBuf);

impl Operator {
    fn says(&self, line: &str) -> bool {
        std::fs::read_to_string(&self.0).is_ok_and(|text| text.lines().any(|is| is == line))
    }

    fn edit(&self, field: &str, value: &str) -> Result<(), Error> {
        let begins = format!("{field} = ");
        let text = std::fs::read_to_string(&self.0)?;
        let lines = text.lines().map(|line| match line.starts_with(&begins) {
            true => format!("{begins}{value}\n"),
            false => format!("{line}\n"),
        });
        Ok(std::fs::write(&self.0, lines.collect::<String>())?)
    }
}

/// Both files, by SQL of the check's own.
struct Both(SqlitePool);

impl Both {
    /// Makes the legacy tables and fills them, as they were before anybody thought of moving.
    async fn open(folder: &Path) -> Result<Both, Error> {
        let legacy = SqliteConnectOptions::new().filename(folder.join("legacy.db"));
        let pool = SqlitePoolOptions::new().max_connections(1);
        let pool = pool.connect_with(legacy.create_if_missing(true)).await?;
        sqlx::raw_sql(include_str!("../axum_before/legacy.sql"))
            .execute(&pool)
            .await?;
        sqlx::raw_sql(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1000)
             INSERT INTO listings (tenant_id, title, status, price_cents, photo_count)
             SELECT n % 40, 'Título ' || n, iif(n % 3 = 0, 'Closed', 'ACTIVE '), n * 25, n % 2 FROM n;
             INSERT INTO photos (listing_id, position, url)
             SELECT id, 1, id || '.jpg' FROM listings WHERE photo_count = 1",
        )
        .execute(&pool)
        .await?;
        let new = format!("ATTACH '{}' AS new", folder.join("new.db").display());
        sqlx::raw_sql(AssertSqlSafe(new)).execute(&pool).await?;
        Ok(Both(pool))
    }

    /// Whether neither side has a row that the other has not.
    async fn equal(&self) -> Result<bool, Error> {
        let differences: (i64,) = sqlx::query_as(
            "WITH legacy_rows AS (
               SELECT id, tenant_id, title, lower(trim(status)), price_cents, NULL FROM main.listings
               UNION ALL SELECT listing_id, position, url, NULL, NULL, 'photo' FROM main.photos),
             new_rows AS (
               SELECT id, provider_id, title, state, price_cents, NULL FROM new.service_listings
               UNION ALL SELECT listing_id, position, url, NULL, NULL, 'photo' FROM new.pictures)
             SELECT (SELECT count(*) FROM (SELECT * FROM legacy_rows EXCEPT SELECT * FROM new_rows))
                  + (SELECT count(*) FROM (SELECT * FROM new_rows EXCEPT SELECT * FROM legacy_rows))",
        )
        .fetch_one(&self.0)
        .await?;
        Ok(differences.0 == 0)
    }

    async fn rows(&self) -> Result<i64, Error> {
        let sql =
            "SELECT (SELECT count(*) FROM main.listings) + (SELECT count(*) FROM main.photos)";
        let (rows,) = sqlx::query_as::<_, (i64,)>(sql).fetch_one(&self.0).await?;
        Ok(rows)
    }
}
