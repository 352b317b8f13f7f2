//! A console served over HTTP, and what it is asked; every answer is kept.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use changeover::router::Console;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::server::PATIENCE;

/// The operators' secret.
pub const TOKEN: &str = "6d5f4b0c1a9e8d7c6b5a49382716f5e4";

/// A server under way; dropped, it ends.
pub struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
    heard: Mutex<Vec<String>>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The status and the code of a refusal, and its explanation.
    pub fn refused(&self) -> ((u16, String), String) {
        let json = self.json();
        let text = |name: &str| json["error"][name].as_str().unwrap().to_owned();
        ((self.status, text("code")), text("message"))
    }

    /// A change that was made.
    pub fn changed(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }
}

impl Server {
    /// Serves the console under `/ops`, beside nothing else.
    pub async fn of(console: Console) -> Server {
        let router = axum::Router::new().nest("/ops", console.build().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Server {
            address: listener.local_addr().unwrap(),
            task: tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }),
            heard: Mutex::default(),
        }
    }

    /// One request, with these headers.
    pub async fn ask(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        let headers: String = headers
            .iter()
            .map(|header| format!("{header}\r\n"))
            .collect();
        let request = format!(
            "{method} /ops{path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let heard = self.heard.lock();
        heard
            .unwrap_or_else(PoisonError::into_inner)
            .push(text.clone());
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }

    /// What is said of the listings, as soon as it says that so many keys are dirty: that is asked once a second.
    pub async fn lagging(&self, dirty: u64) -> Value {
        let began = Instant::now();
        loop {
            let status = self.get("/entities/listings").await.json();
            if status["lag"]["dirty"] == dirty {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "{status}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A change by somebody who knows the token.
    pub async fn post(&self, path: &str, body: &str) -> Answer {
        let token = format!("authorization: Bearer {TOKEN}");
        self.ask("POST", path, &[&token], body).await
    }

    /// Every byte that was answered so far.
    pub fn heard(&self) -> Vec<String> {
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
