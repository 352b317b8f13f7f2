//! The application as its supervisor sees it: a process to be stopped, killed or ended.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::child::{ORDERS, Orders};
use super::ledger::Ledger;
use super::supervisor::PATIENCE;
use crate::support::watchdog::signal;

/// One life of the application. Dropped, it is killed.
pub struct App {
    process: Child,
    stdin: Option<ChildStdin>,
    journal: Option<JoinHandle<bool>>,
    ended: bool,
}

impl App {
    /// Starts it, and waits until its load has begun.
    pub fn start(orders: &Orders, ledger: &Arc<Mutex<Ledger>>) -> App {
        let (_, path) = module_path!().split_once("::").unwrap();
        let test = format!("{}::child::application", path.trim_end_matches("::app"));
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &test, "--ignored", "--nocapture"])
            .env(ORDERS, serde_json::to_string(orders).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A group of its own: if the supervisor vanishes while it is stopped, it goes on, finds
            // its standard input closed, and ends.
            .process_group(0)
            .spawn()
            .unwrap();
        let stdin = process.stdin.take();
        let (ready, is_ready) = channel();
        let out = BufReader::new(process.stdout.take().unwrap());
        let ledger = Arc::clone(ledger);
        let journal = std::thread::spawn(move || {
            let mut ended = false;
            for line in out.lines() {
                let Ok(line) = line else { break };
                match line.strip_prefix('@') {
                    Some("ready") => drop(ready.send(())),
                    Some("end") => ended = true,
                    Some(line) if line.starts_with("waits") => {}
                    Some(line) => ledger
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .read(line),
                    None => {}
                }
            }
            ended
        });
        let mut app = App {
            process,
            stdin,
            journal: Some(journal),
            ended: false,
        };
        app.await_ready(&is_ready);
        app
    }

    fn await_ready(&mut self, ready: &Receiver<()>) {
        if ready.recv_timeout(PATIENCE).is_err() {
            panic!(
                "the application did not start: {:?}",
                self.process.try_wait()
            );
        }
    }

    fn signal(&self, name: &str) {
        signal(name, &[self.process.id()]);
    }

    /// SIGSTOP: it holds what it holds and does nothing.
    pub fn stop_running(&self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        self.signal("CONT");
    }

    /// SIGKILL, and everything it had said is in the ledger.
    ///
    /// # Panics
    /// When it had ended by itself.
    pub fn kill(mut self) {
        let already = self.process.try_wait().unwrap();
        assert!(
            already.is_none(),
            "the application ended by itself: {already:?}"
        );
        self.end_now();
    }

    fn end_now(&mut self) -> bool {
        self.ended = true;
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.journal
            .take()
            .is_some_and(|journal| journal.join().unwrap_or(false))
    }

    /// An orderly end.
    ///
    /// # Panics
    /// When it does not end, or not in order.
    pub fn end(mut self) {
        drop(self.stdin.take());
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(began.elapsed() < PATIENCE, "the application does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        let said_so = self.end_now();
        assert!(
            status.success() && said_so,
            "the application ended with {status}"
        );
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if !self.ended {
            self.end_now();
        }
    }
}
