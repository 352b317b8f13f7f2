//! A store that is not SQL: an HTTP service in a process of its own, with its state in a file.
//!
//! `GET /7` answers what is kept under `7`, or 404; `POST /7` appends the body to it. Each append is
//! a line of the file, written before it is answered, so a SIGKILL between the two loses an answer
//! and no append.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};

use crate::support::watchdog::signal;

/// The environment variable that carries the folder to the process.
const FOLDER: &str = "CHANGEOVER_KEEPER";

/// How long an append takes before it is kept, and again before it is answered.
const STEP: Duration = Duration::from_millis(2);

fn socket(folder: &Path) -> PathBuf {
    folder.join("socket")
}

/// The appends that are in the file, in order. A line that was cut off by a SIGKILL is none.
pub fn kept(folder: &Path) -> Vec<(String, String)> {
    let Ok(file) = std::fs::read_to_string(folder.join("kept")) else {
        return Vec::new();
    };
    let whole = file
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    let pair = |line: &str| {
        let (key, more) = line.trim_end().split_once(' ')?;
        Some((key.to_owned(), more.to_owned()))
    };
    whole.filter_map(pair).collect()
}

struct Kept {
    file: File,
    values: BTreeMap<String, String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process, not a test: `cargo test --test integration best_effort` starts and kills it"]
async fn process() {
    let Ok(folder) = std::env::var(FOLDER).map(PathBuf::from) else {
        return;
    };
    std::thread::spawn(|| {
        // Ends with the test, however that ends.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    for (key, more) in kept(&folder) {
        values.entry(key).or_default().push_str(&more);
    }
    let path = folder.join("kept");
    let file = OpenOptions::new().create(true).append(true).open(path);
    let kept = Arc::new(Mutex::new(Kept {
        file: file.unwrap(),
        values,
    }));
    let _ = std::fs::remove_file(socket(&folder));
    let listener = UnixListener::bind(socket(&folder)).unwrap();
    println!("@ready");
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let kept = Arc::clone(&kept);
        let answer = service_fn(move |request| serve(Arc::clone(&kept), request));
        let http = hyper::server::conn::http1::Builder::new();
        tokio::spawn(http.serve_connection(TokioIo::new(stream), answer));
    }
}

async fn serve(
    kept: Arc<Mutex<Kept>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let key = request.uri().path().trim_start_matches('/').to_owned();
    let answer = |status, text: String| {
        let mut answer = Response::new(Full::new(Bytes::from(text)));
        *answer.status_mut() = status;
        Ok(answer)
    };
    if request.method() == Method::GET {
        return match kept.lock().unwrap().values.get(&key) {
            Some(value) => answer(StatusCode::OK, value.clone()),
            None => answer(StatusCode::NOT_FOUND, String::new()),
        };
    }
    let Ok(body) = request.into_body().collect().await else {
        return answer(StatusCode::BAD_REQUEST, String::new());
    };
    let more = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    tokio::time::sleep(STEP).await;
    {
        let mut kept = kept.lock().unwrap();
        kept.file
            .write_all(format!("{key} {more}\n").as_bytes())
            .unwrap();
        kept.values.entry(key).or_default().push_str(&more);
    }
    tokio::time::sleep(STEP).await;
    answer(StatusCode::NO_CONTENT, String::new())
}

/// That process, to be killed, stopped and started again. Dropped, it is killed.
pub struct Keeper {
    folder: PathBuf,
    process: Child,
}

impl Keeper {
    pub fn start(folder: &Path) -> Keeper {
        let (_, path) = module_path!().split_once("::").unwrap();
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("{path}::process"), "--ignored"])
            .arg("--nocapture")
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let ready = lines.any(|line| line.is_ok_and(|line| line == "@ready"));
        assert!(ready, "the service did not start: {:?}", process.try_wait());
        Keeper {
            folder: folder.to_owned(),
            process,
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub fn restart(&mut self) {
        *self = Keeper::start(&self.folder);
    }

    /// SIGSTOP: it accepts connections and answers nobody.
    pub fn freeze(&self) {
        signal("STOP", &[self.process.id()]);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        signal("CONT", &[self.process.id()]);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The service did not answer as it should. Whether it did what it was asked is not known.
#[derive(Debug, Error)]
#[error("asking the keeper")]
pub struct NoAnswer(#[source] Box<dyn std::error::Error + Send + Sync>);

/// One request on a connection of its own: appends `more` to `key`, or reads it.
pub async fn ask(
    folder: &Path,
    key: i64,
    more: Option<String>,
) -> Result<Option<String>, NoAnswer> {
    let asked = async {
        let stream = UnixStream::connect(socket(folder)).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the sender.
        tokio::spawn(connection);
        let method = if more.is_some() {
            Method::POST
        } else {
            Method::GET
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("/{key}"))
            .header("host", "keeper")
            .body(Full::new(Bytes::from(more.unwrap_or_default())))?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        match status {
            StatusCode::OK => Ok(Some(String::from_utf8(body.to_vec())?)),
            StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => Ok(None),
            other => Err(other.to_string().into()),
        }
    };
    asked.await.map_err(NoAnswer)
}
